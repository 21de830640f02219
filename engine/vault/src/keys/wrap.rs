//! Wrapping of bundles as age files, to X25519 identities.

use std::str::FromStr;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::bundle::{Bundle, BundleError};

/// How much work it is to try a passphrase, as the power of two that age has for it: a second, and 256 MiB of memory.
const WORK_FACTOR: u8 = 18;

/// The most that is done to open something: sixteen times as much.
const WORK_FACTOR_MAX: u8 = 22;

/// Greatest wrapped bundle that is read, bytes.
const WRAPPED_BYTES_MAX: usize = 2 << 20;

/// An age X25519 identity: opens what was wrapped to it.
#[derive(Clone)]
pub struct AgeIdentity(age::x25519::Identity);

impl AgeIdentity {
    /// A new random identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The public half, `age1…`.
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The text of an identity file, as `age -i` takes it: a comment with the recipient, and the secret.
    pub fn to_file(&self) -> String {
        format!("# public key: {}\n{}\n", self.recipient(), self.0.to_string().expose_secret())
    }

    /// The secret alone, which an identity file may consist of.
    pub fn secret(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Reads an identity file: lines of `#` comments and one secret.
    pub fn from_file(text: &str) -> Result<Self, WrapError> {
        let secret = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let identity = age::x25519::Identity::from_str(secret.ok_or(WrapError::NotAnIdentity)?);
        identity.map(Self).map_err(|_| WrapError::NotAnIdentity)
    }
}

impl std::fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AgeIdentity").field(&self.recipient()).finish()
    }
}

/// Why a bundle could not be wrapped or opened.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// Not an age identity file.
    #[error("not an age identity: expected a line `AGE-SECRET-KEY-1…`")]
    NotAnIdentity,
    /// Not an age recipient.
    #[error("not an age recipient: {0:?}; expected `age1…`")]
    NotARecipient(String),
    /// The file is sealed to other identities, or damaged.
    #[error("the wrapped keys do not open with this identity ({0}): it is another key's file, or damaged")]
    Locked(String),
    /// The passphrase is another one.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    /// It is not what a passphrase opens.
    #[error("it is not sealed with a passphrase, or damaged: {0}")]
    NotSealed(String),
    /// What was inside is not a usable bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Wraps a bundle to one recipient: an age file.
pub fn wrap_bundle(bundle: &Bundle, recipient: &str) -> Result<Vec<u8>, WrapError> {
    let to = age::x25519::Recipient::from_str(recipient)
        .map_err(|_| WrapError::NotARecipient(recipient.to_owned()))?;
    age::encrypt(&to, &bundle.to_json()).map_err(|e| WrapError::Locked(e.to_string()))
}

/// Wraps a bundle to a passphrase: an age file that `age -d` opens.
pub fn wrap_bundle_to_passphrase(bundle: &Bundle, passphrase: &str) -> Result<Vec<u8>, WrapError> {
    let to = age::scrypt::Recipient::new(passphrase.to_owned().into());
    age::encrypt(&to, &bundle.to_json()).map_err(|e| WrapError::Locked(e.to_string()))
}

/// Seals any text to a passphrase: an age file that `age -d` opens. Guessing takes the same effort whichever machine has sealed it.
///
/// # Errors
/// [`WrapError::Locked`], should the system have no randomness.
pub fn seal_to_passphrase(text: &[u8], passphrase: &str) -> Result<Vec<u8>, WrapError> {
    let mut to = age::scrypt::Recipient::new(passphrase.to_owned().into());
    to.set_work_factor(WORK_FACTOR);
    age::encrypt(&to, text).map_err(|e| WrapError::Locked(e.to_string()))
}

/// Opens what was sealed to a passphrase.
///
/// # Errors
/// [`WrapError::WrongPassphrase`], or [`WrapError::NotSealed`] for what no passphrase opens.
pub fn open_with_passphrase(sealed: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, WrapError> {
    if sealed.len() > WRAPPED_BYTES_MAX {
        return Err(WrapError::NotSealed("larger than 2 MiB".into()));
    }
    let mut identity = age::scrypt::Identity::new(passphrase.to_owned().into());
    // A slow machine opens it as well, however long that takes there.
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    age::decrypt(&identity, sealed).map(Zeroizing::new).map_err(|error| match error {
        age::DecryptError::KeyDecryptionFailed | age::DecryptError::DecryptionFailed => {
            WrapError::WrongPassphrase
        }
        error => WrapError::NotSealed(error.to_string()),
    })
}

/// Opens a wrapped bundle.
pub fn unwrap_bundle(wrapped: &[u8], identity: &AgeIdentity) -> Result<Bundle, WrapError> {
    if wrapped.len() > WRAPPED_BYTES_MAX {
        return Err(WrapError::Locked("larger than 2 MiB".into()));
    }
    let json = age::decrypt(&identity.0, wrapped).map_err(|error| match error {
        // What a search among the keys of others meets at every step: not worded by age, which reads translations for that, in a
        // build for tests from files that another user may not read.
        age::DecryptError::NoMatchingKeys => WrapError::Locked("it is sealed to others".into()),
        error => WrapError::Locked(error.to_string()),
    })?;
    Ok(Bundle::from_json(&Zeroizing::new(json))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_bundle_opens_with_its_identity_only() {
        let bundle = Bundle::generate();
        let mine = AgeIdentity::generate();
        let wrapped = wrap_bundle(&bundle, &mine.recipient()).expect("wraps");
        let read_back = AgeIdentity::from_file(&mine.to_file()).expect("reads");
        assert_eq!(unwrap_bundle(&wrapped, &read_back).expect("opens"), bundle);
        assert!(matches!(unwrap_bundle(&wrapped, &AgeIdentity::generate()), Err(WrapError::Locked(_))));
    }

    #[test]
    fn a_bundle_wrapped_to_a_passphrase_opens_with_it() {
        let bundle = Bundle::generate();
        let wrapped = wrap_bundle_to_passphrase(&bundle, "correct horse").expect("wraps");
        let open = |passphrase: &str| {
            age::decrypt(&age::scrypt::Identity::new(passphrase.to_owned().into()), &wrapped)
        };
        assert_eq!(Bundle::from_json(&open("correct horse").expect("opens")).expect("reads"), bundle);
        assert!(open("wrong horse").is_err());
    }

    #[test]
    fn what_is_sealed_to_a_passphrase_opens_with_it_alone() {
        let sealed = seal_to_passphrase(b"a text", "correct horse").expect("seals");
        assert_eq!(open_with_passphrase(&sealed, "correct horse").expect("opens").as_slice(), b"a text");
        assert!(matches!(open_with_passphrase(&sealed, "wrong horse"), Err(WrapError::WrongPassphrase)));
        let mut torn = sealed.clone();
        torn.truncate(sealed.len() / 2);
        assert!(open_with_passphrase(&torn, "correct horse").is_err());
        assert!(matches!(open_with_passphrase(b"no age", "correct horse"), Err(WrapError::NotSealed(_))));
        let to_key = wrap_bundle(&Bundle::generate(), &AgeIdentity::generate().recipient()).expect("wraps");
        assert!(open_with_passphrase(&to_key, "correct horse").is_err());
    }

    #[test]
    fn what_is_no_identity_or_recipient_is_named() {
        assert!(matches!(AgeIdentity::from_file("# nothing\n"), Err(WrapError::NotAnIdentity)));
        let wrapped = wrap_bundle(&Bundle::generate(), "age1nonsense");
        assert!(matches!(wrapped, Err(WrapError::NotARecipient(_))));
    }
}
