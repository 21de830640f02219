//! What may be built on: points and partial points that nothing but retention can take away (docs/format.md, section
//! 10, "Settled"). Whether a commit was acknowledged another process sees only by its session.

use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::collection::CollectionNumber;
use backstay_core::digest::StateDigest;
use backstay_core::layout::{Accepted, Layout};
use backstay_core::point::Facts;
use backstay_core::run::{Change, Entry};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_vault::clear::TrustObject;
use backstay_vault::commit_object::{FenceObject, SessionObject};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::malformed::decode_cbor;
use backstay_vault::name::Named;
use backstay_vault::store::{MemStore, Operation, StoreErrorKind};
use backstay_vault::table::PartWriter;
use backstay_vault::targets::{CaptureSource, CapturedState, Targets};
use backstay_vault::vault::Vault;

const SOURCE: &str = "static.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn state(value: &[u8]) -> State {
    State::from([(b"key".to_vec(), value.to_vec()), (b"other".to_vec(), b"equal".to_vec())])
}

struct Scene {
    fixture: VaultFixture,
    memory: Arc<MemStore>,
    store: Arc<FaultStore<Arc<MemStore>>>,
    vault: Arc<Vault>,
}

impl Scene {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let memory = Arc::new(MemStore::new());
        let store = Arc::new(FaultStore::new(Arc::clone(&memory)));
        let vault = fixture.create(store.clone()).expect("create");
        Self { fixture, memory, store, vault }
    }

    /// A base, and an edit that is acknowledged while its session stays open in the store.
    fn base_and_open_edit(&self) -> [Captured; 2] {
        let base = self.fixture.capture(&self.vault, SOURCE, at(10), &state(b"first")).expect("base");
        self.next_session_stays_open();
        let edit = self.fixture.capture(&self.vault, SOURCE, at(20), &state(b"second")).expect("edit");
        [base, edit]
    }

    /// The first put of a session opens it.
    fn next_session_stays_open(&self) {
        let end = Trigger::on(Operation::Put).below("ledger/sessions/").after(1);
        self.store.fail(end, StoreErrorKind::Transient);
    }

    fn layout(&self, layout: &Layout) -> forge::Object {
        let source = self.fixture.source(SOURCE);
        forge::layout(self.fixture.ring(), self.fixture.signer(), source, layout)
    }

    /// Another process, on a copy of the store with these objects more.
    fn elsewhere(&self, objects: Vec<forge::Object>) -> (Arc<MemStore>, Arc<Vault>) {
        let copy = Arc::new(MemStore::with_objects(self.memory.objects()));
        objects.into_iter().for_each(|object| self.fixture.put(&*copy, object));
        let vault = self.fixture.open(copy.clone()).expect("open");
        (copy, vault)
    }

    fn parent(&self, vault: &Arc<Vault>) -> Option<backstay_core::point::PointLink> {
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("catalogue");
        vault.parent(&catalogue).expect("reads").map(|point| point.link)
    }
}

fn accepting(points: &[&Captured]) -> Layout {
    let accepted =
        |captured: &&Captured| Accepted { link: captured.link, retention_time: at(1), holds: vec![] };
    Layout { generation: 1, term: 1, accepted: points.iter().map(accepted).collect(), ..Layout::default() }
}

#[test]
fn a_point_whose_commit_has_not_ended_counts_and_is_not_built_on() {
    let scene = Scene::new();
    let [base, edit] = scene.base_and_open_edit();
    let (_, elsewhere) = scene.elsewhere(vec![]);
    let source = scene.fixture.source(SOURCE);
    let catalogue = elsewhere.catalogue(source).expect("catalogue");
    assert_eq!(catalogue.newest().map(|point| point.link), Some(edit.link));
    assert_eq!(scene.parent(&elsewhere), Some(base.link));
    let third = scene.fixture.capture(&elsewhere, SOURCE, at(30), &state(b"third")).expect("capture");
    let catalogue = elsewhere.catalogue(source).expect("catalogue");
    let third = catalogue.point(third.link.point).expect("counts");
    assert_eq!(third.vault_part.parent, Some(base.link));
    assert_eq!(catalogue.points().len(), 3);
    assert!(read_back(&elsewhere, SOURCE, third.link.point).expect("reads").state == state(b"third"));
    assert!(elsewhere.check().expect("check").is_good());
}

#[test]
fn a_node_builds_on_what_it_has_acknowledged_itself() {
    let scene = Scene::new();
    let [_, edit] = scene.base_and_open_edit();
    assert_eq!(scene.parent(&scene.vault), Some(edit.link));
    let third = scene.fixture.capture(&scene.vault, SOURCE, at(30), &state(b"third")).expect("capture");
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let third = catalogue.point(third.link.point).expect("counts");
    assert_eq!(third.vault_part.parent, Some(edit.link));
}

#[test]
fn an_accepted_point_is_built_on_whatever_its_session_says_and_a_dropped_one_is_not() {
    let scene = Scene::new();
    let [base, edit] = scene.base_and_open_edit();
    let accepted = accepting(&[&base, &edit]);
    let (_, elsewhere) = scene.elsewhere(vec![scene.layout(&accepted)]);
    assert_eq!(scene.parent(&elsewhere), Some(edit.link));
    let dropped = Layout { dropped: vec![edit.link], ..accepted };
    let (_, elsewhere) = scene.elsewhere(vec![scene.layout(&dropped)]);
    assert_eq!(scene.parent(&elsewhere), Some(base.link));
}

#[test]
fn a_point_that_its_session_was_not_opened_for_is_not_built_on_and_is_named() {
    let scene = Scene::new();
    let base = scene.fixture.capture(&scene.vault, SOURCE, at(10), &state(b"first")).expect("base");
    let stranger = scene.fixture.other_node("cobblestone");
    let trust =
        TrustObject { nodes: vec![scene.fixture.node(), stranger.node()], ..scene.vault.trust().clone() };
    let trust = forge::trust(scene.fixture.admin(), &trust);
    let payload = scene.fixture.payloads(&*scene.memory, "ledger/sessions", EnvelopeKind::Session).remove(0);
    let session: SessionObject = decode_cbor(&payload).expect("a session");
    let ring = scene.fixture.ring();
    let by = |signer, session: SessionObject| vec![trust.clone(), forge::session(ring, signer, &session)];
    let own = scene.fixture.signer();

    let (_, elsewhere) = scene.elsewhere(by(own, session.clone()));
    assert_eq!(scene.parent(&elsewhere), Some(base.link), "as it was");
    assert!(elsewhere.check().expect("check").is_good());
    for objects in [
        by(own, SessionObject { sources: vec![scene.fixture.source("other.files")], ..session.clone() }),
        by(own, SessionObject { collection: CollectionNumber::new(1), ..session.clone() }),
        by(stranger.signer(), session.clone()),
    ] {
        let (_, elsewhere) = scene.elsewhere(objects);
        assert_eq!(scene.parent(&elsewhere), None);
        let report = elsewhere.check().expect("check");
        let point = base.link.point.to_string();
        let named = |finding: &backstay_vault::vault::Finding| {
            finding.what.contains(&point) && finding.wrong.contains(&session.session.to_string())
        };
        assert!(report.findings.iter().any(named), "{report:?}");
    }
}

#[test]
fn a_session_under_the_name_of_another_ends_nothing() {
    let scene = Scene::new();
    let [base, edit] = scene.base_and_open_edit();
    let session = |point: &Captured| {
        let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
        catalogue.point(point.link.point).expect("counts").vault_part.session
    };
    let payloads = scene.fixture.payloads(&*scene.memory, "ledger/sessions", EnvelopeKind::Session);
    let ended = payloads.into_iter().find(|payload| {
        decode_cbor::<SessionObject>(payload).is_ok_and(|object| object.session == session(&base))
    });
    let (ring, signer) = (scene.fixture.ring(), scene.fixture.signer());
    let named = Named::Session(session(&edit));
    let moved =
        forge::envelope(ring, signer, EnvelopeKind::Session, &named, &ended.expect("that of the base"));
    let (_, elsewhere) = scene.elsewhere(vec![moved.clone()]);
    assert_eq!(scene.parent(&elsewhere), Some(base.link));
    let report = elsewhere.check().expect("check");
    assert!(report.findings.iter().any(|finding| finding.what == moved.name.as_str()), "{report:?}");
}

// Partial points.

fn targets(scene: &Scene, vault: &Arc<Vault>, clock: &ManualClock) -> Targets {
    let source = CaptureSource {
        name: SOURCE.into(),
        kind: "files",
        facts: Facts::default(),
        holds: Vec::new(),
        seen: Vec::new(),
        numbered_after: 0,
    };
    let vaults = vec![Arc::clone(vault)];
    let (targets, standing) =
        Targets::open(vaults, Arc::clone(scene.fixture.writer()), source, None, clock).expect("open");
    assert!(standing.is_some());
    targets
}

/// Commits a partial point with one entry and dies.
fn leave_partial_point(scene: &Scene) -> Result<(), backstay_vault::error::VaultError> {
    let clock = ManualClock::new(at(10));
    let mut targets = targets(scene, &scene.vault, &clock);
    let mut chunks = targets.chunk_writer(scene.fixture.pool()).expect("an open target");
    let mut part = PartWriter::new();
    let entry = Entry { key: b"key", change: Change::Put(b"value"), replaced: None };
    part.push(scene.fixture.ring(), &mut chunks, &entry)?;
    let parts = [part.finish(&mut chunks)?.expect("has an entry")];
    let state = CapturedState {
        digest: StateDigest::empty(),
        entries: 1,
        bytes: 0,
        defects: vec![],
        start: at(10),
        whole_until: None,
    };
    targets.commit_partial(chunks, &parts, b"key", &[], &state, &clock)
}

fn resumes(scene: &Scene, vault: &Arc<Vault>) -> bool {
    targets(scene, vault, &ManualClock::new(at(20))).resume_from().is_some()
}

#[test]
fn a_capture_goes_on_from_partial_points_of_acknowledged_sessions_only() {
    let scene = Scene::new();
    leave_partial_point(&scene).expect("acknowledged");
    assert!(resumes(&scene, &scene.vault) && resumes(&scene, &scene.elsewhere(vec![]).1));

    let scene = Scene::new();
    scene.next_session_stays_open();
    leave_partial_point(&scene).expect("acknowledged");
    assert!(resumes(&scene, &scene.vault), "the node itself knows that it has acknowledged it");
    assert!(!resumes(&scene, &scene.elsewhere(vec![]).1), "another process does not");
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let partial = &catalogue.partial_points()[0];
    let accepted = Accepted { link: partial.link, retention_time: at(1), holds: vec![] };
    let layout = Layout { generation: 1, term: 1, accepted: vec![accepted], ..Layout::default() };
    let (_, elsewhere) = scene.elsewhere(vec![scene.layout(&layout)]);
    assert!(resumes(&scene, &elsewhere), "the custodian has accepted it");
    assert!(elsewhere.check().expect("check").is_good());
}

#[test]
fn a_partial_point_that_was_decided_against_or_dropped_is_gone() {
    let scene = Scene::new();
    leave_partial_point(&scene).expect("acknowledged");
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let partial = &catalogue.partial_points()[0];
    let layout = Layout { generation: 1, term: 1, ..Layout::default() };
    let decided = Layout { decided: vec![partial.vault_part.session], ..layout.clone() };
    let dropped = Layout { dropped: vec![partial.link], ..layout };
    for layout in [decided, dropped] {
        let (_, elsewhere) = scene.elsewhere(vec![scene.layout(&layout)]);
        assert!(!resumes(&scene, &elsewhere));
        assert!(elsewhere.check().expect("check").is_good());
    }
}

#[test]
fn a_capture_that_finds_another_parent_between_two_partial_points_leaves_no_session_open() {
    let scene = Scene::new();
    let (copy, elsewhere) = scene.elsewhere(vec![]);
    scene
        .fixture
        .capture_in_style(&elsewhere, SOURCE, at(5), &state(b"other"), &Style::default())
        .expect("capture");
    let others = copy.objects().into_iter().filter(|(name, _)| !scene.memory.objects().contains_key(name));
    let others = others.map(|(name, content)| {
        let (name, _) = backstay_vault::name::ObjectName::parse(&name).expect("ours");
        forge::Object { name, content }
    });
    // The first put opens a session, the second ends it, the third opens the next.
    scene.store.meanwhile(Trigger::on(Operation::Put).below("ledger/sessions/").after(2), others.collect());
    let error = leave_partial_point(&scene).expect_err("its cursor has moved");
    assert_eq!(error.class(), "cursor_moved", "{error}");
    assert_eq!(scene.fixture.objects(&*scene.memory, "fences").len(), 1);
    let dead = scene.fixture.fence_dead_sessions(&scene.vault, at(30)).expect("fences");
    assert_eq!(dead, 0);
}

#[test]
fn a_commit_that_is_acknowledged_and_could_not_end_is_fenced_by_its_own_process() {
    let scene = Scene::new();
    let [_, edit] = scene.base_and_open_edit();
    assert_eq!(scene.fixture.fence_dead_sessions(&scene.vault, at(30)).expect("fences"), 1);
    assert_eq!(scene.fixture.objects(&*scene.memory, "fences").len(), 1);
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(catalogue.newest().map(|point| point.link), Some(edit.link), "it counts all the same");
}

#[test]
fn a_commit_that_fails_anywhere_is_fenced_at_once_with_the_time_at_which_it_failed() {
    for folder in ["packs/", "index/", "points/"] {
        let scene = Scene::new();
        let clock = ManualClock::new(at(10));
        let mut targets = targets(&scene, &scene.vault, &clock);
        let mut chunks = targets.chunk_writer(scene.fixture.pool()).expect("an open target");
        let mut part = PartWriter::new();
        let entry = Entry { key: b"key", change: Change::Put(b"value"), replaced: None };
        part.push(scene.fixture.ring(), &mut chunks, &entry).expect("a row");
        let parts = [part.finish(&mut chunks).expect("a part").expect("has an entry")];
        let digest = StateDigest::empty();
        let state =
            CapturedState { digest, entries: 1, bytes: 0, defects: vec![], start: at(10), whole_until: None };
        scene.store.fail(Trigger::on(Operation::Put).below(folder).always(), StoreErrorKind::NoSpace);
        clock.set(at(70));
        targets.commit_partial(chunks, &parts, b"key", &[], &state, &clock).expect_err(folder);
        let fences = scene.fixture.payloads(&*scene.memory, "fences", EnvelopeKind::Fence);
        let times = fences.iter().map(|fence| decode_cbor::<FenceObject>(fence).expect("a fence").time);
        assert_eq!(times.collect::<Vec<_>>(), [at(70)], "{folder}");
    }
}
