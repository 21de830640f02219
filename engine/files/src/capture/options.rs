//! What a capture is asked to do, how it is watched and stopped, and what it reports.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use backstay_core::clock::Moment;
use backstay_core::point::{Defect, DefectCount};
use backstay_core::units::Timestamp;
use backstay_vault::write::WriteMeter;

use crate::touched::Touched;
use crate::walk::WalkOptions;

/// Most warnings that are listed one by one.
pub const WARNINGS_MAX: usize = 1000;

/// What is captured, and how.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Root of the tree.
    pub root: PathBuf,
    /// A snapshot of the tree that is read in its place.
    pub snapshot: Option<SnapshotTree>,
    /// What of it is visited.
    pub walk: WalkOptions,
    /// Where something has changed since the capture before. What is elsewhere is taken to be as it was, and the point says up
    /// to when that is known.
    pub touched: Touched,
    /// When a partial point is committed.
    pub part_limits: PartLimits,
}

impl CaptureOptions {
    /// The root of what is read.
    pub(super) fn tree(&self) -> &Path {
        self.snapshot.as_ref().map_or(&self.root, |snapshot| &snapshot.root)
    }
}

/// A tree as it was at one moment.
#[derive(Debug, Clone)]
pub struct SnapshotTree {
    /// Its root.
    pub root: PathBuf,
    /// A moment before the snapshot was made: everything that was done until then is in it.
    pub as_of: Moment,
}

/// A long capture commits what it has done so far when one of these is reached.
#[derive(Debug, Clone, Copy)]
pub struct PartLimits {
    /// Bytes read.
    pub read_bytes: u64,
    /// Data chunks referred to; bounds the memory of the live table.
    pub chunks: usize,
    /// Time.
    pub duration: Duration,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { read_bytes: 16 << 30, chunks: 128 << 10, duration: Duration::from_secs(600) }
    }
}

/// How far a capture is; read by others while it runs. Also the way to stop it.
#[derive(Debug, Default)]
pub struct CaptureProgress {
    entries: AtomicU64,
    read_bytes: AtomicU64,
    /// Rows that were taken out of the vault.
    rebuilt_rows: AtomicU64,
    /// One for each part of the capture.
    written: Mutex<Vec<WriteMeter>>,
    expected: OnceLock<ExpectedSight>,
    stop: AtomicBool,
}

/// What a capture will probably see, going by the point before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedSight {
    /// So many entries of a tree, all of which are looked at. How many bytes of it are read hangs on what has changed.
    Entries(u64),
    /// So many bytes of an output, all of which is read.
    Bytes(u64),
}

impl CaptureProgress {
    /// Entries seen.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes of contents read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of new records.
    pub fn stored_bytes(&self) -> u64 {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().map(|meter| meter.totals().stored_bytes).sum()
    }

    /// Plain bytes that were not sent because every vault has their chunks already.
    pub fn saved_bytes(&self) -> u64 {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = |meter: &WriteMeter| {
            let totals = meter.totals();
            totals.plain_bytes.saturating_sub(totals.new_plain_bytes)
        };
        written.iter().map(saved).sum()
    }

    /// Changes whenever it comes further: an entry was seen, bytes were read or sealed, a store has taken a pack, or a row
    /// of the local state was rebuilt.
    pub fn mark(&self) -> u64 {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let packs: u64 = written.iter().map(|meter| meter.totals().stored_packs).sum();
        drop(written);
        let rows = self.rebuilt_rows.load(Ordering::Relaxed);
        // Each of them only grows.
        [self.read_bytes(), self.stored_bytes(), packs, rows]
            .into_iter()
            .fold(self.entries(), u64::wrapping_add)
    }

    /// What it will probably see; the first word stands.
    pub fn expect(&self, expected: ExpectedSight) {
        let _ = self.expected.set(expected);
    }

    /// What it will probably see, where that can be told.
    pub fn expected(&self) -> Option<ExpectedSight> {
        self.expected.get().copied()
    }

    /// Asks the capture to give up soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it is to give up.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One more entry.
    pub fn saw_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rebuilt_row(&self) {
        self.rebuilt_rows.fetch_add(1, Ordering::Relaxed);
    }

    /// So much was read.
    pub fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what is written by this meter as well.
    pub fn watch(&self, meter: WriteMeter) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(meter);
    }
}

/// What could not be captured as it should be.
#[derive(Debug, Default)]
pub struct Warnings {
    /// In words, at most [`WARNINGS_MAX`].
    pub lines: Vec<String>,
    /// Entries that could not be read.
    pub unreadable: u64,
    /// Files that changed while they were read, twice.
    pub changed_while_read: u64,
    /// Remarks on the source as a whole.
    pub remarks: u64,
    /// What belongs to Backstay itself and is left out, in words, at most [`WARNINGS_MAX`]. This is no defect.
    pub left_out: Vec<String>,
}

impl Warnings {
    /// Entries that are not as they should be.
    pub fn defects(&self) -> u64 {
        self.unreadable + self.changed_while_read
    }

    /// What an interrupted capture has met, from which this one goes on.
    pub(super) fn take_over(&mut self, defects: &[DefectCount]) {
        for DefectCount { defect, count } in defects {
            match defect {
                Defect::Unreadable => self.unreadable += count,
                Defect::ChangedWhileRead => self.changed_while_read += count,
            }
            self.add(format!(
                "{count} of them were met before the capture was interrupted; see the log from then"
            ));
        }
    }

    pub(super) fn unreadable(&mut self, line: String) {
        self.unreadable += 1;
        self.add(line);
    }

    pub(super) fn changed(&mut self, line: String) {
        self.changed_while_read += 1;
        self.add(line);
    }

    pub(super) fn remark(&mut self, line: String) {
        self.remarks += 1;
        self.add(line);
    }

    pub(super) fn left_out(&mut self, line: String) {
        if self.left_out.len() < WARNINGS_MAX {
            self.left_out.push(line);
        }
    }

    fn add(&mut self, line: String) {
        if self.lines.len() < WARNINGS_MAX {
            self.lines.push(line);
        }
    }
}

/// What a capture has found.
#[derive(Debug)]
pub struct CaptureSummary {
    /// Start of the scan to which the state belongs.
    pub capture_start: Moment,
    /// Of a scan that has looked only at what was touched: everything that was done before this is in the state.
    pub whole_until: Option<Timestamp>,
    /// Whether anything differs from the point before.
    pub changed: bool,
    /// Restorable entries.
    pub entries: u64,
    /// Bytes that a restore writes.
    pub bytes: u64,
    /// What is not as it should be.
    pub warnings: Warnings,
}
