//! A vault with objects of every kind, and ways to damage one of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::{ChunkId, PackId, PointId, SessionId, SourceId};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::proof::{Proof, ProofLevel};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::commit_object::BadList;
use backstay_vault::keys::AgeIdentity;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{MemStore, Store, StoreError};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Vault, VaultKeys};
use bytes::Bytes;

pub(crate) const FILES: &str = "static.files";
pub(crate) const DUMP: &str = "matrix.dump";

pub(crate) type Objects = BTreeMap<String, Bytes>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    Missing,
    Truncated,
    Flipped,
    Swapped,
    Zeroed,
    Older,
}

impl Damage {
    pub(crate) const ALL: [Self; 6] =
        [Self::Missing, Self::Truncated, Self::Flipped, Self::Swapped, Self::Zeroed, Self::Older];
}

/// Remembers what each name held before it was overwritten.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    inner: MemStore,
    before: Mutex<Objects>,
}

#[async_trait]
impl Overrides for Recorder {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        if let Ok(before) = self.inner.get(name).await {
            self.before.lock().expect("no panic").insert(name.to_string(), before);
        }
        self.inner.put(name, content).await
    }
}

/// A vault with objects of every kind.
pub(crate) struct Sample {
    pub(crate) fixture: VaultFixture,
    pub(crate) objects: Objects,
    /// What overwritten objects held before.
    before: Objects,
    /// What its custodian has kept for itself.
    pub(crate) notes: MemoryNotes,
    /// Source and state of every point that counts.
    pub(crate) points: BTreeMap<PointId, (&'static str, State)>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(Forwarded::<Recorder>::default());
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
        let before = store.0.before.lock().expect("no panic").clone();
        Self { objects: store.0.inner.objects(), fixture, before, notes: MemoryNotes::default(), points }
    }

    /// A vault of so many captures that nobody has cared for: each has put packs of its own.
    pub(crate) fn of_captures(count: u8) -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(MemStore::new());
        let vault = fixture.create(store.clone()).expect("create");
        let mut random = Random::new(3);
        let mut state = State::new();
        let mut points = BTreeMap::new();
        for n in 0..count {
            state.insert(vec![n], random.bytes(500));
            let at = Timestamp::from_seconds(10 + i64::from(n));
            let captured = fixture.capture(&vault, FILES, at, &state).expect("capture");
            points.insert(captured.link.point, (FILES, state.clone()));
        }
        let (before, notes) = (Objects::new(), MemoryNotes::default());
        Self { objects: store.objects(), fixture, before, notes, points }
    }

    /// A vault that its custodian has thinned, with merged runs and a point that was committed since.
    pub(crate) fn thinned() -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(Forwarded::<Recorder>::default());
        let vault = fixture.create(store.clone()).expect("create");
        let mut random = Random::new(2);
        let mut points = BTreeMap::new();
        let mut state: State = (0..20u8).map(|n| (vec![n], random.bytes(3000))).collect();
        let mut capture = |seconds: i64, state: &State| {
            let captured = fixture.capture(&vault, FILES, Timestamp::from_seconds(seconds), state);
            points.insert(captured.expect("capture").link.point, (FILES, state.clone()));
        };
        for n in 0..6u8 {
            state.insert(vec![n], random.bytes(2500));
            state.remove([n + 9].as_slice());
            capture(100 + i64::from(n), &state);
        }
        let clock = ManualClock::new(Timestamp::from_seconds(1000));
        let look = Inspection::new(vault.clone(), kinds(), &clock);
        let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
        let mut notes = MemoryNotes::default();
        let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("custodian");
        let keep = Keep::Rules(KeepRules { last: Some(3), ..KeepRules::default() });
        for _ in 0..3 {
            custodian.collect().expect("collects");
            custodian.thin(&|_| Some(keep.clone())).expect("thins");
        }
        drop(custodian);
        let counting = vault.catalogue(fixture.source(FILES)).expect("catalogue");
        points.retain(|point, _| counting.point(*point).is_some());
        assert_eq!(points.len(), 3);
        state.insert(vec![40], random.bytes(2000));
        let captured = fixture.capture(&vault, FILES, Timestamp::from_seconds(2000), &state);
        points.insert(captured.expect("capture").link.point, (FILES, state));
        let before = store.0.before.lock().expect("no panic").clone();
        Self { objects: store.0.inner.objects(), fixture, before, notes, points }
    }

    pub(crate) fn open(&self, objects: Objects) -> Result<Arc<Vault>, String> {
        self.fixture.open(Arc::new(MemStore::with_objects(objects))).map_err(|error| error.to_string())
    }

    /// Names of all objects, and the folder each is in.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.objects.keys().map(|name| (name.as_str(), folder_of(name)))
    }

    /// The vault with one object damaged, in all variants of this damage that apply.
    pub(crate) fn damaged(&self, name: &str, folder: &str, damage: Damage) -> Vec<Objects> {
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
                    *other < name && matches!(folder, "format" | "trust" | "ledger/gc" | "layout" | "heads")
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
pub(crate) fn put_what_others_put(
    fixture: &VaultFixture,
    vault: &Arc<Vault>,
    store: &dyn Store,
    accepted: &[Captured],
) {
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
            runs: accepted
                .iter()
                .map(|captured| catalogue.point(captured.link.point).expect("counts").own_run())
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
        let lost = vec![ChunkId::new([number; 32])];
        let list = BadList { number: u64::from(number), term: 1, time: Timestamp::EPOCH, lost };
        fixture.put(store, forge::bad(ring, signer, &list));
        vault.put_proof(fixture.writer(), &proof(source, i64::from(number))).expect("proof");
    }
}

fn proof(source: SourceId, second: i64) -> Proof {
    Proof {
        source,
        source_name: FILES.into(),
        level: ProofLevel::Structure,
        node: "alpha".into(),
        start: Timestamp::EPOCH,
        end: Timestamp::from_seconds(second),
        point: None,
        entries: 1,
        bytes: 0,
        failures: 0,
        told: Vec::new(),
        unproven: Vec::new(),
        share: None,
        others: Vec::new(),
    }
}

/// The folder of one kind of objects.
fn folder_of(name: &str) -> &str {
    let top = name.find('/').expect("names have folders");
    match &name[..top] {
        "ledger" => &name[..name.rfind('/').expect("names have folders")],
        top => top,
    }
}
