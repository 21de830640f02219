//! The retention grammar: which points of a source are kept. Owns the rules as written; applying them to
//! points is retention's.

use crate::units::Span;

use super::table::Table;
use super::value::Value;

/// Which points are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keep {
    /// Every point, for ever: what holds where nothing is said.
    #[default]
    Everything,
    /// Every point that at least one rule wants.
    Rules(KeepRules),
}

/// Retention rules; a point is kept when any of them wants it. Counts are of points, never 0. At least one
/// rule is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// All points younger than this.
    pub all: Option<Span>,
    /// The newest points.
    pub last: Option<u32>,
    /// One point of each of the newest hours that have one.
    pub hourly: Option<u32>,
    /// One point of each of the newest days that have one.
    pub daily: Option<u32>,
    /// One point of each of the newest weeks (from Monday) that have one.
    pub weekly: Option<u32>,
    /// One point of each of the newest months that have one.
    pub monthly: Option<u32>,
    /// One point of each of the newest years that have one.
    pub yearly: Option<u32>,
}

/// `keep = {}` says "everything" where a policy says otherwise.
pub(super) fn read_keep(value: &Value<'_>) -> Option<Keep> {
    Table::read(value, |table| {
        let all = table.get("all").and_then(|value| value.positive_span());
        let [last, hourly, daily, weekly, monthly, yearly] =
            ["last", "hourly", "daily", "weekly", "monthly", "yearly"]
                .map(|key| table.get(key).and_then(|value| value.positive_number()));
        let rules = KeepRules { all, last, hourly, daily, weekly, monthly, yearly };
        if rules == KeepRules::default() { Keep::Everything } else { Keep::Rules(rules) }
    })
}
