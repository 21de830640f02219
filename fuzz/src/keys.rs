//! Keys that everybody knows, so that kept inputs stay valid.

use std::sync::LazyLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use backstay_core::id::{DomainId, KeyId};
use backstay_testkit::fixture::VaultFixture;
use backstay_vault::keys::{AgeIdentity, Bundle, Epoch, KeyRing, Role, Secret, Signer};

/// The domain.
pub const DOMAIN: [u8; 16] = [1; 16];

/// Seals payload, and names its epoch.
pub const DATA_KEY: u8 = 5;

/// Seals metadata, and names its epoch.
pub const META_KEY: u8 = 6;

/// The keys.
pub fn bundle() -> Bundle {
    let epoch = |byte: u8| Epoch { key_id: KeyId::new([byte; 16]), key: Secret::new([byte; 32]) };
    let admin_seed = Secret::new([7; 32]);
    Bundle {
        backstay_bundle: 0,
        domain: DomainId::new(DOMAIN),
        admin: Signer::from_seed(&admin_seed).public(),
        role: Role::Full,
        id: Some(Secret::new([2; 32])),
        cut: Some(Secret::new([3; 32])),
        meta_id: Secret::new([4; 32]),
        data: vec![epoch(DATA_KEY)],
        meta: vec![epoch(META_KEY)],
        compromised: Vec::new(),
        authority_seed: None,
        admin_seed: Some(admin_seed),
    }
}

/// The keys, ready for use.
pub static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::new(&bundle()));

/// The keys with a node and its threads.
pub static FIXTURE: LazyLock<VaultFixture> =
    LazyLock::new(|| VaultFixture::with_keys(bundle(), &Secret::new([8; 32]), AgeIdentity::generate()));

/// Seals as records and footers are sealed: under the keyed hash, by an epoch's key, of `derived_from`.
pub fn seal(
    epoch: u8,
    derived_from: &[&[u8]],
    nonce: [u8; 12],
    associated: &[&[u8]],
    plain: &[u8],
) -> Vec<u8> {
    let key = *blake3::keyed_hash(&[epoch; 32], &derived_from.concat()).as_bytes();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"));
    let mut sealed = plain.to_vec();
    let aad = Aad::from(associated.concat());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).expect("short");
    sealed
}
