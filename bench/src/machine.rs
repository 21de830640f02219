//! The machine that a report was made on, as far as it explains the figures.
//!
//! Owns the reading of `/proc`. A fact that cannot be read is reported as unknown, never guessed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Processor, memory, kernel, and the file system below `work`.
pub(crate) fn describe(work: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "memory_kib": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": file_system(&read("/proc/mounts"), work),
    })
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().trim_end_matches(" kB").to_owned())
}

/// The type of the mount with the longest path above `work`; of several on one path, the last.
fn file_system(mounts: &str, work: &Path) -> Option<String> {
    let mount = |line: &'_ str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    let above = mounts.lines().filter_map(mount).filter(|(path, _)| work.starts_with(path));
    above.max_by_key(|(path, _)| path.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntank/x /srv zfs rw 0 0\nnone /srv/other tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/srv/bench")).as_deref(), Some("zfs"));
        assert_eq!(file_system(mounts, Path::new("/home")).as_deref(), Some("ext4"));
        assert_eq!(file_system("", Path::new("/home")), None);
    }

    #[test]
    fn fields_are_read_without_their_unit() {
        assert_eq!(field("MemFree: 1 kB\nMemTotal:  24 kB\n", "MemTotal").as_deref(), Some("24"));
        assert_eq!(field("", "MemTotal"), None);
    }
}
