//! The daemon as it runs: its unit, its configuration, its flows and its clock.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{captured, examine, examine_into, in_own_mounts, is_root, own_etc, paste, set_mode, told_in};
use crate::daemon::{Daemon, wait_for};
use crate::damage::packs;
use crate::manual::is_installed;
use crate::outcome::run;
use crate::sandbox::Sandbox;

#[test]
fn what_the_unit_does_not_allow_is_allowed_by_the_printed_lines() {
    let mut sandbox = captured();
    sandbox.node_lines = "metrics = \"127.0.0.1:9420\"".to_owned();
    let config = sandbox.write_config();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/backstay.service");
    let unit = fs::read_to_string(shipped)
        .unwrap()
        .replace("/etc/backstay run", &format!("{} run", config.display()));
    let units = sandbox.path("units");
    fs::create_dir(&units).unwrap();
    fs::write(units.join("backstay.service"), unit).unwrap();
    // Systemd does not run here: the lines are run, and what they would tell it is not.
    let tools = sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("systemctl"), "#!/bin/sh\nexit 0\n").unwrap();
    set_mode(&tools.join("systemctl"), 0o755);
    let bind = format!(
        "{}mkdir -p /etc/systemd/system; mount --bind {} /etc/systemd/system\n",
        own_etc(&sandbox),
        units.display()
    );
    // A daemon that has died is told of, though something of it is started at times.
    let cron = "mkdir -p /etc/cron.d; echo '5 * * * * root backstay now' > /etc/cron.d/backstay-e2e\n";
    let script = format!("{bind}{cron}{}", examine_into(&sandbox, "before"));
    let of_etc = || fs::metadata("/etc").unwrap().modified().unwrap();
    let etc = of_etc();
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    assert_eq!(of_etc(), etc, "this machine was changed");
    let before = told_in(&sandbox, "before");
    before.fix("daemon", "running", "problem", "systemctl enable --now backstay");
    before.fix("unit", "installed", "problem", "systemctl enable --now backstay");
    let writing = before.fix("unit", "writing", "problem", "does not let the daemon write to vault local");
    let network = before.fix("unit", "network", "problem", "node.metrics wants one");
    let script = format!(
        "{bind}PATH={}:$PATH\n{writing}\n{network}\n{}",
        tools.display(),
        examine_into(&sandbox, "after")
    );
    in_own_mounts(&script).unwrap();
    let after = told_in(&sandbox, "after");
    after.assert_level("unit", "writing", "ok");
    after.assert_level("unit", "network", "ok");
}

#[test]
fn a_daemon_that_has_read_an_older_configuration_or_cannot_serve_is_told() {
    let mut sandbox = captured();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || daemon.flow("data.files", "local")["state"] == "ok");
    examine(&sandbox).assert_level("daemon", "configuration", "ok");
    // What is changed within the second of its start is not told from what it has read.
    std::thread::sleep(Duration::from_secs(3));
    sandbox.more = "# changed\n".to_owned();
    let told = examine(&sandbox);
    let pid = daemon.running.id();
    told.fix("daemon", "configuration", "warning", &format!("kill {pid}"));
    // A key is added while no daemon runs.
    told.fix("vault local", "recovery", "warning", &format!("kill {pid}"));
    let stopped = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    let told = examine(&sandbox);
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    told.fix("daemon", "running", "problem", "has not answered within 10 seconds");
    told.fix("metrics", "address", "warning", "the daemon does not answer at");
    daemon.running.terminate().good();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    sandbox.node_lines = format!("metrics = \"{address}\"");
    let line = examine(&sandbox).fix("metrics", "address", "problem", "another program listens");
    drop(taken);
    assert!(line.starts_with("metrics = \"127.0.0.1:"), "{line}");
    examine(&sandbox).assert_level("metrics", "address", "ok");
}

#[test]
fn flows_that_are_late_and_proofs_that_have_failed_are_told() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), vec![7; 300_000]).unwrap();
    sandbox.capture();
    sandbox.rpo = "1s";
    std::thread::sleep(Duration::from_millis(2500));
    let line = examine(&sandbox).fix("flow data.files to local", "exposure", "problem", "are allowed");
    sandbox.rpo = "15m";
    let told = examine(&sandbox);
    told.assert_level("flow data.files to local", "exposure", "ok");
    paste(&line);
    let verify = told.fix("flow data.files to local", "proofs", "note", "never proven");
    paste(&verify);
    examine(&sandbox).assert_level("flow data.files to local", "proofs", "ok");

    packs(&sandbox.vault).into_iter().for_each(|pack| fs::remove_file(pack).unwrap());
    sandbox.run(["verify", "--level", "data"]).ended_with(1);
    let line = examine(&sandbox).fix(
        "flow data.files to local",
        "proofs",
        "problem",
        "not all of it can be had back",
    );
    assert!(line.ends_with("vault repair local"), "{line}");
}

#[test]
fn points_of_a_time_to_come_tell_of_a_wrong_clock() {
    if !is_installed("faketime") {
        return;
    }
    let sandbox = captured();
    fs::write(sandbox.source.join("file"), "later").unwrap();
    let mut ahead = Command::new("faketime");
    ahead
        .args(["-f", "+3d"])
        .arg(env!("CARGO_BIN_EXE_backstay"))
        .arg("--config")
        .arg(sandbox.write_config())
        .arg("now");
    run(ahead).good();
    let told = examine(&sandbox);
    told.fix("vault local", "clock", "problem", "vault prune local --trust-clock --dry-run");
}
