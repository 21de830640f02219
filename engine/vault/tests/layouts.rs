//! Layouts, written by hand: which points count under them, and which runs make up a point.

use std::sync::Arc;

use backstay_core::id::{ObjectHash, SessionId};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::run::Run;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::clear::{TrustObject, TrustedNode};
use backstay_vault::keys::{AgeIdentity, Secret};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{PointObject, Vault};

const SOURCE: &str = "static.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// A vault with four points, each an edit of the one before.
struct Chain {
    fixture: VaultFixture,
    store: Arc<MemStore>,
    vault: Arc<Vault>,
    states: Vec<State>,
    captured: Vec<Captured>,
    points: Vec<Arc<PointObject>>,
}

impl Chain {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(MemStore::new());
        let vault = fixture.create(store.clone()).expect("create");
        let mut random = Random::new(1);
        let mut state: State = (0..12u8).map(|n| (vec![n], random.bytes(500))).collect();
        let mut states = Vec::new();
        let mut captured = Vec::new();
        for number in 0..4u8 {
            state.insert(vec![20 + number], random.bytes(500));
            state.insert(vec![5], random.bytes(100));
            state.remove([number].as_slice());
            captured
                .push(fixture.capture(&vault, SOURCE, at(10 * i64::from(number)), &state).expect("capture"));
            states.push(state.clone());
        }
        let points = vault.catalogue(fixture.source(SOURCE)).expect("catalogue").points().to_vec();
        assert_eq!(points.len(), 4);
        Self { fixture, store, vault, states, captured, points }
    }

    fn accepted(&self, point: usize) -> Accepted {
        Accepted { link: self.captured[point].link, retention_time: at(10), holds: vec![] }
    }

    fn session(&self, point: usize) -> SessionId {
        self.points[point].vault_part.session
    }

    fn put(&self, layout: &Layout) {
        let object =
            forge::layout(self.fixture.ring(), self.fixture.signer(), self.fixture.source(SOURCE), layout);
        self.fixture.put(&*self.store, object);
    }

    /// Which of the four count.
    fn counting(&self) -> Vec<usize> {
        let catalogue = self.vault.catalogue(self.fixture.source(SOURCE)).expect("catalogue");
        (0..4).filter(|n| catalogue.point(self.captured[*n].link.point).is_some()).collect()
    }

    fn reads_back(&self, point: usize) {
        let read = read_back(&self.vault, SOURCE, self.captured[point].link.point).expect("reads");
        assert!(read.state == self.states[point], "point {point}");
        assert_eq!(read.digest, self.captured[point].common.digest, "point {point}");
    }

    /// Writes the run that leads from a state to a later one, as a custodian's merge would have it.
    fn merged(&self, from: Option<usize>, to: usize) -> Run {
        let other = format!("merge{}.files", from.map_or(0, |from| from + 1));
        let first = from.map(|from| self.fixture.capture(&self.vault, &other, at(100), &self.states[from]));
        first.transpose().expect("capture");
        self.fixture.capture(&self.vault, &other, at(110), &self.states[to]).expect("capture");
        let catalogue = self.vault.catalogue(self.fixture.source(&other)).expect("catalogue");
        let parts = catalogue.newest().expect("captured").vault_part.run.clone();
        let point = |n: usize| self.captured[n].link.point;
        Run { from: from.map(point), to: point(to), parts }
    }

    fn delete_point(&self, point: usize) {
        let link = self.captured[point].link;
        let name = Named::Point(self.fixture.source(SOURCE), link.point, link.object).to_name();
        self.fixture.block_on(self.store.delete(&name)).expect("delete");
    }
}

#[test]
fn what_is_decided_counts_only_when_accepted_and_what_is_newer_counts_by_its_chain() {
    let chain = Chain::new();
    assert_eq!(chain.counting(), [0, 1, 2, 3], "without a layout");
    let accept_two = Layout {
        generation: 1,
        term: 1,
        accepted: vec![chain.accepted(0), chain.accepted(1)],
        decided: vec![chain.session(0), chain.session(1)],
        ..Layout::default()
    };
    chain.put(&accept_two);
    assert_eq!(chain.counting(), [0, 1, 2, 3], "the others are newer and build on what was accepted");
    chain.put(&Layout { generation: 2, decided: [0, 1, 2].map(|n| chain.session(n)).to_vec(), ..accept_two });
    assert_eq!(chain.counting(), [0, 1], "nor does what builds on a point that was decided against");
    chain.reads_back(1);
    assert!(chain.vault.check().expect("check").is_good(), "that is no damage");
}

#[test]
fn a_point_that_turns_up_after_its_session_was_decided_does_not_count() {
    let chain = Chain::new();
    chain.put(&Layout {
        generation: 1,
        term: 1,
        accepted: vec![chain.accepted(0)],
        decided: vec![chain.session(0), chain.session(3)],
        ..Layout::default()
    });
    assert_eq!(chain.counting(), [0, 1, 2]);
    let newest = chain.fixture.capture(&chain.vault, SOURCE, at(99), &chain.states[3]).expect("capture");
    let catalogue = chain.vault.catalogue(chain.fixture.source(SOURCE)).expect("catalogue");
    let parent = catalogue.point(newest.link.point).expect("counts").vault_part.parent;
    assert_eq!(parent, Some(chain.captured[2].link), "the next capture builds on what counts");
}

#[test]
fn a_point_is_read_through_the_runs_that_a_layout_lists() {
    let chain = Chain::new();
    let runs = vec![chain.merged(None, 1), chain.merged(Some(1), 3)];
    chain.put(&Layout {
        generation: 1,
        term: 1,
        accepted: vec![chain.accepted(1), chain.accepted(3)],
        runs: runs.clone(),
        decided: (0..4).map(|n| chain.session(n)).collect(),
        ..Layout::default()
    });
    chain.delete_point(0);
    chain.delete_point(2);
    assert_eq!(chain.counting(), [1, 3]);
    let catalogue = chain.vault.catalogue(chain.fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(
        catalogue.stack(chain.captured[3].link.point).expect("complete"),
        [runs[1].clone(), runs[0].clone()]
    );
    chain.reads_back(1);
    chain.reads_back(3);
    let next = chain.fixture.capture(&chain.vault, SOURCE, at(99), &chain.states[0]).expect("on top");
    assert!(read_back(&chain.vault, SOURCE, next.link.point).expect("reads").state == chain.states[0]);
    assert!(chain.vault.check().expect("check").is_good());
}

#[test]
fn an_accepted_point_that_is_gone_is_named() {
    let chain = Chain::new();
    chain.put(&Layout {
        generation: 1,
        term: 1,
        accepted: (0..4).map(|n| chain.accepted(n)).collect(),
        decided: (0..4).map(|n| chain.session(n)).collect(),
        ..Layout::default()
    });
    chain.delete_point(2);
    let report = chain.vault.check().expect("check");
    let gone = chain.captured[2].link.point.to_string();
    assert!(report.findings.iter().any(|finding| finding.wrong.contains(&gone)), "{report:?}");
    assert!(
        read_back(&chain.vault, SOURCE, chain.captured[3].link.point).is_err(),
        "it builds on the one that is gone"
    );
    chain.reads_back(1);
}

#[test]
fn the_highest_generation_of_the_custodian_is_in_force_and_nobody_elses() {
    let chain = Chain::new();
    let only = |generation, term, point: usize| Layout {
        generation,
        term,
        accepted: vec![chain.accepted(point)],
        decided: (0..4).map(|n| chain.session(n)).collect(),
        previous: Some(ObjectHash::new([1; 32])),
        ..Layout::default()
    };
    chain.put(&only(7, 1, 0));
    chain.put(&only(3, 1, 1));
    assert_eq!(chain.counting(), [0]);
    chain.put(&only(8, 2, 2));
    assert_eq!(chain.counting(), [0], "of a term that has not begun");

    let other =
        VaultFixture::with_keys(chain.fixture.bundle().clone(), &Secret::random(), AgeIdentity::generate());
    let node = TrustedNode { name: "cobblestone".into(), ..other.node() };
    let previous = *blake3::hash(&chain.store.objects()[Named::Trust(1).to_name().as_str()]).as_bytes();
    let trust = TrustObject {
        n: 2,
        previous: Some(ObjectHash::new(previous)),
        nodes: vec![chain.fixture.node(), node],
        ..chain.vault.trust().clone()
    };
    chain.fixture.put(&*chain.store, forge::trust(chain.fixture.admin(), &trust));
    let source = chain.fixture.source(SOURCE);
    let forged = forge::layout(chain.fixture.ring(), other.signer(), source, &only(9, 1, 3));
    chain.fixture.put(&*chain.store, forged);
    let vault = chain.fixture.open(chain.store.clone()).expect("open");
    let points =
        vault.catalogue(source).expect("catalogue").points().iter().map(|p| p.link).collect::<Vec<_>>();
    assert_eq!(points, [chain.captured[0].link], "a node that is trusted, and is not the custodian");
}

#[test]
fn a_layout_under_the_name_of_another_source_is_left_out() {
    let chain = Chain::new();
    let layout = Layout { generation: 1, term: 1, decided: vec![chain.session(0)], ..Layout::default() };
    let (ring, signer) = (chain.fixture.ring(), chain.fixture.signer());
    let elsewhere = forge::layout(ring, signer, chain.fixture.source("other.files"), &layout);
    let (_, named) = ObjectName::parse(elsewhere.name.as_str()).expect("a name");
    let Named::Layout(_, generation, hash) = named else { panic!("{named:?}") };
    let name = Named::Layout(chain.fixture.source(SOURCE), generation, hash).to_name();
    chain.fixture.put(&*chain.store, forge::Object { name: name.clone(), content: elsewhere.content });
    assert_eq!(chain.counting(), [0, 1, 2, 3]);
    let report = chain.vault.check().expect("check");
    assert!(report.findings.iter().any(|finding| finding.wrong.contains(name.as_str())), "{report:?}");
}
