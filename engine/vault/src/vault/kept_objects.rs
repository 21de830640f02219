//! What a process keeps on local disk for those that come after it: points, heads, layouts and objects of the index, each under the
//! hash that its name ends with; sessions that have ended, each under its id; and the names of the records of collections that it has
//! listed last. A cache: what counts is what a listing names, and bytes that do not have the hash of their name are none. A session
//! is signed, and is not written any more once it has ended; one that was cleared away decides nothing, whatever is kept of it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use backstay_core::id::{ObjectHash, SessionId};
use bytes::Bytes;

use super::Vault;
use super::objects::hash_of;
use super::settled::KnownSession;
use crate::commit_object::SessionState;
use crate::name::{Named, ObjectName};
use crate::store::{Listed, StoreError};

/// Greatest object that is kept, bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Room of all of them, bytes, and how many there are. When there are more, all go: what is still asked for comes back.
const FOLDER_BYTES_MAX: u64 = 128 << 20;
const FOLDER_OBJECTS_MAX: u64 = 1 << 14;

/// The file that has the names of the records of collections.
const RECORDS: &str = "records";

/// Room of it, bytes: there are two records, and some more after a crash.
const RECORDS_BYTES_MAX: u64 = 64 << 10;

/// What a process does with the folder of a vault's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFolder {
    /// Fills it for others: one that looks for damage in the store, or remembers by itself.
    Fill,
    /// Fills it, and takes from it. Of those that fill it there is one at a time.
    FillAndTake,
    /// Takes from what others have filled.
    Take,
}

/// A folder of objects of one vault.
#[derive(Debug)]
pub(super) struct KeptObjects {
    folder: PathBuf,
    usage: ObjectFolder,
    bytes: AtomicU64,
    objects: AtomicU64,
    /// Sessions that a listing of this process has shown.
    listed_sessions: Mutex<HashSet<SessionId>>,
}

impl KeptObjects {
    fn open(folder: &Path, usage: ObjectFolder) -> io::Result<Self> {
        let (mut bytes, mut objects) = (0, 0);
        if usage != ObjectFolder::Take {
            fs::create_dir_all(folder)?;
            for entry in fs::read_dir(folder)? {
                bytes += entry?.metadata()?.len();
                objects += 1;
            }
            // Most of what is there was read for points that are gone.
            if bytes > FOLDER_BYTES_MAX / 4 * 3 || objects > FOLDER_OBJECTS_MAX / 4 * 3 {
                fs::remove_dir_all(folder)?;
                fs::create_dir_all(folder)?;
                (bytes, objects) = (0, 0);
            }
        }
        let (bytes, objects) = (AtomicU64::new(bytes), AtomicU64::new(objects));
        let listed_sessions = Mutex::default();
        Ok(Self { folder: folder.to_owned(), usage, bytes, objects, listed_sessions })
    }

    fn get(&self, hash: ObjectHash) -> Option<Bytes> {
        if self.usage == ObjectFolder::Fill {
            return None;
        }
        let path = self.path(hash);
        let length = fs::metadata(&path).ok()?.len();
        let content = (length <= KEPT_BYTES_MAX as u64).then(|| fs::read(&path).ok())??;
        if hash_of(&content) == hash {
            return Some(content.into());
        }
        if self.usage == ObjectFolder::FillAndTake {
            // A loss of power may have left it so. Whether it goes or not, it does not count.
            let _ = fs::remove_file(&path);
        }
        None
    }

    fn keep(&self, hash: ObjectHash, content: &[u8]) -> io::Result<()> {
        match self.has_room_for(content.len()) && hash_of(content) == hash {
            true => self.write(&self.path(hash), content),
            false => Ok(()),
        }
    }

    /// What is kept under the name of a session that was listed.
    fn session(&self, session: SessionId) -> Option<Bytes> {
        let is_listed = self.listed_sessions().contains(&session);
        let path = self.folder.join(session.to_string());
        let length = fs::metadata(&path).ok()?.len();
        (is_listed && self.usage != ObjectFolder::Fill && length <= KEPT_BYTES_MAX as u64)
            .then(|| fs::read(&path).ok())?
            .map(Bytes::from)
    }

    fn listed_sessions(&self) -> std::sync::MutexGuard<'_, HashSet<SessionId>> {
        self.listed_sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a session be read and kept anew: a loss of power may have left bytes of its length that are not its own.
    fn drop_session(&self, session: SessionId) {
        if self.usage == ObjectFolder::FillAndTake {
            // Whether it goes or not, it does not count.
            let _ = fs::remove_file(self.folder.join(session.to_string()));
        }
    }

    fn keep_session(&self, session: SessionId, content: &[u8]) -> io::Result<()> {
        match self.has_room_for(content.len()) {
            true => self.write(&self.folder.join(session.to_string()), content),
            false => Ok(()),
        }
    }

    /// The names of the records of collections that were listed last.
    pub(super) fn records(&self) -> Option<Vec<ObjectName>> {
        let path = self.folder.join(RECORDS);
        let length = fs::metadata(&path).ok()?.len();
        let text = (length <= RECORDS_BYTES_MAX).then(|| fs::read_to_string(&path).ok())??;
        text.lines().map(|line| ObjectName::parse(line).map(|(name, _)| name)).collect()
    }

    fn keep_records(&self, records: &[Listed]) -> io::Result<()> {
        let text: String = records.iter().map(|listed| format!("{}\n", listed.name)).collect();
        match self.usage {
            ObjectFolder::Take => Ok(()),
            // More than that there never are.
            _ if text.len() as u64 > RECORDS_BYTES_MAX => Ok(()),
            _ => replace(&self.folder.join(RECORDS), text.as_bytes()),
        }
    }

    fn has_room_for(&self, length: usize) -> bool {
        let is_full = self.bytes.load(Ordering::Relaxed) + length as u64 > FOLDER_BYTES_MAX
            || self.objects.load(Ordering::Relaxed) >= FOLDER_OBJECTS_MAX;
        self.usage != ObjectFolder::Take && !is_full && length <= KEPT_BYTES_MAX
    }

    /// Writes a file that is not there, or of which a loss of power has left another length.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let length = content.len() as u64;
        if fs::metadata(path).is_ok_and(|there| there.len() == length) {
            return Ok(());
        }
        replace(path, content)?;
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn path(&self, hash: ObjectHash) -> PathBuf {
        self.folder.join(hash.to_string())
    }
}

/// Never half of it under its name while this process runs; what a loss of power leaves does not have its hash.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may take the room that was lacking.
        let _ = fs::remove_file(&new);
    }
    written
}

impl Vault {
    /// Keeps objects in this folder and takes those from it that lie there: for a process that ends soon, where requests cost. What
    /// is to find damage in the store does not do that. To be called once, right after opening.
    pub fn keep_objects_in(&self, folder: &Path, usage: ObjectFolder) {
        if !self.requests_cost() {
            return;
        }
        match KeptObjects::open(folder, usage) {
            Ok(kept) => {
                // The first one stays.
                let _ = self.kept_objects.set(kept);
                self.first_look.with_shown(|shown| self.saw_sessions(shown));
            }
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "no objects are kept"),
        }
    }

    /// Reads an object that was listed: from the folder of those that are kept, where it has it. One that is not as long as what is
    /// kept of it was replaced.
    pub(super) fn get_listed(&self, listed: &Listed) -> Result<Bytes, StoreError> {
        if let Some(content) = self.kept_of(listed) {
            return Ok(content);
        }
        let content = self.get(&listed.name)?;
        self.keep(&listed.named, &content);
        Ok(content)
    }

    /// A session as it is kept: one that had ended. `None` where no listing of this process has shown it, since it may have been
    /// cleared away, and where a loss of power has torn it.
    pub(super) fn kept_session(&self, session: SessionId) -> Option<KnownSession> {
        let objects = self.kept_objects.get()?;
        let content = objects.session(session)?;
        match self.session_in(&Named::Session(session).to_name(), session, &content) {
            Ok(kept) if kept.object.state != SessionState::Open => Some(kept),
            _ => {
                objects.drop_session(session);
                None
            }
        }
    }

    /// Has what is kept of these sessions count: they were listed.
    pub(super) fn saw_sessions(&self, listed: &[Listed]) {
        // One that takes nothing from here may live for months, and would remember all of them.
        let Some(kept) = self.kept_objects.get().filter(|kept| kept.usage != ObjectFolder::Fill) else {
            return;
        };
        let session = |listed: &Listed| match listed.named {
            Named::Session(session) => Some(session),
            _ => None,
        };
        kept.listed_sessions().extend(listed.iter().filter_map(session));
    }

    /// Keeps a session that has ended.
    pub(super) fn keep_session(&self, session: SessionId, content: &[u8]) {
        if let Some(kept) = self.kept_objects.get()
            && let Err(error) = kept.keep_session(session, content)
        {
            tracing::debug!(%error, "a session is not kept");
        }
    }

    /// Keeps the names of the records of collections that were listed just now.
    pub(super) fn remember_records(&self, records: &[Listed]) {
        if let Some(kept) = self.kept_objects.get()
            && let Err(error) = kept.keep_records(records)
        {
            tracing::debug!(%error, "which records there are is not kept");
        }
    }

    /// What is kept of an object that was listed.
    pub(super) fn kept_of(&self, listed: &Listed) -> Option<Bytes> {
        self.kept(&listed.named).filter(|content| content.len() as u64 == listed.bytes)
    }

    /// What is kept of an object.
    fn kept(&self, named: &Named) -> Option<Bytes> {
        self.kept_objects.get()?.get(hash_to_keep(named)?)
    }

    /// Keeps an object that was read or put.
    pub(super) fn keep(&self, named: &Named, content: &[u8]) {
        if let (Some(kept), Some(hash)) = (self.kept_objects.get(), hash_to_keep(named))
            && let Err(error) = kept.keep(hash, content)
        {
            tracing::debug!(%error, "an object is not kept");
        }
    }
}

/// The hash of an object that may be kept: one that was read when it was listed may be gone when it is read again, as by who was
/// quicker. What collections and repairs say of now is always read.
fn hash_to_keep(named: &Named) -> Option<ObjectHash> {
    match named {
        Named::Index(_, hash) | Named::Point(.., hash) | Named::Layout(.., hash) | Named::Head(.., hash) => {
            Some(*hash)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_has_another_hash_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = KeptObjects::open(folder.path(), ObjectFolder::FillAndTake).expect("opens");
        let filling = KeptObjects::open(folder.path(), ObjectFolder::Fill).expect("opens");
        let hash = hash_of(b"an object");
        assert_eq!(kept.get(hash), None);
        filling.keep(hash, b"an object").expect("kept");
        assert_eq!(filling.get(hash), None, "it only fills");
        let other = KeptObjects::open(folder.path(), ObjectFolder::Take).expect("opens");
        assert_eq!(other.get(hash).as_deref(), Some(&b"an object"[..]));
        fs::write(kept.path(hash), b"another").expect("written");
        assert_eq!((other.get(hash), kept.get(hash)), (None, None));
        assert!(!kept.path(hash).exists(), "its owner has taken it away");
    }

    #[test]
    fn who_borrows_writes_nothing_and_makes_no_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing");
        let kept = KeptObjects::open(&missing, ObjectFolder::Take).expect("opens");
        kept.keep(hash_of(b"x"), b"x").expect("nothing to do");
        assert!(!missing.exists() && kept.get(hash_of(b"x")).is_none());
    }

    #[test]
    fn a_folder_that_is_nearly_full_begins_anew_and_takes_what_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = KeptObjects::open(folder.path(), ObjectFolder::FillAndTake).expect("opens");
        for n in 0..=FOLDER_OBJECTS_MAX / 4 * 3 {
            let content = n.to_le_bytes();
            kept.keep(hash_of(&content), &content).expect("kept");
        }
        let kept = KeptObjects::open(folder.path(), ObjectFolder::FillAndTake).expect("opens");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
        kept.objects.store(FOLDER_OBJECTS_MAX, Ordering::Relaxed);
        kept.keep(hash_of(b"x"), b"x").expect("not kept");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
    }

    #[test]
    fn what_does_not_have_its_hash_is_not_kept_and_keeps_no_other_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = KeptObjects::open(folder.path(), ObjectFolder::Fill).expect("opens");
        let hash = hash_of(b"an object");
        kept.keep(hash, b"another").expect("left out");
        assert!(!kept.path(hash).exists());
        fs::write(kept.path(hash), b"torn").expect("written");
        kept.keep(hash, b"an object").expect("kept");
        assert_eq!(fs::read(kept.path(hash)).expect("reads"), b"an object");
    }

    #[test]
    fn an_object_that_is_too_large_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = KeptObjects::open(folder.path(), ObjectFolder::FillAndTake).expect("opens");
        let large = vec![0; KEPT_BYTES_MAX + 1];
        kept.keep(hash_of(&large), &large).expect("not kept");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
    }
}
