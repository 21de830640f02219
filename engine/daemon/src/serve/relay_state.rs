//! When relays are done next, which of them can begin, and how each looks then. Pure: the time is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use backstay_core::config::Relay;
use backstay_core::schedule::{Jitter, backoff};

use crate::relay::{Look, Relayed};

/// How often it is asked of the vault what it has, though nothing has come: it may have lost something, or been given more.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(3600);

/// After something came, so long it is waited for what comes with it: a capture of several sources is several commits.
pub(super) const SETTLING: Duration = Duration::from_millis(200);

/// What comes after something has failed is tried with no sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Vaults that answer nothing for so long, while something is copied, are said to hang.
const SILENCE_TOLD: Duration = Duration::from_secs(60);

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

/// What a relay does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is being done.
    UnderWay,
    /// It is not due yet, for so long.
    Later(Duration),
    /// It is due, and something is in its way, which tells when it has ended.
    Waits(&'static str),
    /// It begins.
    Begins,
}

/// The relays by number: who has waited for longest is first.
pub(super) fn in_order(states: &[RelayState]) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..states.len()).collect();
    numbers.sort_by_key(|number| states[*number].next());
    numbers
}

/// The vaults that are copied from or to.
pub(super) fn under_way(relays: &[Relay], states: &[RelayState]) -> BTreeSet<String> {
    let running = states.iter().zip(relays).filter(|(state, _)| state.running_since().is_some());
    running.flat_map(|(_, relay)| [relay.from.to_string(), relay.to.to_string()]).collect()
}

/// What a relay does now, but for vaults that are `cared_for` otherwise. One at a time to each vault: one that hangs keeps no other
/// waiting.
pub(super) fn turn(
    number: usize,
    relays: &[Relay],
    states: &[RelayState],
    cared_for: &BTreeSet<String>,
    now: Instant,
) -> Turn {
    let (relay, state) = (&relays[number], &states[number]);
    if state.running_since().is_some() {
        return Turn::UnderWay;
    }
    if let Some(wait) = state.next().checked_duration_since(now).filter(|wait| !wait.is_zero()) {
        return Turn::Later(wait);
    }
    if [&relay.from, &relay.to].iter().any(|name| cared_for.contains(name.as_str())) {
        Turn::Waits("it waits for a prune or another job on its vaults")
    } else if under_way(relays, states).contains(relay.to.as_str()) {
        Turn::Waits("it waits for what is copied there for another node")
    } else {
        Turn::Begins
    }
}

/// Whether neither of a relay's vaults has answered for so long that it is to be told; while one of both is read or written, the
/// other one may be silent.
pub(super) fn is_silent(since: Instant, last: [Option<Instant>; 2], now: Instant) -> bool {
    let is_silent = |last: Option<Instant>| {
        now.saturating_duration_since(last.map_or(since, |last| last.max(since))) >= SILENCE_TOLD
    };
    last.into_iter().all(is_silent)
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
    /// From what is held for two nodes to one vault, and from one of them to another.
    fn three() -> (Vec<Relay>, Vec<RelayState>, Instant) {
        let now = Instant::now();
        let relay = |writer: &str, from: &str, to: &str| Relay {
            writer: writer.parse().expect("a name"),
            from: from.parse().expect("a name"),
            to: to.parse().expect("a name"),
            sources: Vec::new(),
        };
        let relays = vec![
            relay("alpha", "of-alpha", "nas"),
            relay("beta", "of-beta", "nas"),
            relay("alpha", "of-alpha", "tape"),
        ];
        let states = relays.iter().map(|_| RelayState::new(now)).collect();
        (relays, states, now)
    }

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_at_a_time_goes_to_each_vault_and_one_that_hangs_keeps_no_other_waiting() {
        let (relays, mut states, now) = three();
        let none = BTreeSet::new();
        let of = |states: &[RelayState]| [0, 1, 2].map(|number| turn(number, &relays, states, &none, now));
        assert_eq!(of(&states), [Turn::Begins; 3]);
        states[0].begin(now);
        let [first, second, third] = of(&states);
        assert_eq!((first, third), (Turn::UnderWay, Turn::Begins), "from the same vault, to another one");
        assert!(matches!(second, Turn::Waits(why) if why.contains("another node")), "{second:?}");
        assert_eq!(under_way(&relays, &states), names(&["nas", "of-alpha"]));
        states[0].end(DONE, now, Jitter(0));
        assert_eq!(of(&states), [Turn::Later(LOOK_PERIOD), Turn::Begins, Turn::Begins]);
        assert_eq!(under_way(&relays, &states), none);
    }

    #[test]
    fn what_is_cared_for_is_neither_copied_from_nor_to() {
        let (relays, states, now) = three();
        for (cared_for, waits) in [("of-alpha", [true, false, true]), ("nas", [true, true, false])] {
            let cared_for = names(&[cared_for]);
            let turns = [0, 1, 2].map(|number| turn(number, &relays, &states, &cared_for, now));
            assert_eq!(turns.map(|turn| matches!(turn, Turn::Waits(why) if why.contains("prune"))), waits);
        }
    }

    #[test]
    fn who_has_given_up_its_turn_comes_after_who_waits_for_the_same_vault() {
        let (relays, mut states, now) = three();
        assert_eq!(in_order(&states)[0], 0);
        states[0].begin(now);
        let later = now + Duration::from_secs(30);
        states[0].end(Some(Relayed { has_more: true, ..DONE.expect("some") }), later, Jitter(0));
        assert_eq!(in_order(&states), [1, 2, 0]);
        assert_eq!(turn(1, &relays, &states, &BTreeSet::new(), later), Turn::Begins);
    }

    #[test]
    fn a_copy_is_silent_when_neither_of_its_vaults_has_answered_since_it_began() {
        let long_ago = Instant::now();
        let since = long_ago + Duration::from_secs(1000);
        let now = since + SILENCE_TOLD;
        assert!(is_silent(since, [None, Some(long_ago)], now));
        assert!(
            !is_silent(since, [None, Some(long_ago)], now - Duration::from_secs(1)),
            "what was before does not count"
        );
        assert!(!is_silent(since, [Some(now), None], now), "the other one is read meanwhile");
    }
}
