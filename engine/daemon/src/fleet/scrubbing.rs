//! Reading what is held for others and comparing it with its names, again and again, a part at a time: what rots on this node's disk
//! is found here, and not on the day on which it is needed.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::NodeName;
use backstay_core::units::{ByteRate, Timestamp};
use backstay_net::hold::{NotScrubbed, SCRUB_PARTS, Space};
use backstay_vault::name::{Named, ObjectName};
use tokio::time::sleep;

use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::node::{DAMAGED_MAX, Scrub, Scrubs};

/// How often all of it is read, where the configuration does not say.
pub(super) const SCRUB_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// It is read no faster than this: other things go on.
const RATE: ByteRate = ByteRate(32 << 20);

/// How far it has come is remembered after so many parts.
const SAVED_EVERY: u16 = 16;

/// And no more often than this, whatever the configuration says.
const PAUSE_LEAST: Duration = Duration::from_secs(1);

/// How often it is looked whether it is due, and whether what was damaged still is.
const LOOK: Duration = Duration::from_secs(600);

/// The scrub of what is held for one node.
pub(super) struct Scrubbing {
    pub(super) node: NodeName,
    pub(super) space: Arc<Space>,
    pub(super) scrubs: Scrubs,
    pub(super) every: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Scrubbing {
    /// Goes on for as long as the process lives.
    pub(super) async fn keep(self) {
        let mut scrub = self.scrubs.load();
        loop {
            self.show(&scrub);
            let now = SystemClock.now();
            let outcome = match is_due(&scrub, now, self.every) {
                true => self.read_part(&mut scrub, now).await,
                false => self.read_again(&mut scrub).await,
            };
            match outcome {
                Ok(()) if scrub.next > 0 => continue,
                Ok(()) | Err(NotScrubbed::NoVault) => {}
                Err(error) => tracing::warn!(node = %self.node, "what is held cannot be scrubbed: {error}"),
            }
            self.show(&scrub);
            sleep(self.every.clamp(PAUSE_LEAST, LOOK)).await;
        }
    }

    /// Reads the part that comes next.
    async fn read_part(&self, scrub: &mut Scrub, now: Timestamp) -> Result<(), NotScrubbed> {
        let part = u8::try_from(scrub.next).unwrap_or(0);
        let found = self.space.scrub(part, RATE).await?;
        let damaged = with_found(&scrub.damaged, part, &found.damaged);
        for name in found.damaged.iter().map(ToString::to_string).filter(|name| !scrub.damaged.contains(name))
        {
            tracing::error!(
                node = %self.node,
                object = name,
                "what is held is damaged; `backstay vault repair held.{} --read-data` tells what that means for its points, and mends what another vault has",
                self.node
            );
        }
        let begins = if part == 0 { seconds(now) } else { scrub.begins.unwrap_or(seconds(now)) };
        let next = (u16::from(part) + 1) % SCRUB_PARTS;
        let has_news = damaged != scrub.damaged;
        *scrub = match next {
            0 => Scrub { next, began: Some(begins), begins: None, damaged },
            _ => Scrub { next, began: scrub.began, begins: Some(begins), damaged },
        };
        if has_news || next.is_multiple_of(SAVED_EVERY) {
            self.save(scrub).await;
        }
        Ok(())
    }

    /// Looks whether what was damaged still is: its writer may have sent it again, or retention have taken it.
    async fn read_again(&self, scrub: &mut Scrub) -> Result<(), NotScrubbed> {
        if scrub.damaged.is_empty() {
            return Ok(());
        }
        let names: Vec<ObjectName> =
            scrub.damaged.iter().filter_map(|name| Some(ObjectName::parse(name)?.0)).collect();
        let found = self.space.scrub_again(&names, RATE).await?;
        let still: Vec<String> = found.damaged.iter().map(ToString::to_string).collect();
        if still != scrub.damaged {
            scrub.damaged = still;
            self.save(scrub).await;
        }
        Ok(())
    }

    async fn save(&self, scrub: &Scrub) {
        let (scrubs, scrub) = (self.scrubs.clone(), scrub.clone());
        if let Ok(Err(failure)) = tokio::task::spawn_blocking(move || scrubs.save(&scrub)).await {
            tracing::warn!(node = %self.node, "how far the scrub has come is not remembered: {failure}");
        }
    }

    fn show(&self, scrub: &Scrub) {
        self.metrics.show_scrub(self.node.as_str(), scrub.began, scrub.damaged.len());
    }
}

/// Whether something is to be read now: the next part of what was begun, or the first one again.
fn is_due(scrub: &Scrub, now: Timestamp, every: Duration) -> bool {
    let age = |began: i64| seconds(now).saturating_sub(began);
    // A clock that was set back is no reason to wait for long.
    scrub.next > 0
        || scrub.began.is_none_or(|began| age(began) < 0 || age(began).unsigned_abs() >= every.as_secs())
}

/// Seconds since 1970 UTC.
fn seconds(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(1_000_000_000)
}

/// What is damaged, when of this part this was found.
fn with_found(known: &[String], part: u8, found: &[ObjectName]) -> Vec<String> {
    let elsewhere = known.iter().filter(|name| part_of(name) != Some(part)).cloned();
    found.iter().map(ToString::to_string).chain(elsewhere).take(DAMAGED_MAX).collect()
}

/// In which part an object is.
fn part_of(name: &str) -> Option<u8> {
    match ObjectName::parse(name)?.1 {
        Named::Pack(id) => Some(id.as_bytes()[0]),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::id::PackId;

    use super::*;

    fn pack(first: u8) -> ObjectName {
        let mut id = [9; 32];
        id[0] = first;
        Named::Pack(PackId::new(id)).to_name()
    }

    #[test]
    fn what_is_found_in_a_part_takes_the_place_of_what_was_known_of_it() {
        let known = [pack(0).to_string(), pack(5).to_string()];
        assert_eq!(with_found(&known, 5, &[]), [pack(0).to_string()]);
        assert_eq!(with_found(&known, 5, &[pack(5)]), [pack(5).to_string(), pack(0).to_string()]);
        assert_eq!(with_found(&known, 7, &[pack(7)]).len(), 3);
    }

    #[test]
    fn a_scrub_is_due_when_its_time_has_come_and_until_it_is_over() {
        let (now, week) = (Timestamp::from_seconds(1_000_000), Duration::from_secs(604_800));
        assert!(is_due(&Scrub::default(), now, week));
        let done = |began| Scrub { began: Some(began), ..Scrub::default() };
        assert!(!is_due(&done(1_000_000 - 604_799), now, week));
        assert!(is_due(&done(1_000_000 - 604_800), now, week));
        assert!(is_due(&done(1_000_001), now, week), "the clock was set back");
        assert!(is_due(&Scrub { next: 3, ..done(999_999) }, now, week));
    }
}
