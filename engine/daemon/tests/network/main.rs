//! Two daemons on hosts of their own, in network namespaces, and between them a network that loses, delays, reorders and parts:
//! what was acknowledged is at the holder, and nobody is told that less would be lost than would be.
//! `cargo xtask test network` runs this; a plain `cargo test` leaves it out, since it takes root, `ip` and `nft`.

#![expect(
    clippy::print_stdout,
    reason = "a seed is printed so that a failure can be replayed, and what was measured"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

mod acknowledged;
mod filter;
mod node;
mod over_a_network;
mod relay;
mod rig;
mod watch;
mod writer;
