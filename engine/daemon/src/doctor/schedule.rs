//! What captures where no daemon runs: a timer of systemd or a line of cron that starts `backstay now` or `backstay run --once`.
//! Something else of Backstay that is started at times, such as `status --check`, captures nothing and does not count.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that are looked through, at most, and bytes of each.
const FILES_MAX: usize = 500;
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where timers and their services are.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// Where lines of cron are, beside `/etc/crontab`.
const CRON: [&str; 2] = ["etc/cron.d", "var/spool/cron/crontabs"];

/// The first that is found below `root`, which is `/` but in tests.
pub fn find(root: &Path) -> Option<PathBuf> {
    let listed = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).take(FILES_MAX).collect::<Vec<_>>()
    };
    let tables = CRON.iter().flat_map(|folder| listed(folder));
    let of_cron =
        std::iter::once(root.join("etc/crontab")).chain(tables).find(|file| captures(file, |line| line));
    let is_timer = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "timer");
    let mut timers = UNITS.iter().flat_map(|folder| listed(folder)).filter(is_timer);
    of_cron.or_else(|| timers.find(|timer| starts_a_capture(timer, root)))
}

/// Whether the service that a timer starts captures.
fn starts_a_capture(timer: &Path, root: &Path) -> bool {
    let Some(text) = small(timer) else { return false };
    let named = text.lines().rev().find_map(|line| line.trim().strip_prefix("Unit="));
    let service = match (named, timer.file_stem()) {
        (Some(name), _) => name.trim().to_owned(),
        (None, Some(stem)) => format!("{}.service", stem.to_string_lossy()),
        (None, None) => return false,
    };
    let mut files = UNITS.iter().map(|folder| root.join(folder).join(&service));
    let first = files.find(|file| file.is_file());
    // A unit starts nothing by its other lines.
    first.is_some_and(|file| captures(&file, |line| line.strip_prefix("ExecStart=").unwrap_or_default()))
}

/// Whether a line of a file captures; `command` has what of a line is one.
fn captures(file: &Path, command: impl Fn(&str) -> &str) -> bool {
    let lines = small(file);
    lines.is_some_and(|text| text.lines().any(|line| is_capture(command(line.trim_start()))))
}

fn small(file: &Path) -> Option<String> {
    let is_small = fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES_MAX);
    is_small.then(|| fs::read_to_string(file).ok()).flatten()
}

/// Whether a line runs `backstay now` or `backstay run --once`, with whatever options.
fn is_capture(line: &str) -> bool {
    if line.starts_with('#') {
        return false;
    }
    let commands = line.split([';', '&', '|', '(', ')', '`']);
    commands.into_iter().any(|command| {
        let words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        let mut words = words.skip_while(|word| !is_backstay(word)).skip(1);
        let mut subcommand = words.next();
        while let Some(option) = subcommand.filter(|word| word.starts_with('-')) {
            // The only one that has its value in a word of its own.
            if option == "--config" {
                words.next();
            }
            subcommand = words.next();
        }
        match subcommand {
            Some("now") => true,
            Some("run") => words.any(|word| word == "--once"),
            _ => false,
        }
    })
}

/// Systemd has marks before the path of a program.
fn is_backstay(word: &str) -> bool {
    let program = word.trim_start_matches(['-', '@', ':', '+', '!']);
    Path::new(program).file_name().is_some_and(|name| name == "backstay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_captures_counts() {
        for line in [
            "*/15 * * * * root backstay now",
            "0 3 * * * root nice /usr/bin/backstay --config /etc/b.toml run --once >/dev/null 2>&1",
            "0 3 * * * root cd / && backstay -v --config=/x now mail.files; echo done",
            "0 3 * * * root sh -c 'backstay now'",
            "-/usr/bin/backstay now",
        ] {
            assert!(is_capture(line), "{line}");
        }
        for line in [
            "# 0 3 * * * root backstay now",
            "*/5 * * * * root backstay status --check",
            "0 3 * * * root rsync -a /var/lib/backstay /mnt && echo now",
            "0 3 * * * root backstay --config now status",
            "0 3 * * * root backstay run",
            "0 3 * * * root backstay-report now",
            "MAILTO=backstay",
        ] {
            assert!(!is_capture(line), "{line}");
        }
    }

    #[test]
    fn a_timer_counts_by_the_service_that_it_starts() {
        let root = tempfile::tempdir().expect("a folder");
        let units = root.path().join("etc/systemd/system");
        fs::create_dir_all(&units).expect("makes");
        let write = |name: &str, text: &str| fs::write(units.join(name), text).expect("writes");
        write("backstay-check.timer", "[Timer]\nOnCalendar=hourly\n");
        write("backstay-check.service", "[Service]\nExecStart=/usr/bin/backstay status --check\n");
        assert_eq!(find(root.path()), None);
        write("night.timer", "[Timer]\nOnCalendar=daily\nUnit=capture.service\n");
        write("capture.service", "[Service]\nExecStart=/usr/bin/backstay now\n");
        assert_eq!(find(root.path()), Some(units.join("night.timer")));
        fs::create_dir_all(root.path().join("etc/cron.d")).expect("makes");
        let table = root.path().join("etc/cron.d/backup");
        fs::write(&table, "0 * * * * root backstay status --check\n5 * * * * root backstay now\n")
            .expect("writes");
        assert_eq!(find(root.path()), Some(table));
    }
}
