//! A loss of power at every step of the store of a directory: what was not synced is lost, or is not, as it comes. What
//! was acknowledged is there afterwards, and the next process goes on without repair.

mod after;
mod growing;
mod listed;
mod losses;
mod workload;
