//! A vault that does not answer, as a disk or a server that hangs does: a FIFO blocks whoever opens it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, END_TIME, wait_for};
use crate::outcome::run;
use crate::pair::Pair;
use crate::sandbox::Sandbox;

/// Whoever opens the file at `path` from now on hangs.
pub(crate) fn hang(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(path);
    run(mkfifo).good();
}

/// The name of an object of the kind that is there in no vault.
pub(crate) fn strange_name() -> String {
    format!("{:032x}-{:064x}", 1, 1)
}

/// Who captures to the vault hangs, when it looks for what others have written.
pub(crate) fn hang_index(vault: &Path) -> PathBuf {
    let object = vault.join("index").join(strange_name());
    hang(&object);
    object
}

/// Ends a [`hang`]: the file is read as empty.
pub(crate) fn let_go(path: &Path) {
    // Who opens both ends of a FIFO waits for nobody.
    let both = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    fs::remove_file(path).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(both);
}

#[test]
fn a_vault_that_hangs_from_the_start_keeps_neither_the_daemon_nor_other_vaults_waiting() {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.run(["now"]).good();
    let format = fs::read_dir(usb.join("format")).unwrap().next().unwrap().unwrap().path();
    let away = sandbox.path("format");
    fs::rename(&format, &away).unwrap();
    hang(&format);

    sandbox.rpo = "2s";
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the local vault", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let chunks = "backstay_vault_chunks{vault=\"local\"}";
    assert!(daemon.figure(chunks).is_some_and(|chunks| chunks > 0.0), "known as soon as its flows are");
    let unknown = daemon.flow("data.files", "usb");
    assert_eq!((&unknown["state"], &unknown["capturing"]), (&"unknown".into(), &false.into()), "{unknown:#}");
    assert!(unknown["problem"].as_str().unwrap().contains("has not answered yet"), "{unknown:#}");
    let first = daemon.flow("data.files", "local")["restorable"].clone();
    fs::write(sandbox.source.join("file"), "second").unwrap();
    wait_for("a capture that is due", || daemon.flow("data.files", "local")["restorable"] != first);
    sandbox.run(["status"]).good();
    // What was asked for is done where it can be, and said where not.
    sandbox.run(["now"]).refused(3, &["data.files to usb: failed: the vault has not answered yet"]);

    // It answers at last. What was opened before is opened no more.
    let both = fs::OpenOptions::new().read(true).write(true).open(&format).unwrap();
    fs::rename(&away, &format).unwrap();
    drop(both);
    wait_for("the other vault", || daemon.flow("data.files", "usb")["state"] == "ok");
    sandbox.run(["now"]).good();
    daemon.running.terminate().good();
}

#[test]
fn sigterm_ends_a_daemon_whose_vault_hangs_in_time_and_the_lock_is_held_as_long() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.capture();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let hanging = hang_index(&sandbox.vault);
    fs::write(sandbox.source.join("file"), "second").unwrap();
    let stuck = sandbox.start(["now"]);
    wait_for("the capture that hangs", || daemon.flow("data.files", "local")["capturing"] == true);

    let start = Instant::now();
    let lock = fs::File::open(sandbox.state.join("lock")).unwrap();
    let freed = std::thread::spawn(move || {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        Instant::now()
    });
    daemon.running.terminate().good();
    let end = Instant::now();
    assert!(end - start < END_TIME - Duration::from_secs(1), "it took {:?}", end - start);
    assert!(end - start > Duration::from_secs(3), "nothing hung: it took {:?}", end - start);
    let freed = freed.join().unwrap();
    let early = end.saturating_duration_since(freed);
    assert!(early < Duration::from_millis(500), "the lock was free {early:?} before the end");
    assert_eq!(stuck.wait().code, Some(1));
    fs::remove_file(hanging).unwrap();
    assert_eq!(sandbox.points().len(), 1);
}

#[test]
fn a_vault_that_hangs_keeps_no_invitation_from_its_end() {
    let mut pair = Pair::apart();
    let local = pair.folder.path().join("local");
    pair.more_of_fleet = format!("[vault.local]\nkind = \"dir\"\npath = {:?}\n", local.to_str().unwrap());
    pair.policy = "to = [\"local\"]";
    let recovery = pair.recovery();
    pair.run(0, ["init", "alpha", "--recovery", recovery.to_str().unwrap()]).good();
    pair.run(0, ["vault", "init", "local", "--recovery", recovery.to_str().unwrap()]).good();
    let format = fs::read_dir(local.join("format")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&format).unwrap();
    hang(&format);
    let (inviting, text) = pair.open_invitation();
    pair.run(1, ["join", &text]).good();
    let invited = inviting.wait().good();
    assert!(invited.stderr.contains("it is not known there by its new key"), "{invited:?}");
    let_go(&format);
}
