//! Making and opening of vaults.

use std::sync::{Arc, Mutex, RwLock};

use backstay_core::id::VaultId;
use backstay_core::units::Timestamp;
use tokio::runtime::Handle;

use super::Vault;
use super::trust::Trust;
use crate::clear::{self, ClearKind, Custodian, FORMAT_VERSION, FormatObject, TrustObject, TrustedNode};
use crate::error::VaultError;
use crate::index::ChunkIndex;
use crate::keys::{AgeIdentity, WrapError};
use crate::keys::{Bundle, KeyRing, Signer, random_bytes, unwrap_bundle, wrap_bundle};
use crate::malformed::Malformed;
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed, Store, StoreError};

/// Features that this code knows.
const FEATURES: [&str; 0] = [];

/// What a new vault is made of.
#[derive(Debug)]
pub struct NewVault<'a> {
    /// The domain's keys, with the admin's private seed.
    pub bundle: &'a Bundle,
    /// Signs `format/` and `trust/`.
    pub admin: &'a Signer,
    /// The node that makes it: the first that may write, and its custodian.
    pub node: TrustedNode,
    /// Age recipients to whom the bundle is wrapped: name of the key object, recipient, and the bundle for it.
    pub holders: Vec<(String, String, Bundle)>,
    /// When.
    pub now: Timestamp,
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
        for listed in io.block_on(store.list(&Folder::new(&[&"keys"])))? {
            let wrapped = io.block_on(store.get(&listed.name))?;
            match unwrap_bundle(&wrapped, identity) {
                Ok(bundle) => return Ok(Some(bundle)),
                Err(WrapError::Locked(_)) => {}
                Err(error) => tracing::warn!(object = %listed.name, %error, "left out"),
            }
        }
        Ok(None)
    }

    /// Wraps a bundle to one more holder.
    pub fn add(vault: &Vault, holder: &str, recipient: &str, bundle: &Bundle) -> Result<(), VaultError> {
        put_keys(vault.store(), vault.io(), holder, recipient, bundle)
    }
}

impl Vault {
    /// Makes a vault in an empty store: keys, trust, and the format object last, which makes it one. What
    /// an interrupted attempt left is overwritten.
    pub fn create(store: Arc<dyn Store>, io: Handle, new: NewVault<'_>) -> Result<Self, VaultError> {
        if newest(&store, &io, "format")?.is_some() {
            return Err(VaultError::AlreadyThere { place: store.place() });
        }
        for (holder, recipient, bundle) in &new.holders {
            put_keys(&store, &io, holder, recipient, bundle)?;
        }
        let custodian = Custodian { node: new.node.name.clone(), term: 1 };
        let trust = TrustObject { n: 1, previous: None, nodes: vec![new.node], custodian };
        let object = clear::sign(new.admin, ClearKind::Trust, &trust);
        io.block_on(store.put(&Named::Trust(1).to_name(), object))?;
        let format = FormatObject {
            vault: VaultId::new(random_bytes()),
            domain: new.bundle.domain,
            reader: FORMAT_VERSION,
            writer: FORMAT_VERSION,
            features: FEATURES.map(String::from).to_vec(),
            created: new.now,
        };
        let object = clear::sign(new.admin, ClearKind::Format, &format);
        io.block_on(store.put(&Named::Format(1).to_name(), object))?;
        Self::open(store, io, Arc::new(KeyRing::new(new.bundle)))
    }

    /// What a store's newest format object says, before any key is at hand; `None` when there is no vault.
    /// Its signature is good, but by whom is not known yet.
    pub fn peek(store: &Arc<dyn Store>, io: &Handle) -> Result<Option<FormatObject>, VaultError> {
        let Some(listed) = newest(store, io, "format")? else { return Ok(None) };
        let object = io.block_on(store.get(&listed.name))?;
        let read = clear::read(ClearKind::Format, &object);
        let (format, _) = read.map_err(|cause| damaged(store, &listed.name, cause))?;
        Ok(Some(format))
    }

    /// Opens a vault with the keys of its domain. Its index is empty until [`Vault::refresh_index`].
    pub fn open(store: Arc<dyn Store>, io: Handle, ring: Arc<KeyRing>) -> Result<Self, VaultError> {
        let format = read_format(&store, &io, &ring)?;
        let trust = Trust::read(&store, &io, &ring)?;
        Ok(Self {
            store,
            io,
            ring,
            format,
            trust,
            index: RwLock::new(ChunkIndex::new()),
            points: Mutex::default(),
            acknowledged: Mutex::default(),
        })
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

fn read_format(store: &Arc<dyn Store>, io: &Handle, ring: &KeyRing) -> Result<FormatObject, VaultError> {
    let listed = newest(store, io, "format")?.ok_or_else(|| VaultError::NoVault { place: store.place() })?;
    let object = io.block_on(store.get(&listed.name))?;
    let read = clear::read::<FormatObject>(ClearKind::Format, &object);
    let (format, signer) = read.map_err(|cause| match cause {
        Malformed::Newer { found, .. } => {
            VaultError::Newer { place: store.place(), needs: format!("format version {found}") }
        }
        cause => damaged(store, &listed.name, cause),
    })?;
    if format.domain != ring.domain() {
        let (found, expected) = (format.domain, ring.domain());
        return Err(VaultError::WrongKey { place: store.place(), found, expected });
    }
    if signer != ring.admin() {
        return Err(VaultError::Untrusted { object: listed.name.to_string(), place: store.place(), signer });
    }
    let unknown = format.features.iter().find(|f| !FEATURES.contains(&f.as_str()));
    let needs = match unknown {
        _ if format.reader > FORMAT_VERSION => Some(format!("format version {}", format.reader)),
        Some(feature) => Some(format!("feature `{feature}`")),
        None => None,
    };
    match needs {
        Some(needs) => Err(VaultError::Newer { place: store.place(), needs }),
        None => Ok(format),
    }
}

fn put_keys(
    store: &Arc<dyn Store>,
    io: &Handle,
    holder: &str,
    recipient: &str,
    bundle: &Bundle,
) -> Result<(), VaultError> {
    let name = Named::Key(holder.to_owned()).to_name();
    let wrapped = wrap_bundle(bundle, recipient).map_err(|error| VaultError::Table(error.to_string()))?;
    Ok(io.block_on(store.put(&name, wrapped.into()))?)
}

fn newest(store: &Arc<dyn Store>, io: &Handle, folder: &str) -> Result<Option<Listed>, VaultError> {
    match list(store, io, folder) {
        // A directory that does not exist holds no vault.
        Err(error) if error.is_not_found() => Ok(None),
        listed => Ok(listed?.pop()),
    }
}

pub(super) fn list(store: &Arc<dyn Store>, io: &Handle, folder: &str) -> Result<Vec<Listed>, StoreError> {
    io.block_on(store.list(&Folder::new(&[&folder])))
}

pub(super) fn damaged(store: &Arc<dyn Store>, name: &ObjectName, cause: Malformed) -> VaultError {
    VaultError::Damaged { object: name.to_string(), place: store.place(), cause }
}
