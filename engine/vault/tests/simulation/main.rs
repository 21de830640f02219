//! The real code of the vault under a seeded simulation: writers, a reader, a custodian and a copier share stores in
//! simulated time, crash, sleep for days and are told of faults at any request, and what was acknowledged is looked at
//! after every step that could have taken it away.
//!
//! `BACKSTAY_SIM_SEED=n cargo test -p backstay-vault --test simulation one_seed -- --nocapture` runs one seed again.

mod copier;
mod custodian;
mod end;
mod ledger;
mod named;
mod opening;
mod reader;
mod scene;
mod seeds;
mod watch;
mod writer;
