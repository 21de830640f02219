//! The real binary with vaults in buckets of a real Garage. `cargo xtask test s3` runs this; a plain `cargo test` leaves it out,
//! since it wants what that builds.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

mod daemon;
mod fleet;
mod host;
mod on_garage;
