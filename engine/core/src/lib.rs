//! Pure decisions and models of Backstay: identifiers, units, time, RPO arithmetic, points, runs,
//! layouts, fold rules, configuration. Owns no I/O, no clock and no randomness: time and bytes are arguments.

pub mod clock;
pub mod collection;
pub mod config;
pub mod cost;
pub mod digest;
pub mod fold;
pub mod id;
pub mod kind;
pub mod layout;
pub mod point;
pub mod proof;
pub mod rate;
pub mod retention;
pub mod rpo;
pub mod run;
pub mod schedule;
pub mod thinning;
pub mod units;
