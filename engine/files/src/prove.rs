//! Proving a point: that its rows add up to the state that its node has signed, and that what a restore leaves on the disk
//! does. The latter is looked at anew, by other code than that which has put it there.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use backstay_core::digest::StateDigest;
use backstay_core::id::LinkId;
use backstay_core::proof::TOLD_MAX;
use backstay_vault::vault::{PointObject, Reading};
use backstay_vault::write::CpuPool;

use crate::capture::ReadProblem;
use crate::exclude::Exclude;
use crate::keys::{PathKey, link_key};
use crate::look::{ResolvedRow, ResolvedRows, aspects};
use crate::on_disk::{Expected, LookProblem, Looker};
use crate::place::Existing;
use crate::point_rows::rows_of;
use crate::restore::{RestoreError, RestoreProgress, RestoreRequest, Selection, references, restore};
use crate::row::{Attributes, HeadRow, Meta, Object, Restored, RowFacts, element};
use crate::stat::Identity;
use crate::walk::{Crossing, Found, Step, Walk, WalkError, WalkOptions};

/// Why a point could be neither proven nor disproven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// It cannot be restored for now.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What was restored cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// What was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// Entries that were looked at.
    pub entries: u64,
    /// Bytes of contents that were restored.
    pub bytes: u64,
    /// How much is not as it should be.
    pub failures: u64,
    /// The first of it, by path.
    pub told: Vec<String>,
    /// What cannot be shown by this user.
    pub unproven: Vec<String>,
}

impl Proven {
    /// Something of a path, unless the restore has told of it already.
    fn tell_of(&mut self, path: &PathKey, why: &str) {
        let path = path.to_string();
        let is_of_path = |line: &String| line.strip_prefix(&path).is_some_and(|rest| rest.starts_with(": "));
        if !self.told.iter().any(is_of_path) {
            self.tell(format!("{path}: {why}"));
        }
    }

    fn tell(&mut self, line: String) {
        self.failures += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }
}

/// Reads all rows of a point: they must add up to what its node has signed.
///
/// # Errors
/// When the vault does not answer; what is damaged is a finding.
pub fn prove_structure(reading: &Arc<Reading>, point: &PointObject) -> Result<Proven, ProveError> {
    let mut proven = Proven::default();
    let mut digest = StateDigest::empty();
    let mut rows = rows_of(reading, &[]);
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) if error.is_finding() => {
                proven.tell(format!("the rows of the point cannot be read: {error}"));
                return Ok(proven);
            }
            Err(error) => return Err(RestoreError::from(error).into()),
        };
        proven.entries += 1;
        match element(&row.key, &row.value) {
            Ok(element) => digest.add(&element),
            Err(error) => proven.tell(error.to_string()),
        }
    }
    if digest != point.common.digest && proven.failures == 0 {
        proven.tell(RestoreError::Digest { point: point.link.point.to_string() }.to_string());
    }
    Ok(proven)
}

/// Bytes that the files of a point take without their holes.
pub fn bytes_without_holes(reading: &Arc<Reading>) -> Result<u64, RestoreError> {
    let mut bytes = 0u64;
    let mut rows = rows_of(reading, &[]);
    while let Some(row) = rows.next()? {
        let head = HeadRow::decode(&row.value)?;
        if let Restored::Object { object, .. } = &head.restored {
            let references = references(object, &row, &head)?;
            let lengths = references.iter().map(|reference| u64::from(reference.length_bytes));
            bytes = bytes.saturating_add(lengths.sum());
        }
    }
    Ok(bytes)
}

/// Restores a point into a directory that is empty or not there, and looks at what lies there: it must add up to what the
/// point's node has signed.
///
/// # Errors
/// When the vault does not answer, or the directory cannot be written to; what is damaged is a finding.
pub fn prove_restore(
    reading: &Arc<Reading>,
    point: &PointObject,
    scratch: &Path,
    pool: &Arc<CpuPool>,
    progress: &Arc<RestoreProgress>,
) -> Result<Proven, ProveError> {
    let mut proven = Proven::default();
    let selection = Selection::all();
    let request = RestoreRequest {
        reading,
        point,
        selection: &selection,
        destination: scratch,
        existing: Existing::Refuse,
    };
    match restore(&request, pool, progress) {
        Ok(report) => {
            proven.bytes = report.bytes;
            // What the restore itself has noticed is found again below, but for what no tree shows.
            let lines = report.problems.len() as u64;
            report.problems.into_iter().for_each(|problem| proven.tell(problem));
            proven.failures += report.problems_total - lines;
        }
        Err(error) if is_finding(&error) => {
            proven.tell(error.to_string());
            return Ok(proven);
        }
        Err(error) => return Err(error.into()),
    }
    compare(reading, point, scratch, &mut proven)?;
    Ok(proven)
}

fn is_finding(error: &RestoreError) -> bool {
    match error {
        RestoreError::Vault(error) => error.is_finding(),
        RestoreError::Digest { .. } | RestoreError::Row(_) | RestoreError::Key(_) => true,
        _ => false,
    }
}

/// Compares what lies in a directory with the rows of a point, and with what its node has signed.
fn compare(
    reading: &Arc<Reading>,
    point: &PointObject,
    root: &Path,
    proven: &mut Proven,
) -> Result<(), ProveError> {
    let walk = Walk::start(
        root,
        WalkOptions {
            exclude: Exclude::nothing(),
            leave_out: Vec::new(),
            crossing: Crossing::Cross,
            threads: NonZeroUsize::MIN,
        },
    )?;
    let mut comparison = Comparison {
        looker: Looker::from_disk(reading.vault().ring()),
        rights: Rights::of_process(),
        digest: StateDigest::empty(),
        inodes: HashMap::new(),
        links: HashMap::new(),
        proven,
    };
    let mut rows = ResolvedRows::open(reading, PathKey::root());
    let mut row = rows.next()?;
    for step in walk {
        let path = step_path(&step).clone();
        // The destination itself is no entry of a point that has no root.
        if path.is_root() && row.as_ref().is_none_or(|row| !row.path.is_root()) {
            continue;
        }
        while let Some(missing) = row.take_if(|row| row.path < path) {
            comparison.missing(&missing)?;
            row = rows.next()?;
        }
        match row.take_if(|row| row.path == path) {
            Some(expected) => {
                comparison.both(step, &expected)?;
                row = rows.next()?;
            }
            None => comparison.proven.tell_of(&path, "was restored, and is not in the point"),
        }
    }
    while let Some(missing) = row {
        comparison.missing(&missing)?;
        row = rows.next()?;
    }
    if comparison.digest != point.common.digest && comparison.proven.failures == 0 {
        comparison.proven.tell(
            "what was restored does not add up to the state that the point's node has signed, though each path is as its row says"
                .to_owned(),
        );
    }
    if comparison.rights == Rights::User {
        proven.unproven.push(
            "owners, and attributes that only root can give: this is not root, so they are taken to be right"
                .to_owned(),
        );
    }
    Ok(())
}

fn step_path(step: &Step) -> &PathKey {
    match step {
        Step::Found(found) => &found.key,
        Step::Unreadable(unreadable) => &unreadable.key,
        Step::LeftOut(path) => path,
    }
}

/// What this process can give to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Root,
    User,
}

impl Rights {
    fn of_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::Root } else { Self::User }
    }
}

struct Comparison<'p> {
    looker: Looker,
    rights: Rights,
    digest: StateDigest,
    /// Which file with several names each inode is, and which inode each such file.
    inodes: HashMap<Identity, LinkId>,
    links: HashMap<LinkId, Identity>,
    proven: &'p mut Proven,
}

impl Comparison<'_> {
    fn missing(&mut self, row: &ResolvedRow) -> Result<(), ProveError> {
        self.proven.entries += 1;
        let is_there = matches!(row.head.restored, Restored::Object { .. });
        let why =
            if is_there { "was not restored" } else { "the point lacks the file of which it is a name" };
        self.proven.tell_of(&row.path, why);
        Ok(())
    }

    fn both(&mut self, step: Step, row: &ResolvedRow) -> Result<(), ProveError> {
        let found = match step {
            Step::Found(found) => found,
            Step::Unreadable(unreadable) => {
                self.proven.entries += 1;
                let why = format!("cannot be read back: {}", unreadable.error);
                self.proven.tell_of(&unreadable.key, &why);
                return Ok(());
            }
            Step::LeftOut(_) => return Ok(()),
        };
        self.proven.entries += 1;
        let Restored::Object { object, meta } = &row.head.restored else { return self.missing(row) };
        let references = references(object, &row.row, &row.head)?;
        let expected = Expected { size_bytes: object.size_bytes(), references: &references };
        let (live, live_meta) = match self.looker.object(&found, Some(expected)) {
            Ok(looked) => looked,
            Err(LookProblem::Read(ReadProblem::NoKey)) => {
                return Err(RestoreError::from(backstay_vault::error::VaultError::GivenUp).into());
            }
            Err(problem) => {
                self.proven.tell_of(&row.path, &format!("cannot be read back: {problem}"));
                return Ok(());
            }
        };
        let live_meta = self.provable(live_meta, meta, &live);
        let restored = Restored::Object { object: live, meta: live_meta };
        let aspects = aspects(&row.head.restored, &restored);
        if !aspects.is_empty() {
            let words: Vec<&str> = aspects.iter().map(|aspect| aspect.word()).collect();
            let why = format!("on disk differs from the point: {}", words.join(", "));
            self.proven.tell_of(&row.path, &why);
        }
        self.add(row, &found, restored)
    }

    /// Adds the elements of what is on disk, as rows would say it.
    fn add(&mut self, row: &ResolvedRow, found: &Found, restored: Restored) -> Result<(), ProveError> {
        let value = |restored| HeadRow { restored, facts: RowFacts::default() }.encode();
        let Some(link) = row.link else {
            let value = value(restored).map_err(RestoreError::from)?;
            let element = element(row.path.as_bytes(), &value).map_err(RestoreError::from)?;
            self.digest.add(&element);
            return Ok(());
        };
        let inode = found.stat.identity;
        let of_inode = *self.inodes.entry(inode).or_insert(link);
        let is_first = !self.links.contains_key(&link);
        let of_link = *self.links.entry(link).or_insert(inode);
        if of_inode != link || of_link != inode {
            self.proven.tell_of(&row.path, "is another file than its other names");
            return Ok(());
        }
        let name = value(Restored::Link(link)).map_err(RestoreError::from)?;
        self.digest.add(&element(row.path.as_bytes(), &name).map_err(RestoreError::from)?);
        if is_first {
            let file = value(restored).map_err(RestoreError::from)?;
            self.digest.add(&element(&link_key(&link), &file).map_err(RestoreError::from)?);
        }
        Ok(())
    }

    /// What is on disk, with what cannot be shown here as the row says it: permissions of symbolic links, which no
    /// system lets anybody give, and without being root owners, and attributes outside of `user.`.
    fn provable(&self, live: Meta, row: &Meta, object: &Object) -> Meta {
        let mode = if matches!(object, Object::Symlink(_)) { row.mode } else { live.mode };
        match self.rights {
            Rights::Root => Meta { mode, ..live },
            Rights::User => {
                let attributes = of_users(&live.attributes, &row.attributes);
                Meta { mode, uid: row.uid, gid: row.gid, attributes, ..live }
            }
        }
    }
}

/// Attributes that any user can give as they are on disk, the others as the row has them.
fn of_users(live: &Attributes, row: &Attributes) -> Attributes {
    let is_of_users = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.");
    let own = live.iter().filter(|attribute| is_of_users(attribute.name.as_bytes()));
    let others = row.iter().filter(|attribute| !is_of_users(attribute.name.as_bytes()));
    Attributes::new(own.chain(others).cloned().collect()).unwrap_or_else(|_| live.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Attribute, AttributeName, AttributeValue};

    fn attribute(name: &str, value: &[u8]) -> Attribute {
        let name = AttributeName::new(name.as_bytes()).unwrap();
        Attribute { name, value: AttributeValue::Inline(value.into()) }
    }

    #[test]
    fn a_user_proves_only_the_attributes_that_users_can_give() {
        let live = Attributes::new(vec![attribute("user.a", b"other")]).unwrap();
        let row = Attributes::new(vec![attribute("user.a", b"1"), attribute("trusted.b", b"2")]).unwrap();
        let shown = of_users(&live, &row);
        let shown: Vec<_> = shown.iter().cloned().collect();
        assert_eq!(shown, [attribute("trusted.b", b"2"), attribute("user.a", b"other")]);
    }
}
