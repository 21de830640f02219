//! The daemon of this node: whether one runs, which, since when, with which configuration; and what runs Backstay where none
//! does. Gathers facts from the control socket and `/proc`; judging them is pure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use backstay_core::clock::{Clock, SteadyTime};
use backstay_core::units::Timestamp;
use backstay_wire::control::{Ask, Reply};
use backstay_wire::status::NodeStatus;

use super::finding::Finding;
use super::schedule;
use super::unit_file::Unit;
use super::words::Words;
use crate::clock::SystemClock;
use crate::control::Conversation;

const SUBJECT: &str = "daemon";

/// Parts of a second in which `/proc` counts: fixed for programs on Linux, whatever the kernel uses (proc_pid_stat(5)).
const TICKS: u64 = 100;

/// Clocks of files and of processes differ a little.
const SLACK: Duration = Duration::from_secs(2);

/// What the control socket says.
#[derive(Debug)]
pub enum Answer {
    /// How the daemon is.
    Status(Box<NodeStatus>),
    /// There is none.
    None,
    /// There is one, or may be, and this user cannot ask it.
    Failed(String),
    /// It was asked, and has not answered as it should.
    Hangs(String),
}

/// A process of Backstay that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// When it was started.
    pub since: Option<Timestamp>,
    /// The configuration that it was started with, where that can be told.
    pub config: Option<PathBuf>,
    /// Whether its program was replaced on the disk since.
    pub is_replaced: bool,
    /// Whether systemd runs it as `backstay.service`.
    pub is_unit: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Facts {
    /// The socket's answer.
    pub answer: Answer,
    /// Who holds the lock.
    pub holder: Option<Holder>,
    /// When the configuration was last changed.
    pub changed: Option<Timestamp>,
    /// What else is there that starts Backstay: a timer, a line of cron.
    pub schedule: Option<PathBuf>,
}

/// How the daemon is stopped for what takes it to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    /// None runs.
    NotNeeded,
    /// Systemd runs it.
    ByUnit,
    /// Somebody else does.
    ByHand {
        /// The process.
        pid: u32,
    },
}

impl Facts {
    /// Asks, and looks.
    pub fn gather(state: &Path, words: &Words) -> Self {
        let answer = match Conversation::ask(state, Ask::Status) {
            Ok(None) => Answer::None,
            Ok(Some(mut conversation)) => match conversation.next() {
                Ok(Reply::Status(status)) => Answer::Status(status),
                Ok(_) => Answer::Hangs("it gave an answer that was not asked for".to_owned()),
                Err(failure) => Answer::Hangs(failure.message),
            },
            Err(failure) => Answer::Failed(failure.message),
        };
        let files = [&words.node_file, &words.fleet_file];
        let changed =
            files.iter().filter_map(|file| timestamp(fs::metadata(file).ok()?.modified().ok()?)).max();
        Self { answer, holder: holder(state), changed, schedule: schedule::find(Path::new("/")) }
    }

    /// How the daemon would be stopped.
    pub fn restart(&self) -> Restart {
        match &self.holder {
            Some(holder) if holder.is_unit => Restart::ByUnit,
            Some(holder) => Restart::ByHand { pid: holder.pid },
            None => Restart::NotNeeded,
        }
    }

    /// Judges what was found.
    pub fn judge(&self, unit: Option<&Unit>, words: &Words) -> Vec<Finding> {
        match &self.answer {
            Answer::Status(status) => self.judge_running(status, words),
            Answer::Failed(why) => vec![Finding::told(super::Level::Warning, SUBJECT, "running", why)],
            Answer::Hangs(why) => {
                let finding = Finding::problem(SUBJECT, "running", "the daemon does not answer as it should");
                vec![self.again(finding.because(why.clone()), words)]
            }
            Answer::None => vec![self.judge_absent(unit, words)],
        }
    }

    /// Mended by a restart.
    fn again(&self, finding: Finding, words: &Words) -> Finding {
        match self.restart() {
            Restart::ByHand { pid } => finding.advise(format!(
                "end it (`kill {pid}`) and start it again (`{}`); nothing that is durable is lost",
                words.backstay("run")
            )),
            _ => finding.run(words.as_root("systemctl restart backstay")),
        }
    }

    fn judge_running(&self, status: &NodeStatus, words: &Words) -> Vec<Finding> {
        let holder = self.holder.as_ref();
        let pid = holder.map_or(String::new(), |holder| format!(", process {}", holder.pid));
        let since = holder.and_then(|holder| holder.since);
        let began = since.map_or(String::new(), |since| format!(", since {since}"));
        let mut findings =
            vec![Finding::ok(SUBJECT, "running", format!("version {} runs{pid}{began}", status.version))];
        let own = env!("CARGO_PKG_VERSION");
        let is_replaced = holder.is_some_and(|holder| holder.is_replaced);
        findings.push(match status.version == own && !is_replaced {
            true => Finding::ok(SUBJECT, "version", format!("it is of this program's version, {own}")),
            false => {
                let what = match is_replaced {
                    true => "its program was replaced on the disk since it was started".to_owned(),
                    false => format!("it is version {}, and this program is {own}", status.version),
                };
                let finding = Finding::warning(SUBJECT, "version", what);
                self.again(finding.because("it works as the old version does until it is restarted"), words)
            }
        });
        if let Some(config) = holder.and_then(|holder| holder.config.as_ref())
            && fs::canonicalize(config).ok() != fs::canonicalize(&words.config).ok()
        {
            let what =
                format!("it runs with {}, and this looks at {}", config.display(), words.config.display());
            findings.push(
                Finding::warning(SUBJECT, "configuration", what)
                    .because("what is said here is not what it does")
                    .run(format!("backstay --config {} doctor", super::words::quote(config))),
            );
            return findings;
        }
        if let (Some(changed), Some(since)) = (self.changed, since)
            && changed > since.saturating_add(SLACK)
        {
            let what = format!("the configuration was changed at {changed}, after it was started");
            let why = "it goes on with what it has read when it was started";
            findings.push(self.again(Finding::warning(SUBJECT, "configuration", what).because(why), words));
        } else if since.is_some() {
            findings.push(Finding::ok(
                SUBJECT,
                "configuration",
                "it has read the configuration as it is now",
            ));
        }
        findings
    }

    fn judge_absent(&self, unit: Option<&Unit>, words: &Words) -> Finding {
        if let Some(holder) = &self.holder {
            let what = format!("no daemon runs; another command of Backstay works (process {})", holder.pid);
            return Finding::note(SUBJECT, "running", what)
                .because("the daemon can be started when that has ended");
        }
        // Where a unit is installed, a daemon is meant to run, whatever else starts Backstay at times.
        match (unit, &self.schedule) {
            (None, Some(schedule)) => {
                let what = format!("no daemon runs; {} captures at times", schedule.display());
                Finding::note(SUBJECT, "running", what)
                    .because("the objective holds only if that is often enough: see the flows below")
            }
            (Some(unit), _) => Finding::problem(
                SUBJECT,
                "running",
                format!("no daemon runs, although {} is installed", unit.file.display()),
            )
            .because("nothing is captured. `journalctl -u backstay` says why it ended")
            .run(words.as_root("systemctl enable --now backstay")),
            (None, None) => Finding::warning(
                SUBJECT,
                "running",
                "no daemon runs, and nothing was found that starts Backstay at times",
            )
            .because("nothing is captured unless somebody types `backstay now`")
            .run(words.backstay("run")),
        }
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.saturating_add(since))
}

/// The process that holds the lock, if it is one of Backstay: the number in the file may be of one that is gone.
fn holder(state: &Path) -> Option<Holder> {
    let pid: u32 = fs::read_to_string(state.join("lock")).ok()?.trim().parse().ok()?;
    let process = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(process.join("comm")).ok()?;
    if name.trim() != "backstay" {
        return None;
    }
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let since_boot = started(&stat).zip(SystemClock.steady());
    let since = since_boot.map(|(started, now)| {
        SystemClock.now().saturating_sub(now.duration_since(SteadyTime::since_start(started)))
    });
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    let folder = fs::read_link(process.join("cwd")).ok();
    let executable = fs::read_link(process.join("exe")).ok();
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    Some(Holder {
        pid,
        since,
        config: config_of(&words).map(|config| folder.map_or(config.clone(), |folder| folder.join(config))),
        is_replaced: executable.is_some_and(|program| program.to_string_lossy().ends_with(" (deleted)")),
        is_unit: groups.lines().any(|line| line.ends_with("/backstay.service")),
    })
}

/// How long after the boot a process was started, by its `/proc/PID/stat`.
fn started(stat: &str) -> Option<Duration> {
    // The name is in parentheses, and may have some itself. The 22nd field is the 20th after it.
    let after = stat.rsplit_once(')')?.1;
    let ticks: u64 = after.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * (1000 / TICKS)))
}

/// The configuration that a command line of Backstay names.
fn config_of(cmdline: &[u8]) -> Option<PathBuf> {
    let words: Vec<String> =
        cmdline.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let named = words.iter().enumerate().find_map(|(place, word)| match word.as_str() {
        "--config" => words.get(place + 1).map(PathBuf::from),
        word => word.strip_prefix("--config=").map(PathBuf::from),
    });
    Some(named.unwrap_or_else(|| "/etc/backstay".into()))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn status(version: &str) -> Answer {
        Answer::Status(Box::new(NodeStatus {
            fleet: "f".into(),
            node: "n".into(),
            version: version.into(),
            daemon: true,
            time: "t".into(),
            flows: Vec::new(),
            severity: "ok".into(),
        }))
    }

    fn holder() -> Holder {
        Holder {
            pid: 7,
            since: Some(Timestamp::from_nanos(1_000_000_000_000)),
            config: None,
            is_replaced: false,
            is_unit: true,
        }
    }

    fn bad(facts: &Facts, unit: Option<&Unit>) -> Vec<(&'static str, Level, String)> {
        let found =
            facts.judge(unit, &Words::of_tests(0)).into_iter().filter(|finding| finding.level != Level::Ok);
        found
            .map(|finding| {
                (finding.check, finding.level, finding.fix.map_or(String::new(), |fix| fix.text().to_owned()))
            })
            .collect()
    }

    #[test]
    fn a_daemon_of_another_version_or_an_older_configuration_is_restarted() {
        let own = env!("CARGO_PKG_VERSION");
        let good = Facts { answer: status(own), holder: Some(holder()), changed: None, schedule: None };
        assert_eq!(bad(&good, None), []);
        let restart = "systemctl restart backstay".to_owned();
        let old = Facts { answer: status("0.0.1"), ..good };
        assert_eq!(bad(&old, None), [("version", Level::Warning, restart.clone())]);
        let replaced = Holder { is_replaced: true, ..holder() };
        let replaced = Facts { answer: status(own), holder: Some(replaced), ..old };
        assert_eq!(bad(&replaced, None), [("version", Level::Warning, restart.clone())]);
        let changed = Some(Timestamp::from_nanos(2_000_000_000_000));
        let changed = Facts { holder: Some(holder()), changed, ..replaced };
        assert_eq!(bad(&changed, None), [("configuration", Level::Warning, restart)]);
        let by_hand = Facts { holder: Some(Holder { is_unit: false, ..holder() }), ..changed };
        assert!(bad(&by_hand, None)[0].2.contains("`kill 7`"));
    }

    #[test]
    fn a_daemon_that_hangs_is_restarted_and_one_that_cannot_be_asked_is_not() {
        let hangs = Facts {
            answer: Answer::Hangs("x".into()),
            holder: Some(holder()),
            changed: None,
            schedule: None,
        };
        let restart = "systemctl restart backstay".to_owned();
        assert_eq!(bad(&hangs, None), [("running", Level::Problem, restart)]);
        let closed = Facts { answer: Answer::Failed("x; use sudo".into()), ..hangs };
        assert_eq!(bad(&closed, None), [("running", Level::Warning, "use sudo".to_owned())]);
    }

    #[test]
    fn where_none_runs_it_counts_what_else_does() {
        let none = Facts { answer: Answer::None, holder: None, changed: None, schedule: None };
        assert_eq!(bad(&none, None), [("running", Level::Warning, "backstay run".to_owned())]);
        let cron = Facts { schedule: Some("/etc/cron.d/backup".into()), ..none };
        assert_eq!(bad(&cron, None)[0].1, Level::Note);
        // A line of cron does not stand for a daemon that is meant to run and has died.
        let start = "systemctl enable --now backstay".to_owned();
        let unit = Unit::of_tests("/etc/systemd/system/backstay.service");
        assert_eq!(bad(&cron, Some(&unit)), [("running", Level::Problem, start)]);
        let busy = Facts { holder: Some(holder()), ..cron };
        assert!(busy.judge(None, &Words::of_tests(0))[0].what.contains("process 7"));
    }

    #[test]
    fn proc_is_read_as_it_is() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 2";
        assert_eq!(started(stat), Some(Duration::from_millis(123_450)));
        assert_eq!(config_of(b"backstay\0--config\0/srv/b.toml\0run\0"), Some("/srv/b.toml".into()));
        assert_eq!(config_of(b"backstay\0--config=/x\0run\0"), Some("/x".into()));
        assert_eq!(config_of(b"backstay\0run\0"), Some("/etc/backstay".into()));
    }
}
