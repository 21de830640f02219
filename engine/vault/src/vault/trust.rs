//! Reading of the chain of trust: who may do what now, and who was custodian in which term (docs/format.md, section
//! 3). Refuses a chain that has a gap, is not the admin's, or gives one term to two nodes.

use std::collections::BTreeMap;

use backstay_core::id::{ObjectHash, SignerKey};

use super::Vault;
use super::objects::hash_of;
use super::unopened::Unopened;
use crate::clear::{self, ClearKind, Custodian, TrustObject, TrustedNode};
use crate::error::VaultError;
use crate::keys::{KeyRing, Signer};
use crate::malformed::Malformed;
use crate::name::Named;
use crate::store::{Listed, Operation, StoreError, StoreErrorKind};

/// Most objects of `trust/`: a longer chain is refused, since its end says who may write now.
const CHAIN_MAX: usize = 100_000;

/// What the chain of trust says.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) newest: TrustObject,
    /// Hash of its object.
    hash: ObjectHash,
    pub(super) custodians: Custodians,
}

impl Trust {
    /// Follows the chain from the first object to the newest, each signed by the admin.
    pub(super) fn read(unopened: Unopened<'_>, ring: &KeyRing) -> Result<Self, VaultError> {
        Self::of(unopened, ring, &unopened.list("trust")?)
    }

    /// The same of these objects, which are all that there are.
    pub(super) fn of(unopened: Unopened<'_>, ring: &KeyRing, listed: &[Listed]) -> Result<Self, VaultError> {
        let mut newest: Option<TrustObject> = None;
        let mut custodians = Custodians::default();
        let mut hash = None;
        if let Some(beyond) = listed.get(CHAIN_MAX) {
            return Err(
                unopened.damaged(&beyond.name, Malformed::Field("place beyond the longest chain of trust"))
            );
        }
        for (n, object) in (1u64..).zip(listed) {
            let content = unopened.get(&object.name)?;
            let read = clear::read::<TrustObject>(ClearKind::Trust, &content);
            let (trust, signer) = read.map_err(|cause| unopened.damaged(&object.name, cause))?;
            if signer != ring.admin() {
                let (object, place) = (object.name.to_string(), unopened.store.place());
                return Err(VaultError::Untrusted { object, place, signer });
            }
            if trust.n != n || trust.previous != hash || object.named != Named::Trust(n) {
                return Err(unopened.damaged(&object.name, Malformed::Field("place in the chain of trust")));
            }
            custodians.add(&trust).map_err(|cause| unopened.damaged(&object.name, cause))?;
            hash = Some(hash_of(&content));
            newest = Some(trust);
        }
        let newest = newest.zip(hash).ok_or_else(|| StoreError {
            operation: Operation::Get,
            object: Named::Trust(1).to_name().to_string(),
            place: unopened.store.place(),
            kind: StoreErrorKind::NotFound,
            cause: "the vault has no trust object".into(),
        })?;
        Ok(Self { newest: newest.0, hash: newest.1, custodians })
    }
}

impl Vault {
    /// Whether the chain of trust says more than when the vault was opened. Who wants to know what has to open it again.
    pub fn trust_has_grown(&self) -> Result<bool, VaultError> {
        let newest = Unopened { store: &self.store, io: &self.io }.newest("trust")?;
        Ok(newest.is_some_and(|newest| newest.named != Named::Trust(self.trust.newest.n)))
    }

    /// Makes this node the custodian, for the next term, and one that may write what `node` says if it was not known by
    /// this key. The former one's credentials must be revoked before: a process of his that runs on would delete by
    /// what it knows (docs/collection.md, "What was found harmless"). Returns the term. Everybody has to open the vault
    /// again.
    ///
    /// # Errors
    /// Also when somebody else has written to `trust/` at the same time.
    pub fn take_custody(&self, admin: &Signer, node: TrustedNode) -> Result<u64, VaultError> {
        let trust = self.trust_now()?;
        self.append_trust(admin, trust, node, true)
    }

    /// Has a node that was built anew be known by its new key as well, with the rights that it had. Where it is the custodian, it is
    /// that by its new key alone, in the next term. Whether there was anything to do: not for one that is known by this key, and
    /// not for one that was never known. Everybody has to open the vault again.
    ///
    /// # Errors
    /// Also when somebody else has written to `trust/` at the same time.
    pub fn admit_anew(
        &self,
        admin: &Signer,
        name: &str,
        signer: SignerKey,
        recipient: &str,
    ) -> Result<bool, VaultError> {
        let trust = self.trust_now()?;
        let (nodes, custodian) = (&trust.newest.nodes, &trust.newest.custodian);
        let is_known = nodes.iter().any(|known| known.name == name && known.signer == signer);
        let Some(former) = nodes.iter().rfind(|known| known.name == name).filter(|_| !is_known) else {
            return Ok(false);
        };
        let anew = TrustedNode { signer, recipient: recipient.to_owned(), ..former.clone() };
        let is_custodian = custodian.node == name;
        self.append_trust(admin, trust, anew, is_custodian)?;
        Ok(true)
    }

    /// Has a node be known that was not, so that it may write what `node` says. Whether there was anything to do. Everybody has to
    /// open the vault again.
    ///
    /// # Errors
    /// Also when somebody else has written to `trust/` at the same time.
    pub fn admit(&self, admin: &Signer, node: TrustedNode) -> Result<bool, VaultError> {
        let trust = self.trust_now()?;
        if trust.newest.nodes.iter().any(|known| known.signer == node.signer) {
            return Ok(false);
        }
        self.append_trust(admin, trust, node, false)?;
        Ok(true)
    }

    /// Writes the next object of the chain, in which this node is known, and custodian if that is said; the term.
    fn append_trust(
        &self,
        admin: &Signer,
        trust: Trust,
        node: TrustedNode,
        is_custodian: bool,
    ) -> Result<u64, VaultError> {
        self.may_be_written()?;
        let unopened = Unopened { store: &self.store, io: &self.io };
        if admin.public() != self.ring.admin() {
            let (object, signer) = (Named::Trust(trust.newest.n + 1).to_name(), admin.public());
            return Err(VaultError::Untrusted { object: object.to_string(), place: self.place(), signer });
        }
        let custodian = match is_custodian {
            true => {
                let (term, signer) = (trust.newest.custodian.term + 1, Some(node.signer));
                Custodian { node: node.name.clone(), term, signer }
            }
            false => trust.newest.custodian,
        };
        let mut nodes = trust.newest.nodes;
        match nodes.iter_mut().find(|known| known.signer == node.signer) {
            // What it may write is not for a take-over to change.
            Some(known) => (known.recipient, known.role) = (node.recipient, node.role),
            // Under its old key a node stays known: what it has signed is to be read.
            None => nodes.push(node),
        }
        let next = TrustObject { n: trust.newest.n + 1, previous: Some(trust.hash), nodes, custodian };
        let name = Named::Trust(next.n).to_name();
        let object = clear::sign(admin, ClearKind::Trust, &next);
        match unopened.get(&name) {
            Err(error) if error.is_not_found() => {}
            other => {
                other?;
                return Err(VaultError::TrustMoved { place: self.place() });
            }
        }
        unopened.put(&name, object.clone())?;
        match unopened.get(&name)? == object {
            true => Ok(next.custodian.term),
            false => Err(VaultError::TrustMoved { place: self.place() }),
        }
    }

    /// Whether the chain of trust ends with the object that was its newest when the vault was opened: that names those before it by
    /// their hashes.
    pub(super) fn trust_is_as_opened(&self) -> Result<bool, VaultError> {
        let unopened = Unopened { store: &self.store, io: &self.io };
        match unopened.newest("trust")? {
            Some(newest) if newest.named == Named::Trust(self.trust.newest.n) => {
                Ok(hash_of(&unopened.get(&newest.name)?) == self.trust.hash)
            }
            _ => Ok(false),
        }
    }

    /// What the chain of trust says now: it may have grown since the vault was opened.
    pub(super) fn trust_now(&self) -> Result<Trust, VaultError> {
        Trust::read(Unopened { store: &self.store, io: &self.io }, &self.ring)
    }
}

/// Who was custodian in which term.
#[derive(Debug, Default)]
pub(super) struct Custodians(BTreeMap<u64, Tenure>);

/// A node in one term, with every key by which `trust/` has known it then.
#[derive(Debug)]
struct Tenure {
    node: String,
    keys: Vec<SignerKey>,
}

impl Custodians {
    /// Whether the signer is or was custodian in this term.
    pub(super) fn include(&self, term: u64, signer: &SignerKey) -> bool {
        self.0.get(&term).is_some_and(|tenure| tenure.keys.contains(signer))
    }

    /// Takes in the next object of the chain.
    fn add(&mut self, trust: &TrustObject) -> Result<(), Malformed> {
        let custodian = &trust.custodian;
        if self.0.last_key_value().is_some_and(|(newest, _)| custodian.term < *newest) {
            return Err(Malformed::Field("term of the custodian"));
        }
        let tenure = self.0.entry(custodian.term);
        let tenure = tenure.or_insert_with(|| Tenure { node: custodian.node.clone(), keys: Vec::new() });
        if tenure.node != custodian.node {
            return Err(Malformed::Field("custodian, which changes within a term,"));
        }
        let is_its = |signer: &SignerKey| custodian.signer.is_none_or(|own| own == *signer);
        let listed = trust.nodes.iter().filter(|node| node.name == custodian.node && is_its(&node.signer));
        tenure.keys.extend(listed.map(|node| node.signer));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clear::{Custodian, TrustedNode};

    fn key(n: u8) -> SignerKey {
        SignerKey::new([n; 32])
    }

    fn trust(custodian: &str, term: u64, nodes: &[(&str, u8)]) -> TrustObject {
        let node = |(name, n): &(&str, u8)| TrustedNode {
            name: (*name).into(),
            signer: key(*n),
            recipient: String::new(),
            writes: vec![],
            role: None,
        };
        let custodian = Custodian { node: custodian.into(), term, signer: None };
        TrustObject { n: 1, previous: None, nodes: nodes.iter().map(node).collect(), custodian }
    }

    #[test]
    fn a_custodian_is_known_by_the_keys_that_it_had_in_its_term() {
        let mut custodians = Custodians::default();
        for object in [
            trust("one", 1, &[("one", 1), ("two", 2)]),
            trust("one", 1, &[("one", 11), ("two", 2)]),
            trust("two", 2, &[("two", 2), ("one", 21)]),
            trust("two", 2, &[("two", 2)]),
        ] {
            custodians.add(&object).expect("a good chain");
        }
        let include = |term, keys: [u8; 4]| keys.map(|n| custodians.include(term, &key(n)));
        assert_eq!(include(1, [1, 11, 21, 2]), [true, true, false, false]);
        assert_eq!(include(2, [1, 11, 21, 2]), [false, false, false, true]);
        assert_eq!(include(3, [1, 11, 21, 2]), [false; 4]);
    }

    #[test]
    fn a_node_that_was_built_anew_is_custodian_by_its_new_key_alone() {
        let mut custodians = Custodians::default();
        let mut anew = trust("one", 2, &[("one", 1), ("one", 11)]);
        anew.custodian.signer = Some(key(11));
        for object in [trust("one", 1, &[("one", 1)]), anew] {
            custodians.add(&object).expect("a good chain");
        }
        let include = |term, keys: [u8; 2]| keys.map(|n| custodians.include(term, &key(n)));
        assert_eq!((include(1, [1, 11]), include(2, [1, 11])), ([true, false], [false, true]));
    }

    #[test]
    fn a_term_that_falls_or_has_two_custodians_is_refused() {
        for (custodian, term) in [("two", 4), ("one", 3)] {
            let mut custodians = Custodians::default();
            custodians.add(&trust("one", 4, &[("one", 1)])).expect("the first");
            let refused = custodians.add(&trust(custodian, term, &[("one", 1), ("two", 2)]));
            assert!(matches!(refused, Err(Malformed::Field(_))), "{refused:?}");
        }
    }
}
