//! Time limits: what hangs (a server of a network file system that is gone, a disk that does not answer) is asked on a thread
//! of its own and given up, so that everything else is still looked at.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a look at a path may take. A disk that was asleep is awake by then.
pub const LOOK_TIME: Duration = Duration::from_secs(20);

/// How long a vault may take for one answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(20);

/// How long the examination of one vault may take in all, however busily it answers.
pub const VAULT_TIME: Duration = Duration::from_secs(300);

/// How long looks through all trees may take together: a host with very many sources is told of those that were left.
pub const TREES_TIME: Duration = Duration::from_secs(180);

/// Looks at paths that are under way at the same time, at most.
pub const LOOKS_MAX: usize = 64;

/// An answer that is awaited.
#[derive(Debug)]
pub struct Awaited<T> {
    told: Option<Receiver<T>>,
    began: Instant,
}

/// Has `ask` answer on a thread of its own. The thread of one that hangs is left to itself: the process does not wait for it
/// at its end.
pub fn begin<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Awaited<T> {
    let (tell, told) = channel();
    let work = move || {
        // Who has given up wants it no more.
        let _ = tell.send(ask());
    };
    let started = thread::Builder::new().name("doctor".into()).spawn(work);
    Awaited { told: started.is_ok().then_some(told), began: Instant::now() }
}

impl<T> Awaited<T> {
    /// The answer, if it comes within `limit` of the beginning.
    pub fn within(self, limit: Duration) -> Option<T> {
        let left = limit.saturating_sub(self.began.elapsed());
        self.told?.recv_timeout(left).ok()
    }
}

/// What `ask` gives within `limit`; `None` when it gives nothing by then.
pub fn within<T: Send + 'static>(limit: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    begin(ask).within(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_given_up_and_what_answers_is_taken() {
        assert_eq!(within(LOOK_TIME, || 7), Some(7));
        let (_keep, never) = channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || never.recv().is_ok()), None);
        assert_eq!(within(LOOK_TIME, || -> u8 { panic!("as a test") }), None);
    }
}
