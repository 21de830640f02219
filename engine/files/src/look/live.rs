//! What differs between a point and a tree on disk: the live source, or one that was restored elsewhere.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use backstay_vault::vault::Reading;

use super::difference::{Difference, aspects};
use super::entry::ListedEntry;
use super::names::{Named, ResolvedRow, ResolvedRows};
use crate::capture::ReadProblem;
use crate::devices::{Devices, file_system_of};
use crate::keys::PathKey;
use crate::on_disk::{Expected, LookProblem, Looker};
use crate::restore::{RestoreError, references};
use crate::row::{Marks, Restored, Seen};
use crate::stat::{FileKind, FileStat};
use crate::walk::{Found, Step, Walk, WalkError, WalkOptions};

/// Why a tree cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The point cannot be read.
    #[error(transparent)]
    Point(#[from] RestoreError),
    /// The tree cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// When the contents of a file are read that looks as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// Never: the same inode with the same size and times was not written to since.
    WhenTouched,
    /// Always.
    Always,
}

/// What a comparison tells.
#[derive(Debug)]
pub enum Compared {
    /// Something differs.
    Different(Box<Difference>),
    /// Something is on disk that cannot be read; nothing is known of it, and of what is below.
    Unreadable(String),
}

/// The differences, in order of path.
#[derive(Debug)]
pub struct Live {
    looker: Looker,
    reread: Reread,
    devices: Devices,
    below: PathKey,
    walk: Walk,
    step: Option<Step>,
    rows: ResolvedRows,
    row: Option<ResolvedRow>,
    /// At and below this path, nothing is known of what is on disk.
    unknown_below: Option<PathKey>,
}

impl Live {
    /// What differs at and below a path of the point that is read, from the point to the tree with this root; `file_system` is
    /// that in which the point found it.
    pub fn open(
        reading: &Arc<Reading>,
        root: &Path,
        file_system: Option<u64>,
        walk: WalkOptions,
        below: PathKey,
        reread: Reread,
    ) -> Result<Self, LiveError> {
        let walk = Walk::start(root, walk)?;
        let is_same = file_system == file_system_of(root);
        let root = ResolvedRows::open(reading, PathKey::root()).next()?.filter(|row| row.path.is_root());
        let known = root.and_then(|row| row.head.facts.seen).map(|seen| seen.identity);
        Ok(Self {
            looker: Looker::new(reading.vault().ring()),
            reread,
            devices: Devices::of_root(known, walk.root_stat().identity, is_same),
            walk,
            step: None,
            rows: ResolvedRows::open(reading, below.clone()),
            below,
            row: None,
            unknown_below: None,
        })
    }

    /// The next that is to be told; `None` at the end.
    pub fn next_difference(&mut self) -> Result<Option<Compared>, LiveError> {
        loop {
            if self.step.is_none() {
                let (walk, below) = (&mut self.walk, &self.below);
                self.step = walk.find(|step| concerns(step, below));
            }
            if self.row.is_none() {
                self.row = self.rows.next()?;
            }
            let order = match (&self.step, &self.row) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(step), Some(row)) => step_key(step).cmp(&row.path),
            };
            let step = if order == Ordering::Greater { None } else { self.step.take() };
            let row = if order == Ordering::Less { None } else { self.row.take() };
            if let Some(told) = self.judge(step, row)? {
                return Ok(Some(told));
            }
        }
    }

    fn judge(&mut self, step: Option<Step>, row: Option<ResolvedRow>) -> Result<Option<Compared>, LiveError> {
        match step {
            Some(Step::Found(found)) => match row {
                None => Ok(self.added(&found)),
                Some(row) => self.compare(&found, row),
            },
            Some(Step::LeftOut(path) | Step::Passed(path)) => {
                self.unknown_below = Some(path);
                Ok(None)
            }
            Some(Step::Unreadable(unreadable)) => {
                let line = format!("{}: {}", unreadable.key, unreadable.error);
                self.unknown_below = Some(unreadable.key);
                Ok(Some(Compared::Unreadable(line)))
            }
            None => Ok(row.filter(|row| !self.is_unknown(&row.path)).map(removed)),
        }
    }

    fn is_unknown(&self, path: &PathKey) -> bool {
        self.unknown_below.as_ref().is_some_and(|top| path.is_within(top))
    }

    fn added(&self, found: &Found) -> Option<Compared> {
        match self.looker.object(found, None) {
            // Gone again.
            Err(LookProblem::Read(ReadProblem::Vanished)) => None,
            Ok((object, meta)) => {
                let named = Named::new(found.key.clone(), Restored::Object { object, meta });
                Some(Compared::Different(Box::new(Difference {
                    old: None,
                    new: Some(ListedEntry::of(named)),
                    aspects: Vec::new(),
                })))
            }
            Err(problem) => Some(Compared::Unreadable(format!("{}: {problem}", found.key))),
        }
    }

    fn compare(&self, found: &Found, row: ResolvedRow) -> Result<Option<Compared>, LiveError> {
        let Restored::Object { object, .. } = &row.head.restored else {
            let why = "the point lacks the file of which this is a name; run `backstay vault check`";
            return Ok(Some(Compared::Unreadable(format!("{}: {why}", row.path))));
        };
        if self.reread == Reread::WhenTouched && is_untouched(&row, &self.devices.known_stat(&found.stat)) {
            return Ok(None);
        }
        let references = references(object, &row.row, &row.head)?;
        let expected = Expected { size_bytes: object.size_bytes(), references: &references };
        let (object, meta) = match self.looker.object(found, Some(expected)) {
            Ok(looked) => looked,
            Err(LookProblem::Read(ReadProblem::Vanished)) => return Ok(Some(removed(row))),
            Err(problem) => {
                return Ok(Some(Compared::Unreadable(format!("{}: {problem}", found.key))));
            }
        };
        let live = Restored::Object { object, meta };
        let aspects = aspects(&row.head.restored, &live);
        if aspects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Compared::Different(Box::new(Difference {
            old: Some(ListedEntry::of(row.into_named())),
            new: Some(ListedEntry::of(Named::new(found.key.clone(), live))),
            aspects,
        }))))
    }
}

fn removed(row: ResolvedRow) -> Compared {
    let old = Some(ListedEntry::of(row.into_named()));
    Compared::Different(Box::new(Difference { old, new: None, aspects: Vec::new() }))
}

/// Whether an object is the same inode as when it was captured, with the same times and size.
fn is_untouched(row: &ResolvedRow, stat: &FileStat) -> bool {
    let Restored::Object { object, meta } = &row.head.restored else { return false };
    let same_size = stat.kind != FileKind::File || object.size_bytes() == stat.size_bytes;
    let facts = &row.head.facts;
    facts.seen == Some(Seen::from(stat))
        && meta.mtime == stat.mtime
        && same_size
        && facts.marks == Marks::default()
}

/// Whether a step is of what is compared, or says that nobody can look there.
fn concerns(step: &Step, below: &PathKey) -> bool {
    let key = step_key(step);
    key.is_within(below) || (!matches!(step, Step::Found(_)) && below.is_within(key))
}

fn step_key(step: &Step) -> &PathKey {
    match step {
        Step::Found(found) => &found.key,
        Step::Unreadable(unreadable) => &unreadable.key,
        Step::LeftOut(key) | Step::Passed(key) => key,
    }
}
