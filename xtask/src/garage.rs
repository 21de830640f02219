//! Garage, the S3-compatible service that the group `s3` tests with.

use std::path::PathBuf;

use anyhow::Result;

use crate::tool::Tool;

/// Names the program to the tests.
pub(crate) const PROGRAM_VARIABLE: &str = "BACKSTAY_GARAGE";

const GARAGE: Tool = Tool { name: "garage", version: "2.5.0", features: &[] };

/// The program, built if this machine has not yet.
pub(crate) fn ensure() -> Result<PathBuf> {
    GARAGE.ensure()
}
