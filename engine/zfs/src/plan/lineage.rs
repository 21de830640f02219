//! A member beside its replica: what they have in common, and what is to be sent. Pure.

use super::conflict::Conflict;
use super::{Snapshots, Transfer, TransferBase};
use crate::guid::{SnapshotGuid, Txg};
use crate::name::OwnSnapshot;
use crate::state::{Dataset, Snapshot};
use crate::token::Token;
use crate::zfs::Form;

/// What both sides have, the newest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// The snapshot.
    pub guid: SnapshotGuid,
    /// Its name at the replica.
    pub replica_mark: String,
    /// Its name at the source; none where only a bookmark of it is left.
    pub source_mark: Option<String>,
    /// From what is sent.
    base: TransferBase,
    txg: Txg,
}

/// A replica as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lineage {
    /// What an earlier receive has left is of no use.
    Abort,
    /// What was begun goes on.
    Resume { common: Option<Common>, transfer: Transfer },
    /// It goes on from there.
    Goes { common: Common, transfers: Vec<Transfer> },
}

/// In which form a dataset is sent.
pub(super) fn form_of(source: &Dataset) -> Form {
    if source.encryption.is_some() { Form::Raw } else { Form::Plain }
}

/// Compares both.
pub(super) fn compare(source: &Dataset, replica: &Dataset, select: Snapshots) -> Result<Lineage, Conflict> {
    let common = common(source, replica);
    if let Some(token) = &replica.resume_token {
        let resumed = Token::parse(token).ok().and_then(|token| resume(source, common.as_ref(), &token));
        return Ok(match resumed {
            Some(transfer) => Lineage::Resume { common, transfer },
            None => Lineage::Abort,
        });
    }
    let newest = replica.newest();
    let Some(common) = common else {
        let newest = newest.map(|newest| newest.mark.clone());
        return Err(Conflict::NothingInCommon { replica: replica.name.clone(), newest });
    };
    let place = replica.snapshots.iter().position(|snapshot| snapshot.guid == common.guid);
    let newer = place.map_or(&[][..], |place| &replica.snapshots[place + 1..]);
    if !newer.is_empty() {
        return Err(Conflict::Diverged {
            replica: replica.name.clone(),
            common: common.replica_mark,
            only_there: newer.iter().map(|snapshot| snapshot.mark.clone()).collect(),
        });
    }
    if source.encryption.is_some() && replica.encryption.is_none() {
        return Err(Conflict::NotRaw { replica: replica.name.clone() });
    }
    if replica.written_bytes > 0 {
        return Err(Conflict::Modified {
            replica: replica.name.clone(),
            since: common.replica_mark,
            written_bytes: replica.written_bytes,
        });
    }
    let pending: Vec<_> = source.snapshots.iter().filter(|snapshot| snapshot.txg > common.txg).collect();
    let transfers = chosen(&pending, select).scan(common.base.clone(), |base, snapshot| {
        let from = std::mem::replace(base, TransferBase::Snapshot(snapshot.mark.clone()));
        Some(transfer(source, snapshot, from))
    });
    Ok(Lineage::Goes { transfers: transfers.collect(), common })
}

/// The newest snapshot of the replica of which the source has something left.
fn common(source: &Dataset, replica: &Dataset) -> Option<Common> {
    replica.snapshots.iter().rev().find_map(|there| {
        let guid = there.guid;
        let (replica_mark, snapshot) = (there.mark.clone(), source.snapshot(guid));
        let (base, txg) = match (snapshot, source.bookmark(guid)) {
            (Some(snapshot), _) => (TransferBase::Snapshot(snapshot.mark.clone()), snapshot.txg),
            (None, Some(bookmark)) => (TransferBase::Bookmark(bookmark.mark.clone()), bookmark.txg),
            (None, None) => return None,
        };
        Some(Common {
            guid,
            replica_mark,
            source_mark: snapshot.map(|snapshot| snapshot.mark.clone()),
            base,
            txg,
        })
    })
}

/// What a token goes on with, where the source still has it and it is sent in that form.
fn resume(source: &Dataset, common: Option<&Common>, token: &Token) -> Option<Transfer> {
    let snapshot = source.snapshot(token.to)?;
    if token.form != Some(form_of(source)) {
        return None;
    }
    let base = match (token.from, common) {
        (None, None) => TransferBase::Nothing,
        (Some(from), Some(common)) if common.guid == from => common.base.clone(),
        // What was begun from another snapshot than the newest in common cannot be received any more. A clone's is
        // begun anew: its origin is not at this dataset.
        _ => return None,
    };
    Some(Transfer { resume: Some(token.resume), ..transfer(source, snapshot, base) })
}

/// Those that are sent of what waits, oldest first. Where one is enough it is the newest that we have taken: all of its set are
/// sent then.
pub(super) fn chosen<'s>(
    pending: &[&'s Snapshot],
    select: Snapshots,
) -> impl Iterator<Item = &'s Snapshot> + use<'s> {
    let chosen: Vec<&Snapshot> = match select {
        Snapshots::All => pending.to_vec(),
        Snapshots::Newest => {
            let own = pending.iter().rev().find(|snapshot| OwnSnapshot::parse(&snapshot.mark).is_some());
            own.or(pending.last()).copied().into_iter().collect()
        }
    };
    chosen.into_iter()
}

/// Of a snapshot, on top of that.
pub(super) fn transfer(source: &Dataset, snapshot: &Snapshot, base: TransferBase) -> Transfer {
    Transfer { guid: snapshot.guid, mark: snapshot.mark.clone(), base, form: form_of(source), resume: None }
}
