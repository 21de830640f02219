//! Making of vaults, and giving the recovery key to all that a domain has. As soon as one vault opens with a recovery
//! key, the admin's private key leaves the node, and what the vaults hold for the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::config::{NodeName, Vault as VaultConfig, VaultKind, VaultName};
use backstay_core::id::SignerKey;
use backstay_vault::clear::{Custodian, TrustedNode};
use backstay_vault::keys::{AgeIdentity, Bundle, Role, Signer, unwrap_bundle};
use backstay_vault::store::Store;
use backstay_vault::vault::{NewVault, Vault, VaultCharter, VaultKeys};

use super::keys::refuse_some_keys;
use super::slot::Opened;
use super::{Absent, Vaults, lock, recovery_file};
use crate::failure::Failure;

/// What becomes of the domain's keys when a vault is made.
#[derive(Debug, Clone)]
pub enum Recovery {
    /// They are wrapped to a recovery key in this file: a new one, or the one that is there.
    File(PathBuf),
    /// There is none yet.
    None,
    /// There is none yet, and that is meant also where it should not be so.
    Declined,
}

/// What `vault init` did.
#[derive(Debug)]
pub struct Initialised {
    /// The vault, where it was made; none where it was there already.
    pub made: Option<Arc<Vault>>,
    /// The vault knows this node by another key now than before: it was built anew.
    pub knows_again: bool,
    /// The vault knows nodes of the fleet now that it did not know before.
    pub knows_others: bool,
    /// Vaults that open with the recovery key now and did not before.
    pub opened: Vec<String>,
    /// Vaults that did not get the recovery key, and why.
    pub left: Vec<(String, Failure)>,
}

impl Vaults {
    /// Makes the vault of this name where it is not there, and sees to it that a recovery key opens this vault and
    /// every other one of the domain that can be reached. Doing it again does what is missing.
    pub fn init(&self, name: &str, recovery: &Recovery) -> Result<Initialised, Failure> {
        let store = self.store(name)?;
        let made = if Vault::peek(&store, &self.io)?.is_some() {
            if !matches!(recovery, Recovery::File(_)) {
                return Err(Failure::failed(format!(
                    "vault {name} is there already, in {}; nothing was changed. To give it a recovery key, add --recovery FILE",
                    store.place()
                )));
            }
            None
        } else {
            if self.known_id(name).is_some() {
                return Err(self.gone(name, &store));
            }
            self.refuse_missing_parent(name)?;
            let others = self.nodes_of_others(name);
            let vault = self.make(name, store, recovery, others)?;
            self.remember(name, vault.id())?;
            *lock(self.slot(name)?) = Some(Opened::new(Arc::clone(&vault)));
            Some(vault)
        };
        let mut done = Initialised {
            made,
            knows_again: false,
            knows_others: false,
            opened: Vec::new(),
            left: Vec::new(),
        };
        if let Recovery::File(file) = recovery {
            self.give_recovery_to_all(name, file, &mut done)?;
        }
        Ok(done)
    }

    /// All keys of the domain with the seeds of the admin and of the fleet's authority, from this node, or by the recovery key in this
    /// file. A node that has no keys at all gets those of a new domain, which are not kept yet.
    pub fn full_bundle(&self, recovery: Option<&Path>) -> Result<Bundle, Failure> {
        let own = lock(&self.identity).bundle.clone();
        match (own, recovery) {
            (None, Some(file)) if file.exists() => Err(Failure::usage(format!(
                "{} is a recovery key already, and this node has no keys: if it was built anew, have it invited by another node of its fleet (`backstay invite {node} --again --recovery FILE` there), or use its vaults with `--key-file`; for a new fleet, give a file that is not there yet",
                file.display(),
                node = self.config.node.name
            ))),
            (None, _) if self.fleet().is_some() => Err(Failure::failed(
                "this node belongs to a fleet, and the keys of its domain are gone from its state: bring back identity/domain.json from a copy, or have the node invited again",
            )),
            (None, _) => Ok(Bundle::generate()),
            (Some(own), _) if own.admin_seed.is_some() => Ok(own),
            (Some(own), Some(file)) => self.with_admin(&own, file),
            (Some(_), None) => Err(Failure::usage(
                "the admin's key is with the recovery key: give the file that was written then, with --recovery FILE",
            )),
        }
    }

    /// Keeps the keys of the domain.
    pub fn keep_bundle(&self, bundle: Bundle) -> Result<(), Failure> {
        lock(&self.identity).keep_bundle(bundle)
    }

    /// The key by which this node signs, and the recipient to whom its keys are wrapped.
    pub fn own_keys(&self) -> (SignerKey, String) {
        let identity = lock(&self.identity);
        (identity.signer().public(), identity.age.recipient())
    }

    /// The recipient of the recovery key in this file; a new one, written there, where there is none.
    pub fn recovery_recipient(&self, file: &Path) -> Result<String, Failure> {
        Ok(recovery_file::read_or_make(file)?.recipient())
    }

    /// Makes this node's vault at another one, by what the admin has signed for it.
    fn make_at_peer(
        &self,
        name: &str,
        holder: &NodeName,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Vault>, Failure> {
        let fleet = self.fleet().ok_or_else(|| Failure::failed("this node belongs to no fleet yet"))?;
        let roster = fleet.roster();
        let Some(charter) = roster.charter(&self.config.node.name, holder).cloned() else {
            return Err(Failure::failed(format!(
                "vault {name} is not there yet at node {holder}, and nothing was signed for it when {holder} was invited: `backstay vault init {name} --recovery FILE` makes it, with the recovery key"
            )));
        };
        let member = roster
            .members
            .get(holder)
            .ok_or_else(|| Failure::failed(format!("{holder} is no node of the fleet any more")))?;
        let identity = lock(&self.identity);
        let own = identity
            .bundle
            .as_ref()
            .ok_or_else(|| Failure::failed("the keys of the domain are not at hand"))?;
        let own = own.without_admin();
        let holders = [
            (self.config.node.name.to_string(), identity.age.recipient(), own.clone()),
            (holder.to_string(), member.recipient.clone(), own.clone()),
        ];
        drop(identity);
        let recovery = roster.recovery.clone().map(|sealed| (RECOVERY_HOLDER.to_owned(), sealed));
        let charter = VaultCharter { format: charter.format, trust: charter.trust };
        let vault = Vault::create_chartered(store, self.io.clone(), &charter, &own, &holders, recovery)?;
        self.keep_index_of(&vault);
        Ok(Arc::new(vault))
    }

    pub(super) fn make(
        &self,
        name: &str,
        store: Arc<dyn Store>,
        recovery: &Recovery,
        others: Vec<TrustedNode>,
    ) -> Result<Arc<Vault>, Failure> {
        if let Some(VaultKind::Dir(dir)) = self.config.vaults.get(name).map(|vault| &vault.kind) {
            refuse_foreign_folder(name, &dir.path)?;
        }
        if let (Some(holder), Recovery::None | Recovery::Declined) = (self.holder_of(name), recovery) {
            return self.make_at_peer(name, &holder, store);
        }
        if let (Some(VaultKind::S3(_)), Recovery::None) = (self.kind_of(name), recovery) {
            return Err(Failure::failed(format!(
                "vault {name} is not there yet. It is what is left when every host is gone, and then only a recovery key opens it: `backstay vault init {name} --recovery FILE` makes both (with --no-recovery the vault alone)"
            ))
            .of_class("no_vault"));
        }
        let mut identity = lock(&self.identity);
        if identity.bundle.is_none() && self.config.fleet.nodes.len() > 1 {
            return Err(Failure::failed(format!(
                "the fleet has several nodes and this one has no keys yet: `backstay init {}` begins the fleet on the first node, `backstay join INVITATION` takes up an invitation on the others",
                self.config.node.name
            )));
        }
        let bundle = match (&identity.bundle, recovery) {
            (None, _) => Bundle::generate(),
            (Some(bundle), _) if bundle.admin_seed.is_some() => bundle.clone(),
            (Some(bundle), Recovery::File(file)) => self.with_admin(bundle, file)?,
            (Some(_), Recovery::None | Recovery::Declined) => {
                return Err(Failure::failed(format!(
                    "vault {name} is not there yet, and since there is a recovery key, it takes that to make one: `backstay vault init {name} --recovery FILE`, with the file that was written then"
                )));
            }
        };
        refuse_some_keys(&bundle)?;
        let seed =
            bundle.admin_seed.clone().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
        let node = self.config.node.name.to_string();
        let mut holders = Vec::new();
        let mut own = bundle.clone();
        if let Recovery::File(file) = recovery {
            let recovery = recovery_file::read_or_make(file)?;
            holders.push((RECOVERY_HOLDER.to_owned(), recovery.recipient(), bundle.clone()));
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
            role: None,
        };
        let mut custodian = Custodian::first(&trusted);
        let mut others = others;
        for member in self.other_members(name) {
            // One that cares for another vault without the keys of contents does not get them by this one.
            let known = others.iter().find(|known| known.signer == member.signer);
            let keys = match known.and_then(|known| known.role) {
                Some(Role::Custodian) => bundle.for_custodian(),
                _ => bundle.without_admin(),
            };
            holders.push((member.name.clone(), member.recipient.clone(), keys));
            if self.custodian_of(name).is_some_and(|custodian| custodian.as_str() == member.name) {
                custodian = Custodian::first(&member);
            }
            if !others.iter().any(|known| known.signer == member.signer) {
                others.push(member);
            }
        }
        if let (Some(holder), Some(fleet)) = (self.holder_of(name), self.fleet()) {
            let member = fleet.roster().members.get(&holder).cloned().ok_or_else(|| {
                Failure::failed(format!("{holder} is no node of the fleet yet: `backstay invite {holder}`"))
            })?;
            holders.push((holder.to_string(), member.recipient.clone(), bundle.without_admin()));
            let holder = TrustedNode {
                name: holder.to_string(),
                signer: member.signer,
                recipient: member.recipient,
                writes: vec!["*".to_owned()],
                role: None,
            };
            custodian = Custodian::first(&holder);
            others.push(holder);
        }
        let new = NewVault {
            bundle: &bundle,
            admin: &Signer::from_seed(&seed),
            node: trusted,
            custodian,
            others,
            holders,
            now: self.clock.now(),
        };
        let vault = Vault::create(store, self.io.clone(), new)?;
        self.keep_index_of(&vault);
        identity.keep_bundle(own)?;
        Ok(Arc::new(vault))
    }

    /// The node that holds a vault for this one.
    fn holder_of(&self, name: &str) -> Option<NodeName> {
        match self.kind_of(name) {
            Some(VaultKind::Peer(peer)) => peer.holder.clone(),
            _ => None,
        }
    }

    /// The node that is to care for a bucket, where the configuration names one.
    fn custodian_of(&self, name: &str) -> Option<&NodeName> {
        match self.kind_of(name) {
            Some(VaultKind::S3(s3)) => s3.custodian.as_ref(),
            _ => None,
        }
    }

    fn kind_of(&self, name: &str) -> Option<&VaultKind> {
        self.config.vaults.get(name).map(|vault| &vault.kind)
    }

    /// The nodes that the other vaults know. A node that was built anew is known there by its former key, too, and what it has
    /// captured with that can be copied only to where that is known.
    fn nodes_of_others(&self, name: &str) -> Vec<TrustedNode> {
        let mut nodes = Vec::new();
        for other in self.config.vaults.keys().map(|other| other.as_str()).filter(|other| *other != name) {
            match self.open(other, Absent::Refuse) {
                Ok(vault) => nodes.extend(vault.trust().nodes.iter().cloned()),
                Err(failure) if failure.class == "no_vault" && self.known_id(other).is_none() => {}
                Err(failure) => tracing::warn!(
                    vault = other,
                    "cannot be opened, so vault {name} does not know the nodes that only this one knows: {failure}"
                ),
            }
        }
        nodes
    }

    /// Gives the recovery key to the vault of this name, which must go well, and then to the others of its domain.
    fn give_recovery_to_all(&self, name: &str, file: &Path, done: &mut Initialised) -> Result<(), Failure> {
        self.open(name, Absent::Refuse)?;
        let own = lock(&self.identity).bundle.clone();
        let own = own.ok_or_else(|| Failure::failed("the keys of the domain are not at hand"))?;
        refuse_some_keys(&own)?;
        let full = if own.admin_seed.is_some() { own } else { self.with_admin(&own, file)? };
        let recovery = recovery_file::read_or_make(file)?;
        if self.give_recovery(name, &recovery, &full)? {
            done.opened.push(name.to_owned());
        }
        let (signer, recipient) = self.own_keys();
        done.knows_again = self.admit(name, &full, (&self.writer.node, signer, &recipient))?;
        done.knows_others = self.admit_members(name, &full)?;
        // Vaults that are made at other nodes get it from there.
        if let Some(fleet) = self.fleet()
            && full.authority_seed.is_some()
        {
            fleet.seal_recovery(&full, &recovery.recipient())?;
        }
        // Only now: until a vault has the admin key for the recovery key, the node has the only one.
        let mut identity = lock(&self.identity);
        if identity.bundle.as_ref().is_some_and(|bundle| bundle.admin_seed.is_some()) {
            identity.keep_bundle(full.without_admin())?;
        }
        drop(identity);
        for other in self.config.vaults.keys().map(|other| other.as_str()).filter(|other| *other != name) {
            match self.give_recovery_if_there(other, &recovery, &full) {
                Ok(true) => done.opened.push(other.to_owned()),
                Ok(false) => {}
                Err(failure) => done.left.push((other.to_owned(), failure)),
            }
        }
        Ok(())
    }

    /// Gives the recovery key in this file to all vaults that are there: those that have it now and had not before, and those that
    /// could not get it, and why.
    pub fn give_recovery_where_there(
        &self,
        file: &Path,
        full: &Bundle,
    ) -> Result<Vec<(String, Failure)>, Failure> {
        let recovery = recovery_file::read_or_make(file)?;
        let mut left = Vec::new();
        // What was never seen here can only be a directory that another process has made.
        let may_be_there = |(name, vault): &(&VaultName, &VaultConfig)| {
            matches!(vault.kind, VaultKind::Dir(_)) || self.known_id(name.as_str()).is_some()
        };
        for (name, _) in self.config.vaults.iter().filter(may_be_there) {
            if let Err(failure) = self.give_recovery_if_there(name.as_str(), &recovery, full) {
                left.push((name.to_string(), failure));
            }
        }
        Ok(left)
    }

    /// One that was never made, or belongs to another domain, needs nothing.
    fn give_recovery_if_there(
        &self,
        name: &str,
        recovery: &AgeIdentity,
        full: &Bundle,
    ) -> Result<bool, Failure> {
        let found = Vault::peek(&self.store(name)?, &self.io)?;
        let is_known = self.known_id(name).is_some();
        match found {
            None if !is_known => Ok(false),
            Some(found) if found.format().domain != full.domain && !is_known => Ok(false),
            _ => self.give_recovery(name, recovery, full),
        }
    }

    /// Sees to it that the recovery key opens everything in a vault, and the node's own key all but the admin key.
    /// Says whether anything was missing.
    fn give_recovery(&self, name: &str, recovery: &AgeIdentity, full: &Bundle) -> Result<bool, Failure> {
        let vault = self.open(name, Absent::Refuse)?;
        let store = self.store(name)?;
        let has_admin = |identity: &AgeIdentity| -> Result<Option<bool>, Failure> {
            let found = VaultKeys::recover(&store, &self.io, identity)?;
            Ok(found.map(|bundle| bundle.admin_seed.is_some()))
        };
        // One from before a rotation lacks what is sealed since.
        let found = VaultKeys::recover(&store, &self.io, recovery)?;
        let is_whole = |found: &Bundle| found.admin_seed.is_some() && !full.continues(found);
        let is_missing = !found.as_ref().is_some_and(is_whole);
        if is_missing {
            VaultKeys::add(&vault, RECOVERY_HOLDER, &recovery.recipient(), full)?;
        }
        let identity = lock(&self.identity);
        let is_too_much = has_admin(&identity.age)? != Some(false);
        if is_too_much {
            let node = self.config.node.name.as_str();
            VaultKeys::add(&vault, node, &identity.age.recipient(), &full.without_admin())?;
        }
        Ok(is_missing || is_too_much)
    }

    /// The bundle with the admin's private key, which the recovery key in this file opens in one of the vaults.
    fn with_admin(&self, bundle: &Bundle, file: &Path) -> Result<Bundle, Failure> {
        let identity = recovery_file::read(file)?.ok_or_else(|| {
            Failure::failed(format!(
                "there is no {}, and the domain has a recovery key already, which alone has the admin key: give the file that was written then. Nothing was changed",
                file.display()
            ))
        })?;
        // What this node has got of the fleet is at hand without any vault.
        let sealed = self.fleet().and_then(|fleet| fleet.roster().recovery.clone());
        if let Some(found) = sealed.and_then(|sealed| unwrap_bundle(&sealed, &identity).ok())
            && found.domain == bundle.domain
            && found.admin_seed.is_some()
        {
            let all = bundle.joined_with(&found).unwrap_or_else(|| bundle.clone());
            return Ok(Bundle { admin_seed: found.admin_seed, authority_seed: found.authority_seed, ..all });
        }
        for name in self.config.vaults.keys() {
            let Ok(store) = self.store(name.as_str()) else { continue };
            match VaultKeys::recover(&store, &self.io, &identity) {
                Ok(Some(found)) if found.domain == bundle.domain && found.admin_seed.is_some() => {
                    // It may be from before a rotation that was interrupted, or one that this node has not seen.
                    let all = bundle.joined_with(&found).unwrap_or_else(|| bundle.clone());
                    let authority_seed = found.authority_seed;
                    return Ok(Bundle { admin_seed: found.admin_seed, authority_seed, ..all });
                }
                _ => {}
            }
        }
        Err(Failure::failed(format!(
            "{} opens no vault that can be reached: another recovery key was made before, or the vault that has it is not mounted; give that key, or mount that vault. Nothing was changed",
            file.display()
        )))
    }
}

/// Name of the recovery key's object in `keys/`.
pub const RECOVERY_HOLDER: &str = "recovery";

/// A folder that holds something else does not become a vault.
pub fn refuse_foreign_folder(name: &str, path: &Path) -> Result<(), Failure> {
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
