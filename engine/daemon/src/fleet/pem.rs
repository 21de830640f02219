//! Certificates in files, as other programs have them too.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// How long a line is.
const LINE_CHARACTERS: usize = 64;

/// Certificates one after the other.
pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = BASE64_STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(LINE_CHARACTERS) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// The certificates in a text, at least one.
pub fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("there is no certificate in it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_read_back() {
        let chain: Vec<CertificateDer<'static>> = vec![vec![7; 100].into(), vec![8; 3].into()];
        let text = of_chain(&chain);
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert_eq!(read_chain(text.as_bytes()), Ok(chain));
        assert!(read_chain(b"nothing").is_err());
    }
}
