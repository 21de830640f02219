//! What a vault has to restore, without a configuration that says what there should be: every source, with the point that is asked
//! for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::config::SourceName;
use backstay_core::id::SourceId;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{PointObject, Vault};

use super::plan::SourceFacts;
use super::record::Place;
use crate::cli::choose::{Asked, Held, find, warn_of_uncounted};
use crate::failure::Failure;
use crate::terminal::remark;

/// All that there is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sources: Vec<FoundSource>,
    /// Those that have no point that was asked for: they may not have been there by then. Each with its node.
    pub(super) later: Vec<(String, String)>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
    /// Of these, what is kept of the configuration: the node, and why.
    pub(super) fleet_problems: Vec<(String, String)>,
}

/// A source and its point.
#[derive(Debug)]
pub(super) struct FoundSource {
    pub(super) name: SourceName,
    pub(super) held: Held,
    pub(super) point: Arc<PointObject>,
    /// The node that has captured it: by the key that has signed it, and not by what it says.
    pub(super) node: String,
    /// What that node calls itself in the point: another name where it was renamed and has kept its key.
    pub(super) calls_itself: String,
}

enum Looked {
    Source(Box<FoundSource>),
    /// Why, and whose it is.
    Later(String, String),
}

impl Found {
    /// Looks at all sources of a vault.
    pub(super) fn in_vault(vault: &Arc<Vault>, place: &str, asked: &Asked) -> Result<Self, Failure> {
        let mut found =
            Self { sources: Vec::new(), later: Vec::new(), problems: Vec::new(), fleet_problems: Vec::new() };
        let fleet_sources: Vec<(SourceId, &str)> = vault
            .trust()
            .nodes
            .iter()
            .map(|node| (format!("{}.{}", SourceName::FLEET, node.name), node.name.as_str()))
            .map(|(source, node)| (vault.ring().source_id(&source), node))
            .collect();
        for id in vault.sources()? {
            match of_source(vault, place, id, asked) {
                Ok(Looked::Source(source)) => found.sources.push(*source),
                Ok(Looked::Later(why, node)) => found.later.push((why, node)),
                Err(failure) => {
                    if let Some((_, node)) = fleet_sources.iter().find(|(known, _)| *known == id) {
                        found.fleet_problems.push(((*node).to_owned(), failure.message.clone()));
                    }
                    found.problems.push(failure.message);
                }
            }
        }
        // After the points, whose chunks may be in newer objects.
        vault.refresh_index(None)?;
        Ok(found)
    }

    /// The nodes whose sources these are.
    pub(super) fn nodes(&self) -> BTreeSet<String> {
        self.sources.iter().map(|source| source.node.clone()).collect()
    }

    /// What there is of each node, in words.
    pub(super) fn told(&self) -> String {
        let told = self.nodes().into_iter().map(|node| {
            let of_node = || self.sources.iter().filter(|source| source.node == node);
            let newest = of_node().map(|source| source.point.common.capture_start).max();
            let (fleet, data): (Vec<_>, Vec<_>) =
                of_node().partition(|source| source.name.as_fleet_of().is_some());
            let what = match (data.len(), fleet.is_empty()) {
                (0, _) => "its configuration alone".to_owned(),
                (sources, true) => format!("{sources} sources, no configuration"),
                (sources, false) => format!("{sources} sources and its configuration"),
            };
            let newest = newest.map_or_else(String::new, |time| format!(", the newest of {time}"));
            format!("{node} ({what}{newest})")
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// What a node calls itself since a time that is later than that of its configuration here, where it was renamed then and has kept
    /// its key: the vault knows it by its old name, and has not taken its configuration under the new one.
    pub(super) fn renamed_since(&self, fleet: &FoundSource) -> Option<(&str, Timestamp)> {
        let others = self.sources.iter().filter(|source| source.node == fleet.node);
        let data = others.filter(|source| source.name.as_fleet_of().is_none());
        let newest = data.max_by_key(|source| source.point.common.capture_start)?;
        let (time, before) = (newest.point.common.capture_start, fleet.point.common.capture_start);
        (newest.calls_itself != fleet.node && time > before).then_some((newest.calls_itself.as_str(), time))
    }

    /// The nodes, by the names that their keys have in the vault, that call themselves by this one.
    pub(super) fn who_call_themselves(&self, name: &str) -> BTreeSet<&str> {
        let so_called = self.sources.iter().filter(|source| source.calls_itself == name);
        so_called.map(|source| source.node.as_str()).collect()
    }
}

fn of_source(vault: &Arc<Vault>, place: &str, id: SourceId, asked: &Asked) -> Result<Looked, Failure> {
    let failed = |why: String| Failure::failed(format!("a source of the vault ({id}): {why}"));
    let catalogue = vault.catalogue(id).map_err(|error| failed(error.to_string()))?;
    for left_out in &catalogue.left_out {
        remark(&format!("warning: {left_out}"));
    }
    warn_of_uncounted(&vault.uncounted(&catalogue)?, place);
    let Some(point) = find(&catalogue, asked)? else {
        let Some(newest) = catalogue.newest() else {
            return Err(failed("it has no point that counts; `backstay vault check` says why".to_owned()));
        };
        let why = format!(
            "{} has no point that was asked for; its newest is of {}",
            newest.common.source_name, newest.common.capture_start
        );
        return Ok(Looked::Later(why, author(vault, newest).map_err(failed)?));
    };
    // It becomes the name of a directory.
    let name = point.common.source_name.parse().map_err(|error| failed(format!("{error}")))?;
    let node = author(vault, &point).map_err(failed)?;
    let held = Held { name: place.to_owned(), vault: Arc::clone(vault), catalogue };
    let calls_itself = point.common.node.clone();
    Ok(Looked::Source(Box::new(FoundSource { name, held, point, node, calls_itself })))
}

fn author(vault: &Vault, point: &PointObject) -> Result<String, String> {
    let node = vault.trust().node(&point.author);
    node.map(|node| node.name.clone())
        .ok_or_else(|| format!("no node is known that signs with {}", point.author))
}

impl FoundSource {
    /// What decides where it goes.
    pub(super) fn facts(&self) -> SourceFacts {
        let root = self.point.common.facts.root_path.as_deref();
        SourceFacts {
            name: self.name.clone(),
            kind: self.point.common.kind.clone(),
            root: root.map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))),
        }
    }

    /// What it is noted by when it is restored to this place.
    pub(super) fn place_at(&self, to: &Path) -> Place {
        Place {
            vault: self.held.vault.id().to_string(),
            source: self.name.to_string(),
            to: to.as_os_str().as_bytes().to_vec(),
        }
    }

    /// The same source as of the point that an earlier run has begun with, as long as that counts: captures may go on.
    pub(super) fn begun_at(self, point: &str) -> Self {
        let begun =
            self.held.catalogue.points().iter().find(|one| one.common.id.to_string() == point).cloned();
        let begun = begun.filter(|begun| {
            author(&self.held.vault, begun).is_ok_and(|node| node == self.node)
                && begun.common.facts.root_path == self.point.common.facts.root_path
        });
        match begun {
            Some(point) => Self { point, ..self },
            None => self,
        }
    }

    /// The same as the vault is now: others may have taken hours meanwhile.
    pub(super) fn anew(&mut self) -> Result<(), Failure> {
        let vault = &self.held.vault;
        self.held.catalogue = vault.catalogue(self.point.common.source)?;
        vault.refresh_index(None)?;
        Ok(())
    }
}
