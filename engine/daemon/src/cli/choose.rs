//! Choosing a vault and a point from what was typed.

use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::config::Source;
use backstay_core::units::{Timestamp, parse_past};
use backstay_vault::vault::{Catalogue, PointObject, Uncounted, Vault};

use super::PointArgs;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::terminal::remark;
use crate::vaults::{Absent, Vaults};

/// Fewest digits by which a point is found.
pub(super) const PREFIX_DIGITS_LEAST: usize = 4;

/// The word for the newest point.
pub(super) const NEWEST: &str = "newest";

/// So many points that do not count are told one by one.
const UNCOUNTED_TOLD_MAX: usize = 10;

/// A vault and what it holds of a source.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) vault: Arc<Vault>,
    pub(super) catalogue: Catalogue,
}

/// What each vault of a source holds of it. A vault that cannot be read is said and passed over, unless it is
/// the only one or was asked for by name.
pub(super) fn held(vaults: &Vaults, source: &Source, from: Option<&str>) -> Result<Vec<Held>, Failure> {
    let names: Vec<String> = match from {
        Some(name) => vec![name.to_owned()],
        None => vaults.to_read(source),
    };
    let mut held = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match hold(vaults, source, &name) {
            Ok(one) => held.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    match (held.is_empty(), failures.pop()) {
        (true, Some(failure)) => Err(failure),
        (true, None) => {
            // Of a vault that another node writes to, that says which.
            let elsewhere = source.flows.iter().filter_map(|flow| flow.target.vault());
            let why = elsewhere.filter_map(|name| vaults.open(name, Absent::Refuse).err()).next();
            let nowhere = || Failure::failed(format!("{} goes to no vault", source.name));
            Err(why.unwrap_or_else(nowhere))
        }
        (false, failure) => {
            failures.into_iter().chain(failure).for_each(|failure| remark(&format!("warning: {failure}")));
            Ok(held)
        }
    }
}

fn hold(vaults: &Vaults, source: &Source, name: &str) -> Result<Held, Failure> {
    let vault = vaults.open(name, Absent::Refuse)?;
    let catalogue = vault.catalogue_at_first(vault.ring().source_id(source.name.as_str()))?;
    // After the points: those that were committed since the vault was opened have their chunks in newer objects. Where requests
    // cost, these are looked for when a chunk is missed.
    if !vault.requests_cost() {
        vault.refresh_index(None)?;
    }
    for left_out in &catalogue.left_out {
        remark(&format!("warning: {left_out}"));
    }
    warn_of_uncounted(&vault.uncounted(&catalogue)?, name);
    Ok(Held { name: name.to_owned(), vault, catalogue })
}

/// Points that do not count are passed over: what is taken may be older than what there ought to be.
pub(super) fn warn_of_uncounted(uncounted: &[Uncounted], vault: &str) {
    if uncounted.is_empty() {
        return;
    }
    for one in uncounted.iter().take(UNCOUNTED_TOLD_MAX) {
        let time = match one {
            Uncounted::Broken { point, .. } => format!(" of {}", point.common.capture_start),
            _ => String::new(),
        };
        remark(&format!("warning: vault {vault}: point {}{time} {one}", one.point()));
    }
    if let Some(more) = uncounted.len().checked_sub(UNCOUNTED_TOLD_MAX).filter(|more| *more > 0) {
        remark(&format!("warning: vault {vault}: {more} more points do not count"));
    }
    remark(&format!(
        "warning: these points are passed over, so that the newest may be an older one; `backstay vault check {vault}` says all that is wrong"
    ));
}

/// Which point is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The newest.
    Newest,
    /// The newest at or before this time.
    At(Timestamp),
    /// The one with this id, or whose id begins so.
    Id(String),
}

impl Asked {
    /// As options say it.
    pub(super) fn of(arguments: &PointArgs) -> Result<Self, Failure> {
        match (&arguments.at, &arguments.point) {
            (Some(at), _) => Self::at(at),
            (None, Some(id)) => Self::id(id),
            (None, None) => Ok(Self::Newest),
        }
    }

    /// As one word: an id, a time, or `newest`.
    pub(super) fn parse(word: &str) -> Result<Self, Failure> {
        match word {
            NEWEST => Ok(Self::Newest),
            time if time.contains(['-', ':', ' ']) => Self::at(time),
            id => Self::id(id),
        }
    }

    fn at(time: &str) -> Result<Self, Failure> {
        Ok(Self::At(to_end_of_second(parse_past(time, SystemClock.now()).map_err(Failure::usage)?)))
    }

    fn id(id: &str) -> Result<Self, Failure> {
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Failure::usage(format!(
                "{id} is neither the id of a point (hexadecimal digits), nor a time (2026-11-01T12:00:00Z, `2026-11-01 12:00`, `yesterday 12:00`, `2h ago`), nor `{NEWEST}`"
            )));
        }
        match id.len() < PREFIX_DIGITS_LEAST {
            true => {
                Err(Failure::usage(format!("give at least {PREFIX_DIGITS_LEAST} digits of the point's id")))
            }
            false => Ok(Self::Id(id.to_ascii_lowercase())),
        }
    }

    fn not_there(&self, source: &Source) -> Failure {
        let asked = match self {
            Self::Id(id) => format!(" {id}"),
            Self::At(at) => format!(" at or before {at}"),
            Self::Newest => String::new(),
        };
        let name = &source.name;
        Failure::failed(format!("{name} has no point{asked}; `backstay points {name}` lists what there is"))
    }
}

/// The point that was asked for, and the vault that has it: of several, the first that is configured.
pub(super) fn point(
    held: Vec<Held>,
    source: &Source,
    arguments: &PointArgs,
) -> Result<(Held, Arc<PointObject>), Failure> {
    choose(held, source, &Asked::of(arguments)?)
}

/// The same for a point that was asked for otherwise.
pub(super) fn choose(
    held: Vec<Held>,
    source: &Source,
    asked: &Asked,
) -> Result<(Held, Arc<PointObject>), Failure> {
    let mut best: Option<(Held, Arc<PointObject>)> = None;
    for held in held {
        let Some(found) = find(&held.catalogue, asked)? else { continue };
        if let (Asked::Id(id), Some((other, best))) = (asked, &best)
            && best.link.point != found.link.point
        {
            return Err(Failure::usage(format!(
                "{id} begins the ids of a point in {} and of another in {}; give more digits, or --from",
                other.name, held.name
            )));
        }
        let newer =
            best.as_ref().is_none_or(|(_, best)| found.common.capture_start > best.common.capture_start);
        if newer {
            best = Some((held, found));
        }
    }
    best.ok_or_else(|| asked.not_there(source))
}

/// Two points of one vault.
pub(super) fn choose_both(
    held: Vec<Held>,
    source: &Source,
    asked: [&Asked; 2],
) -> Result<(Held, [Arc<PointObject>; 2]), Failure> {
    let mut best: Option<(Held, [Arc<PointObject>; 2])> = None;
    let mut found_alone = [false; 2];
    for held in held {
        let [old, new] = asked.map(|asked| find(&held.catalogue, asked));
        match (old?, new?) {
            (Some(old), Some(new)) => {
                let is_newer = |best: &Arc<PointObject>| new.common.capture_start > best.common.capture_start;
                if best.as_ref().is_none_or(|(_, [_, best])| is_newer(best)) {
                    best = Some((held, [old, new]));
                }
            }
            (old, new) => {
                found_alone = [found_alone[0] || old.is_some(), found_alone[1] || new.is_some()];
            }
        }
    }
    best.ok_or_else(|| match found_alone {
        [false, _] => asked[0].not_there(source),
        [_, false] => asked[1].not_there(source),
        [true, true] => Failure::failed(
            "no vault has both points; copy one with `backstay vault copy`, or choose points of one vault",
        ),
    })
}

/// Times of points are shown to the second, rounded down: a whole second that was typed means all of it.
fn to_end_of_second(at: Timestamp) -> Timestamp {
    let is_whole = at.as_nanos().rem_euclid(1_000_000_000) == 0;
    if is_whole { Timestamp::from_nanos(at.as_nanos().saturating_add(999_999_999)) } else { at }
}

/// The point that is asked for in what a vault holds of its source.
pub(super) fn find(catalogue: &Catalogue, asked: &Asked) -> Result<Option<Arc<PointObject>>, Failure> {
    let points = catalogue.points();
    let newest_by = |at: Timestamp| points.iter().rev().find(|point| point.common.capture_start <= at);
    match asked {
        Asked::Newest => Ok(points.last().cloned()),
        Asked::At(at) => Ok(newest_by(*at).cloned()),
        Asked::Id(id) => {
            let mut matching = points.iter().filter(|point| point.link.point.to_string().starts_with(id));
            match (matching.next(), matching.next()) {
                (Some(_), Some(_)) => {
                    Err(Failure::usage(format!("several points begin with {id}; give more digits")))
                }
                (found, _) => Ok(found.cloned()),
            }
        }
    }
}
