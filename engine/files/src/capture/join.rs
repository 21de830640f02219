//! The merge of the walk with the state before: both come in the order of keys. Owns which old rows are
//! still there, gone, or to be kept because nobody can look.

use crate::heads::{FoundRow, HeadRows};
use crate::keys::PathKey;
use crate::row::HeadRow;
use crate::state::{StateError, StateRows};
use crate::walk::{Found, Step, Unreadable, UnreadablePart, Walk};

/// What the merge says of one key.
#[derive(Debug)]
pub(super) enum Joined {
    /// In the walk only.
    New(Found),
    /// In both.
    Both(Found, FoundRow),
    /// In the state only: it is gone.
    Gone(FoundRow),
    /// In the state, and nobody can look now, or has to: it stays as it was.
    Kept(FoundRow),
    /// It cannot be read. What the state has of it comes as [`Joined::Kept`].
    Unreadable(Unreadable),
    /// Left out by configuration.
    LeftOut(PathKey),
}

/// The merge.
#[derive(Debug)]
pub(super) struct Join {
    walk: Walk,
    step: Option<Step>,
    old: OldRows,
    /// Rows at and below this key are kept.
    keep_below: Option<PathKey>,
    /// Keys up to and with this one are passed over on both sides.
    skip_to: Option<Vec<u8>>,
}

impl Join {
    pub(super) fn new(walk: Walk, old: Option<StateRows>, skip_to: Option<Vec<u8>>) -> Self {
        Self {
            walk,
            step: None,
            old: OldRows { rows: old.map(HeadRows::new), head: None },
            keep_below: None,
            skip_to,
        }
    }

    /// What comes next; `None` at the end of both.
    pub(super) fn next(&mut self) -> Result<Option<Joined>, StateError> {
        loop {
            if self.step.is_none() {
                self.step = self.walk.next();
            }
            self.old.load()?;
            let joined = match self.choose() {
                Choice::Old => self.old.take().map(|row| self.judge_old(row)),
                Choice::Walk => self.step.take().and_then(|step| self.judge_step(step)),
                Choice::Both => match (self.step.take(), self.old.take()) {
                    (Some(Step::Found(found)), Some(row)) => {
                        if self.walk.is_passing() && !is_as_before(&row, &found) {
                            self.walk.look_into();
                        }
                        Some(Joined::Both(found, row))
                    }
                    _ => None,
                },
                Choice::End => return Ok(None),
            };
            match joined {
                Some(joined) if !self.skips(&joined) => return Ok(Some(joined)),
                _ => {}
            }
        }
    }

    fn choose(&self) -> Choice {
        match (&self.step, self.old.head()) {
            (None, None) => Choice::End,
            (None, Some(_)) => Choice::Old,
            (Some(_), None) => Choice::Walk,
            (Some(step), Some(old)) => {
                let key = step_key(step);
                match key.as_bytes().cmp(old) {
                    std::cmp::Ordering::Greater => Choice::Old,
                    std::cmp::Ordering::Equal if matches!(step, Step::Found(_)) => Choice::Both,
                    _ => Choice::Walk,
                }
            }
        }
    }

    fn judge_old(&self, row: FoundRow) -> Joined {
        let kept = self.keep_below.as_ref().is_some_and(|top| top.has_within(&row.key));
        if kept { Joined::Kept(row) } else { Joined::Gone(row) }
    }

    fn judge_step(&mut self, step: Step) -> Option<Joined> {
        Some(match step {
            Step::Found(found) => {
                // Nothing is known of what is in it.
                self.walk.look_into();
                Joined::New(found)
            }
            Step::LeftOut(key) => Joined::LeftOut(key),
            Step::Passed(key) => {
                self.keep_below = Some(key);
                return None;
            }
            Step::Unreadable(unreadable) => {
                if unreadable.part != UnreadablePart::LongerPath {
                    self.keep_below = Some(unreadable.key.clone());
                }
                Joined::Unreadable(unreadable)
            }
        })
    }

    fn skips(&self, joined: &Joined) -> bool {
        let Some(skip_to) = &self.skip_to else { return false };
        let key = match joined {
            Joined::New(found) | Joined::Both(found, _) => found.key.as_bytes(),
            Joined::Gone(row) | Joined::Kept(row) => &row.key,
            Joined::Unreadable(unreadable) => unreadable.key.as_bytes(),
            Joined::LeftOut(key) => key.as_bytes(),
        };
        key <= skip_to.as_slice()
    }
}

/// Whether a directory has the entries that it had. One that does not, and was not to be looked into, was changed after it was
/// said what was touched; or another one has its name by now.
fn is_as_before(row: &FoundRow, found: &Found) -> bool {
    let seen = HeadRow::decode(&row.value).ok().and_then(|head| head.facts.seen);
    let (inode, ctime) = (found.stat.identity.inode, found.stat.ctime);
    seen.is_some_and(|seen| seen.identity.inode == inode && seen.ctime == ctime)
}

enum Choice {
    Old,
    Walk,
    Both,
    End,
}

fn step_key(step: &Step) -> &PathKey {
    match step {
        Step::Found(found) => &found.key,
        Step::Unreadable(unreadable) => &unreadable.key,
        Step::LeftOut(key) | Step::Passed(key) => key,
    }
}

/// Old rows, the next of them at hand.
#[derive(Debug)]
struct OldRows {
    rows: Option<HeadRows<StateRows>>,
    head: Option<FoundRow>,
}

impl OldRows {
    fn head(&self) -> Option<&[u8]> {
        self.head.as_ref().map(|row| row.key.as_slice())
    }

    fn take(&mut self) -> Option<FoundRow> {
        self.head.take()
    }

    /// Loads the next row, if none is loaded.
    fn load(&mut self) -> Result<(), StateError> {
        if self.head.is_none()
            && let Some(rows) = &mut self.rows
        {
            self.head = rows.next()?;
            if self.head.is_none() {
                self.rows = None;
            }
        }
        Ok(())
    }
}
