//! Proving a point: that its rows add up to the state that its node has signed, and that what a restore leaves on the disk
//! does. The latter is looked at anew, by other code than that which has put it there.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use backstay_core::digest::StateDigest;
use backstay_core::id::LinkId;
use backstay_core::proof::TOLD_MAX;
use backstay_vault::error::VaultError;
use backstay_vault::vault::{PointObject, Reading};
use backstay_vault::write::CpuPool;
use rustix::io::Errno;

use crate::capture::ReadProblem;
use crate::exclude::Exclude;
use crate::heads::FoundRow;
use crate::keys::{HeadKey, PathKey, link_key};
use crate::look::{Aspect, ResolvedRow, ResolvedRows, aspects};
use crate::on_disk::{Expected, LookProblem, Looker};
use crate::place::{Existing, STAGING_NAME};
use crate::point_rows::all_rows_of;
use crate::restore::{
    RestoreError, RestoreProgress, RestoreReport, RestoreRequest, Selection, references, restore,
};
use crate::row::{AttributeName, Attributes, HeadRow, Meta, Object, Restored, RowFacts, element};
use crate::stat::Identity;
use crate::walk::{Crossing, Found, Step, Unreadable, Walk, WalkError, WalkOptions};

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
    fn tell(&mut self, line: String) {
        self.failures += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }

    /// What cannot be shown here.
    fn leave_unproven(&mut self, line: String) {
        if self.unproven.len() < UNPROVEN_MAX {
            self.unproven.push(line);
        } else if self.unproven.len() == UNPROVEN_MAX {
            self.unproven.push("and more".to_owned());
        }
    }
}

/// Lines about what could not be shown, at most.
const UNPROVEN_MAX: usize = 10;

/// Reads all rows of a point: they must add up to what its node has signed.
///
/// # Errors
/// When the vault does not answer; what is damaged is a finding.
pub fn prove_structure(reading: &Arc<Reading>, point: &PointObject) -> Result<Proven, ProveError> {
    let mut proven = Proven::default();
    let mut digest = StateDigest::empty();
    let mut rows = all_rows_of(reading);
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
        // The digest does not cover further rows: whether all are there, their references tell.
        if let Err(error) = check_references(&row) {
            let path = HeadKey::parse(&row.key).map_or_else(|error| error.to_string(), |key| key.to_string());
            proven.tell(format!("{path}: {error}"));
        }
    }
    if digest != point.common.digest && proven.failures == 0 {
        proven.tell(RestoreError::Digest { point: point.link.point.to_string() }.to_string());
    }
    Ok(proven)
}

fn check_references(row: &FoundRow) -> Result<(), RestoreError> {
    let head = HeadRow::decode(&row.value)?;
    match &head.restored {
        Restored::Object { object, .. } => references(object, row, &head).map(drop),
        Restored::Link(_) => Ok(()),
    }
}

/// Bytes that the files of a point take without their holes.
pub fn bytes_without_holes(reading: &Arc<Reading>) -> Result<u64, RestoreError> {
    let mut bytes = 0u64;
    let mut rows = all_rows_of(reading);
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
            compare(reading, point, scratch, Noticed::by(report), &mut proven)?;
            Ok(proven)
        }
        Err(error) if is_finding(&error) => {
            proven.tell(error.to_string());
            Ok(proven)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the restore has said of paths: why something is not as it was. Contents that are lost are found again on the disk;
/// what this user, or this file system, cannot give says nothing of the point.
#[derive(Debug)]
struct Noticed {
    by_path: HashMap<String, String>,
    /// Not all is known: what is not here may have been noticed, too.
    more: bool,
}

impl Noticed {
    fn by(report: RestoreReport) -> Self {
        let more = report.problems_total > report.problems.len() as u64;
        let lines = report.problems.into_iter().filter_map(|line| {
            let path = line.split_once(": ")?.0.to_owned();
            Some((path, line))
        });
        Self { by_path: lines.collect(), more }
    }

    fn has(&self, path: &PathKey) -> bool {
        self.more || self.by_path.contains_key(&path.to_string())
    }
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
    noticed: Noticed,
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
        noticed,
        closed_below: None,
        proven,
    };
    let mut rows = ResolvedRows::open(reading, PathKey::root());
    let mut row = rows.next()?;
    for step in walk {
        let found = match step {
            Step::Found(found) => found,
            Step::Unreadable(unreadable) => {
                comparison.unreadable(unreadable);
                continue;
            }
            Step::LeftOut(_) | Step::Passed(_) => continue,
        };
        let path = found.key.clone();
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
                comparison.both(&found, &expected)?;
                row = rows.next()?;
            }
            None => comparison.proven.tell(format!("{path}: was restored, and is not in the point")),
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
        proven.leave_unproven(
            "owners, and what only root can give: this is not root, so they are taken to be right".to_owned(),
        );
    }
    Ok(())
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
    links: HashMap<LinkId, Option<Identity>>,
    noticed: Noticed,
    /// A directory into which this user may not look, since it has its mode.
    closed_below: Option<PathKey>,
    proven: &'p mut Proven,
}

impl Comparison<'_> {
    /// A path of the point that is not on the disk.
    fn missing(&mut self, row: &ResolvedRow) -> Result<(), ProveError> {
        self.proven.entries += 1;
        if self.closed_below.as_ref().is_some_and(|top| row.path.is_within(top)) {
            return self.take_as_right(row);
        }
        let special = match &row.head.restored {
            Restored::Object { object, .. } => !matches!(
                object,
                Object::File(Some(_)) | Object::File(None) | Object::Directory | Object::Symlink(_)
            ),
            Restored::Link(_) => false,
        };
        let is_reserved = row.path.to_string() == STAGING_NAME;
        if (special || is_reserved) && self.noticed.has(&row.path) {
            let line = self.noticed.by_path.get(&row.path.to_string()).cloned();
            self.proven.leave_unproven(line.unwrap_or_else(|| format!("{}: was not made", row.path)));
            return self.take_as_right(row);
        }
        let is_there = matches!(row.head.restored, Restored::Object { .. });
        let why =
            if is_there { "was not restored" } else { "the point lacks the file of which it is a name" };
        self.tell(&row.path, why);
        Ok(())
    }

    /// Something on the disk cannot be looked at, or not be listed.
    fn unreadable(&mut self, unreadable: Unreadable) {
        if self.rights == Rights::User && unreadable.error == Errno::ACCESS {
            self.closed_below = Some(unreadable.key);
        } else {
            self.tell(&unreadable.key, &format!("cannot be read back: {}", unreadable.error));
        }
    }

    fn both(&mut self, found: &Found, row: &ResolvedRow) -> Result<(), ProveError> {
        self.proven.entries += 1;
        let Restored::Object { object, meta } = &row.head.restored else { return self.missing(row) };
        let references = references(object, &row.row, &row.head)?;
        let expected = Expected { size_bytes: object.size_bytes(), references: &references };
        let (live, live_meta) = match self.looker.object(found, Some(expected)) {
            Ok(looked) => looked,
            Err(LookProblem::Read(ReadProblem::NoKey)) => {
                return Err(RestoreError::from(VaultError::GivenUp).into());
            }
            Err(LookProblem::Read(ReadProblem::Refused(errno))) if self.may_be_closed(row, &errno) => {
                return self.take_as_right(row);
            }
            Err(problem) => {
                self.tell(&row.path, &format!("cannot be read back: {problem}"));
                return Ok(());
            }
        };
        let live_meta = self.provable(live_meta, meta, &live);
        let restored = Restored::Object { object: live, meta: live_meta };
        let aspects = aspects(&row.head.restored, &restored);
        let is_of_meta = aspects.iter().all(|aspect| !matches!(aspect, Aspect::Kind | Aspect::Contents));
        if !aspects.is_empty() && is_of_meta && self.noticed.has(&row.path) {
            // The contents are there, and the row says the rest: it is this file system that cannot have it.
            let line = self.noticed.by_path.get(&row.path.to_string()).cloned();
            self.proven.leave_unproven(line.unwrap_or_else(|| format!("{}: not all could be set", row.path)));
            return self.take_as_right(row);
        }
        if !aspects.is_empty() {
            let words: Vec<&str> = aspects.iter().map(|aspect| aspect.word()).collect();
            self.tell(&row.path, &format!("on disk differs from the point: {}", words.join(", ")));
        }
        self.add(row, Some(found), restored)
    }

    /// Whether it is only for its own permissions that this user cannot look at an object.
    fn may_be_closed(&self, row: &ResolvedRow, errno: &Errno) -> bool {
        let Restored::Object { meta, .. } = &row.head.restored else { return false };
        self.rights == Rights::User && *errno == Errno::ACCESS && meta.mode.bits() & 0o500 != 0o500
    }

    /// What the restore has said of a path says more than that something is missing.
    fn tell(&mut self, path: &PathKey, why: &str) {
        let noticed = self.noticed.by_path.get(&path.to_string()).cloned();
        self.proven.tell(noticed.unwrap_or_else(|| format!("{path}: {why}")));
    }

    fn take_as_right(&mut self, row: &ResolvedRow) -> Result<(), ProveError> {
        self.add(row, None, row.head.restored.clone())
    }

    /// Adds the elements of what is on disk, as rows would say it.
    fn add(
        &mut self,
        row: &ResolvedRow,
        found: Option<&Found>,
        restored: Restored,
    ) -> Result<(), ProveError> {
        let value = |restored| HeadRow { restored, facts: RowFacts::default() }.encode();
        let Some(link) = row.link else {
            let value = value(restored).map_err(RestoreError::from)?;
            self.digest.add(&element(row.path.as_bytes(), &value).map_err(RestoreError::from)?);
            return Ok(());
        };
        let is_first = !self.links.contains_key(&link);
        let inode = found.map(|found| found.stat.identity);
        let of_link = *self.links.entry(link).or_insert(inode);
        let of_inode = inode.map(|inode| *self.inodes.entry(inode).or_insert(link));
        if of_inode.is_some_and(|of_inode| of_inode != link)
            || (of_link.is_some() && inode.is_some() && of_link != inode)
        {
            self.tell(&row.path, "is another file than its other names");
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
    /// system lets anybody give; attributes that the file system gives by itself; and without being root owners, bits that
    /// only owners may have, and attributes outside of `user.`.
    fn provable(&self, live: Meta, row: &Meta, object: &Object) -> Meta {
        let mode = if matches!(object, Object::Symlink(_)) { row.mode } else { live.mode };
        match self.rights {
            Rights::Root => {
                let attributes = with_those_of(&live.attributes, &row.attributes);
                Meta { mode, attributes, ..live }
            }
            Rights::User => {
                let same = mode.bits() & 0o1777 == row.mode.bits() & 0o1777;
                let mode = if same { row.mode } else { mode };
                let attributes = of_users(&live.attributes, &row.attributes);
                Meta { mode, uid: row.uid, gid: row.gid, attributes, ..live }
            }
        }
    }
}

/// Attributes on disk that are the row's, or that anybody can give. Others are the file system's own.
fn with_those_of(live: &Attributes, row: &Attributes) -> Attributes {
    let is_of_row = |name: &AttributeName| row.iter().any(|attribute| attribute.name == *name);
    let wanted =
        live.iter().filter(|attribute| is_of_users(attribute.name.as_bytes()) || is_of_row(&attribute.name));
    Attributes::new(wanted.cloned().collect()).unwrap_or_else(|_| live.clone())
}

fn is_of_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl")
}

/// Attributes that any user can give as they are on disk, the others as the row has them.
fn of_users(live: &Attributes, row: &Attributes) -> Attributes {
    let own = live.iter().filter(|attribute| is_of_users(attribute.name.as_bytes()));
    let others = row.iter().filter(|attribute| !is_of_users(attribute.name.as_bytes()));
    Attributes::new(own.chain(others).cloned().collect()).unwrap_or_else(|_| live.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Attribute, AttributeValue};

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
