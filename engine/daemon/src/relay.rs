//! Copying on, by the hub of a vault, of what another node has captured to this one: what is newer than what the vault has, and what
//! follows from it for the node whose it is. One source after the other: none waits for what is wrong with another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{Relay, SourceName};
use backstay_core::id::SourceId;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{Copied, Vault};
use backstay_wire::peer::{NewestThere, Standing};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::fleet::Standings;
use crate::flow_proofs::FlowProofs;
use crate::upkeep::{CopyChoice, copy_source};
use crate::vaults::{Absent, Vaults};

/// After so long it ends with the source at which it is, so that who waits to care for the vaults gets his turn.
const TURN: Duration = Duration::from_secs(30);

/// Which sources are looked at in the vault itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Those of which there is something new, or with which something was wrong; a request to the vault may cost money.
    New,
    /// All: it may have lost something, and others may have proven something.
    All,
}

/// What came of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Points that were copied.
    pub points: u64,
    /// Whether something was wrong with a source: it is tried again.
    pub has_failed: bool,
    /// Whether there are sources that it has not come to.
    pub has_more: bool,
}

/// The sources of a relay by their ids.
pub fn sources(vaults: &Vaults, relay: &Relay) -> Result<HashMap<SourceId, SourceName>, Failure> {
    let id = |name: &SourceName| Ok((vaults.source_id(name.as_str())?, name.clone()));
    relay.sources.iter().map(id).collect()
}

/// Copies what is new, once, and notes how each source stands. An error keeps all sources from going on. Blocks.
pub fn relay(engine: &Engine, relay: &Relay, standings: &Standings, look: Look) -> Result<Relayed, Failure> {
    let sources = sources(engine.vaults(), relay)?;
    standings.expect(relay, &sources);
    let held = open_held(engine.vaults(), relay)?;
    let (mut relayed, began) = (Relayed::default(), Instant::now());
    let mut to = None;
    for (source, name) in &sources {
        if began.elapsed() >= TURN {
            relayed.has_more = true;
            break;
        }
        if look == Look::New && is_there_already(held.as_deref(), relay, standings, *source)? {
            continue;
        }
        let to = match &to {
            Some(open) => open,
            None => to.insert(open_target(engine.vaults(), relay)?),
        };
        let way = Way { from: held.as_ref(), to, engine, relay, standings };
        match way.copy(*source) {
            Ok((points, None)) => relayed.points += points,
            Ok((points, Some(problem))) => {
                tracing::warn!(source = %name, vault = %relay.to, "not copied on as it should be: {problem}");
                relayed.points += points;
                relayed.has_failed = true;
            }
            Err(failure) => {
                tracing::warn!(source = %name, vault = %relay.to, class = failure.class, "not copied on: {failure}");
                standings.fail(relay, *source, &failure.message);
                relayed.has_failed = true;
            }
        }
    }
    Ok(relayed)
}

/// What is held, where there ever was anything.
fn open_held(vaults: &Arc<Vaults>, relay: &Relay) -> Result<Option<Arc<Vault>>, Failure> {
    if !vaults.holds_for(&relay.writer) {
        return Err(Failure::usage(format!(
            "nothing is held for {writer} here, from where it would be copied on: add [hold.{writer}] with vault = {{ path = \"…\" }} to node.toml, and restart the daemon",
            writer = relay.writer
        )));
    }
    let name = relay.from.to_string();
    let opening = name.clone();
    match vaults.patiently(&name, move |vaults| vaults.open(&opening, Absent::Refuse)) {
        // Nothing was captured yet. One that was there before and is not now is an error.
        Err(failure) if failure.class == "no_vault" && !vaults.was_seen(&name) => Ok(None),
        opened => opened.map(Some),
    }
}

fn open_target(vaults: &Arc<Vaults>, relay: &Relay) -> Result<Arc<Vault>, Failure> {
    let name = relay.to.to_string();
    let opening = name.clone();
    vaults.patiently(&name, move |vaults| vaults.open(&opening, Absent::Make))
}

/// Whether the newest point that is held is known to be in the vault; then it stands there as it does here, and that is noted.
fn is_there_already(
    held: Option<&Vault>,
    relay: &Relay,
    standings: &Standings,
    source: SourceId,
) -> Result<bool, Failure> {
    let Some(known) = standings.newest(relay, source) else { return Ok(false) };
    let Some(held) = held else { return Ok(false) };
    let catalogue = held.catalogue(source)?;
    let is_known = catalogue.newest().is_some_and(|newest| newest.link.point == known);
    if is_known {
        standings.moved(relay, source, catalogue.durable_until(held.id()));
    }
    Ok(is_known)
}

/// What is copied from, and to where.
struct Way<'e> {
    from: Option<&'e Arc<Vault>>,
    to: &'e Arc<Vault>,
    engine: &'e Engine,
    relay: &'e Relay,
    standings: &'e Standings,
}

impl Way<'_> {
    /// Copies what is to be copied of a source, and notes how it stands. How many points that were, and what was wrong.
    fn copy(&self, source: SourceId) -> Result<(u64, Option<String>), Failure> {
        // What has failed once is not newer any more. After a start, nobody knows.
        let choice = match self.standings.is_doubtful(self.relay, source) {
            true => CopyChoice::Missing,
            false => CopyChoice::Newer,
        };
        let copied = match self.from {
            Some(from) => copy_source(self.engine, (from, self.to), self.relay.to.as_str(), source, choice)?,
            None => Copied::default(),
        };
        let (standing, is_passed_over) = self.standing(source)?;
        let problem = problem_of(&copied).or_else(|| {
            is_passed_over.then(|| {
                "the vault has points with greater numbers, of another node or of this one before it was built anew; the next capture comes after them".to_owned()
            })
        });
        self.standings.set(self.relay, source, standing, problem.clone());
        Ok((copied.points, problem))
    }

    /// How a source stands in the vault, as that says itself; whether the newest point that is held is there and others come after it.
    /// Where it is the newest, the source stands there as it does here: that nothing has changed since is known here alone.
    fn standing(&self, source: SourceId) -> Result<(Standing, bool), Failure> {
        let there = self.to.catalogue(source)?;
        let held = self.from.map(|from| from.catalogue(source)).transpose()?;
        let newest = self.to.newest_settled(&there)?;
        let held_newest = held.as_ref().and_then(|held| held.newest()).map(|point| point.link.point);
        let is_whole = held_newest.is_some() && held_newest == newest.as_ref().map(|point| point.link.point);
        let until = match (self.from, &held) {
            (Some(from), Some(held)) if is_whole => held.durable_until(from.id()),
            _ => newest.as_ref().map(|point| point.common.complete_until()),
        };
        let is_passed_over = !is_whole && held_newest.is_some_and(|point| there.point(point).is_some());
        let newest = newest.map(|newest| NewestThere {
            id: (*newest.link.point.as_bytes()).into(),
            time_nanos: newest.common.capture_start.as_nanos(),
            number: there.greatest_sequence(),
        });
        let proofs = FlowProofs::in_vault(self.to, source).map(|proofs| proofs.told()).unwrap_or_default();
        let until_nanos = until.map(Timestamp::as_nanos);
        Ok((Standing { until_nanos, newest, proofs, problem: None }, is_passed_over))
    }
}

/// What kept points from being copied.
fn problem_of(copied: &Copied) -> Option<String> {
    match (copied.failures.first(), copied.more_failures) {
        (Some((_, point, why)), _) => Some(format!("point {point} was not copied: {why}")),
        (None, 0) => None,
        (None, _) => Some("what is held of it cannot be read: `backstay vault check` says more".to_owned()),
    }
}
