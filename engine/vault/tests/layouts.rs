//! Layouts, written by hand: which points count under them, and which runs make up a point.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, SessionId};
use backstay_core::layout::{Accepted, Layout, PlacedRun};
use backstay_core::run::Run;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::random::Random;
use backstay_vault::clear::{Custodian, TrustObject};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::malformed::encode_cbor;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Folder, Listed, MemStore, Store, StoreError};
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

    /// A layout that decides all and accepts only this point.
    fn only(&self, generation: u64, term: u64, point: usize) -> Layout {
        Layout {
            generation,
            term,
            accepted: vec![self.accepted(point)],
            decided: (0..4).map(|n| self.session(n)).collect(),
            previous: Some(ObjectHash::new([1; 32])),
            ..Layout::default()
        }
    }

    fn put(&self, layout: &Layout) {
        self.put_by(&self.fixture, layout);
    }

    fn put_by(&self, node: &VaultFixture, layout: &Layout) {
        let source = self.fixture.source(SOURCE);
        let object = forge::layout(self.fixture.ring(), node.signer(), source, layout);
        self.fixture.put(&*self.store, object);
    }

    /// Puts the next object of the chain of trust.
    fn trust(&self, nodes: &[&VaultFixture], custodian: &Custodian) {
        let chain = self.fixture.objects(&*self.store, "trust");
        let trust = TrustObject {
            n: chain.len() as u64 + 1,
            previous: chain.last().map(forge::Object::hash),
            nodes: nodes.iter().map(|node| node.node()).collect(),
            custodian: custodian.clone(),
        };
        self.fixture.put(&*self.store, forge::trust(self.fixture.admin(), &trust));
    }

    /// Which of the four count.
    fn counting(&self) -> Vec<usize> {
        self.counting_in(&self.vault)
    }

    fn counting_in(&self, vault: &Vault) -> Vec<usize> {
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("catalogue");
        (0..4).filter(|n| catalogue.point(self.captured[*n].link.point).is_some()).collect()
    }

    /// The vault in another process, which has read `trust/` anew.
    fn open(&self) -> Arc<Vault> {
        self.fixture.open(self.store.clone()).expect("open")
    }

    fn reads_back(&self, point: usize) {
        let read = read_back(&self.vault, SOURCE, self.captured[point].link.point).expect("reads");
        assert!(read.state == self.states[point], "point {point}");
        assert_eq!(read.digest, self.captured[point].common.digest, "point {point}");
    }

    /// Writes the run that leads from a state to a later one, as a custodian's merge would have it.
    fn merged(&self, from: Option<usize>, to: usize) -> PlacedRun {
        let other = format!("merge{}.files", from.map_or(0, |from| from + 1));
        let first = from.map(|from| self.fixture.capture(&self.vault, &other, at(100), &self.states[from]));
        first.transpose().expect("capture");
        self.fixture.capture(&self.vault, &other, at(110), &self.states[to]).expect("capture");
        let catalogue = self.vault.catalogue(self.fixture.source(&other)).expect("catalogue");
        let parts = catalogue.newest().expect("captured").vault_part.run.clone();
        let link = |n: usize| self.captured[n].link;
        PlacedRun { from: from.map(link), to: link(to), run: Run { parts } }
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
        [runs[1].run.clone(), runs[0].run.clone()]
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
    chain.put(&chain.only(7, 1, 0));
    chain.put(&chain.only(3, 1, 1));
    assert_eq!(chain.counting(), [0]);
    chain.put(&chain.only(8, 2, 2));
    assert_eq!(chain.counting(), [0], "of a term that has not begun");

    let other = chain.fixture.other_node("cobblestone");
    chain.trust(&[&chain.fixture, &other], &chain.vault.trust().custodian);
    chain.put_by(&other, &chain.only(9, 1, 3));
    assert_eq!(chain.counting_in(&chain.open()), [0], "a node that is trusted, and is not the custodian");
}

#[test]
fn a_former_custodians_layout_stands_until_its_successor_writes_one() {
    let chain = Chain::new();
    let (former, successor) = (chain.fixture.other_node("cobblestone"), chain.fixture.other_node("slate"));
    let custodian =
        |node: &VaultFixture, term| Custodian { node: node.writer().node.clone(), term, signer: None };
    chain.trust(&[&chain.fixture, &former], &custodian(&former, 2));
    chain.put_by(&former, &chain.only(7, 2, 1));
    assert_eq!(chain.counting_in(&chain.open()), [1]);

    chain.trust(&[&chain.fixture, &successor], &custodian(&successor, 3));
    assert_eq!(chain.counting_in(&chain.open()), [1], "also when its node is gone");
    let catalogue = chain.open().catalogue(chain.fixture.source(SOURCE)).expect("catalogue");
    assert!(catalogue.left_out.is_empty(), "{:?}", catalogue.left_out);
    chain.put_by(&successor, &chain.only(8, 2, 2));
    chain.put_by(&former, &chain.only(9, 3, 2));
    assert_eq!(chain.counting_in(&chain.open()), [1], "of another's term neither can write");
    chain.put_by(&successor, &chain.only(1, 3, 3));
    assert_eq!(chain.counting_in(&chain.open()), [3], "a later term comes first, whatever its generation");
}

#[test]
fn while_the_layout_of_the_new_custodian_cannot_be_read_nobody_builds_on_that_of_the_former() {
    let chain = Chain::new();
    let former = chain.fixture.other_node("cobblestone");
    let custodian =
        |node: &VaultFixture, term| Custodian { node: node.writer().node.clone(), term, signer: None };
    chain.trust(&[&chain.fixture, &former], &custodian(&former, 2));
    // One that landed late has a greater generation than the successor knew.
    chain.put_by(&former, &chain.only(7, 2, 0));
    chain.trust(&[&chain.fixture, &former], &custodian(&chain.fixture, 3));
    let capture = || chain.fixture.capture(&chain.open(), SOURCE, at(100), &chain.states[3]);
    capture().expect("captures");
    let source = chain.fixture.source(SOURCE);
    let mut damaged =
        forge::layout(chain.fixture.ring(), chain.fixture.signer(), source, &chain.only(4, 3, 0));
    damaged.content = bytes::Bytes::from_static(b"something else");
    chain.fixture.put(&*chain.store, damaged);
    let refused = capture().expect_err("nobody knows what counts").to_string();
    assert!(refused.contains("layout/"), "{refused}");
}

#[test]
fn a_layout_that_is_not_of_its_name_or_decides_the_future_is_left_out() {
    let chain = Chain::new();
    let decides = Layout { generation: 1, term: 1, ..Layout::default() };
    let decides = Layout { decided: vec![chain.session(0)], ..decides };
    let (ring, signer) = (chain.fixture.ring(), chain.fixture.signer());
    let source = chain.fixture.source(SOURCE);
    let renamed =
        forge::hashed_envelope(ring, signer, EnvelopeKind::Layout, &encode_cbor(&decides), |hash| {
            Named::Layout(source, 2, hash)
        });
    let below = |decided_below: u64, collection: u64| Layout {
        decided: vec![],
        decided_below: CollectionNumber::new(decided_below),
        collection: CollectionNumber::new(collection),
        ..decides.clone()
    };
    for object in [renamed, forge::layout(ring, signer, source, &below(2, 1))] {
        chain.fixture.put(&*chain.store, object.clone());
        assert_eq!(chain.counting(), [0, 1, 2, 3]);
        let report = chain.vault.check().expect("check");
        assert!(
            report.findings.iter().any(|finding| finding.wrong.contains(object.name.as_str())),
            "{report:?}"
        );
    }
    chain.put(&below(1, 1));
    assert!(chain.counting().is_empty(), "all began before the first collection, and none was accepted");
}

#[test]
fn runs_of_points_that_do_not_count_make_up_nothing() {
    let chain = Chain::new();
    let source = chain.fixture.source(SOURCE);
    let catalogue = chain.vault.catalogue(source).expect("catalogue");
    let first = catalogue.point(chain.captured[0].link.point).expect("counts").own_run();
    let without = Layout {
        generation: 1,
        term: 1,
        accepted: vec![chain.accepted(1)],
        decided: (0..4).map(|n| chain.session(n)).collect(),
        ..Layout::default()
    };
    chain.put(&without);
    assert_eq!(chain.counting(), [1]);
    let read = read_back(&chain.vault, SOURCE, chain.captured[1].link.point);
    let missing = chain.captured[0].link.point.to_string();
    assert!(read.is_err_and(|error| error.to_string().contains(&missing)));
    chain.put(&Layout { generation: 2, runs: vec![first], ..without });
    chain.reads_back(1);
}

#[test]
fn a_point_whose_parent_was_dropped_after_it_was_pinned_counts_and_is_read() {
    let chain = Chain::new();
    let catalogue = chain.vault.catalogue(chain.fixture.source(SOURCE)).expect("catalogue");
    let own_run = |n: usize| catalogue.point(chain.captured[n].link.point).expect("counts").own_run();
    chain.put(&Layout {
        generation: 1,
        term: 1,
        accepted: vec![chain.accepted(0), chain.accepted(1)],
        runs: vec![own_run(0), own_run(1)],
        decided: vec![chain.session(0), chain.session(1)],
        dropped: vec![chain.captured[1].link],
        ..Layout::default()
    });
    assert_eq!(chain.counting(), [0, 2, 3]);
    chain.delete_point(1);
    chain.reads_back(2);
    chain.reads_back(3);
    let report = chain.vault.check().expect("check");
    assert!(report.is_good(), "what was dropped is not missing: {report:?}");
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

/// A store as whoever meets it who was slow between the listing of layouts and what came next.
#[derive(Debug)]
struct ListedLongAgo {
    below: Arc<MemStore>,
    listed: Mutex<Option<Vec<Listed>>>,
}

#[async_trait]
impl Overrides for ListedLongAgo {
    fn below(&self) -> &dyn Store {
        &*self.below
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let is_of_layouts = folder.as_str().starts_with("layout/");
        let before = self.listed.lock().expect("no panic").take_if(|_| is_of_layouts);
        match before {
            Some(before) => Ok(before),
            None => self.below.list(folder).await,
        }
    }
}

#[test]
fn layouts_that_were_replaced_since_they_were_listed_are_listed_again() {
    // The newer one may be gone before the older one.
    for gone in [&[0, 1][..], &[1]] {
        let chain = Chain::new();
        (0..2).for_each(|n| chain.put(&chain.only(1 + n as u64, 1, n)));
        let source = chain.fixture.source(SOURCE);
        let listed = chain.fixture.block_on(chain.store.list(&Folder::new(&[&"layout", &source])));
        let listed = listed.expect("lists");
        (2..4).for_each(|n| chain.put(&chain.only(1 + n as u64, 1, n)));
        for n in gone {
            chain.fixture.block_on(chain.store.delete(&listed[*n].name)).expect("deletes");
        }
        let (below, listed) = (chain.store.clone(), Mutex::new(Some(listed)));
        let vault = chain.fixture.open(Arc::new(Forwarded(ListedLongAgo { below, listed }))).expect("opens");
        assert_eq!(chain.counting_in(&vault), [3], "{gone:?}");
    }
}
