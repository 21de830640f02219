//! Retention: which points of a source are kept, and why. Owns the calendar (UTC) and the time by which a point is
//! judged; refuses to know about runs, pins and lineages: what of the rest can really go is thinning's.

mod period;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::config::{Keep, KeepRules};
use crate::units::{Span, Timestamp};

pub use period::{Calendar, Period};

/// What retention knows of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aged {
    /// Its retention time: see [`retention_time`].
    pub time: Timestamp,
    /// Its sequence number: the newest point has the greatest, also where others were copied or brought back since.
    pub sequence: u64,
    /// Whether somebody holds it by name.
    pub is_held: bool,
    /// Entries of its state; 0 where that is not known.
    pub entries: u64,
    /// The device on which the root of the source was, where there is one.
    pub root_file_system: Option<u64>,
}

/// Of the points before almost everything was gone, so many are kept, the newest.
const LOSSES_KEPT: usize = 4;

/// Fewer entries are no loss that anybody has to be guarded against.
const LOSS_ENTRIES_LEAST: u64 = 10;

/// Why a point is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest of its source: the next capture builds on it.
    Newest,
    /// It is held by name.
    Held,
    /// There are no rules: every point is kept.
    Everything,
    /// It is no older than this, measured from the newest point.
    Within(Span),
    /// It is one of so many newest points.
    Last(u32),
    /// It is the first point of this period, which is one of the newest that have a point.
    First(Period),
    /// In the point after it more than nine tenths of the entries were gone, or the source was on another device: most
    /// likely nobody wanted that.
    BeforeLoss,
    /// The newest point is of a time that is still to come: a clock was wrong, then or now.
    ClockAhead,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Held => f.write_str("held"),
            Self::Everything => f.write_str("no rule drops it"),
            Self::Within(span) => write!(f, "within {span} of the newest"),
            Self::Last(count) => write!(f, "one of the last {count}"),
            Self::First(period) => write!(f, "first of {period}"),
            Self::ClockAhead => f.write_str("the newest is of a time to come, so nothing is dropped"),
            Self::BeforeLoss => f.write_str("before almost everything was gone, or another disk was there"),
        }
    }
}

/// The time by which retention judges a point: when its capture began, but neither before the point that was accepted
/// before it nor after the moment at which it was first seen. So a writer whose clock is wrong, or lies, moves no point
/// but its own, and that no further than to its neighbours. When the clock of who saw it stands before the previous
/// point, that point's time counts: times never fall.
pub fn retention_time(previous: Option<Timestamp>, captured: Timestamp, seen: Timestamp) -> Timestamp {
    let time = captured.min(seen);
    previous.map_or(time, |previous| time.max(previous))
}

/// How far ahead of the clock the newest point may be, for clocks that are set back a little.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// Whether a point is of a time that is still to come.
pub fn is_ahead(now: Timestamp, time: Timestamp) -> bool {
    time > now.saturating_add(AHEAD_MAX)
}

/// The same at a moment at which something would be dropped. When the newest point is of a time that is still to come, all
/// are kept: either the clock ran ahead once, and every point since has got that one time, in one hour and one year with all
/// others; or it stands back now, and what was accepted meanwhile has got the time of the newest.
pub fn judge_at(now: Timestamp, keep: &Keep, points: &[Aged]) -> Vec<Vec<Reason>> {
    let mut reasons = judge(keep, points);
    if points.iter().any(|point| is_ahead(now, point.time)) {
        reasons.iter_mut().for_each(|reasons| reasons.push(Reason::ClockAhead));
    }
    reasons
}

/// What is known of the time of an accepted point, for [`redated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    /// The time by which it was judged so far.
    pub time: Timestamp,
    /// When its capture began, by the clock of its node; `None` where nobody can tell.
    pub captured: Option<Timestamp>,
}

/// The times of `points`, oldest first, by a clock that is right: the way back after one ran ahead ([`Reason::ClockAhead`]).
/// A point of a time that is still to come is judged by the start of its capture. Where that is still to come as well, or
/// nobody can tell it, it gets the time of the next point of which it is known, or `now`. None gets a time before that of the
/// point before it.
pub fn redated(now: Timestamp, points: &[Dated]) -> Vec<Timestamp> {
    let mut next = now;
    let mut times: Vec<Timestamp> = points
        .iter()
        .rev()
        .map(|point| {
            if point.time <= now {
                return point.time;
            }
            next = point.captured.filter(|captured| *captured <= now).unwrap_or(next);
            next
        })
        .collect();
    times.reverse();
    let mut latest = None;
    for time in &mut times {
        *time = latest.map_or(*time, |latest| (*time).max(latest));
        latest = Some(*time);
    }
    times
}

/// Why each of `points` is kept, in their order; without a reason it may go. A rule that counts periods keeps the first
/// point of each: which that is no later point changes, so what is kept once stays until its period has had its time.
/// Nothing depends on the current time: while there are no captures, nothing ages.
pub fn judge(keep: &Keep, points: &[Aged]) -> Vec<Vec<Reason>> {
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); points.len()];
    let mut by_age: Vec<usize> = (0..points.len()).collect();
    // Stable: where these are equal, the place decides.
    by_age.sort_by_key(|place| (points[*place].time, points[*place].sequence));
    if let Some(newest) = by_age.iter().max_by_key(|place| points[**place].sequence) {
        reasons[*newest].push(Reason::Newest);
    }
    for (place, point) in points.iter().enumerate() {
        if point.is_held {
            reasons[place].push(Reason::Held);
        }
        if *keep == Keep::Everything {
            reasons[place].push(Reason::Everything);
        }
    }
    if let Keep::Rules(rules) = keep {
        apply(rules, points, &by_age, &mut reasons);
    }
    for place in before_losses(points, &by_age) {
        reasons[place].push(Reason::BeforeLoss);
    }
    reasons
}

/// The newest points whose follower has lost almost everything.
fn before_losses<'p>(points: &'p [Aged], by_age: &'p [usize]) -> impl Iterator<Item = usize> {
    let is_loss = |before: &Aged, after: &Aged| {
        let is_gone = before.entries > LOSS_ENTRIES_LEAST && after.entries < before.entries / 10;
        // Also where one of them has no number: another kind of file system.
        is_gone || before.root_file_system != after.root_file_system
    };
    let pairs = by_age.windows(2).rev();
    let losses = pairs.filter(move |pair| is_loss(&points[pair[0]], &points[pair[1]]));
    losses.map(|pair| pair[0]).take(LOSSES_KEPT)
}

fn apply(rules: &KeepRules, points: &[Aged], by_age: &[usize], reasons: &mut [Vec<Reason>]) {
    let Some(newest) = by_age.last().map(|place| points[*place].time) else { return };
    if let Some(span) = rules.all {
        let from = newest.saturating_sub(span.as_duration());
        for place in by_age.iter().filter(|place| points[**place].time >= from) {
            reasons[*place].push(Reason::Within(span));
        }
    }
    if let Some(count) = rules.last {
        for place in by_age.iter().rev().take(count as usize) {
            reasons[*place].push(Reason::Last(count));
        }
    }
    for (calendar, count) in [
        (Calendar::Hour, rules.hourly),
        (Calendar::Day, rules.daily),
        (Calendar::Week, rules.weekly),
        (Calendar::Month, rules.monthly),
        (Calendar::Year, rules.yearly),
    ] {
        let Some(count) = count else { continue };
        for (place, period) in firsts(calendar, count, points, by_age) {
            reasons[place].push(Reason::First(period));
        }
    }
}

/// The first point of each of the newest `count` periods that have one.
fn firsts(calendar: Calendar, count: u32, points: &[Aged], by_age: &[usize]) -> Vec<(usize, Period)> {
    let mut seen = HashSet::new();
    let periods = by_age.iter().map(|place| (*place, calendar.period_of(points[*place].time)));
    let firsts: Vec<(usize, Period)> = periods.filter(|(_, period)| seen.insert(*period)).collect();
    firsts.into_iter().rev().take(count as usize).collect()
}
