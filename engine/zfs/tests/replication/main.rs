//! Replication on ZFS in memory: every death between two steps, and what can happen to a dataset meanwhile. The same on a real
//! one is `on_zfs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conflicts;
mod deaths;
mod dying;
mod model;
mod random;
mod roles;
mod situations;
mod upkeep;
mod world;
