//! The restoring itself: where each source goes, what is in the way, and what became of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use backstay_files::place::{Destination, Existing, PlaceError};
use backstay_files::restore::{RestoreError, Selection};

use super::expected::{Expected, Unwanted};
use super::found::FoundSource;
use super::plan::{self, Way};
use super::record::{Note, Record, State};
use super::tell::{progress_line, remark_on};
use super::{Outcome, ShownSource};
use crate::cli::choose::Asked;
use crate::cli::restore::{RestoreArgs, watched};
use crate::cli::restore_stream;

/// A source, and the way that it goes, or why it goes none.
type Planned = (FoundSource, Result<Way, (Outcome, String)>);

/// What is done.
pub(super) struct Restoring<'a> {
    pub(super) arguments: &'a RestoreArgs,
    pub(super) asked: Asked,
    pub(super) shown: Vec<ShownSource>,
}

impl Restoring<'_> {
    /// Restores these; `own` says what belongs on this machine, where that is known.
    pub(super) fn restore(&mut self, sources: Vec<FoundSource>, own: Option<&Expected>, mut record: Record) {
        let to = self.arguments.to.as_deref();
        let newest = newest_of_roots(&sources);
        let mut planned: Vec<Planned> = Vec::new();
        for source in sources {
            let facts = source.facts();
            let unwanted = match own {
                Some(own) => own.refuses(&facts, &source.node),
                // Of several with one root the older ones may be what it was called before.
                None if to.is_none() => facts.root.as_ref().and_then(|root| {
                    let newest = newest.get(root).filter(|newest| newest.as_str() != source.name.as_str())?;
                    Some(Unwanted::Other(format!("{newest} is newer and was at the same path: use --to DIR")))
                }),
                None => None,
            };
            let way = match unwanted {
                Some(Unwanted::Unknown) => Err((
                    Outcome::NotConfigured,
                    "it is not in the configuration: use --to DIR to have it".to_owned(),
                )),
                Some(Unwanted::Other(why)) => Err((Outcome::Refused, why)),
                None => plan::way(&facts, to).map_err(|why| match facts.kind.as_str() {
                    "command" => (Outcome::NeedsTo, why),
                    _ => (Outcome::Refused, why),
                }),
            };
            let begun = way.as_ref().ok().and_then(|way| record.get(&source.place_at(way.path())));
            let source = match (begun, &self.asked) {
                // A vault that others write to has newer points by now.
                (Some(note), Asked::Newest) => source.begun_at(&note.point),
                _ => source,
            };
            planned.push((source, way));
        }
        // What lies in something else comes after it.
        planned.sort_by_key(|(source, way)| {
            (way.as_ref().ok().map(|way| way.path().to_path_buf()), source.name.clone())
        });
        for (mut source, way) in planned {
            let start = Instant::now();
            let to = way.as_ref().ok().map(|way| way.path().display().to_string());
            let (outcome, problem) = match way {
                Err((outcome, why)) => (outcome, Some(why)),
                Ok(way) => self.one(&mut source, &way, &mut record),
            };
            let common = &source.point.common;
            let shown = ShownSource {
                source: source.name.to_string(),
                node: source.node.clone(),
                kind: common.kind.clone(),
                point: common.id.to_string(),
                time: common.capture_start.to_string(),
                entries: common.entries,
                bytes: common.bytes,
                to,
                outcome,
                problem,
                seconds: start.elapsed().as_secs_f64(),
            };
            if !self.arguments.dry_run {
                remark_on(&progress_line(&shown));
            }
            self.shown.push(shown);
        }
        if self.shown.iter().all(|shown| shown.outcome.is_over()) && !self.arguments.dry_run {
            record.remove();
        }
    }

    fn one(&self, source: &mut FoundSource, way: &Way, record: &mut Record) -> (Outcome, Option<String>) {
        let place = source.place_at(way.path());
        let note = |state: State| Note { point: source.point.common.id.to_string(), state };
        match record.get(&place) {
            Some(known) if known.point != source.point.common.id.to_string() => {}
            Some(Note { state: State::Restored, .. }) if way.path().exists() => {
                return (Outcome::WasRestored, None);
            }
            Some(Note { state: State::Incomplete(why), .. }) if way.path().exists() => {
                return (Outcome::Incomplete, Some(why.clone()));
            }
            _ => {}
        }
        let occupied = occupied(way);
        match (self.arguments.dry_run, occupied) {
            (_, Some(why)) => return (Outcome::Refused, Some(why)),
            (true, None) => return (Outcome::Planned, None),
            (false, None) => record.note(&place, note(State::Begun)),
        }
        let restored = note(State::Restored);
        if let Err(failure) = source.anew() {
            return (Outcome::Failed, Some(failure.message));
        }
        match restore_to(source, way) {
            Ok(None) => {
                record.note(&place, restored);
                (Outcome::Restored, None)
            }
            Ok(Some(problem)) => {
                record.note(&place, Note { state: State::Incomplete(problem.clone()), ..restored });
                (Outcome::Incomplete, Some(problem))
            }
            Err(refused) => refused,
        }
    }
}

/// For each path, the source with the newest point of it.
fn newest_of_roots(sources: &[FoundSource]) -> BTreeMap<PathBuf, String> {
    let mut of_roots: Vec<_> = sources
        .iter()
        .filter_map(|source| {
            let root = source.facts().root?;
            Some((source.point.common.capture_start, source.name.to_string(), root))
        })
        .collect();
    of_roots.sort();
    // The last of each stays.
    of_roots.into_iter().map(|(_, name, root)| (root, name)).collect()
}

fn restore_to(source: &FoundSource, way: &Way) -> Restored {
    match way {
        Way::Tree(to) => restore_tree(source, to),
        Way::File(to) => restore_file(source, to),
    }
}

type Restored = Result<Option<String>, (Outcome, Option<String>)>;

/// What of it is not as it was, if anything.
fn restore_tree(source: &FoundSource, to: &Path) -> Restored {
    let restored = watched(&source.held, &source.point, None, &Selection::all(), to, Existing::Refuse);
    match restored {
        Ok(report) if report.problems_total == 0 => Ok(None),
        Ok(report) => {
            report.problems.iter().for_each(|problem| remark_on(&format!("warning: {problem}")));
            Ok(Some(incomplete(report.problems_total, &report.problems)))
        }
        Err(RestoreError::Place(PlaceError::NotEmpty { path })) => Err(not_empty(&path)),
        Err(error) => Err((Outcome::Failed, Some(error.to_string()))),
    }
}

/// How much is not as it was, and the first of it: the next run of the command tells it again, without having seen more.
fn incomplete(total: u64, problems: &[String]) -> String {
    match problems {
        [only] if total == 1 => only.clone(),
        [first, ..] => format!("{total} things are not as they were, the first: {first}"),
        [] => format!("{total} things are not as they were"),
    }
}

fn restore_file(source: &FoundSource, to: &Path) -> Restored {
    match restore_stream::to_new_file(&source.held, &source.point, to) {
        Ok(_) => Ok(None),
        Err(_) if to.symlink_metadata().is_ok() => Err((Outcome::Refused, Some(there_already(to)))),
        Err(failure) => Err((Outcome::Failed, Some(failure.message))),
    }
}

fn not_empty(path: &Path) -> (Outcome, Option<String>) {
    let what = format!(
        "{} is there and not empty, and nothing is written over: move it away, or restore elsewhere with --to DIR",
        path.display()
    );
    (Outcome::Refused, Some(what))
}

fn there_already(path: &Path) -> String {
    format!(
        "{} is there already, and nothing is written over: move it away, or restore elsewhere with --to DIR",
        path.display()
    )
}

/// What would keep it from being restored there, as far as that is seen without a try.
fn occupied(way: &Way) -> Option<String> {
    match way {
        Way::File(to) => to.symlink_metadata().is_ok().then(|| there_already(to)),
        Way::Tree(to) => {
            let has_entries = std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
            let is_begun = matches!(Destination::read_marker(to), Ok(Some(_)));
            let is_other = to.exists() && !to.is_dir();
            if is_other {
                return Some(there_already(to));
            }
            (has_entries && !is_begun).then(|| not_empty(to).1.unwrap_or_default())
        }
    }
}
