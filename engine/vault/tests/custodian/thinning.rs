//! Thinning and what it frees.

use backstay_core::config::{Keep, KeepRules};
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::vault::{Inspection, PointFate};

use crate::scene::{SOURCE, Scene, at, edit, last, sample};

#[test]
fn dropped_points_go_and_those_that_stay_read_as_before() {
    let mut scene = Scene::new();
    let points = scene.line(SOURCE, 12, &mut Random::new(1));
    let before = scene.pack_bytes();
    assert_eq!(scene.thin(&last(3)).points_dropped, 0, "nothing is accepted yet");
    scene.collect();
    let thinned = scene.thin(&last(3));
    assert_eq!(thinned.points_dropped, 9);
    scene.verify();
    let done = scene.collect();
    assert_eq!(done.points_deleted, 9);
    assert_eq!(scene.counting(), points[9..].iter().map(|point| point.link.point).collect());
    scene.verify();
    while !scene.is_idle() {}
    assert_eq!(scene.names("points/").len(), 3);
    assert!(scene.pack_bytes() < before * 2 / 3, "{} of {before} bytes are left", scene.pack_bytes());
    scene.verify();
}

#[test]
fn a_stretch_is_merged_once_and_by_one_layout() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 8, &mut Random::new(1));
    scene.collect();
    let thinned = scene.thin(&last(2));
    assert_eq!((thinned.points_dropped, thinned.runs_merged), (6, 1));
    assert_eq!(scene.names("layout/").len(), 2);
    let again = scene.thin(&last(2));
    assert_eq!(
        (again.points_dropped, again.runs_merged),
        (0, 0),
        "before the pass that lets the old runs go"
    );
    while !scene.is_idle() {}
    scene.verify();
}

#[test]
fn after_a_clock_ran_ahead_points_get_their_own_times_again_when_somebody_says_so() {
    let mut scene = Scene::new();
    let mut random = Random::new(6);
    let mut state = sample(&mut random, 4);
    let year = 365 * 24 * 3600;
    // A point an hour; at the fourth of them the clock is ten years ahead, and the pass sees it then.
    for hour in 0..8 {
        edit(&mut state, &mut random);
        scene.capture(SOURCE, 3600 * hour + if hour == 3 { 10 * year } else { 0 }, &state);
        scene.collect();
    }
    let hourly = Keep::Rules(KeepRules { hourly: Some(3), ..KeepRules::default() });
    let explained = |scene: &Scene, trusts_clock| {
        let look = Inspection::new(scene.vault.clone(), kinds(), &scene.clock);
        let fates = look.explain(&|_| Some(hourly.clone()), trusts_clock).expect("explains");
        fates[0].points.iter().filter(|(.., fate)| *fate == PointFate::Dropped).count()
    };
    let thinned = scene.thin(&hourly);
    assert_eq!((thinned.points_dropped, thinned.sources_ahead), (0, 1));
    assert_eq!((explained(&scene, false), explained(&scene, true)), (0, 5));
    assert_eq!(scene.with_custodian(|custodian| custodian.trust_clock()).expect("puts layouts"), 5);
    assert_eq!(explained(&scene, false), 5);
    let thinned = scene.thin(&hourly);
    assert_eq!((thinned.points_dropped, thinned.sources_ahead), (5, 0));
    while !scene.is_idle() {}
    assert_eq!(scene.counting().len(), 3);
    scene.verify();
    assert_eq!(scene.with_custodian(|custodian| custodian.trust_clock()).expect("looks"), 0);
}

#[test]
fn a_held_point_is_never_dropped() {
    let mut scene = Scene::new();
    let mut random = Random::new(2);
    scene.line(SOURCE, 3, &mut random);
    let held = scene.capture_held(SOURCE, 1100, &sample(&mut random, 4), "before the upgrade");
    let mut state = sample(&mut random, 4);
    for n in 0..5 {
        edit(&mut state, &mut random);
        scene.capture(SOURCE, 1200 + n, &state);
    }
    scene.collect();
    scene.thin(&last(1));
    scene.collect();
    assert_eq!(scene.counting().len(), 2);
    assert!(scene.counting().contains(&held));
    scene.verify();
}

#[test]
fn an_explanation_says_what_a_prune_would_do_and_changes_nothing() {
    let mut scene = Scene::new();
    let mut random = Random::new(3);
    scene.line(SOURCE, 4, &mut random);
    scene.collect();
    scene.capture(SOURCE, 1100, &sample(&mut random, 3));
    let before = scene.memory.objects();
    let fates =
        Inspection::new(scene.vault.clone(), kinds(), &scene.clock).explain(&|_| Some(last(2)), false);
    let fates = fates.expect("explains");
    assert!(scene.memory.objects() == before);
    let fates: Vec<&PointFate> = fates[0].points.iter().map(|(.., fate)| fate).collect();
    assert!(
        matches!(
            fates[..],
            [
                PointFate::Dropped,
                PointFate::Dropped,
                PointFate::Dropped,
                PointFate::Kept(_),
                PointFate::Kept(_)
            ]
        ),
        "{fates:?}"
    );
    scene.collect();
    assert_eq!(scene.thin(&last(2)).points_dropped, 3);
}

#[test]
fn a_source_that_is_not_configured_keeps_everything() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 4, &mut Random::new(4));
    scene.collect();
    let thinned = scene.with_custodian(|custodian| custodian.thin(&|_| None)).expect("thins");
    assert_eq!(thinned, Default::default());
    assert_eq!(scene.thin(&Keep::Everything), Default::default());
}

#[test]
fn partial_points_go_with_the_full_one() {
    let mut scene = Scene::new();
    let state = sample(&mut Random::new(5), 12);
    let stop_at = state.keys().nth(5).cloned();
    let style = Style { part_entries: 3, stop_at, ..Style::default() };
    scene.fixture.capture_in_style(&scene.vault, SOURCE, at(1000), &state, &style).expect("partial");
    scene.collect();
    scene.thin(&last(5));
    assert!(scene.is_idle());
    assert_eq!(scene.names("points/").len(), 1, "somebody may go on from it");
    scene.capture(SOURCE, 1010, &state);
    scene.collect();
    scene.thin(&last(5));
    scene.collect();
    assert_eq!(scene.names("points/").len(), 1);
    scene.verify();
}

#[test]
fn space_stays_within_half_as_much_again_as_what_is_live_in_every_week_of_a_year_of_rewrites() {
    let mut scene = Scene::new();
    let mut random = Random::new(6);
    let value = |random: &mut Random| random.bytes(24 << 10);
    let mut state: State = (0..40u8).map(|key| (vec![key], value(&mut random))).collect();
    let mut worst = 0.0f64;
    for day in 0..365 {
        for _ in 0..random.below(4) {
            state.insert(vec![random.below(40) as u8], value(&mut random));
        }
        scene.capture(SOURCE, 86_400 * (1 + day), &state);
        if day % 7 != 6 {
            continue;
        }
        for _ in 0..2 {
            scene.thin(&last(1));
            while !scene.is_idle() {}
        }
        let live: usize = state.values().map(Vec::len).sum();
        worst = worst.max(scene.pack_bytes() as f64 / live as f64);
    }
    println!("at most {worst:.3} times what is live");
    assert!(worst < 1.5, "{worst}");
    scene.verify();
}

#[test]
fn who_reads_for_long_finds_what_was_moved_meanwhile() {
    let mut scene = Scene::new();
    let points = scene.line(SOURCE, 12, &mut Random::new(7));
    let reader = scene.fixture.open(scene.memory.clone()).expect("opens");
    scene.collect();
    scene.thin(&last(2));
    assert!(scene.collect().records_moved > 0, "what is needed of the packs that go is moved");
    while !scene.is_idle() {}
    let newest = &points[11].link.point;
    let read = read_back(&reader, SOURCE, *newest).expect("reads");
    assert!(read.state == scene.states[&(SOURCE, *newest)]);
}

#[test]
fn what_an_unfinished_capture_has_left_goes_after_two_weeks() {
    let mut scene = Scene::new();
    let state = sample(&mut Random::new(8), 12);
    let stop_at = state.keys().nth(5).cloned();
    let style = Style { part_entries: 3, stop_at, ..Style::default() };
    scene.fixture.capture_in_style(&scene.vault, SOURCE, at(1000), &state, &style).expect("partial");
    scene.collect();
    let days = |count: i64| at(1000 + count * 86_400);
    scene.clock.set(days(14));
    assert_eq!(scene.thin(&last(1)).points_dropped, 0);
    scene.clock.set(days(15));
    assert_eq!(scene.thin(&last(1)).points_dropped, 1);
    scene.collect();
    assert_eq!((scene.names("points/").len(), scene.names("packs/").len()), (0, 0));
    scene.verify();
}
