//! Reading from damaged packs: what is whole elsewhere is read there, and only what is damaged is lost.

use std::sync::Arc;

use backstay_core::id::PackId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::pack::read_contents;
use backstay_vault::read::ChunkReader;
use backstay_vault::record::RecordOpener;
use backstay_vault::store::MemStore;
use backstay_vault::vault::PackShare;
use bytes::Bytes;

const FILES: &str = "static.files";
const DUMP: &str = "matrix.dump";

#[test]
fn a_chunk_that_is_damaged_in_one_pack_is_read_from_another() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let state = State::from([(b"key".to_vec(), Random::new(1).bytes(40_000))]);
    fixture.capture(&vault, FILES, Timestamp::from_seconds(1), &state).expect("capture");
    let first = packs(&store);
    fixture.put(&*store, forge::gc(fixture.ring(), fixture.signer(), &forge::gc_record(1, first.clone())));
    let again = fixture.capture(&vault, DUMP, Timestamp::from_seconds(2), &state).expect("capture");
    let second: Vec<PackId> = packs(&store).into_iter().filter(|pack| !first.contains(pack)).collect();
    assert_eq!((first.len(), second.len()), (2, 2), "payload and metadata, twice");
    for (one, other) in [(&first, &second), (&second, &first)] {
        let mut objects = store.objects();
        for pack in one {
            let damaged = objects.get_mut(Named::Pack(*pack).to_name().as_str()).expect("there");
            *damaged = damaged.iter().map(|byte| byte ^ 1).collect();
        }
        let vault = fixture.open(Arc::new(MemStore::with_objects(objects.clone()))).expect("open");
        assert!(read_back(&vault, DUMP, again.link.point).expect("from the other").state == state);
        let named = vault.check_data(PackShare::ALL).expect("check").findings;
        assert_eq!(named.len(), 2, "{named:?}");
        for pack in other {
            objects.remove(Named::Pack(*pack).to_name().as_str());
        }
        let vault = fixture.open(Arc::new(MemStore::with_objects(objects))).expect("open");
        let error = read_back(&vault, DUMP, again.link.point).expect_err("nowhere else");
        assert_eq!(error.class(), "damaged", "{error}");
    }
}

#[test]
fn a_pack_that_was_cut_short_loses_only_what_was_cut_off() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let mut random = Random::new(3);
    let state: State = (0..40u8).map(|n| (vec![n], random.bytes(2000))).collect();
    fixture.capture(&vault, FILES, Timestamp::from_seconds(1), &state).expect("capture");
    let mut objects = store.objects();
    let is_data = |content: &Bytes| content[9] == ChunkClass::Data.code();
    let (_, pack) = objects
        .iter_mut()
        .find(|(name, content)| name.starts_with("packs/") && is_data(content))
        .expect("one");
    let (_, entries) = read_contents(fixture.ring(), pack).expect("reads");
    let cut = pack.len() / 2;
    *pack = pack.slice(..cut);
    let vault = fixture.open(Arc::new(MemStore::with_objects(objects))).expect("open");
    let reader = ChunkReader::new(Arc::clone(&vault));
    let mut opener = RecordOpener::new();
    let mut left = 0;
    for read in reader.plan(entries.iter().map(|entry| entry.id)).expect("all are indexed") {
        let stretch = reader.read(&read);
        for (place, (id, begins, length)) in read.records.iter().enumerate() {
            let whole = (read.offset + begins + length) as usize <= cut;
            assert_eq!(reader.open(&mut opener, &read, &stretch, place).is_ok(), whole, "{id}");
            left += usize::from(whole);
        }
    }
    assert!((15..25).contains(&left), "{left} of {} chunks are left", entries.len());
    assert!(!vault.check().expect("check").is_good());
}

fn packs(store: &MemStore) -> Vec<PackId> {
    let id = |name: &String| match ObjectName::parse(name)?.1 {
        Named::Pack(id) => Some(id),
        _ => None,
    };
    store.objects().keys().filter_map(id).collect()
}
