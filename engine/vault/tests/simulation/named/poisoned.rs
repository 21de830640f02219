//! A node that is trusted writes a record whose content is not what its id says. Nobody takes it for good, and the copy of
//! another node is found and stays.

use backstay_core::collection::CollectionNumber;
use backstay_core::id::SessionId;
use backstay_testkit::capture::State;
use backstay_testkit::forge::{self, Object};
use backstay_testkit::random::Random;
use backstay_vault::buffer::BufferPool;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::index_object::{IndexAuthor, IndexObject, IndexedPack};
use backstay_vault::keys::random_bytes;
use backstay_vault::name::Named;
use backstay_vault::record::{RecordHeader, RecordSealer};
use backstay_vault::vault::{MemoryNotes, PackShare};

use super::{OTHER, Pair, SOURCE, state};

/// Puts a pack and an index object of the other node, in which every chunk of the state has wrong contents.
fn poison(pair: &Pair, state: &State) {
    let ring = pair.custodian.ring();
    let mut sealer = RecordSealer::new();
    let mut builder = backstay_vault::pack::PackBuilder::new(ChunkClass::Data);
    for value in state.values() {
        let id = ring.chunk_id(ChunkClass::Data, value).expect("a key for data");
        let wrong = Random::new(7).bytes(value.len());
        let record = sealer.seal(ring, ChunkClass::Data, id, &wrong).expect("seals");
        builder.add(&RecordHeader::decode(record).expect("sealed"), record);
    }
    let pack = builder.close(ring, &BufferPool::new(1)).name();
    let (bytes, keys) = (pack.content.len() as u32, pack.keys);
    let indexed = IndexedPack { id: pack.id, class: pack.class, bytes, keys };
    let name = Named::Pack(pack.id).to_name();
    pair.custodian.put(&*pair.memory, Object { name, content: pack.content });
    let packs = [(indexed, pack.entries)];
    let index = IndexObject::of_packs(IndexAuthor::Session, CollectionNumber::NONE, &packs);
    let index = forge::index(ring, pair.other.signer(), SessionId::new(random_bytes()), &index);
    pair.custodian.put(&*pair.memory, index);
}

#[test]
fn a_poisoned_chunk_is_never_read_as_good_and_the_copy_of_another_node_is() {
    let mut pair = Pair::new();
    poison(&pair, &state(1));
    // The other node's word counts for nothing to this one.
    pair.capture(|pair| &pair.custodian, SOURCE, state(1));
    poison(&pair, &state(1));
    pair.verify_and_check();
}

#[test]
fn a_poisoned_copy_never_takes_the_place_of_a_good_one_when_packs_are_collected() {
    let mut pair = Pair::new();
    let mut notes = MemoryNotes::default();
    // A pack of which a third stays needed: it goes, and what is needed of it is moved.
    let old = pair.capture(|pair| &pair.custodian, SOURCE, state(1));
    let part: State = state(1).into_iter().take(4).collect();
    // More of the wrong pack is needed than of the old one.
    let mut wrong = part.clone();
    wrong.extend(state(2).into_iter().map(|(key, value)| ([&key[..], b"2"].concat(), value)));
    poison(&pair, &wrong);
    pair.capture(|pair| &pair.custodian, OTHER, part.clone());
    pair.capture(|pair| &pair.custodian, SOURCE, state(2));
    pair.verify_and_check();
    pair.forget(&old);
    pair.care(1, &mut notes).expect("collects");
    pair.verify_and_check();
}

#[test]
fn a_check_of_the_data_names_a_pack_with_poisoned_records() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.custodian, SOURCE, state(1));
    poison(&pair, &state(1));
    let report = pair.verify().check_data(PackShare::ALL).expect("checks");
    assert!(!report.is_good(), "{report:#?}");
}
