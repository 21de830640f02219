//! How fast a vault may be used: waits before each piece, and lets one payload go at a time while a limit holds, so that each
//! comes to its end instead of all of them crawling.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstay_core::clock::SteadyTime;
use backstay_core::config::RateLimit;
use backstay_core::rate::TokenBucket;
use backstay_core::units::ByteRate;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// A limit, and what was used of it. Shared by all that it limits.
#[derive(Debug)]
pub struct Pace {
    limit: Option<RateLimit>,
    /// The minute of the day in the node's local time, 0 to 1439.
    minute_of_day: fn() -> u16,
    began: Instant,
    up: Direction,
    down: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    bucket: Mutex<TokenBucket>,
    turn: tokio::sync::Mutex<()>,
}

impl Direction {
    fn take(&self, bytes: u64, rate: ByteRate, now: SteadyTime) -> Duration {
        self.bucket().take(bytes, rate, now)
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, TokenBucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Towards the store, or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards it.
    Up,
    /// From it.
    Down,
}

impl Pace {
    /// As this limit says; `minute_of_day` tells the local time (0 to 1439).
    pub fn new(limit: Option<RateLimit>, minute_of_day: fn() -> u16) -> Self {
        let (up, down) = (Direction::default(), Direction::default());
        Self { limit, minute_of_day, began: Instant::now(), up, down }
    }

    /// No limit.
    pub fn unlimited() -> Self {
        Self::new(None, || 0)
    }

    /// Waits for a turn, if a limit holds.
    pub async fn turn(&self, way: Way) -> Option<MutexGuard<'_, ()>> {
        match self.rate(way) {
            Some(_) => Some(self.direction(way).turn.lock().await),
            None => None,
        }
    }

    /// Waits until so many bytes may go; how long.
    pub async fn wait(&self, way: Way, bytes: usize) -> Duration {
        let wait = self.take(way, bytes);
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        wait
    }

    /// Takes so many bytes; how long to wait before they may go.
    pub fn take(&self, way: Way, bytes: usize) -> Duration {
        let Some(rate) = self.rate(way) else { return Duration::ZERO };
        let now = SteadyTime::since_start(self.began.elapsed());
        self.direction(way).take(bytes as u64, rate, now)
    }

    /// Takes so many bytes that cannot wait: what comes after them waits for longer, within a bound that no payload stalls by.
    pub fn take_ahead(&self, way: Way, bytes: usize) {
        if let Some(rate) = self.rate(way) {
            let now = SteadyTime::since_start(self.began.elapsed());
            self.direction(way).bucket().take_at_once(bytes as u64, rate, now);
        }
    }

    /// The rate that holds now.
    fn rate(&self, way: Way) -> Option<ByteRate> {
        let limit = self.limit?;
        let rate = match way {
            Way::Up => limit.up,
            Way::Down => limit.down,
        };
        rate.filter(|_| limit.holds_at((self.minute_of_day)()))
    }

    fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}
