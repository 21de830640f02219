//! Thinning against histories in memory: whatever is dropped and merged, the points that stay read as before.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::{ChunkId, ObjectHash, PointId};
use crate::layout::Accepted;
use crate::run::PartRef;
use crate::units::Timestamp;

/// Key to value; `None` removes.
type Edit = BTreeMap<u8, Option<u32>>;

fn link(n: u32) -> PointLink {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    PointLink { point: PointId::new(id), object: ObjectHash::new([7; 32]) }
}

/// A source's layout, and what is in its runs, by the root of their only part.
#[derive(Default)]
struct World {
    layout: Layout,
    edits: HashMap<ChunkId, Edit>,
    points: u32,
}

impl World {
    fn add_run(&mut self, from: Option<PointLink>, to: PointLink, edit: Edit) {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(self.edits.len() as u64).to_be_bytes());
        let root = ChunkId::new(id);
        let entries = edit.len() as u64;
        self.edits.insert(root, edit);
        let part = PartRef { root, root_length: 1, first_key: vec![], last_key: vec![], entries };
        self.layout.runs.push(PlacedRun { from, to, run: Run { parts: vec![part] } });
    }

    fn accept(&mut self, from: Option<PointLink>, edit: Edit) -> PointLink {
        self.points += 1;
        let to = link(self.points);
        self.add_run(from, to, edit);
        let retention_time = Timestamp::from_seconds(i64::from(self.points));
        self.layout.accepted.push(Accepted { link: to, retention_time, holds: vec![] });
        to
    }

    fn edit(&self, run: &Run) -> &Edit {
        &self.edits[&run.parts[0].root]
    }

    fn merged(&self, newest_first: &[Run]) -> Edit {
        newest_first.iter().rev().flat_map(|run| self.edit(run).clone()).collect()
    }

    fn state(&self, point: PointLink) -> Edit {
        let stack = stack(Some(&self.layout), &[], point).expect("reads");
        let mut state = self.merged(&stack);
        state.retain(|_, value| value.is_some());
        state
    }

    fn alive(&self) -> Vec<PointLink> {
        let all = self.layout.accepted.iter().map(|accepted| accepted.link);
        all.filter(|link| !self.layout.dropped.contains(link)).collect()
    }

    fn plan(&self, unwanted: &[PointLink], pinned: &[PointLink], renews: bool) -> Plan {
        let wishes = Wishes {
            unwanted: unwanted.iter().copied().collect(),
            pinned: pinned.iter().copied().collect(),
            ..Wishes::default()
        };
        plan(&self.layout, &wishes, &mut |_, _, _| renews).expect("a sound layout")
    }

    /// Both layouts of a thinning, one after the other.
    fn apply(&mut self, plan: &Plan, pinned: &[PointLink]) {
        for merge in &plan.merges {
            let edit = self.merged(&merge.runs);
            self.add_run(merge.from, merge.to, edit);
        }
        self.layout.dropped.extend(&plan.drop);
        let roots: Vec<PointLink> = self.alive().into_iter().chain(pinned.iter().copied()).collect();
        self.layout.runs = needed(&self.layout, &roots).expect("a sound layout");
        let World { layout, .. } = self;
        layout.accepted.retain(|accepted| !layout.dropped.contains(&accepted.link));
        layout.dropped.retain(|link| pinned.contains(link));
    }

    fn shape(&self) -> Vec<(u32, u32)> {
        let number = |link: PointLink| u32::from_be_bytes(*link.point.as_bytes().first_chunk().unwrap());
        let mut shape: Vec<(u32, u32)> =
            self.layout.runs.iter().map(|run| (run.from.map_or(0, number), number(run.to))).collect();
        shape.sort_unstable();
        shape
    }
}

fn put(key: u8, value: u32) -> Edit {
    Edit::from([(key, Some(value))])
}

/// A base and edits on it, one after the other.
fn line(count: u32) -> (World, Vec<PointLink>) {
    let mut world = World::default();
    let mut points: Vec<PointLink> = Vec::new();
    for n in 0..count {
        points.push(world.accept(points.last().copied(), put((n % 250) as u8, n)));
    }
    (world, points)
}

#[test]
fn neighbours_that_go_become_one_run() {
    let (mut world, points) = line(6);
    let plan = world.plan(&points[2..4], &[], false);
    assert_eq!(plan.drop, points[2..4]);
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 1), (1, 2), (2, 5), (5, 6)]);
}

#[test]
fn what_was_merged_is_not_merged_again_while_the_old_runs_are_there() {
    for renews in [false, true] {
        let (mut world, points) = line(6);
        let plan = world.plan(&points[1..4], &[], renews);
        for merge in &plan.merges {
            let edit = world.merged(&merge.runs);
            world.add_run(merge.from, merge.to, edit);
        }
        world.layout.dropped.extend(&plan.drop);
        assert!(!plan.merges.is_empty());
        assert_eq!(world.plan(&[], &[], renews), Plan::default(), "the old runs go with the next pass");
    }
}

#[test]
fn the_base_outlives_its_point_until_it_is_renewed() {
    let (mut world, points) = line(4);
    let plan = world.plan(&points[..2], &[], false);
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 1), (1, 3), (3, 4)]);
    assert_eq!(world.plan(&[], &[], false), Plan::default(), "nothing is left to do");
    let plan = world.plan(&[], &[], true);
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 3), (3, 4)]);
    assert_eq!(world.alive(), points[2..]);
}

#[test]
fn a_stretch_that_is_too_long_to_be_merged_at_once_is_merged_from_its_old_end() {
    let (mut world, points) = line(1300);
    let unwanted = &points[1..1299];
    for expected in [[(0, 1), (1, 513)], [(0, 1), (1, 1024)], [(0, 1), (1, 1300)]] {
        let plan = world.plan(unwanted, &[], false);
        assert_eq!(plan.merges[0].runs.len().min(MERGE_RUNS_MAX), plan.merges[0].runs.len());
        world.apply(&plan, &[]);
        assert_eq!(world.shape()[..2], expected);
    }
    assert_eq!(world.shape().len(), 2);
}

#[test]
fn what_nobody_builds_on_goes_without_a_merge() {
    let (mut world, points) = line(2);
    let side = world.accept(Some(points[0]), put(9, 9));
    let plan = world.plan(&[side], &[], false);
    assert_eq!((plan.drop.as_slice(), plan.merges.as_slice()), ([side].as_slice(), [].as_slice()));
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 1), (1, 2)]);
}

#[test]
fn two_lineages_are_never_merged_into_each_other() {
    let (mut world, points) = line(3);
    world.accept(Some(points[1]), put(9, 9));
    let plan = world.plan(&points[..2], &[], false);
    assert_eq!(plan.stay, [(points[1], Obstacle::Fork)]);
    assert_eq!(plan.drop, points[..1]);
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 1), (1, 2), (2, 3), (2, 4)]);
}

#[test]
fn a_pinned_point_stays_and_so_does_one_that_was_dropped_while_it_is_pinned() {
    let (mut world, points) = line(4);
    let plan = world.plan(&points[1..3], &points[1..2], false);
    assert_eq!(plan.stay, [(points[1], Obstacle::Pinned)]);
    world.apply(&plan, &points[1..2]);
    assert_eq!(world.shape(), [(0, 1), (1, 2), (2, 4)]);

    let (mut world, points) = line(4);
    let before = world.state(points[1]);
    let plan = world.plan(&points[1..2], &[], false);
    world.apply(&plan, &points[1..2]);
    assert_eq!(world.state(points[1]), before, "it was pinned between the two layouts");
    assert_eq!(world.alive(), [points[0], points[2], points[3]]);
}

#[test]
fn a_long_stack_gets_shortcuts_and_keeps_its_points() {
    let (mut world, points) = line(1000);
    let states: Vec<Edit> = points.iter().map(|point| world.state(*point)).collect();
    loop {
        let plan = world.plan(&[], &[], false);
        if plan.merges.is_empty() {
            break;
        }
        world.apply(&plan, &[]);
    }
    let longest = points.iter().map(|point| stack(Some(&world.layout), &[], *point).unwrap().len()).max();
    assert!(longest.is_some_and(|runs| runs <= STACK_RUNS_MAX), "{longest:?}");
    assert!(world.layout.runs.len() < 1100, "{}", world.layout.runs.len());
    assert!(points.iter().zip(states).all(|(point, state)| world.state(*point) == state));
    // Shortcuts are no lineages: what they pass goes when it is unwanted.
    let plan = world.plan(&points[..999], &[], false);
    assert_eq!(plan.stay, []);
    world.apply(&plan, &[]);
    assert_eq!(world.shape(), [(0, 1), (1, 1000)]);
}

#[test]
fn what_an_unfinished_capture_has_left_is_merged_into_nothing() {
    // Long stacks, the last point of which is partial, at each length at which further runs are made.
    for length in 129..180 {
        let (world, points) = line(length);
        let last = points[points.len() - 1];
        let partial = HashSet::from([last]);
        let wishes = Wishes { partial: partial.clone(), ..Wishes::default() };
        let own = world.layout.runs.last().expect("its run").run.clone();
        let made = plan(&world.layout, &wishes, &mut |_, _, _| false).expect("plans").merges;
        assert!(made.iter().all(|merge| merge.to != last && !merge.runs.contains(&own)), "{length}");
        // Nor when what it builds on is dropped.
        let unwanted = points[1..points.len() - 1].iter().copied().collect();
        let wishes = Wishes { unwanted, partial, ..Wishes::default() };
        let made = plan(&world.layout, &wishes, &mut |_, _, _| false).expect("plans").merges;
        assert!(made.iter().all(|merge| merge.to != last && !merge.runs.contains(&own)), "{length}");
    }
}

#[test]
fn nothing_goes_from_a_layout_with_a_gap_or_a_loop() {
    let (mut world, points) = line(4);
    let whole = world.layout.runs.clone();
    world.layout.runs.remove(1);
    let wishes = Wishes { unwanted: points[..1].iter().copied().collect(), ..Wishes::default() };
    let missing = StackError::MissingParent { point: points[2].point, missing: points[1].point };
    let refused = plan(&world.layout, &wishes, &mut |_, _, _| false).expect_err("refused");
    assert!(matches!(refused, StackError::MissingParent { .. }), "{refused}");
    assert_eq!(needed(&world.layout, &points[2..3]), Err(missing));
    world.layout.runs = whole;
    world.add_run(Some(points[3]), points[1], put(1, 1));
    assert!(plan(&world.layout, &wishes, &mut |_, _, _| false).is_err());
}

#[test]
fn a_base_is_renewed_when_half_of_it_is_out_of_date() {
    let weights = Weights { base_entries: 100, edit_entries: 50, referred_bytes: 1500, state_bytes: 1000 };
    assert!(!weights.call_for_a_new_base());
    assert!(Weights { edit_entries: 51, ..weights }.call_for_a_new_base());
    assert!(Weights { referred_bytes: 1501, ..weights }.call_for_a_new_base());
    assert!(!Weights { state_bytes: 2000, ..weights }.call_for_a_new_base());
    // Large files: little is written to free much.
    let large = Weights { referred_bytes: 1_100_000, state_bytes: 1_000_000, ..weights };
    assert!(!large.call_for_a_new_base());
    assert!(Weights { referred_bytes: 1_200_000, ..large }.call_for_a_new_base());
}

#[derive(Debug, Clone)]
enum Step {
    /// On the newest point, or on one so many before it.
    Capture(usize, Vec<(u8, Option<u32>)>),
    /// Points to drop and to pin, by chance; whether the base is renewed.
    Thin(Vec<bool>, Vec<bool>, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = proptest::collection::vec((0u8..12, proptest::option::weighted(0.8, any::<u32>())), 1..5);
    let parent = prop_oneof![8 => Just(0usize), 1 => 1usize..6];
    let chances = |p| proptest::collection::vec(proptest::bool::weighted(p), 40);
    let step = prop_oneof![
        4 => (parent, edit).prop_map(|(parent, edit)| Step::Capture(parent, edit)),
        1 => (chances(0.5), chances(0.1), any::<bool>()).prop_map(|(a, b, c)| Step::Thin(a, b, c)),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_is_thinned_the_points_that_stay_read_as_before(steps in steps()) {
        let mut world = World::default();
        let mut states: HashMap<PointLink, Edit> = HashMap::new();
        for step in steps {
            match step {
                Step::Capture(back, edit) => {
                    let alive = world.alive();
                    let parent = alive.len().checked_sub(1 + back).map(|place| alive[place]);
                    let point = world.accept(parent, edit.into_iter().collect());
                    states.insert(point, world.state(point));
                }
                Step::Thin(drop, pin, renews) => {
                    let alive = world.alive();
                    let chosen = |chances: &[bool]| -> Vec<PointLink> {
                        alive.iter().zip(chances).filter(|(_, chosen)| **chosen).map(|(link, _)| *link).collect()
                    };
                    let (mut unwanted, pinned) = (chosen(&drop), chosen(&pin));
                    unwanted.retain(|link| Some(link) != alive.last());
                    let plan = world.plan(&unwanted, &pinned, renews);
                    world.apply(&plan, &[]);
                    for point in world.alive() {
                        prop_assert_eq!(&world.state(point), &states[&point]);
                    }
                    let gone = alive.len() - world.alive().len();
                    prop_assert_eq!(gone, plan.drop.len());
                    prop_assert_eq!(gone + plan.stay.len(), unwanted.len());
                    let forks = world.layout.runs.iter().filter_map(|run| run.from).count();
                    prop_assert!(forks < 2 * world.alive().len().max(1), "runs are bounded by the points");
                    let again = world.plan(&[], &[], false);
                    prop_assert_eq!(again, Plan::default(), "once is enough");
                }
            }
        }
    }
}
