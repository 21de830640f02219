//! The vaults of the configuration, opened when they are first needed: which store, which keys, and whether the
//! one that is there is the one that was there before.

mod bucket;
mod custody;
mod existing;
mod init;
mod keys;
mod last_resort;
mod patience;
mod probing;
mod recovery_file;
mod refusals;
mod slot;
mod tally;
#[cfg(test)]
mod tests;
mod traffic;
mod via;

pub use bucket::{TRIES, keys as bucket_keys, place_of};
pub use init::{RECOVERY_HOLDER, Recovery, refuse_foreign_folder};
pub use keys::Recipient;
pub use recovery_file::{is_page, open_key_file, read_key_file};
pub use refusals::wrong_key_file;
pub use traffic::TrafficMeter;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName, PeerVault, VaultKind};
use backstay_core::id::{SourceId, VaultId};
use backstay_core::units::Span;
use backstay_net::link::PeerStore;
use backstay_s3::S3Store;
use backstay_vault::error::VaultError;
use backstay_vault::keys::{AgeIdentity, Bundle};
use backstay_vault::store::{Counted, DirStore, RequestObserver, Retried, RetryPolicy, Store};
use backstay_vault::vault::{Catalogue, ObjectFolder, Vault, WriterIdentity};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::fleet::FleetMember;
use crate::node::{Access, Identity, KnownVaults, UNDELETE};
use patience::Answers;
use refusals::{absent_vault, another_vault, gone, refuse_missing_parent};
use slot::{Opened, Slot};

/// How long it is taken for granted that a vault is where it was whose requests cost.
const LOOKED_AT_FOR: Duration = Duration::from_secs(600);

/// Whether a vault that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It is an error.
    Refuse,
    /// A `dir` vault is made, where the keys and the fleet allow it.
    Make,
}

/// All configured vaults.
#[derive(Debug)]
pub struct Vaults {
    config: Arc<Config>,
    io: Handle,
    clock: Arc<dyn ClockDebug>,
    observer: Arc<dyn VaultObserver>,
    identity: Mutex<Identity>,
    writer: Arc<WriterIdentity>,
    known: Mutex<KnownVaults>,
    /// For each vault of the configuration.
    slots: BTreeMap<String, Slot>,
    /// For each vault of the configuration, how it answers.
    answers: BTreeMap<String, Answers>,
    /// Buckets that were reached for.
    buckets: Mutex<HashMap<String, S3Store>>,
    /// Vaults that were opened.
    opened: Mutex<HashSet<VaultId>>,
    /// Opens the vaults' keys in place of the node's own identity; nothing of it is kept.
    key_file: Option<AgeIdentity>,
    access: Access,
    /// Whether objects are kept on local disk for the processes to come, and taken from there.
    objects: Option<ObjectFolder>,
    /// This node as a member of its fleet, where it is one of several; or why it cannot be one now.
    fleet: Result<Option<Arc<FleetMember>>, String>,
}

/// A clock that can be shown.
pub trait ClockDebug: Clock + std::fmt::Debug {}

impl<C: Clock + std::fmt::Debug> ClockDebug for C {}

/// Gives the observer of one vault's requests.
pub trait VaultObserver: Send + Sync + std::fmt::Debug {
    /// The observer for the vault of this name.
    fn of_vault(&self, name: &str) -> Arc<dyn RequestObserver>;
}

impl Vaults {
    /// The vaults of `config`, for the node whose state lies at `config.node.state`.
    pub fn new(
        config: Arc<Config>,
        io: Handle,
        clock: Arc<dyn ClockDebug>,
        observer: Arc<dyn VaultObserver>,
        access: Access,
    ) -> Result<Self, Failure> {
        let identity = match access {
            Access::Keep => Identity::load_or_make(&config.node.state)?,
            Access::ReadOnly => Identity::load_or_borrow(&config.node.state)?,
        };
        let node = config.node.name.to_string();
        let writer = Arc::new(WriterIdentity::new(node, identity.signer()));
        let identity = Mutex::new(identity);
        let known = Mutex::new(KnownVaults::load(&config.node.state)?);
        let slots = config.vaults.keys().map(|name| (name.to_string(), Slot::default())).collect();
        let answers = config.vaults.keys().map(|name| (name.to_string(), Answers::default())).collect();
        let key_file = None;
        // Vaults on this node are there all the same.
        let fleet =
            FleetMember::load(Arc::clone(&config), io.clone(), access).map_err(|failure| failure.message);
        if let Err(why) = &fleet {
            tracing::warn!("other nodes cannot be reached: {why}");
        }
        Ok(Self {
            config,
            io,
            clock,
            observer,
            identity,
            writer,
            known,
            slots,
            answers,
            buckets: Mutex::default(),
            opened: Mutex::default(),
            key_file,
            access,
            objects: (access == Access::Keep).then_some(ObjectFolder::Fill),
            fleet,
        })
    }

    /// The same vaults, read with the recovery key in this file.
    pub fn with_key_file(self, file: &Path) -> Result<Self, Failure> {
        Ok(self.with_key(read_key_file(file)?))
    }

    /// The same vaults, read with this recovery key.
    pub fn with_key(self, key: AgeIdentity) -> Self {
        Self { key_file: Some(key), ..self }
    }

    /// The same for a process that ends soon: where requests cost, what earlier ones have read is not read again, as far as names
    /// tell that it is the same. Not for who is to find damage.
    pub fn of_short_process(self) -> Self {
        let access = match self.access {
            Access::Keep => ObjectFolder::FillAndTake,
            Access::ReadOnly => ObjectFolder::Take,
        };
        Self { objects: Some(access), ..self }
    }

    /// This node as a member of its fleet, where it is one of several.
    pub fn fleet(&self) -> Option<&Arc<FleetMember>> {
        self.fleet.as_ref().ok().and_then(Option::as_ref)
    }

    /// Why this node cannot be a member of its fleet now, though it was enrolled.
    pub fn fleet_fault(&self) -> Option<&str> {
        self.fleet.as_ref().err().map(String::as_str)
    }

    /// Who writes for this node.
    pub fn writer(&self) -> &Arc<WriterIdentity> {
        &self.writer
    }

    /// The vault of this name, opened. A process that keeps the node's state fences first what an earlier one has left
    /// open in it.
    pub fn open(&self, name: &str, absent: Absent) -> Result<Arc<Vault>, Failure> {
        self.open_after(Duration::ZERO, name, absent)
    }

    /// The same for who comes again and again: where requests cost, the vault is not asked each time whether it is there still,
    /// and whether its trust has grown.
    pub fn open_often(&self, name: &str, absent: Absent) -> Result<Arc<Vault>, Failure> {
        self.open_after(LOOKED_AT_FOR, name, absent)
    }

    /// What a vault that was opened just now holds of a source. A process that writes to it remembers that for its first capture.
    pub fn catalogue_at_first(&self, vault: &Vault, source: SourceId) -> Result<Catalogue, VaultError> {
        match self.access {
            // One of which a commit would say what is wrong with it is looked at all the same.
            Access::Keep => {
                vault.known_catalogue(source, &self.writer.node).or_else(|_| vault.catalogue(source))
            }
            Access::ReadOnly => vault.catalogue_at_first(source),
        }
    }

    fn open_after(&self, looked_at_for: Duration, name: &str, absent: Absent) -> Result<Arc<Vault>, Failure> {
        let mut slot = lock(self.slot(name)?);
        if let Some(opened) = &*slot
            && opened.is_to_be_looked_at(looked_at_for)
            && !opened.vault().is_still_there()?
        {
            opened.vault().leave_index_folder();
            *slot = None;
        }
        let opened = match &mut *slot {
            Some(opened) => {
                if opened.is_outdated(looked_at_for)? || self.lacks_keys(opened.vault()) {
                    // One process has it once.
                    opened.vault().leave_index_folder();
                    opened.replace(self.find(name, absent)?);
                }
                opened
            }
            empty => empty.insert(self.open_first(name, absent)?),
        };
        opened.fence_dead(name, &self.writer, self.clock.now());
        Ok(Arc::clone(opened.vault()))
    }

    /// What `ask` answers of a vault, on a thread of its own; an error when the vault hangs.
    pub fn patiently<T: Send + 'static>(
        self: &Arc<Self>,
        name: &str,
        ask: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let vaults = Arc::clone(self);
        self.answers_of(name)?.of(name, move || ask(&vaults))
    }

    /// The same for who has less patience: an error when no request to the vault has ended for so long.
    pub fn within<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        name: &str,
        ask: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let vaults = Arc::clone(self);
        self.answers_of(name)?.within(patience, name, move || ask(&vaults))
    }

    /// Measures what is asked of a vault from now on.
    pub fn meter(&self, name: &str) -> Result<TrafficMeter, Failure> {
        Ok(self.answers_of(name)?.meter())
    }

    /// When each vault has answered last, of those that ever have; of one that a hub writes to, this node's vault there.
    pub fn answered(&self) -> HashMap<String, Instant> {
        let own = self.answers.keys();
        let via = self.config.via.keys().map(|name| name.as_str());
        let last = |name: &str| Some((name.to_owned(), self.answers.get(self.entry(name))?.last()?));
        own.map(String::as_str).chain(via).filter_map(last).collect()
    }

    /// Has a vault opened again when it is asked for next: this process has changed its trust or its keys.
    fn outdate(&self, name: &str) -> Result<(), Failure> {
        if let Some(opened) = &mut *lock(self.slot(name)?) {
            opened.outdate();
        }
        Ok(())
    }

    /// Whether this node has got keys from another vault since this one was opened: what is sealed with them goes to all.
    pub fn lacks_keys(&self, vault: &Vault) -> bool {
        if self.access == Access::ReadOnly || self.key_file.is_some() {
            return false;
        }
        // Never waited for: who makes a vault has it meanwhile, on a disk that may hang.
        let Ok(identity) = self.identity.try_lock() else { return false };
        identity.bundle.as_ref().is_some_and(|bundle| !vault.ring().has_all_of(bundle))
    }

    fn open_first(&self, name: &str, absent: Absent) -> Result<Opened, Failure> {
        let vault = self.find(name, absent)?;
        match self.access {
            Access::Keep => Ok(Opened::for_writing(vault, &self.writer)?),
            Access::ReadOnly => Ok(Opened::new(vault)),
        }
    }

    /// Opens the vault that is there, if it is the one that was there before.
    fn find(&self, name: &str, absent: Absent) -> Result<Arc<Vault>, Failure> {
        let store = self.store(name)?;
        let expected = self.known_id(name);
        let vault = match Vault::find(&store, &self.io)? {
            None if expected.is_some() => return Err(self.gone(name, &store)),
            None => {
                self.refuse_missing_parent(name)?;
                match absent {
                    Absent::Make => self.make(name, store, &Recovery::None, Vec::new())?,
                    Absent::Refuse => return Err(absent_vault(name, &store)),
                }
            }
            Some(found) => {
                let id = found.format().vault;
                if let Some(expected) = expected.filter(|expected| *expected != id) {
                    return Err(another_vault(name, &store, self.is_costly(name), id, expected));
                }
                self.refuse_second_name(name, id)?;
                self.open_existing(store, found)?
            }
        };
        if self.access == Access::Keep {
            self.remember(name, vault.id())?;
        }
        Ok(vault)
    }

    /// The keys of the domain as this node has them, if it has any.
    pub fn bundle(&self) -> Option<Bundle> {
        lock(&self.identity).bundle.as_ref().map(Bundle::without_admin)
    }

    /// Whether the admin's private key still lies on this node, which is so until a recovery key exists.
    pub fn lacks_recovery(&self) -> bool {
        lock(&self.identity).bundle.as_ref().is_some_and(|bundle| bundle.admin_seed.is_some())
    }

    fn gone(&self, name: &str, store: &Arc<dyn Store>) -> Failure {
        gone(name, &self.known_as(name), self.is_costly(name), store)
    }

    /// The vault that was last seen under this name, where it was seen: at another node it is another one.
    fn known_id(&self, name: &str) -> Option<VaultId> {
        lock(&self.known).id(&self.known_as(name))
    }

    fn remember(&self, name: &str, id: VaultId) -> Result<(), Failure> {
        lock(&self.known).remember(&self.known_as(name), id)
    }

    /// By which name a vault is remembered: one at another node by that as well, and by the key of that node, since one that was built
    /// anew may have lost what it held.
    fn known_as(&self, name: &str) -> String {
        let Some(VaultKind::Peer(PeerVault { holder: Some(holder), .. })) =
            self.config.vaults.get(name).map(|vault| &vault.kind)
        else {
            return name.to_owned();
        };
        let signer = self.fleet().and_then(|fleet| Some(fleet.roster().members.get(holder)?.signer));
        match signer {
            Some(signer) => format!("{name} at {holder} ({})", signer.short()),
            None => format!("{name} at {holder}"),
        }
    }

    /// Two names for one vault would count one copy as two.
    fn refuse_second_name(&self, name: &str, vault: VaultId) -> Result<(), Failure> {
        let mut others = self.config.vaults.keys().map(|other| other.as_str()).filter(|other| *other != name);
        match others.find(|other| self.known_id(other) == Some(vault)) {
            None => Ok(()),
            Some(other) => Err(Failure::usage(format!(
                "vaults {name} and {other} are the same one, {vault}: their paths lead to one directory; give {name} a directory of its own, or remove it from the configuration"
            ))),
        }
    }

    fn refuse_missing_parent(&self, name: &str) -> Result<(), Failure> {
        match self.config.vaults.get(name).map(|vault| &vault.kind) {
            Some(VaultKind::Dir(dir)) => refuse_missing_parent(name, &dir.path),
            Some(VaultKind::Held(of)) => Err(Failure::failed(format!(
                "there is no vault of {} in {} yet: it makes it when it first captures to this node",
                of.writer,
                of.held.path.display()
            ))
            .of_class("no_vault")),
            _ => Ok(()),
        }
    }

    fn slot(&self, name: &str) -> Result<&Slot, Failure> {
        self.slots.get(name).ok_or_else(|| self.unknown(name))
    }

    fn answers_of(&self, name: &str) -> Result<&Answers, Failure> {
        self.answers.get(name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Failure {
        if let Some(via) = self.via(name) {
            let through = via.through.as_ref().map_or_else(String::new, |through| {
                format!("; what was captured for it is also in {through}")
            });
            return Failure::usage(format!(
                "only {hub} reads and writes vault {name} (`via` of [vault.{name}]): run it on {hub}{through}",
                hub = via.hub
            ))
            .of_class("via");
        }
        let holder = name.rsplit_once('.').map(|(_, holder)| holder);
        if let Some(holder) = holder.filter(|holder| self.config.fleet.nodes.contains_key(*holder)) {
            return Failure::usage(format!(
                "vault {name} is held by {holder} for another node, and cannot be read from here: run it on {holder}, where it is `held.NODE`, or on the node whose it is"
            ));
        }
        let known: Vec<&str> = self.config.vaults.keys().map(|name| name.as_str()).collect();
        Failure::usage(format!(
            "there is no vault {name:?} in the configuration; known are: {}",
            known.join(", ")
        ))
    }

    fn store(&self, name: &str) -> Result<Arc<dyn Store>, Failure> {
        let vault = self.config.vaults.get(name).ok_or_else(|| self.unknown(name))?;
        let observer = self.answers_of(name)?.with(self.observer.of_vault(name));
        match &vault.kind {
            VaultKind::Dir(dir) => {
                let undelete = dir.undelete.map_or(UNDELETE, Span::as_duration);
                let store = DirStore::with_trash(&dir.path, undelete);
                let store = Retried::new(Counted::new(store, observer), RetryPolicy::default());
                Ok(Arc::new(store))
            }
            VaultKind::Held(of) => {
                let undelete = of.held.undelete.map_or(UNDELETE, Span::as_duration);
                let store = DirStore::with_trash(&of.held.path, undelete);
                let store = Retried::new(Counted::new(store, observer), RetryPolicy::default());
                Ok(Arc::new(store))
            }
            VaultKind::Peer(peer) => {
                let store = self.peer_store(name, peer)?;
                Ok(Arc::new(Retried::new(Counted::new(store, observer), RetryPolicy::default())))
            }
            VaultKind::S3(s3) => Ok(Arc::new(Retried::new(self.bucket(name, s3, observer)?, bucket::TRIES))),
        }
    }

    fn peer_store(&self, name: &str, peer: &PeerVault) -> Result<PeerStore, Failure> {
        let holder = peer.holder.as_ref().ok_or_else(|| self.unknown(name))?;
        self.member_for(name, holder)?.store(holder, peer.limit)
    }

    /// This node as the member that can reach the holder of a vault.
    fn member_for(&self, name: &str, holder: &NodeName) -> Result<&Arc<FleetMember>, Failure> {
        let fleet = self.fleet.as_ref().map_err(Failure::failed)?;
        fleet.as_ref().ok_or_else(|| {
            Failure::failed(format!(
                "vault {name} is at node {holder}, and this node belongs to no fleet yet: `backstay init {}` begins one, `backstay join INVITATION` takes up an invitation",
                self.config.node.name
            ))
            .of_class("no_fleet")
        })
    }

    /// The vault of this name if it is open; never waits.
    pub fn if_open(&self, name: &str) -> Option<Arc<Vault>> {
        let slot = self.slots.get(name)?.try_lock().ok()?;
        slot.as_ref().map(|opened| Arc::clone(opened.vault()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
