//! With which keys what lies in a store is sealed, by the records themselves and not by what the index says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstay_core::id::{ChunkId, KeyId};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::index_object::IndexObject;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::pack::salvage;
use backstay_vault::record::RecordHeader;
use backstay_vault::store::{MemStore, Store};

use crate::fixture::VaultFixture;

impl VaultFixture {
    /// The packs that have a record which a compromised key has sealed.
    pub fn compromised_packs(&self, store: &MemStore) -> BTreeSet<String> {
        let marked = self.marked();
        let packs = keys_of_packs(store).into_iter();
        packs.filter(|(_, keys)| !keys.is_disjoint(&marked)).map(|(name, _)| name).collect()
    }

    /// That no pack has records of compromised and of other keys, and that the index says of each what is in it.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn assert_kept_apart(&self, store: &MemStore) {
        let marked = self.marked();
        let packs = keys_of_packs(store);
        for (name, keys) in &packs {
            assert!(keys.is_subset(&marked) || keys.is_disjoint(&marked), "{name}: {keys:?}");
        }
        for payload in self.payloads(store, "index", EnvelopeKind::Index) {
            for pack in IndexObject::decode(&payload).expect("an index object").packs {
                if let Some(keys) = packs.get(Named::Pack(pack.id).to_name().as_str()) {
                    assert!(keys.iter().eq(pack.keys.ids()), "{}: {keys:?}, {:?}", pack.id, pack.keys);
                }
            }
        }
    }

    /// A store with the same objects without these.
    pub fn without(&self, store: &MemStore, hidden: &BTreeSet<String>) -> Arc<MemStore> {
        let rest = Arc::new(MemStore::new());
        for (name, content) in store.objects().into_iter().filter(|(name, _)| !hidden.contains(name)) {
            let (name, _) = ObjectName::parse(&name).expect("a name");
            self.block_on(rest.put(&name, content)).expect("a store of a test takes what the test puts");
        }
        rest
    }

    fn marked(&self) -> BTreeSet<KeyId> {
        self.bundle().compromised.iter().copied().collect()
    }
}

/// The keys of the records of each pack, by its name.
pub fn keys_of_packs(store: &MemStore) -> BTreeMap<String, BTreeSet<KeyId>> {
    let packs = store.objects().into_iter().filter(|(name, _)| name.starts_with("packs/"));
    let keys = |content: &[u8]| {
        let header = |at: u32| RecordHeader::decode(&content[at as usize..]).expect("a record of the pack");
        salvage(content).iter().map(|entry| header(entry.offset).key_id).collect()
    };
    packs.map(|(name, content)| (name, keys(&content))).collect()
}

/// The chunks that lie in packs.
pub fn chunks(store: &MemStore) -> BTreeSet<ChunkId> {
    let packs = store.objects().into_iter().filter(|(name, _)| name.starts_with("packs/"));
    packs.flat_map(|(_, content)| salvage(&content)).map(|entry| entry.id).collect()
}
