//! The kit for the worst day: a page to keep on paper, from which, with its passphrase, a bare machine comes back. Owns what is
//! sealed in it, how that goes on paper and comes back, and what the page says.

mod page;

pub use page::{Page, ShownVault, quoted};

use backstay_vault::keys::{WrapError, armor, open_with_passphrase, seal_to_passphrase};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The class of the failure to open a page with another passphrase than its own.
pub const WRONG_PASSPHRASE: &str = "passphrase";

/// A sealed key as it stands on the page.
#[derive(Debug)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Seals a text to a passphrase.
    pub fn seal(text: &str, passphrase: &str) -> Result<Self, Failure> {
        Ok(Self(seal_to_passphrase(text.as_bytes(), passphrase)?))
    }

    /// The one in a text, which may be a whole page; none where there is none.
    pub fn find(text: &str, file: &str) -> Result<Option<Self>, Failure> {
        let found = armor::from_text(text);
        Ok(found.map_err(|error| Failure::failed(format!("{file}: {error}")))?.map(Self))
    }

    /// What is in it.
    pub fn open(&self, passphrase: &str, file: &str) -> Result<Zeroizing<String>, Failure> {
        let opened = open_with_passphrase(&self.0, passphrase).map_err(|error| match error {
            WrapError::WrongPassphrase => Failure::failed(format!(
                "{file}: the passphrase does not open the key; it is the one that was given when the kit was printed"
            ))
            .of_class(WRONG_PASSPHRASE),
            error => Failure::failed(format!(
                "{file}: {error}. Compare the lines of the key with the page; with the check letters below them, the line is named that was typed wrong"
            )),
        })?;
        let text = std::str::from_utf8(&opened)
            .map_err(|_| Failure::failed(format!("{file}: what is sealed in it is no text, and no kit's")))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Its lines on the page.
    pub fn lines(&self) -> Vec<String> {
        armor::to_lines(&self.0)
    }
}
