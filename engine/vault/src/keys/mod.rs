//! Keys of a domain: what they are, how a bundle carries them, how it is wrapped, who signs
//! (docs/format.md, section 2). Owns no files: where bundles lie is the business of others.

pub mod armor;
mod bundle;
mod key_file;
mod ring;
mod secret;
mod signer;
mod wrap;

pub use bundle::{Bundle, BundleError, Epoch, FormerKeys, Role};
pub use key_file::{BucketKey, KeyFile};
pub use ring::{KeyRing, MissingKey};
pub use secret::{Secret, random_bytes};
pub use signer::{BadSignature, Signature, Signer, verify};
pub use wrap::{
    AgeIdentity, WrapError, open_with_passphrase, seal_to_passphrase, unwrap_bundle, wrap_bundle,
    wrap_bundle_to_passphrase,
};
