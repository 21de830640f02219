//! Runs one program and measures it from outside: wall time, CPU time, memory; and the memory of this one.
//!
//! Owns the sampling. CPU time is what the kernel has booked when the program has ended. Memory is sampled
//! from `/proc/PID/status`: the high-water mark of the resident set, which loses at most what happened in the
//! last interval, and the greatest *anonymous* part seen, which leaves out file pages that the kernel
//! could drop. (`ru_maxrss` would not do: it begins with the size of the program that forks.)

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const INTERVAL: Duration = Duration::from_millis(20);
/// The unit of CPU times in `/proc`: fixed by the kernel's interface on x86-64 and aarch64.
const TICKS_PER_SECOND: f64 = 100.0;
/// How much of a failed program's output is shown.
const SHOWN_LINES: usize = 20;

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) wall_seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) peak_anon_bytes: u64,
}

/// Runs to the end and until everything written is on disk, both timed. Output goes to `log`, whose end is
/// part of the error if the program fails.
pub(crate) fn measure(command: &mut Command, log: &Path) -> Result<Cost> {
    let output = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let (memory, cpu_seconds) = watch(&child)?;
    let status = child.wait()?;
    rustix::fs::sync();
    let wall_seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{command:?} failed: {status}; the end of its output:\n{}", tail(log)?);
    }
    Ok(Cost {
        wall_seconds,
        cpu_seconds,
        peak_rss_bytes: memory.rss_bytes,
        peak_anon_bytes: memory.anon_bytes,
    })
}

/// Anonymous memory of this process now.
pub(crate) fn anonymous_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read how much memory is used")?;
    Ok(read_status(&status).anon_bytes)
}

/// Samples until the program has ended, which leaves it a zombie, so that its times can still be read.
fn watch(child: &Child) -> Result<(Memory, f64)> {
    let process = child.id();
    let pid = Pid::from_raw(process.cast_signed()).context("a process id is not zero")?;
    let ended = AtomicBool::new(false);
    let memory = thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_until(&ended, process));
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        ended.store(true, Ordering::Release);
        let memory = sampler.join().expect("sampling does not panic");
        waited.map(|_| memory)
    })?;
    Ok((memory, cpu_seconds_of(process)?))
}

/// CPU time of a process so far, also of one that has ended and was not waited for, seconds.
pub(crate) fn cpu_seconds_of(process: u32) -> Result<f64> {
    cpu_seconds(&fs::read_to_string(format!("/proc/{process}/stat")).context("cannot read CPU times")?)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    rss_bytes: u64,
    anon_bytes: u64,
}

fn sample_until(ended: &AtomicBool, process: u32) -> Memory {
    let path = format!("/proc/{process}/status");
    let mut peak = Memory::default();
    while !ended.load(Ordering::Acquire) {
        if let Ok(status) = fs::read_to_string(&path) {
            let now = read_status(&status);
            peak.rss_bytes = peak.rss_bytes.max(now.rss_bytes);
            peak.anon_bytes = peak.anon_bytes.max(now.anon_bytes);
        }
        thread::sleep(INTERVAL);
    }
    peak
}

fn read_status(status: &str) -> Memory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    };
    Memory {
        rss_bytes: bytes("VmHWM:").unwrap_or_default(),
        anon_bytes: bytes("RssAnon:").unwrap_or_default(),
    }
}

/// User and system time of the process and of the children it waited for.
fn cpu_seconds(stat: &str) -> Result<f64> {
    // The second field, the program's name in parentheses, may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has another form")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    let total = ticks.sum::<Result<u64, _>>().context("/proc/PID/stat has another form")?;
    Ok(total as f64 / TICKS_PER_SECOND)
}

fn tail(log: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Cost> {
        let log = tempfile::NamedTempFile::new()?;
        measure(Command::new("sh").args(["-c", script]), log.path())
    }

    #[test]
    fn processor_time_and_memory_of_a_program_are_seen() {
        let cost = shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").expect("runs");
        assert!(cost.cpu_seconds > 0.0 && cost.cpu_seconds <= cost.wall_seconds + 0.1, "{cost:?}");
        assert!(cost.peak_rss_bytes > 0 && cost.peak_anon_bytes <= cost.peak_rss_bytes, "{cost:?}");
    }

    #[test]
    fn waiting_costs_time_but_no_processor() {
        let cost = shell("sleep 0.3").expect("runs");
        assert!(cost.wall_seconds >= 0.3 && cost.cpu_seconds < 0.2, "{cost:?}");
    }

    #[test]
    fn a_failure_shows_what_the_program_said() {
        let error = shell("echo the disk is on fire; exit 3").expect_err("fails");
        assert!(format!("{error:#}").contains("the disk is on fire"), "{error:#}");
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4 1 0 0 0 150 50 7 3 20 0 1 0";
        assert_eq!(cpu_seconds(stat).expect("parsed"), 2.1);
        assert!(cpu_seconds("7 no name").is_err());
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(read_status(status), Memory { rss_bytes: 2 << 20, anon_bytes: 512 << 10 });
    }
}
