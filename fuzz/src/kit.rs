//! What people type from paper on the worst day: the page of a kit, and the address of a vault.

use backstay_core::config::{ListenAddress, VaultAddress};
use backstay_vault::keys::{KeyFile, armor};

/// A page as it was typed, a text as it was sealed, and a page on which these bytes were sealed.
pub fn kit_page(data: &[u8]) {
    if !data.is_empty() {
        said_again(data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match armor::from_text(text) {
        Ok(Some(sealed)) => said_again(&sealed),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty(), "says what is wrong"),
    }
    if let Ok(key) = KeyFile::from_text(text) {
        let text = key.to_text("again");
        let read = KeyFile::from_text(&text).map(|read| read.to_text("again"));
        assert_eq!(read.as_deref().ok(), Some(&*text), "what was understood is what is sealed again");
    }
}

/// As far as a page is long enough for it.
fn said_again(sealed: &[u8]) {
    let page = armor::to_lines(sealed).join("\n");
    match armor::from_text(&page) {
        Err(armor::ArmorError::TooLong) => {}
        read => assert_eq!(read, Ok(Some(sealed.to_vec()))),
    }
}

/// An address: of a vault, alone and with what options say beside it, and to listen on.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (address, endpoint) = text.split_once('\0').unwrap_or((text, "https://s3.example"));
    if let Ok(vault) = address.parse::<VaultAddress>() {
        typed_again(&vault);
        if let Ok(completed) = vault.with(Some(endpoint), Some("hel1")) {
            typed_again(&completed);
        }
    }
    if let Ok(listen) = text.parse::<ListenAddress>() {
        assert_eq!(listen.to_string().parse().as_ref(), Ok(&listen));
    }
}

fn typed_again(vault: &VaultAddress) {
    let typed = vault.to_string();
    match (vault, typed.parse()) {
        (VaultAddress::S3(_), again) => {
            assert!(!typed.contains(char::is_whitespace), "it is one word among those of a kit");
            assert_eq!(again.as_ref(), Ok(vault));
        }
        (VaultAddress::Dir(_), again) => assert_eq!(again.as_ref(), Ok(vault)),
    }
}
