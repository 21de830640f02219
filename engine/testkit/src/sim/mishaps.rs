//! What befalls a process, and how often: crashes, sleep, faults of its store, a clock that is set.

use std::time::Duration;

use backstay_core::units::Timestamp;
use backstay_vault::store::Operation;

use crate::crash::Landing;
use crate::random::Random;

/// One in so many requests; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mishaps {
    /// The process dies.
    pub crash: usize,
    /// It sleeps for seconds to days, before or after the request has taken effect.
    pub sleep: usize,
    /// The same where a commit is most tender: at its points, heads, fence and the last look at `gc/`.
    pub tender_sleep: usize,
    /// The store answers that it failed for a passing reason; a change may be done all the same.
    pub fault: usize,
    /// An object cannot be read, this once.
    pub unreadable: usize,
    /// Its clock is set.
    pub clock: usize,
}

/// What becomes of a change whose sender dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Landed,
    Lost,
    /// It lands after so long.
    Late(Duration),
}

/// How long a change is under way of which is only said that it is late.
const LATE: Duration = Duration::from_secs(5 * 3600);

impl From<Landing> for Fate {
    fn from(landing: Landing) -> Self {
        match landing {
            Landing::Landed => Self::Landed,
            Landing::Lost => Self::Lost,
            Landing::Late => Self::Late(LATE),
        }
    }
}

pub(super) fn rolls(random: &mut Random, once_in: usize) -> bool {
    once_in > 0 && random.once_in(once_in)
}

impl Mishaps {
    pub(super) fn sleep_at(
        &self,
        operation: Operation,
        folder: &str,
        random: &mut Random,
    ) -> Option<Duration> {
        let is_tender = matches!(
            (operation, folder),
            (Operation::Put, "points/" | "heads/" | "index/")
                | (Operation::Get, "fences/")
                | (Operation::List, "ledger/")
        );
        let once_in = if is_tender { self.tender_sleep } else { self.sleep };
        rolls(random, once_in).then(|| nap(random))
    }
}

/// Seconds to days.
fn nap(random: &mut Random) -> Duration {
    let most: u64 = random.choose(&[20, 600, 3600, 6 * 3600, 30 * 3600, 54 * 3600]);
    Duration::from_millis(1 + random.number() % (most * 1000))
}

pub(super) fn fate(random: &mut Random) -> Fate {
    match random.below(3) {
        0 => Fate::Landed,
        1 => Fate::Lost,
        _ => Fate::Late(nap(random)),
    }
}

/// How far a clock is off, nanoseconds: seconds mostly, hours at times, days now and then.
pub(super) fn skew(random: &mut Random) -> i64 {
    let most: i64 = random.choose(&[1, 1, 60, 60, 3600, 3 * 3600, 3 * 86_400]);
    let nanos = (random.number() % (2 * most as u64 * 1_000_000_000)) as i64;
    nanos - most * 1_000_000_000
}

/// What a clock shows that is off by so much.
pub(super) fn shifted(time: Timestamp, nanos: i64) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().saturating_add(nanos))
}
