//! The binary `backstay`: the daemon of a node and the commands that people type. Owns processes, files of the
//! configuration and of the state, the clock, the terminal; what is captured and stored is the business of the crates
//! below.

#![expect(unreachable_pub, reason = "a binary has no outside: `pub` means for the other modules here")]

mod bare;
mod care;
mod cli;
mod clock;
mod control;
mod doctor;
mod engine;
mod enrolment;
mod failure;
mod fleet;
mod fleet_source;
mod flow_counters;
mod flow_proofs;
mod flows;
mod kit;
mod load;
mod metrics;
mod new_file;
mod node;
mod passphrase;
mod progress;
mod protection;
mod proving;
mod relay;
mod rights;
mod serve;
mod snapshot;
mod terminal;
mod upkeep;
mod vaults;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before there is any other thread.
    if let Some(code) = backstay_command::launch::launched() {
        return code;
    }
    // What speaks to ZFS is a process of its own, since it may hang in the kernel.
    if std::env::args_os().nth(1).is_some_and(|word| word == backstay_zfs::worker::WORKER_WORD) {
        return backstay_zfs::worker::run();
    }
    let arguments = cli::Arguments::parse();
    terminal::start_log(arguments.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(&format!("cannot start: {error}; see `ulimit -u` and TasksMax"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = cli::run(&arguments, runtime.handle());
    fleet::say_farewell(runtime.handle());
    // Threads that wait for a store panic when the runtime ends under them. Nothing of that is worth a word any more, and whoever
    // catches it would say that something is wrong: they stay where they are until the process is gone.
    let own = std::thread::current().id();
    std::panic::set_hook(Box::new(move |_| {
        while std::thread::current().id() != own {
            std::thread::park();
        }
    }));
    // What still runs then is a request to a store that hangs; nothing of it was acknowledged. Not left to run on: libraries
    // give back what such threads use, when the process ends.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            terminal::complain(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}
