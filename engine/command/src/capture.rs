//! Capturing what a program writes: it is cut and stored while it comes, and becomes a point when the program has ended
//! well. Owns the order of these steps, and what counts as a change; sessions and commits are the vault's.
//!
//! There are no partial points, as captures of trees have them: what a program writes begins anew each time that it runs,
//! and nobody can tell beforehand whether it will be the same. So there is nothing to go on from. A capture that fails has
//! sent for nothing what was new; the custodian takes it away.

mod cutting;
mod problem;
mod run;

use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::digest::StateDigest;
use backstay_core::run::PartRef;
use backstay_files::capture::{CaptureProgress, CaptureSummary, Captured, Warnings};
use backstay_vault::error::VaultError;
use backstay_vault::targets::{CapturedState, Standing, Targets};
use backstay_vault::vault::Reading;
use backstay_vault::write::{ChunkWriter, CpuPool};

use self::cutting::Contents;
pub use self::problem::CaptureError;
use self::run::run_of;
use crate::program::Program;
use crate::row::{EncodedStdout, StdoutRow};

/// A capture whose rows are all in packs, or on their way.
struct Finished {
    chunks: ChunkWriter,
    found: CapturedState,
    summary: CaptureSummary,
    /// The run; none when nothing differs.
    run: Option<Vec<PartRef>>,
}

/// Runs the program and commits what it writes to all targets, or only a head when it is what it was.
pub fn capture(
    program: &Program,
    pool: &Arc<CpuPool>,
    targets: Targets,
    standing: &Standing,
    clock: &dyn Clock,
    progress: &CaptureProgress,
) -> Result<Captured, CaptureError> {
    match capture_to(program, pool, &targets, standing, clock, progress) {
        Ok(Finished { chunks, found, summary, run }) => {
            let rolled_back = targets.rolled_back().to_vec();
            let (_, results, seen) = targets.commit_final(chunks, run.as_deref(), &found, clock);
            Ok(Captured { summary, targets: results, seen, rolled_back })
        }
        Err(error) => {
            let failures = targets.give_up(clock);
            // A target that failed has the reason when the capture only says that it was given up.
            match (error, failures.into_iter().flatten().next()) {
                (CaptureError::Vault(VaultError::GivenUp), Some(reason)) => Err(reason.into()),
                (error, _) => Err(error),
            }
        }
    }
}

fn capture_to(
    program: &Program,
    pool: &Arc<CpuPool>,
    targets: &Targets,
    standing: &Standing,
    clock: &dyn Clock,
    progress: &CaptureProgress,
) -> Result<Finished, CaptureError> {
    // Before the program: one that is run for nothing may have cost its service much.
    let parent = parent_row(standing)?;
    let mut chunks = targets.chunk_writer(pool).ok_or(VaultError::GivenUp)?;
    progress.watch(chunks.meter());
    progress.saw_entry();
    // What is done while the program runs may be missing in what it writes.
    let start = clock.moment();
    let is_stopped = || progress.is_stopped();
    let contents = program.run(&is_stopped, |output| Contents::store(output, &chunks, progress))?;
    let (run, element) = match parent {
        // One that is to be held is made also of what is there.
        Some(parent) if is_as_before(&parent, &contents, &chunks) => {
            (targets.makes_a_point_anyhow().then(Vec::new), parent.element)
        }
        parent => {
            let rows = EncodedStdout::new(contents.size_bytes, contents.id(), &contents.pieces)?;
            let element = rows.element;
            (Some(run_of(rows, parent.map(|parent| parent.element), &mut chunks)?), element)
        }
    };
    let bytes = contents.size_bytes;
    let mut digest = StateDigest::empty();
    digest.add(&element);
    let (defects, whole_until) = (Vec::new(), None);
    let found = CapturedState { digest, entries: 1, bytes, defects, start: start.wall, whole_until };
    let changed = run.is_some();
    let warnings = Warnings::default();
    let summary = CaptureSummary { capture_start: start, whole_until, changed, entries: 1, bytes, warnings };
    Ok(Finished { chunks, found, summary, run })
}

/// The row of the point on which the capture builds. It is in the vault: there is no local state that could be lost.
fn parent_row(standing: &Standing) -> Result<Option<StdoutRow>, CaptureError> {
    let Some(parent) = &standing.parent else { return Ok(None) };
    let stack = standing.catalogue.stack(parent.link.point)?;
    Ok(Some(StdoutRow::read(&Reading::of_held_runs(&standing.vault, stack))?))
}

/// Whether the row before stands for this output, with contents that are there: what was lost has been put anew by now, and
/// where it has another name, or was sealed by a key that others may have, a new row refers to what is.
fn is_as_before(before: &StdoutRow, contents: &Contents, chunks: &ChunkWriter) -> bool {
    before.size_bytes == contents.size_bytes
        && before.content == contents.id()
        && before.references.iter().all(|reference| chunks.is_known(&reference.chunk))
}
