//! A network that is gone for a minute.

use std::time::{Duration, Instant};

use backstay_testkit::process::wait_within;
use jiff::Timestamp;

use super::seed;
use crate::acknowledged::{acknowledged, judge_all};
use crate::filter::Filter;
use crate::rig::{RPO, Rig};
use crate::watch::{PATIENCE, Sample, Watch};
use crate::writer::{LONG_BYTES_MAX, SHORT_BYTES_MAX, Writer};

const PARTITION: Duration = Duration::from_secs(60);

/// What came through before the partition has been noted by then.
const NOTED: Duration = Duration::from_secs(3);

/// Beta has looked at what it holds by then.
const HELD_SEEN: Duration = Duration::from_secs(20);

/// So many datagrams between two looks are a capture under way, and no more than its beginning.
const BEGUN_DATAGRAMS: u64 = 300;

/// When the network goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    AtAnyTime,
    InACapture,
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    BothWays,
    /// What alpha sends arrives.
    FromBeta,
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn through_a_partition_of_a_minute_the_lag_grows_and_nothing_acknowledged_is_missing() {
    goes_for_a_minute(Gone::BothWays, When::AtAnyTime);
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn through_a_partition_that_begins_in_a_capture_the_lag_grows_and_nothing_acknowledged_is_missing() {
    goes_for_a_minute(Gone::BothWays, When::InACapture);
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn while_no_answer_comes_for_a_minute_the_lag_grows_and_nothing_acknowledged_is_missing() {
    goes_for_a_minute(Gone::FromBeta, When::InACapture);
}

fn goes_for_a_minute(gone: Gone, when: When) {
    let (seed, bytes_max) = (seed(), if when == When::InACapture { LONG_BYTES_MAX } else { SHORT_BYTES_MAX });
    let rig = Rig::new(None, seed);
    let writer = Writer::start(&rig.path("source"), rig.path("written"), bytes_max, seed);
    let daemons = rig.daemons();
    let watch = Watch::start(&rig.alpha, &rig.beta);
    watch.wait_for("points", |samples| acknowledged(samples).len() >= 3);
    let is_held = |last: &Sample| last.held_exposure.is_some();
    watch.wait_for("the word of the holder", |samples| samples.last().is_some_and(is_held));

    let filters = if gone == Gone::BothWays { &rig.filters[..] } else { &rig.filters[..1] };
    let cut = match when {
        When::AtAnyTime => cut_now(filters),
        When::InACapture => cut_in_a_capture(&rig, filters, &watch),
    };
    std::thread::sleep((PARTITION / 2).saturating_sub(cut.elapsed()));
    let known = acknowledged(&watch.samples());
    // What there is of alpha if it dies now.
    rig.beta.restore(&rig.path("meanwhile"), &[]);
    let restored = Timestamp::now();
    let told = rig.alpha.try_run(&["status", "--check"]).expect_err("it is critical");
    assert!(told.contains("exit status: 2"), "{told}");
    std::thread::sleep(PARTITION.saturating_sub(cut.elapsed()));
    let mended = Instant::now();
    filters.iter().for_each(Filter::mend);
    let counts = rig.counts();
    println!("alpha and beta by the end of it: {counts:?}");
    assert!(counts.iter().any(|counts| counts.lost > 0), "{counts:?}");

    let points = acknowledged(&watch.samples()).len();
    let is_within = |last: &Sample| last.exposure.is_some_and(|exposure| exposure <= RPO.as_secs_f64());
    watch.wait_for("the end of the lag", |samples| samples.last().is_some_and(is_within));
    println!("the lag was within its objective {:?} after the partition", mended.elapsed());
    watch.wait_for("captures to go on", |samples| acknowledged(samples).len() >= points + 3);
    let ledger = writer.stop();
    let end = Timestamp::now();
    let is_whole = |last: &Sample| last.restorable > Some(end);
    watch.wait_for("the last changes", |samples| samples.last().is_some_and(is_whole));
    let is_seen = |last: &Sample| last.held_exposure.is_some_and(|held| held < PARTITION.as_secs_f64() / 2.0);
    watch.wait_for("the holder to see them", |samples| samples.last().is_some_and(is_seen));

    let samples = watch.stop();
    let [alpha, _beta] = daemons;
    drop(alpha);
    let of_it = samples.iter().filter(|sample| (cut..mended).contains(&sample.at));
    judge_partition(&of_it.collect::<Vec<_>>(), cut);
    let newest = known.last().expect("a point").since();
    assert_eq!(ledger.contradicts(&rig.path("meanwhile"), newest, restored), None);
    judge_all(&rig, &ledger, &samples);
}

fn cut_now(filters: &[Filter]) -> Instant {
    filters.iter().for_each(Filter::cut);
    Instant::now()
}

/// Cuts while much is on its way to beta; again, where all of it had arrived.
fn cut_in_a_capture(rig: &Rig, filters: &[Filter], watch: &Watch) -> Instant {
    let came = || rig.filters[1].counts().came;
    let mut before = came();
    wait_within(PATIENCE, "a capture", || {
        let now = came();
        let since = now - std::mem::replace(&mut before, now);
        if since < BEGUN_DATAGRAMS {
            return Err(format!("{since} datagrams came"));
        }
        let cut = cut_now(filters);
        std::thread::sleep(NOTED);
        if watch.samples().last().is_some_and(Sample::is_capturing) {
            return Ok(cut);
        }
        filters.iter().for_each(Filter::mend);
        Err("it had ended".to_owned())
    })
}

/// What both daemons say while nothing comes of what one asks the other.
fn judge_partition(samples: &[&Sample], cut: Instant) {
    for sample in samples {
        let (at, exposure, held) = (sample.at - cut, sample.exposure, sample.held_exposure);
        println!(
            "{at:>9.1?}: exposure {exposure:?}, held {held:?}, {}, {:?}",
            sample.state(),
            sample.problem()
        );
    }
    let after = |duration: Duration| samples.iter().skip_while(move |sample| sample.at < cut + duration);
    assert!(after(PARTITION * 3 / 4).count() > 5, "{} looks", samples.len());
    for sample in samples {
        let partition = (sample.at - cut).as_secs_f64();
        let lags = [sample.exposure, sample.held_exposure];
        assert!(lags.iter().flatten().all(|lag| *lag > partition), "{partition} s: {sample:?}");
    }
    assert!(falls(after(HELD_SEEN).filter_map(|sample| sample.held_exposure)).is_empty());
    assert_eq!(
        after(HELD_SEEN).find(|sample| !sample.claims_no_more_than_is_held()).map(|sample| sample.at - cut),
        None
    );
    // A capture whose commit came through and whose farewell did not is noted late, and was at the holder all the time.
    let falls = falls(after(NOTED).filter_map(|sample| sample.exposure));
    assert!(falls.len() <= 1, "{falls:?}");
    let is_told = |sample: &&&Sample| [sample.state(), sample.severity()] == ["critical"; 2];
    assert_eq!(after(RPO * 2 + NOTED).find(|sample| !is_told(sample)).map(|sample| sample.at - cut), None);
    let last = samples.last().expect("it was looked");
    // A capture that still tries has not failed yet.
    assert!(last.problem().is_some() || last.is_capturing(), "nobody is told what is wrong: {last:?}");
}

/// Where a lag did not grow as time went by: before and after.
fn falls(known: impl Iterator<Item = f64>) -> Vec<[f64; 2]> {
    let known: Vec<f64> = known.collect();
    let pairs = known.windows(2).map(|pair| [pair[0], pair[1]]);
    pairs.filter(|[before, after]| after <= before).collect()
}
