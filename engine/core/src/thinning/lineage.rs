//! The finest way to each point: the one that passes the most points.

use std::collections::{HashMap, VecDeque};

use crate::layout::{PlacedRun, tree};
use crate::point::PointLink;

/// For each point that the runs make up, the run that leads to it on the longest way from nothing; of several between
/// the same points the one that comes last, which is the newest. A point on a loop has none.
pub(super) fn lineage(runs: &[PlacedRun]) -> HashMap<PointLink, &PlacedRun> {
    let reached = tree(runs.iter());
    let usable = |placed: &&PlacedRun| placed.from.is_none_or(|from| reached.contains_key(&from));
    let mut waiting: HashMap<PointLink, usize> = HashMap::new();
    let mut onwards: HashMap<Option<PointLink>, Vec<&PlacedRun>> = HashMap::new();
    for placed in runs.iter().filter(usable) {
        *waiting.entry(placed.to).or_default() += 1;
        onwards.entry(placed.from).or_default().push(placed);
    }
    let mut longest: HashMap<PointLink, (usize, &PlacedRun)> = HashMap::new();
    let mut known = HashMap::new();
    let mut next = VecDeque::from([(None, 0)]);
    while let Some((from, length)) = next.pop_front() {
        for placed in onwards.remove(&from).into_iter().flatten() {
            let best = longest.entry(placed.to).or_insert((length + 1, placed));
            if length + 1 >= best.0 {
                *best = (length + 1, placed);
            }
            let Some(missing) = waiting.get_mut(&placed.to) else { continue };
            *missing -= 1;
            if *missing == 0 {
                known.insert(placed.to, best.1);
                next.push_back((Some(placed.to), best.0));
            }
        }
    }
    known
}
