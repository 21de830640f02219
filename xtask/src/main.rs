//! The recipes of this repository, as `cargo xtask RECIPE`.
//!
//! Owns the command line; each recipe has its own file. Refuses to be a library: nothing that Backstay
//! needs at run time may live here.
#![allow(clippy::print_stdout, reason = "recipes report to the terminal, and stdout is where they report")]

mod bench;
mod cargo;
mod deny;
mod fuzz;
mod garage;
mod go;
mod groups;
mod namespaces;
mod provision;
mod report;
mod s3s_fs;
mod size;
mod tailnet;
mod tally;
mod targets;
mod test;
mod tool;
mod zfs_vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The recipes of this repository")]
enum Recipe {
    /// Provision, check and test: everything but the group `long` when no GROUP is named.
    Test(test::Options),
    /// Measure the release build, against restic where it makes sense.
    Bench(bench::Options),
    /// Fuzz one decoder with libFuzzer and AddressSanitizer on the pinned toolchain.
    Fuzz(fuzz::Options),
    /// Judge the dependencies: licences, sources, duplicates, advisories.
    Deny,
    /// Build a virtual machine with a real OpenZFS, and run a program in it.
    ZfsVm(zfs_vm::Options),
    /// List the source files that have grown past the limit of the house style.
    Size,
}

fn main() -> ExitCode {
    let outcome = match Recipe::parse() {
        Recipe::Test(options) => test::run(&options),
        Recipe::Bench(options) => bench::run(&options),
        Recipe::Fuzz(options) => fuzz::run(&options),
        Recipe::Deny => deny::run().map(|_| ()),
        Recipe::Size => size::run(),
        Recipe::ZfsVm(options) => return code_of(zfs_vm::run(&options)),
    };
    code_of(outcome.map(|()| ExitCode::SUCCESS))
}

fn code_of(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
