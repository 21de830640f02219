//! Making and opening of vaults.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Instant;

use backstay_core::id::{DomainId, SignerKey, VaultId};
use backstay_core::units::Timestamp;
use bytes::Bytes;
use tokio::runtime::Handle;

use super::Vault;
use super::first_look::FirstLook;
use super::group::Groups;
use super::memory::Memory;
use super::older::OlderVersions;
use super::sealed::TrustedParts;
use super::trust::Trust;
use super::unopened::Unopened;
use crate::clear::{self, ClearKind, Custodian, FORMAT_VERSION, FormatObject, TrustObject, TrustedNode};
use crate::error::VaultError;
use crate::index::ChunkIndex;
use crate::keys::{AgeIdentity, WrapError};
use crate::keys::{Bundle, KeyRing, Signer, random_bytes, unwrap_bundle, wrap_bundle};
use crate::malformed::Malformed;
use crate::name::{Named, ObjectName};
use crate::store::{Glance, Listed, Store, StoreErrorKind};

/// Features that this code knows, and that every vault has: one without them is older than this form of the format.
const FEATURES: [&str; 1] = ["ledger"];

/// What a new vault is made of.
#[derive(Debug)]
pub struct NewVault<'a> {
    /// The domain's keys, with the admin's private seed.
    pub bundle: &'a Bundle,
    /// Signs `format/` and `trust/`.
    pub admin: &'a Signer,
    /// The node that makes it: the first that may write.
    pub node: TrustedNode,
    /// Who may delete in it.
    pub custodian: Custodian,
    /// Further nodes that may write, as other vaults of the domain know them: what they have captured can be copied here.
    pub others: Vec<TrustedNode>,
    /// Age recipients to whom the bundle is wrapped: name of the key object, recipient, and the bundle for it.
    pub holders: Vec<(String, String, Bundle)>,
    /// When.
    pub now: Timestamp,
}

/// What only the admin can say of a vault that is to be made: what it is, and who may do what in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultCharter {
    /// `format/1`.
    pub format: Bytes,
    /// `trust/1`.
    pub trust: Bytes,
}

impl VaultCharter {
    /// Signs it: a new vault of this domain, with these nodes.
    pub fn sign(
        admin: &Signer,
        domain: DomainId,
        nodes: Vec<TrustedNode>,
        custodian: Custodian,
        now: Timestamp,
    ) -> Self {
        let trust = TrustObject { n: 1, previous: None, nodes, custodian };
        let format = FormatObject {
            vault: VaultId::new(random_bytes()),
            domain,
            reader: FORMAT_VERSION,
            writer: FORMAT_VERSION,
            features: FEATURES.map(String::from).to_vec(),
            created: now,
        };
        let format = clear::sign(admin, ClearKind::Format, &format);
        Self { format, trust: clear::sign(admin, ClearKind::Trust, &trust) }
    }

    /// The format last: a vault is there when that is.
    fn put(&self, store: Unopened<'_>) -> Result<(), VaultError> {
        store.put(&Named::Trust(1).to_name(), self.trust.clone())?;
        Ok(store.put(&Named::Format(1).to_name(), self.format.clone())?)
    }
}

/// Reading of wrapped keys from a store, before the vault can be opened.
#[derive(Debug)]
pub struct VaultKeys;

impl VaultKeys {
    /// The first bundle in `keys/` that opens with `identity`.
    pub fn recover(
        store: &Arc<dyn Store>,
        io: &Handle,
        identity: &AgeIdentity,
    ) -> Result<Option<Bundle>, VaultError> {
        let store = Unopened { store, io };
        for listed in store.list("keys")? {
            let wrapped = match store.get(&listed.name) {
                // Another holder's object does not concern us, and ours may be whole.
                Err(error) if error.is_unreadable() => {
                    tracing::warn!(%error, "left out");
                    continue;
                }
                wrapped => wrapped?,
            };
            match unwrap_bundle(&wrapped, identity) {
                Ok(bundle) => return Ok(Some(bundle)),
                Err(WrapError::Locked(_)) => {}
                Err(error) => tracing::warn!(object = %listed.name, %error, "left out"),
            }
        }
        Ok(None)
    }

    /// The bundle that is wrapped to this holder, if it opens with `identity`; else as [`VaultKeys::recover`].
    pub fn recover_of(
        store: &Arc<dyn Store>,
        io: &Handle,
        holder: &str,
        identity: &AgeIdentity,
    ) -> Result<Option<Bundle>, VaultError> {
        let own = Unopened { store, io }.get(&Named::Key(holder.to_owned()).to_name());
        match own.ok().and_then(|wrapped| unwrap_bundle(&wrapped, identity).ok()) {
            Some(bundle) => Ok(Some(bundle)),
            None => Self::recover(store, io, identity),
        }
    }

    /// Names of the holders.
    pub fn holders(store: &Arc<dyn Store>, io: &Handle) -> Result<Vec<String>, VaultError> {
        let listed = Unopened { store, io }.list("keys")?;
        let holder = |listed: Listed| match listed.named {
            Named::Key(holder) => Some(holder),
            _ => None,
        };
        Ok(listed.into_iter().filter_map(holder).collect())
    }

    /// Takes a holder's wrapped keys away. Whoever has opened them knows them still.
    pub fn remove(vault: &Vault, holder: &str) -> Result<(), VaultError> {
        vault.may_be_written()?;
        let name = Named::Key(holder.to_owned()).to_name();
        Ok(vault.io().block_on(vault.store().delete(&name))?)
    }

    /// Wraps a bundle to one more holder.
    pub fn add(vault: &Vault, holder: &str, recipient: &str, bundle: &Bundle) -> Result<(), VaultError> {
        vault.may_be_written()?;
        put_keys(Unopened { store: vault.store(), io: vault.io() }, holder, recipient, bundle)
    }
}

impl Vault {
    /// Makes a vault in an empty store: keys, trust, and the format object last, which makes it one. What
    /// an interrupted attempt left is overwritten.
    pub fn create(store: Arc<dyn Store>, io: Handle, new: NewVault<'_>) -> Result<Self, VaultError> {
        let new_store = Unopened { store: &store, io: &io };
        if new_store.newest("format")?.is_some() {
            return Err(VaultError::AlreadyThere { place: store.place() });
        }
        for (holder, recipient, bundle) in &new.holders {
            put_keys(new_store, holder, recipient, bundle)?;
        }
        // The maker last: of several keys of one name the last is the one in use.
        let (own, mut nodes) = (new.node.signer, Vec::<TrustedNode>::new());
        for node in new.others.into_iter().filter(|other| other.signer != own).chain([new.node]) {
            if nodes.iter().all(|known| known.signer != node.signer) {
                nodes.push(node);
            }
        }
        let charter = VaultCharter::sign(new.admin, new.bundle.domain, nodes, new.custodian, new.now);
        charter.put(new_store)?;
        Self::open(store, io, Arc::new(KeyRing::new(new.bundle)))
    }

    /// Makes a vault for which the admin has signed before what only the admin can. `recovery` is the file of the recovery key's
    /// keys, where there is one.
    pub fn create_chartered(
        store: Arc<dyn Store>,
        io: Handle,
        charter: &VaultCharter,
        bundle: &Bundle,
        holders: &[(String, String, Bundle)],
        recovery: Option<(String, Bytes)>,
    ) -> Result<Self, VaultError> {
        let new_store = Unopened { store: &store, io: &io };
        if new_store.newest("format")?.is_some() {
            return Err(VaultError::AlreadyThere { place: store.place() });
        }
        for (holder, recipient, bundle) in holders {
            put_keys(new_store, holder, recipient, bundle)?;
        }
        if let Some((holder, sealed)) = recovery {
            new_store.put(&Named::Key(holder).to_name(), sealed)?;
        }
        charter.put(new_store)?;
        Self::open(store, io, Arc::new(KeyRing::new(bundle)))
    }

    /// What a store's newest format object says, before any key is at hand; `None` when there is no vault.
    pub fn peek(store: &Arc<dyn Store>, io: &Handle) -> Result<Option<FoundVault>, VaultError> {
        match FoundVault::find(Unopened { store, io }) {
            Err(VaultError::NoVault { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The same for who is about to open it: where requests cost, one shows what is to be known of it first.
    pub fn find(store: &Arc<dyn Store>, io: &Handle) -> Result<Option<FoundVault>, VaultError> {
        match FoundVault::find_at_first(Unopened { store, io }) {
            Err(VaultError::NoVault { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Opens a vault with the keys of its domain. Its index is empty until [`Vault::refresh_index`].
    pub fn open(store: Arc<dyn Store>, io: Handle, ring: Arc<KeyRing>) -> Result<Self, VaultError> {
        let found = FoundVault::find_at_first(Unopened { store: &store, io: &io })?;
        Self::open_found(store, io, ring, found)
    }

    /// Opens a vault that was found in this store just now.
    pub fn open_found(
        store: Arc<dyn Store>,
        io: Handle,
        ring: Arc<KeyRing>,
        mut found: FoundVault,
    ) -> Result<Self, VaultError> {
        let unopened = Unopened { store: &store, io: &io };
        let mut first_look = found.first_look.take();
        let format = found.judged(&*store, &ring)?;
        let listed = unopened.list_at_first("trust", first_look.as_mut().map(|(_, glance)| glance))?;
        let trust = Trust::of(unopened, &ring, &listed)?;
        let index = ChunkIndex::with_compromised(ring.compromised().clone());
        Ok(Self {
            store,
            io,
            ring,
            format,
            trust,
            index: RwLock::new(index),
            refreshing: Mutex::default(),
            points: Mutex::default(),
            acknowledged: Mutex::default(),
            memory: Memory::default(),
            first_look: FirstLook::of(first_look),
            groups: Groups::default(),
            older: OlderVersions::default(),
            kept_objects: OnceLock::new(),
            trusted_parts: TrustedParts::default(),
            has_met_newer: AtomicBool::default(),
            may_delete: AtomicBool::default(),
        })
    }

    /// Whether the vault still is where it was opened: the disk may have been unmounted, or another one mounted.
    pub fn is_still_there(&self) -> Result<bool, VaultError> {
        match Self::peek(&self.store, &self.io) {
            Ok(found) => Ok(found.is_some_and(|found| found.format().vault == self.id())),
            Err(VaultError::Store(error)) if error.kind == StoreErrorKind::Gone => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether this code writes what the vault's readers expect.
    pub(super) fn may_be_written(&self) -> Result<(), VaultError> {
        match self.format.writer {
            FORMAT_VERSION => Ok(()),
            newer => Err(VaultError::Newer {
                place: self.place(),
                needs: format!("format version {newer} to write"),
            }),
        }
    }
}

/// A vault that was found, before its keys are at hand.
#[derive(Debug, Clone)]
pub struct FoundVault {
    object: ObjectName,
    format: FormatObject,
    signer: SignerKey,
    /// What else was seen when it was found, and since when that holds.
    first_look: Option<(Instant, Glance)>,
}

impl FoundVault {
    fn find_at_first(unopened: Unopened<'_>) -> Result<Self, VaultError> {
        let began = Instant::now();
        let mut glance = unopened.glance()?;
        let listed = unopened.newest_at_first("format", glance.as_mut())?;
        let found = Self::read(unopened, listed)?;
        Ok(Self { first_look: glance.map(|glance| (began, glance)), ..found })
    }

    fn find(unopened: Unopened<'_>) -> Result<Self, VaultError> {
        Self::read(unopened, unopened.newest("format")?)
    }

    fn read(unopened: Unopened<'_>, listed: Option<Listed>) -> Result<Self, VaultError> {
        let store = unopened.store;
        let object = listed.ok_or_else(|| VaultError::NoVault { place: store.place() })?.name;
        let content = unopened.get(&object)?;
        let read = clear::read::<FormatObject>(ClearKind::Format, &content);
        let (format, signer) = read.map_err(|cause| match cause {
            Malformed::Newer { found, .. } => {
                VaultError::Newer { place: store.place(), needs: format!("format version {found}") }
            }
            cause => unopened.damaged(&object, cause),
        })?;
        Ok(Self { object, format, signer, first_look: None })
    }

    /// What it says of itself. The signature is good, but by whom is not known yet.
    pub fn format(&self) -> &FormatObject {
        &self.format
    }

    /// The same, if it is a vault of this domain that this code reads.
    fn judged(self, store: &dyn Store, ring: &KeyRing) -> Result<FormatObject, VaultError> {
        let Self { object, format, signer, .. } = self;
        if format.domain != ring.domain() {
            let (found, expected) = (format.domain, ring.domain());
            return Err(VaultError::WrongKey { place: store.place(), found, expected });
        }
        if signer != ring.admin() {
            return Err(VaultError::Untrusted { object: object.to_string(), place: store.place(), signer });
        }
        let unknown = format.features.iter().find(|f| !FEATURES.contains(&f.as_str()));
        let needs = match unknown {
            _ if format.reader > FORMAT_VERSION => Some(format!("format version {}", format.reader)),
            Some(feature) => Some(format!("feature `{feature}`")),
            None => None,
        };
        if let Some(needs) = needs {
            return Err(VaultError::Newer { place: store.place(), needs });
        }
        match FEATURES.iter().all(|feature| format.features.iter().any(|has| has == feature)) {
            true => Ok(format),
            false => Err(VaultError::Older { place: store.place() }),
        }
    }
}

fn put_keys(store: Unopened<'_>, holder: &str, recipient: &str, bundle: &Bundle) -> Result<(), VaultError> {
    let name = Named::Key(holder.to_owned()).to_name();
    let wrapped = wrap_bundle(bundle, recipient).map_err(|error| VaultError::Table(error.to_string()))?;
    Ok(store.put(&name, wrapped.into())?)
}
