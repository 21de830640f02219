//! Reading of what is not small, by the thread of the capture itself. Owns how often is tried what changes meanwhile,
//! and where a part may end within a file.

use super::large::{LargeFile, LargeProblem, Piece, Progress};
use super::problem::{CaptureError, ReadProblem};
use super::queue::{Drain, FileContents, Pieces, Place, Task};
use super::{CaptureRun, small};
use crate::read::{SourceFile, Stability};
use crate::stat::FileKind;
use crate::walk::Found;
use backstay_core::id::LinkId;
use backstay_vault::error::VaultError;

/// How often a large file that changes while it is read is read.
const LARGE_TRIES: usize = 2;

/// How often an object is looked at whose name goes to another one meanwhile.
const OBSERVE_TRIES: usize = 3;

/// Where a part may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartEnd {
    /// Within the file.
    Within,
    /// Not before its row is there.
    Behind,
}

impl CaptureRun<'_> {
    pub(super) fn read_file(&mut self, found: &Found, part_end: PartEnd) -> Result<Task, CaptureError> {
        let mut last = None;
        for _ in 0..LARGE_TRIES {
            match self.read_once(found, part_end) {
                Ok(contents) if contents.stability == Stability::Stable => return Ok(Task::File(contents)),
                Ok(contents) => last = Some(contents),
                Err(LargeProblem::Entry(ReadProblem::Vanished)) => return Ok(Task::Remove),
                Err(LargeProblem::Entry(problem)) => return Ok(Task::Unreadable(problem)),
                Err(LargeProblem::Capture(error)) => return Err(error),
            }
        }
        Ok(last.map_or(Task::Unreadable(ReadProblem::Grown), Task::File))
    }

    /// Looks at an object that is no file, under the name that it was found with. Where another object has that name by
    /// now, at that one, unless it is the other names that count; `None` when it is a file. Gives what was looked at.
    pub(super) fn observe(&self, mut found: Found, place: &Place) -> (Found, Option<Task>) {
        if found.stat.kind == FileKind::Directory {
            let task = self.observe_directory(&found);
            return (found, Some(task));
        }
        for _ in 0..OBSERVE_TRIES {
            let problem = match self.observer.object(&found) {
                Ok(Some(observation)) => {
                    let task = Task::Plain(found.stat, observation);
                    return (found, Some(task));
                }
                Ok(None) if matches!(place, Place::Link(..)) => return (found, Some(Task::Remove)),
                Ok(None) => match found.look_again() {
                    Ok(again) if again.stat.kind == FileKind::File => return (again, None),
                    Ok(again) => {
                        found = again;
                        continue;
                    }
                    Err(errno) => errno.into(),
                },
                Err(errno) => errno.into(),
            };
            let task = match problem {
                ReadProblem::Vanished => Task::Remove,
                problem => Task::Unreadable(problem),
            };
            return (found, Some(task));
        }
        (found, Some(Task::Unreadable(ReadProblem::Replaced)))
    }

    /// Looks at a directory. What is in it was listed when it was found, and is captured under this name whatever has
    /// become of the name since: so the directory is, too, and it is said that its attributes are not known.
    fn observe_directory(&self, found: &Found) -> Task {
        match self.observer.object(found) {
            Ok(Some(observation)) => Task::Plain(found.stat, observation),
            Ok(None) => Task::Plain(found.stat, self.observer.without_attributes(&found.stat)),
            Err(errno) => match ReadProblem::from(errno) {
                ReadProblem::Vanished => {
                    Task::Plain(found.stat, self.observer.without_attributes(&found.stat))
                }
                problem => Task::Unreadable(problem),
            },
        }
    }

    /// Reads an object with several names under another of them: those before had vanished when it was their turn.
    pub(super) fn read_under_next_name(&mut self, id: LinkId, found: &Found) -> Result<(), CaptureError> {
        let place = Place::Link(id, found.key.clone());
        let old = self.old_link(id, &found.stat)?;
        let task = match found.stat.kind {
            FileKind::File => self.read_file(found, PartEnd::Behind)?,
            _ => self.observe(found.clone(), &place).1.unwrap_or(Task::Remove),
        };
        self.finish_row(super::Work { place, old, task })
    }

    fn read_once(&mut self, found: &Found, part_end: PartEnd) -> Result<FileContents, LargeProblem> {
        let refused = |errno| LargeProblem::Entry(ReadProblem::Refused(errno));
        let file = small::open(found).map_err(LargeProblem::Entry)?;
        let pieces = self.read_large(&file, part_end)?;
        let observation = self.observer.file(&file).map_err(refused)?;
        let stability = file.stability().map_err(refused)?;
        Ok(FileContents { stat: *file.stat(), observation, pieces: Pieces::Chunks(pieces), stability })
    }

    /// Where a part becomes full within a file, what was read of it goes to the vault with that part: the file is read
    /// again after a crash, and not sent again. No row refers to it before that of the file is there, so the partial point
    /// keeps it by name. Such a point goes after 14 days: in each new session it is looked whether all stays.
    fn read_large(&mut self, file: &SourceFile, part_end: PartEnd) -> Result<Vec<Piece>, LargeProblem> {
        let mut large = LargeFile::begin(file);
        // Pieces whose chunks a partial point keeps, and chunks of them that had to be put once more.
        let (mut kept, mut again) = (0, Vec::new());
        loop {
            let chunks = self.chunks.as_ref().ok_or(LargeProblem::Capture(VaultError::GivenUp.into()))?;
            if self.large.read_on(&mut large, chunks, self.progress)? == Progress::Finished {
                return Ok(large.into_pieces());
            }
            if part_end == PartEnd::Within && self.part_is_full() {
                let mut unreferred =
                    large.names_from(kept).map_err(|error| LargeProblem::Capture(error.into()))?;
                unreferred.append(&mut again);
                self.work(Drain::All).map_err(LargeProblem::Capture)?;
                if !self.commit_part(&unreferred).map_err(LargeProblem::Capture)? {
                    continue;
                }
                let chunks = self.chunks.as_ref().ok_or(LargeProblem::Capture(VaultError::GivenUp.into()))?;
                again = large.put_again_what_goes(chunks)?;
                kept = large.pieces();
            }
        }
    }
}
