//! Thinning: which points of a source can go of those that nobody wants, and which runs are merged so that the rest
//! reads as before (docs/format.md, section 9). Owns the plan; reading and writing runs and layouts is the vault's.
//!
//! The runs that make up the points that stay form a tree, since of several ways to a point the one through the most
//! points is taken. What is merged is a stretch of it between two points that stay, never across a fork. The run that
//! begins at nothing, the base, is as large as the whole source: it is merged only when enough of it is out of date.

mod lineage;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use crate::layout::{Layout, PlacedRun, StackError, stack, tree, tree_from};
use crate::point::PointLink;
use crate::run::Run;

/// A stack with more runs than this gets further merged runs beside its own, so that reading it stays cheap.
pub const STACK_RUNS_MAX: usize = 128;

/// How many runs of a stack that is too long become one.
const SHORTCUT_RUNS: usize = 16;

/// Most runs that are merged at once, which bounds the memory of a merge. The rest of a longer stretch is for the next
/// plan.
pub const MERGE_RUNS_MAX: usize = 512;

/// What an entry of a run takes in the vault, more or less, bytes.
const ENTRY_BYTES: u64 = 128;

/// A new base is worth it when it frees so many times what it takes.
const WORTH: u64 = 8;

/// What retention wants of the points that a layout accepts.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Points that retention does not keep.
    pub unwanted: HashSet<PointLink>,
    /// Points that must stay whatever retention wants: what is being read, or built on.
    pub pinned: HashSet<PointLink>,
    /// What unfinished captures and copies have left: their runs stay as they are, since what goes on from them goes by these,
    /// and they keep more than their entries refer to.
    pub partial: HashSet<PointLink>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Points to drop, in the order of the layout.
    pub drop: Vec<PointLink>,
    /// Points that nobody wants and that stay all the same, and why.
    pub stay: Vec<(PointLink, Obstacle)>,
    /// Runs to be made. None needs another of them.
    pub merges: Vec<Merge>,
}

/// Why an unwanted point stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody reads it or builds on it.
    Pinned,
    /// Two points that stay build on it, each in its own way.
    Fork,
}

/// A run to be made out of several that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Where it begins.
    pub from: Option<PointLink>,
    /// Where it leads.
    pub to: PointLink,
    /// What it is made of, the newest run first.
    pub runs: Vec<Run>,
}

/// How a base and the edits above it compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Entries of the base.
    pub base_entries: u64,
    /// Entries of the edits.
    pub edit_entries: u64,
    /// Bytes to which the base and the edits refer.
    pub referred_bytes: u64,
    /// Bytes that a restore of the state writes, which the two make up together.
    pub state_bytes: u64,
}

impl Weights {
    /// Whether the base is out of date: by more than half of what is to be read of it or of what its references keep in
    /// the vault, or by so much that a new one, which is metadata only, is small beside what it frees.
    pub fn call_for_a_new_base(self) -> bool {
        let half_read = self.edit_entries > self.base_entries / 2;
        let waste_bytes = self.referred_bytes.saturating_sub(self.state_bytes);
        let cost_bytes = self.base_entries.saturating_add(self.edit_entries).saturating_mul(ENTRY_BYTES);
        half_read || waste_bytes > self.state_bytes / 2 || waste_bytes > cost_bytes.saturating_mul(WORTH)
    }
}

/// Plans what a layout allows of what is wished. `renews_base` decides on a base (first) and the edits on it, newest
/// first, which make up the state of the point.
///
/// # Errors
/// [`StackError`] when a point that stays has no stack of runs: nothing may go from such a layout.
pub fn plan(
    layout: &Layout,
    wishes: &Wishes,
    renews_base: &mut dyn FnMut(&Run, &[Run], PointLink) -> bool,
) -> Result<Plan, StackError> {
    let dropped: HashSet<PointLink> = layout.dropped.iter().copied().collect();
    let is_wanted = |link: &PointLink| !wishes.unwanted.contains(link) || wishes.pinned.contains(link);
    let present = layout.accepted.iter().map(|accepted| accepted.link);
    let (kept, unwanted): (Vec<PointLink>, Vec<PointLink>) =
        present.filter(|link| !dropped.contains(link)).partition(is_wanted);
    let forest = Forest::new(layout, kept.iter().chain(&wishes.pinned).copied().collect())?;
    let mut plan = Plan::default();
    let pinned = kept.iter().filter(|link| wishes.unwanted.contains(link));
    plan.stay.extend(pinned.map(|link| (*link, Obstacle::Pinned)));
    for link in unwanted {
        match forest.forks(&link) {
            true => plan.stay.push((link, Obstacle::Fork)),
            false => plan.drop.push(link),
        }
    }
    // In the order of the layout's runs, so that equal layouts give equal plans.
    let mut seen = HashSet::new();
    let is_partial = |link: &PointLink| wishes.partial.contains(link);
    for to in layout.runs.iter().map(|placed| placed.to).filter(|to| forest.ends_at(to) && !is_partial(to)) {
        if seen.insert(to) {
            plan.merges.extend(forest.merge_up_to(to, renews_base));
        }
    }
    if plan.merges.is_empty()
        && let Some(newest) = kept.iter().rfind(|link| !is_partial(link))
    {
        plan.merges = shortcuts(layout, *newest)?;
    }
    Ok(plan)
}

/// The runs of a layout that make up `roots`: those that lead through dropped points only where there is no other way.
///
/// # Errors
/// [`StackError`] when there is no way to a root.
pub fn needed<'l>(layout: &'l Layout, roots: &[PointLink]) -> Result<Vec<PlacedRun>, StackError> {
    let mut runs: Vec<&'l PlacedRun> = layout.runs.iter().collect();
    let stays: HashSet<&PointLink> = roots.iter().collect();
    let gone: HashSet<PointLink> =
        layout.dropped.iter().filter(|link| !stays.contains(link)).copied().collect();
    let without = |runs: &[&'l PlacedRun], gone: &HashSet<PointLink>| -> Vec<&'l PlacedRun> {
        let passes = |placed: &PlacedRun| {
            gone.contains(&placed.to) || placed.from.is_some_and(|from| gone.contains(&from))
        };
        runs.iter().copied().filter(|placed| !passes(placed)).collect()
    };
    let reaches_all = |runs: &[&PlacedRun]| {
        let reached = tree(runs.iter().copied());
        roots.iter().all(|root| reached.contains_key(root))
    };
    let rest = without(&runs, &gone);
    if reaches_all(&rest) {
        runs = rest;
    } else {
        // All can go that no shortest way leads through; the others one by one, which takes the square of their number.
        let on_ways = on_ways(&runs, roots);
        let (needed, others): (HashSet<PointLink>, HashSet<PointLink>) =
            gone.into_iter().partition(|link| on_ways.contains(link));
        runs = without(&runs, &others);
        for link in layout.dropped.iter().filter(|link| needed.contains(link)) {
            let rest = without(&runs, &HashSet::from([*link]));
            if reaches_all(&rest) {
                runs = rest;
            }
        }
    }
    let reached = tree(runs.iter().copied());
    let mut used: HashMap<PointLink, &PlacedRun> = HashMap::new();
    for root in roots {
        let mut current = Some(*root);
        while let Some(to) = current {
            let Some(placed) = reached.get(&to) else {
                // Says where the way breaks off.
                stack(Some(layout), &[], *root)?;
                break;
            };
            if used.insert(to, placed).is_some() {
                break;
            }
            current = placed.from;
        }
    }
    let is_used = |placed: &&PlacedRun| used.get(&placed.to).is_some_and(|used| std::ptr::eq(*used, *placed));
    Ok(layout.runs.iter().filter(is_used).cloned().collect())
}

/// The points that the shortest ways to `roots` lead through.
fn on_ways(runs: &[&PlacedRun], roots: &[PointLink]) -> HashSet<PointLink> {
    let reached = tree(runs.iter().copied());
    let mut passed = HashSet::new();
    for root in roots {
        let mut current = Some(*root);
        while let Some(link) = current
            && passed.insert(link)
        {
            current = reached.get(&link).and_then(|placed| placed.from);
        }
    }
    passed
}

/// The runs that make up the points that stay.
struct Forest<'a> {
    /// The points that stay.
    roots: HashSet<PointLink>,
    /// For each point, the run that leads to it.
    runs: HashMap<PointLink, &'a PlacedRun>,
    /// How many runs on the way to points that stay begin at each point.
    branches: HashMap<PointLink, usize>,
    all: &'a [PlacedRun],
}

impl<'a> Forest<'a> {
    fn new(layout: &'a Layout, roots: HashSet<PointLink>) -> Result<Self, StackError> {
        let runs = lineage::lineage(&layout.runs);
        let mut branches: HashMap<PointLink, usize> = HashMap::new();
        let mut seen = HashSet::new();
        for root in &roots {
            if !runs.contains_key(root) {
                return Err(stack(Some(layout), &[], *root)
                    .err()
                    .unwrap_or(StackError::Endless { point: root.point }));
            }
            let mut current = Some(*root);
            while let Some(placed) = current.and_then(|link| runs.get(&link))
                && seen.insert(placed.to)
            {
                if let Some(from) = placed.from {
                    *branches.entry(from).or_default() += 1;
                }
                current = placed.from;
            }
        }
        Ok(Self { roots, runs, branches, all: &layout.runs })
    }

    fn forks(&self, link: &PointLink) -> bool {
        self.branches.get(link).is_some_and(|branches| *branches > 1)
    }

    /// Whether a merged run may begin or end here, and none may pass.
    fn ends_at(&self, link: &PointLink) -> bool {
        self.roots.contains(link) || self.forks(link)
    }

    /// The runs from the point that stays below `to`, newest first, and where they begin.
    fn stretch(&self, to: PointLink) -> Option<(Option<PointLink>, Vec<&'a PlacedRun>)> {
        let mut stretch = Vec::new();
        let mut current = to;
        loop {
            let placed = *self.runs.get(&current)?;
            stretch.push(placed);
            match placed.from {
                Some(from) if !self.ends_at(&from) => current = from,
                from => return Some((from, stretch)),
            }
        }
    }

    /// The same stretch by as few runs as there are: what was merged already is not merged again.
    fn as_merged(&self, from: Option<PointLink>, stretch: Vec<&'a PlacedRun>) -> Vec<&'a PlacedRun> {
        let inside: HashSet<PointLink> = stretch.iter().map(|placed| placed.to).collect();
        // Of several between the same points the newest.
        let own = self.all.iter().rev().filter(|placed| inside.contains(&placed.to));
        let reached = tree_from(from, own);
        let mut shortest = Vec::new();
        let mut current = Some(stretch[0].to);
        while current != from {
            let Some(placed) = current.and_then(|link| reached.get(&link)) else { return stretch };
            shortest.push(*placed);
            current = placed.from;
        }
        shortest
    }

    fn merge_up_to(
        &self,
        to: PointLink,
        renews_base: &mut dyn FnMut(&Run, &[Run], PointLink) -> bool,
    ) -> Option<Merge> {
        let (from, stretch) = self.stretch(to)?;
        let mut stretch = self.as_merged(from, stretch);
        if from.is_none() {
            let base = stretch.pop()?;
            let edits: Vec<Run> = stretch.iter().map(|placed| placed.run.clone()).collect();
            if !edits.is_empty() && renews_base(&base.run, &edits, to) {
                stretch.push(base);
            }
        }
        (stretch.len() > 1).then(|| merge(&stretch[stretch.len().saturating_sub(MERGE_RUNS_MAX)..]))
    }
}

/// Of runs that follow each other, newest first.
fn merge(stretch: &[&PlacedRun]) -> Merge {
    let (newest, oldest) = (stretch[0], stretch[stretch.len() - 1]);
    Merge {
        from: oldest.from,
        to: newest.to,
        runs: stretch.iter().map(|placed| placed.run.clone()).collect(),
    }
}

/// Merged runs beside those of a stack that is too long: each of several that are alike in how many points they pass.
fn shortcuts(layout: &Layout, newest: PointLink) -> Result<Vec<Merge>, StackError> {
    let reached = tree(layout.runs.iter());
    let mut path = Vec::new();
    let mut current = Some(newest);
    while let Some(placed) = current.and_then(|link| reached.get(&link)) {
        path.push(*placed);
        current = placed.from;
    }
    if path.len() <= STACK_RUNS_MAX {
        return Ok(Vec::new());
    }
    let places: HashMap<PointLink, usize> =
        layout.accepted.iter().enumerate().map(|(place, accepted)| (accepted.link, place)).collect();
    let level = |placed: &&PlacedRun| {
        let place = |link: Option<PointLink>| link.and_then(|link| places.get(&link)).copied();
        let passed = place(Some(placed.to)).zip(place(placed.from)).map_or(1, |(to, from)| to.abs_diff(from));
        passed.max(1).ilog(SHORTCUT_RUNS)
    };
    // The base stands alone. Counted from the old end, so that what was merged once stays so.
    let alike = path[..path.len() - 1].chunk_by(|a, b| level(a) == level(b));
    Ok(alike.flat_map(|runs| runs.rchunks_exact(SHORTCUT_RUNS)).map(merge).collect())
}
