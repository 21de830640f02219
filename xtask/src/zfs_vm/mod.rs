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
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

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
