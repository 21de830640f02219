//! The binary is killed at random moments. Every point that it had acknowledged restores, the vault is whole, and
//! the next command works without any repair.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;

use crate::judge::Picture;
use crate::outcome::{Running, run};
use crate::sandbox::{Capture, Sandbox, seeded};
use crate::tree;

const FILES: usize = 400;
const FILE_BYTES: usize = 60_000;

/// Every second capture commits a partial point so often.
const PART_BYTES: usize = 2 << 20;

/// Moments are chosen up to this much of the usual time of a capture, so that its end is met as well.
const LATE_PERCENT: usize = 115;

#[test]
fn killed_captures_lose_nothing_that_was_acknowledged() {
    kill_captures(8);
}

#[test]
#[ignore = "long: kills 50 captures"]
fn many_killed_captures_lose_nothing_that_was_acknowledged() {
    kill_captures(50);
}

fn kill_captures(kills: usize) {
    let mut random = seeded();
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, FILES, FILE_BYTES, &mut random);
    let mut acknowledged = vec![(sandbox.capture().point, Picture::of(&sandbox.source))];
    let usual = time_of_capture(&sandbox, &mut random, &mut acknowledged);
    let mut cut_short = 0;
    for n in 0..kills {
        change(&sandbox, &mut random);
        let mut command = sandbox.command(["now", "--json"]);
        if random.once_in(2) {
            command.env("BACKSTAY_PART_BYTES", PART_BYTES.to_string());
        }
        let now = Running::start(command);
        std::thread::sleep(usual.mul_f64(random.below(LATE_PERCENT) as f64 / 100.0));
        let killed = now.kill();
        let picture = Picture::of(&sandbox.source);
        if killed.code == Some(0) {
            acknowledged.push((Capture::of(&killed).point, picture));
        } else {
            cut_short += 1;
            // A kill may come after the point was durable and before anybody was told.
            let again = sandbox.capture();
            acknowledged.push((again.point, picture));
        }
        sandbox.check_vault();
        if n % 3 == 0 {
            // The local state is a cache; the capture after this one starts without.
            fs::remove_dir_all(sandbox.state.join("sources")).unwrap();
        }
    }
    assert!(cut_short > 0, "no capture was killed before its end");
    for (n, (point, picture)) in acknowledged.iter().enumerate() {
        let restored = sandbox.restore_with(&format!("point {n}"), &["--point", point]);
        picture.assert_same(&Picture::of(&restored));
        fs::remove_dir_all(restored).unwrap();
    }
}

/// Much is new each time, so that there is something to kill.
fn change(sandbox: &Sandbox, random: &mut Random) {
    tree::change_plain(&sandbox.source, FILES, random);
    tree::make_plain(&sandbox.source.join("rewritten"), FILES / 2, FILE_BYTES, random);
}

fn time_of_capture(
    sandbox: &Sandbox,
    random: &mut Random,
    acknowledged: &mut Vec<(String, Picture)>,
) -> Duration {
    change(sandbox, random);
    let start = Instant::now();
    let point = sandbox.capture().point;
    let took = start.elapsed();
    acknowledged.push((point, Picture::of(&sandbox.source)));
    took
}

#[test]
fn a_vault_whose_making_was_killed_is_made_by_the_next_command() {
    let mut random = seeded();
    for n in 0..6 {
        let sandbox = Sandbox::new();
        fs::write(sandbox.source.join("file"), "contents").unwrap();
        let now = sandbox.start(["now"]);
        std::thread::sleep(Duration::from_millis(random.below(120) as u64));
        now.kill();
        let captured = sandbox.capture();
        assert_eq!(sandbox.points().last(), Some(&captured.point), "round {n}");
        sandbox.check_vault();
        let picture = Picture::of(&sandbox.source);
        picture.assert_same(&Picture::of(&sandbox.restore("restored")));
    }
}

#[test]
fn what_a_killed_making_of_a_vault_leaves_is_no_obstacle() {
    let sandbox = Sandbox::new();
    for folder in ["unfinished", "keys", "trust", "format", "lost+found"] {
        fs::create_dir_all(sandbox.vault.join(folder)).unwrap();
    }
    fs::write(sandbox.vault.join("unfinished/half an object"), "half").unwrap();
    assert!(sandbox.capture().is_new);
    sandbox.check_vault();
}

#[test]
fn an_interrupted_first_capture_goes_on_from_its_partial_point() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 600, 200_000, &mut seeded());
    fs::hard_link(sandbox.source.join("00/file 0"), sandbox.source.join("12/link")).unwrap();
    let whole: u64 = bytes_below(&sandbox.source);
    let command = || capture_in_parts(&sandbox, whole / 10);
    kill_after_parts(&sandbox, command(), 4);
    assert!(sandbox.points().is_empty(), "a partial point is listed");

    let captured = Capture::of(&run(command()).good());
    // Three of ten parts at least; the point of the fourth may not have been durable yet.
    assert!(captured.read_bytes < whole / 4 * 3, "{captured:?} of {whole} bytes");
    assert_eq!(sandbox.points(), [captured.point]);
    Picture::of(&sandbox.source).assert_same(&Picture::of(&sandbox.restore("restored")));
    sandbox.check_vault();
    // And the state that is left is that of the whole tree.
    let again = sandbox.capture();
    assert!(!again.is_new, "{again:?}");
}

#[test]
fn a_capture_does_not_go_on_with_another_tree() {
    let mut sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 600, 200_000, &mut seeded());
    let whole = bytes_below(&sandbox.source);
    kill_after_parts(&sandbox, capture_in_parts(&sandbox, whole / 10), 4);

    // What the operator sees there is not to be captured.
    sandbox.source_lines = r#", exclude = ["00"]"#;
    sandbox.capture();
    let restored = sandbox.restore("restored");
    assert!(!restored.join("00").exists(), "it was in the parts before the kill");
    fs::remove_dir_all(sandbox.source.join("00")).unwrap();
    fs::remove_dir_all(&restored).unwrap();
    sandbox.capture();
    Picture::of(&sandbox.source).assert_same(&Picture::of(&sandbox.restore("restored")));
}

#[test]
fn what_was_sent_of_an_interrupted_large_file_is_not_sent_again() {
    let mut random = seeded();
    let sandbox = Sandbox::new();
    let large = 48 << 20;
    // The first time it is all there is; then it is all that is new, and no part of a run comes before it.
    for name in ["first", "second"] {
        fs::write(sandbox.source.join(name), random.bytes(large)).unwrap();
        let command = || capture_in_parts(&sandbox, large as u64 / 8);
        kill_after_parts(&sandbox, command(), 4);
        let captured = Capture::of(&run(command()).good());
        assert_eq!(captured.read_bytes, large as u64, "{captured:?}");
        assert!(captured.stored_bytes < large as u64 / 4 * 3, "{captured:?}");
        Picture::of(&sandbox.source).assert_same(&Picture::of(&sandbox.restore(name)));
        sandbox.check_vault();
    }
    assert_eq!(sandbox.points().len(), 2);
}

#[test]
fn what_changes_while_a_capture_is_interrupted_is_in_the_points_after_it() {
    let mut random = seeded();
    let sandbox = Sandbox::new();
    let source = &sandbox.source;
    tree::make_plain(source, FILES, FILE_BYTES, &mut random);
    for round in 0..3 {
        // Half of it is new, so that there is enough for several parts; with names that files share.
        tree::make_plain(source, FILES / 2, FILE_BYTES + round, &mut random);
        for n in 0..20 {
            let name = source.join(format!("{:02}/file {n}", n % 13));
            fs::hard_link(name, source.join(format!("{:02}/round {round} link {n}", random.below(13))))
                .unwrap();
        }
        let part = bytes_below(source) / 16;
        kill_after_parts(&sandbox, capture_in_parts(&sandbox, part), 3);
        (0..5).for_each(|_| tree::change_plain(source, FILES, &mut random));
        fs::remove_dir_all(source.join(format!("{:02}", random.below(13)))).unwrap();
        tree::make_plain(source, FILES, 100, &mut random);

        run(capture_in_parts(&sandbox, part)).good();
        // What had been captured before the kill is as it was then; from here on all is new.
        let next = sandbox.capture();
        let picture = Picture::of(source);
        let restored = sandbox.restore_with(&format!("round {round}"), &["--point", &next.point]);
        picture.assert_same(&Picture::of(&restored));
        sandbox.check_vault();
    }
}

fn capture_in_parts(sandbox: &Sandbox, part_bytes: u64) -> Command {
    let mut command = sandbox.command(["now", "--json"]);
    command.env("BACKSTAY_PART_BYTES", part_bytes.to_string());
    command
}

/// Kills a capture when it has begun to commit its partial point of this number.
fn kill_after_parts(sandbox: &Sandbox, capture: Command, parts: usize) {
    let before = index_objects(sandbox);
    kill_when(capture, || index_objects(sandbox) >= before + parts);
}

/// Kills a capture before its end.
pub(crate) fn kill_when(capture: Command, is_time: impl Fn() -> bool) {
    let mut capture = Running::start(capture);
    while capture.is_running() && !is_time() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = capture.kill();
    assert_eq!(killed.code, None, "the capture was not interrupted: {killed:?}");
}

/// There is one for each commit.
fn index_objects(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.vault.join("index")).map_or(0, Iterator::count)
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if metadata.is_dir() { bytes_below(&path) } else { metadata.len() }
        })
        .sum()
}
