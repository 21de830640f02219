//! What `restore --all` has restored so far, so that the same command, run again, does not take it for something else that is in
//! the way. A file, which goes when all is done.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::terminal::remark;

const NAME: &str = ".backstay-restore-all";

/// Longest record that is read, bytes: some hundred for each of the most sources that there are.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// A source that is restored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) vault: String,
    pub(super) source: String,
    pub(super) point: String,
    /// The path, which need not be text.
    pub(super) to: Vec<u8>,
}

/// Those that are.
#[derive(Debug)]
pub(super) struct Record {
    /// Where it is kept, if it is.
    file: Option<PathBuf>,
    done: BTreeSet<Done>,
}

impl Record {
    /// None, and none is kept.
    pub(super) fn none() -> Self {
        Self { file: None, done: BTreeSet::new() }
    }

    /// What an earlier run has left in this folder; nothing is added there.
    pub(super) fn read(folder: &Path) -> Self {
        Self { file: None, done: read(&folder.join(NAME)) }
    }

    /// What an earlier run has left in this folder, which gets what is added.
    pub(super) fn keep(folder: &Path) -> Self {
        let file = folder.join(NAME);
        Self { done: read(&file), file: Some(file) }
    }

    pub(super) fn has(&self, done: &Done) -> bool {
        self.done.contains(done)
    }

    /// Notes one that is restored, durably.
    pub(super) fn add(&mut self, done: Done) {
        if let Some(file) = &self.file {
            let write = || {
                if let Some(folder) = file.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut line = serde_json::to_vec(&done)?;
                line.push(b'\n');
                let mut out = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
                out.write_all(&line)?;
                out.sync_all()
            };
            if let Err(error) = write() {
                unkept(file, &error);
                // Said once.
                self.file = None;
            }
        }
        self.done.insert(done);
    }

    /// All is done.
    pub(super) fn remove(self) {
        let Some(file) = self.file else { return };
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                remark(&format!(
                    "warning: {} is of no use any more, and cannot be removed: {error}",
                    file.display()
                ));
            }
            _ => {}
        }
    }
}

/// Lines that are not whole are passed over: what they told of is refused by what is there.
fn read(file: &Path) -> BTreeSet<Done> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() != ErrorKind::NotFound => unread(file, &error),
        _ => {}
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn unread(file: &Path, error: &std::io::Error) {
    remark(&format!("warning: what was restored before is not known: {}: {error}", file.display()));
}

fn unkept(place: &Path, error: &std::io::Error) {
    remark(&format!(
        "warning: it cannot be noted what is restored ({}: {error}): the same command, run again, would refuse that as being there already",
        place.display()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(source: &str) -> Done {
        Done { vault: "v".into(), source: source.into(), point: "p".into(), to: b"/srv/\xff".to_vec() }
    }

    #[test]
    fn what_is_noted_is_known_to_the_next_run_until_all_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("below");
        let mut record = Record::keep(&below);
        assert!(!record.has(&done("a.files")));
        record.add(done("a.files"));
        let torn = "{\"vault\":\"v\",\"sour";
        fs::OpenOptions::new()
            .append(true)
            .open(below.join(NAME))
            .and_then(|mut file| file.write_all(torn.as_bytes()))
            .expect("writes");
        let next = Record::keep(&below);
        assert!(next.has(&done("a.files")) && !next.has(&done("b.files")));
        assert!(Record::read(&below).has(&done("a.files")));
        next.remove();
        assert!(!Record::keep(&below).has(&done("a.files")));
        assert!(!below.join(NAME).exists());
    }
}
