//! `cargo xtask zfs-vm`: a virtual machine with a real OpenZFS, and programs that run in it.
//!
//! Owns the command line. The machine is emulated, so that it runs where there is no hardware for it, and the host needs no
//! kernel module. Refuses to be more than a place to run: what a test does there is the test's business.

mod exchange;
mod folder;
mod guest;
mod image;
mod monitor;
mod orders;
mod run;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

pub(crate) use image::{Machine, machine};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to do with the machine; it is built in any case.
#[derive(clap::Subcommand)]
enum What {
    /// Boot it and run a program in it: output on stdout, its exit code is ours. Also a `runner` for cargo.
    Run(RunOptions),
}

#[derive(clap::Args)]
struct RunOptions {
    /// A file or folder that the guest shall have at the same path; may be given several times.
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Boot a second guest, which the first one reaches as `ssh two`. Orders at /dev/virtio-ports/backstay.host,
    /// each a line and answered by `done`: part, join, kill-two, start-two.
    #[arg(long)]
    second_guest: bool,
    /// How long the program may take, booting included.
    #[arg(long, value_name = "N", default_value_t = 20)]
    minutes: u32,
    /// The program, by its path on the host, or by its name alone if it is one of the guest; and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// What cargo runs a test by, on the only target that the machine is for.
const RUNNER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// What the tests start beside themselves. Cargo builds it with them, into the folder in which this program is.
const WORKER: &str = "backstay-zfs-worker";

/// How long all tests may take there: less than a step in CI, so that it is the guest that tells.
const TESTS_MINUTES: u32 = 28;

/// Has a cargo command run what it builds in a guest.
pub(crate) fn run_tests_there(command: &mut Command) -> Result<()> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    command.env(RUNNER_VARIABLE, runner(&own)?);
    Ok(())
}

/// Cargo splits the words at blanks, and knows no quotes.
fn runner(own: &Path) -> Result<String> {
    let worker = own.with_file_name(WORKER);
    let word =
        |path: &Path| path.to_str().filter(|path| !path.contains(char::is_whitespace)).map(str::to_owned);
    match (word(own), word(&worker)) {
        (Some(own), Some(worker)) => {
            Ok(format!("{own} zfs-vm run --minutes {TESTS_MINUTES} --with {worker} --"))
        }
        _ => bail!("cargo runs no runner with blanks in its path, or other than UTF-8: {}", own.display()),
    }
}

/// Builds the machine if this host has not yet, and runs what there is to run. The code is that of the program.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let image = match machine()? {
        Machine::Built(image) => image,
        Machine::Impossible(why) => bail!("there is no machine with OpenZFS here: {why}"),
    };
    match &options.what {
        Some(What::Run(options)) => run::run(&image, options).map(ExitCode::from),
        None => {
            print!("{}\n{}", image.folder().display(), image.versions()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(line: &str) -> Result<RunOptions, clap::Error> {
        let words = std::iter::once("zfs-vm").chain(line.split(' '));
        match Line::try_parse_from(words)?.options.what {
            Some(What::Run(options)) => Ok(options),
            None => panic!("nothing is run"),
        }
    }

    #[test]
    fn cargo_appends_the_program_and_its_arguments_to_the_runner() {
        let runner = runner(Path::new("/target/xtask")).unwrap();
        let appended = runner.strip_prefix("/target/xtask zfs-vm ").unwrap();
        let options = parsed(&format!("{appended} /target/on_zfs-1 --ignored on_openzfs::")).unwrap();
        assert_eq!(options.command, ["/target/on_zfs-1", "--ignored", "on_openzfs::"]);
        assert_eq!(options.with, [PathBuf::from("/target/backstay-zfs-worker")]);
        assert!(super::runner(Path::new("/my target/xtask")).is_err());
    }

    #[test]
    fn options_of_the_program_are_not_ours() {
        let options =
            parsed("run --with /a --with /b --minutes 3 -- prog --second-guest -- --minutes 1").unwrap();
        assert_eq!((options.with.len(), options.minutes, options.second_guest), (2, 3, false));
        assert_eq!(options.command, ["prog", "--second-guest", "--", "--minutes", "1"]);
        assert!(parsed("run --minutes 3").is_err(), "a program must be named");
    }
}
