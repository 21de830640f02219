//! A vault that does not answer, as a disk or a server that hangs does: a FIFO blocks whoever opens it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, END_TIME, wait_for};
use crate::outcome::run;
use crate::sandbox::Sandbox;

/// Whoever opens the file at `path` from now on hangs.
pub(crate) fn hang(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(path);
    run(mkfifo).good();
}

fn first_put(vault: &Path, pid: u32) -> PathBuf {
    vault.join(format!("unfinished/{pid}-0"))
}

/// The first object that this process writes into the vault hangs.
pub(crate) fn hang_next_put(vault: &Path, pid: u32) {
    hang(&first_put(vault, pid));
}

/// Ends [`hang_next_put`]: the object fails, and is tried again.
pub(crate) fn let_go(vault: &Path, pid: u32) {
    // Who opens both ends of a FIFO waits for nobody.
    let path = first_put(vault, pid);
    let both = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // The writer removes what it could not sync; it may have been faster.
    let _ = fs::remove_file(&path);
    std::thread::sleep(Duration::from_millis(200));
    drop(both);
}

#[test]
fn sigterm_ends_a_daemon_whose_vault_hangs_in_time_and_the_lock_is_held_as_long() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.capture();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    hang_next_put(&sandbox.vault, daemon.running.id());
    fs::write(sandbox.source.join("file"), "second").unwrap();
    let stuck = sandbox.start(["now"]);
    wait_for("the capture that hangs", || daemon.flow("data.files", "local")["capturing"] == true);
    // It has got as far as the store when it has read the file.
    std::thread::sleep(Duration::from_millis(500));

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
    assert_eq!(sandbox.points().len(), 1);
}
