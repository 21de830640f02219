//! A key domain for tests: keys, a node that writes, threads for CPU work and for input and output. Makes and
//! opens vaults in any store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::id::SourceId;
use backstay_core::units::Timestamp;
use backstay_vault::clear::{Custodian, TrustedNode};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::error::VaultError;
use backstay_vault::index::{IndexFolder, IndexLimits};
use backstay_vault::keys::{AgeIdentity, Bundle, FormerKeys, KeyRing, Secret, Signer};
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Store};
use backstay_vault::vault::{NewVault, ObjectFolder, Vault, WriterIdentity};
use backstay_vault::write::CpuPool;
use tokio::runtime::{Handle, Runtime};

use crate::forge::{self, Object};

/// Name of the node that writes.
pub const NODE: &str = "nullstone";

/// Keys, node, threads. Its methods block: never call them from a task of a runtime.
#[derive(Debug)]
pub struct VaultFixture {
    bundle: Bundle,
    admin: Signer,
    ring: Arc<KeyRing>,
    writer: Arc<WriterIdentity>,
    identity: AgeIdentity,
    pool: Arc<CpuPool>,
    io: Runtime,
    index_folder: Option<PathBuf>,
}

/// Nothing stays in memory when a refresh ends, and little while it lasts.
const SMALL_INDEX: IndexLimits = IndexLimits { table_entries_max: 64, worth_entries: 1, worth_objects: 1 };

impl VaultFixture {
    /// A new domain with random keys.
    pub fn new() -> Self {
        Self::with_keys(Bundle::generate(), &Secret::random(), AgeIdentity::generate())
    }

    /// A domain with these keys. The bundle holds the admin's seed.
    pub fn with_keys(bundle: Bundle, node_seed: &Secret, identity: AgeIdentity) -> Self {
        let admin = Signer::from_seed(bundle.admin_seed.as_ref().expect("a bundle with the admin's seed"));
        let writer = WriterIdentity::new(NODE.into(), Signer::from_seed(node_seed));
        let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self {
            ring: Arc::new(KeyRing::new(&bundle)),
            bundle,
            admin,
            writer: Arc::new(writer),
            identity,
            pool: Arc::new(CpuPool::with_threads(2).expect("threads")),
            io: io.expect("a runtime can be started"),
            index_folder: None,
        }
    }

    /// The same, with the index of every vault in this folder, and next to nothing of it in memory.
    pub fn with_index_in(self, folder: &Path) -> Self {
        Self { index_folder: Some(folder.to_path_buf()), ..self }
    }

    /// Another node of the same domain, with a signing key and an age identity of its own.
    pub fn other_node(&self, name: &str) -> Self {
        let other = Self::with_keys(self.bundle.clone(), &Secret::random(), AgeIdentity::generate());
        let signer = Signer::from_seed(&Secret::random());
        Self { writer: Arc::new(WriterIdentity::new(name.into(), signer)), ..other }
    }

    /// Begins a new epoch: vaults that are opened from now on have its keys.
    pub fn rotate(&mut self, former: FormerKeys) {
        self.bundle = self.bundle.with_new_epoch(former);
        self.ring = Arc::new(KeyRing::new(&self.bundle));
    }

    /// Makes a vault in an empty store.
    pub fn create(&self, store: Arc<dyn Store>) -> Result<Arc<Vault>, VaultError> {
        let new = NewVault {
            custodian: Custodian::first(&self.node()),
            bundle: &self.bundle,
            admin: &self.admin,
            node: self.node(),
            others: Vec::new(),
            holders: vec![(NODE.into(), self.identity.recipient(), self.bundle.without_admin())],
            now: Timestamp::from_seconds(1),
        };
        Vault::create(store, self.handle(), new).map(|vault| Arc::new(self.with_its_index(vault)))
    }

    /// Opens the vault in a store and reads its index, as a process does that has just started.
    pub fn open(&self, store: Arc<dyn Store>) -> Result<Arc<Vault>, VaultError> {
        self.open_with(store, Arc::clone(&self.ring))
    }

    /// The same as a process does that keeps objects in a folder for those to come, or takes what others have left there.
    pub fn open_with_objects_in(
        &self,
        store: Arc<dyn Store>,
        folder: &Path,
        usage: ObjectFolder,
    ) -> Result<Arc<Vault>, VaultError> {
        let vault = Vault::open(store, self.handle(), Arc::clone(&self.ring))?;
        vault.keep_objects_in(&folder.join(vault.id().to_string()), usage);
        self.with_index_read(vault)
    }

    /// The same with the keys that a custodian may have who reads no contents.
    pub fn open_as_custodian(&self, store: Arc<dyn Store>) -> Result<Arc<Vault>, VaultError> {
        self.open_with(store, Arc::new(KeyRing::new(&self.bundle.for_custodian())))
    }

    fn open_with(&self, store: Arc<dyn Store>, ring: Arc<KeyRing>) -> Result<Arc<Vault>, VaultError> {
        self.with_index_read(Vault::open(store, self.handle(), ring)?)
    }

    fn with_index_read(&self, vault: Vault) -> Result<Arc<Vault>, VaultError> {
        let vault = Arc::new(self.with_its_index(vault));
        vault.refresh_index(None)?;
        Ok(vault)
    }

    fn with_its_index(&self, vault: Vault) -> Vault {
        if let Some(folder) = &self.index_folder {
            vault.keep_index_in(&folder.join(vault.id().to_string()), IndexFolder::Own, SMALL_INDEX);
        }
        vault
    }

    /// Fences what the writer has left open, as its next process does; how many sessions that were.
    pub fn fence_dead_sessions(&self, vault: &Vault, now: Timestamp) -> Result<usize, VaultError> {
        let dead = vault.dead_sessions(&self.writer)?;
        dead.iter().try_for_each(|dead| vault.fence_dead_session(&self.writer, dead, now))?;
        Ok(dead.len())
    }

    /// Puts an object.
    pub fn put(&self, store: &dyn Store, object: Object) {
        let put = self.io.block_on(store.put(&object.name, object.content));
        put.expect("the store of a test takes what the test puts");
    }

    /// The objects of a folder, in order of name.
    pub fn objects(&self, store: &dyn Store, folder: &str) -> Vec<Object> {
        let listed = self.io.block_on(store.list(&Folder::new(&[&folder]))).expect("a store of a test lists");
        let read = |name: ObjectName| {
            let content = self.io.block_on(store.get(&name)).expect("what is listed is there");
            Object { name, content }
        };
        listed.into_iter().map(|listed| read(listed.name)).collect()
    }

    /// The payloads of a folder of envelopes, in order of name.
    pub fn payloads(&self, store: &dyn Store, folder: &str, kind: EnvelopeKind) -> Vec<Vec<u8>> {
        let objects = self.objects(store, folder);
        objects.iter().map(|object| forge::payload_of(&self.ring, kind, object)).collect()
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.io.block_on(future)
    }

    /// Where input and output run.
    pub fn handle(&self) -> Handle {
        self.io.handle().clone()
    }

    /// Threads for CPU work.
    pub fn pool(&self) -> &Arc<CpuPool> {
        &self.pool
    }

    /// The domain's keys, with the admin's seed.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The same, ready for use.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Signs `format/` and `trust/`.
    pub fn admin(&self) -> &Signer {
        &self.admin
    }

    /// Opens the wrapped keys.
    pub fn identity(&self) -> &AgeIdentity {
        &self.identity
    }

    /// The node that writes, and is custodian.
    pub fn writer(&self) -> &Arc<WriterIdentity> {
        &self.writer
    }

    /// Its signing key.
    pub fn signer(&self) -> &Signer {
        &self.writer.signer
    }

    /// The same, as `trust/` lists it.
    pub fn node(&self) -> TrustedNode {
        TrustedNode {
            name: self.writer.node.clone(),
            signer: self.signer().public(),
            recipient: self.identity.recipient(),
            writes: vec!["*".into()],
            role: None,
        }
    }

    /// Id of a source of the domain.
    pub fn source(&self, name: &str) -> SourceId {
        self.ring.source_id(name)
    }
}

impl Default for VaultFixture {
    fn default() -> Self {
        Self::new()
    }
}
