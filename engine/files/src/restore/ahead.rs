//! The rows that are restored, one after the other; where requests cost, read so far ahead that it is known what will be wanted of
//! each pack. Owns the bound on the rows that wait.

use std::collections::VecDeque;

use backstay_core::digest::StateDigest;
use backstay_vault::error::VaultError;

use super::select::Links;
use super::window::Windows;
use super::{RestoreError, Selection, references};
use crate::heads::FoundRow;
use crate::keys::HeadKey;
use crate::point_rows::PointRows;
use crate::row::{HeadRow, Reference, Restored, element};

/// Memory of rows that wait, bytes, unless one row has more.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What a waiting row takes beside what is in it, bytes.
const ROW_BYTES: usize = 512;

/// A row that is restored.
#[derive(Debug)]
pub(super) struct WantedRow {
    pub(super) key: HeadKey,
    pub(super) head: HeadRow,
    /// All of its contents, in order.
    pub(super) references: Vec<Reference>,
    /// How many of them the windows have heard of.
    pub(super) told: usize,
    /// Plain bytes of the contents of all rows before it.
    pub(super) position: u64,
    /// The same, with what was told of it.
    told_to: u64,
    bytes: usize,
}

/// Reads rows ahead.
pub(super) struct Ahead<'s> {
    rows: PointRows,
    selection: &'s Selection,
    links: Links,
    /// Where wanted rows may begin, unless all are wanted.
    leaps: Option<Vec<Vec<u8>>>,
    /// Of all rows, when all are restored.
    digest: Option<StateDigest>,
    waiting: VecDeque<WantedRow>,
    waiting_bytes: usize,
    /// How many of the last ones that wait have contents that were not told.
    untold: usize,
    /// Plain bytes of the contents of all that was read.
    position: u64,
    /// Why no row follows those that wait.
    end: Option<Result<(), RestoreError>>,
}

impl<'s> Ahead<'s> {
    pub(super) fn new(rows: PointRows, selection: &'s Selection, links: Links) -> Self {
        Self {
            rows,
            selection,
            leaps: selection.leaps(&links),
            links,
            digest: selection.is_all().then(StateDigest::empty),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            untold: 0,
            position: 0,
            end: None,
        }
    }

    /// The next row; `None` at the end. An error comes after all rows before it.
    pub(super) fn next(&mut self, windows: &mut Windows) -> Result<Option<WantedRow>, RestoreError> {
        self.fill(windows)?;
        match self.waiting.pop_front() {
            Some(row) => {
                self.waiting_bytes -= row.bytes;
                self.untold = self.untold.min(self.waiting.len());
                windows.go_to(row.position);
                Ok(Some(row))
            }
            None => self.end.take().unwrap_or(Ok(())).map(|()| None),
        }
    }

    /// The digest of all rows, when all are restored.
    pub(super) fn digest(self) -> Option<StateDigest> {
        self.digest
    }

    fn fill(&mut self, windows: &mut Windows) -> Result<(), VaultError> {
        loop {
            self.tell(windows)?;
            let is_far = !windows.looks_ahead() || self.waiting_bytes >= WAITING_BYTES_MAX;
            if self.end.is_some() || is_far && !self.waiting.is_empty() {
                return Ok(());
            }
            match self.read() {
                Ok(Some(row)) => {
                    self.waiting_bytes += row.bytes;
                    self.waiting.push_back(row);
                    self.untold += 1;
                }
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }

    /// Tells the windows of contents that will be wanted, as far as they look ahead.
    fn tell(&mut self, windows: &mut Windows) -> Result<(), VaultError> {
        while self.untold > 0 {
            let first = self.waiting.len() - self.untold;
            let Some(row) = self.waiting.get_mut(first) else { break };
            while let Some(reference) = row.references.get(row.told) {
                if !windows.looks_ahead() {
                    return Ok(());
                }
                windows.expect(row.told_to, reference)?;
                row.told += 1;
                row.told_to += u64::from(reference.length_bytes);
            }
            self.untold -= 1;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<WantedRow>, RestoreError> {
        while let Some(row) = self.rows.next()? {
            if let Some(digest) = &mut self.digest {
                digest.add(&element(&row.key, &row.value)?);
            }
            let key = HeadKey::parse(&row.key)?;
            if self.selection.wants(&key, &self.links) {
                return self.wanted(key, &row).map(Some);
            }
            let Some(leaps) = &self.leaps else { continue };
            let next = leaps.partition_point(|leap| leap.as_slice() <= row.key.as_slice());
            match leaps.get(next) {
                Some(next) => self.rows.seek(next)?,
                None => break,
            }
        }
        Ok(None)
    }

    fn wanted(&mut self, key: HeadKey, row: &FoundRow) -> Result<WantedRow, RestoreError> {
        let head = HeadRow::decode(&row.value)?;
        let references = match &head.restored {
            Restored::Object { object, .. } => references(object, row, &head)?,
            Restored::Link(_) => Vec::new(),
        };
        let bytes = ROW_BYTES + 2 * row.key.len() + row.value.len() + size_of_val(references.as_slice());
        let position = self.position;
        self.position += references.iter().map(|reference| u64::from(reference.length_bytes)).sum::<u64>();
        Ok(WantedRow { key, head, references, told: 0, position, told_to: position, bytes })
    }
}
