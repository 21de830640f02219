//! What damage does to who reads and checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::name::Named;
use backstay_vault::pack::read_contents;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::PackShare;

use crate::sample::{DUMP, Damage, FILES, Objects, Sample};

/// Damage after which every point is still read, and which no check names: which object, how, and why nobody can
/// tell or need not.
const HARMLESS: &[(&str, &[Damage], &str)] = &[
    (
        "format",
        &[Damage::Missing, Damage::Swapped, Damage::Older],
        "an older one stands; rolling back is the store's to prevent",
    ),
    ("format", &[Damage::Truncated, Damage::Flipped, Damage::Zeroed], "one before the newest is not read"),
    (
        "trust",
        &[Damage::Missing],
        "the newest one: the one before stands; rolling back is the store's to prevent",
    ),
    ("keys", &[Damage::Missing], "while another holder's are left, keys can be wrapped anew"),
    ("keys", &[Damage::Truncated, Damage::Flipped], "only its holder can tell; recovery passes it over"),
    ("keys", &[Damage::Swapped], "a holder's key is tried on all of them"),
    ("heads", &[Damage::Missing], "the head before stands: exposure looks greater, never less"),
    (
        "heads",
        &[Damage::Truncated, Damage::Flipped, Damage::Zeroed, Damage::Swapped, Damage::Older],
        "heads before the newest one are not read",
    ),
    ("ledger/sessions", &[Damage::Missing, Damage::Older], "what it wrote is uploaded again, not counted on"),
    ("fences", &[Damage::Missing], "an ended session does not ask again; an open one is fenced again"),
    ("ledger/gc", &[Damage::Missing], "of a collection that has ended"),
    ("bad", &[Damage::Missing], "the list before stands; what is lost is noticed anew"),
    ("layout", &[Damage::Missing], "the layout before stands; rolling back is the store's to prevent"),
    (
        "proofs",
        &[Damage::Missing, Damage::Truncated, Damage::Flipped, Damage::Zeroed, Damage::Swapped],
        "what cannot be read proves nothing: it is proven anew",
    ),
    ("points", &[Damage::Missing], "a partial point, whose parts the whole point has taken over"),
];

/// Damage that only reading the packs whole can find: what `check` reads of a data pack is its length, and of a
/// metadata pack the records of points, neither footer nor padding.
const PACK_DAMAGE: &[Damage] = &[Damage::Flipped, Damage::Swapped, Damage::Zeroed];

/// What a damaged vault showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What opening or checking says.
    pub(crate) named: Vec<String>,
    /// What reading the packs whole says.
    pub(crate) named_by_data: Vec<String>,
    /// Points that could not be read.
    pub(crate) lost: Vec<PointId>,
}

/// Opens, lists, reads and checks. Panics when anything that was read is wrong.
fn look(sample: &Sample, objects: Objects, story: &str) -> Seen {
    look_into(sample, Arc::new(MemStore::with_objects(objects)), story)
}

pub(crate) fn look_into(sample: &Sample, store: Arc<dyn Store>, story: &str) -> Seen {
    let vault = match sample.fixture.open(store) {
        Ok(vault) => vault,
        Err(error) => {
            return Seen {
                named: vec![error.to_string()],
                lost: sample.points.keys().copied().collect(),
                ..Seen::default()
            };
        }
    };
    let mut seen = Seen::default();
    for source in [FILES, DUMP] {
        let catalogue = vault.catalogue(sample.fixture.source(source));
        for point in catalogue.iter().flat_map(|catalogue| catalogue.points()) {
            let known = sample.points.get(&point.link.point);
            assert!(
                known.is_some_and(|(of, _)| *of == source),
                "{story}: lists a point that is none of {source}"
            );
        }
    }
    for (point, (source, state)) in &sample.points {
        match read_back(&vault, source, *point) {
            Ok(read) => assert!(read.state == *state, "{story}: {point} is read and is wrong"),
            Err(_) => seen.lost.push(*point),
        }
    }
    match vault.check() {
        Ok(report) => seen
            .named
            .extend(report.findings.iter().map(|finding| format!("{}: {}", finding.what, finding.wrong))),
        Err(error) => seen.named.push(error.to_string()),
    }
    let data = vault.check_data(PackShare::ALL).unwrap_or_else(|error| panic!("{story}: {error}"));
    seen.named_by_data.extend(data.findings.into_iter().map(|finding| finding.what));
    seen
}

#[test]
fn the_undamaged_vault_has_objects_of_every_kind_and_nothing_is_wrong_with_it() {
    let sample = Sample::new();
    let folders: BTreeSet<&str> = sample.names().map(|(_, folder)| folder).collect();
    let all = [
        "bad",
        "fences",
        "format",
        "heads",
        "index",
        "keys",
        "layout",
        "ledger/gc",
        "ledger/sessions",
        "packs",
        "points",
        "proofs",
        "trust",
    ];
    assert_eq!(folders, BTreeSet::from(all));
    for folder in all {
        assert!(sample.names().filter(|(_, of)| *of == folder).count() >= 2, "{folder} has two to swap");
    }
    let seen = look(&sample, sample.objects.clone(), "undamaged");
    assert!(seen.named.is_empty() && seen.named_by_data.is_empty() && seen.lost.is_empty(), "{seen:?}");
}

#[test]
fn whatever_is_damaged_is_named_or_does_not_matter_and_nothing_read_is_wrong() {
    let sample = Sample::new();
    let mut harmless_seen = BTreeSet::new();
    let mut unnamed = Vec::new();
    let mut tried = BTreeMap::<Damage, usize>::new();
    for (name, folder) in sample.names() {
        for damage in Damage::ALL {
            for (variant, objects) in sample.damaged(name, folder, damage).into_iter().enumerate() {
                let story = format!("{name} {damage:?} ({variant})");
                let seen = look(&sample, objects, &story);
                *tried.entry(damage).or_default() += 1;
                if !seen.named.is_empty() {
                    continue;
                }
                let found_by_data = !seen.named_by_data.is_empty();
                if found_by_data && folder == "packs" && PACK_DAMAGE.contains(&damage) {
                    continue;
                }
                let reason =
                    HARMLESS.iter().position(|(of, ways, _)| *of == folder && ways.contains(&damage));
                match reason {
                    Some(reason) if seen.lost.is_empty() && !found_by_data => {
                        harmless_seen.insert(reason);
                    }
                    _ => unnamed.push(format!("{story}, lost: {:?}", seen.lost)),
                }
            }
        }
    }
    assert!(unnamed.is_empty(), "no check names:\n{}", unnamed.join("\n"));
    assert!(tried.values().all(|count| *count >= 8), "{tried:?}");
    let unused: Vec<_> =
        (0..HARMLESS.len()).filter(|n| !harmless_seen.contains(n)).map(|n| HARMLESS[n]).collect();
    assert!(unused.is_empty(), "no longer true: {unused:?}");
}

/// Objects without which nothing may be said: an older one would say what no longer holds.
const DECISIVE: [&str; 3] = ["format", "trust", "layout"];

#[test]
fn an_object_that_cannot_be_read_costs_what_it_alone_holds() {
    let sample = Sample::new();
    let mut lost_something = BTreeSet::new();
    for (name, folder) in sample.names().filter(|(_, folder)| !DECISIVE.contains(folder)) {
        for kind in [StoreErrorKind::Permanent, StoreErrorKind::Denied, StoreErrorKind::TooLarge] {
            let store = FaultStore::new(MemStore::with_objects(sample.objects.clone()));
            for operation in [Operation::Get, Operation::GetRange] {
                store.fail(Trigger::on(operation).below(name).always(), kind);
            }
            let story = format!("{name}: {kind:?}");
            let seen = look_into(&sample, Arc::new(store), &story);
            let lost: BTreeSet<&str> = seen.lost.iter().map(|point| sample.points[point].0).collect();
            match folder {
                "index" | "points" | "packs" => assert!(lost.len() < 2, "{story}: both sources are lost"),
                _ => assert!(lost.is_empty(), "{story}: {:?} cannot be read", seen.lost),
            }
            if !lost.is_empty() {
                lost_something.insert(folder);
                assert!(
                    !seen.named.is_empty() || !seen.named_by_data.is_empty(),
                    "{story}: no check names it"
                );
            }
        }
    }
    assert_eq!(
        lost_something,
        BTreeSet::from(["index", "packs", "points"]),
        "what cannot be lost shows nothing"
    );
}

#[test]
fn a_share_of_the_packs_is_read_at_a_time_and_all_shares_are_all_packs() {
    let sample = Sample::new();
    let vault = sample.open(sample.objects.clone()).expect("open");
    let all = vault.check_data(PackShare::ALL).expect("check");
    let shares = (0..7).map(|part| vault.check_data(PackShare { part, of: 7 }).expect("check").packs);
    assert_eq!(shares.sum::<u64>(), all.packs);
    assert!(all.packs >= 8, "{all:?}");
}

#[test]
fn the_same_bytes_under_another_sources_name_are_not_its_point() {
    let sample = Sample::new();
    let vault = sample.open(sample.objects.clone()).expect("open");
    let files = vault.catalogue(sample.fixture.source(FILES)).expect("catalogue");
    let victim = files.points()[0].link;
    let moved = Named::Point(sample.fixture.source(DUMP), victim.point, victim.object).to_name();
    let renamed = Named::Point(sample.fixture.source(FILES), PointId::new([7; 16]), victim.object).to_name();
    let original = Named::Point(sample.fixture.source(FILES), victim.point, victim.object).to_name();
    let store = Arc::new(MemStore::with_objects(sample.objects.clone()));
    let vault = sample.fixture.open(store.clone()).expect("open");
    vault.catalogue(sample.fixture.source(FILES)).expect("the point is known to this process now");
    for name in [moved, renamed] {
        let content = sample.objects[original.as_str()].clone();
        sample.fixture.put(&*store, forge::Object { name: name.clone(), content });
        for source in [FILES, DUMP] {
            let catalogue = vault.catalogue(sample.fixture.source(source)).expect("catalogue");
            let of_source = sample.points.values().filter(|(of, _)| *of == source).count();
            assert_eq!(catalogue.points().len(), of_source, "{name} is left out of {source}");
        }
        let report = vault.check().expect("check");
        assert!(report.findings.iter().any(|f| f.wrong.contains(name.as_str())), "{report:?}");
    }
}

#[test]
fn sealed_objects_of_another_domain_are_named_as_such() {
    let sample = Sample::new();
    let other = VaultFixture::new();
    let store = Arc::new(MemStore::with_objects(sample.objects.clone()));
    let vault = sample.open(sample.objects.clone()).expect("open");
    let stranger = forge::gc(other.ring(), sample.fixture.signer(), &forge::gc_record(9, vec![]));
    sample.fixture.put(&*store, stranger.clone());
    let report = sample.fixture.open(store.clone()).expect("open").check().expect("check");
    assert!(report.findings.iter().any(|finding| finding.what == stranger.name.as_str()), "{report:?}");
    assert!(vault.check().expect("check").is_good());
    let vault = sample.fixture.open(store).expect("open");
    let error = sample.fixture.capture(&vault, FILES, Timestamp::from_seconds(99), &State::new()).err();
    let error = error.expect("what is about to go is not known: nothing can be counted on").to_string();
    assert!(error.contains(stranger.name.as_str()) && error.contains("vault check"), "{error}");
}

#[test]
fn data_and_metadata_never_share_a_pack() {
    let sample = Sample::new();
    let ring = sample.fixture.ring();
    let mut classes = BTreeSet::new();
    for (name, _) in sample.names().filter(|(_, folder)| *folder == "packs") {
        let (class, entries) = read_contents(ring, &sample.objects[name]).expect("reads");
        classes.insert(class);
        let other = if class == ChunkClass::Data { ChunkClass::Meta } else { ChunkClass::Data };
        let content = &sample.objects[name];
        for entry in entries {
            let record = &content[entry.offset as usize..][..entry.length as usize];
            assert_ne!(record[12], other.code(), "{name}");
        }
    }
    assert_eq!(classes.len(), 2);
}
