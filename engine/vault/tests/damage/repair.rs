//! What a repair makes of every damage: docs/damage.md is the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::kind::kinds;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, RepairMeans, Repaired, Vault};

use crate::matrix::look_into;
use crate::sample::{DUMP, Damage, FILES, Objects, Sample};

const TABLES: &str = include_str!("../../../../docs/damage.md");

/// Of each object and damage: the other test tries more.
const VARIANTS_MAX: usize = 4;

/// Passes until nothing more is to be done.
const PASSES_MAX: usize = 8;

fn with_custodian<T>(
    sample: &Sample,
    vault: &Arc<Vault>,
    notes: &mut MemoryNotes,
    work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let clock = ManualClock::new(Timestamp::from_seconds(4000));
    let look = Inspection::new(vault.clone(), kinds(), &clock);
    let (identity, pool) = (sample.fixture.writer().clone(), sample.fixture.pool().clone());
    work(&mut Custodian::new(look, identity, pool, notes)?)
}

pub(crate) fn repair(
    sample: &Sample,
    store: Arc<dyn Store>,
    notes: &mut MemoryNotes,
    others: &[Arc<Vault>],
) -> Result<Repaired, VaultError> {
    let vault = sample.fixture.open(store)?;
    sample.fixture.fence_dead_sessions(&vault, Timestamp::from_seconds(3999))?;
    let own = sample.fixture.bundle().without_admin();
    let means = RepairMeans { reads_all: true, others, bundle: Some(&own), ..RepairMeans::default() };
    with_custodian(sample, &vault, notes, |custodian| custodian.repair(&means))
}

pub(crate) fn readable(sample: &Sample, store: &Arc<MemStore>) -> BTreeSet<PointId> {
    let Ok(vault) = sample.fixture.open(store.clone()) else { return BTreeSet::new() };
    let is_whole = |(point, (source, state)): &(&PointId, &(&'static str, State))| {
        read_back(&vault, source, **point).is_ok_and(|read| read.state == *state)
    };
    sample.points.iter().filter(is_whole).map(|(point, _)| *point).collect()
}

/// What each of the four shows of a damaged vault, in words.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shows {
    list: &'static str,
    restore: &'static str,
    check: &'static str,
    repair: &'static str,
}

fn share(of: usize, all: usize) -> &'static str {
    match of {
        0 => "none",
        some if some < all => "some",
        _ => "all",
    }
}

fn listed(sample: &Sample, store: &Arc<MemStore>) -> usize {
    let Ok(vault) = sample.fixture.open(store.clone()) else { return 0 };
    let sources = [FILES, DUMP].map(|source| vault.catalogue(sample.fixture.source(source)));
    sources.into_iter().flatten().map(|catalogue| catalogue.points().len()).sum()
}

fn shows(sample: &Sample, objects: Objects, story: &str) -> Shows {
    let store = Arc::new(MemStore::with_objects(objects));
    let before = readable(sample, &store);
    let seen = look_into(sample, store.clone(), story);
    let all = sample.points.len();
    let check = match (seen.named.is_empty(), seen.named_by_data.is_empty()) {
        (false, _) => "named",
        (true, false) => "named by --read-data",
        (true, true) => "clean",
    };
    let (list, restore) = (share(listed(sample, &store), all), share(before.len(), all));
    Shows { list, restore, check, repair: repaired(sample, store, &before, story) }
}

/// Repairs, and looks whether all that must hold afterwards does.
fn repaired(sample: &Sample, store: Arc<MemStore>, before: &BTreeSet<PointId>, story: &str) -> &'static str {
    let repaired = match repair(sample, store.clone(), &mut sample.notes.clone(), &[]) {
        Ok(repaired) => repaired,
        Err(error) => {
            let text = error.to_string();
            let names_it = ["format/", "trust/", "there is no vault"].iter().any(|name| text.contains(name));
            assert!(names_it, "{story}: {text}");
            return "refused";
        }
    };
    let after = readable(sample, &store);
    assert!(after.is_superset(before), "{story}: a repair must not lose what can be read: {repaired:#?}");
    let is_whole = after.len() == sample.points.len();
    assert!(is_whole || !repaired.losses.is_empty(), "{story}: what is lost was not named: {repaired:#?}");
    // Everything can be cared for again.
    let vault = sample.fixture.open(store.clone()).unwrap_or_else(|error| panic!("{story}: {error}"));
    let passes = comes_to_rest(sample, &vault, &mut sample.notes.clone());
    assert!(passes.unwrap_or_else(|error| panic!("{story}: {error}\n{repaired:#?}")), "{story}: never ends");
    assert!(readable(sample, &store).is_superset(before), "{story}: lost by the passes after it");
    let seen = look_into(sample, store, story);
    let state = State::from([(b"new".to_vec(), vec![7; 3000])]);
    let captured = sample.fixture.capture(&vault, FILES, Timestamp::from_seconds(5000), &state);
    captured.unwrap_or_else(|error| panic!("{story}: {error}"));
    if is_whole {
        assert!(seen.named.is_empty() && seen.named_by_data.is_empty(), "{story}: {seen:?}\n{repaired:#?}");
    }
    match is_whole && repaired.losses.is_empty() {
        true => "whole",
        false => "the rest, lost named",
    }
}

/// Whether passes end in which there is something to do.
pub(crate) fn comes_to_rest(
    sample: &Sample,
    vault: &Arc<Vault>,
    notes: &mut MemoryNotes,
) -> Result<bool, VaultError> {
    with_custodian(sample, vault, notes, |custodian| {
        for _ in 0..PASSES_MAX {
            if custodian.collect()? == Pass::Idle {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

type Column = fn(&Shows) -> &'static str;

type Cells = BTreeMap<(String, Damage), BTreeSet<Shows>>;

#[test]
fn a_repair_loses_nothing_that_can_be_read_and_the_tables_say_what_each_damage_costs() {
    let mut cells = Cells::new();
    for (state, sample) in [("", Sample::new()), ("thinned, ", Sample::thinned())] {
        for (name, folder) in sample.names() {
            for damage in Damage::ALL {
                let mut variants = sample.damaged(name, folder, damage);
                let step = variants.len().div_ceil(VARIANTS_MAX).max(1);
                for (variant, objects) in variants.drain(..).step_by(step).enumerate() {
                    let story = format!("{state}{name} {damage:?} ({variant})");
                    let shows = shows(&sample, objects, &story);
                    cells.entry((folder.to_owned(), damage)).or_default().insert(shows);
                }
            }
        }
    }
    let columns: [(&str, Column); 4] = [
        ("Points listed", |shows| shows.list),
        ("Points restored as they were", |shows| shows.restore),
        ("`vault check`", |shows| shows.check),
        ("`vault repair`", |shows| shows.repair),
    ];
    let mut tables = String::new();
    for (title, column) in columns {
        write!(tables, "\n## {title}\n{}", table(&cells, column)).expect("to a string");
    }
    println!("{tables}");
    let written = TABLES.split_once("<!-- measured -->\n").map_or("", |(_, rest)| rest);
    assert_eq!(written.lines().count(), tables.lines().count(), "docs/damage.md has other tables");
    for (written, seen) in written.lines().zip(tables.lines()) {
        for (written, seen) in written.split('|').zip(seen.split('|')) {
            let known: BTreeSet<&str> = written.split('/').map(str::trim).collect();
            // Records lie in a pack in random order: not every run hits the same.
            let is_known = written == seen || seen.split(" / ").all(|word| known.contains(word.trim()));
            assert!(is_known, "docs/damage.md says {written:?}, seen was {seen:?}:\n{tables}");
        }
    }
}

fn table(cells: &Cells, column: Column) -> String {
    let mut table = String::from("| |");
    for damage in Damage::ALL {
        write!(table, " {} |", format!("{damage:?}").to_lowercase()).expect("to a string");
    }
    table.push_str("\n|---|---|---|---|---|---|---|\n");
    let folders: BTreeSet<&str> = cells.keys().map(|(folder, _)| folder.as_str()).collect();
    for folder in folders {
        write!(table, "| `{folder}/` |").expect("to a string");
        for damage in Damage::ALL {
            let shown: BTreeSet<&str> =
                cells.get(&(folder.to_owned(), damage)).into_iter().flatten().map(column).collect();
            let shown: Vec<&str> = shown.into_iter().collect();
            write!(table, " {} |", if shown.is_empty() { "–".into() } else { shown.join(" / ") })
                .expect("to a string");
        }
        table.push('\n');
    }
    table
}

#[test]
fn what_is_missing_comes_from_another_vault_of_the_domain() {
    let sample = Sample::new();
    let whole = sample.fixture.open(Arc::new(MemStore::with_objects(sample.objects.clone()))).expect("opens");
    for (name, _) in sample.names().filter(|(_, folder)| *folder == "packs") {
        for damage in [Damage::Missing, Damage::Zeroed, Damage::Truncated] {
            for objects in sample.damaged(name, "packs", damage) {
                let store = Arc::new(MemStore::with_objects(objects));
                let repaired =
                    repair(&sample, store.clone(), &mut sample.notes.clone(), std::slice::from_ref(&whole))
                        .expect("repairs");
                assert_eq!(readable(&sample, &store).len(), sample.points.len(), "{name}: {repaired:#?}");
                assert_eq!((repaired.chunks_lost, repaired.points_lost), (0, 0), "{name}");
                let vault = sample.fixture.open(store).expect("opens");
                assert!(vault.check().expect("checks").is_good(), "{name}: {repaired:#?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_for_now_is_not_taken_for_lost() {
    let sample = Sample::new();
    for (name, _) in sample.names().filter(|(_, folder)| *folder == "packs") {
        let store = Arc::new(MemStore::with_objects(sample.objects.clone()));
        let denying = FaultStore::new(MemStore::with_objects(sample.objects.clone()));
        for operation in [Operation::Get, Operation::GetRange] {
            denying.fail(Trigger::on(operation).below(name).always(), StoreErrorKind::Denied);
        }
        let vault = sample.fixture.open(Arc::new(denying)).expect("opens");
        let repaired = with_custodian(&sample, &vault, &mut sample.notes.clone(), |custodian| {
            custodian.repair(&RepairMeans::default())
        });
        // A pack of contents is not read at all.
        match repaired {
            Ok(repaired) => assert_eq!((repaired.points_lost, repaired.chunks_lost), (0, 0), "{name}"),
            Err(error) => assert!(error.to_string().contains(name), "{name}: {error}"),
        }
        let counting = |vault: &Arc<Vault>| -> usize {
            let sources = vault.sources().expect("lists").into_iter();
            sources.map(|source| vault.catalogue(source).expect("reads").points().len()).sum()
        };
        let whole = sample.fixture.open(store).expect("opens");
        assert_eq!(counting(&vault), counting(&whole), "{name}");
    }
}

#[test]
fn packs_that_lie_under_each_others_names_are_whole_after_a_repair_however_many_there_are() {
    let sample = Sample::of_captures(40);
    let packs: Vec<&String> = sample.objects.keys().filter(|name| name.starts_with("packs/")).collect();
    assert!(packs.len() > 64, "{} packs", packs.len());
    let mut objects = sample.objects.clone();
    for (place, name) in packs.iter().enumerate() {
        // Under each name lies the pack before.
        let before = packs[(place + packs.len() - 1) % packs.len()];
        objects.insert((*name).clone(), sample.objects[before].clone());
    }
    let store = Arc::new(MemStore::with_objects(objects));
    repair(&sample, store.clone(), &mut sample.notes.clone(), &[]).expect("repairs");
    assert_eq!(readable(&sample, &store).len(), sample.points.len());
}
