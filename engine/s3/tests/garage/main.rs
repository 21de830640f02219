//! Stores and vaults in buckets of a real Garage, and what goes wrong with them.
//!
//! All of it wants what `cargo xtask test s3` builds.

#![expect(
    clippy::print_stdout,
    reason = "a seed is printed so that a failure can be replayed, and what was measured"
)]

mod bucket;

mod on_garage;
