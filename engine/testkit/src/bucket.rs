//! A bucket of a service that a test has started, and what such services begin with: ports, keys and programs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::random::Random;

/// A key that may use a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its identifier.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// A bucket and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAccess {
    /// Where the service is reached.
    pub address: SocketAddr,
    /// The region that it answers to.
    pub region: &'static str,
    /// The name of the bucket.
    pub bucket: String,
    /// A key that may do everything there.
    pub key: AccessKey,
}

/// What this variable names; `cargo xtask test s3` sets it.
///
/// # Panics
/// Where it is not set.
pub(crate) fn program(variable: &str) -> PathBuf {
    let program = std::env::var_os(variable);
    PathBuf::from(program.unwrap_or_else(|| panic!("{variable} is not set: cargo xtask test s3")))
}

/// So many bytes as text, in lower case.
pub(crate) fn hex(random: &mut Random, bytes: usize) -> String {
    random.bytes(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
