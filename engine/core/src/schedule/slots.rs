//! Who has which slot while a decision is made. Owns the counting; the order in which jobs ask is decided by
//! others.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::SourceName;
use crate::units::Timestamp;

use super::{JobSize, Load, RunningCapture};

/// The slots and those who have them.
#[derive(Debug)]
pub(super) struct Slots {
    free: usize,
    long_free: usize,
    busy: BTreeMap<SourceName, RunningCapture>,
    /// Sources for which a slot for a long capture is kept.
    kept_for: BTreeSet<SourceName>,
}

impl Slots {
    pub(super) fn of(load: Load<'_>) -> Self {
        let mut slots = Self {
            free: load.captures_max.get(),
            long_free: load.long_slots(),
            busy: BTreeMap::new(),
            kept_for: BTreeSet::new(),
        };
        load.running.iter().for_each(|capture| slots.take(capture.clone()));
        slots
    }

    /// Whether a capture of the source has a slot.
    pub(super) fn is_busy(&self, source: &SourceName) -> bool {
        self.busy.contains_key(source)
    }

    pub(super) fn have_room_for(&self, size: JobSize) -> bool {
        self.free > 0 && (size == JobSize::Short || self.long_free > self.kept_for.len())
    }

    pub(super) fn take(&mut self, capture: RunningCapture) {
        self.free = self.free.saturating_sub(1);
        if capture.size == JobSize::Long {
            self.long_free = self.long_free.saturating_sub(1);
        }
        self.busy.insert(capture.source.clone(), capture);
    }

    /// Keeps a slot for a long capture of a source that a short one keeps busy, unless that is over its time; says
    /// until when. Without that, long captures of other sources could pass it for ever.
    pub(super) fn keep_a_long_one_for(&mut self, source: &SourceName, now: Timestamp) -> Option<Timestamp> {
        let running = self.busy.get(source)?;
        if running.size == JobSize::Long || running.ends_by <= now {
            return None;
        }
        let until = running.ends_by;
        self.kept_for.insert(source.clone());
        Some(until)
    }
}
