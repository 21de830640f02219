//! Small sources beside each other, which the daemons capture when they are changed: their commits go together.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, NODES};

/// What follows the name of the node in the names of its small sources.
const SMALL: [&str; 3] = ["a", "b", "c"];

/// The files of each.
const FILES: [&str; 2] = ["one", "two"];

/// So often all of them are written anew.
const EVERY: Duration = Duration::from_millis(700);

/// How long it may take until what was written last is in the bucket.
const CAPTURED_MAX: Duration = Duration::from_secs(180);

/// The tables of the configuration that protect them.
pub(crate) fn configured(fleet: &Fleet) -> String {
    // A twentieth of the objective is what a commit waits for others.
    let mut text = "[policy.small]\nrpo = \"100s\"\n".to_owned();
    for (node, name) in NODES.iter().enumerate() {
        for source in names(node) {
            let folder = folder(fleet, &source);
            fs::create_dir(&folder).unwrap();
            text += &format!(
                "[service.{source}]\nprimary = \"{name}\"\npolicy = \"small\"\nfiles = {{ path = \"{}\" }}\n",
                folder.display()
            );
        }
    }
    text
}

/// Writes all of a node's until then, each time the next number into every file. Tells the last one.
pub(crate) fn write_until(fleet: &Fleet, node: usize, end: impl Fn() -> bool) -> u64 {
    let mut number = 0;
    loop {
        number += 1;
        for source in names(node) {
            let folder = folder(fleet, &source);
            FILES.iter().for_each(|file| fs::write(folder.join(file), number.to_string()).unwrap());
        }
        if end() {
            return number;
        }
        std::thread::sleep(EVERY);
    }
}

/// The newest point of each comes to hold what was written last, and each point is of a moment after that of the one before it.
/// Tells how many points there are.
pub(crate) fn are_captured(fleet: &Fleet, node: usize, last: u64) -> usize {
    let start = Instant::now();
    // By the other node than the one that has captured it.
    let reader = 1 - node;
    names(node)
        .map(|source| {
            while newest(fleet, reader, &source) != Some(last) {
                assert!(
                    start.elapsed() < CAPTURED_MAX,
                    "{source}: {last} was written last, and is not captured"
                );
                std::thread::sleep(Duration::from_secs(1));
            }
            let listed = fleet.run(reader, &["points", &source, "--json"]).good().json();
            // In the order of their time.
            let points = listed.as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap());
            let numbers: Vec<u64> =
                points.filter_map(|point| restored(fleet, reader, &source, Some(point))).collect();
            assert!(numbers.is_sorted(), "{source}: {numbers:?} in {listed}");
            assert_eq!(numbers.last(), Some(&last), "{source}: {listed}");
            numbers.len()
        })
        .sum()
}

fn newest(fleet: &Fleet, node: usize, source: &str) -> Option<u64> {
    restored(fleet, node, source, None)
}

/// The number that a point holds: the lowest of its files, which are read one after the other. None where the point is not there.
fn restored(fleet: &Fleet, node: usize, source: &str, point: Option<&str>) -> Option<u64> {
    let target = fleet.path(&format!("small restored by {}", NODES[node]));
    let mut arguments = vec!["restore", source, "--to", target.to_str().unwrap()];
    arguments.extend(point.into_iter().flat_map(|point| ["--point", point]));
    let said = fleet.run(node, &arguments);
    let number = (said.code == Some(0)).then(|| {
        let numbers = FILES.map(|file| {
            // Where it was captured between the file and what is in it.
            let text = fs::read_to_string(target.join(file)).unwrap_or_default();
            text.parse().unwrap_or(0)
        });
        numbers.into_iter().min().unwrap()
    });
    if target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
    number
}

fn names(node: usize) -> impl Iterator<Item = String> {
    SMALL.iter().map(move |small| format!("{}-{small}", NODES[node]))
}

fn folder(fleet: &Fleet, source: &str) -> PathBuf {
    fleet.path(&format!("source {source}"))
}
