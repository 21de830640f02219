//! Mending of a vault, with what others have of what is missing.

use backstay_vault::vault::{Loss, RepairMeans};
use backstay_wire::progress::{Certainty, Expected};
use backstay_wire::upkeep::{LossReport, RepairReport, UpkeepReport};

use super::UpkeepProgress;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::vaults::Absent;

/// The class of a failure before anything was done.
pub const NOT_BEGUN: &str = "not_begun";

pub(super) fn repair(
    engine: &Engine,
    vault: &str,
    reads_all: bool,
    drops_damaged: bool,
    from: &[String],
    progress: &UpkeepProgress,
) -> Result<UpkeepReport, Failure> {
    let vaults = engine.vaults();
    let open = |name: &str| vaults.open(name, Absent::Refuse).map_err(|failure| failure.of_class(NOT_BEGUN));
    let others = from.iter().map(|name| open(name));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    let totals = open(vault)?.totals();
    // Without that only what is suspect is read.
    let expected = reads_all.then_some(Expected {
        entries: None,
        bytes: Some(totals.data_pack_bytes.saturating_add(totals.meta_pack_bytes)),
        certainty: Certainty::Guessed,
    });
    progress.count_requests(vaults.meter(vault)?, expected);
    let bundle = vaults.bundle();
    let means = RepairMeans {
        reads_all,
        others: &others,
        bundle: bundle.as_ref(),
        drops_damaged,
        ..RepairMeans::default()
    };
    let repaired = engine.care().with_custodian(vault, |custodian| Ok(custodian.repair(&means)?))?;
    Ok(UpkeepReport::Repaired(RepairReport {
        vault: vault.to_owned(),
        mended: repaired.mended,
        more_mended: repaired.more_mended,
        losses: repaired.losses.into_iter().map(loss).collect(),
        more_losses: repaired.more_losses,
        chunks_fetched: repaired.chunks_fetched,
        records_salvaged: repaired.records_salvaged,
        chunks_lost: repaired.chunks_lost,
        points_lost: repaired.points_lost,
    }))
}

fn loss(loss: Loss) -> LossReport {
    let point = loss.point.map(|point| point.to_string());
    LossReport { source: loss.source_name, point, path: loss.path, why: loss.why }
}
