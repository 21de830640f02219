//! The launcher by itself, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay_command::launch::launched().unwrap_or(ExitCode::FAILURE)
}
