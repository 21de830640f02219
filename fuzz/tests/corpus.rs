//! Replays the kept inputs of every target, and mutations of them. Inputs that once broke a decoder are kept with
//! the others.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use backstay_fuzz::{TARGETS, Target};
use backstay_testkit::random::Random;
use backstay_vault::name::ObjectName;

/// Mutations of each target. Bounded by count and not by time, so that every run does the same.
const MUTATIONS: usize = 3000;

/// Mutations of targets that open a vault for each input.
const SEALED_MUTATIONS: usize = 1000;

/// Mutated inputs are not made longer than this, bytes.
const INPUT_BYTES_MAX: usize = 64 << 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Kept inputs: path and content, in order of name.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn every_target_has_kept_inputs_and_a_binary() {
    for target in TARGETS {
        assert!(!corpus(target).is_empty(), "{}", target.name);
        let binary = root().join(format!("libfuzzer/src/bin/{}.rs", target.name));
        let text =
            fs::read_to_string(&binary).unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        assert!(text.contains(&format!("backstay_fuzz::{}(data)", target.name)), "{}", binary.display());
    }
    for folder in ["corpus", "libfuzzer/src/bin"] {
        let entries = fs::read_dir(root().join(folder)).expect("readable").count();
        assert_eq!(entries, TARGETS.len(), "{folder} has one for each target");
    }
}

#[test]
fn kept_names_are_names_of_every_kind() {
    let target = TARGETS.iter().find(|target| target.name == "name").expect("a target");
    let inputs = corpus(target).into_iter().map(|(_, input)| String::from_utf8(input).expect("text"));
    let names: Vec<String> = inputs.filter(|text| ObjectName::parse(text).is_some()).collect();
    for folder in [
        "format",
        "trust",
        "keys",
        "packs",
        "index",
        "points",
        "layout",
        "heads",
        "ledger/sessions",
        "fences",
        "ledger/gc",
        "bad",
        "proofs",
        "journal",
    ] {
        let is_there = names.iter().any(|name| name.starts_with(&format!("{folder}/")));
        assert!(is_there, "no mutation begins with a name below {folder}/: {names:?}");
    }
}

#[test]
fn kept_inputs_break_nothing() {
    for target in TARGETS {
        for (path, input) in corpus(target) {
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            assert!(outcome.is_ok(), "{} breaks {}", path.display(), target.name);
        }
    }
}

#[test]
fn mutations_of_kept_inputs_break_nothing() {
    for (seed, target) in (1u64..).zip(TARGETS) {
        let inputs: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
        let mut random = Random::new(seed);
        let count = if target.name.starts_with("sealed_") { SEALED_MUTATIONS } else { MUTATIONS };
        println!("{}: seed {seed}, {count} mutations", target.name);
        for number in 0..count {
            let input = mutated(&inputs, &mut random);
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            if outcome.is_err() {
                let kept = std::env::temp_dir().join(format!("backstay-{}-{seed}-{number}", target.name));
                fs::write(&kept, &input).expect("writable");
                panic!("{}: mutation {number} of seed {seed}, kept as {}", target.name, kept.display());
            }
        }
    }
}

/// One to four changes to one of the inputs.
fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut input, inputs, random);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn mutate(input: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    let place = random.below(input.len() + 1);
    let length = (1 + random.below(8)).min(input.len() - place);
    match random.below(7) {
        0 if place < input.len() => input[place] ^= 1 << random.below(8),
        1 if place < input.len() => input[place] = random.choose(&[0, 1, 0x17, 0x18, 0x1b, 0x7f, 0x80, 0xff]),
        2 => drop(input.drain(place..place + length)),
        3 => {
            let inserted = random.bytes(length);
            drop(input.splice(place..place, inserted));
        }
        4 => input.truncate(place),
        5 => {
            let repeated = input[place..place + length].to_vec();
            drop(input.splice(place..place, repeated));
        }
        _ => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len() + 1);
            input.truncate(place);
            input.extend_from_slice(&other[from..]);
        }
    }
}
