//! Copying of points between two vaults of a domain.

use std::sync::Arc;

use backstay_core::id::{PointId, SourceId};
use backstay_vault::error::VaultError;
use backstay_vault::vault::{Copied, Pass, Vault};
use backstay_wire::upkeep::{CopyFailure, CopyReport, UpkeepReport};

use super::UpkeepProgress;
use crate::clock::SystemClock;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::vaults::Absent;

pub(super) fn copy(
    engine: &Engine,
    from_name: &str,
    to_name: &str,
    sources: &[String],
    progress: &UpkeepProgress,
) -> Result<UpkeepReport, Failure> {
    let from = engine.vaults().open(from_name, Absent::Refuse)?;
    let to = engine.vaults().open(to_name, Absent::Make)?;
    let wanted_ids = ids_of(&from, from_name, sources)?;
    let wanted = |source| wanted_ids.is_empty() || wanted_ids.contains(&source);
    progress.count_points();
    let tell = |copied: &Copied| progress.set(copied.points, copied.bytes);
    let copying = engine.care().copying(from, to, to_name, &SystemClock);
    let copied = until_decided(engine, to_name, &|| copying.run(&wanted, &tell))?;
    Ok(UpkeepReport::Copied(CopyReport {
        from: from_name.to_owned(),
        to: to_name.to_owned(),
        points: copied.points,
        already: copied.already,
        records: copied.records,
        bytes: copied.bytes,
        failures: copied.failures.into_iter().map(failure).collect(),
        more_failures: copied.more_failures,
    }))
}

/// Which points of a source are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyChoice {
    /// All that are not there.
    Missing,
    /// Those that came after the newest one that is there.
    Newer,
}

/// Copies one source from one vault to another.
pub fn copy_source(
    engine: &Engine,
    (from, to): (&Arc<Vault>, &Arc<Vault>),
    to_name: &str,
    source: SourceId,
    choice: CopyChoice,
) -> Result<Copied, Failure> {
    let copying = engine.care().copying(Arc::clone(from), Arc::clone(to), to_name, &SystemClock);
    let wanted = |of| of == source;
    let run = || match choice {
        CopyChoice::Missing => copying.run(&wanted, &|_| {}),
        CopyChoice::Newer => copying.run_newer(&wanted, &|_| {}),
    };
    until_decided(engine, to_name, &run)
}

/// Copies again where a point was there on which no pass had decided.
fn until_decided(
    engine: &Engine,
    to_name: &str,
    run: &dyn Fn() -> Result<Copied, VaultError>,
) -> Result<Copied, Failure> {
    let mut copied = run()?;
    if copied.undecided > 0 {
        // Some of that may be of captures that were just being committed.
        copied = copied.and_then(run()?);
    }
    if copied.undecided > 0 && decided(engine, to_name)? {
        copied = copied.and_then(run()?);
    }
    Ok(copied)
}

/// The ids of these sources, of all of which the vault must have something: a name that was mistyped would copy nothing, and
/// look as if there were nothing to copy.
fn ids_of(vault: &Vault, vault_name: &str, sources: &[String]) -> Result<Vec<SourceId>, Failure> {
    let known = vault.sources()?;
    let ids: Vec<SourceId> = sources.iter().map(|name| vault.ring().source_id(name)).collect();
    match sources.iter().zip(&ids).find(|(_, id)| !known.contains(id)) {
        None => Ok(ids),
        Some((name, _)) => Err(Failure::failed(format!(
            "vault {vault_name} has no points of a source {name}: `backstay points --from {vault_name}` lists what it has; nothing was copied"
        ))),
    }
}

/// A copy that broke off has left points on which a pass has to decide; whether one could be made here.
fn decided(engine: &Engine, name: &str) -> Result<bool, Failure> {
    match engine.care().with_custodian(name, |custodian| Ok(custodian.collect()?)) {
        Ok(pass) => Ok(matches!(pass, Pass::Done(_))),
        Err(failure) if failure.class == "not_custodian" => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn failure((source, point, why): (String, PointId, String)) -> CopyFailure {
    CopyFailure { source, point: point.to_string(), why }
}
