//! Opening and making of vaults: every reason to refuse has its own error, which says what to do.

use std::sync::Arc;

use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_vault::clear::{Custodian, FormatObject, TrustObject, TrustedNode};
use backstay_vault::error::VaultError;
use backstay_vault::keys::{AgeIdentity, KeyRing, Secret, Signer};
use backstay_vault::name::Named;
use backstay_vault::store::{DirStore, MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::{NewVault, Session, Vault, VaultKeys, WriterIdentity};

const SOURCE: &str = "static.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn state() -> State {
    State::from([(b"key".to_vec(), b"value".to_vec())])
}

/// A fixture and a vault that has one point.
fn vault() -> (VaultFixture, Arc<MemStore>, Arc<Vault>) {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    fixture.capture(&vault, SOURCE, at(10), &state()).expect("capture");
    (fixture, store, vault)
}

/// The error of opening, with what its message must say.
fn refusal(fixture: &VaultFixture, store: Arc<dyn Store>, says: &[&str]) -> VaultError {
    let error = fixture.open(store).expect_err("refused");
    for part in says {
        assert!(error.to_string().contains(part), "{part:?} is missing in {error}");
    }
    error
}

#[test]
fn an_empty_store_and_a_missing_directory_hold_no_vault() {
    let fixture = VaultFixture::new();
    let root = tempfile::tempdir().expect("a temporary folder");
    let missing = root.path().join("unmounted");
    let stores: [Arc<dyn Store>; 3] =
        [Arc::new(MemStore::new()), Arc::new(DirStore::new(root.path())), Arc::new(DirStore::new(missing))];
    for store in stores {
        let place = store.place();
        assert!(matches!(Vault::peek(&store, &fixture.handle()), Ok(None)), "{place}");
        let error = refusal(&fixture, store, &[&place, "mount", "vault init"]);
        assert!(matches!(error, VaultError::NoVault { .. }), "{error}");
    }
}

#[test]
fn a_vault_is_never_made_over_another() {
    let (fixture, store, vault) = vault();
    let before = store.objects();
    let error = fixture.create(store.clone()).expect_err("refused");
    assert!(matches!(error, VaultError::AlreadyThere { .. }), "{error}");
    assert!(store.objects() == before, "nothing was changed");
    let format = Vault::peek(&(store as Arc<dyn Store>), &fixture.handle()).expect("peek").expect("there");
    assert_eq!(format.format().vault, vault.id());
}

#[test]
fn an_interrupted_making_is_no_vault_and_is_made_again() {
    let fixture = VaultFixture::new();
    let whole = 3;
    for puts in 0..whole {
        let memory = Arc::new(MemStore::new());
        let faulty = Arc::new(FaultStore::new(memory.clone()));
        faulty.fail(Trigger::on(Operation::Put).after(puts), StoreErrorKind::Permanent);
        fixture.create(faulty).err().unwrap_or_else(|| panic!("put {puts} fails"));
        assert!(matches!(fixture.open(memory.clone()), Err(VaultError::NoVault { .. })), "after {puts} puts");
        let vault = VaultFixture::new();
        let again = vault.create(memory).expect("another domain may take the place");
        vault.capture(&again, SOURCE, at(10), &state()).expect("and it works");
    }
}

#[test]
fn another_domains_keys_are_told_from_damage() {
    let (fixture, store, _) = vault();
    let other = VaultFixture::new();
    let error = refusal(&other, store, &["wrong key", "age -d", &fixture.bundle().domain.to_string()]);
    let VaultError::WrongKey { found, expected, .. } = error else { panic!("{error}") };
    assert_eq!((found, expected), (fixture.bundle().domain, other.bundle().domain));
}

#[test]
fn the_wrapped_keys_open_with_their_identity_and_no_other() {
    let (fixture, store, _) = vault();
    let store: Arc<dyn Store> = store;
    let recovered =
        VaultKeys::recover(&store, &fixture.handle(), fixture.identity()).expect("reads").expect("ours");
    assert_eq!(recovered, fixture.bundle().without_admin());
    let ring = Arc::new(KeyRing::new(&recovered));
    let vault = Vault::open(store.clone(), fixture.handle(), ring).map(Arc::new).expect("opens");
    vault.refresh_index(None).expect("index");
    let point = vault.catalogue(fixture.source(SOURCE)).expect("catalogue").points()[0].link.point;
    assert!(read_back(&vault, SOURCE, point).expect("reads").state == state());

    let stranger = AgeIdentity::generate();
    assert!(VaultKeys::recover(&store, &fixture.handle(), &stranger).expect("reads").is_none());
    VaultKeys::add(&vault, "recovery", &stranger.recipient(), fixture.bundle()).expect("wraps");
    let recovered =
        VaultKeys::recover(&store, &fixture.handle(), &stranger).expect("reads").expect("now it does");
    assert_eq!(recovered.admin_seed, fixture.bundle().admin_seed);
}

#[test]
fn a_newer_format_and_an_unknown_feature_are_refused_by_name() {
    let (fixture, store, vault) = vault();
    let format = vault.format().clone();
    let newer = FormatObject { reader: 7, ..format.clone() };
    fixture.put(&*store, forge::format(fixture.admin(), 2, &newer));
    let error = refusal(&fixture, store.clone(), &["format version 7", "install a newer backstay"]);
    assert!(matches!(error, VaultError::Newer { .. }));
    let featured = FormatObject { features: vec!["columns".into()], ..format.clone() };
    fixture.put(&*store, forge::format(fixture.admin(), 3, &featured));
    let error = refusal(&fixture, store.clone(), &["feature `columns`", "install a newer backstay"]);
    assert!(matches!(error, VaultError::Newer { .. }));
    fixture.put(&*store, forge::format(fixture.admin(), 4, &format));
    fixture.open(store).expect("the greatest number is in force");
}

#[test]
fn a_vault_from_before_the_ledger_is_refused_and_not_misread() {
    let (fixture, store, vault) = vault();
    let older = FormatObject { features: Vec::new(), ..vault.format().clone() };
    fixture.put(&*store, forge::format(fixture.admin(), 2, &older));
    let error = refusal(&fixture, store, &["earlier version", "make a new vault"]);
    assert!(matches!(error, VaultError::Older { .. }), "{error}");
}

#[test]
fn a_newer_writer_version_may_be_read_and_not_written() {
    let (fixture, store, vault) = vault();
    let newer = FormatObject { writer: 3, ..vault.format().clone() };
    fixture.put(&*store, forge::format(fixture.admin(), 2, &newer));
    let reopened = fixture.open(store).expect("may be read");
    let point = reopened.catalogue(fixture.source(SOURCE)).expect("catalogue").points()[0].link.point;
    assert!(read_back(&reopened, SOURCE, point).expect("reads").state == state());
    let error = fixture.capture(&reopened, SOURCE, at(20), &state()).expect_err("may not be written");
    assert!(matches!(error, VaultError::Newer { .. }), "{error}");
}

#[test]
fn format_and_trust_by_another_admin_are_refused() {
    let (fixture, store, vault) = vault();
    let stranger = Signer::from_seed(&Secret::random());
    let objects = store.objects();
    fixture.put(&*store, forge::format(&stranger, 2, vault.format()));
    let error = refusal(&fixture, store, &["format/0000000000000002", &stranger.public().to_string()]);
    assert!(matches!(error, VaultError::Untrusted { .. }));
    let store = Arc::new(MemStore::with_objects(objects));
    let previous = *blake3::hash(&store.objects()["trust/0000000000000001"]).as_bytes();
    let previous = Some(backstay_core::id::ObjectHash::new(previous));
    let trust = TrustObject { n: 2, previous, ..vault.trust().clone() };
    fixture.put(&*store, forge::trust(&stranger, &trust));
    let error = refusal(&fixture, store.clone(), &["trust/0000000000000002"]);
    assert!(matches!(error, VaultError::Untrusted { .. }));
    fixture.put(&*store, forge::trust(fixture.admin(), &TrustObject { previous: None, ..trust.clone() }));
    refusal(&fixture, store.clone(), &["trust/0000000000000002", "chain of trust"]);
    fixture.put(&*store, forge::trust(fixture.admin(), &trust));
    fixture.open(store).expect("chained and signed by the admin");
}

#[test]
fn a_node_that_is_not_in_the_trust_list_can_neither_write_nor_be_read() {
    let (fixture, store, vault) = vault();
    let stranger = WriterIdentity::new("mallory".into(), Signer::from_seed(&Secret::random()));
    let error = Session::open(&vault, &Arc::new(stranger), SOURCE, at(20)).expect_err("refused");
    assert!(matches!(&error, VaultError::MayNotWrite { node, .. } if node == "mallory"), "{error}");
    assert!(error.to_string().contains("trust/"), "{error}");

    // The same keys, another signing key: as if a node had been removed from the list.
    let removed =
        VaultFixture::with_keys(fixture.bundle().clone(), &Secret::random(), AgeIdentity::generate());
    let copy = Arc::new(MemStore::with_objects(store.objects()));
    let trust = TrustObject { nodes: vec![removed.node()], ..vault.trust().clone() };
    fixture.put(&*copy, forge::trust(fixture.admin(), &trust));
    let theirs = removed
        .capture(&removed.open(copy.clone()).expect("open"), SOURCE, at(20), &state())
        .expect("capture");
    fixture.put(&*copy, forge::trust(fixture.admin(), vault.trust()));
    let reopened = fixture.open(copy).expect("open");
    let catalogue = reopened.catalogue(fixture.source(SOURCE)).expect("catalogue");
    assert!(catalogue.point(theirs.link.point).is_none());
    let signer = removed.signer().public().to_string();
    assert!(
        catalogue.left_out.iter().any(|error| error.to_string().contains(&signer)),
        "{:?}",
        catalogue.left_out
    );
    let report = reopened.check().expect("check");
    assert!(report.findings.iter().any(|finding| finding.wrong.contains(&signer)), "{report:?}");
}

#[test]
fn a_node_writes_only_the_sources_that_it_may() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let node = TrustedNode { writes: vec![SOURCE.into()], ..fixture.node() };
    let custodian = Custodian { node: node.name.clone(), term: 1, signer: None };
    let limited = TrustObject { nodes: vec![node], custodian, ..vault.trust().clone() };
    let forbidden = fixture.capture(&vault, "other.files", at(5), &state()).expect("not yet limited");
    fixture.put(&*store, forge::trust(fixture.admin(), &limited));
    let vault = fixture.open(store).expect("open");
    fixture.capture(&vault, SOURCE, at(10), &state()).expect("allowed");
    let error = fixture.capture(&vault, "other.files", at(20), &state()).expect_err("refused");
    assert!(
        matches!(&error, VaultError::MayNotWrite { source_name, .. } if source_name == "other.files"),
        "{error}"
    );
    let catalogue = vault.catalogue(fixture.source("other.files")).expect("catalogue");
    assert!(catalogue.point(forbidden.link.point).is_none(), "also not what it wrote before");
    assert!(!catalogue.left_out.is_empty());
}

#[test]
fn a_vault_without_trust_is_damaged_and_not_empty() {
    let (fixture, store, _) = vault();
    fixture.block_on(store.delete(&Named::Trust(1).to_name())).expect("delete");
    refusal(&fixture, store, &["trust/0000000000000001", "no trust object"]);
}

#[test]
fn of_the_keys_of_one_name_that_a_new_vault_knows_the_last_is_that_of_its_maker() {
    let fixture = VaultFixture::new();
    // The maker was built anew: other vaults know it by its former key, too.
    let former = TrustedNode { name: fixture.node().name, ..fixture.other_node("former").node() };
    let other = fixture.other_node("cobblestone").node();
    let new = NewVault {
        bundle: fixture.bundle(),
        admin: fixture.admin(),
        node: fixture.node(),
        custodian: Custodian::first(&fixture.node()),
        others: vec![other.clone(), former.clone(), fixture.node(), former.clone()],
        holders: Vec::new(),
        now: at(1),
    };
    let vault = Vault::create(Arc::new(MemStore::new()), fixture.handle(), new).expect("makes");
    assert_eq!(vault.trust().nodes, [other, former, fixture.node()]);
    assert_eq!(vault.trust().custodian_key(), Some(fixture.node().signer));
}

/// The names are free text in points; the keys of nodes are not.
#[test]
fn what_a_node_keeps_of_the_configuration_is_written_by_that_node_alone() {
    let (fixture, store, vault) = vault();
    let own = format!("_fleet.{}", fixture.writer().node);
    fixture.capture(&vault, &own, at(20), &state()).expect("its own");
    let error = fixture.capture(&vault, "_fleet.beta", at(20), &state()).expect_err("of another node");
    assert!(matches!(error, VaultError::MayNotWrite { .. }), "{error}");
    let points = vault.catalogue(fixture.source(&own)).expect("catalogue").points().to_vec();
    assert_eq!(points.iter().map(|point| point.author).collect::<Vec<_>>(), [fixture.signer().public()]);

    // The same bytes, signed by what is beta's key, for all that the vault knows.
    let previous = *blake3::hash(&store.objects()["trust/0000000000000001"]).as_bytes();
    let previous = Some(backstay_core::id::ObjectHash::new(previous));
    let beta = TrustedNode { name: "beta".into(), ..fixture.node() };
    let trust = TrustObject { n: 2, previous, nodes: vec![beta], ..vault.trust().clone() };
    fixture.put(&*store, forge::trust(fixture.admin(), &trust));
    let vault = fixture.open(store).expect("opens");
    let catalogue = vault.catalogue(fixture.source(&own)).expect("catalogue");
    assert!(catalogue.points().is_empty(), "{:?}", catalogue.points());
    assert!(catalogue.left_out.iter().any(|error| matches!(error, VaultError::Untrusted { .. })));
    let others = vault.catalogue(fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(others.points().len(), 1, "any node may write it");
}
