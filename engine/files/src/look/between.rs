//! What differs between two points of one vault. What takes time is what was changed between them: only runs that one of
//! them has alone are gone through.

use std::collections::{BTreeSet, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;

use backstay_core::id::LinkId;
use backstay_vault::vault::{DifferingKeys, Reading};

use super::difference::{Aspect, Difference, aspects};
use super::entry::ListedEntry;
use super::names::{Named, files_of};
use crate::heads::FoundRow;
use crate::keys::{HeadKey, PathKey, split_further};
use crate::point_rows::{PathRows, PointRows, rows_of};
use crate::restore::RestoreError;
use crate::row::{HeadRow, Restored, split};

/// So many paths are compared together, for files with several names to be looked up together.
const PATHS_TOGETHER: usize = 4096;

/// The differences, in order of path.
#[derive(Debug)]
pub struct Between {
    points: [Arc<Reading>; 2],
    below: PathKey,
    rows: [PointRows; 2],
    keys: Keys,
    found: VecDeque<Difference>,
}

/// One path in both points.
type Pair = [Option<Named>; 2];

impl Between {
    /// What differs at and below a path, from the point `old` to the point `new` of the same vault.
    pub fn open(old: &Arc<Reading>, new: &Arc<Reading>, below: PathKey) -> Result<Self, RestoreError> {
        let points = [old, new];
        let keys = Keys::of(points)?;
        let rows = points.map(|point| rows_of(point, below.as_bytes()));
        Ok(Self { points: points.map(Arc::clone), below, rows, keys, found: VecDeque::new() })
    }

    /// The next difference; `None` at the end.
    pub fn next_difference(&mut self) -> Result<Option<Difference>, RestoreError> {
        while self.found.is_empty() {
            let mut pairs = Vec::new();
            while pairs.len() < PATHS_TOGETHER
                && let Some(path) = self.keys.next()?
            {
                if path.is_within(&self.below) {
                    pairs.extend(self.pair(path)?);
                }
            }
            if pairs.is_empty() && self.keys.is_at_end()? {
                return Ok(None);
            }
            self.look_up(&mut pairs)?;
            self.found.extend(pairs.into_iter().filter_map(compare));
        }
        Ok(self.found.pop_front())
    }

    /// What both points have at a path; `None` when that is the same row, and of no file with several names.
    fn pair(&mut self, path: PathKey) -> Result<Option<Pair>, RestoreError> {
        let [old, new] = &mut self.rows;
        let rows = [old.find(path.as_bytes())?, new.find(path.as_bytes())?];
        let heads = rows.map(|row| row.map(|row| HeadRow::decode(&row.value)).transpose());
        let [old, new] = heads;
        let restored = [old?, new?].map(|head| head.map(|head| head.restored));
        let is_link = restored.iter().flatten().any(|restored| matches!(restored, Restored::Link(_)));
        if restored[0] == restored[1] && !is_link {
            return Ok(None);
        }
        let sides = restored.map(|restored| restored.map(|restored| Named::new(path.clone(), restored)));
        Ok(Some(sides))
    }

    fn look_up(&self, pairs: &mut [Pair]) -> Result<(), RestoreError> {
        for (side, point) in self.points.iter().enumerate() {
            let links = pairs.iter().filter_map(|pair| pair[side].as_ref()?.link);
            let files = files_of(point, links)?;
            for named in pairs.iter_mut().filter_map(|pair| pair[side].as_mut()) {
                if let Some(row) = named.link.and_then(|id| files.get(&id)) {
                    named.restored = HeadRow::decode(&row.value)?.restored;
                }
            }
        }
        Ok(())
    }
}

fn compare([old, new]: Pair) -> Option<Difference> {
    let aspects = match (&old, &new) {
        (Some(old), Some(new)) => {
            let mut aspects = aspects(&old.restored, &new.restored);
            if old.link != new.link && !aspects.contains(&Aspect::Link) {
                aspects.push(Aspect::Link);
            }
            if aspects.is_empty() {
                return None;
            }
            aspects
        }
        (None, None) => return None,
        _ => Vec::new(),
    };
    Some(Difference { old: old.map(ListedEntry::of), new: new.map(ListedEntry::of), aspects })
}

/// The paths at which the points may differ, in order: those whose rows may, and the names of files with several names whose
/// rows do. Only for the latter are all names gone through.
#[derive(Debug)]
struct Keys {
    differing: DifferingKeys,
    next: Option<PathKey>,
    names: Peekable<std::vec::IntoIter<PathKey>>,
}

impl Keys {
    fn of(points: [&Arc<Reading>; 2]) -> Result<Self, RestoreError> {
        let mut differing = DifferingKeys::of(points);
        let mut candidates = BTreeSet::new();
        let mut next = None;
        // Keys of links come before all paths.
        while let Some(key) = differing.next()? {
            match HeadKey::parse(split_further(key).0)? {
                HeadKey::Link(id) => {
                    candidates.insert(id);
                }
                HeadKey::Path(path) => {
                    next = Some(path);
                    break;
                }
            }
        }
        let names = names_of(points[1], &changed(points, &candidates)?)?;
        Ok(Self { differing, next, names: names.into_iter().peekable() })
    }

    fn next(&mut self) -> Result<Option<PathKey>, RestoreError> {
        let (differing, name) = (self.next.as_ref(), self.names.peek());
        match (differing, name) {
            (None, None) => Ok(None),
            (None, Some(_)) => Ok(self.names.next()),
            (Some(differing), name) => {
                let order = name.map(|name| name.cmp(differing));
                match order {
                    Some(std::cmp::Ordering::Less) => return Ok(self.names.next()),
                    Some(std::cmp::Ordering::Equal) => drop(self.names.next()),
                    _ => {}
                }
                let path = self.next.take();
                self.load(path.as_ref())?;
                Ok(path)
            }
        }
    }

    fn is_at_end(&mut self) -> Result<bool, RestoreError> {
        Ok(self.next.is_none() && self.names.peek().is_none())
    }

    /// Reads the next path whose row may differ; further rows are those of their head row.
    fn load(&mut self, last: Option<&PathKey>) -> Result<(), RestoreError> {
        while let Some(key) = self.differing.next()? {
            let path = PathKey::parse(split_further(key).0)?;
            if last != Some(&path) {
                self.next = Some(path);
                break;
            }
        }
        Ok(())
    }
}

/// Those of these files whose rows differ in what a restore would make of them.
fn changed(
    points: [&Arc<Reading>; 2],
    candidates: &BTreeSet<LinkId>,
) -> Result<BTreeSet<LinkId>, RestoreError> {
    let [old, new] = points.map(|point| files_of(point, candidates.iter().copied()));
    let (old, new) = (old?, new?);
    let restored = |row: Option<&FoundRow>| {
        row.map(|row| split(&row.value).map(|(restored, _)| restored.to_vec())).transpose()
    };
    let mut changed = BTreeSet::new();
    for id in candidates {
        if restored(old.get(id))? != restored(new.get(id))? {
            changed.insert(*id);
        }
    }
    Ok(changed)
}

/// The names of these files in a point, in order.
fn names_of(point: &Arc<Reading>, links: &BTreeSet<LinkId>) -> Result<Vec<PathKey>, RestoreError> {
    let mut names = Vec::new();
    if links.is_empty() {
        return Ok(names);
    }
    let mut rows = PathRows::open(point, PathKey::root());
    while let Some((key, value)) = rows.next()? {
        if let Restored::Link(id) = HeadRow::decode(value)?.restored
            && links.contains(&id)
        {
            names.push(PathKey::parse(key)?);
        }
    }
    Ok(names)
}
