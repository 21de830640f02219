//! Networks that lose, delay and reorder all the time.

use std::time::Duration;

use backstay_testkit::udp_relay::Weather;
use jiff::Timestamp;

use super::seed;
use crate::acknowledged::{acknowledged, judge_all};
use crate::rig::Rig;
use crate::watch::Watch;
use crate::writer::{SHORT_BYTES_MAX, Writer};

/// So many are acknowledged before a network counts as one over which captures go on.
const POINTS: usize = 6;

#[test]
#[ignore = "run by cargo xtask test network"]
fn every_acknowledged_point_is_at_the_holder_where_one_datagram_of_a_hundred_is_lost() {
    captures_go_on_where_datagrams_are_lost(100);
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn every_acknowledged_point_is_at_the_holder_where_one_datagram_of_twenty_is_lost() {
    captures_go_on_where_datagrams_are_lost(500);
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn every_acknowledged_point_is_at_the_holder_where_each_way_takes_a_hundred_milliseconds() {
    let delay = Duration::from_millis(100);
    captures_go_on_by_a_relay(Weather { delay, ..Weather::default() });
}

#[test]
#[ignore = "run by cargo xtask test network"]
fn every_acknowledged_point_is_at_the_holder_where_datagrams_overtake_each_other() {
    let delay = Duration::from_millis(10);
    captures_go_on_by_a_relay(Weather { delay, late_of_10_000: 1000, ..Weather::default() });
}

fn captures_go_on_where_datagrams_are_lost(of_10_000: u32) {
    let seed = seed();
    let rig = Rig::new(None, seed);
    rig.filters.iter().for_each(|filter| filter.lose(of_10_000));
    captures_go_on(&rig, seed);
    for (host, counts) in ["alpha", "beta"].into_iter().zip(rig.counts()) {
        println!("{host}: of {} datagrams that came {} were lost", counts.came, counts.lost);
        let expected = counts.came as f64 * f64::from(of_10_000) / 10_000.0;
        assert!(counts.lost as f64 > expected / 2.0, "{host}: {counts:?}");
    }
    let [_, beta] = rig.counts();
    assert!(beta.lost > 50, "{beta:?}");
}

fn captures_go_on_by_a_relay(weather: Weather) {
    let seed = seed();
    let rig = Rig::new(Some(weather), seed);
    captures_go_on(&rig, seed);
    let (passed, late) = rig.relay.as_ref().unwrap().passed_and_late();
    println!("{passed} datagrams took {:?} each way or longer, {late} of them longer", weather.delay);
    assert!(passed > 5000, "{passed}");
    assert!(late * 10_000 >= passed * u64::from(weather.late_of_10_000) / 2, "{late} of {passed}");
}

/// Changes and captures until there are enough points, and judges what there is.
fn captures_go_on(rig: &Rig, seed: u64) {
    let writer = Writer::start(&rig.path("source"), rig.path("written"), SHORT_BYTES_MAX, seed);
    let daemons = rig.daemons();
    let watch = Watch::start(&rig.alpha, &rig.beta);
    watch.wait_for("points", |samples| acknowledged(samples).len() >= POINTS);
    let ledger = writer.stop();
    let end = Timestamp::now();
    watch.wait_for("the last changes", |samples| {
        samples.last().is_some_and(|last| last.restorable > Some(end))
    });
    let samples = watch.stop();
    let most = samples.iter().filter_map(|sample| sample.exposure).fold(0.0, f64::max);
    println!("the lag was {most:.1} s at most");
    // From here on there is nobody at alpha.
    let [alpha, _beta] = daemons;
    drop(alpha);
    judge_all(rig, &ledger, &samples);
}
