//! Patience with vaults: one whose disk or server hangs is asked on a thread of its own, and not waited for without end. Owns
//! who waits for how long; what is asked is the asker's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backstay_vault::store::{Operation, RequestObserver, StoreError};

use super::tally::Tally;
use super::traffic::{Traffic, TrafficMeter};
use crate::failure::Failure;

/// A vault of which no request has ended for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether requests have ended.
const LOOK: Duration = Duration::from_millis(500);

/// How far one vault has come.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Requests that have ended.
    ended: Arc<Traffic>,
    /// The same, as they are paid for.
    tally: Arc<Tally>,
    /// When the last one has.
    last: Arc<Mutex<Option<Instant>>>,
    /// Threads that ask and have not been waited for to the end.
    overdue: Arc<Mutex<BTreeSet<u64>>>,
    /// Threads that were begun.
    begun: AtomicU64,
}

/// Counts the requests of one vault, beside who else is told of them.
#[derive(Debug)]
struct Ended {
    count: Arc<Traffic>,
    tally: Arc<Tally>,
    last: Arc<Mutex<Option<Instant>>>,
    observer: Arc<dyn RequestObserver>,
}

impl RequestObserver for Ended {
    fn observe(&self, operation: Operation, failed: Option<&StoreError>, took: Duration, payload_bytes: u64) {
        self.count.add(payload_bytes);
        self.tally.add(operation, payload_bytes);
        *lock(&self.last) = Some(Instant::now());
        self.observer.observe(operation, failed, took, payload_bytes);
    }
}

impl Answers {
    /// The observer of the vault's requests, which tells this one as well.
    pub(super) fn with(&self, observer: Arc<dyn RequestObserver>) -> Arc<dyn RequestObserver> {
        let (count, tally, last) = (Arc::clone(&self.ended), Arc::clone(&self.tally), Arc::clone(&self.last));
        Arc::new(Ended { count, tally, last, observer })
    }

    /// What was asked of the vault.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is asked of the vault from now on.
    pub(super) fn meter(&self) -> TrafficMeter {
        TrafficMeter::new(Arc::clone(&self.ended))
    }

    /// When the vault has answered last, if it ever has.
    pub(super) fn last(&self) -> Option<Instant> {
        *lock(&self.last)
    }

    /// What `ask` answers. An error when no request of the vault has ended for long; then no more is asked of it before that
    /// thread has come to its end, so that there are no more of these than captures were under way.
    pub(super) fn of<T: Send + 'static>(
        &self,
        vault: &str,
        ask: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.within(PATIENCE, vault, ask)
    }

    /// The same with another patience.
    pub(super) fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        vault: &str,
        ask: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if !lock(&self.overdue).is_empty() {
            return Err(unanswered(vault));
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = channel();
        let overdue = Arc::clone(&self.overdue);
        let work = move || {
            let end = End { number, overdue, answer: Some(answer) };
            let answer = ask();
            if let Some(to) = &end.answer {
                // Who is gone has given up.
                let _ = to.send(answer);
            }
        };
        thread::Builder::new().name(format!("ask {vault}")).spawn(work).map_err(|error| {
            Failure::failed(format!(
                "cannot start a thread: {error}; raise the limit on tasks (TasksMax= of the unit)"
            ))
        })?;
        let mut came = (Instant::now(), self.ended.requests());
        loop {
            match answered.recv_timeout(LOOK.min(patience)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(panicked(vault)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let ended = self.ended.requests();
            if ended != came.1 {
                came = (Instant::now(), ended);
            }
            if came.0.elapsed() >= patience {
                lock(&self.overdue).insert(number);
                // It may have come to its end just now; else it takes itself out.
                let answer = match answered.try_recv() {
                    Ok(answer) => answer,
                    Err(TryRecvError::Disconnected) => Err(panicked(vault)),
                    Err(TryRecvError::Empty) => return Err(unanswered(vault)),
                };
                lock(&self.overdue).remove(&number);
                return answer;
            }
        }
    }
}

/// The end of a thread, however it comes.
struct End<T> {
    number: u64,
    overdue: Arc<Mutex<BTreeSet<u64>>>,
    answer: Option<Sender<T>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        // First, so that who looks for the answer and finds none finds the thread among those that are taken out.
        self.answer = None;
        lock(&self.overdue).remove(&self.number);
    }
}

fn panicked(vault: &str) -> Failure {
    Failure::failed(format!(
        "vault {vault} could not be asked: that panicked, which is an error in Backstay; its log tells where"
    ))
}

fn unanswered(vault: &str) -> Failure {
    let why = format!(
        "vault {vault} does not answer: nothing is captured to it until it does; see whether its disk or its server hangs"
    );
    Failure::failed(why).of_class("unanswered")
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    /// Something that is answered when it is told to.
    fn hanging() -> (Sender<()>, impl FnOnce() -> Result<&'static str, Failure> + Send + 'static) {
        let (go, going) = channel::<()>();
        let ask = move || {
            going.recv().map_err(|_| Failure::failed("given up"))?;
            Ok("late")
        };
        (go, ask)
    }

    #[test]
    fn a_vault_that_hangs_is_given_up_and_asked_no_more_until_it_has_answered() {
        let answers = Answers::default();
        let (go, ask) = hanging();
        let given_up = answers.within(SHORT, "nfs", ask).expect_err("it hangs");
        assert_eq!(given_up.class, "unanswered");
        assert!(given_up.message.contains("vault nfs does not answer"), "{given_up}");
        answers
            .within(SHORT, "nfs", || -> Result<(), Failure> { panic!("it is asked") })
            .expect_err("not asked");
        go.send(()).expect("it waits");
        while !lock(&answers.overdue).is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(answers.within(PATIENCE, "nfs", || Ok(5)).expect("it answers"), 5);
    }

    #[test]
    fn one_that_comes_further_is_waited_for() {
        let answers = Answers::default();
        let ended = Arc::clone(&answers.ended);
        let slow = move || {
            for _ in 0..30 {
                thread::sleep(Duration::from_millis(100));
                ended.add(0);
            }
            Ok(7)
        };
        assert_eq!(answers.within(Duration::from_secs(2), "slow", slow).expect("in the end"), 7);
    }

    #[test]
    fn what_panics_is_told_and_keeps_nobody_from_asking_again() {
        let answers = Answers::default();
        let told = answers.within(PATIENCE, "x", || -> Result<(), Failure> { panic!("as a test") });
        assert!(told.expect_err("it panicked").message.contains("panicked"));
        assert_eq!(answers.within(PATIENCE, "x", || Ok(1)).expect("answers"), 1);
    }
}
