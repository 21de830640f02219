//! Taking the snapshots of a source: all members of it in one transaction group, and only where there is something to take.

use backstay_core::config::DatasetName;

use crate::error::{Refusal, ZfsError};
use crate::name::{OwnSnapshot, SnapshotName};
use crate::state::Dataset;
use crate::zfs::Zfs;

/// So often members are listed anew, when one of them has gone between the listing and the snapshot.
const LISTINGS_MAX: u32 = 3;

/// What is done around the instant of a snapshot.
pub trait Around {
    /// Before it, for example a checkpoint of a database. Where it fails nothing is taken.
    fn before(&self) -> Result<(), String>;

    /// After it, also where it was not taken; never where [`Self::before`] has failed.
    fn after(&self);
}

/// Nothing.
#[derive(Debug, Clone, Copy)]
pub struct NothingAround;

impl Around for NothingAround {
    fn before(&self) -> Result<(), String> {
        Ok(())
    }

    fn after(&self) {}
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Now(OwnSnapshot),
    /// Nothing was written since the last one.
    NothingNew,
}

/// Why none was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// ZFS refuses, or has failed.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
    /// There is no such source.
    #[error("{0} is not there: is its pool imported (`zpool import`)?")]
    NoSource(DatasetName),
    /// What was to be done before has failed.
    #[error("no snapshot of {source_root}: what is to be done before has failed: {why}")]
    Before {
        /// The root of the source.
        source_root: DatasetName,
        /// What it says.
        why: String,
    },
}

/// Takes the set, unless nothing was written since the last one. What the last seconds brought is counted: the pool is synced
/// before.
pub fn take(
    zfs: &dyn Zfs,
    root: &DatasetName,
    is_member: &dyn Fn(&DatasetName) -> bool,
    own: OwnSnapshot,
    around: &dyn Around,
) -> Result<Taken, TakeError> {
    zfs.sync(root.pool())?;
    let mut listings = 0;
    loop {
        listings += 1;
        let mut members = zfs.list(root)?;
        if members.is_empty() {
            return Err(TakeError::NoSource(root.clone()));
        }
        members.retain(|member| is_member(&member.name));
        if !is_worth_it(&members) {
            return Ok(Taken::NothingNew);
        }
        let names = names(&members, own)?;
        let before = |why| TakeError::Before { source_root: root.clone(), why };
        around.before().map_err(before)?;
        let taken = zfs.snapshot(&names);
        around.after();
        match taken {
            Ok(()) => return Ok(Taken::Now(own)),
            // One has gone, or was renamed.
            Err(ZfsError::Refused { refusal: Refusal::NOT_FOUND, .. }) if listings < LISTINGS_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a member has something that its newest snapshot has not, or the members have no set in common: one of them is new, or a
/// set was destroyed in part.
fn is_worth_it(members: &[Dataset]) -> bool {
    let newest = |member: &Dataset| {
        let own = member.snapshots.iter().rev().find_map(|snapshot| OwnSnapshot::parse(&snapshot.mark));
        own.filter(|_| member.written_bytes == 0)
    };
    let Some(first) = members.first() else { return false };
    match newest(first) {
        None => true,
        set => members.iter().any(|member| newest(member) != set || has_newer(member, set)),
    }
}

/// Whether somebody else's snapshot, with something in it, is newer.
fn has_newer(member: &Dataset, set: Option<OwnSnapshot>) -> bool {
    let newer = member.snapshots.iter().rev().take_while(|shot| OwnSnapshot::parse(&shot.mark) != set);
    newer.map(|shot| shot.written_bytes).sum::<u64>() > 0
}

fn names(members: &[Dataset], own: OwnSnapshot) -> Result<Vec<SnapshotName>, ZfsError> {
    let name = |member: &Dataset| {
        own.of(&member.name).map_err(|error| ZfsError::Answer {
            doing: format!("name a snapshot of {}", member.name),
            what: format!("{error}: give the dataset a shorter name"),
        })
    };
    members.iter().map(name).collect()
}
