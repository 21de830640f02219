//! When one relay is done next, and how it looks then. Pure: the time is an argument.

use std::time::{Duration, Instant};

use backstay_core::schedule::{Jitter, backoff};

use crate::relay::{Look, Relayed};

/// How often it is asked of the vault what it has, though nothing has come: it may have lost something, or been given more.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(3600);

/// After something came, so long it is waited for what comes with it: a capture of several sources is several commits.
pub(super) const SETTLING: Duration = Duration::from_millis(200);

/// What comes after something has failed is tried with no sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// One relay.
#[derive(Debug)]
pub(super) struct RelayState {
    /// When it is done next.
    next: Instant,
    /// When everything is looked at next.
    look_all: Instant,
    failures: u32,
    ended: Instant,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    look: Look,
    /// Something came meanwhile.
    has_more: bool,
    /// Something was done to its vaults meanwhile.
    was_mended: bool,
}

impl RelayState {
    /// One that was never done: it is due.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, look_all: now, failures: 0, ended: now, running: None }
    }

    /// Since when it is done.
    pub(super) fn running_since(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.since)
    }

    /// When it is to be done.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Something has come.
    pub(super) fn held(&mut self, now: Instant) {
        let soon = match self.failures {
            0 => now + SETTLING,
            _ => (self.ended + AFTER_FAILURE).max(now + SETTLING),
        };
        match &mut self.running {
            Some(running) => running.has_more = true,
            None => self.next = self.next.min(soon),
        }
    }

    /// Something was done to its vaults: what they have may be less than it was, or they may be there now.
    pub(super) fn mended(&mut self, now: Instant) {
        match &mut self.running {
            Some(running) => running.was_mended = true,
            None => (self.next, self.look_all, self.failures) = (now, now, 0),
        }
    }

    /// It is done from now on; how it looks.
    pub(super) fn begin(&mut self, now: Instant) -> Look {
        let look = if self.look_all <= now { Look::All } else { Look::New };
        self.running = Some(Running { since: now, look, has_more: false, was_mended: false });
        look
    }

    /// It has ended. Whether it has failed before.
    pub(super) fn end(&mut self, outcome: Option<Relayed>, now: Instant, jitter: Jitter) -> bool {
        let Some(running) = self.running.take() else { return false };
        let had_failed = self.failures > 0;
        self.ended = now;
        let is_whole = matches!(outcome, Some(relayed) if !relayed.has_failed && !relayed.has_more);
        if is_whole && running.look == Look::All {
            self.look_all = now + LOOK_PERIOD;
        }
        self.failures = match outcome {
            Some(relayed) if !relayed.has_failed => 0,
            _ => self.failures.saturating_add(1),
        };
        self.next = match (self.failures, outcome) {
            (0, Some(Relayed { has_more: true, .. })) => now,
            (0, _) if running.has_more => now,
            (0, _) => self.look_all,
            (failures, _) => now + backoff(failures, jitter),
        };
        if running.was_mended {
            self.mended(now);
        } else if running.has_more {
            self.held(now);
        }
        had_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Option<Relayed> = Some(Relayed { points: 1, has_failed: false, has_more: false });
    const FAILED: Option<Relayed> = Some(Relayed { points: 0, has_failed: true, has_more: false });

    /// One that was done once, and the time after that.
    fn done(outcome: Option<Relayed>) -> (RelayState, Instant) {
        let start = Instant::now();
        let mut state = RelayState::new(start);
        assert_eq!((state.next(), state.begin(start)), (start, Look::All));
        let end = start + Duration::from_secs(1);
        state.end(outcome, end, Jitter(0));
        (state, end)
    }

    #[test]
    fn what_comes_is_looked_at_soon_and_everything_hourly() {
        let (mut state, now) = done(DONE);
        assert_eq!(state.next(), now + LOOK_PERIOD);
        state.held(now);
        assert_eq!(state.next(), now + SETTLING);
        assert_eq!(state.begin(state.next()), Look::New);
        state.end(DONE, now + SETTLING, Jitter(0));
        assert_eq!(
            state.next(),
            now + LOOK_PERIOD,
            "a look at what is new does not put off that at everything"
        );
        assert_eq!(state.begin(state.next()), Look::All);
    }

    #[test]
    fn what_comes_meanwhile_is_not_forgotten() {
        let (mut state, now) = done(DONE);
        state.begin(now);
        state.held(now);
        state.end(DONE, now, Jitter(0));
        assert_eq!(state.next(), now);
        state.begin(now);
        state.mended(now);
        state.end(DONE, now, Jitter(0));
        assert_eq!(
            (state.next(), state.begin(now)),
            (now, Look::All),
            "though it looked at what is new alone"
        );
    }

    #[test]
    fn what_fails_is_tried_again_and_what_comes_then_waits_no_longer_than_that() {
        for failed in [FAILED, None] {
            let (mut state, now) = done(failed);
            assert!(state.next() > now && state.next() <= now + Duration::from_secs(5));
            for n in 0..10 {
                state.begin(now);
                assert!(state.end(failed, now, Jitter(0)), "try {n} is not the first");
            }
            assert!(state.next() > now + Duration::from_secs(60));
            state.held(now);
            assert_eq!(state.next(), now + AFTER_FAILURE);
            assert_eq!(state.begin(now), Look::All, "nothing was looked at as a whole");
        }
    }

    #[test]
    fn one_that_has_given_up_its_turn_goes_on_at_once() {
        let (state, now) = done(Some(Relayed { has_more: true, ..DONE.expect("some") }));
        assert_eq!(state.next(), now);
    }
}
