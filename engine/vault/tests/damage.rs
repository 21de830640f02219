//! The damage matrix: every object of a vault, damaged in every way. Nothing panics, nothing that is read is
//! wrong, and a check names the damage, or the damage does not matter and this file says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_core::id::{PackId, PointId, SessionId};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::keys::AgeIdentity;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::pack::read_contents;
use backstay_vault::store::{
    Folder, Listed, MemStore, Operation, Store, StoreError, StoreErrorKind, Stretch,
};
use backstay_vault::vault::{PackShare, Vault, VaultKeys};
use bytes::Bytes;

const FILES: &str = "static.files";
const DUMP: &str = "matrix.dump";

type Objects = BTreeMap<String, Bytes>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Missing,
    Truncated,
    Flipped,
    Swapped,
    Zeroed,
    Older,
}

impl Damage {
    const ALL: [Self; 6] =
        [Self::Missing, Self::Truncated, Self::Flipped, Self::Swapped, Self::Zeroed, Self::Older];
}

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
    ("sessions", &[Damage::Missing, Damage::Older], "what it wrote is uploaded again, not counted on"),
    ("fences", &[Damage::Missing], "an ended session does not ask again; an open one is fenced again"),
    ("gc", &[Damage::Missing], "of a collection that has ended"),
    ("layout", &[Damage::Missing], "the layout before stands; rolling back is the store's to prevent"),
    ("points", &[Damage::Missing], "a partial point, whose parts the whole point has taken over"),
];

/// Damage that only reading the packs whole can find: what `check` reads of a data pack is its length, and of a
/// metadata pack the records of points, neither footer nor padding.
const PACK_DAMAGE: &[Damage] = &[Damage::Flipped, Damage::Swapped, Damage::Zeroed];

/// Remembers what each name held before it was overwritten.
#[derive(Debug, Default)]
struct Recorder {
    inner: MemStore,
    before: Mutex<Objects>,
}

#[async_trait]
impl Store for Recorder {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        if let Ok(before) = self.inner.get(name).await {
            self.before.lock().expect("no panic").insert(name.to_string(), before);
        }
        self.inner.put(name, content).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }
    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, stretch).await
    }
    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }
    fn place(&self) -> String {
        self.inner.place()
    }
}

/// A vault with objects of every kind.
struct Sample {
    fixture: VaultFixture,
    objects: Objects,
    /// What overwritten objects held before.
    before: Objects,
    /// Source and state of every point that counts.
    points: BTreeMap<PointId, (&'static str, State)>,
}

impl Sample {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(Recorder::default());
        let vault = fixture.create(store.clone()).expect("create");
        let mut points = BTreeMap::new();
        let mut random = Random::new(1);
        let mut capture = |source: &'static str, seconds: i64, stop_at: Option<&[u8]>, state: &State| {
            let style = Style { part_entries: 5, stop_at: stop_at.map(<[u8]>::to_vec), ..Style::default() };
            let at = Timestamp::from_seconds(seconds);
            let captured = fixture.capture_in_style(&vault, source, at, state, &style).expect("capture");
            if style.stop_at.is_none() {
                points.insert(captured.link.point, (source, state.clone()));
            }
            captured
        };
        let mut state: State = (0..20u8).map(|n| (vec![n], random.bytes(3000))).collect();
        let first = capture(FILES, 10, None, &state);
        state.extend((5..30u8).step_by(2).map(|n| (vec![n], random.bytes(2000))));
        capture(FILES, 20, Some(&[15]), &state);
        let second = capture(FILES, 20, None, &state);
        capture(DUMP, 25, None, &State::from([(b"stdout".to_vec(), random.bytes(50_000))]));
        state.retain(|key, _| key[0] % 3 != 0);
        capture(FILES, 30, None, &state);
        fixture.commit_head(&vault, FILES, Timestamp::from_seconds(40)).expect("head");
        drop(
            fixture
                .open_capture(std::slice::from_ref(&vault), FILES, Timestamp::from_seconds(50))
                .expect("session"),
        );
        put_what_others_put(&fixture, &vault, &*store, &[first, second]);
        let before = store.before.lock().expect("no panic").clone();
        Self { objects: store.inner.objects(), fixture, before, points }
    }

    fn open(&self, objects: Objects) -> Result<Arc<Vault>, String> {
        self.fixture.open(Arc::new(MemStore::with_objects(objects))).map_err(|error| error.to_string())
    }

    /// Names of all objects, and the folder each is in.
    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.objects.keys().map(|name| (name.as_str(), name.split('/').next().expect("names have folders")))
    }

    /// The vault with one object damaged, in all variants of this damage that apply.
    fn damaged(&self, name: &str, folder: &str, damage: Damage) -> Vec<Objects> {
        let content = &self.objects[name];
        let with = |content: Vec<u8>| {
            let mut objects = self.objects.clone();
            objects.insert(name.to_owned(), content.into());
            objects
        };
        let others =
            || self.names().filter(|(other, of)| *of == folder && *other != name).map(|(other, _)| other);
        match damage {
            Damage::Missing => vec![
                self.objects
                    .iter()
                    .filter(|(n, _)| *n != name)
                    .map(|(n, c)| (n.clone(), c.clone()))
                    .collect(),
            ],
            Damage::Truncated => [0, 1, content.len() / 2, content.len() - 1]
                .map(|length| with(content[..length].to_vec()))
                .to_vec(),
            Damage::Flipped => {
                let flipped = |place: usize| {
                    let mut content = content.to_vec();
                    content[place] ^= 0x20;
                    with(content)
                };
                (0..content.len())
                    .step_by(content.len().div_ceil(9))
                    .chain([content.len() - 1])
                    .map(flipped)
                    .collect()
            }
            Damage::Zeroed => vec![with(vec![0; content.len()])],
            Damage::Swapped => others()
                .take(3)
                .map(|other| {
                    let mut objects = with(self.objects[other].to_vec());
                    objects.insert(other.to_owned(), content.clone());
                    objects
                })
                .collect(),
            Damage::Older => {
                let overwritten = self.before.get(name);
                let earlier = others().filter(|other| {
                    *other < name && matches!(folder, "format" | "trust" | "gc" | "layout" | "heads")
                });
                overwritten
                    .into_iter()
                    .chain(earlier.map(|other| &self.objects[other]))
                    .map(|c| with(c.to_vec()))
                    .collect()
            }
        }
    }
}

/// Layouts of a custodian, chained format and trust, another holder's keys, a fence, collections.
fn put_what_others_put(fixture: &VaultFixture, vault: &Arc<Vault>, store: &dyn Store, accepted: &[Captured]) {
    let (ring, signer) = (fixture.ring(), fixture.signer());
    let source = fixture.source(FILES);
    let catalogue = vault.catalogue(source).expect("catalogue");
    let session = |point: PointId| catalogue.point(point).expect("counts").vault_part.session;
    for (generation, accepted) in [(1, &accepted[..1]), (2, accepted)] {
        let layout = Layout {
            generation,
            term: 1,
            accepted: accepted
                .iter()
                .map(|captured| Accepted {
                    link: captured.link,
                    retention_time: Timestamp::EPOCH,
                    holds: vec![],
                })
                .collect(),
            decided: accepted.iter().map(|captured| session(captured.link.point)).collect(),
            ..Layout::default()
        };
        fixture.put(store, forge::layout(ring, signer, source, &layout));
    }
    let bytes = fixture.block_on(store.get(&Named::Trust(1).to_name())).expect("trust");
    let previous = Some(backstay_core::id::ObjectHash::new(*blake3::hash(&bytes).as_bytes()));
    let trust = backstay_vault::clear::TrustObject { n: 2, previous, ..vault.trust().clone() };
    fixture.put(store, forge::trust(fixture.admin(), &trust));
    fixture.put(store, forge::format(fixture.admin(), 2, vault.format()));
    VaultKeys::add(vault, "recovery", &AgeIdentity::generate().recipient(), fixture.bundle()).expect("keys");
    for number in [1, 2] {
        fixture.put(store, forge::fence(ring, signer, SessionId::new([number; 16])));
        let record = forge::gc_record(u64::from(number), vec![PackId::new([number; 32])]);
        fixture.put(store, forge::gc(ring, signer, &record));
    }
}

/// What a damaged vault showed.
#[derive(Debug, Default)]
struct Seen {
    /// What opening or checking says.
    named: Vec<String>,
    /// What reading the packs whole says.
    named_by_data: Vec<String>,
    /// Points that could not be read.
    lost: Vec<PointId>,
}

/// Opens, lists, reads and checks. Panics when anything that was read is wrong.
fn look(sample: &Sample, objects: Objects, story: &str) -> Seen {
    look_into(sample, Arc::new(MemStore::with_objects(objects)), story)
}

fn look_into(sample: &Sample, store: Arc<dyn Store>, story: &str) -> Seen {
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
        "fences", "format", "gc", "heads", "index", "keys", "layout", "packs", "points", "sessions", "trust",
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
