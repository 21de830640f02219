//! s3s-fs, another S3-compatible service that the group `s3` tests with: what holds of one service alone is no rule of all.

use std::path::PathBuf;

use anyhow::Result;

use crate::tool::Tool;

/// Names the program to the tests.
pub(crate) const PROGRAM_VARIABLE: &str = "BACKSTAY_S3S_FS";

/// It says that it wants Rust 1.96, but needs nothing of it.
const S3S_FS: Tool =
    Tool { name: "s3s-fs", version: "0.17.0", features: &["--features", "binary", "--ignore-rust-version"] };

/// The program, built if this machine has not yet.
pub(crate) fn ensure() -> Result<PathBuf> {
    S3S_FS.ensure()
}
