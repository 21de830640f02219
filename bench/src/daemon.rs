//! Backstay's daemon, as it runs where it is used, beside what is measured.

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::measure::cpu_seconds_of;
use crate::tool::Setup;

/// How long it may take to answer at first.
const SECONDS_MAX: u64 = 60;

/// Backstay's daemon, ended when it goes out of scope.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(setup: &Setup, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let daemon = setup.daemon().stdout(output.try_clone()?).stderr(output).spawn()?;
        let daemon = Self(daemon);
        let start = Instant::now();
        while !setup.socket().exists() {
            if start.elapsed() > Duration::from_secs(SECONDS_MAX) {
                bail!("the daemon does not come up; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// CPU time of it so far, seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds_of(self.0.id())
    }

    /// Ends it as systemd does.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid =
            rustix::process::Pid::from_raw(self.0.id().cast_signed()).context("a process id is not zero")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("the daemon ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
