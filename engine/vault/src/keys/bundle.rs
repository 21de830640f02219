//! The key bundle: all keys that one holder has, as JSON, so that `age -d` alone recovers them.

use backstay_core::id::{DomainId, KeyId, SignerKey};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::secret::{Secret, random_bytes};
use super::signer::Signer;

/// Greatest bundle that is read, bytes.
const BUNDLE_BYTES_MAX: usize = 1 << 20;

/// What the holder of a bundle can do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Role {
    /// Reads and writes everything.
    #[n(0)]
    Full,
    /// Folds metadata and moves sealed records; cannot read payload.
    #[n(1)]
    Custodian,
}

/// What becomes of the epochs before when a new one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormerKeys {
    /// Writers count on what they have sealed, as before.
    Trusted,
    /// Somebody else may have them: for writers, what they have sealed is not there.
    Compromised,
}

/// One epoch of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Names it in records and envelopes.
    #[serde(serialize_with = "print", deserialize_with = "parse")]
    pub key_id: KeyId,
    /// The key.
    #[serde(with = "secret_hex")]
    pub key: Secret,
}

impl Epoch {
    fn random() -> Self {
        Self { key_id: KeyId::new(random_bytes()), key: Secret::random() }
    }
}

/// The keys of a domain, as one holder has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of the bundle's form.
    pub backstay_bundle: u32,
    /// The domain.
    #[serde(serialize_with = "print", deserialize_with = "parse")]
    pub domain: DomainId,
    /// Public key that signs `format/` and `trust/`.
    #[serde(serialize_with = "print", deserialize_with = "parse")]
    pub admin: SignerKey,
    /// What the holder can do.
    pub role: Role,
    /// Names data chunks; absent for a custodian.
    #[serde(with = "secret_hex_option", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Secret>,
    /// Chooses boundaries; absent for a custodian.
    #[serde(with = "secret_hex_option", default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Secret>,
    /// Names metadata chunks.
    #[serde(with = "secret_hex")]
    pub meta_id: Secret,
    /// Epochs that seal payload, the last one in use; empty for a custodian.
    #[serde(default)]
    pub data: Vec<Epoch>,
    /// Epochs that seal metadata, the last one in use.
    pub meta: Vec<Epoch>,
    /// Epochs of both kinds that somebody else may have, by their ids: a custodian has no data epochs, and must tell them
    /// apart all the same. Never one that is in use.
    #[serde(with = "key_ids", default, skip_serializing_if = "Vec::is_empty")]
    pub compromised: Vec<KeyId>,
    /// Private seed of the admin key: in a recovery's bundle, and until there is one on the first node.
    #[serde(with = "secret_hex_option", default, skip_serializing_if = "Option::is_none")]
    pub admin_seed: Option<Secret>,
    /// Private seed of the fleet's authority, where the domain belongs to a fleet of several nodes: beside the admin's seed.
    #[serde(with = "secret_hex_option", default, skip_serializing_if = "Option::is_none")]
    pub authority_seed: Option<Secret>,
}

/// Why a bundle is unusable.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle.
    #[error(
        "the key bundle cannot be read: {0}; it must be the unchanged output of `age -d` on a file of the vault's `keys/`"
    )]
    Malformed(String),
    /// Made by a later version.
    #[error("the key bundle has version {0}, this backstay reads version 0; install a newer backstay")]
    Newer(u32),
}

impl Bundle {
    /// Fresh random keys for a new domain, together with its admin key.
    pub fn generate() -> Self {
        let admin_seed = Secret::random();
        Self {
            backstay_bundle: 0,
            domain: DomainId::new(random_bytes()),
            admin: Signer::from_seed(&admin_seed).public(),
            role: Role::Full,
            id: Some(Secret::random()),
            cut: Some(Secret::random()),
            meta_id: Secret::random(),
            data: vec![Epoch::random()],
            meta: vec![Epoch::random()],
            compromised: Vec::new(),
            admin_seed: Some(admin_seed),
            authority_seed: None,
        }
    }

    /// The same keys without the seeds of the admin and of the fleet's authority.
    pub fn without_admin(&self) -> Self {
        Self { admin_seed: None, authority_seed: None, ..self.clone() }
    }

    /// What a custodian gets, which may not read payload: it folds metadata and moves sealed records.
    pub fn for_custodian(&self) -> Self {
        Self {
            role: Role::Custodian,
            id: None,
            cut: None,
            data: Vec::new(),
            admin_seed: None,
            authority_seed: None,
            ..self.clone()
        }
    }

    /// The same with a new epoch: what is sealed from now on does not open with the keys of before. What was sealed before
    /// stays readable, and chunks are known by the same ids. Epochs that were marked as compromised stay so.
    pub fn with_new_epoch(&self, former: FormerKeys) -> Self {
        let mut next = self.clone();
        if former == FormerKeys::Compromised {
            next.compromised.extend(self.data.iter().chain(&self.meta).map(|epoch| epoch.key_id));
            next.compromised.sort_unstable();
            next.compromised.dedup();
        }
        next.meta.push(Epoch::random());
        if self.role == Role::Full {
            next.data.push(Epoch::random());
        }
        next
    }

    /// Whether this opens and names all that the other does, of whatever role that is.
    pub fn does_for(&self, other: &Self) -> bool {
        let has = |own: &Option<Secret>, others: &Option<Secret>| others.is_none() || own == others;
        let names = |bundle: &Self| (bundle.domain, bundle.admin, bundle.meta_id.clone());
        names(self) == names(other)
            && has(&self.id, &other.id)
            && has(&self.cut, &other.cut)
            && self.covers(other)
    }

    /// Whether this has all that the other has, and more.
    pub fn continues(&self, other: &Self) -> bool {
        self.is_of_same(other) && self.covers(other) && !other.covers(self)
    }

    /// The keys of both, if the other has any that this one lacks: epochs or marks, which are never taken back. What is
    /// in use is the other's if whoever made that knew what is in use here, else this one's: nodes that begin epochs at
    /// the same time lose none. `None`, too, if the other was not made by who has the keys that never change: bundles are
    /// not signed, and anybody who writes to a vault can put one there, as can a custodian, who has the keys of metadata.
    /// And if it marks what is in use and was made by who does not know that.
    pub fn joined_with(&self, other: &Self) -> Option<Self> {
        if !self.is_of_same(other) || self.covers(other) {
            return None;
        }
        let (newer, older) = if other.knows_what_is_used_by(self) { (other, self) } else { (self, other) };
        let mut joined = newer.clone();
        joined.data = with_epochs_of(&newer.data, &older.data);
        joined.meta = with_epochs_of(&newer.meta, &older.meta);
        joined.compromised.extend(&older.compromised);
        joined.compromised.sort_unstable();
        joined.compromised.dedup();
        joined.admin_seed = self.admin_seed.clone().or_else(|| other.admin_seed.clone());
        joined.authority_seed = self.authority_seed.clone().or_else(|| other.authority_seed.clone());
        match joined.check_keys_in_use() {
            Ok(()) => Some(joined),
            Err(_) => {
                tracing::warn!("a key bundle that marks keys in use which it does not have was left out");
                None
            }
        }
    }

    fn knows_what_is_used_by(&self, other: &Self) -> bool {
        other.data.last().is_none_or(|epoch| self.data.contains(epoch))
            && other.meta.last().is_none_or(|epoch| self.meta.contains(epoch))
    }

    /// Whether both stem from the same keys: those that never change, and the first epochs.
    fn is_of_same(&self, other: &Self) -> bool {
        let names = |bundle: &Self| (bundle.domain, bundle.admin, bundle.role);
        let keys = |bundle: &Self| (bundle.id.clone(), bundle.cut.clone(), bundle.meta_id.clone());
        let first = |bundle: &Self| (bundle.data.first().cloned(), bundle.meta.first().cloned());
        names(self) == names(other) && keys(self) == keys(other) && first(self) == first(other)
    }

    fn covers(&self, other: &Self) -> bool {
        other.data.iter().all(|epoch| self.data.contains(epoch))
            && other.meta.iter().all(|epoch| self.meta.contains(epoch))
            && other.compromised.iter().all(|key| self.compromised.contains(key))
    }

    /// Nothing that is stored would ever be there for the next capture.
    fn check_keys_in_use(&self) -> Result<(), BundleError> {
        let mut in_use = self.data.last().into_iter().chain(self.meta.last());
        match in_use.any(|epoch| self.compromised.contains(&epoch.key_id)) {
            true => Err(BundleError::Malformed("a key that is in use is marked as compromised".into())),
            false => Ok(()),
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(serde_json::to_vec_pretty(self).expect("a bundle has only texts and numbers"))
    }

    /// Reads the JSON form.
    pub fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        if json.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Malformed("it is larger than 1 MiB".into()));
        }
        let bundle: Self = serde_json::from_slice(json).map_err(|e| BundleError::Malformed(e.to_string()))?;
        if bundle.backstay_bundle != 0 {
            return Err(BundleError::Newer(bundle.backstay_bundle));
        }
        let payload = [bundle.id.is_some(), bundle.cut.is_some(), !bundle.data.is_empty()];
        if bundle.meta.is_empty() || payload != [bundle.role == Role::Full; 3] {
            return Err(BundleError::Malformed("keys are missing for its role".into()));
        }
        bundle.check_keys_in_use()?;
        Ok(bundle)
    }
}

/// These epochs with those of the others that they lack, the same one in use.
fn with_epochs_of(epochs: &[Epoch], others: &[Epoch]) -> Vec<Epoch> {
    let lacking = others.iter().filter(|epoch| !epochs.contains(epoch));
    let Some((in_use, before)) = epochs.split_last() else { return epochs.to_vec() };
    before.iter().chain(lacking).chain([in_use]).cloned().collect()
}

fn print<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn parse<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

mod secret_hex {
    use backstay_core::id::ChunkId;
    use serde::{Deserializer, Serializer};

    use super::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        // Any 32 byte identifier prints the hex form.
        serializer.collect_str(&ChunkId::new(*secret.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        super::parse::<ChunkId, D>(deserializer).map(|id| Secret::new(*id.as_bytes()))
    }
}

mod key_ids {
    use backstay_core::id::KeyId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(ids: &[KeyId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(KeyId::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyId>, D::Error> {
        let texts: Vec<String> = Vec::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

mod secret_hex_option {
    use serde::{Deserializer, Serializer};

    use super::{Secret, secret_hex};

    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => secret_hex::serialize(secret, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        secret_hex::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_reads_back_and_leaves_out_the_admin_seed_when_told() {
        let bundle = Bundle::generate();
        assert_eq!(Bundle::from_json(&bundle.to_json()).expect("reads"), bundle);
        let json = String::from_utf8(bundle.without_admin().to_json().to_vec()).expect("text");
        assert!(!json.contains("admin_seed"), "{json}");
    }

    #[test]
    fn a_new_epoch_continues_the_ones_before() {
        let bundle = Bundle::generate();
        let next = bundle.with_new_epoch(FormerKeys::Trusted);
        assert!(next.continues(&bundle) && !bundle.continues(&next) && !bundle.continues(&bundle));
        assert_eq!((next.data.len(), next.meta.len()), (2, 2));
        assert_eq!((&next.id, &next.cut, next.domain), (&bundle.id, &bundle.cut, bundle.domain));
        let other = Bundle::generate().with_new_epoch(FormerKeys::Trusted);
        assert!(!other.continues(&bundle), "of another domain");
    }

    #[test]
    fn epochs_that_are_compromised_stay_so_in_every_bundle_of_the_domain() {
        let bundle = Bundle::generate();
        let next = bundle.with_new_epoch(FormerKeys::Compromised);
        let marks = |bundle: &Bundle| bundle.compromised.clone();
        let mut both = vec![bundle.data[0].key_id, bundle.meta[0].key_id];
        both.sort_unstable();
        assert_eq!(marks(&next), both);
        let later = next.with_new_epoch(FormerKeys::Trusted);
        assert_eq!((marks(&later), marks(&later.for_custodian())), (both.clone(), both));
        assert_eq!(marks(&later.with_new_epoch(FormerKeys::Compromised)).len(), 6);
        assert_eq!(Bundle::from_json(&later.to_json()).expect("reads"), later);
        let unmarked = Bundle { compromised: Vec::new(), ..later.clone() };
        assert!(later.continues(&next) && !unmarked.continues(&next), "marks are never taken back");
    }

    #[test]
    fn epochs_that_two_nodes_begin_at_the_same_time_are_all_kept() {
        let bundle = Bundle::generate();
        let [one, other] = [(); 2].map(|()| bundle.with_new_epoch(FormerKeys::Compromised));
        let joined = one.joined_with(&other).expect("the other has keys that it lacks");
        assert!(joined.continues(&one) && joined.continues(&other));
        assert_eq!((joined.data.last(), joined.meta.last()), (one.data.last(), one.meta.last()));
        assert_eq!(Bundle::from_json(&joined.to_json()).expect("reads"), joined);
        assert_eq!(other.joined_with(&joined), Some(joined.clone()), "a newer one is taken as it is");
        assert_eq!(joined.joined_with(&other), None, "there is nothing to take");
    }

    #[test]
    fn a_compromise_that_a_node_tells_counts_for_who_has_keys_that_it_does_not_know() {
        let first = Bundle::generate();
        let [one, other] = [(); 2].map(|()| first.with_new_epoch(FormerKeys::Trusted));
        let joined = other.joined_with(&one).expect("has more");
        assert_eq!(joined.data.last(), other.data.last());
        let told = other.with_new_epoch(FormerKeys::Compromised);
        let after = joined.joined_with(&told).expect("has more");
        assert_eq!((after.data.last(), after.data.len()), (told.data.last(), 4));
        assert!(after.continues(&joined) && after.continues(&told));
        // Whoever does not have the key in use says nothing of it: ids of keys can be seen by all.
        let former =
            Bundle { compromised: vec![after.data[3].key_id], ..first.with_new_epoch(FormerKeys::Trusted) };
        assert_eq!(after.joined_with(&former), None);
    }

    #[test]
    fn a_bundle_that_a_custodian_has_made_up_is_not_taken() {
        let bundle = Bundle::generate();
        let its = bundle.for_custodian().with_new_epoch(FormerKeys::Trusted);
        let its_own = Bundle::generate();
        let data = vec![its_own.data[0].clone()];
        let made_up = Bundle { role: Role::Full, data, id: its_own.id, cut: its_own.cut, ..its };
        assert_eq!(Bundle::from_json(&made_up.to_json()).expect("has the form of one"), made_up);
        assert!(bundle.joined_with(&made_up).is_none() && !made_up.continues(&bundle));
    }

    #[test]
    fn a_bundle_whose_key_in_use_is_marked_is_refused() {
        let next = Bundle::generate().with_new_epoch(FormerKeys::Compromised);
        for in_use in [next.data[1].key_id, next.meta[1].key_id] {
            let marked = Bundle { compromised: vec![in_use], ..next.clone() };
            assert!(matches!(Bundle::from_json(&marked.to_json()), Err(BundleError::Malformed(_))));
        }
    }

    #[test]
    fn a_custodian_has_no_key_to_payload() {
        let bundle = Bundle::generate().for_custodian();
        assert_eq!(Bundle::from_json(&bundle.to_json()).expect("fits its role"), bundle);
        assert!(bundle.data.is_empty() && bundle.id.is_none() && bundle.admin_seed.is_none());
        assert!(bundle.with_new_epoch(FormerKeys::Trusted).data.is_empty());
    }

    #[test]
    fn a_newer_or_broken_bundle_is_refused() {
        let mut bundle = Bundle::generate();
        bundle.backstay_bundle = 1;
        assert!(matches!(Bundle::from_json(&bundle.to_json()), Err(BundleError::Newer(1))));
        assert!(matches!(Bundle::from_json(b"{}"), Err(BundleError::Malformed(_))));
        for role in [Role::Full, Role::Custodian] {
            let unfit = Bundle { role, cut: None, ..Bundle::generate() };
            assert!(
                matches!(Bundle::from_json(&unfit.to_json()), Err(BundleError::Malformed(_))),
                "{role:?}"
            );
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert!(format!("{:?}", Bundle::generate()).contains("Secret(…)"));
    }
}
