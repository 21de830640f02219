//! Copying on, by the hub of a vault, of what another node has captured to this one: only what is newer than what the vault has,
//! and what follows from it for the node whose it is.

use std::collections::HashMap;

use backstay_core::config::{Relay, SourceName};
use backstay_core::id::SourceId;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{Copied, Vault};
use backstay_wire::peer::{NewestThere, Standing};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::fleet::Standings;
use crate::flow_proofs::FlowProofs;
use crate::upkeep::copy_newer;
use crate::vaults::{Absent, Vaults};

/// Which sources are looked at in the vault itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Those of which there is something new; a request to the vault may cost money.
    New,
    /// All: it may have lost something, and others may have proven something.
    All,
}

/// Copies what is new, once, and notes how each source stands. How many points that were; an error keeps all sources from going
/// on. Blocks.
pub fn relay(engine: &Engine, relay: &Relay, standings: &Standings, look: Look) -> Result<u64, Failure> {
    let vaults = engine.vaults();
    let sources = sources(vaults, relay)?;
    let outcome = copy(engine, relay, standings, look, &sources);
    if let Err(failure) = &outcome {
        standings.fail(relay, &sources, &failure.message);
    }
    outcome
}

/// The sources of a relay by their ids.
fn sources(vaults: &Vaults, relay: &Relay) -> Result<HashMap<SourceId, SourceName>, Failure> {
    let id = |name: &SourceName| Ok((vaults.source_id(name.as_str())?, name.clone()));
    relay.sources.iter().map(id).collect()
}

fn copy(
    engine: &Engine,
    relay: &Relay,
    standings: &Standings,
    look: Look,
    sources: &HashMap<SourceId, SourceName>,
) -> Result<u64, Failure> {
    if !engine.vaults().holds_for(&relay.writer) {
        return Err(Failure::usage(format!(
            "nothing is held for {writer} here, from where it would be copied on: add [hold.{writer}] with vault = {{ path = \"…\" }} to node.toml, and restart the daemon",
            writer = relay.writer
        )));
    }
    let (from_name, to_name) = (relay.from.to_string(), relay.to.to_string());
    let opened =
        engine.vaults().patiently(&from_name.clone(), move |vaults| vaults.open(&from_name, Absent::Refuse));
    let from = match opened {
        // Nothing was captured yet.
        Err(failure) if failure.class == "no_vault" => return Ok(0),
        opened => opened?,
    };
    let mut new = Vec::new();
    for (source, name) in sources {
        let held = from.catalogue(*source)?;
        let known = standings.newest(relay, *source);
        match held.newest() {
            Some(newest) if look == Look::New && known == Some(newest.link.point) => {
                let until = held.durable_until(from.id());
                let standing = standings.of(&relay.writer, relay.to.as_str(), *source).unwrap_or_default();
                let until_nanos = until.map(Timestamp::as_nanos).max(standing.until_nanos);
                standings.set(relay, (*source, name), Standing { until_nanos, problem: None, ..standing });
            }
            Some(_) => new.push(*source),
            None => standings.set(relay, (*source, name), Standing::default()),
        }
    }
    if new.is_empty() {
        return Ok(0);
    }
    let opening = to_name.clone();
    let to = engine.vaults().patiently(&to_name, move |vaults| vaults.open(&opening, Absent::Make))?;
    let copied = copy_newer(engine, &from, &to, relay.to.as_str(), &|source| new.contains(&source))?;
    for (source, point, why) in &copied.failures {
        tracing::warn!(source, %point, vault = %relay.to, "a point was not copied on: {why}");
    }
    for source in new {
        let name = &sources[&source];
        let problem = problem_of(&copied, name.as_str());
        standings.set(relay, (source, name), Standing { problem, ..standing(&from, &to, source)? });
    }
    Ok(copied.points)
}

/// What kept a point of this source from being copied.
fn problem_of(copied: &Copied, source_name: &str) -> Option<String> {
    let (_, point, why) = copied.failures.iter().find(|(of, _, _)| of == source_name)?;
    Some(format!("point {point} was not copied: {why}"))
}

/// How a source stands in the vault, as that says itself. Where the newest point is there it stands as it does here: that nothing
/// has changed since is known here alone.
fn standing(from: &Vault, to: &Vault, source: SourceId) -> Result<Standing, Failure> {
    let (held, there) = (from.catalogue(source)?, to.catalogue(source)?);
    let newest = there.newest();
    let is_whole = match (held.newest(), newest) {
        (Some(held), Some(newest)) => {
            held.link.point == newest.link.point && to.is_settled(&there, newest)?
        }
        _ => false,
    };
    let until = if is_whole { held.durable_until(from.id()) } else { there.durable_until(to.id()) };
    let newest = newest.map(|newest| NewestThere {
        id: (*newest.link.point.as_bytes()).into(),
        time_nanos: newest.common.capture_start.as_nanos(),
    });
    let proofs = FlowProofs::in_vault(to, source).map(|proofs| proofs.told()).unwrap_or_default();
    Ok(Standing { until_nanos: until.map(Timestamp::as_nanos), newest, proofs, problem: None })
}
