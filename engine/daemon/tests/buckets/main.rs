//! The real binary with vaults in buckets of a real Garage. `cargo xtask test s3` runs this; a plain `cargo test` leaves it out,
//! since it wants what that builds.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]
#![expect(
    clippy::print_stdout,
    reason = "a seed is printed so that a failure can be replayed, and what was counted"
)]

mod concurrently;
mod daemon;
mod fleet;
mod host;
mod long_in_buckets;
mod on_garage;
mod small_sources;
mod worst_day;
