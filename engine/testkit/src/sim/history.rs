//! What has happened in a simulated world, to be printed when something went wrong, and compared with another run.

use std::fmt;

use backstay_core::units::Timestamp;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in simulated time.
    pub time: Timestamp,
    /// To which process.
    pub process: &'static str,
    /// What: an operation and the folder of its object, or what befell the process.
    pub what: String,
    /// The object, or more about it; not the same in two runs of one seed.
    pub detail: String,
}

/// Everything that has happened, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History(Vec<Event>);

impl History {
    /// Adds what has just happened.
    pub(super) fn add(&mut self, event: Event) {
        self.0.push(event);
    }

    /// All events.
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// The last events, as people read them.
    pub fn tail(&self, most: usize) -> Tail<'_> {
        Tail(&self.0[self.0.len().saturating_sub(most)..])
    }
}

/// Prints one event a line.
#[derive(Debug)]
pub struct Tail<'h>(&'h [Event]);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Event { time, process, what, detail } in self.0 {
            writeln!(f, "  {time}  {process:<10} {what:<24} {detail}")?;
        }
        Ok(())
    }
}
