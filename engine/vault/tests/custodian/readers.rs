//! Readers: what they pin stays, and what is merged under their hands they find again.

use std::sync::Arc;

use backstay_core::fold::NewestStands;
use backstay_core::id::SessionId;
use backstay_core::point::PointLink;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_testkit::rows::RowKind;
use backstay_vault::commit_object::{SessionKind, SessionObject};
use backstay_vault::error::VaultError;
use backstay_vault::keys::FormerKeys;
use backstay_vault::read::ChunkReader;
use backstay_vault::vault::{PointFold, Reading, Vault};

use crate::scene::{SOURCE, Scene, at, edit, last, sample};

/// A vault with a long line, and another process that reads.
fn scene() -> (Scene, Arc<Vault>, Vec<PointLink>) {
    let mut scene = Scene::new();
    let points = scene.line(SOURCE, 8, &mut Random::new(1));
    scene.collect();
    let reader = scene.fixture.open(scene.memory.clone()).expect("opens");
    (scene, reader, points.into_iter().map(|point| point.link).collect())
}

fn begin(
    scene: &Scene,
    vault: &Arc<Vault>,
    point: PointLink,
    pins: bool,
) -> Result<Arc<Reading>, VaultError> {
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let reader = pins.then(|| scene.fixture.writer());
    Reading::begin(vault, &catalogue, point, reader, &scene.clock)
}

fn keys(fold: &mut PointFold<NewestStands>, most: usize) -> Result<Vec<Vec<u8>>, VaultError> {
    let mut keys = Vec::new();
    while keys.len() < most
        && let Some((key, _)) = fold.next()?
    {
        keys.push(key.to_vec());
    }
    Ok(keys)
}

fn all_keys(scene: &Scene, point: PointLink) -> Vec<Vec<u8>> {
    scene.states[&(SOURCE, point.point)].keys().cloned().collect()
}

fn thin_and_collect(scene: &mut Scene) {
    scene.thin(&last(1));
    while !scene.is_idle() {}
}

#[test]
fn a_point_stays_while_it_is_pinned_and_goes_afterwards() {
    let (mut scene, vault, points) = scene();
    let expected = all_keys(&scene, points[3]);
    let reading = begin(&scene, &vault, points[3], true).expect("begins");
    assert!(reading.is_pinned());
    thin_and_collect(&mut scene);
    assert_eq!(keys(&mut reading.fold(b""), usize::MAX).expect("reads"), expected);
    assert_eq!(scene.counting().len(), 2, "the newest, and what is read");
    drop(reading);
    thin_and_collect(&mut scene);
    assert_eq!(scene.counting().len(), 1);
    assert_eq!(scene.names("ledger/sessions/"), [""; 0]);
    scene.verify();
}

#[test]
fn who_reads_the_newest_point_without_a_pin_goes_on_with_its_merged_runs() {
    let (mut scene, vault, points) = scene();
    let newest = points[7];
    let reading = begin(&scene, &vault, newest, false).expect("begins");
    let expected = all_keys(&scene, newest);
    let mut fold = reading.fold(b"");
    let mut read = keys(&mut fold, 3).expect("reads");
    thin_and_collect(&mut scene);
    read.extend(keys(&mut fold, usize::MAX).expect("goes on"));
    assert_eq!(read, expected);
    // One that begins now on what it knew before finds none of the old runs.
    assert_eq!(keys(&mut reading.fold(b""), usize::MAX).expect("reads"), expected);
    assert_eq!(keys(&mut reading.fold(&expected[4]), usize::MAX).expect("reads"), expected[4..]);
}

#[test]
fn a_point_that_goes_while_it_is_read_without_a_pin_is_said_to_be_lost() {
    let (mut scene, vault, points) = scene();
    let reading = begin(&scene, &vault, points[3], false).expect("begins");
    thin_and_collect(&mut scene);
    let error = keys(&mut reading.fold(b""), usize::MAX).expect_err("it is gone");
    assert!(matches!(error, VaultError::Chunk { .. }), "{error}");
}

#[test]
fn a_point_that_was_dropped_before_it_was_pinned_is_not_begun() {
    let (mut scene, vault, points) = scene();
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    thin_and_collect(&mut scene);
    let reader = Some(scene.fixture.writer());
    let error = Reading::begin(&vault, &catalogue, points[3], reader, &scene.clock).expect_err("dropped");
    assert!(matches!(error, VaultError::Stack(_)), "{error}");
    assert_eq!(scene.names("ledger/sessions/").len(), 1, "it has ended");
    while !scene.is_idle() {}
}

#[test]
fn nobody_waits_for_a_reader_and_one_that_is_dead_for_a_day_holds_nothing() {
    let (mut scene, vault, points) = scene();
    let reading = begin(&scene, &vault, points[3], true).expect("begins");
    // The process dies: nobody ends its session.
    std::mem::forget(reading);
    let mut state = sample(&mut Random::new(2), 12);
    for n in 0..30 {
        edit(&mut state, &mut Random::new(3 + n));
        scene.capture(SOURCE, 2000 + 3600 * n as i64, &state);
        scene.collect();
    }
    scene.clock.set(at(2000 + 3600 * 40));
    thin_and_collect(&mut scene);
    assert_eq!(scene.counting().len(), 1);
}

#[test]
fn who_pins_a_point_that_has_gone_for_good_holds_nothing_up() {
    let (mut scene, _, points) = scene();
    scene.thin(&last(1));
    scene.collect();
    let layout = || {
        let catalogue = scene.fixture.open(scene.memory.clone()).expect("opens");
        catalogue.catalogue(scene.fixture.source(SOURCE)).expect("catalogue").layout.expect("a layout")
    };
    assert!(!layout().dropped.is_empty(), "until the next pass");
    assert!(layout().runs.iter().all(|placed| placed.to != points[3]), "its runs have gone");
    // A process that slept for long says once more that it reads.
    let late = SessionObject {
        kind: SessionKind::Reader,
        pins: vec![points[3].point],
        ..forge::open_session(
            SessionId::new([7; 16]),
            &scene.fixture.writer().node,
            vec![scene.fixture.source(SOURCE)],
        )
    };
    let object = forge::session(scene.fixture.ring(), scene.fixture.signer(), &late);
    scene.fixture.put(&*scene.memory, object);
    scene.pass().expect("goes on");
    scene.thin(&last(1));
    while !scene.is_idle() {}
    scene.verify();
}

#[test]
fn who_reads_on_while_keys_change_is_told_to_begin_anew_and_not_that_contents_are_lost() {
    let (mut scene, vault, points) = scene();
    let reading = begin(&scene, &vault, points[7], true).expect("begins");
    scene.rotate(FormerKeys::Trusted);
    scene.line(SOURCE, 4, &mut Random::new(2));
    thin_and_collect(&mut scene);
    thin_and_collect(&mut scene);
    let chunks = ChunkReader::new(vault.clone());
    let mut fold = reading.fold::<NewestStands>(b"");
    let outcome = loop {
        match fold.next() {
            Ok(Some((_, row))) => {
                let ranges = RowKind::Chunks.references(row).into_iter();
                let read = ranges.map(|range| chunks.fetch(range.chunk)).collect::<Result<Vec<_>, _>>();
                if let Err(error) = read {
                    break Err(error);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(outcome, Err(VaultError::Outdated { .. })), "{outcome:?}");
    let anew = scene.fixture.open(scene.memory.clone()).expect("opens");
    let reading = begin(&scene, &anew, points[7], true).expect("begins");
    assert_eq!(keys(&mut reading.fold(b""), usize::MAX).expect("reads"), all_keys(&scene, points[7]));
}
