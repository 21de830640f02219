//! What is told of work that takes long: a line on a terminal, a line once in a while elsewhere, nothing to programs.

use backstay_testkit::random::Random;

use crate::daemon::Daemon;
use crate::manual::is_installed;
use crate::outcome::{Outcome, run, run_on_terminal};
use crate::sandbox::Sandbox;

/// How much the slow program writes.
const OUTPUT_BYTES: usize = 3 << 20;

/// A node with the source `db.dump`, whose program takes some three seconds.
fn slow() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let output = sandbox.path("output");
    std::fs::write(&output, Random::new(31).bytes(OUTPUT_BYTES)).unwrap();
    let script = format!(
        "for part in 0 1 2 3 4 5; do dd if={} bs=512k skip=$part count=1 2>/dev/null; sleep 0.6; done",
        output.display()
    );
    sandbox.more = format!(
        "[service.db]\ncommand.dump = {{ run = [\"sh\", \"-c\", \"{script}\"], rpo = \"1d\" }}\n[allow]\ncommands = true\n"
    );
    sandbox
}

/// The command with its standard error in a file, and a line every so often.
fn told(sandbox: &Sandbox, arguments: &[&str]) -> Outcome {
    let mut command = sandbox.command(arguments);
    command.env("BACKSTAY_PROGRESS_PERIOD", "200ms");
    run(command).good()
}

/// The lines about a source.
fn lines<'o>(outcome: &'o Outcome, begin: &str) -> Vec<&'o str> {
    outcome.stderr.lines().filter(|line| line.starts_with(begin)).collect()
}

/// What a program that reads slowly is given.
const SLOW_READER: &str =
    "for part in 0 1 2 3 4 5; do head -c 524288 >/dev/null; sleep 0.6; done; cat >/dev/null";

#[test]
fn captures_and_restores_tell_how_far_they_are_once_in_a_while() {
    let sandbox = slow();
    let first = told(&sandbox, &["now", "db"]);
    let lines_of_first = lines(&first, "capturing db.dump: ");
    assert!((2..30).contains(&lines_of_first.len()), "{first:?}");
    assert!(lines_of_first.iter().all(|line| line.contains("elapsed") && !line.contains('%')), "{first:?}");

    // The point before says how much there is to be.
    let second = told(&sandbox, &["now", "db"]);
    let lines_of_second = lines(&second, "capturing db.dump: ");
    assert!(lines_of_second.iter().any(|line| line.contains("of 3MiB")), "{second:?}");
    assert!(
        lines_of_second.iter().all(|line| line.contains(": about ") && line.contains("%, ")),
        "{second:?}"
    );
    assert!(lines_of_second.last().unwrap().contains(" left, "), "{second:?}");

    let restored = told(&sandbox, &["restore", "db", "--to-program", "sh", "-c", SLOW_READER]);
    let lines_of_restore = lines(&restored, "restoring: ");
    assert!(lines_of_restore.iter().any(|line| line.contains("of 3MiB")), "{restored:?}");

    // What is over before the time prints no line, and no program gets any.
    let quick = sandbox.run(["now", "db"]).good();
    assert_eq!(lines(&quick, "capturing"), [""; 0]);
    let json = told(&sandbox, &["now", "db", "--json"]);
    assert_eq!(json.json()[0]["source"], "db.dump");
    assert_eq!(lines(&json, "capturing"), [""; 0]);
}

#[test]
fn a_daemon_tells_how_far_it_is() {
    let mut sandbox = slow();
    sandbox.run(["now"]).good();
    let daemon = Daemon::start(&mut sandbox);
    let now = told(&sandbox, &["now", "db"]);
    assert!(lines(&now, "capturing db.dump: ").iter().any(|line| line.contains("of 3MiB")), "{now:?}");
    let json = told(&sandbox, &["now", "db", "--json"]);
    assert_eq!(json.json()[0]["source"], "db.dump");
    assert_eq!(lines(&json, "capturing"), [""; 0]);
    daemon.running.terminate().good();
}

#[test]
fn a_terminal_shows_a_line_with_percent_and_time_left_and_takes_it_away() {
    if !is_installed("script") {
        return;
    }
    let sandbox = slow();
    sandbox.run(["now", "db"]).good();
    let shown = run_on_terminal("", &sandbox.command(["now", "db"])).good().text();
    assert!(shown.contains("capturing db.dump: about ") && shown.contains(" left, "), "{shown}");
    assert!(shown.contains(" of 3MiB, "), "{shown}");
    let end = shown.rfind("left").unwrap();
    assert!(shown[end..].contains("\u{1b}[2K"), "the line is taken away: {:?}", &shown[end..]);
}

#[test]
fn work_on_vaults_tells_what_it_asks_of_them() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.source.join("file"), Random::new(32).bytes(20 << 20)).unwrap();
    sandbox.capture();
    // So short that whatever takes any time at all tells something.
    let told = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command.env("BACKSTAY_PROGRESS_PERIOD", "1ms");
        run(command).good()
    };
    let read = told(&["vault", "check", "local", "--read-data", "1/1"]);
    assert!(lines(&read, "reading packs: ").iter().any(|line| line.contains(" of 20")), "{read:?}");
    assert!(lines(&read, "checking: ").iter().all(|line| line.contains("requests")), "{read:?}");
    let mended = told(&["vault", "repair", "local", "--read-data"]);
    assert!(lines(&mended, "mending: ").iter().any(|line| line.contains(" requests, ")), "{mended:?}");
    let pruned = told(&["vault", "prune", "local"]);
    assert!(lines(&pruned, "pruning: ").iter().any(|line| line.contains(" requests, ")), "{pruned:?}");
}
