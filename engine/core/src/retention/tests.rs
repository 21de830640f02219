//! Retention over generated calendars, and its properties.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn points(times: impl IntoIterator<Item = Timestamp>) -> Vec<Aged> {
    times
        .into_iter()
        .map(|time| Aged { time, sequence: 0, is_held: false, entries: 0, root_file_system: None })
        .collect()
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

/// One point every `every` from `from`, `count` of them.
fn series(from: &str, every: Duration, count: u32) -> Vec<Timestamp> {
    (0..count).map(|n| at(from).saturating_add(every * n)).collect()
}

/// The points that are kept, one a line, with the reasons; and how many were dropped.
fn shown(keep: &Keep, points: &[Aged]) -> String {
    let judged = judge(keep, points);
    let mut lines = Vec::new();
    for (point, reasons) in points.iter().zip(&judged).filter(|(_, reasons)| !reasons.is_empty()) {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        lines.push(format!("{}  {}", point.time, reasons.join(", ")));
    }
    let dropped = judged.iter().filter(|reasons| reasons.is_empty()).count();
    lines.push(format!("{dropped} of {} dropped", points.len()));
    lines.join("\n")
}

fn rules(rules: KeepRules) -> Keep {
    Keep::Rules(rules)
}

/// As in the documentation's example.
fn usual() -> KeepRules {
    KeepRules {
        all: Some(Span::new(hours(1))),
        hourly: Some(24),
        daily: Some(30),
        weekly: Some(12),
        ..KeepRules::default()
    }
}

#[test]
fn while_the_newest_point_is_of_a_time_to_come_nothing_is_dropped() {
    // The clock was ten years ahead for one capture, and every later point has got its time.
    let before = series("2026-03-01T00:00:00Z", hours(1), 48);
    let jumped = at("2036-03-03T00:00:00Z");
    let after = (0..200).map(|n| {
        let seen = at("2026-03-03T00:00:00Z").saturating_add(hours(n));
        retention_time(Some(jumped), seen, seen)
    });
    let all = points(before.into_iter().chain([jumped]).chain(after));
    let dropped = |now: &str| {
        let judged = judge_at(at(now), &rules(usual()), &all);
        judged.iter().filter(|reasons| reasons.is_empty()).count()
    };
    assert_eq!(dropped("2026-03-12T00:00:00Z"), 0);
    assert_eq!(dropped("2036-03-02T22:59:59Z"), 0);
    assert!(dropped("2036-03-02T23:00:00Z") > 0, "as the calendar says");
}

#[test]
fn points_of_a_time_to_come_get_their_own_times_again() {
    let dated = |time: &str, captured: Option<&str>| Dated { time: at(time), captured: captured.map(at) };
    let jumped = "2036-03-03T00:00:00Z";
    let points = [
        dated("2026-03-02T00:00:00Z", Some("2026-03-02T00:00:00Z")),
        // Of this one the start of the capture is of no use: it lies before the next.
        dated(jumped, Some(jumped)),
        dated(jumped, Some("2026-03-03T01:00:00Z")),
        // Its node's clock stood back.
        dated(jumped, Some("1970-01-01T00:00:00Z")),
        dated(jumped, Some("2026-03-03T03:00:00Z")),
        dated(jumped, None),
    ];
    let times =
        |now: &str| -> Vec<String> { redated(at(now), &points).iter().map(ToString::to_string).collect() };
    assert_eq!(
        times("2026-03-03T05:00:00Z"),
        [
            "2026-03-02T00:00:00Z",
            "2026-03-03T01:00:00Z",
            "2026-03-03T01:00:00Z",
            "2026-03-03T01:00:00Z",
            "2026-03-03T03:00:00Z",
            "2026-03-03T05:00:00Z",
        ]
    );
    let as_before: Vec<Timestamp> = points.iter().map(|point| point.time).collect();
    assert_eq!(redated(at("2036-03-04T00:00:00Z"), &points), as_before, "no time is to come");
}

proptest! {
    #[test]
    fn times_that_were_given_anew_rise_and_none_is_to_come(
        now in 0i64..50,
        points in prop::collection::vec((0i64..100, prop::option::of(0i64..100)), 0..12),
    ) {
        let mut points: Vec<Dated> = points
            .into_iter()
            .map(|(time, captured)| Dated {
                time: Timestamp::from_seconds(time),
                captured: captured.map(Timestamp::from_seconds),
            })
            .collect();
        points.sort_by_key(|point| point.time);
        let now = Timestamp::from_seconds(now);
        let times = redated(now, &points);
        prop_assert!(times.is_sorted());
        prop_assert!(times.iter().all(|time| *time <= now));
        for (point, time) in points.iter().zip(&times).filter(|(point, _)| point.time <= now) {
            prop_assert_eq!(point.time, *time);
        }
    }
}

#[test]
fn a_point_that_was_copied_or_brought_back_later_is_not_the_newest() {
    let point = |sequence| Aged { sequence, ..points([at("2026-03-02T00:00:00Z")])[0] };
    let keep = rules(KeepRules { last: Some(2), ..KeepRules::default() });
    // Six was there; one to five came later, and none may be of a time before that of the one before.
    let judged = judge(&keep, &[6, 1, 2, 3, 4, 5].map(point));
    assert_eq!(judged[0], [Reason::Newest, Reason::Last(2)]);
    assert_eq!(judged.iter().filter(|reasons| !reasons.is_empty()).count(), 2);
}

#[test]
fn the_ends_of_months_and_a_leap_day_belong_to_their_own_months() {
    let keep = rules(KeepRules { monthly: Some(4), yearly: Some(2), ..KeepRules::default() });
    let daily = points(series("2027-11-29T12:00:00Z", hours(24), 130));
    insta::assert_snapshot!(shown(&keep, &daily), @r"
    2027-11-29T12:00:00Z  first of year 2027
    2028-01-01T12:00:00Z  first of month 2028-01, first of year 2028
    2028-02-01T12:00:00Z  first of month 2028-02
    2028-03-01T12:00:00Z  first of month 2028-03
    2028-04-01T12:00:00Z  first of month 2028-04
    2028-04-06T12:00:00Z  newest
    124 of 130 dropped
    ");
}

#[test]
fn weeks_begin_on_monday_also_across_the_end_of_a_year() {
    let keep = rules(KeepRules { weekly: Some(3), ..KeepRules::default() });
    let daily = points(series("2026-12-20T06:00:00Z", hours(24), 18));
    insta::assert_snapshot!(shown(&keep, &daily), @r"
    2026-12-21T06:00:00Z  first of week of 2026-12-21
    2026-12-28T06:00:00Z  first of week of 2026-12-28
    2027-01-04T06:00:00Z  first of week of 2027-01-04
    2027-01-06T06:00:00Z  newest
    14 of 18 dropped
    ");
}

#[test]
fn a_day_has_24_hours_also_where_a_zone_changes_its_clocks() {
    // The night in which much of Europe goes from 03:00 back to 02:00.
    let keep = rules(KeepRules { hourly: Some(4), ..KeepRules::default() });
    let often = points(series("2026-10-24T22:30:00Z", hours(1) / 2, 10));
    insta::assert_snapshot!(shown(&keep, &often), @r"
    2026-10-25T00:00:00Z  first of hour 2026-10-25T00Z
    2026-10-25T01:00:00Z  first of hour 2026-10-25T01Z
    2026-10-25T02:00:00Z  first of hour 2026-10-25T02Z
    2026-10-25T03:00:00Z  newest, first of hour 2026-10-25T03Z
    6 of 10 dropped
    ");
}

#[test]
fn periods_without_a_point_use_up_no_count_so_a_month_without_captures_costs_nothing() {
    let keep = rules(KeepRules { all: Some(Span::new(hours(2))), daily: Some(4), ..KeepRules::default() });
    let mut times = series("2026-03-01T08:00:00Z", hours(12), 6);
    times.extend(series("2026-04-05T08:00:00Z", hours(1), 4));
    insta::assert_snapshot!(shown(&keep, &points(times)), @r"
    2026-03-01T08:00:00Z  first of day 2026-03-01
    2026-03-02T08:00:00Z  first of day 2026-03-02
    2026-03-03T08:00:00Z  first of day 2026-03-03
    2026-04-05T08:00:00Z  first of day 2026-04-05
    2026-04-05T09:00:00Z  within 2h of the newest
    2026-04-05T10:00:00Z  within 2h of the newest
    2026-04-05T11:00:00Z  newest, within 2h of the newest
    3 of 10 dropped
    ");
}

#[test]
fn holds_and_the_last_points_stay() {
    let keep = rules(KeepRules { last: Some(2), ..KeepRules::default() });
    let mut few = points(series("2026-05-01T00:00:00Z", hours(1), 5));
    few[1].is_held = true;
    insta::assert_snapshot!(shown(&keep, &few), @r"
    2026-05-01T01:00:00Z  held
    2026-05-01T03:00:00Z  one of the last 2
    2026-05-01T04:00:00Z  newest, one of the last 2
    2 of 5 dropped
    ");
    insta::assert_snapshot!(shown(&Keep::Everything, &few[..2]), @r"
    2026-05-01T00:00:00Z  no rule drops it
    2026-05-01T01:00:00Z  newest, held, no rule drops it
    0 of 2 dropped
    ");
}

#[test]
fn of_points_of_one_instant_the_last_is_the_newest_and_the_first_that_of_the_period() {
    let keep = rules(KeepRules { hourly: Some(1), ..KeepRules::default() });
    let same = points([at("2026-05-01"); 3]);
    insta::assert_snapshot!(shown(&keep, &same), @r"
    2026-05-01T00:00:00Z  first of hour 2026-05-01T00Z
    2026-05-01T00:00:00Z  newest
    1 of 3 dropped
    ");
    assert!(judge(&keep, &[]).is_empty());
}

#[test]
fn a_clock_that_lies_or_jumps_moves_no_point_but_its_own() {
    let [earlier, now, later] = ["2026-05-01T10:00:00Z", "2026-05-01T10:15:00Z", "2099-01-01"].map(at);
    assert_eq!(retention_time(None, now, later), now);
    assert_eq!(retention_time(Some(earlier), later, now), now, "not after it was seen");
    assert_eq!(retention_time(Some(now), earlier, later), now, "not before the one before it");
    assert_eq!(retention_time(Some(now), later, earlier), now, "also when the clock of who saw it went back");
}

/// A year of captures every quarter of an hour, judged after each hour: how many points there are at most, and what
/// the oldest one is in the end.
#[test]
fn a_year_of_captures_leaves_about_as_many_points_as_the_rules_name() {
    let keep = rules(KeepRules { monthly: Some(12), ..usual() });
    let mut kept: Vec<Aged> = Vec::new();
    let mut most = 0;
    for time in series("2026-01-01T00:00:00Z", hours(1) / 4, 400 * 96) {
        kept.push(Aged { time, sequence: 0, is_held: false, entries: 0, root_file_system: None });
        let mut reasons = judge(&keep, &kept).into_iter();
        kept.retain(|_| reasons.next().is_some_and(|reasons| !reasons.is_empty()));
        most = most.max(kept.len());
    }
    let (count, oldest) = (kept.len(), kept[0].time);
    insta::assert_snapshot!(format!("{most} at most, {count} in the end from {oldest} on"), @"77 at most, 76 in the end from 2026-03-01T00:00:00Z on");
}

fn any_rules() -> impl Strategy<Value = KeepRules> {
    let count = || proptest::option::of(1u32..6);
    let span = proptest::option::of((1u64..100).prop_map(|count| Span::new(hours(count))));
    (span, count(), count(), count(), count(), count(), count()).prop_map(
        |(all, last, hourly, daily, weekly, monthly, yearly)| KeepRules {
            all,
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

/// Points at rising times, from minutes to months apart.
fn any_points() -> impl Strategy<Value = Vec<Aged>> {
    let gap = prop_oneof![0u64..60, 0u64..3_000, 0u64..100_000];
    proptest::collection::vec((gap, proptest::bool::weighted(0.05)), 1..60).prop_map(|gaps| {
        let mut time = at("2027-12-25");
        let next = |(minutes, is_held)| {
            time = time.saturating_add(Duration::from_secs(minutes * 60));
            Aged { time, sequence: 0, is_held, entries: 0, root_file_system: None }
        };
        gaps.into_iter().map(next).collect()
    })
}

fn kept(keep: &Keep, points: &[Aged]) -> Vec<Aged> {
    let judged = judge(keep, points);
    points.iter().zip(judged).filter(|(_, reasons)| !reasons.is_empty()).map(|(point, _)| *point).collect()
}

proptest! {
    #[test]
    fn the_newest_and_the_held_are_kept_and_what_is_kept_stays_so(rules in any_rules(), points in any_points()) {
        let keep = Keep::Rules(rules);
        let once = kept(&keep, &points);
        prop_assert_eq!(once.last(), points.last());
        prop_assert_eq!(
            once.iter().filter(|point| point.is_held).count(),
            points.iter().filter(|point| point.is_held).count()
        );
        prop_assert_eq!(&kept(&keep, &once), &once, "judging again drops nothing more");
    }

    #[test]
    fn a_point_that_is_dropped_is_wanted_by_no_later_judgement(
        rules in any_rules(), points in any_points(), cut in any::<prop::sample::Index>()
    ) {
        // What the rules keep in the end, and what they keep when they were applied once before.
        let keep = Keep::Rules(rules);
        let (early, late) = points.split_at(cut.index(points.len()) + 1);
        let thinned = [kept(&keep, early), late.to_vec()].concat();
        let wanted_at_once: Vec<Aged> = kept(&keep, &points);
        // The newest of the early ones was kept for being the newest; nothing else may differ.
        prop_assert_eq!(kept(&keep, &thinned), wanted_at_once);
    }

    #[test]
    fn points_that_a_writer_inserts_push_out_none_of_an_earlier_period(
        mut rules in any_rules(), points in any_points(), count in 1usize..50
    ) {
        // A count of points is filled by whoever makes points: that rule promises less.
        rules.last = None;
        let keep = Keep::Rules(rules);
        let newest = points.last().expect("one at least").time;
        let mut flooded = points.clone();
        // As far in the future as they like: they are seen now, and that is what counts.
        flooded.extend((0..count).map(|_| Aged {
            time: retention_time(Some(newest), at("2199-01-01"), newest),
            sequence: 0,
            is_held: false,
            entries: 0,
            root_file_system: None,
        }));
        let after = kept(&keep, &flooded);
        for point in kept(&keep, &points) {
            prop_assert!(after.contains(&point), "{point:?} was pushed out");
        }
    }

    #[test]
    fn times_never_fall_and_never_pass_the_moment_at_which_a_point_was_seen(
        captured in proptest::collection::vec(any::<i64>(), 1..30)
    ) {
        let seen = at("2026-11-28");
        let mut previous = None;
        for captured in captured.into_iter().map(Timestamp::from_nanos) {
            let time = retention_time(previous, captured, seen);
            prop_assert!(previous.is_none_or(|previous| previous <= time) && time <= seen);
            previous = Some(time);
        }
    }
}

#[test]
fn the_point_before_almost_everything_was_gone_is_kept() {
    let point = |(seconds, entries, device): &(i64, u64, u64)| Aged {
        time: Timestamp::from_seconds(*seconds),
        sequence: 0,
        is_held: false,
        entries: *entries,
        root_file_system: Some(*device),
    };
    let keep = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
    let kept = |points: &[(i64, u64, u64)]| {
        let points: Vec<Aged> = points.iter().map(point).collect();
        let reasons = judge(&keep, &points);
        (0..points.len()).filter(|place| !reasons[*place].is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&[(1, 1000, 5), (2, 1000, 5), (3, 99, 5), (4, 120, 5)]), [1, 3]);
    assert_eq!(kept(&[(1, 1000, 5), (2, 100, 5), (3, 100, 5)]), [2], "a tenth is left");
    assert_eq!(kept(&[(1, 9, 5), (2, 0, 5), (3, 0, 5)]), [2], "there was hardly anything");
    assert_eq!(kept(&[(1, 1000, 5), (2, 1000, 6), (3, 1000, 6)]), [0, 2], "another disk");
    // When it is as before, and the points between have gone, nothing is special any more.
    assert_eq!(kept(&[(1, 1000, 5), (2, 1000, 5), (3, 1000, 5)]), [2]);
    let often: Vec<(i64, u64, u64)> = (0..20).map(|n| (n, 1000, n as u64)).collect();
    assert_eq!(kept(&often), [15, 16, 17, 18, 19], "not without end");
}
