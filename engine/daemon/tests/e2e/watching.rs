//! Changes are captured soon after they are seen; what is not seen, or lost, is never taken for captured.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backstay_core::units::Timestamp;

use crate::daemon::{Daemon, wait_for};
use crate::judge::{Picture, assert_same};
use crate::sandbox::{Sandbox, text};

/// A node whose source is watched, and that would not capture for an hour by itself.
fn watched() -> Sandbox {
    let mut sandbox = Sandbox::new();
    (sandbox.watch, sandbox.rpo) = (true, "1h");
    sandbox
}

fn of_flow(daemon: &Daemon, what: &str) -> String {
    daemon.flow("data.files", "local")[what].as_str().unwrap_or_default().to_owned()
}

fn restorable(daemon: &Daemon) -> String {
    of_flow(daemon, "restorable")
}

fn last_point(daemon: &Daemon) -> String {
    of_flow(daemon, "last_point")
}

fn is_watched(sandbox: &Sandbox, daemon: &Daemon) {
    // Whatever has changed before the first capture is in it.
    wait_for("the first point", || !restorable(daemon).is_empty());
    let probe = sandbox.source.join("probe");
    let before = last_point(daemon);
    let mut tries = 0;
    wait_for("the watch", || {
        tries += 1;
        fs::write(&probe, tries.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        last_point(daemon) != before
    });
}

#[test]
fn a_change_is_captured_long_before_the_objective_asks_for_it() {
    let mut sandbox = watched();
    fs::create_dir_all(sandbox.source.join("a/b/c")).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    is_watched(&sandbox, &daemon);
    // No more than are saved up.
    let changes: [&dyn Fn(&Path); 3] = [
        &|root| {
            fs::write(root.join("a/b/c/new"), "contents").unwrap();
            fs::create_dir_all(root.join("more/and/more")).unwrap();
        },
        &|root| {
            fs::rename(root.join("a/b"), root.join("moved")).unwrap();
            fs::write(root.join("moved/c/new"), "other contents").unwrap();
        },
        &|root| fs::remove_file(root.join("moved/c/new")).unwrap(),
    ];
    for (n, change) in changes.iter().enumerate() {
        change(&sandbox.source);
        let picture = Picture::of(&sandbox.source);
        let mut tries = 0;
        wait_for("the change", || {
            tries += 1;
            let restored = sandbox.restore(&format!("restored {n} {tries}"));
            Picture::of(&restored) == picture
        });
    }
    sandbox.run(["status", "--check"]).good();
    daemon.running.terminate().good();
    sandbox.check_vault();
}

#[test]
fn a_tree_in_which_nothing_happens_is_left_alone_and_one_that_never_rests_is_captured_at_a_pace() {
    let mut sandbox = watched();
    let daemon = Daemon::start(&mut sandbox);
    is_watched(&sandbox, &daemon);
    // What is still to come of that.
    std::thread::sleep(Duration::from_secs(4));
    let before = (restorable(&daemon), last_point(&daemon));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((restorable(&daemon), last_point(&daemon)), before, "nothing has changed");
    let (start, points) = (Instant::now(), sandbox.points().len());
    let mut n = 0;
    while start.elapsed() < Duration::from_secs(12) {
        n += 1;
        fs::write(sandbox.source.join("busy"), n.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    // At most what was saved up, and then one in six minutes.
    let made = sandbox.points().len() - points;
    assert!((1..=6).contains(&made), "{made} points in 12 s");
    daemon.running.terminate().good();
}

#[test]
fn what_no_watcher_sees_is_not_said_to_be_safe_before_the_tree_was_looked_at_as_a_whole() {
    let mut sandbox = watched();
    let outside = sandbox.path("outside");
    for name in ["seen", "unseen"] {
        fs::create_dir(sandbox.source.join(name)).unwrap();
        fs::write(sandbox.source.join(name).join("file"), "old").unwrap();
    }
    // Who writes by a name outside of the tree is not told of in it; no more is who writes through a mapping.
    fs::hard_link(sandbox.source.join("unseen/file"), &outside).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    is_watched(&sandbox, &daemon);
    // By whoever asks the tree is looked at as a whole: from here on only what is seen brings captures.
    sandbox.run(["now"]).good();
    let (safe, point) = (restorable(&daemon), last_point(&daemon));
    fs::write(&outside, "new").unwrap();
    fs::write(sandbox.source.join("seen/file"), "new").unwrap();
    wait_for("the change that was seen", || last_point(&daemon) != point);
    let restored = sandbox.restore("seen");
    assert_eq!(fs::read_to_string(restored.join("seen/file")).unwrap(), "new");
    assert_eq!(fs::read_to_string(restored.join("unseen/file")).unwrap(), "old");
    assert_eq!(restorable(&daemon), safe);
    // Nor does a daemon say so that knows only what the vault has.
    daemon.running.terminate().good();
    let status = sandbox.run(["status", "--json"]).json();
    assert_eq!(text(&status["flows"][0]["restorable"]), safe);
    // It is no file with several names in what is restored.
    fs::remove_file(&outside).unwrap();
    sandbox.run(["now"]).good();
    assert_same(&sandbox.source, &sandbox.restore("whole"));
}

#[test]
fn a_source_that_cannot_be_watched_is_captured_when_it_is_due_and_that_is_said() {
    let mut sandbox = watched();
    sandbox.rpo = "3s";
    let away = sandbox.path("away");
    fs::rename(&sandbox.source, &away).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the remark", || {
        daemon.flow("data.files", "local")["remarks"].to_string().contains("changes are not watched for")
    });
    fs::rename(&away, &sandbox.source).unwrap();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    wait_for("a point", || !restorable(&daemon).is_empty());
    assert_same(&sandbox.source, &sandbox.restore("restored"));
    daemon.running.terminate().good();
}

/// Files that only grow by lines: the number of each change.
struct Writer {
    files: Vec<PathBuf>,
    /// When each change was there, by file: since the epoch.
    log: Vec<Vec<(Duration, u64)>>,
}

impl Writer {
    fn new(root: &Path, folders: usize, files: usize) -> Self {
        let mut all = Vec::new();
        for folder in 0..folders {
            let folder = root.join(format!("folder {folder}"));
            fs::create_dir_all(&folder).unwrap();
            all.extend((0..files).map(|file| folder.join(format!("file {file}"))));
        }
        all.iter().for_each(|file| fs::write(file, "0\n").unwrap());
        let log = vec![Vec::new(); all.len()];
        Self { files: all, log }
    }

    /// Writes until it is told to end; at most so many changes a second.
    fn run(&mut self, end: &AtomicBool, per_second: u32) {
        let (start, mut n) = (Instant::now(), 0u64);
        while !end.load(Ordering::Relaxed) {
            let ahead = f64::from(n as u32) / f64::from(per_second) - start.elapsed().as_secs_f64();
            if ahead > 0.0 {
                std::thread::sleep(Duration::from_secs_f64(ahead));
            }
            n += 1;
            let file = n as usize % self.files.len();
            // In one call: nobody reads half of it.
            let mut open = fs::OpenOptions::new().append(true).open(&self.files[file]).unwrap();
            open.write_all(format!("{n}\n").as_bytes()).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            self.log[file].push((now, n));
        }
    }
}

/// What an observer noted: until when everything was restorable, by the daemon, and what was restored just after.
struct Observed {
    restorable: Duration,
    restored: HashMap<PathBuf, u64>,
}

fn observe(sandbox: &Sandbox, daemon: &Daemon, n: usize) -> Observed {
    // What is said first must be in what is restored later.
    let flow = daemon.flow("data.files", "local");
    let restorable = Timestamp::parse(&text(&flow["restorable"])).unwrap();
    let exposure = flow["exposure_seconds"].as_f64().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let restorable_by_exposure = now.saturating_sub(Duration::from_secs_f64(exposure));
    // The former is told to the second.
    let restorable = Duration::from_nanos(restorable.as_nanos() as u64).max(restorable_by_exposure);
    let folder = sandbox.restore(&format!("observed {n}"));
    let mut restored = HashMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap().path();
        if !entry.is_dir() {
            continue;
        }
        for file in fs::read_dir(&entry).unwrap() {
            let file = file.unwrap().path();
            let contents = fs::read_to_string(&file).unwrap();
            let number = contents.lines().last().unwrap().parse().unwrap();
            restored.insert(file.strip_prefix(&folder).unwrap().to_path_buf(), number);
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    Observed { restorable, restored }
}

/// A storm of changes, with an observer beside: at no time does the daemon say that less would be lost than would be.
fn storm(per_second: u32, time: Duration, files: usize) {
    let mut sandbox = watched();
    sandbox.rpo = "20s";
    sandbox.source_lines = ", verify = { level = \"structure\" }";
    let mut writer = Writer::new(&sandbox.source, 20, files);
    let daemon = Daemon::start(&mut sandbox);
    is_watched(&sandbox, &daemon);
    let (end, start) = (AtomicBool::new(false), Instant::now());
    let mut observed = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            writer.run(&end, per_second);
            writer
        });
        while start.elapsed() < time {
            observed.push(observe(&sandbox, &daemon, observed.len()));
            std::thread::sleep(Duration::from_millis(300));
        }
        end.store(true, Ordering::Relaxed);
        let writer = writing.join().unwrap();
        let written: usize = writer.log.iter().map(Vec::len).sum();
        println!("{written} changes, {} observations", observed.len());
        for Observed { restorable, restored } in &observed {
            for (file, log) in writer.files.iter().zip(&writer.log) {
                let last = log.iter().rfind(|(at, _)| at < restorable).map_or(0, |(_, n)| *n);
                let path = file.strip_prefix(&sandbox.source).unwrap();
                let found = restored.get(path).copied();
                assert!(
                    found.is_some_and(|found| found >= last),
                    "{}: everything until {restorable:?} was said to be restorable, {last} was written by then, {found:?} was restored",
                    path.display()
                );
            }
        }
        // And in the end everything is there.
        let picture = Picture::of(&sandbox.source);
        let mut tries = 0;
        wait_for("the last change", || {
            tries += 1;
            Picture::of(&sandbox.restore(&format!("at last {tries}"))) == picture
        });
    });
    daemon.running.terminate().good();
    sandbox.check_vault();
}

#[test]
fn nothing_is_said_to_be_safe_that_is_not_while_everything_changes() {
    storm(1000, Duration::from_secs(8), 20);
}

#[test]
#[ignore = "long: a minute of 10 000 changes a second"]
fn ten_thousand_changes_a_second_for_a_minute_lose_nothing_and_nothing_is_said_to_be_safe_that_is_not() {
    storm(10_000, Duration::from_secs(60), 500);
}
