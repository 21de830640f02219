//! The worker by itself, for the tests of this crate: in the product it is a part of `backstay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some(backstay_zfs::worker::WORKER_WORD) {
        return ExitCode::from(2);
    }
    backstay_zfs::worker::run()
}
