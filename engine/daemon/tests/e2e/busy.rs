//! The daemon when more is asked of it than it does at once.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::daemon::{Daemon, wait_for};
use crate::hanging;
use crate::sandbox::Sandbox;

/// More than the daemon takes at once.
const SOURCES: usize = 40;

/// What the daemon takes at once, of captures and of conversations.
const CAPTURES_MAX: f64 = 2.0;
const CONVERSATIONS_MAX: usize = 32;

/// Adds services `s0` and so on, with a file each, as `data` has.
fn add_sources(sandbox: &mut Sandbox, count: usize) {
    fs::write(sandbox.source.join("file"), "of data").unwrap();
    for n in 0..count {
        let root = sandbox.path(format!("s{n}"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), format!("of {n}")).unwrap();
        writeln!(sandbox.more, "[service.s{n}]\nfiles = {{ path = \"{}\" }}", root.display()).unwrap();
    }
}

#[test]
fn no_more_captures_run_at_once_however_many_are_wanted() {
    let mut sandbox = Sandbox::new();
    add_sources(&mut sandbox, SOURCES);
    sandbox.run(["now"]).good();
    let daemon = Daemon::start(&mut sandbox);
    let mut most: f64 = 0.0;
    for _ in 0..3 {
        let mut now = sandbox.start(["now", "--json"]);
        while now.is_running() {
            most = most.max(daemon.figure("backstay_captures_running").unwrap());
        }
        let reports = now.wait().good().json();
        assert_eq!(
            reports.as_array().unwrap().len(),
            SOURCES + 2,
            "each is told of, and the configuration: {reports:#}"
        );
    }
    assert!((1.0..=CAPTURES_MAX).contains(&most), "{most} at once");
    daemon.running.terminate().good();
}

#[test]
fn a_slow_source_keeps_no_other_source_waiting() {
    let mut sandbox = Sandbox::new();
    add_sources(&mut sandbox, 2);
    let (slow, away) = (sandbox.path("slow vault"), sandbox.path("away"));
    let _ = write!(
        sandbox.more,
        "to = [\"local\", \"slow\"]\n[vault.slow]\nkind = \"dir\"\npath = \"{}\"\n",
        slow.display()
    );
    sandbox.run(["now", "data", "s0", "s1"]).good();
    // The slow vault is not there when the daemon begins, and hangs when it is back.
    fs::rename(&slow, &away).unwrap();
    sandbox.rpo = "2s";
    let daemon = Daemon::start(&mut sandbox);
    wait_for("a failure", || !daemon.flow("s1.files", "slow")["problem"].is_null());
    let of_s1 = fs::read_dir(away.join("points")).unwrap().next().unwrap().unwrap().file_name();
    let strange = Path::new("points").join(of_s1).join(hanging::strange_name());
    hanging::hang(&away.join(&strange));
    fs::write(sandbox.path("s1").join("file"), "changed").unwrap();
    fs::rename(&away, &slow).unwrap();
    // That of the local vault is late then, and can be captured no more.
    let is_late = || daemon.flow("s1.files", "local")["state"] == "critical";
    wait_for("the capture that hangs", || daemon.flow("s1.files", "slow")["capturing"] == true && is_late());

    for source in ["s0.files", "data.files"] {
        let restorable = || daemon.flow(source, "local")["restorable"].clone();
        for _ in 0..2 {
            let before = restorable();
            wait_for("a capture of another source", || restorable() != before);
        }
    }
    assert!(is_late());
    hanging::let_go(&slow.join(strange));
    wait_for("the slow vault", || daemon.flow("s1.files", "slow")["state"] == "ok");
    daemon.running.terminate().good();
}

#[test]
fn commands_that_wait_leave_a_place_for_status_and_are_forgotten_when_they_are_gone() {
    let mut sandbox = Sandbox::new();
    add_sources(&mut sandbox, 1);
    sandbox.run(["now"]).good();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flows", || !daemon.flow("s0.files", "local")["last_point"].is_null());
    let hanging = hanging::hang_index(&sandbox.vault);
    fs::write(sandbox.source.join("file"), "changed").unwrap();
    let mut waiting = vec![sandbox.start(["now", "data"])];
    wait_for("the capture that hangs", || daemon.flow("data.files", "local")["capturing"] == true);
    wait_for("the refusal of one more", || {
        let mut one_more = sandbox.start(["now", "data"]);
        std::thread::sleep(Duration::from_millis(100));
        if one_more.is_running() {
            waiting.push(one_more);
            return false;
        }
        one_more.wait().refused(1, &["too many commands wait"]);
        true
    });
    assert!(waiting.len() >= CONVERSATIONS_MAX - 1, "{} wait", waiting.len());
    assert_eq!(daemon.figure("backstay_queue_depth{queue=\"requests\"}"), Some(1.0), "all of one source");
    sandbox.run(["status"]).good();

    for command in waiting {
        command.kill();
    }
    let is_forgotten = || daemon.figure("backstay_queue_depth{queue=\"requests\"}") == Some(0.0);
    wait_for("that nothing is wanted any more", is_forgotten);
    // There is room for others again.
    hanging::let_go(&hanging);
    sandbox.run(["now", "s0"]).good();
    daemon.running.terminate().good();
}
