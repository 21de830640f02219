//! Points that retention has dropped, brought back; and points that are held, let go.

use backstay_core::id::{PointId, SourceId};
use backstay_vault::vault::Undeleted;
use backstay_wire::upkeep::{ReleaseReport, UndeleteReport, UndeletedPoint, UpkeepReport};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::vaults::Absent;

pub(super) fn undelete(
    engine: &Engine,
    vault: &str,
    typed: &[String],
    source: Option<&str>,
    hold: Option<&str>,
) -> Result<UpkeepReport, Failure> {
    let ring = engine.vaults().open(vault, Absent::Refuse)?.ring().clone();
    let source = source.map(|name| ring.source_id(name));
    let wanted = |of: SourceId, point| source.is_none_or(|source| source == of) && is_meant(typed, point);
    let back = engine.care().with_custodian(vault, |custodian| Ok(custodian.undelete(&wanted, hold)?))?;
    let points = back.into_iter().map(undeleted).collect();
    Ok(UpkeepReport::Undeleted(UndeleteReport { points, ..UndeleteReport::default() }))
}

pub(super) fn release(engine: &Engine, vault: &str, typed: &[String]) -> Result<UpkeepReport, Failure> {
    let wanted = |_: SourceId, point| is_meant(typed, point);
    let released = engine.care().with_custodian(vault, |custodian| Ok(custodian.release(&wanted)?))?;
    let points = released.iter().map(|link| link.point.to_string()).collect();
    Ok(UpkeepReport::Released(ReleaseReport { points, more: 0 }))
}

/// Whether a point is meant by ids, or how these begin. None stand for all.
fn is_meant(typed: &[String], point: PointId) -> bool {
    let point = point.to_string();
    typed.is_empty() || typed.iter().any(|typed| point.starts_with(typed.as_str()))
}

fn undeleted(point: Undeleted) -> UndeletedPoint {
    UndeletedPoint {
        source: point.source_name,
        point: point.link.point.to_string(),
        time: point.time.to_string(),
        failure: point.failure,
    }
}
