//! Points of many parts, which take many commits to copy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::clock::{Clock, ManualClock};
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
    let commits = scene.to_store.objects().keys().filter(|name| name.starts_with("ledger/sessions/")).count();
    assert!(commits > usize::from(PARTS), "{commits} commits");
    let ranges = requests.succeeded(Operation::GetRange);
    assert!(ranges < 20 * u64::from(PARTS), "{ranges} reads for {PARTS} parts");
}

/// Passes over the vault to which is copied, at looks at the clock.
struct Passing<'s> {
    scene: &'s Scene,
    to: Arc<Vault>,
    /// At this look, or at all.
    at: Option<u64>,
    /// How far ahead the clock of the custodian is.
    ahead: Duration,
    looks: AtomicU64,
    notes: Mutex<MemoryNotes>,
}

impl<'s> Passing<'s> {
    fn new(scene: &'s Scene, at: Option<u64>, ahead: Duration) -> Self {
        let to = scene.fixture.open(scene.to_store.clone()).expect("opens");
        Self { scene, to, at, ahead, looks: AtomicU64::new(0), notes: Mutex::default() }
    }

    fn prune(&self) {
        let clock = ManualClock::new(self.scene.clock.now().saturating_add(self.ahead));
        let look = Inspection::new(self.to.clone(), kinds(), &clock);
        let (identity, pool) = (self.scene.fixture.writer().clone(), self.scene.fixture.pool().clone());
        let mut notes = self.notes.lock().expect("no panic while it is held");
        let mut custodian = Custodian::new(look, identity, pool, &mut *notes).expect("custodian");
        custodian.collect().expect("passes");
        custodian.thin(&|_| None).expect("thins");
        while let Pass::Done(_) = custodian.collect().expect("passes") {}
    }
}

impl Clock for Passing<'_> {
    fn now(&self) -> Timestamp {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        if self.at.is_none_or(|at| at == look) {
            self.prune();
        }
        self.scene.clock.now()
    }
}

#[test]
fn what_was_sent_stays_until_its_point_is_there_however_often_the_vault_is_pruned_meanwhile() {
    let scene = scene_with_parts();
    let clock = Passing::new(&scene, None, Duration::ZERO);
    let copied = copy_bit_by_bit(&scene, scene.from.clone(), &clock);
    assert_eq!((copied.points, copied.failures.len()), (1, 0));
    let undisturbed = scene_with_parts();
    let whole = copy_bit_by_bit(&undisturbed, undisturbed.from.clone(), &undisturbed.clock);
    assert_eq!(copied.records, whole.records, "each was sent once");
    scene.verify();
    clock.prune();
    clock.prune();
    let left = scene.to_store.objects().into_keys().filter(|name| name.starts_with("points/")).count();
    assert_eq!(left, 1, "what a copy has left on its way goes when the point is there");
    scene.verify();
}

#[test]
fn what_was_deleted_between_two_commits_is_sent_again() {
    let mut again = 0;
    let undisturbed = scene_with_parts();
    let whole = copy_bit_by_bit(&undisturbed, undisturbed.from.clone(), &undisturbed.clock);
    for at in (0..3 * u64::from(PARTS)).step_by(3) {
        let scene = scene_with_parts();
        // To a clock so far ahead what was left is old.
        let clock = Passing::new(&scene, Some(at), Duration::from_secs(15 * 24 * 3600));
        let copied = copy_bit_by_bit(&scene, scene.from.clone(), &clock);
        assert_eq!((copied.points, copied.failures.len()), (1, 0), "at look {at}");
        scene.verify();
        again += copied.records - whole.records;
    }
    assert!(again > u64::from(PARTS), "only {again} records were sent again");
}
