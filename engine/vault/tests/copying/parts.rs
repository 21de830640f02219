//! Points of many parts, which take many commits to copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::clock::Clock;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::store::{Counted, Operation, RequestCounts};
use backstay_vault::vault::{Copied, CopyLimits, Copying, Custodian, Inspection, MemoryNotes, Pass, Vault};

use crate::scene::{FILES, Scene, at};

const PARTS: u8 = 40;

/// A point of which each part has one entry, with a value that lies in one chunk.
fn scene_with_parts() -> Scene {
    let (mut scene, mut random) = (Scene::new(), Random::new(21));
    let state: State = (0..PARTS).map(|n| (vec![n], random.bytes(20_000))).collect();
    let style = Style { part_entries: 1, ..Style::default() };
    let captured = scene.fixture.capture_in_style(&scene.from, FILES, at(1000), &state, &style);
    scene.states.insert((FILES, captured.expect("captures").link.point), state);
    scene
}

/// As many commits as there are stretches to read.
fn copy_bit_by_bit(scene: &Scene, from: Arc<Vault>, clock: &dyn Clock) -> Copied {
    let copying = Copying {
        from,
        to: scene.to.clone(),
        writer: scene.fixture.writer().clone(),
        kinds: kinds(),
        pool: scene.fixture.pool().clone(),
        clock,
        limits: CopyLimits { bytes: 1, ..CopyLimits::default() },
    };
    copying.run(&|_| true, &|_| {}).expect("copies")
}

#[test]
fn each_commit_goes_on_where_the_one_before_has_ended() {
    let scene = scene_with_parts();
    let requests = Arc::new(RequestCounts::default());
    let store = Arc::new(Counted::new(scene.from_store.clone(), requests.clone()));
    let copied = copy_bit_by_bit(&scene, scene.fixture.open(store).expect("opens"), &scene.clock);
    assert_eq!((copied.points, copied.failures.len()), (1, 0));
    scene.verify();
    let commits = scene.to_store.objects().keys().filter(|name| name.starts_with("sessions/")).count();
    assert!(commits > usize::from(PARTS), "{commits} commits");
    let ranges = requests.succeeded(Operation::GetRange);
    assert!(ranges < 20 * u64::from(PARTS), "{ranges} reads for {PARTS} parts");
}

/// A clock at whose `at`th look a pass goes over the vault to which is copied.
struct PassAt<'s> {
    scene: &'s Scene,
    to: Arc<Vault>,
    at: u64,
    looks: AtomicU64,
    packs_deleted: AtomicU64,
}

impl Clock for PassAt<'_> {
    fn now(&self) -> Timestamp {
        if self.looks.fetch_add(1, Ordering::SeqCst) == self.at {
            let scene = self.scene;
            let look = Inspection::new(self.to.clone(), kinds(), &scene.clock);
            let (identity, pool) = (scene.fixture.writer().clone(), scene.fixture.pool().clone());
            let mut notes = MemoryNotes::default();
            let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("custodian");
            match custodian.collect().expect("passes") {
                Pass::Done(done) => self.packs_deleted.store(done.packs_deleted, Ordering::SeqCst),
                Pass::Idle | Pass::Waits(_) => {}
            }
        }
        self.scene.clock.now()
    }
}

#[test]
fn what_a_pass_has_deleted_between_two_commits_is_sent_again() {
    let mut deleted = 0;
    for at in 0..2 * u64::from(PARTS) {
        let scene = scene_with_parts();
        let to = scene.fixture.open(scene.to_store.clone()).expect("opens");
        let (looks, packs_deleted) = (AtomicU64::new(0), AtomicU64::new(0));
        let clock = PassAt { scene: &scene, to, at, looks, packs_deleted };
        let copied = copy_bit_by_bit(&scene, scene.from.clone(), &clock);
        assert_eq!((copied.points, copied.failures.len()), (1, 0), "pass at look {at}");
        scene.verify();
        deleted += clock.packs_deleted.load(Ordering::SeqCst);
    }
    assert!(deleted > u64::from(PARTS), "only {deleted} packs were deleted between commits");
}
