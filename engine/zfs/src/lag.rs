//! How much of a member its replica lacks. Pure: whoever lists syncs the pool before, since what was written in the last seconds is
//! not counted otherwise.

use backstay_core::rpo::Durable;
use backstay_core::units::Timestamp;

use crate::guid::SnapshotGuid;
use crate::state::Dataset;

/// What is at the target of a member of which it has the snapshot `there`, as of `synced_at`, when the pool was synced and then
/// listed. Everything where nothing was written since: also a snapshot in which nothing is new is as good as the one before it.
pub fn durable(member: &Dataset, there: Option<SnapshotGuid>, synced_at: Timestamp) -> Durable {
    let Some(there) = there else { return Durable::Nothing };
    let place = member.snapshots.iter().position(|snapshot| snapshot.guid == there);
    let (at, later) = match (place, member.bookmark(there)) {
        (Some(place), _) => (member.snapshots[place].at, &member.snapshots[place + 1..]),
        // Of what was written between it and the next snapshot nothing is known any more.
        (None, Some(bookmark)) => return Durable::Since(bookmark.at),
        (None, None) => return Durable::Unknown,
    };
    // The one after it begins where it ends; what was destroyed between would be counted to the next.
    let written = later.iter().map(|snapshot| snapshot.written_bytes).sum::<u64>() + member.written_bytes;
    match written {
        0 => Durable::Since(synced_at),
        _ => Durable::Since(at),
    }
}

/// The worst of all members: a source is as far as the one that is furthest behind.
pub fn worst(members: impl IntoIterator<Item = Durable>) -> Durable {
    let rank = |durable: &Durable| match durable {
        Durable::Nothing => (0, Timestamp::EPOCH),
        Durable::Unknown => (1, Timestamp::EPOCH),
        Durable::Since(at) => (2, *at),
    };
    members.into_iter().min_by_key(rank).unwrap_or(Durable::Nothing)
}
