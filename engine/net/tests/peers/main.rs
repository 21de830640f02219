//! Nodes that hold each other's objects, over real QUIC on loopback: what a store must do, what a writer may do, and what becomes
//! of whoever breaks the rules.
#![allow(clippy::print_stdout, reason = "a test that goes by chance tells its seed")]

mod cutting;
mod enrolment;
mod fleet;
mod intruders;
mod losses;
#[path = "../../../zfs/tests/replication/model/mod.rs"]
#[expect(dead_code, reason = "what only the tests of backstay-zfs need")]
mod model;
mod replicas;
mod rights;
mod room;
mod store;
