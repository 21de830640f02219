//! What commands do to vaults beside capturing and pruning: done by the daemon where one runs, and otherwise by the command
//! itself. Owns which function does which job; who asks and what is printed is the business of `cli/` and `serve/`.

mod claims;
mod copy;
mod keys;
mod points;
mod repair;

pub use claims::{Claims, named};
pub use copy::{CopyChoice, copy_source};
pub use repair::NOT_BEGUN;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_wire::progress::{Counted, Expected, Progress};
use backstay_wire::upkeep::{Upkeep, UpkeepReport};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::vaults::TrafficMeter;

/// How far a job is.
#[derive(Debug, Default)]
pub struct UpkeepProgress {
    measured: OnceLock<Measured>,
    points: AtomicU64,
    bytes: AtomicU64,
}

/// What a job is measured by.
#[derive(Debug)]
enum Measured {
    /// The points that it has copied.
    Points,
    /// What it asks of its vault.
    Requests { meter: TrafficMeter, expected: Option<Expected> },
}

impl UpkeepProgress {
    /// As it is told.
    pub fn told(&self) -> Progress {
        match self.measured.get() {
            None => Progress::default(),
            Some(Measured::Points) => Progress {
                entries: self.points.load(Ordering::Relaxed),
                read_bytes: self.bytes.load(Ordering::Relaxed),
                counted: Counted::Points,
                ..Progress::default()
            },
            Some(Measured::Requests { meter, expected }) => {
                Progress { expected: *expected, ..meter.progress() }
            }
        }
    }

    /// The job begins, and is measured by the points that are copied.
    fn count_points(&self) {
        let _ = self.measured.set(Measured::Points);
    }

    /// The job begins, and is measured by what it asks of its vault.
    fn count_requests(&self, meter: TrafficMeter, expected: Option<Expected>) {
        let _ = self.measured.set(Measured::Requests { meter, expected });
    }

    fn set(&self, points: u64, bytes: u64) {
        self.points.store(points, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Does a job; blocking. Nothing else may be at work that [`Claims`] excludes.
pub fn run(engine: &Engine, job: &Upkeep, progress: &UpkeepProgress) -> Result<UpkeepReport, Failure> {
    let vaults = engine.vaults();
    match job {
        Upkeep::Undelete { vault, points, source, hold } => {
            progress.count_requests(vaults.meter(vault)?, None);
            points::undelete(engine, vault, points, source.as_deref(), hold.as_deref())
        }
        Upkeep::Release { vault, points } => points::release(engine, vault, points),
        Upkeep::Repair { vault, reads_all, from, drops_damaged } => {
            repair::repair(engine, vault, *reads_all, *drops_damaged, from, progress)
        }
        Upkeep::Copy { from, to, sources } => copy::copy(engine, from, to, sources, progress),
        Upkeep::TakeCustody { vault, recovery } => keys::take_custody(vaults, vault, recovery.as_ref()),
        Upkeep::AddKey { vault, holder, to } => keys::add(vaults, vault, holder, to),
        Upkeep::RemoveKey { vault, holder } => keys::remove(vaults, vault, holder),
        Upkeep::RotateKeys { recovery, recipients, old } => {
            keys::rotate(vaults, recovery.as_ref(), recipients, *old)
        }
    }
}

/// What a job is called in messages: as one types it.
pub fn name_of(job: &Upkeep) -> String {
    match job {
        Upkeep::Undelete { vault, .. } => format!("vault undelete {vault}"),
        Upkeep::Release { vault, .. } => format!("vault release {vault}"),
        Upkeep::Repair { vault, .. } => format!("vault repair {vault}"),
        Upkeep::Copy { from, to, .. } => format!("vault copy {from} {to}"),
        Upkeep::TakeCustody { vault, .. } => format!("vault custodian take {vault}"),
        Upkeep::AddKey { vault, holder, .. } => format!("vault keys add {vault} {holder}"),
        Upkeep::RemoveKey { vault, holder } => format!("vault keys remove {vault} {holder}"),
        Upkeep::RotateKeys { .. } => "vault keys rotate".to_owned(),
    }
}
