//! How a command ends: what it says and with which exit code (0 done, 1 failed, 2 usage or configuration,
//! 3 partly done).

use std::fmt;

/// Why a command did not do all that it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What, why and what to do.
    pub message: String,
}

/// Exit codes other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing of it was done.
    Failed = 1,
    /// It was asked for wrongly, or the configuration is wrong.
    Usage = 2,
    /// A part of it was done; the message says which was not.
    Partly = 3,
}

impl Failure {
    /// Nothing was done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string() }
    }

    /// Asked for wrongly.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    /// A part was done.
    pub fn partly(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Partly, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}
