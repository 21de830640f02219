//! Outputs of programs become points, and are had back as they were, whatever their length and whatever was done to the
//! vault meanwhile.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

mod scene;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backstay_command::KIND;
use backstay_command::capture::CaptureError;
use backstay_command::program::ProgramError;
use backstay_command::restore::{StreamError, StreamProgress, stream};
use backstay_command::row::{EncodedStdout, Piece, content_id};
use backstay_core::config::{Keep, KeepRules};
use backstay_core::digest::StateDigest;
use backstay_core::point::Facts;
use backstay_core::run::{Change, Entry};
use backstay_testkit::random::Random;
use backstay_vault::keys::FormerKeys;
use backstay_vault::store::MemStore;
use backstay_vault::table::PartWriter;
use backstay_vault::targets::{CaptureSource, CapturedState, Targets};
use backstay_vault::vault::{Reading, RepairMeans};

use scene::{SOURCE, Scene, seeded};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[test]
fn outputs_of_every_length_are_had_back() {
    let mut random = seeded();
    let scene = Scene::new();
    let mut lengths =
        vec![0, 1, 63 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, 4 * MIB, 8 * MIB, 0];
    lengths.extend((0..6).map(|n| random.below(MIB << n)));
    random.shuffle(&mut lengths);
    let mut outputs: Vec<Vec<u8>> = Vec::new();
    for length in lengths {
        let output = random.bytes(length);
        scene.writes(&output);
        let is_new = outputs.last() != Some(&output);
        assert_eq!(scene.captures(), is_new, "{length} bytes");
        if is_new {
            outputs.push(output);
        }
    }
    scene.assert_points(0, &outputs);
}

#[test]
fn an_output_that_is_edited_in_the_middle_is_stored_in_part() {
    let mut random = seeded();
    let scene = Scene::new();
    let mut output = random.bytes(24 * MIB);
    scene.writes(&output);
    scene.captures();
    let before = scene.progress.stored_bytes();
    output.splice(12 * MIB..12 * MIB + 100, *b"another line");
    scene.writes(&output);
    assert!(scene.captures());
    let more = scene.progress.stored_bytes() - before;
    assert!(more < 10 * MIB as u64, "{more} bytes");
    assert!(scene.progress.saved_bytes() > 12 * MIB as u64);
}

#[test]
fn hundreds_of_megabytes_are_had_back() {
    let script = "seq 1 60000000 | head -c 314572800";
    let mut scene = Scene::new();
    scene.runs("sh", &["-c", script]);
    assert!(scene.captures());
    assert!(!scene.captures());
    let mut expected =
        Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut same = Comparing { expected: expected.stdout.take().expect("an output"), bytes: 0 };
    let vault = scene.vault(0);
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    let point = catalogue.newest().expect("a point");
    let reading = Reading::begin(&vault, &catalogue, point.link, None, &scene.clock).expect("reads");
    stream(&reading, point, &mut same, &StreamProgress::default()).expect("streams");
    assert_eq!((same.bytes, point.common.bytes), (300 * MIB as u64, 300 * MIB as u64));
    assert_eq!(same.expected.read(&mut [0; 1]).expect("reads"), 0);
    expected.wait().expect("ends");
}

/// Takes what is the same as what comes from somewhere else.
struct Comparing<R> {
    expected: R,
    bytes: u64,
}

impl<R: Read> std::io::Write for Comparing<R> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut expected = vec![0; bytes.len()];
        self.expected.read_exact(&mut expected)?;
        assert!(expected == bytes, "another byte within {} of {}", bytes.len(), self.bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_equal_output_makes_a_head_that_says_when_it_was_seen() {
    let mut scene = Scene::new();
    scene.writes(&Random::new(1).bytes(3 * MIB));
    assert!(scene.captures());
    let durable = |scene: &Scene| {
        let vault = scene.vault(0);
        let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
        catalogue.durable_until(vault.id()).expect("a point")
    };
    let before = durable(&scene);
    assert!(!scene.captures());
    assert!(durable(&scene) > before);
    assert_eq!(scene.points(0).len(), 1);
    // What is to be held is a point of its own.
    scene.hold = Some("release");
    assert!(scene.captures());
    let points = scene.points(0);
    assert_eq!((points.len(), points[1].common.holds.as_slice()), (2, &["release".to_owned()][..]));
    assert!(points[1].vault_part.run.is_empty());
    scene.assert_points(0, &[Random::new(1).bytes(3 * MIB), Random::new(1).bytes(3 * MIB)]);
}

#[test]
fn a_program_that_fails_changes_nothing_in_the_vault() {
    let mut scene = Scene::new();
    scene.writes(b"good");
    assert!(scene.captures());
    let known = |scene: &Scene| -> BTreeMap<String, _> {
        let mut objects = scene.stores[0].objects();
        // What says that a commit was begun, and given up.
        objects.retain(|name, _| !name.starts_with("ledger/sessions/") && !name.starts_with("fences/"));
        objects
    };
    let before = known(&scene);
    scene.runs("sh", &["-c", "head -c 3000000 /dev/urandom; echo broken >&2; exit 4"]);
    let error = scene.capture().expect_err("it fails");
    assert!(matches!(&error, CaptureError::Program(ProgramError::Ended { .. })), "{error}");
    assert!(error.to_string().contains("exit code 4") && error.to_string().contains("broken"), "{error}");
    assert_eq!(error.class(), "source");
    scene.program.timeout = Duration::from_millis(200);
    scene.runs("sh", &["-c", "echo begun; sleep 60"]);
    let error = scene.capture().expect_err("it takes too long");
    assert!(matches!(error, CaptureError::Program(ProgramError::TimedOut { .. })), "{error}");
    let after = known(&scene);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    scene.assert_points(0, &[b"good".to_vec()]);
}

#[test]
fn a_capture_that_is_stopped_ends_its_program_and_makes_no_point() {
    let mut scene = Scene::new();
    scene.runs("sh", &["-c", "yes"]);
    let error = std::thread::scope(|scope| {
        let progress = &scene.progress;
        scope.spawn(|| {
            while progress.read_bytes() < 1000 {
                std::thread::sleep(Duration::from_millis(5));
            }
            progress.stop();
        });
        scene.capture().expect_err("stopped")
    });
    assert!(matches!(error, CaptureError::Stopped), "{error}");
    assert_eq!(scene.points(0).len(), 0);
}

#[test]
fn several_vaults_are_fed_by_one_run_of_the_program() {
    let mut random = seeded();
    let mut scene = Scene::with_vaults(2);
    let runs = tempfile::NamedTempFile::new().expect("a file");
    let mut outputs = Vec::new();
    let script = format!("echo x >> {}; cat \"$0\"", runs.path().display());
    let output_file = scene.program.argv[1].clone();
    scene.runs("sh", &["-c", &script, &output_file]);
    for _ in 0..3 {
        let length = random.below(3 * MIB);
        outputs.push(random.bytes(length));
        scene.writes(&outputs[outputs.len() - 1]);
        assert!(scene.captures());
    }
    assert_eq!(std::fs::read(runs.path()).expect("there").len(), 3 * 2);
    (0..2).for_each(|store| scene.assert_points(store, &outputs));
}

#[test]
fn points_go_and_what_is_left_is_whole() {
    let mut random = seeded();
    let mut scene = Scene::new();
    let mut outputs = Vec::new();
    for n in 0..8 {
        // From one row to further ones and back.
        let length = if n % 2 == 0 { 30 * MIB } else { random.below(100 * KIB) };
        outputs.push(random.bytes(length));
        scene.writes(&outputs[n]);
        assert!(scene.captures());
    }
    scene.collect();
    let keep = Keep::Rules(KeepRules { last: Some(2), ..KeepRules::default() });
    let thinned = scene.with_custodian(|custodian| custodian.thin(&|_| Some(keep.clone()))).expect("thins");
    assert_eq!(thinned.points_dropped, 6);
    scene.collect();
    scene.assert_points(0, &outputs[6..]);
    let packs = scene.stores[0].objects().into_iter().filter(|(name, _)| name.starts_with("packs/"));
    let bytes: usize = packs.map(|(_, content)| content.len()).sum();
    assert!(bytes < 40 * MIB, "{bytes} bytes for what takes 30 MiB");
    // And that is built on.
    assert!(!scene.captures());
    scene.writes(b"more");
    assert!(scene.captures());
    scene.assert_points(0, &[outputs[6].clone(), outputs[7].clone(), b"more".to_vec()]);
}

#[test]
fn what_was_lost_is_stored_again_when_the_program_still_writes_it() {
    let mut scene = Scene::new();
    let output = Random::new(5).bytes(5 * MIB);
    scene.writes(&output);
    scene.captures();
    lose_data(&mut scene);
    let vault = scene.vault(0);
    assert!(scene.streamed(&vault, &scene.points(0)[0]).is_err());
    // Nothing differs: it is the point before that is mended.
    assert!(!scene.captures());
    scene.assert_points(0, std::slice::from_ref(&output));

    lose_data(&mut scene);
    let other = Random::new(6).bytes(5 * MIB);
    scene.writes(&other);
    assert!(scene.captures());
    let vault = scene.vault(0);
    let points = scene.points(0);
    assert!(scene.streamed(&vault, &points[0]).is_err());
    assert!(scene.streamed(&vault, &points[1]).expect("whole") == other);
    // What the point before lacks comes back also later.
    scene.writes(&output);
    assert!(scene.captures());
    scene.assert_points(0, &[output.clone(), other, output]);
}

/// The greatest pack is gone, and the custodian has noticed.
fn lose_data(scene: &mut Scene) {
    let mut objects = scene.stores[0].objects();
    let packs = objects.iter().filter(|(name, _)| name.starts_with("packs/"));
    let greatest =
        packs.max_by_key(|(_, content)| content.len()).map(|(name, _)| name.clone()).expect("a pack");
    objects.remove(&greatest);
    scene.stores[0] = Arc::new(MemStore::with_objects(objects));
    let repaired =
        scene.with_custodian(|custodian| custodian.repair(&RepairMeans::default())).expect("repairs");
    assert!(repaired.chunks_lost > 0, "{repaired:?}");
}

#[test]
fn nothing_is_taken_over_that_compromised_keys_have_sealed() {
    let mut scene = Scene::new();
    let output = Random::new(7).bytes(2 * MIB);
    scene.writes(&output);
    scene.captures();
    scene.fixture.rotate(FormerKeys::Trusted);
    assert!(!scene.captures());
    scene.fixture.rotate(FormerKeys::Compromised);
    let old = scene.fixture.compromised_packs(&scene.stores[0]);
    assert!(!old.is_empty());
    assert!(scene.captures(), "the same output is stored again");
    let without = scene.fixture.open(scene.fixture.without(&scene.stores[0], &old)).expect("opens");
    let points = scene.points(0);
    assert_eq!(points[1].vault_part.parent, None);
    assert!(scene.streamed(&without, &points[1]).expect("whole") == output);
    assert!(!scene.captures(), "and built on");
}

#[test]
fn a_run_that_refers_to_other_contents_does_not_certify_itself() {
    let scene = Scene::new();
    let (a, b) = (Random::new(8).bytes(70_000), Random::new(9).bytes(70_000));
    let of_one = |contents: &[u8]| vec![contents.to_vec()];
    forge(&scene, &of_one(&a), Refers::To(&of_one(&a)), None);
    scene.assert_points(0, std::slice::from_ref(&a));
    // The row says one thing and refers to another.
    forge(&scene, &of_one(&a), Refers::To(&of_one(&b)), None);
    let vault = scene.vault(0);
    let error = scene.streamed(&vault, &scene.points(0)[1]).expect_err("another content");
    assert!(matches!(error, StreamError::Content { .. }), "{error}");
    // The same chunks in another order.
    forge(&scene, &[a.clone(), b.clone()], Refers::To(&[b.clone(), a.clone()]), None);
    let vault = scene.vault(0);
    let error = scene.streamed(&vault, &scene.points(0)[2]).expect_err("another order");
    assert!(matches!(error, StreamError::Content { .. }), "{error}");
    // The node has signed something else.
    forge(&scene, &of_one(&a), Refers::To(&of_one(&a)), Some(StateDigest::empty()));
    let vault = scene.vault(0);
    let error = scene.streamed(&vault, &scene.points(0)[3]).expect_err("another state");
    assert!(matches!(error, StreamError::Digest { .. }), "{error}");
}

#[test]
fn a_row_is_not_taken_over_that_refers_to_what_is_nowhere() {
    let scene = Scene::new();
    let output = Random::new(10).bytes(70_000);
    forge(&scene, std::slice::from_ref(&output), Refers::Nowhere, None);
    scene.writes(&output);
    assert!(scene.captures(), "the row before is of no use");
    let vault = scene.vault(0);
    assert!(scene.streamed(&vault, &scene.points(0)[1]).expect("whole") == output);
    assert!(!scene.captures());
}

/// To which chunks a forged row refers.
enum Refers<'c> {
    To(&'c [Vec<u8>]),
    Nowhere,
}

/// Puts a point whose row says `says` and refers to something else, each chunk by chunk.
fn forge(scene: &Scene, says: &[Vec<u8>], refers: Refers<'_>, signed: Option<StateDigest>) {
    scene.clock.advance(Duration::from_secs(60));
    let vault = scene.vault(0);
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    let cursor = vault.parent(&catalogue).expect("reads").map(|point| point.link.point);
    let source = CaptureSource {
        name: SOURCE.into(),
        kind: KIND,
        facts: Facts::default(),
        holds: Vec::new(),
        seen: Vec::new(),
        numbered_after: 0,
    };
    let writer = Arc::clone(scene.fixture.writer());
    let (targets, _) = Targets::open(vec![vault], writer, source, cursor, &scene.clock).expect("sessions");
    let mut chunks = targets.chunk_writer(scene.fixture.pool()).expect("a writer");
    let pieces = |contents: &[Vec<u8>]| -> Vec<Piece> {
        let mut offset_bytes = 0;
        let piece = |content: &Vec<u8>| {
            let chunk = chunks.put_data(content.clone().into()).wait().expect("a name");
            let piece = Piece { offset_bytes, length_bytes: content.len() as u32, chunk };
            offset_bytes += content.len() as u64;
            piece
        };
        contents.iter().map(piece).collect()
    };
    let says = pieces(says);
    let refers = match refers {
        Refers::To(contents) => pieces(contents),
        Refers::Nowhere => {
            let chunk = backstay_core::id::ChunkId::new([7; 32]);
            says.iter().map(|piece| Piece { chunk, ..*piece }).collect()
        }
    };
    let size = says.iter().map(|piece| u64::from(piece.length_bytes)).sum();
    let rows = EncodedStdout::new(size, content_id(size, &says), &refers).expect("rows");
    let mut part = PartWriter::new();
    let entry = Entry { key: &rows.head.0, change: Change::Put(&rows.head.1), replaced: None };
    let ring = Arc::clone(chunks.ring());
    part.push(&ring, &mut chunks, &entry).expect("pushed");
    refers.iter().for_each(|piece| part.refer(piece.chunk, u64::from(piece.length_bytes)));
    let part = part.finish(&mut chunks).expect("finished").expect("a part");
    let mut digest = StateDigest::empty();
    digest.add(&rows.element);
    let state = CapturedState {
        digest: signed.unwrap_or(digest),
        entries: 1,
        bytes: size,
        defects: Vec::new(),
        start: backstay_core::clock::Clock::now(&scene.clock),
        whole_until: None,
    };
    let (_, results, _) = targets.commit_final(chunks, Some(&[part]), &state, &scene.clock);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}
