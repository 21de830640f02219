//! Secret bytes: 32 of them, wiped when dropped and never printed. Owns the one source of randomness.

use std::fmt;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// 32 secret bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// A new random secret.
    pub fn random() -> Self {
        Self::new(random_bytes())
    }

    /// The secret that consists of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Random bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes)
        .expect("the operating system's random generator answers (getrandom(2) cannot fail once seeded)");
    bytes
}
