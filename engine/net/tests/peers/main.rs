//! Nodes that hold each other's objects, over real QUIC on loopback: what a store must do, what a writer may do, and what becomes
//! of whoever breaks the rules.
#![allow(clippy::print_stdout, reason = "a test that goes by chance tells its seed")]

mod enrolment;
mod fleet;
mod intruders;
mod losses;
mod rights;
mod room;
mod store;
