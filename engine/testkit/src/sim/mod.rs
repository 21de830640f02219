//! A simulated world: stores that several processes share, simulated time, and a schedule that follows from a seed. Runs
//! the real code of the vault, one request at a time: a process is a thread that waits in its handle of the store until
//! the schedule grants what it asked for.
//!
//! What a seed fixes: which process goes next, when it sleeps, dies or is told of a fault, what becomes of what it had
//! sent, and the clocks. What it does not fix: ids of sessions, points and packs are random, and so is the order in which a
//! listing shows them. The history of (process, operation, folder) is the same until a request hangs on that order.
//!
//! What is refused: two requests of one process at a time. A process whose client waits for a lock that another thread
//! of it holds during a request would never come back.

mod direct;
mod history;
mod images;
mod mishaps;
mod process;
mod schedule;
mod store;
mod world;

pub use history::{Event, History};
pub use images::Change;
pub use mishaps::Mishaps;
pub use process::{Died, Life, Process, SimClock};
pub use schedule::Actor;
pub use store::SimStore;
pub use world::{Effect, Limits, World, WorldClock};
