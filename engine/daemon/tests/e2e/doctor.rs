//! `doctor`: a node that is well is told so, each fault is told with the line that mends it, and where that is a command the
//! test runs the printed line and looks again.

mod keys;
mod programs;
mod running;
mod trees;
mod users;
mod vaults;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::daemon::{Daemon, wait_for};
use crate::judge::Picture;
use crate::mount::Mount;
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, text};

/// What a file of SQLite begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What an examination has told.
#[derive(Debug)]
struct Told(Value);

impl Told {
    #[track_caller]
    fn of(outcome: &Outcome) -> Self {
        let told = Self(outcome.json());
        // The exit code is that of the worst.
        let count = |level: &str| told.0[level].as_u64().unwrap();
        let code = match (count("problems"), count("warnings")) {
            (0, 0) => 0,
            (0, _) => 3,
            _ => 1,
        };
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        told
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.0["checks"].as_array().unwrap().iter()
    }

    /// The finding of this subject and check that is worst.
    #[track_caller]
    fn find(&self, subject: &str, check: &str) -> &Value {
        let rank = |level: &Value| ["ok", "note", "warning", "problem"].iter().position(|word| level == word);
        let of_it = self.checks().filter(|found| found["subject"] == subject && found["check"] == check);
        let worst = of_it.max_by_key(|found| rank(&found["level"]));
        worst.unwrap_or_else(|| panic!("no {check} of {subject} in {:#}", self.0))
    }

    /// The fix of a finding that must have this level, and this in its text; what is printed to be pasted.
    #[track_caller]
    fn fix(&self, subject: &str, check: &str, level: &str, fragment: &str) -> String {
        let found = self.find(subject, check);
        assert_eq!(found["level"], level, "{found:#}");
        assert!(found.to_string().contains(fragment), "{fragment:?} is not in {found:#}");
        text(&found["fix"])
    }

    /// A finding of this level with this in its text, for which there is nothing to do here.
    #[track_caller]
    fn without_fix(&self, subject: &str, check: &str, level: &str, fragment: &str) {
        let found = self.find(subject, check);
        assert_eq!((&found["level"], found.get("fix")), (&level.into(), None), "{found:#}");
        assert!(found.to_string().contains(fragment), "{fragment:?} is not in {found:#}");
    }

    #[track_caller]
    fn assert_level(&self, subject: &str, check: &str, level: &str) {
        let found = self.find(subject, check);
        assert_eq!(found["level"], level, "{found:#}");
    }

    #[track_caller]
    fn assert_none(&self, subject: &str, check: &str) {
        let mut of_it = self.checks().filter(|found| found["subject"] == subject && found["check"] == check);
        let bad = of_it.find(|found| found["level"] != "ok");
        assert!(bad.is_none(), "{bad:#?}");
    }
}

/// The command line, with a home of its own, so that a printed line writes nowhere else.
fn doctor(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.command(["doctor", "--json"]);
    command.env("HOME", sandbox.path(""));
    command
}

#[track_caller]
fn examine(sandbox: &Sandbox) -> Told {
    Told::of(&run(doctor(sandbox)))
}

/// Runs a printed line as somebody would who pastes it.
#[track_caller]
fn paste(line: &str) -> Outcome {
    let binary = Path::new(env!("CARGO_BIN_EXE_backstay"));
    let path = std::env::join_paths(
        std::iter::once(binary.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("PATH", path.unwrap());
    run(shell).good()
}

/// A node with one file and one point.
fn captured() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    sandbox
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a test machine is like itself: where its temporary directories are, and what sets its clock.
fn is_of_this_machine(found: &Value) -> bool {
    let is = |subject: &str, check: &str| found["subject"] == subject && found["check"] == check;
    let is_layer = found["check"] == "medium" && found["what"].as_str().unwrap().contains("overlay");
    is("system", "clock") || is("unit", "installed") || found["check"] == "room" || is_layer
}

#[test]
fn a_node_that_is_well_is_told_so_and_left_as_it_is() {
    let mut sandbox = Sandbox::new();
    // A disk of its own, so that the vault survives what the source does not.
    let Some(_disk) = Mount::tmpfs(&sandbox.source, "16m") else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.watch = true;
    let key = sandbox.path("key elsewhere");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    sandbox.capture();
    sandbox.run(["verify"]).good();
    let before = [&sandbox.vault, &sandbox.state, &sandbox.source].map(|folder| Picture::of(folder));
    examine(&sandbox).assert_level("daemon", "running", "warning");
    for (folder, before) in [&sandbox.vault, &sandbox.state, &sandbox.source].into_iter().zip(before) {
        before.assert_same(&Picture::of(folder));
    }

    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || daemon.flow("data.files", "local")["state"] == "ok");
    let told = examine(&sandbox);
    let bad: Vec<&Value> = told
        .checks()
        .filter(|found| found["level"] != "ok" && !is_of_this_machine(found))
        .filter(|found| !(found["check"] == "copies" && found["level"] == "note"))
        .collect();
    assert_eq!(bad, Vec::<&Value>::new());
    for (subject, check) in [
        ("daemon", "version"),
        ("daemon", "configuration"),
        ("metrics", "address"),
        ("state", "rights"),
        ("state", "keys"),
        ("vault local", "opens"),
        ("vault local", "recovery"),
        ("vault local", "custodian"),
        ("vault local", "clock"),
        ("source data.files", "readable"),
        ("watching", "limits"),
        ("scratch", "room"),
        ("flow data.files to local", "exposure"),
        ("flow data.files to local", "proofs"),
    ] {
        told.assert_level(subject, check, "ok");
    }
    // For people: a line for each check, and fewer with --quiet.
    let shown = run(sandbox.command(["doctor"])).text();
    assert!(shown.contains("\nvault local\n  ok       "), "{shown}");
    assert!(shown.trim_end().ends_with("0 problems"), "{shown}");
    let quiet = run(sandbox.command(["doctor", "--quiet"])).text();
    assert!(!quiet.contains("  ok  ") && quiet.lines().count() < shown.lines().count(), "{quiet}");
    daemon.running.terminate().good();
}

/// Runs lines as root where mounts are this process's own; `None` where that is not permitted.
fn in_own_mounts(script: &str) -> Option<Outcome> {
    let mut shell = Command::new("unshare");
    let binaries = Path::new(env!("CARGO_BIN_EXE_backstay")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    shell.args(["--mount", "--propagation", "private", "sh", "-e", "-c", script]).env("PATH", path);
    let outcome = run(shell);
    if outcome.code == Some(0) {
        return Some(outcome);
    }
    eprintln!("LEFT OUT: no mounts of its own here: {}", outcome.stderr.trim());
    None
}

/// Lines of a script after which `/etc` is a copy in memory, which is gone with the mounts: what is written there changes
/// nothing of the machine that tests.
fn own_etc(sandbox: &Sandbox) -> String {
    let copy = sandbox.path("etc");
    fs::create_dir_all(&copy).unwrap();
    let copy = copy.display();
    format!("mount -t tmpfs -o mode=755 backstay-e2e {copy}; cp -a /etc/. {copy}; mount --bind {copy} /etc\n")
}

/// The examinations of a script, which were written to these files.
fn told_in(sandbox: &Sandbox, name: &str) -> Told {
    Told(serde_json::from_slice(&fs::read(sandbox.path(name)).unwrap()).unwrap())
}

/// A line of a script that examines, whatever comes of it.
fn examine_into(sandbox: &Sandbox, name: &str) -> String {
    let (config, to) = (sandbox.write_config(), sandbox.path(name));
    format!("backstay --config {} doctor --json > {} || true\n", config.display(), to.display())
}

#[test]
fn a_configuration_that_is_wrong_ends_as_with_every_command() {
    let mut sandbox = Sandbox::new();
    sandbox.more = "[service.other]\nfiles = { path = \"/srv\", exlude = [] }\n".to_owned();
    sandbox.run([OsStr::new("doctor")]).refused(2, &["exlude", "exclude"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["--config", "/nonexistent", "doctor"]);
    run(command).refused(2, &["/nonexistent"]);
}
