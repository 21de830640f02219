//! Where a capture begins: the local state of the point before, rebuilt from the vault when it is not at hand,
//! and what an interrupted capture has left.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::fold::Cursor;
use backstay_core::id::Element;
use backstay_core::point::Partial;
use backstay_core::run::{Change, PartRef, Run};
use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use backstay_vault::table::RunCursor;
use backstay_vault::targets::Standing;
use backstay_vault::vault::{PointObject, Reading, Vault};

use super::problem::CaptureError;
use super::{CaptureProgress, CaptureRun, identity_of, state_folder};
use crate::keys::{HeadKey, RowKey, is_further};
use crate::point_rows::{all_rows_of, rows_of};
use crate::row::{HeadRow, Restored, element};
use crate::state::{State, StateFacts, StateWriter};

/// Partial points older than this are not gone on from: what they have seen is too old.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// The state of a point: the local one, or a new one from the vault.
pub(super) fn state_of(
    states: &Path,
    standing: &Standing,
    point: &PointObject,
    progress: &CaptureProgress,
) -> Result<State, CaptureError> {
    let folder = state_folder(states, point.link.point);
    match State::open(&folder, point.link.point) {
        Ok(state) => return Ok(state),
        Err(error) if error.is_torn() => tracing::info!(%error, "rebuilding the local state from the vault"),
        Err(error) => return Err(error.into()),
    }
    let mut writer = StateWriter::create(&states.join("unfinished").join("rebuilt"))?;
    let stack = standing.catalogue.stack(point.link.point)?;
    let mut rows = all_rows_of(&Reading::of_held_runs(&standing.vault, stack));
    while let Some(row) = rows.next()? {
        progress.rebuilt_row();
        let head = HeadRow::decode(&row.value)?;
        let is_link = matches!(HeadKey::parse(&row.key)?, HeadKey::Link(_));
        let identity = identity_of(&head);
        for (key, value, identity) in std::iter::once((&row.key, &row.value, identity))
            .chain(row.further.iter().map(|(key, value)| (key, value, None)))
        {
            if is_link {
                writer.push_link(key, value, identity)?;
            } else {
                writer.push_path(key, value, identity)?;
            }
        }
    }
    let facts = StateFacts {
        point: point.link.point,
        scan_start: point.common.complete_until(),
        digest: point.common.digest.clone(),
        entries: point.common.entries,
        bytes: point.common.bytes,
    };
    Ok(writer.finish(facts, &folder)?)
}

impl CaptureRun<'_> {
    /// Takes over what an interrupted capture has committed. Returns the key up to which it came.
    pub(super) fn resume(&mut self, standing: &Standing) -> Result<Option<Vec<u8>>, CaptureError> {
        let Some((parts, partial, defects)) = self.targets.resume_from() else { return Ok(None) };
        if self.start.now.wall.duration_since(partial.capture_start) > PARTIAL_AGE_MAX {
            return Ok(None);
        }
        tracing::info!(capture = %partial.capture, "going on from a partial point");
        let (links, paths): (Vec<PartRef>, Vec<PartRef>) = parts
            .into_iter()
            .partition(|part| matches!(RowKey::parse(&part.last_key), Ok(key) if is_link(&key)));
        self.start.now = self.start.now.back_to(partial.capture_start);
        self.start.whole_until = self.start.whole_until.map(|until| until.min(partial.capture_start));
        self.warnings.take_over(&defects);
        self.sink.begin_state()?;
        self.take_over_paths(standing, &paths, &partial)?;
        self.take_over_digest(&standing.vault, &paths)?;
        self.take_over_links(&standing.vault, &links)?;
        self.parts = paths;
        Ok(Some(partial.resume_key))
    }

    /// Rows of paths up to the resume key: those of the point before, edited by the partial point.
    fn take_over_paths(
        &mut self,
        standing: &Standing,
        paths: &[PartRef],
        partial: &Partial,
    ) -> Result<(), CaptureError> {
        let parent = self.previous.map(|state| state.header().point);
        let mut stack = match parent {
            Some(parent) => standing.catalogue.stack(parent)?,
            None => Vec::new(),
        };
        if let Some(first) = paths.first() {
            debug_assert!(first.entries > 0, "parts have entries");
            stack.insert(0, Run { parts: paths.to_vec() });
        }
        let reading = Reading::of_held_runs(&standing.vault, stack);
        let mut rows = rows_of(&reading, crate::keys::PathKey::root().as_bytes());
        let mut named = HashSet::new();
        while let Some(row) = rows.next()? {
            if row.key > partial.resume_key {
                break;
            }
            self.progress.rebuilt_row();
            self.links.still_named(&row)?;
            if let Restored::Link(id) = HeadRow::decode(&row.value)?.restored {
                named.insert(id);
            }
            self.sink.take_over(row)?;
        }
        match self.previous {
            Some(previous) if !named.is_empty() => self.links.keep_known(previous, &named),
            _ => Ok(()),
        }
    }

    fn take_over_digest(&mut self, vault: &Arc<Vault>, paths: &[PartRef]) -> Result<(), CaptureError> {
        let mut cursor = RunCursor::new(ChunkReader::new(Arc::clone(vault)), paths, &[]);
        while cursor.advance().map_err(VaultError::from)? {
            self.progress.rebuilt_row();
            let entry = cursor.entry();
            let new: Option<Element> = match entry.change {
                Change::Put(value) if !is_further(entry.key) => Some(element(entry.key, value)?),
                _ => None,
            };
            self.sink.exchange(entry.replaced, new);
        }
        Ok(())
    }

    fn take_over_links(&mut self, vault: &Arc<Vault>, links: &[PartRef]) -> Result<(), CaptureError> {
        let run = Run { parts: links.to_vec() };
        let mut rows = all_rows_of(&Reading::of_held_runs(vault, vec![run]));
        while let Some(row) = rows.next()? {
            self.progress.rebuilt_row();
            self.links.take_over(&row)?;
        }
        Ok(())
    }
}

fn is_link(key: &RowKey) -> bool {
    matches!(key, RowKey::Head(HeadKey::Link(_)) | RowKey::Further { head: HeadKey::Link(_), .. })
}
