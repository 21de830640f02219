//! The clocks of the machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backstay_core::clock::{Clock, SteadyTime};
use backstay_core::units::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The system's clock, and the time since it was booted.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Timestamp::from_nanos(nanos)
    }

    /// With the time in which the machine was asleep: what was captured before ages meanwhile.
    fn steady(&self) -> Option<SteadyTime> {
        let since_boot = clock_gettime(ClockId::Boottime);
        Duration::try_from(since_boot).ok().map(SteadyTime::since_start)
    }
}

/// The minute of the day in local time, 0 to 1439: limits of rates go by that.
pub fn minute_of_day() -> u16 {
    let now = jiff::Zoned::now();
    u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}
