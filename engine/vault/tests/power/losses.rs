//! Where the power goes: between any two changes of the disk.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::power::{Forgets, Image, Model, Record, Step};
use backstay_testkit::random::Random;

use crate::after::{Moment, new_folder};
use crate::workload::{Deaths, Note, record};

/// Images of a seed that the normal tests look at.
const IMAGES: usize = 150;

/// Seeds of the long test, unless BACKSTAY_SEEDS says otherwise.
const LONG_SEEDS: u64 = 10;

/// Images that are looked at at the same time.
const THREADS: usize = 2;

/// Names that are varied one by one at each moment.
const SINGLES: usize = 12;

/// Images of each moment that chance makes.
const ANY: usize = 4;

/// Steps before the loss that are printed of one that failed.
const TAIL: usize = 12;

/// A loss of power.
struct Loss {
    /// Records before it.
    at: usize,
    moment: Moment,
    image: Image,
}

/// What came out of a seed.
struct Outcome {
    steps: usize,
    /// Images that differ.
    images: usize,
    looked_at: usize,
    failures: Vec<String>,
}

/// Records the workload of a seed, and looks at the images of all losses of power, or at so many of them.
fn play(seed: u64, deaths: Deaths, forgets: Forgets, most: usize) -> Outcome {
    println!("BACKSTAY_POWER_SEED={seed}, deaths: {deaths:?}");
    let fixture = VaultFixture::new();
    let folder = new_folder().expect("a folder");
    let records = record(&fixture, seed, deaths, forgets, folder.path());
    let mut random = Random::new(seed);
    let mut losses = losses(&records, &mut random);
    let images = losses.len();
    random.shuffle(&mut losses);
    losses.truncate(most);
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(loss) = losses.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(wrong) = loss.moment.holds(&fixture, &loss.image) {
                        let story = format!("{}seed {seed}: {wrong}", tail(&records[..loss.at]));
                        failures.lock().expect("no panic while it is held").push(story);
                    }
                }
            });
        }
    });
    if forgets == Forgets::Nothing {
        let live = replayed(&records).live();
        assert!(live == Image::of(folder.path()).expect("reads"), "the record is not what was done");
    }
    let steps = records.iter().filter(|record| matches!(record, Record::Step(_))).count();
    Outcome { steps, images, looked_at: losses.len(), failures: failures.into_inner().expect("ended") }
}

fn replayed(records: &[Record<Note>]) -> Model {
    let mut model = Model::new();
    for record in records {
        if let Record::Step(step) = record {
            model.apply(step);
        }
    }
    model
}

/// All losses that leave something that no other leaves, or of which more was to be kept.
fn losses(records: &[Record<Note>], random: &mut Random) -> Vec<Loss> {
    let (mut model, mut moment) = (Model::new(), Moment::default());
    let (mut losses, mut seen, mut notes) = (Vec::new(), HashSet::new(), 0);
    for (at, record) in records.iter().enumerate() {
        match record {
            Record::Step(step) => model.apply(step),
            Record::Note(note) => {
                moment.add(note);
                notes += 1;
            }
        }
        for image in model.images(SINGLES, ANY, random) {
            if seen.insert((image.mark("unfinished"), notes)) {
                losses.push(Loss { at: at + 1, moment: moment.clone(), image });
            }
        }
    }
    losses
}

fn tail(records: &[Record<Note>]) -> String {
    let last = &records[records.len().saturating_sub(TAIL)..];
    let line = |record: &Record<Note>| match record {
        Record::Step(Step::Write(path, content)) => {
            format!("write {} bytes to {}\n", content.len(), path.display())
        }
        Record::Step(step) => format!("{step:?}\n"),
        Record::Note(Note::Acknowledged(point, _)) => format!("acknowledged: {point}\n"),
        Record::Note(Note::Released(point)) => format!("released: {point}\n"),
        Record::Note(Note::Made) => "the vault is made\n".to_owned(),
        Record::Note(Note::Custodian(_)) => "the custodian saves its notes\n".to_owned(),
    };
    last.iter().map(line).collect()
}

fn run(seed: u64, deaths: Deaths, most: usize) {
    let outcome = play(seed, deaths, Forgets::Nothing, most);
    for failure in outcome.failures.iter().take(3) {
        println!("{failure}\n");
    }
    let Outcome { steps, images, looked_at, failures } = outcome;
    println!("{steps} changes of the disk, {images} images, {looked_at} looked at");
    assert!(failures.is_empty(), "seed {seed}: {} of {looked_at} images failed", failures.len());
}

#[test]
fn a_loss_of_power_loses_nothing_acknowledged_and_needs_no_repair() {
    run(1, Deaths::None, IMAGES);
}

#[test]
fn nor_does_one_after_processes_have_died_and_others_went_on() {
    run(2, Deaths::NowAndThen, IMAGES);
}

#[test]
fn a_store_that_would_not_sync_its_files_or_folders_is_found_out() {
    for forgets in [Forgets::Files, Forgets::Folders] {
        let outcome = play(3, Deaths::None, forgets, 30);
        assert!(!outcome.failures.is_empty(), "{forgets:?}");
    }
}

#[test]
#[ignore = "long: half an hour; BACKSTAY_SEEDS sets how many seeds (10)"]
fn every_loss_of_power_of_many_seeds() {
    for seed in 1000..1000 + number("BACKSTAY_SEEDS").unwrap_or(LONG_SEEDS) {
        run(seed, if seed.is_multiple_of(2) { Deaths::None } else { Deaths::NowAndThen }, usize::MAX);
    }
}

/// All images of one seed: with `BACKSTAY_POWER_DEATHS` set, of one in which processes die.
#[test]
#[ignore = "long: minutes; for a seed that failed"]
fn one_seed() {
    let deaths = match std::env::var_os("BACKSTAY_POWER_DEATHS") {
        Some(_) => Deaths::NowAndThen,
        None => Deaths::None,
    };
    run(number("BACKSTAY_POWER_SEED").unwrap_or(1), deaths, usize::MAX);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
