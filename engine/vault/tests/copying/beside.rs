//! Captures, and other copies, to a vault to which something is copied: whatever comes in between any two requests of the
//! copy, all points are there as they were captured.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_testkit::capture::State;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::clear::TrustObject;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Listed, MemStore, Store, StoreError};
use backstay_vault::vault::{Copied, CopyLimits, Copying, Vault};
use bytes::Bytes;

use crate::scene::{FILES, Scene, at};

/// Lets somebody else go on, and waits for them.
struct Turn {
    before: u64,
    go: Sender<()>,
    done: Receiver<()>,
}

/// A store in which something is done once, before one of its requests. Packs, which go up on other threads, and the
/// index, whose listing nobody else of the process can begin meanwhile, are not counted.
struct Meanwhile {
    below: Arc<MemStore>,
    requests: AtomicU64,
    turn: Mutex<Option<Turn>>,
}

impl Meanwhile {
    fn step(&self, name: &str) {
        if name.starts_with("packs") || name.starts_with("index") {
            return;
        }
        let request = self.requests.fetch_add(1, Ordering::SeqCst);
        let due = self.turn.lock().expect("no panic while it is held").take_if(|turn| turn.before == request);
        if let Some(turn) = due {
            turn.go.send(()).expect("somebody waits for it");
            turn.done.recv().expect("what is done meanwhile goes well");
        }
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

#[async_trait]
impl Overrides for Meanwhile {
    fn below(&self) -> &dyn Store {
        &*self.below
    }

    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.step(name.as_str());
        self.below.put(name, content).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.step(name.as_str());
        self.below.get(name).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.step(folder.as_str());
        self.below.list(folder).await
    }
}

/// A store that keeps the ends of sessions back once a point was put: who looks from outside sees a commit that has not
/// ended.
#[derive(Debug)]
struct EndsLate {
    below: Arc<MemStore>,
    has_point: Mutex<bool>,
    held: Arc<Mutex<Vec<(ObjectName, Bytes)>>>,
}

#[async_trait]
impl Overrides for EndsLate {
    fn below(&self) -> &dyn Store {
        &*self.below
    }

    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let mut has_point = std::mem::take(&mut *self.has_point.lock().expect("no panic while it is held"));
        let is_end = has_point && name.as_str().starts_with("ledger/sessions/");
        has_point |= name.as_str().starts_with("points/");
        *self.has_point.lock().expect("no panic while it is held") = has_point && !is_end;
        match is_end {
            true => self.held.lock().expect("no panic while it is held").push((name.clone(), content)),
            false => self.below.put(name, content).await?,
        }
        Ok(())
    }
}

/// Two vaults, of which the second has less, and a further node that may write to both.
struct Two {
    scene: Scene,
    other: VaultFixture,
}

impl Two {
    fn new() -> Self {
        let mut scene = Scene::new();
        let other = scene.fixture.other_node("cobblestone");
        for store in [&scene.from_store, &scene.to_store] {
            let trust = scene.to.trust();
            let nodes = vec![scene.fixture.node(), other.node()];
            let trust = TrustObject { nodes, ..trust.clone() };
            scene.fixture.put(&**store, forge::trust(scene.fixture.admin(), &trust));
        }
        scene.from = scene.fixture.open(scene.from_store.clone()).expect("opens");
        scene.to = scene.fixture.open(scene.to_store.clone()).expect("opens");
        let mut random = Random::new(31);
        scene.line(FILES, 2, &mut random);
        scene.copy().expect("copies");
        scene.line(FILES, 2, &mut random);
        Self { scene, other }
    }

    /// One more capture, in which little has changed.
    fn edit(&mut self) {
        let scene = &mut self.scene;
        let from = scene.from.clone();
        let catalogue = from.catalogue(scene.fixture.source(FILES)).expect("catalogue");
        let newest = catalogue.newest().expect("a point").link.point;
        let mut state = scene.states[&(FILES, newest)].clone();
        state.insert(vec![5], Random::new(32).bytes(100));
        scene.capture(&from, FILES, 2000, &state);
    }

    /// Copies, and does something before request `place`, with the vault as the copier has it; false when there is no such
    /// request.
    fn copy_with(scene: &Scene, place: u64, deed: impl FnOnce(&Arc<Vault>) + Send) -> (Copied, bool) {
        let store = Arc::new(Forwarded(Meanwhile {
            below: scene.to_store.clone(),
            requests: AtomicU64::new(0),
            turn: Mutex::default(),
        }));
        let to = scene.fixture.open(store.clone()).expect("opens");
        store.0.requests.store(0, Ordering::SeqCst);
        let ((go, may_go), (is_done, done)) = (channel(), channel());
        *store.0.turn.lock().expect("no panic while it is held") = Some(Turn { before: place, go, done });
        std::thread::scope(|threads| {
            let own = &to;
            threads.spawn(move || {
                if may_go.recv().is_ok() {
                    deed(own);
                    is_done.send(()).expect("the copy waits for it");
                }
            });
            let copied = copy(scene, &scene.fixture, &to);
            let was_done = store.0.turn.lock().expect("no panic while it is held").take().is_none();
            (copied.unwrap_or_else(|error| panic!("before request {place}: {error}")), was_done)
        })
    }

    /// Everything is there in the end, each point once, and nothing is left to be copied.
    fn end(mut self, first: &Copied, story: &str) {
        let has_ended = |why: &String| !why.contains("a commit that has not ended");
        assert!(!first.failures.iter().any(|(.., why)| has_ended(why)), "{story}: {first:?}");
        self.scene.to = self.scene.fixture.open(self.scene.to_store.clone()).expect("opens");
        let all = self.scene.states.clone();
        self.scene.verify_in(self.scene.to_store.clone(), &all, story);
        let to = self.scene.to.clone();
        self.scene.with_custodian(&to, |custodian| {
            for _ in 0..2 {
                custodian.collect()?;
                custodian.thin(&|_| None)?;
            }
            custodian.collect()
        });
        let again = self.scene.copy().expect("copies");
        assert_eq!((again.points, again.failures), (0, vec![]), "{story}: {first:?}");
        self.scene.verify_in(self.scene.to_store.clone(), &all, story);
        let catalogue = to.catalogue(self.scene.fixture.source(FILES)).expect("catalogue");
        let ids: HashSet<_> = catalogue.points().iter().map(|point| point.link.point).collect();
        assert_eq!(ids.len(), catalogue.points().len(), "{story}: a point counts twice");
    }
}

/// Does this at every request of a copy in turn; how many there are.
fn at_every_request(mut once: impl FnMut(u64) -> bool) {
    let places = (0..).take_while(|place| once(*place)).count();
    assert!((20..2000).contains(&places), "{places} requests");
}

fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..4).map(|key| (vec![key], random.bytes(9000))).collect()
}

/// A capture that comes before any of the requests of a copy.
fn capture_at_every_request(node: fn(&Two) -> &VaultFixture, shares_vault: bool) {
    at_every_request(|place| {
        let mut two = Two::new();
        let (after, mut captured) = (state(place), None);
        let (scene, other) = (&two.scene, node(&two));
        let (copied, was_done) = Two::copy_with(scene, place, |own| {
            let vault = match shares_vault {
                true => own.clone(),
                false => other.open(scene.to_store.clone()).expect("opens"),
            };
            let done = other.capture(&vault, FILES, at(5000), &after).expect("captures");
            captured = Some(done.link.point);
        });
        if let Some(point) = captured {
            two.scene.states.insert((FILES, point), after);
        }
        two.end(&copied, &format!("captured before request {place}"));
        was_done
    });
}

#[test]
fn captures_of_the_same_process_go_on() {
    capture_at_every_request(|two| &two.scene.fixture, true);
}

#[test]
fn captures_of_another_node_go_on() {
    capture_at_every_request(|two| &two.other, false);
}

#[test]
fn points_that_somebody_else_puts_there_meanwhile_are_there_once() {
    at_every_request(|place| {
        let two = Two::new();
        let (scene, other) = (&two.scene, &two.other);
        let (copied, was_done) = Two::copy_with(scene, place, |_| {
            let to = other.open(scene.to_store.clone()).expect("opens");
            copy(scene, other, &to).expect("copies");
        });
        two.end(&copied, &format!("copied by another before request {place}"));
        was_done
    });
}

/// A run leads from the point that the session has pinned, and from no other.
#[test]
fn a_commit_that_ends_meanwhile_does_not_change_on_what_a_copy_builds() {
    at_every_request(|place| {
        let mut two = Two::new();
        let held = Arc::new(Mutex::new(Vec::new()));
        let late = EndsLate { below: two.scene.to_store.clone(), has_point: Mutex::default(), held };
        let late = Arc::new(Forwarded(late));
        let to = two.other.open(late.clone()).expect("opens");
        copy(&two.scene, &two.other, &to).expect("copies");
        two.edit();
        let scene = &two.scene;
        let (copied, was_done) = Two::copy_with(scene, place, |_| {
            for (name, content) in late.0.held.lock().expect("no panic while it is held").drain(..) {
                scene.fixture.block_on(scene.to_store.put(&name, content)).expect("memory takes it");
            }
        });
        if was_done {
            two.end(&copied, &format!("a commit ended before request {place}"));
        }
        was_done
    });
}

fn copy(scene: &Scene, node: &VaultFixture, to: &Arc<Vault>) -> Result<Copied, VaultError> {
    let copying = Copying {
        from: scene.from.clone(),
        to: to.clone(),
        writer: node.writer().clone(),
        kinds: kinds(),
        pool: node.pool().clone(),
        clock: &scene.clock,
        limits: CopyLimits::default(),
    };
    copying.run(&|_| true, &|_| {})
}
