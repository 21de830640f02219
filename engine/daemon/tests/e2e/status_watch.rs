//! `status --watch`, as somebody has it stand in a corner of the screen: through restarts of the daemon, on terminals of any
//! width, and into programs.

use std::fs;

use serde_json::Value;

use crate::daemon::{Daemon, wait_for};
use crate::manual::is_installed;
use crate::outcome::{Running, run_on_terminal};
use crate::sandbox::Sandbox;

/// The last frame that is whole.
fn last_frame(watch: &Running) -> String {
    let printed = watch.stdout_so_far();
    let (whole, _) = printed.rsplit_once("\n\n").unwrap_or_default();
    whole.rsplit("\n\n").next().unwrap_or_default().to_owned()
}

#[test]
fn a_daemon_that_is_away_for_a_while_is_said_and_ends_nothing() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    let daemon = Daemon::start(&mut sandbox);
    let mut watch = sandbox.start(["status", "--watch"]);
    wait_for("the first frame", || last_frame(&watch).contains("data.files  local"));
    assert!(!last_frame(&watch).contains("no daemon runs"), "{}", last_frame(&watch));
    let frames = || watch.stdout_so_far().matches("OBJECTIVE").count();
    let before = frames();
    wait_for("more frames", || frames() > before + 1);

    daemon.running.terminate().good();
    wait_for("the end of the daemon", || last_frame(&watch).contains("no daemon runs"));
    assert!(last_frame(&watch).contains("data.files  local"), "{}", last_frame(&watch));
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the next daemon", || !last_frame(&watch).contains("no daemon runs"));
    // One that dies in the middle.
    daemon.running.kill();
    wait_for("the death of the daemon", || last_frame(&watch).contains("no daemon runs"));

    assert!(watch.is_running(), "{}", watch.stderr_so_far());
    let ended = watch.interrupt().good();
    assert_eq!(ended.stderr, "");
    assert!(!ended.text().contains('\u{1b}'), "no terminal, no sequences for one");
}

#[test]
fn programs_get_a_document_on_each_line() {
    let sandbox = Sandbox::new();
    let watch = sandbox.start(["status", "--watch", "--json"]);
    wait_for("three documents", || watch.stdout_so_far().lines().count() > 2);
    let printed = watch.interrupt().good().text();
    for line in printed.lines() {
        let status: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(status["flows"][0]["source"], "data.files");
    }
    sandbox.run(["status", "--watch", "--check"]).refused(2, &["cannot be used with"]);
}

#[test]
fn a_terminal_is_drawn_over_and_no_line_is_longer_than_it() {
    if !is_installed("script") {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.vault = sandbox.path("a disk that is not mounted/vault");
    let until = "stty rows 20 cols 60; timeout --foreground --preserve-status -s INT 4";
    let shown = run_on_terminal(until, &sandbox.command(["status", "--watch"])).good().text();
    let frames: Vec<&str> = shown.split("\u{1b}[H").skip(1).collect();
    assert!(frames.len() > 1, "{shown:?}");
    for frame in frames {
        let lines: Vec<&str> = frame.split("\u{1b}[K").map(|line| line.trim_matches(['\r', '\n'])).collect();
        assert!(lines.iter().all(|line| line.chars().count() < 60), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("data.files to local: ") && line.ends_with('…')));
    }
}
