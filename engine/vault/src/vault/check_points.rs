//! The part of `vault check` that concerns points: is each one whole, and is one missing that must be there?

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use backstay_core::fold::Cursor;
use backstay_core::id::{ChunkId, PackId, PointId};
use backstay_core::point::PointLink;
use backstay_core::run::{PartRef, Run};

use super::check_commits::{Sessions, check_writers};
use super::{Catalogue, CheckReport, PointObject, Vault};
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::read::ChunkReader;
use crate::table::{ChunkSource, LiveTable, PartCursor};

/// A point that ought to count, and does not.
#[derive(Debug, Clone)]
pub enum Uncounted {
    /// It is there, and a point is gone on which it builds.
    Broken {
        /// The point.
        point: Arc<PointObject>,
        /// The one that is gone.
        missing: PointId,
    },
    /// It is gone, and the layout accepts it.
    Accepted(PointId),
    /// It is gone, and the newest head names it.
    OfHead(PointId),
}

impl Uncounted {
    /// Its id.
    pub fn point(&self) -> PointId {
        match self {
            Self::Broken { point, .. } => point.link.point,
            Self::Accepted(point) | Self::OfHead(point) => *point,
        }
    }
}

/// What is wrong with it, to be said after its name.
impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { missing, .. } => {
                write!(f, "cannot be restored: point {missing}, which it builds on, is missing")
            }
            Self::Accepted(_) => f.write_str("is missing, which the layout names"),
            Self::OfHead(_) => f.write_str("is missing, which the newest head names"),
        }
    }
}

impl Vault {
    /// Checks all points of all sources. `packs` are those that are there.
    pub(super) fn check_points(
        self: &Arc<Self>,
        catalogues: &[Catalogue],
        packs: &HashSet<PackId>,
        sessions: &Sessions,
        report: &mut CheckReport,
    ) -> Result<(), VaultError> {
        for catalogue in catalogues {
            check_writers(catalogue, sessions, report);
            for left_out in &catalogue.left_out {
                report.add(format!("source {}", catalogue.source), left_out);
            }
            self.check_runs(catalogue, packs, report)?;
            self.check_missing(catalogue, report)?;
        }
        Ok(())
    }

    fn check_runs(
        self: &Arc<Self>,
        catalogue: &Catalogue,
        packs: &HashSet<PackId>,
        report: &mut CheckReport,
    ) -> Result<(), VaultError> {
        let mut runs = CheckedRuns::default();
        for point in catalogue.points() {
            let stack = catalogue.stack_of(point.link);
            let lacking = match stack.and_then(|stack| runs.check(self, &stack, packs)) {
                Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                Err(error) => vec![error.to_string()],
                Ok(lacking) => lacking,
            };
            match lacking.is_empty() {
                true => report.good_points += 1,
                false => report.bad_points += 1,
            }
            lacking.into_iter().for_each(|wrong| report.add(describe(point), wrong));
        }
        Ok(())
    }

    fn check_missing(&self, catalogue: &Catalogue, report: &mut CheckReport) -> Result<(), VaultError> {
        let of_source = format!("source {}", catalogue.source);
        for uncounted in self.uncounted(catalogue)? {
            report.bad_points += 1;
            match &uncounted {
                Uncounted::Broken { point, .. } => report.add(describe(point), format!("it {uncounted}")),
                gone => report.add(&of_source, format!("point {} {gone}", gone.point())),
            }
        }
        Ok(())
    }

    /// Points that do not count because one that they build on is gone, and points that the layout or the newest
    /// head speaks of and that are gone.
    pub fn uncounted(&self, catalogue: &Catalogue) -> Result<Vec<Uncounted>, VaultError> {
        let broken = catalogue.broken();
        let broken = broken.map(|(point, missing)| Uncounted::Broken { point: Arc::clone(point), missing });
        let accepted = accepted_and_missing(catalogue).map(|link| Uncounted::Accepted(link.point));
        let of_head = self.head_without_point(catalogue)?.map(Uncounted::OfHead);
        Ok(broken.chain(accepted).chain(of_head).collect())
    }

    /// The point of the newest head, when it is not there and was not dropped. Not of a head that is older than a point that counts:
    /// what it names may have been dropped long ago, where a custodian could not delete it then and newer heads went with what they
    /// named, or were not put.
    pub(super) fn head_without_point(&self, catalogue: &Catalogue) -> Result<Option<PointId>, VaultError> {
        let newest = catalogue.points().iter().map(|point| point.common.sequence).max().unwrap_or(0);
        let head = catalogue.head.as_ref().filter(|(_, head)| head.sequence >= newest);
        let targets = head.into_iter().flat_map(|(_, head)| &head.targets);
        let Some(target) = targets.into_iter().find(|target| target.vault == self.id()) else {
            return Ok(None);
        };
        if catalogue.has_object(target.point) {
            return Ok(None);
        }
        let dropped =
            catalogue.layout.iter().flat_map(|layout| &layout.dropped).any(|link| link.point == target.point);
        // A commit may have ended after the points were listed and before the heads were.
        let is_new = !dropped && self.catalogue(catalogue.source)?.has_object(target.point);
        Ok((!dropped && !is_new).then_some(target.point))
    }
}

/// Points that the layout accepts and that are not there.
fn accepted_and_missing(catalogue: &Catalogue) -> impl Iterator<Item = PointLink> {
    let there = catalogue.points().iter().chain(catalogue.partial_points()).map(|point| point.link);
    let dropped = catalogue.layout.iter().flat_map(|layout| &layout.dropped).copied();
    let known: HashSet<PointLink> = there.chain(dropped).collect();
    let accepted = catalogue.layout.iter().flat_map(|layout| &layout.accepted).map(|accepted| accepted.link);
    accepted.filter(move |link| !known.contains(link))
}

fn describe(point: &PointObject) -> String {
    format!("{} {}", point.common.source_name, point.link.point)
}

/// So many missing chunks of one part of a run are told one by one: half a million may be.
const TOLD_MAX: usize = 16;

/// What was found of the runs that several points share.
#[derive(Debug, Default)]
struct CheckedRuns {
    parts: HashMap<ChunkId, Vec<String>>,
}

impl CheckedRuns {
    fn check(
        &mut self,
        vault: &Arc<Vault>,
        stack: &[Run],
        packs: &HashSet<PackId>,
    ) -> Result<Vec<String>, VaultError> {
        let mut lacking = Vec::new();
        for part in stack.iter().flat_map(|run| &run.parts) {
            let known = self.parts.get(&part.root).cloned();
            let found = match known {
                Some(found) => found,
                None => {
                    let found = match check_part(vault, part, packs) {
                        Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                        Err(error) => vec![error.to_string()],
                        Ok(found) => found,
                    };
                    self.parts.insert(part.root, found.clone());
                    found
                }
            };
            lacking.extend(found);
        }
        Ok(lacking)
    }
}

fn check_part(
    vault: &Arc<Vault>,
    part: &PartRef,
    packs: &HashSet<PackId>,
) -> Result<Vec<String>, VaultError> {
    let reader = ChunkReader::new(Arc::clone(vault));
    let mut cursor = PartCursor::open(reader.clone(), part, b"").map_err(VaultError::from)?;
    let mut entries = 0u64;
    while cursor.advance().map_err(VaultError::from)? {
        entries += 1;
    }
    let (mut lacking, mut more) = (Vec::new(), 0u64);
    if entries != part.entries {
        lacking.push(format!("a run has {entries} entries, {} were promised", part.entries));
    }
    for piece in &cursor.root().live {
        let plain = reader.fetch_meta(&[piece.chunk])?.pop().unwrap_or_default();
        let rows = LiveTable::decode_piece(&plain)
            .map_err(|cause: Malformed| VaultError::Table(cause.to_string()))?;
        for row in rows {
            let there = vault.places(&row.chunk)?.iter().any(|place| packs.contains(&place.pack));
            if !there && lacking.len() >= TOLD_MAX {
                more += 1;
            } else if !there {
                lacking.push(format!("chunk {} is missing, {} bytes of it are needed", row.chunk, row.bytes));
            }
        }
    }
    if more > 0 {
        lacking.push(format!("{more} more of its chunks are missing"));
    }
    Ok(lacking)
}
