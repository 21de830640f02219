//! A vault of format version 0 as it was written once (`golden/v0`), and bytes that never change: today's code
//! reads both exactly. Until the version is frozen, a change of the format is seen here, and the folder is replaced:
//! `BACKSTAY_GOLDEN=$PWD/engine/vault/tests/golden/v0 cargo test -p backstay-vault --test golden -- --ignored`
//! writes it. Once it is frozen, never again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use backstay_core::id::{ChunkId, DomainId, Element, KeyId, PackId, SessionId};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::run::{Change, Entry};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::commit_object::GcRecord;
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::index_object::{IndexAuthor, IndexObject};
use backstay_vault::keys::{AgeIdentity, Bundle, Epoch, KeyRing, Secret};
use backstay_vault::name::ObjectName;
use backstay_vault::record::open_record;
use backstay_vault::store::{DirStore, Folder, MemStore, Store};
use backstay_vault::table::{BlockBuilder, BlockReader};
use backstay_vault::take::{Take, put_varint};
use backstay_vault::vault::{PackShare, VaultKeys};

const SOURCES: [&str; 2] = ["static.files", "matrix.dump"];

/// Signs as the node that wrote the golden vault.
const NODE_SEED: [u8; 32] = [7; 32];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// What the golden vault holds, oldest point first: enough rows for several blocks, values of no, one and several
/// chunks that compress or do not, an edit with changes and tombstones, and a capture that was interrupted.
fn states() -> [Vec<State>; 2] {
    let mut random = Random::new(0);
    let mut first: State =
        (0..3000u32).map(|n| (format!("directory/{n:06}").into_bytes(), b"equal".to_vec())).collect();
    first.insert(b"empty".to_vec(), Vec::new());
    first.insert(b"random".to_vec(), random.bytes(20_000));
    first.insert(b"text".to_vec(), b"compressible ".repeat(3000));
    let mut second = first.clone();
    second.insert(b"random".to_vec(), random.bytes(20));
    second.remove(b"empty".as_slice());
    second.retain(|key, _| !key.ends_with(b"77"));
    let dump = State::from([(b"stdout".to_vec(), random.bytes(100))]);
    [vec![first, second], vec![dump]]
}

#[test]
#[ignore = "long: writes a golden vault, into a temporary folder unless BACKSTAY_GOLDEN names an empty one"]
fn a_golden_vault_can_be_written_anew() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let root = std::env::var_os("BACKSTAY_GOLDEN").map_or(temporary.path().join("v0"), PathBuf::from);
    assert!(!root.exists(), "remove {} first", root.display());
    write_golden(&root);
    reads_back_exactly(&root);
}

fn write_golden(root: &Path) {
    let identity = AgeIdentity::generate();
    let fixture = VaultFixture::with_keys(Bundle::generate(), &Secret::new(NODE_SEED), identity.clone());
    fs::create_dir_all(root).expect("mkdir");
    let comment = "# Test data: guards nothing.\n";
    fs::write(root.join("identity.txt"), comment.to_owned() + &identity.to_file()).expect("write");
    fs::write(root.join("bundle.json"), &*fixture.bundle().to_json()).expect("write");
    let store = Arc::new(DirStore::new(root.join("vault")));
    let vault = fixture.create(store.clone()).expect("create");
    let [files, dump] = states();
    let partial = Style { stop_at: Some(b"directory/001500".to_vec()), ..Style::default() };
    fixture.capture_in_style(&vault, SOURCES[0], at(100), &files[0], &partial).expect("partial");
    let mut points = vec![fixture.capture(&vault, SOURCES[0], at(100), &files[0]).expect("base")];
    let source = fixture.source(SOURCES[0]);
    let session = vault.catalogue(source).expect("catalogue").points()[0].vault_part.session;
    let link = points[0].link;
    let layout = Layout {
        generation: 1,
        term: 1,
        accepted: vec![Accepted { link, retention_time: at(100), holds: vec!["a hold".into()] }],
        decided: vec![session],
        ..Layout::default()
    };
    fixture.put(&*store, forge::layout(fixture.ring(), fixture.signer(), source, &layout));
    points.push(fixture.capture(&vault, SOURCES[0], at(200), &files[1]).expect("edit"));
    points.push(fixture.capture(&vault, SOURCES[1], at(300), &dump[0]).expect("dump"));
    fixture.commit_head(&vault, SOURCES[1], at(400)).expect("head");
    put_what_a_collection_leaves(&fixture, &*store);
    let lines: String =
        points.iter().map(|p| format!("{} {}\n", p.common.source_name, p.link.point)).collect();
    fs::write(root.join("points.txt"), lines).expect("write");
    fs::remove_dir(root.join("vault/unfinished")).expect("nothing is unfinished");
}

/// A record that dooms a pack which is gone and vouches for the custodian's index, which lists what the first commit
/// wrote; the fence of a session of long ago.
fn put_what_a_collection_leaves(fixture: &VaultFixture, store: &dyn Store) {
    let (ring, signer) = (fixture.ring(), fixture.signer());
    let written = fixture.payloads(store, "index", EnvelopeKind::Index).remove(0);
    let index = IndexObject {
        author: IndexAuthor::Custodian { term: 1 },
        ..IndexObject::decode(&written).expect("an index object")
    };
    let index = forge::index(ring, signer, SessionId::new([0xcc; 16]), &index);
    let record = forge::gc_record(1, vec![PackId::new([0xdd; 32])]);
    let record = forge::gc(ring, signer, &GcRecord { index: vec![index.hash()], ..record });
    for object in [index, record, forge::fence(ring, signer, SessionId::new([0xfe; 16]))] {
        fixture.put(store, object);
    }
}

/// The golden vault in memory, so that nothing can change it, and its keys.
fn golden(root: &Path) -> (VaultFixture, Arc<MemStore>) {
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("the golden vault is there");
    let identity = AgeIdentity::from_file(&read("identity.txt")).expect("an identity");
    let bundle = Bundle::from_json(read("bundle.json").as_bytes()).expect("a bundle");
    let fixture = VaultFixture::with_keys(bundle, &Secret::new(NODE_SEED), identity);
    let (directory, memory) = (DirStore::new(root.join("vault")), Arc::new(MemStore::new()));
    let folders =
        ["fences", "format", "heads", "index", "keys", "layout", "ledger", "packs", "points", "trust"];
    let mut bytes = 0;
    for name in folders {
        for listed in fixture.block_on(directory.list(&Folder::new(&[&name]))).expect("list") {
            let content = fixture.block_on(directory.get(&listed.name)).expect("get");
            bytes += content.len();
            fixture.put(&*memory, forge::Object { name: listed.name, content });
        }
    }
    assert!((10_000..200_000).contains(&bytes), "{bytes} bytes");
    (fixture, memory)
}

#[test]
fn the_golden_vault_reads_back_exactly() {
    reads_back_exactly(&folder());
}

fn reads_back_exactly(root: &Path) {
    let (fixture, store) = golden(root);
    let vault = fixture.open(store.clone()).expect("open");
    let mut lines = String::new();
    for (source, states) in SOURCES.iter().zip(states()) {
        let catalogue = vault.catalogue(fixture.source(source)).expect("catalogue");
        assert!(catalogue.left_out.is_empty(), "{:?}", catalogue.left_out);
        assert_eq!(catalogue.points().len(), states.len());
        for (point, state) in catalogue.points().iter().zip(states) {
            let read = read_back(&vault, source, point.link.point).expect("reads");
            assert!(read.state == state, "{source} {}", point.link.point);
            assert_eq!(read.digest, point.common.digest);
            lines += &format!("{source} {}\n", point.link.point);
        }
    }
    assert_eq!(lines, fs::read_to_string(root.join("points.txt")).expect("read"));
    let files = vault.catalogue(fixture.source(SOURCES[0])).expect("catalogue");
    assert_eq!(files.partial_points().len(), 1);
    assert_eq!(files.layout.expect("a layout").accepted[0].holds, ["a hold"]);
    let (_, head) = vault.catalogue(fixture.source(SOURCES[1])).expect("catalogue").head.expect("a head");
    assert_eq!((head.time, head.targets[0].time), (at(400), at(400)));
    let report = vault.check().expect("check");
    assert!(report.is_good() && report.good_points == 3, "{report:?}");
    assert!(vault.check_data(PackShare::ALL).expect("check").is_good());
}

#[test]
fn the_golden_vaults_keys_come_from_its_age_file() {
    let (fixture, store) = golden(&folder());
    let store: Arc<dyn Store> = store;
    let bundle = VaultKeys::recover(&store, &fixture.handle(), fixture.identity()).expect("reads");
    assert_eq!(bundle, Some(fixture.bundle().without_admin()));
}

#[test]
fn a_capture_on_top_of_the_golden_vault_uploads_only_what_changed() {
    let (fixture, store) = golden(&folder());
    let vault = fixture.open(store).expect("open");
    let [files, _] = states();
    let captured = fixture.capture(&vault, SOURCES[0], at(500), &files[1]).expect("unchanged");
    assert_eq!(captured.totals.new_chunks, 0, "chunk ids and boundaries of blocks are as they were");
    let captured = fixture.capture(&vault, SOURCES[0], at(600), &files[0]).expect("back to the first");
    assert!(read_back(&vault, SOURCES[0], captured.link.point).expect("reads").state == files[0]);
    assert!(vault.check().expect("check").is_good());
}

#[test]
fn every_name_in_the_golden_vault_is_an_object_of_the_format() {
    let (_, store) = golden(&folder());
    let names: Vec<String> = store.objects().into_keys().collect();
    assert!(names.len() > 20);
    assert!(names.iter().all(|name| ObjectName::parse(name).is_some()), "{names:?}");
}

#[test]
fn varints_have_these_bytes() {
    let cases: [(u64, &str); 6] = [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (1 << 32, "8080808010"),
        (u64::MAX, "ffffffffffffffffff01"),
    ];
    for (value, hex) in cases {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        assert_eq!(to_hex(&bytes), hex);
        assert_eq!(Take::new(&bytes).varint(), Ok(value));
    }
}

#[test]
fn a_block_has_these_bytes() {
    let element = Element::new([0xee; 32]);
    let entries = [
        Entry { key: b"a/b", change: Change::Put(b"one"), replaced: None },
        Entry { key: b"a/bc", change: Change::Put(b""), replaced: Some(element) },
        Entry { key: b"a/d", change: Change::Tombstone, replaced: Some(element) },
        Entry { key: b"b", change: Change::Tombstone, replaced: None },
    ];
    let mut builder = BlockBuilder::default();
    entries.iter().for_each(|entry| builder.push(entry));
    let block = builder.take();
    let replaced = "ee".repeat(32);
    let expected = format!(
        "0003612f6200036f6e65{}",
        ["030163", "02", &replaced, "00", "020164", "03", &replaced, "000162", "01"].concat()
    );
    assert_eq!(to_hex(&block), expected);
    let mut reader = BlockReader::new(block);
    for entry in entries {
        assert_eq!(reader.advance(), Ok(true));
        assert_eq!(reader.entry(), entry);
    }
    assert_eq!(reader.advance(), Ok(false));
}

/// Keys that everybody can write down: every byte of a key has one value.
fn plain_ring() -> KeyRing {
    let epoch = |byte: u8| Epoch { key_id: KeyId::new([byte; 16]), key: Secret::new([byte; 32]) };
    let bundle = Bundle {
        domain: DomainId::new([1; 16]),
        id: Some(Secret::new([2; 32])),
        cut: Some(Secret::new([3; 32])),
        meta_id: Secret::new([4; 32]),
        data: vec![epoch(5)],
        meta: vec![epoch(6)],
        ..Bundle::generate()
    };
    KeyRing::new(&bundle)
}

#[test]
fn chunk_and_source_ids_are_these() {
    let ring = plain_ring();
    let ids = ChunkClass::ALL.map(|class| ring.chunk_id(class, b"backstay").expect("full").to_string());
    assert_eq!(ids, CHUNK_IDS);
    assert_eq!(ring.source_id("static.files").to_string(), SOURCE_ID);
}

#[test]
fn records_with_these_bytes_open() {
    let ring = plain_ring();
    for (hex, plain) in [(RECORD_STORED, b"backstay".to_vec()), (RECORD_COMPRESSED, b"backstay".repeat(40))] {
        let id = ring.chunk_id(ChunkClass::Data, &plain).expect("full");
        assert_eq!(open_record(&ring, &id, &from_hex(hex)), Ok(plain));
        assert!(open_record(&ring, &ChunkId::new([0; 32]), &from_hex(hex)).is_err());
    }
}

const CHUNK_IDS: [&str; 2] = [
    "8c996372dfb153eff65e677d1a68bdfe2330e59d6a8137d812d590f5cbffdc4b",
    "f316c664d8ed14088a31244c38074639f773a2617bec3fa1a90cb23fad9503cc",
];

const SOURCE_ID: &str = "897d7733454cd9f9e44f3e4a56586a09";

const RECORD_STORED: &str = concat!(
    "b5e29d5245430d0a68000000010000000800000005050505050505050505050505050505",
    "4e2b584fdb55fd73118c0eda8c996372dfb153eff65e677d1a68bdfe2330e59d6a8137d8",
    "12d590f5cbffdc4b656fe19bae4492022a859de6a1716c65e60471fc47ea719c",
);

const RECORD_COMPRESSED: &str = concat!(
    "b5e29d5245430d0a79000000010100004001000005050505050505050505050505050505",
    "3facd6a6af10e6cf919c814759b207e1df8f6723b1a6d58bc2c62475f93b3f7e7b3b4136",
    "4e9edfb6971ebff9cb68ad3265c4479fda8e62101985dafca9be87c740a4204e9dee2491",
    "b1c1302ad3dc8246f49f17c519",
);

#[test]
fn a_record_opens_by_the_document_alone() {
    let mut record = from_hex(RECORD_STORED);
    let chunk = *blake3::keyed_hash(&[2; 32], b"backstay").as_bytes();
    let key = *blake3::keyed_hash(&[5; 32], &[b"backstay record 0\0", chunk.as_slice()].concat()).as_bytes();
    let associated = [[1; 16].as_slice(), &record[12..36], &chunk].concat();
    let nonce = Nonce::try_assume_unique_for_key(&record[36..48]).expect("12 bytes");
    assert_eq!(record[48..80], chunk);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"));
    let plain = key.open_in_place(nonce, Aad::from(associated), &mut record[80..]).expect("opens");
    assert_eq!(plain, b"backstay");
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).expect("hex") as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
