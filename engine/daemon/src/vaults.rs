//! The vaults of the configuration, opened when they are first needed: which store, which keys, and whether the
//! one that is there is the one that was there before.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::clock::Clock;
use backstay_core::config::{Config, VaultKind};
use backstay_vault::clear::TrustedNode;
use backstay_vault::keys::{AgeIdentity, Bundle, KeyRing, Signer};
use backstay_vault::store::{Counted, DirStore, RequestObserver, Retried, RetryPolicy, Store};
use backstay_vault::vault::{NewVault, Vault, VaultKeys, WriterIdentity};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::node::{Identity, KnownVaults};

/// Whether a vault that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It is an error.
    Refuse,
    /// A `dir` vault is made, where the keys and the fleet allow it.
    Make,
}

/// What a process may do to the node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It holds the state lock: identity, keys and known vaults are kept.
    Keep,
    /// It only reads: nothing is written under `node.state`.
    ReadOnly,
}

/// What becomes of the domain's keys when a vault is made.
#[derive(Debug, Clone)]
pub enum Recovery {
    /// They are wrapped to a recovery key in this file: a new one, or the one that is there.
    File(PathBuf),
    /// There is none yet.
    None,
}

/// All configured vaults.
#[derive(Debug)]
pub struct Vaults {
    config: Arc<Config>,
    io: Handle,
    clock: Arc<dyn ClockDebug>,
    observer: Arc<dyn VaultObserver>,
    identity: Mutex<Identity>,
    known: Mutex<KnownVaults>,
    open: Mutex<HashMap<String, Arc<Vault>>>,
    /// Opens the vaults' keys in place of the node's own identity; nothing of it is kept.
    key_file: Option<AgeIdentity>,
    access: Access,
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
        let identity = Mutex::new(match access {
            Access::Keep => Identity::load_or_make(&config.node.state)?,
            Access::ReadOnly => Identity::load_or_borrow(&config.node.state)?,
        });
        let known = Mutex::new(KnownVaults::load(&config.node.state)?);
        Ok(Self {
            config,
            io,
            clock,
            observer,
            identity,
            known,
            open: Mutex::default(),
            key_file: None,
            access,
        })
    }

    /// The same vaults, read with the recovery key in this file.
    pub fn with_key_file(self, file: &Path) -> Result<Self, Failure> {
        let missing = || Failure::usage(format!("there is no key file {}", file.display()));
        let identity = read_recovery(file)?.ok_or_else(missing)?;
        Ok(Self { key_file: Some(identity), ..self })
    }

    /// Who writes for this node.
    pub fn writer(&self) -> WriterIdentity {
        WriterIdentity { node: self.config.node.name.to_string(), signer: lock(&self.identity).signer() }
    }

    /// The vault of this name, opened.
    pub fn open(&self, name: &str, absent: Absent) -> Result<Arc<Vault>, Failure> {
        if let Some(vault) = lock(&self.open).get(name) {
            return Ok(Arc::clone(vault));
        }
        let store = self.store(name)?;
        let expected = lock(&self.known).id(name);
        let vault = match Vault::peek(&store, &self.io)? {
            None if expected.is_some() => return Err(gone(name, &store)),
            None if absent == Absent::Make => self.make(name, store, &Recovery::None)?,
            None => return Err(absent_vault(name, &store)),
            Some(found) => {
                if let Some(expected) = expected.filter(|expected| *expected != found.vault) {
                    return Err(Failure::failed(format!(
                        "at {} is vault {}, but {name} was vault {expected}: another disk is mounted there, or the path is wrong; mount the right one, or remove the line of {name} from vaults.json under node.state if the new one is meant",
                        store.place(),
                        found.vault
                    )));
                }
                self.open_existing(store)?
            }
        };
        if self.access == Access::Keep {
            lock(&self.known).remember(name, vault.id())?;
        }
        lock(&self.open).insert(name.to_owned(), Arc::clone(&vault));
        Ok(vault)
    }

    /// Makes the vault of this name, or adds a recovery key to the one that is there. Says what it did.
    pub fn init(&self, name: &str, recovery: &Recovery) -> Result<(Arc<Vault>, InitOutcome), Failure> {
        let store = self.store(name)?;
        if Vault::peek(&store, &self.io)?.is_none() {
            if lock(&self.known).id(name).is_some() {
                return Err(gone(name, &store));
            }
            let vault = self.make(name, store, recovery)?;
            lock(&self.known).remember(name, vault.id())?;
            return Ok((vault, InitOutcome::Made));
        }
        let vault = self.open(name, Absent::Refuse)?;
        match recovery {
            Recovery::None => Err(Failure::failed(format!(
                "vault {name} is there already, in {}; nothing was changed",
                vault.place()
            ))),
            Recovery::File(file) => {
                self.add_recovery(&vault, file)?;
                Ok((vault, InitOutcome::RecoveryAdded))
            }
        }
    }

    /// Whether the admin's private key still lies on this node, which is so until a recovery key exists.
    pub fn lacks_recovery(&self) -> bool {
        lock(&self.identity).bundle.as_ref().is_some_and(|bundle| bundle.admin_seed.is_some())
    }

    fn store(&self, name: &str) -> Result<Arc<dyn Store>, Failure> {
        let vault = self.config.vaults.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.vaults.keys().map(|name| name.as_str()).collect();
            Failure::usage(format!(
                "there is no vault {name:?} in the configuration; known are: {}",
                known.join(", ")
            ))
        })?;
        let observer = self.observer.of_vault(name);
        match &vault.kind {
            VaultKind::Dir(dir) => {
                let store =
                    Retried::new(Counted::new(DirStore::new(&dir.path), observer), RetryPolicy::default());
                Ok(Arc::new(store))
            }
            other => Err(Failure::failed(format!(
                "vault {name} is of kind {}, which this version cannot use yet; use kind = \"dir\"",
                other.label()
            ))),
        }
    }

    fn open_existing(&self, store: Arc<dyn Store>) -> Result<Arc<Vault>, Failure> {
        let mut identity = lock(&self.identity);
        let bundle = match (&self.key_file, &identity.bundle) {
            (Some(key), _) => {
                let recovered = VaultKeys::recover(&store, &self.io, key)?;
                recovered.ok_or_else(|| no_keys(&store, key))?
            }
            (None, Some(bundle)) => bundle.clone(),
            (None, None) => {
                let recovered = VaultKeys::recover(&store, &self.io, &identity.age)?;
                let bundle = recovered.ok_or_else(|| no_keys(&store, &identity.age))?;
                if self.access == Access::Keep {
                    identity.keep_bundle(bundle.clone())?;
                }
                bundle
            }
        };
        let vault = Vault::open(store, self.io.clone(), Arc::new(KeyRing::new(&bundle)))?;
        vault.refresh_index(None)?;
        Ok(Arc::new(vault))
    }

    fn make(&self, name: &str, store: Arc<dyn Store>, recovery: &Recovery) -> Result<Arc<Vault>, Failure> {
        if let Some(VaultKind::Dir(dir)) = self.config.vaults.get(name).map(|vault| &vault.kind) {
            refuse_foreign_folder(name, &dir.path)?;
        }
        let mut identity = lock(&self.identity);
        if identity.bundle.is_none() && self.config.fleet.nodes.len() > 1 {
            return Err(Failure::failed(format!(
                "the fleet has several nodes and this one has no keys yet: make vault {name} once with `backstay vault init {name}` on the first node"
            )));
        }
        let mut bundle = match &identity.bundle {
            Some(bundle) => bundle.clone(),
            None => Bundle::generate(),
        };
        if bundle.admin_seed.is_none() {
            bundle = self.with_admin(&bundle, recovery)?;
        }
        let seed =
            bundle.admin_seed.clone().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
        let node = self.config.node.name.to_string();
        let mut holders = Vec::new();
        let mut own = bundle.clone();
        if let Recovery::File(file) = recovery {
            let recovery = read_or_make_recovery(file)?;
            holders.push(("recovery".to_owned(), recovery.recipient(), bundle.clone()));
            own = bundle.without_admin();
        }
        // Before the vault exists, so that a crash never leaves a vault without its keys; the admin key goes only
        // after the recovery key has it.
        identity.keep_bundle(bundle.clone())?;
        holders.push((node.clone(), identity.age.recipient(), own.clone()));
        let trusted = TrustedNode {
            name: node,
            signer: identity.signer().public(),
            recipient: identity.age.recipient(),
            writes: vec!["*".to_owned()],
        };
        let new = NewVault {
            bundle: &bundle,
            admin: &Signer::from_seed(&seed),
            node: trusted,
            holders,
            now: self.clock.now(),
        };
        let vault = Vault::create(store, self.io.clone(), new)?;
        identity.keep_bundle(own)?;
        Ok(Arc::new(vault))
    }

    /// The bundle with the admin's private key, which a recovery file opens.
    fn with_admin(&self, bundle: &Bundle, recovery: &Recovery) -> Result<Bundle, Failure> {
        let advice =
            "the admin key left this node when the recovery key was made; give it with --recovery FILE";
        let Recovery::File(file) = recovery else { return Err(Failure::failed(advice)) };
        let identity = read_recovery(file)?.ok_or_else(|| Failure::failed(advice))?;
        for name in self.config.vaults.keys() {
            let Ok(store) = self.store(name.as_str()) else { continue };
            match VaultKeys::recover(&store, &self.io, &identity) {
                Ok(Some(found)) if found.domain == bundle.domain && found.admin_seed.is_some() => {
                    return Ok(found);
                }
                _ => {}
            }
        }
        Err(Failure::failed(format!("no configured vault has keys that {} opens; {advice}", file.display())))
    }

    fn add_recovery(&self, vault: &Vault, file: &Path) -> Result<(), Failure> {
        let mut identity = lock(&self.identity);
        let bundle = identity.bundle.clone().filter(|bundle| bundle.admin_seed.is_some()).ok_or_else(|| {
            Failure::failed("a recovery key exists already, and the admin key has left this node; nothing was changed")
        })?;
        let recovery = read_or_make_recovery(file)?;
        VaultKeys::add(vault, "recovery", &recovery.recipient(), &bundle)?;
        let own = bundle.without_admin();
        VaultKeys::add(vault, self.config.node.name.as_str(), &identity.age.recipient(), &own)?;
        identity.keep_bundle(own)
    }
}

/// What `vault init` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitOutcome {
    /// A vault was made.
    Made,
    /// A recovery key was added to one that was there.
    RecoveryAdded,
}

fn read_or_make_recovery(file: &Path) -> Result<AgeIdentity, Failure> {
    if let Some(identity) = read_recovery(file)? {
        return Ok(identity);
    }
    let identity = AgeIdentity::generate();
    let write = || {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(identity.to_file().as_bytes())?;
        out.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::failed(format!("cannot write the recovery key to {}: {error}", file.display()))
    })?;
    Ok(identity)
}

fn read_recovery(file: &Path) -> Result<Option<AgeIdentity>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => AgeIdentity::from_file(&text).map(Some).map_err(|error| {
            Failure::failed(format!("{} is there and not a recovery key: {error}", file.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", file.display()))),
    }
}

/// A folder that holds something else does not become a vault.
fn refuse_foreign_folder(name: &str, path: &Path) -> Result<(), Failure> {
    // What a making that was killed has left is not foreign.
    let ours = ["unfinished", "keys", "trust", "format", "lost+found"];
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        if !ours.iter().any(|ours| entry.file_name() == *ours) {
            return Err(Failure::failed(format!(
                "{} holds {:?} and no vault: give vault {name} a directory of its own",
                path.display(),
                entry.file_name()
            )));
        }
    }
    Ok(())
}

fn gone(name: &str, store: &Arc<dyn Store>) -> Failure {
    Failure::failed(format!(
        "vault {name} is not in {} where it was: the disk is probably not mounted; mount it. No new vault is made in its place",
        store.place()
    ))
}

fn absent_vault(name: &str, store: &Arc<dyn Store>) -> Failure {
    Failure::failed(format!(
        "there is no vault in {}: make it with `backstay vault init {name}`, or start with `backstay now`",
        store.place()
    ))
}

fn no_keys(store: &Arc<dyn Store>, identity: &AgeIdentity) -> Failure {
    Failure::failed(format!(
        "no key in {} opens with the identity {}: bring back node.state of the node that made the vault, or give its recovery key with --key-file FILE",
        store.place(),
        identity.recipient()
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
