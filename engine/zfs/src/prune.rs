//! Which of our own snapshots may go, by the keep rules of whoever has them (docs/zfs.md, section 2). Snapshots of others are never
//! destroyed, nor what a flow still needs: that has a hold, and the newest stays in any case.

use std::collections::BTreeMap;

use backstay_core::config::Keep;
use backstay_core::retention::{Aged, Reason, judge_at};
use backstay_core::units::Timestamp;

use crate::error::ZfsError;
use crate::name::{OwnSnapshot, SnapshotName};
use crate::state::Dataset;
use crate::zfs::{Kept, Zfs};

/// A set, and why it is kept; without a reason it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which.
    pub set: OwnSnapshot,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges the sets of these datasets, oldest first. `needed` are kept in any case: what is complete at a replica, for one.
pub fn judge(datasets: &[Dataset], keep: &Keep, needed: &[OwnSnapshot], now: Timestamp) -> Vec<Judged> {
    let mut sets: BTreeMap<OwnSnapshot, Aged> = BTreeMap::new();
    for snapshot in datasets.iter().flat_map(|dataset| &dataset.snapshots) {
        let Some(set) = OwnSnapshot::parse(&snapshot.mark) else { continue };
        let aged = Aged { time: set.at, sequence: 0, is_held: false, entries: 0, root_file_system: None };
        let aged = sets.entry(set).or_insert(aged);
        // Which is the newest says the pool, and no clock.
        aged.sequence = aged.sequence.max(snapshot.txg.0);
        aged.is_held |= snapshot.holds > 0 || needed.contains(&set);
    }
    let mut sets: Vec<_> = sets.into_iter().collect();
    sets.sort_by_key(|(_, aged)| aged.sequence);
    let aged: Vec<_> = sets.iter().map(|(_, aged)| *aged).collect();
    let reasons = judge_at(now, keep, &aged);
    sets.into_iter().zip(reasons).map(|((set, _), reasons)| Judged { set, reasons }).collect()
}

/// Destroys what goes; tells what was kept by something that nobody has told of.
pub fn prune(zfs: &dyn Zfs, datasets: &[Dataset], judged: &[Judged]) -> Result<Vec<Kept>, ZfsError> {
    let goes = |mark: &str| {
        OwnSnapshot::parse(mark)
            .is_some_and(|set| judged.iter().any(|judged| judged.set == set && judged.reasons.is_empty()))
    };
    let mut kept = Vec::new();
    for dataset in datasets {
        let doomed = dataset.snapshots.iter().filter(|snapshot| goes(&snapshot.mark));
        let doomed: Result<Vec<_>, _> =
            doomed.map(|snapshot| SnapshotName::new(&dataset.name, &snapshot.mark)).collect();
        let doomed = doomed.map_err(|error| ZfsError::Answer {
            doing: format!("prune {}", dataset.name),
            what: error.to_string(),
        })?;
        kept.extend(zfs.destroy_snapshots(&doomed)?);
    }
    Ok(kept)
}
