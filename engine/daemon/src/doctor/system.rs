//! The system: what of the kernel is used, how many files may be open, and the clock. Each is tried or read, never guessed
//! from a version; judging is pure.

use std::fs;
use std::path::Path;

use backstay_core::clock::Clock;
use backstay_core::units::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::process::Resource;

use super::finding::Finding;
use super::tree::WatchLimits;
use super::words::Words;
use crate::clock::SystemClock;

const SUBJECT: &str = "system";

/// A restore has 768 files open, and beside it there are captures and vaults.
const OPEN_FILES_LEAST: u64 = 1024;

/// Before this version was made no clock can be right: 2025-01-01.
const TIME_LEAST: Timestamp = Timestamp::from_nanos(1_735_689_600_000_000_000);

/// Nor is it after 2100.
const TIME_MOST: Timestamp = Timestamp::from_nanos(4_102_444_800_000_000_000);

/// Whether something sets the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronisation {
    /// systemd-timesyncd has set it since the boot.
    Set,
    /// systemd-timesyncd runs, and has not set it yet.
    Awaited,
    /// Another program runs that sets clocks.
    Other(&'static str),
    /// Nothing was found.
    None,
    /// Nothing was found, and this user cannot look everywhere.
    Unknown,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What system calls that are used have answered, where it was an error.
    pub refused_calls: Vec<(&'static str, String)>,
    /// Whether `/proc` is there.
    pub has_proc: bool,
    /// How many files may be open: of the daemon where one runs, else of this process. `None` is no limit.
    pub open_files: Option<u64>,
    /// The process with that limit, where it is the daemon's.
    pub of_daemon: Option<u32>,
    /// Now.
    pub now: Timestamp,
    /// What sets the clock.
    pub synchronisation: Synchronisation,
}

impl Facts {
    /// Tries and reads; `daemon` is the process of the daemon.
    pub fn gather(daemon: Option<u32>) -> Self {
        let of_daemon = daemon
            .and_then(|pid| Some((pid, limit_of(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)?)));
        let open_files = match of_daemon {
            Some((_, limit)) => limit,
            None => rustix::process::getrlimit(Resource::Nofile).current,
        };
        Self {
            refused_calls: refused_calls(),
            has_proc: Path::new("/proc/self/mountinfo").exists(),
            open_files,
            of_daemon: of_daemon.map(|(pid, _)| pid),
            now: SystemClock.now(),
            synchronisation: synchronisation(Path::new("/run"), rustix::process::geteuid().is_root()),
        }
    }

    /// Judges what was found.
    pub fn judge(&self, words: &Words) -> Vec<Finding> {
        vec![self.kernel(), self.files(words), self.clock(words)]
    }

    fn kernel(&self) -> Finding {
        if !self.has_proc {
            return Finding::problem(SUBJECT, "kernel", "/proc is not mounted")
                .because("captures and restores reach files by their descriptors there")
                .run("mount -t proc proc /proc");
        }
        if let Some((call, why)) = self.refused_calls.first() {
            return Finding::problem(SUBJECT, "kernel", format!("the system call {call} does not work: {why}"))
                .because("restores use it to never leave their destination. It came with Linux 5.6, and some sandboxes forbid it")
                .advise("use a newer kernel, or permit it: `SystemCallFilter=@system-service` of systemd does, and so do current versions of Docker and libseccomp");
        }
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Finding::ok(SUBJECT, "kernel", format!("Linux {release} has the system calls that are used"))
    }

    fn files(&self, words: &Words) -> Finding {
        let whose = match self.of_daemon {
            Some(pid) => format!("the daemon (process {pid})"),
            None => "a process started here".to_owned(),
        };
        match self.open_files {
            Some(limit) if limit < OPEN_FILES_LEAST => {
                let finding = Finding::warning(
                    SUBJECT,
                    "open_files",
                    format!("{whose} may have {limit} files open"),
                )
                .because(format!(
                    "a restore has up to 768 open, and captures some beside it: {OPEN_FILES_LEAST} are needed"
                ));
                match self.of_daemon {
                    Some(pid) => {
                        finding.run(words.as_root(&format!("prlimit --pid {pid} --nofile=65536:65536")))
                    }
                    None => finding.run("ulimit -n 65536"),
                }
            }
            Some(limit) => Finding::ok(SUBJECT, "open_files", format!("{whose} may have {limit} files open")),
            None => Finding::ok(SUBJECT, "open_files", format!("{whose} may have any number of files open")),
        }
    }

    fn clock(&self, words: &Words) -> Finding {
        let now = self.now;
        let set = words.as_root("timedatectl set-ntp true");
        if now < TIME_LEAST || now > TIME_MOST {
            return Finding::problem(SUBJECT, "clock", format!("the clock shows {now}"))
                .because("points get wrong times, by which `keep` judges them and by which you look for them")
                .run(set);
        }
        match self.synchronisation {
            Synchronisation::Set => Finding::ok(SUBJECT, "clock", format!("the clock shows {now}, and is set over the network")),
            Synchronisation::Other(by) => Finding::ok(SUBJECT, "clock", format!("the clock shows {now}, and {by} sets it")),
            Synchronisation::Awaited => {
                Finding::warning(SUBJECT, "clock", format!("the clock shows {now}, and was not set since the boot"))
                    .because("systemd-timesyncd runs and has reached no server: a clock that is wrong gives points wrong times")
                    .advise("see `timedatectl timesync-status`, and whether UDP port 123 gets out")
            }
            Synchronisation::Unknown => {
                Finding::note(SUBJECT, "clock", format!("the clock shows {now}; what sets it is not known"))
                    .because("one that runs away gives points wrong times. Programs that set clocks hide from ordinary users; root sees more")
            }
            Synchronisation::None => {
                Finding::note(SUBJECT, "clock", format!("the clock shows {now}; nothing was found that sets it"))
                    .because("one that runs away gives points wrong times. In a virtual machine or a container the host may set it")
                    .run(words.as_root("apt-get install systemd-timesyncd && timedatectl set-ntp true"))
            }
        }
    }
}

fn refused_calls() -> Vec<(&'static str, String)> {
    let opened = rustix::fs::openat2(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    let stat = rustix::fs::statx(CWD, "/", AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
    let calls = [("openat2", opened.map(drop)), ("statx", stat.map(drop))];
    let refused = calls.into_iter().filter_map(|(call, outcome)| Some((call, outcome.err()?)));
    refused.map(|(call, errno)| (call, std::io::Error::from(errno).to_string())).collect()
}

/// The limit on open files in `/proc/PID/limits`; `Some(None)` is no limit.
fn limit_of(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// By what such programs leave in `/run`. The directory of chrony is there while it runs, and closed to ordinary users.
fn synchronisation(run: &Path, is_root: bool) -> Synchronisation {
    let has = |name: &str| run.join(name).exists();
    let others = [
        ("chrony", "chronyd"),
        ("chronyd.pid", "chronyd"),
        ("ntpd.pid", "ntpd"),
        ("ntpsec/ntpd.pid", "ntpd"),
        ("openntpd.pid", "openntpd"),
        ("ntpd-rs/observe", "ntpd-rs"),
    ];
    if has("systemd/timesync/synchronized") {
        return Synchronisation::Set;
    }
    match others.into_iter().find(|(file, _)| has(file)) {
        Some((_, by)) => Synchronisation::Other(by),
        None if has("systemd/timesync") => Synchronisation::Awaited,
        None if is_root => Synchronisation::None,
        None => Synchronisation::Unknown,
    }
}

/// What the system lets a user watch.
pub fn watch_limits() -> Option<WatchLimits> {
    let read = |key: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/fs/inotify/{key}")).ok()?.trim().parse().ok()
    };
    Some(WatchLimits { watches: read("max_user_watches")?, instances: read("max_user_instances")? })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> Facts {
        Facts {
            refused_calls: Vec::new(),
            has_proc: true,
            open_files: Some(1024),
            of_daemon: None,
            now: Timestamp::from_nanos(1_800_000_000_000_000_000),
            synchronisation: Synchronisation::Set,
        }
    }

    fn levels(facts: &Facts) -> [Level; 3] {
        let words = Words::of_tests(0);
        let found: Vec<Level> = facts.judge(&words).iter().map(|finding| finding.level).collect();
        found.try_into().expect("three")
    }

    #[test]
    fn each_part_is_judged_by_itself() {
        use Level::{Note, Ok, Problem, Warning};
        assert_eq!(levels(&facts()), [Ok, Ok, Ok]);
        let refused = vec![("openat2", "Function not implemented".to_owned())];
        assert_eq!(levels(&Facts { refused_calls: refused, ..facts() }), [Problem, Ok, Ok]);
        assert_eq!(levels(&Facts { has_proc: false, ..facts() }), [Problem, Ok, Ok]);
        assert_eq!(levels(&Facts { open_files: Some(256), ..facts() }), [Ok, Warning, Ok]);
        assert_eq!(levels(&Facts { open_files: None, ..facts() }), [Ok, Ok, Ok]);
        assert_eq!(levels(&Facts { now: Timestamp::EPOCH, ..facts() }), [Ok, Ok, Problem]);
        assert_eq!(
            levels(&Facts { synchronisation: Synchronisation::Awaited, ..facts() }),
            [Ok, Ok, Warning]
        );
        let fix = |synchronisation| {
            let facts = Facts { synchronisation, ..facts() };
            assert_eq!(levels(&facts), [Ok, Ok, Note]);
            facts.clock(&Words::of_tests(0)).fix
        };
        assert!(fix(Synchronisation::None).is_some());
        // Where it is not known whether something sets it, nothing is to be installed.
        assert_eq!(fix(Synchronisation::Unknown), None);
    }

    #[test]
    fn what_sets_the_clock_is_known_by_what_it_leaves() {
        let run = tempfile::tempdir().expect("a folder");
        let synchronisation = |run: &Path| synchronisation(run, true);
        assert_eq!(synchronisation(run.path()), Synchronisation::None);
        assert_eq!(super::synchronisation(run.path(), false), Synchronisation::Unknown);
        fs::create_dir_all(run.path().join("systemd/timesync")).expect("makes");
        assert_eq!(synchronisation(run.path()), Synchronisation::Awaited);
        fs::create_dir(run.path().join("chrony")).expect("makes");
        assert_eq!(synchronisation(run.path()), Synchronisation::Other("chronyd"));
        fs::write(run.path().join("systemd/timesync/synchronized"), "").expect("writes");
        assert_eq!(synchronisation(run.path()), Synchronisation::Set);
    }

    #[test]
    fn limits_of_a_process_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            65536                65536                files     \n";
        assert_eq!(limit_of(limits), Some(Some(65536)));
        assert_eq!(
            limit_of("Max open files            unlimited            unlimited            files\n"),
            Some(None)
        );
        assert_eq!(limit_of(""), None);
    }

    #[test]
    fn this_machine_has_what_is_used() {
        assert_eq!(refused_calls(), []);
    }
}
