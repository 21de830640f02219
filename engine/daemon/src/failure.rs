//! How a command ends: what it says and with which exit code (0 done, 1 failed, 2 usage or configuration,
//! 3 partly done).

use std::fmt;

use backstay_command::capture::CaptureError as CommandError;
use backstay_files::capture::CaptureError;
use backstay_vault::error::VaultError;

/// Why a command did not do all that it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What, why and what to do.
    pub message: String,
    /// A word for metrics: the class of the error.
    pub class: &'static str,
}

/// The class of an error that has no more telling one.
pub const OTHER_CLASS: &str = "other";

/// Exit codes other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing of it was done.
    Failed = 1,
    /// It was asked for wrongly, or the configuration is wrong.
    Usage = 2,
    /// A part of it was done; the message says which was not. Of `status --check`: nobody can tell.
    Partly = 3,
}

impl Failure {
    /// Nothing was done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string(), class: OTHER_CLASS }
    }

    /// Asked for wrongly.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string(), class: OTHER_CLASS }
    }

    /// A part was done.
    pub fn partly(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Partly, message: message.to_string(), class: OTHER_CLASS }
    }

    /// The same failure, of this class.
    pub fn of_class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let class = class_of(&error);
        Self::failed(error).of_class(class)
    }
}

/// The class of an error of the crates below that has one.
fn class_of(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let of_capture = error.downcast_ref().map(CaptureError::class);
    let of_command = || error.downcast_ref().map(CommandError::class);
    let of_vault = || error.downcast_ref().map(VaultError::class);
    of_capture.or_else(of_command).or_else(of_vault).unwrap_or(OTHER_CLASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_crates_below_keeps_its_class() {
        let class = |failure: Failure| failure.class;
        assert_eq!(class(CaptureError::Stopped.into()), "stopped");
        assert_eq!(class(VaultError::NoVault { place: "/srv".into() }.into()), "no_vault");
        assert_eq!(class(std::io::Error::other("torn").into()), OTHER_CLASS);
    }
}
