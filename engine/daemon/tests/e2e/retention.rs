//! Retention as its operator meets it: what `vault prune` says and does, with and without a daemon.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, wait_for};
use crate::judge::assert_same;
use crate::outcome::{Outcome, run};
use crate::sandbox::{Capture, Sandbox};

/// So many captures, each with a file more and one changed.
fn capture_often(sandbox: &Sandbox, count: u32) {
    for n in 0..count {
        fs::write(sandbox.source.join(format!("file {n}")), format!("contents {n}\n").repeat(2000)).unwrap();
        fs::write(sandbox.source.join("changing"), format!("state {n}\n").repeat(100_000)).unwrap();
        assert!(sandbox.capture().is_new);
    }
}

fn objects(vault: &Path, folder: &str) -> usize {
    match fs::read_dir(vault.join(folder)) {
        Ok(entries) => entries
            .map(|entry| entry.unwrap())
            .map(
                |entry| {
                    if entry.path().is_dir() { objects(vault, entry.path().to_str().unwrap()) } else { 1 }
                },
            )
            .sum(),
        Err(_) => 0,
    }
}

#[test]
fn prune_says_what_it_would_do_and_then_does_it() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 2 }";
    capture_often(&sandbox, 6);
    let points = sandbox.points();
    let fates = || {
        let shown = sandbox.run(["vault", "prune", "local", "--dry-run", "--json"]).good().json();
        let fate = |shown: &serde_json::Value| shown["fate"].as_str().unwrap().to_owned();
        let of_data = shown.as_array().unwrap().iter().filter(|shown| shown["source"] == "data.files");
        of_data.map(fate).collect::<Vec<_>>()
    };
    assert_eq!(fates(), ["dropped", "dropped", "dropped", "dropped", "kept", "kept"]);

    let pruned = sandbox.run(["vault", "prune", "local", "--json"]).good().json();
    assert_eq!(
        (&pruned["points_accepted"], &pruned["points_dropped"]),
        (&7.into(), &4.into()),
        "with the configuration: {pruned:#}"
    );
    assert_eq!(pruned["points_deleted"], 4, "{pruned:#}");
    assert_eq!(sandbox.points(), points[4..]);
    assert_eq!(objects(&sandbox.vault, "points"), 3);
    assert_eq!(objects(&sandbox.vault, "ledger/sessions"), 0);
    sandbox.check_vault();
    let newest = sandbox.restore("newest");
    assert_same(&sandbox.source, &newest);
    let older = sandbox.restore_with("older", &["--point", &points[4]]);
    assert_eq!(fs::read_to_string(older.join("changing")).unwrap(), "state 4\n".repeat(100_000));

    capture_often(&sandbox, 1);
    assert_eq!(fates(), ["dropped", "kept", "kept"]);
    let text = sandbox.run(["vault", "prune", "local", "--dry-run"]).good();
    assert!(text.text().contains("one of the last 2"), "{}", text.text());
    let again = sandbox.run(["vault", "prune", "local"]).good();
    assert!(again.text().contains("points dropped: 1, deleted: 1"), "{}", again.text());
    sandbox.check_vault();
}

#[test]
fn a_clock_that_ran_ahead_stops_retention_until_somebody_says_that_it_is_right_again() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { yearly = 1 }";
    capture_often(&sandbox, 2);
    fs::write(sandbox.source.join("changing"), "while the clock was ahead").unwrap();
    for words in [&["now"][..], &["vault", "prune", "local"]] {
        in_ten_years(sandbox.command(words)).good();
    }
    capture_often(&sandbox, 3);
    let told = sandbox.run(["vault", "prune", "local"]).good().text();
    assert!(told.contains("points dropped: 0") && told.contains("vault prune local --trust-clock"), "{told}");
    let points = sandbox.points();
    assert!(points.len() > 3, "{points:?}");
    let explained = sandbox.run(["vault", "prune", "local", "--dry-run", "--trust-clock"]).good().text();
    assert!(
        explained.contains(&format!("{} of {} points would", points.len() - 2, points.len() + 1)),
        "{explained}"
    );
    assert_eq!(sandbox.points(), points);

    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let mended = sandbox.run(["vault", "prune", "local", "--trust-clock", "--json"]).good().json();
    assert_eq!((&mended["points_redated"], &mended["sources_ahead"]), (&4.into(), &0.into()), "{mended:#}");
    daemon.running.terminate().good();
    assert_eq!(sandbox.points().len(), 2, "the first of the year and the newest");
    sandbox.check_vault();
    let restored = sandbox.restore("restored");
    assert_same(&sandbox.source, &restored);
}

/// The same command with a clock that is ahead.
fn in_ten_years(command: Command) -> Outcome {
    let mut ahead = Command::new("faketime");
    ahead.args(["-m", "-f", "+3650d"]).arg(command.get_program()).args(command.get_args());
    // Times of files and of time-outs stay as they are.
    ahead.envs([("NO_FAKE_STAT", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("BACKSTAY_LOG", "warn")]);
    run(ahead)
}

#[test]
fn what_is_not_there_to_be_pruned_is_named() {
    let sandbox = Sandbox::new();
    sandbox.run(["vault", "prune", "locl"]).refused(2, &["no vault \"locl\"", "local"]);
    sandbox.run(["vault", "prune", "local"]).refused(1, &["no vault in", "vault init local"]);
}

#[test]
fn the_daemon_prunes_after_a_capture_and_when_it_is_asked_to() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 1 }";
    capture_often(&sandbox, 3);
    assert_eq!(objects(&sandbox.vault, "layout"), 0);
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    capture_often(&sandbox, 1);
    wait_for("the prune after it", || sandbox.points().len() == 1);
    capture_often(&sandbox, 2);
    assert_eq!(sandbox.points().len(), 3, "not twice in an hour by itself");
    let asked = sandbox.run(["vault", "prune", "local", "--json"]).good().json();
    assert_eq!(asked["points_dropped"], 2, "{asked:#}");
    assert_eq!(sandbox.points().len(), 1);
    sandbox.run(["vault", "prune", "usb"]).refused(2, &["no vault \"usb\""]);
    daemon.running.terminate().good();
    sandbox.check_vault();
    let restored = sandbox.restore("restored");
    assert_same(&sandbox.source, &restored);
}

#[test]
fn a_held_point_stays_whatever_is_captured_after_it() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 1 }";
    capture_often(&sandbox, 2);
    sandbox.run(["now", "--hold", ""]).refused(2, &["1 to 200 bytes"]);
    // Nothing has changed, and there is a point all the same.
    let held = sandbox.run(["now", "--hold", "before the upgrade", "--json"]).good();
    let held = Capture::of(&held);
    assert!(held.is_new);
    let state = fs::read_to_string(sandbox.source.join("changing")).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    fs::write(sandbox.source.join("changing"), "other").unwrap();
    let by_daemon = Capture::of(&sandbox.run(["now", "--hold", "by the daemon", "--json"]).good());
    capture_often(&sandbox, 2);
    sandbox.run(["vault", "prune", "local"]).good();
    daemon.running.terminate().good();
    let points = sandbox.points();
    assert_eq!(points.len(), 3, "{points:?}");
    assert_eq!(points[..2], [held.point.clone(), by_daemon.point]);
    let listed = sandbox.run(["points", "data"]).good().text();
    assert!(
        listed.contains("held: before the upgrade") && listed.contains("held: by the daemon"),
        "{listed}"
    );
    let restored = sandbox.restore_with("restored", &["--point", &held.point]);
    assert_eq!(fs::read_to_string(restored.join("changing")).unwrap(), state);
    sandbox.check_vault();
}

#[test]
fn what_a_wrong_keep_has_dropped_is_brought_back_and_let_go_again() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 1 }";
    capture_often(&sandbox, 4);
    let points = sandbox.points();
    sandbox.run(["vault", "undelete", "local"]).refused(1, &["no point of that kind is in the trash"]);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points(), points[3..]);
    sandbox.run(["vault", "undelete", "local", "4f"]).refused(2, &["at least 4 digits"]);
    let one = sandbox.run(["vault", "undelete", "local", &points[1][..8], "--json"]).good().json();
    assert_eq!((&one[0]["point"], &one[0]["failure"]), (&points[1].clone().into(), &serde_json::Value::Null));
    let rest =
        sandbox.run(["vault", "undelete", "local", "--source", "data", "--hold", "rescue"]).good().text();
    assert_eq!(rest.matches("brought back").count(), 2, "{rest}");
    assert_eq!(sandbox.points(), points);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points(), points, "they are held");
    sandbox.check_vault();
    let restored = sandbox.restore_with("restored", &["--point", &points[1]]);
    assert_eq!(fs::read_to_string(restored.join("changing")).unwrap(), "state 1\n".repeat(100_000));
    let listed = sandbox.run(["points", "data"]).good().text();
    assert!(listed.contains("held: undeleted") && listed.contains("held: rescue"), "{listed}");
    sandbox.run(["vault", "release", "local", &points[0], &points[1], &points[2]]).good();
    sandbox.run(["vault", "release", "local", &points[0]]).refused(1, &["no such point is held"]);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points(), points[3..]);
    sandbox.check_vault();
}
