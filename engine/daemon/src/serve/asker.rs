//! Who waits for captures, seen from both sides: the loop tells, a conversation listens. Neither waits for the
//! other.

use std::sync::Arc;

use backstay_files::capture::CaptureProgress;
use backstay_wire::control::CaptureReport;
use tokio::sync::mpsc;

/// What one source can have to tell: the end of a capture that ran already, one that begins, one that has ended, and
/// that this is all.
const TOLD_PER_SOURCE: usize = 4;

/// What of a source is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// A capture for all targets.
    All,
    /// What is due by the clock.
    Due,
}

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Told {
    /// The capture of a source has begun.
    Started { source: String, progress: Arc<CaptureProgress> },
    /// A capture has ended.
    Captured(CaptureReport),
    /// This was all of one source.
    Over,
}

/// The loop's side.
#[derive(Debug, Clone)]
pub(super) struct Asker(mpsc::Sender<Told>);

impl Asker {
    /// One who asks for this many sources, and where it listens.
    pub(super) fn new(sources: usize) -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(sources.saturating_mul(TOLD_PER_SOURCE).max(1));
        (Self(sender), receiver)
    }

    /// Tells; who is gone is told nothing. There is room, because there is for all that can be told.
    pub(super) fn tell(&self, told: Told) {
        let _ = self.0.try_send(told);
    }

    /// Joins those who are there still.
    pub(super) fn join(self, others: &mut Vec<Self>) {
        others.retain(Self::is_there);
        others.push(self);
    }

    /// Whether it still listens.
    pub(super) fn is_there(&self) -> bool {
        !self.0.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_takes_the_place_of_those_who_listen_no_more() {
        let mut others = Vec::new();
        let (first, listening) = Asker::new(1);
        first.join(&mut others);
        for _ in 0..100 {
            let (gone, told) = Asker::new(1);
            drop(told);
            gone.join(&mut others);
        }
        assert!(others.len() <= 2, "{}", others.len());
        assert!(others[0].is_there());
        drop(listening);
    }
}
