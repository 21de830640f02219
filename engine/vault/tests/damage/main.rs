//! The damage matrix: every object of a vault, damaged in every way. Nothing panics, nothing that is read is
//! wrong, and a check names the damage, or the damage does not matter and this file says why.

mod announced;
mod crashes;
mod dropped;
mod matrix;
mod repair;
mod sample;
mod sectors;
mod straddled;
mod versions;
