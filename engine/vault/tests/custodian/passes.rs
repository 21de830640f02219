//! Passes: what is accepted, what goes, for whom is waited.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::id::{PackId, SessionId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::Style;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::clear::{Custodian as Office, TrustObject};
use backstay_vault::error::VaultError;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Operation, Store, StoreErrorKind};
use backstay_vault::vault::{Pass, Waiting};

use crate::scene::{SOURCE, Scene, at, last, sample};

#[test]
fn a_pass_accepts_what_was_committed_and_clears_its_commits_away() {
    let mut scene = Scene::new();
    let mut random = Random::new(1);
    scene.line(SOURCE, 4, &mut random);
    assert_eq!((scene.names("ledger/sessions/").len(), scene.names("layout/").len()), (4, 0));
    let done = scene.collect();
    assert_eq!((done.points_accepted, done.points_deleted, done.packs_deleted), (4, 0, 0));
    assert_eq!(scene.names("ledger/sessions/"), [""; 0]);
    assert_eq!(scene.names("heads/").len(), 2);
    assert_eq!(scene.names("index/").len(), 1, "those of the commits have become the custodian's");
    scene.verify();
    assert!(scene.is_idle(), "nothing is left to do");
    scene.verify();
}

#[test]
fn an_old_head_that_could_not_be_deleted_with_its_point_names_no_loss() {
    let mut scene = Scene::new();
    let line = scene.line(SOURCE, 2, &mut Random::new(4));
    let heads = scene.names("heads/");
    let [first, second] = &heads[..] else { panic!("{heads:?}") };
    let content = scene.memory.objects()[first].clone();
    scene.collect();
    scene.thin(&last(1));
    scene.collect();
    assert_eq!(scene.names("points/").len(), 1, "the first has gone");
    // It stayed then; and of a later commit the point is there, and its head is not.
    let (name, _) = ObjectName::parse(first).expect("a name");
    scene.fixture.block_on(scene.memory.put(&name, content)).expect("puts");
    scene.remove(second);
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    assert_eq!(catalogue.newest().map(|newest| newest.link), Some(line[1].link));
    let report = scene.vault.check().expect("checks");
    assert!(report.is_good(), "{report:#?}");
}

#[test]
fn what_a_custodian_has_listed_anew_is_counted_on_by_writers() {
    let mut scene = Scene::new();
    let state = sample(&mut Random::new(2), 12);
    scene.capture(SOURCE, 1000, &state);
    scene.collect();
    scene.vault = scene.fixture.open(scene.memory.clone()).expect("a new process");
    let again = scene.capture("other.files", 1010, &state);
    assert!(again.totals.new_chunks < 5, "{:?}", again.totals);
    scene.collect();
    scene.verify();
}

#[test]
fn a_commit_under_way_is_waited_for_and_its_point_is_accepted() {
    let mut scene = Scene::new();
    let mut random = Random::new(3);
    scene.line(SOURCE, 2, &mut random);
    let state = sample(&mut random, 5);
    let vaults = [scene.vault.clone()];
    let fixture = scene.fixture.clone();
    let open = fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens");
    for _ in 0..3 {
        let pass = scene.pass().expect("collects");
        let Pass::Waits(Waiting { commits: awaited, packs }) = pass else { panic!("{pass:?}") };
        assert_eq!((awaited.len(), awaited[0].node.as_str()), (1, "nullstone"));
        assert_eq!(packs, 0, "there are only points to accept");
    }
    let captured = open.commit(&state, &Style::default()).pop().expect("one").expect("is acknowledged");
    scene.states.insert((SOURCE, captured.link.point), state);
    assert_eq!(scene.collect().points_accepted, 3);
    scene.verify();
}

#[test]
fn a_pass_that_waits_says_how_many_packs_go_then() {
    let mut scene = Scene::new();
    let mut random = Random::new(13);
    scene.line(SOURCE, 12, &mut random);
    scene.collect();
    scene.thin(&last(3));
    let vaults = [scene.vault.clone()];
    let fixture = scene.fixture.clone();
    let open = fixture.open_capture(&vaults, "other.files", at(1100)).expect("opens");
    let pass = scene.pass().expect("collects");
    let Pass::Waits(Waiting { packs, .. }) = pass else { panic!("{pass:?}") };
    assert!(packs > 0);
    open.commit(&sample(&mut random, 3), &Style::default()).pop().expect("one").expect("is acknowledged");
    assert!(scene.collect().packs_deleted >= packs as u64);
}

#[test]
fn a_commit_that_stands_still_for_a_day_of_the_custodians_time_is_given_up() {
    let mut scene = Scene::new();
    let mut random = Random::new(4);
    scene.line(SOURCE, 2, &mut random);
    let vaults = [scene.vault.clone()];
    let fixture = scene.fixture.clone();
    let open = fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens");
    let mut looks = 0;
    loop {
        match scene.pass().expect("collects") {
            Pass::Waits(_) => looks += 1,
            Pass::Done(done) => break assert_eq!(done.points_accepted, 2),
            Pass::Idle => panic!("there is something to do"),
        }
        // A custodian that was away for a week has not seen for a week that nobody was alive.
        scene.clock.advance(Duration::from_secs(7 * 24 * 3600));
    }
    assert_eq!(looks, 12, "two hours for each look");
    let late = open.commit(&sample(&mut random, 3), &Style::default()).pop().expect("one");
    assert!(matches!(late, Err(VaultError::Fenced { .. })), "{late:?}");
    scene.collect();
    scene.verify();
}

#[test]
fn a_fence_goes_two_collections_after_its_session() {
    let mut scene = Scene::new();
    let mut random = Random::new(5);
    scene.line(SOURCE, 1, &mut random);
    let vaults = [scene.vault.clone()];
    let fixture = scene.fixture.clone();
    drop(fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens"));
    assert_eq!(scene.fixture.fence_dead_sessions(&scene.vault, at(1110)).expect("fences"), 1);
    let mut fences = Vec::new();
    while !scene.is_idle() {
        fences.push(scene.names("fences/").len());
        assert!(fences.len() < 5, "{fences:?}");
    }
    assert_eq!(fences, [1, 0]);
    scene.verify();
}

#[test]
fn only_the_custodian_of_the_current_term_collects() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 2, &mut Random::new(6));
    let other = scene.fixture.other_node("cobblestone");
    let before = scene.vault.trust().clone();
    let trust = TrustObject {
        n: 2,
        previous: Some(scene.hash("trust/0000000000000001")),
        nodes: vec![scene.fixture.node(), other.node()],
        custodian: Office { node: "cobblestone".into(), term: 2, signer: None },
    };
    scene.fixture.put(&*scene.memory, forge::trust(scene.fixture.admin(), &trust));
    for vault in [scene.vault.clone(), scene.fixture.open(scene.memory.clone()).expect("opens")] {
        scene.vault = vault;
        let refused = scene.pass().expect_err("refused");
        assert!(matches!(refused, VaultError::NotCustodian { .. }), "{refused}");
        assert!(refused.to_string().contains("cobblestone"), "{refused}");
    }
    assert_eq!(before.n, 1);
}

#[test]
fn nothing_goes_from_a_vault_with_damage() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 4, &mut Random::new(7));
    let point = scene.names("points/").remove(1);
    scene.overwrite(&point, b"nonsense");
    scene.vault = scene.fixture.open(scene.memory.clone()).expect("a new process");
    let before = scene.memory.objects();
    let refused = scene.pass().expect_err("refused");
    assert!(refused.to_string().contains(&point) && refused.to_string().contains("vault check"), "{refused}");
    let keep = last(1);
    scene.with_custodian(|custodian| custodian.thin(&|_| Some(keep.clone()))).expect_err("refused");
    assert!(scene.memory.objects() == before);
}

#[test]
fn two_records_of_one_number_are_followed_by_a_third_that_waits_for_whoever_saw_only_one() {
    let mut scene = Scene::new();
    let mut random = Random::new(15);
    scene.line(SOURCE, 2, &mut random);
    let newest = scene.collect().number.get();
    let fixture = scene.fixture.clone();
    for doomed in [vec![], vec![PackId::new([7; 32])]] {
        let record = forge::gc_record(newest + 1, doomed);
        fixture.put(&*scene.memory, forge::gc(fixture.ring(), &fixture.writer().signer, &record));
    }
    let vaults = [scene.vault.clone()];
    let between = fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens");
    let pass = scene.pass().expect("collects");
    assert!(matches!(pass, Pass::Waits(_)), "{pass:?}");
    let state = sample(&mut random, 3);
    let captured = between.commit(&state, &Style::default()).pop().expect("one").expect("is acknowledged");
    scene.states.insert((SOURCE, captured.link.point), state);
    assert_eq!(scene.collect().number.get(), newest + 2);
    scene.verify();
}

#[test]
fn a_pass_says_what_is_lost_before_it_would_make_it_worse() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 3, &mut Random::new(8));
    let pack = scene.names("packs/").remove(0);
    scene.remove(&pack);
    let refused = scene.pass().expect_err("refused");
    assert!(refused.to_string().contains("vault check"), "{refused}");
}

#[test]
fn what_a_dead_commit_has_left_goes() {
    let mut scene = Scene::new();
    let mut random = Random::new(9);
    scene.line(SOURCE, 2, &mut random);
    let before = scene.names("packs/").len();
    scene.stray_pack(&mut random);
    assert_eq!(scene.names("packs/").len(), before + 1);
    scene.collect();
    assert_eq!(scene.names("packs/").len(), before);
    scene.verify();
}

#[test]
fn the_time_by_which_a_point_is_judged_is_not_after_the_moment_it_was_first_seen() {
    let mut scene = Scene::new();
    let mut random = Random::new(10);
    let state = sample(&mut random, 3);
    scene.capture(SOURCE, 1000, &state);
    let future = scene.fixture.capture(&scene.vault, SOURCE, at(9_000_000_000), &sample(&mut random, 3));
    let future = future.expect("a clock that is wrong");
    scene.clock.set(at(1010));
    scene.collect();
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let layout = catalogue.layout.expect("a layout");
    let accepted = layout.accepted.iter().find(|accepted| accepted.link == future.link).expect("accepted");
    assert_eq!(accepted.retention_time, Timestamp::from_seconds(1010));
}

#[test]
fn a_commit_whose_session_is_damaged_is_fenced_and_not_acknowledged() {
    let mut scene = Scene::new();
    let mut random = Random::new(11);
    scene.line(SOURCE, 2, &mut random);
    let before = scene.names("ledger/sessions/");
    let vaults = [scene.vault.clone()];
    let fixture = scene.fixture.clone();
    let open = fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens");
    let session =
        scene.names("ledger/sessions/").into_iter().find(|name| !before.contains(name)).expect("its own");
    scene.overwrite(&session, b"nonsense");
    assert_eq!(scene.collect().points_accepted, 2);
    let late = open.commit(&sample(&mut random, 3), &Style::default()).pop().expect("one");
    assert!(matches!(late, Err(VaultError::Fenced { .. })), "{late:?}");
    while !scene.is_idle() {}
    assert_eq!((scene.names("ledger/sessions/").len(), scene.names("fences/").len()), (0, 0));
    scene.verify();
}

#[test]
fn a_session_that_is_too_long_to_be_one_is_fenced_and_goes() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 3, &mut Random::new(9));
    let id = SessionId::new([9; 16]);
    let name = Named::Session(id).to_name();
    let content = bytes::Bytes::from_static(b"garbage");
    scene.fixture.put(&*scene.memory, forge::Object { name: name.clone(), content });
    let store = Arc::new(FaultStore::new(scene.memory.clone()));
    store.fail(Trigger::on(Operation::Get).below(name.as_str()).always(), StoreErrorKind::TooLarge);
    scene.vault = scene.fixture.open(store).expect("opens");
    for _ in 0..4 {
        scene.pass().expect("goes on");
    }
    assert!(!scene.memory.objects().contains_key(name.as_str()));
    scene.verify();
}

#[test]
fn nothing_is_built_on_an_older_layout_when_the_newest_is_damaged() {
    let mut scene = Scene::new();
    let mut random = Random::new(12);
    scene.line(SOURCE, 3, &mut random);
    scene.collect();
    let layout = scene.names("layout/").pop().expect("a layout");
    scene.overwrite(&layout, b"nonsense");
    scene.vault = scene.fixture.open(scene.memory.clone()).expect("a new process");
    let refused = scene.fixture.capture(&scene.vault, SOURCE, at(1200), &sample(&mut random, 3));
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains(&layout), "{refused}");
}

#[test]
fn a_clock_that_was_wrong_once_leaves_no_point_newest_for_ever() {
    let mut scene = Scene::new();
    let mut random = Random::new(13);
    scene.capture(SOURCE, 4_000_000_000, &sample(&mut random, 3));
    let newest = scene.capture(SOURCE, 1000, &sample(&mut random, 3));
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(catalogue.newest().map(|point| point.link), Some(newest.link));
    scene.verify();
}

/// It may land at any time: one that was made beside it would have its generation.
#[test]
fn a_layout_whose_put_has_failed_is_put_before_the_same_custodian_decides_anything() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 3, &mut Random::new(9));
    let faulty = Arc::new(FaultStore::new(scene.memory.clone()));
    let failing = Trigger::on(Operation::Put).below("layout/");
    faulty.fail(failing, StoreErrorKind::Transient);
    scene.vault = scene.fixture.open(faulty).expect("opens");
    let outcomes = scene.with_custodian(|custodian| Ok([custodian.collect(), custodian.collect()]));
    let [failed, again] = outcomes.expect("takes up its work");
    assert!(matches!(&failed, Err(VaultError::Store(error)) if error.is_transient()), "{failed:?}");
    assert!(matches!(again, Ok(Pass::Done(_))), "{again:?}");
    let generation = |name: &String| match ObjectName::parse(name) {
        Some((_, Named::Layout(_, generation, _))) => generation,
        other => panic!("{other:?}"),
    };
    let generations: Vec<u64> = scene.names("layout/").iter().map(generation).collect();
    assert_eq!(generations, [1, 2]);
    scene.verify();
}
