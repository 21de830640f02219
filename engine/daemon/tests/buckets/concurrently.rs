//! Two nodes and a custodian in one bucket, all of them at once: what was acknowledged is restored as it was, for as long as retention
//! keeps it, and what both nodes have alike is there once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay_testkit::random::{Random, seed};

use crate::fleet::{Fleet, NODES};
use crate::small_sources;

/// Points of each source that retention keeps.
const KEPT: usize = 4;

/// Contents that both nodes may have, each so large at most.
const ALIKE: u64 = 12;
const ALIKE_BYTES_MAX: usize = 1_500_000;

/// Files of a source.
const FILES: usize = 12;

/// A tree, by name.
type Tree = BTreeMap<String, Arc<Vec<u8>>>;

/// What was told to be safe: the tree of each point.
type Acknowledged = Mutex<HashMap<String, Tree>>;

#[derive(Default)]
struct Counts {
    captured: AtomicU64,
    restored: AtomicU64,
    gone: AtomicU64,
    pruned: AtomicU64,
}

impl Counts {
    fn are_too_few(&self) -> bool {
        let few = |of: &AtomicU64, enough| of.load(Ordering::Relaxed) < enough;
        few(&self.captured, 10) || few(&self.restored, 5) || few(&self.pruned, 3)
    }
}

/// How much longer a slow machine may take.
const SLOW_MAX: Duration = Duration::from_secs(300);

/// For so long both nodes capture, restore what either has captured, and one prunes. Their daemons capture small sources
/// meanwhile, whose commits go together.
pub(crate) fn two_nodes_and_a_custodian(time: Duration) {
    let seed = seed();
    println!("BACKSTAY_TEST_SEED={seed}");
    let fleet = fleet();
    let daemons = [fleet.daemon(0), fleet.daemon(1)];
    let acknowledged = Acknowledged::default();
    let (counts, end) = (Counts::default(), Instant::now() + time);
    let last = std::thread::scope(|scope| {
        let small = [0, 1].map(|node| {
            let fleet = &fleet;
            scope.spawn(move || small_sources::write_until(fleet, node, || Instant::now() >= end))
        });
        for node in [0, 1] {
            let (fleet, acknowledged, counts) = (&fleet, &acknowledged, &counts);
            scope
                .spawn(move || work(fleet, node, Random::new(seed + node as u64), acknowledged, counts, end));
        }
        let limit = end + SLOW_MAX;
        while counts.are_too_few() && Instant::now() < limit || Instant::now() < end {
            let said = fleet.run(0, &["vault", "prune", "offsite"]);
            // Where a commit is under way, what comes after it is left for the next.
            assert!(matches!(said.code, Some(0 | 3)), "{}", said.errors);
            counts.pruned.fetch_add(u64::from(said.code == Some(0)), Ordering::Relaxed);
        }
        small.map(|small| small.join().unwrap())
    });
    let small: usize = (0..2).map(|node| small_sources::are_captured(&fleet, node, last[node])).sum();
    let acknowledged = acknowledged.into_inner().unwrap();
    // What came after the last prune, and once more for what that has left to the next.
    for _ in 0..3 {
        fleet.run(0, &["vault", "prune", "offsite"]).good();
    }
    let mut contents = HashSet::new();
    for (node, name) in NODES.into_iter().enumerate() {
        let points = points(&fleet, 1 - node, name);
        assert_eq!(points.len(), KEPT, "{points:?}");
        for point in &points {
            let tree = &acknowledged[point];
            // By the other node than the one that has captured it.
            assert!(restore(&fleet, 1 - node, name, point).as_ref() == Some(tree), "{name} {point}");
            contents.extend(tree.values().cloned());
        }
    }
    fleet.run(0, &["vault", "check", "offsite", "--read-data", "1/1"]).good();
    let stat = fleet.run(0, &["vault", "stat", "offsite", "--json"]).good().json();
    let [captured, restored, gone, pruned] =
        [&counts.captured, &counts.restored, &counts.gone, &counts.pruned]
            .map(|of| of.load(Ordering::Relaxed));
    let once: usize = contents.iter().map(|content| content.len()).sum();
    let stored = stat["data_pack_bytes"].as_u64().unwrap();
    println!(
        "{captured} captures and {pruned} prunes in {time:?}; {restored} points restored, {gone} had gone meanwhile; {} points kept with {once} bytes of different contents, in packs of {stored} bytes, and {small} of small sources",
        2 * KEPT
    );
    assert!(!counts.are_too_few(), "too little was done");
    // Nothing compresses them. A fifth may be what nobody needs, and a pack is filled up to its end.
    assert!(stored as usize <= once + once / 4 + (1 << 20), "{stored} bytes for {once}");
    drop(daemons);
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::apart();
    fleet.vault = "custodian = \"alpha\"".to_owned();
    fleet.policy = format!("keep = {{ last = {KEPT} }}\n{}", small_sources::configured(&fleet));
    fleet.nodes = [fleet.secret(), fleet.secret()];
    let recovery = fleet.recovery();
    fleet.run(0, &["init", "alpha", "--recovery", &recovery]).good();
    fleet.run(0, &["vault", "init", "offsite", "--recovery", &recovery]).good();
    fleet.join();
    fleet
}

/// What one node does all the time.
fn work(
    fleet: &Fleet,
    node: usize,
    mut random: Random,
    acknowledged: &Acknowledged,
    counts: &Counts,
    end: Instant,
) {
    let (name, source) = (NODES[node], fleet.source(NODES[node]));
    let mut tree = Tree::new();
    let limit = end + SLOW_MAX;
    while counts.are_too_few() && Instant::now() < limit || Instant::now() < end {
        change(&mut tree, &source, &mut random);
        let said = fleet.run(node, &["now", name, "--json"]).good().json();
        let point = said[0]["targets"][0]["outcome"]["point"]["point"].as_str();
        // None where the change has changed nothing.
        if let Some(point) = point {
            acknowledged.lock().unwrap().insert(point.to_owned(), tree.clone());
            counts.captured.fetch_add(1, Ordering::Relaxed);
        }
        if random.once_in(2) {
            restore_any(fleet, node, &mut random, acknowledged, counts);
        }
    }
}

/// Restores a point of either node that the vault has now.
fn restore_any(
    fleet: &Fleet,
    node: usize,
    random: &mut Random,
    acknowledged: &Acknowledged,
    counts: &Counts,
) {
    let name = random.choose(&NODES);
    let points = points(fleet, node, name);
    let known = |point: &String| acknowledged.lock().unwrap().get(point).cloned();
    let Some(point) = points.get(random.below(points.len().max(1))) else { return };
    // One that was acknowledged a moment ago may not be noted yet.
    let Some(tree) = known(point) else { return };
    match restore(fleet, node, name, point) {
        Some(restored) => {
            assert!(restored == tree, "{name} {point} is not what it was");
            counts.restored.fetch_add(1, Ordering::Relaxed);
        }
        None => {
            let now = self::points(fleet, node, name);
            assert!(!now.contains(point), "{name} {point} is there, and was not restored");
            counts.gone.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn points(fleet: &Fleet, node: usize, name: &str) -> Vec<String> {
    let listed = fleet.run(node, &["points", name, "--json"]).good().json();
    let listed = listed.as_array().unwrap().iter();
    listed.map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

/// The tree of a point; none where it does not come about.
fn restore(fleet: &Fleet, node: usize, name: &str, point: &str) -> Option<Tree> {
    let target = fleet.path(&format!("restored by {}", NODES[node]));
    let said = fleet.run(node, &["restore", name, "--point", point, "--to", target.to_str().unwrap()]);
    let tree = (said.code == Some(0)).then(|| {
        let files = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap());
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, Arc::new(fs::read(entry.path()).unwrap()))
        };
        files.map(file).collect()
    });
    if target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
    tree
}

/// Writes some files anew, of which many are like some of the other node, and removes one now and then.
fn change(tree: &mut Tree, source: &Path, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let name = format!("file {}", random.below(FILES));
        if random.once_in(6) {
            if tree.remove(&name).is_some() {
                fs::remove_file(source.join(name)).unwrap();
            }
            continue;
        }
        let content = if random.once_in(3) {
            let length = random.below(300_000);
            random.bytes(length)
        } else {
            let mut alike = Random::new(random.number() % ALIKE);
            let length = alike.below(ALIKE_BYTES_MAX);
            alike.bytes(length)
        };
        fs::write(source.join(&name), &content).unwrap();
        tree.insert(name, Arc::new(content));
    }
}
