//! Runs cargo and other programs from the root of the repository.
//!
//! Owns the flags that every call shares and the reading of test results from their output. Refuses to
//! know what is run: see `groups`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tally::Tally;

/// The longest that one step may take in CI, where nobody watches for a test that hangs.
const STEP_LIMIT_MINUTES: u32 = 30;

/// The root of the repository. Cargo says at run time where it is: two checkouts that share a target folder
/// can run one program, whose built-in path is that of whichever compiled it.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// A cargo command in the root of the repository. In CI the lock file is binding and the time is limited.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let in_ci = std::env::var_os("CI").is_some();
    let mut command = if in_ci { Command::new("timeout") } else { Command::new(&cargo) };
    if in_ci {
        command.arg("--kill-after=10s").arg(limit()).arg(&cargo);
    }
    command.arg(subcommand).current_dir(root());
    if in_ci && subcommand != "fmt" {
        command.arg("--locked");
    }
    command
}

/// Runs to the end, its output shown. Fails when it cannot be started or says it failed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs to the end, its output shown and read for `test result:` lines. The tally is what was read, also when
/// the command failed; the second value says why it failed, if it did.
pub(crate) fn run_tests(command: &mut Command) -> (Tally, Result<()>) {
    let shown = show(command);
    eprintln!("+ {shown}");
    let mut tally = Tally::default();
    let outcome = stream_lines(command, |line| {
        println!("{line}");
        tally.read_line(line);
    });
    let outcome = match outcome {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(anyhow::anyhow!("`{shown}` failed: {status}")),
        Err(error) => Err(error.context(format!("cannot run `{shown}`"))),
    };
    (tally, outcome)
}

fn stream_lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<std::process::ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("standard output was not piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        each(&String::from_utf8_lossy(&line?));
    }
    Ok(child.wait()?)
}

/// The command as one would type it: without the time limit, and without the folder of cargo.
fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .skip_while(|word| word == "timeout" || word.starts_with("--kill-after=") || *word == limit())
        .collect();
    match words.split_first() {
        Some((program, rest)) if program.ends_with("/cargo") => format!("cargo {}", rest.join(" ")),
        _ => words.join(" "),
    }
}

/// The limit on a step, as `timeout` takes it.
pub(crate) fn limit() -> String {
    format!("{STEP_LIMIT_MINUTES}m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn results_printed_before_a_failure_are_still_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let (tally, outcome) = run_tests(&mut shell(&format!("echo '{line}'; exit 101")));
        assert_eq!((tally.passed, tally.failed), (3, 1));
        assert!(outcome.is_err());
    }

    #[test]
    fn a_program_that_does_not_exist_is_named_in_the_error() {
        let error = run(&mut Command::new("/nonexistent/backstay-tool")).expect_err("cannot start");
        assert!(format!("{error:#}").contains("/nonexistent/backstay-tool"), "{error:#}");
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10s", &limit(), "/usr/bin/cargo", "test", "--lib"]);
        assert_eq!(show(&command), "cargo test --lib");
    }

    #[test]
    fn the_root_is_the_folder_of_the_workspace() {
        assert!(root().join("Cargo.lock").is_file());
    }
}
