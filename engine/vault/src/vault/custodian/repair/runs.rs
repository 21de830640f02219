//! Runs whose entries are all there, but not the tables of what they refer to: written anew, and placed by a layout.

use std::sync::Arc;

use backstay_core::layout::{Accepted, PlacedRun};
use backstay_core::retention::retention_time;
use backstay_core::run::Run;

use super::super::super::{Catalogue, PointObject, WriterView};
use super::super::Custodian;
use super::super::merge::write_merged;
use super::Repaired;
use super::chunks::Missing;
use crate::error::VaultError;
use crate::write::ChunkWriter;

impl Custodian<'_> {
    /// Whether there were any.
    pub(super) fn mend_runs(&mut self, missing: &Missing, done: &mut Repaired) -> Result<bool, VaultError> {
        if missing.tables.is_empty() {
            return Ok(false);
        }
        for catalogue in self.vault.catalogues()? {
            self.mend_runs_of(&catalogue, missing, done)?;
        }
        Ok(true)
    }

    fn mend_runs_of(
        &mut self,
        catalogue: &Catalogue,
        missing: &Missing,
        done: &mut Repaired,
    ) -> Result<(), VaultError> {
        let is_damaged = |run: &Run| run.parts.iter().any(|part| missing.tables.contains(&part.root));
        let mut layout = catalogue.layout.clone().unwrap_or_default();
        let new: Vec<&Arc<PointObject>> = catalogue
            .points()
            .iter()
            .filter(|point| !catalogue.accepts(point.link) && is_damaged(&point.own_run().run))
            .collect();
        let places: Vec<usize> =
            (0..layout.runs.len()).filter(|place| is_damaged(&layout.runs[*place].run)).collect();
        if new.is_empty() && places.is_empty() {
            return Ok(());
        }
        for place in places {
            if let Some(run) = self.written_anew(catalogue, &layout.runs[place], missing)? {
                done.mended(format!("source {}: a run was written anew", catalogue.source));
                layout.runs[place].run = run;
            }
        }
        for point in new {
            let own = point.own_run();
            let Some(run) = self.written_anew(catalogue, &own, missing)? else { continue };
            done.mended(format!(
                "{}: the run of {} was written anew",
                point.common.source_name, point.link.point
            ));
            let time = retention_time(None, point.common.capture_start, self.look.now());
            let accepted =
                Accepted { link: point.link, retention_time: time, holds: point.common.holds.clone() };
            let place = layout.accepted.partition_point(|known| known.retention_time <= time);
            layout.accepted.insert(place, accepted);
            layout.runs.push(PlacedRun { run, ..own });
        }
        self.put_next_layout(catalogue, layout)
    }

    /// `None` where the kind is not known, or more than the tables cannot be read.
    fn written_anew(
        &self,
        catalogue: &Catalogue,
        placed: &PlacedRun,
        missing: &Missing,
    ) -> Result<Option<Run>, VaultError> {
        let known = catalogue.points().first().map(|point| point.common.kind.clone());
        let Some(rules) = known.and_then(|kind| self.look.rules(&kind)) else { return Ok(None) };
        if placed.run.parts.iter().any(|part| missing.unreadable.contains(&part.root)) {
            return Ok(None);
        }
        let Some(collections) = self.vault.collections()? else { return Ok(None) };
        let collection = collections.newest();
        let view = WriterView::of_custodian(self.vault.clone(), collections);
        let mut chunks = ChunkWriter::new(self.pool.clone(), self.vault.ring().clone(), vec![view]);
        let run = write_merged(&self.reader, &mut chunks, &*rules, std::slice::from_ref(&placed.run))?;
        let written = chunks.flush().pop().ok_or(VaultError::GivenUp)??;
        self.put_index(collection, written.packs)?;
        Ok(Some(run))
    }
}
