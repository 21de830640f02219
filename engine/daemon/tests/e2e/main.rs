//! The real binary, as a user runs it: every test writes a configuration, types commands, and looks at what came
//! of it with tools that are not Backstay's. The crates below the command line are used for nothing but to forge
//! what no release can write yet.
//!
//! What a machine does not permit (mounting, device nodes, other users) is left out with a line that says so;
//! CI runs as root, where nothing may be left out.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

mod asking;
mod bucket;
mod busy;
mod changing;
mod command;
mod crash;
mod daemon;
mod damage;
mod demo;
mod doctor;
mod exposition;
mod fidelity;
mod hanging;
mod hub;
mod identity;
mod intruders;
mod judge;
mod keys;
mod killing;
mod looking;
mod manual;
mod mistakes;
mod mount;
mod outcome;
mod pair;
mod peers;
mod progress;
mod recovery;
mod restore_rules;
mod retention;
mod sandbox;
mod several;
mod snapshot;
mod status_watch;
mod systemd;
mod tree;
mod upkeep;
mod verify;
mod watching;
mod worst_day;
