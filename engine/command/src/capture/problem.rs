//! Why a capture failed. Nothing of it was acknowledged then.

use backstay_core::units::ByteSize;
use backstay_files::row::RowError;
use backstay_vault::error::VaultError;

use super::cutting::PIECES_MAX;
use crate::program::ProgramError;
use crate::row::StdoutError;

/// A failed capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The program has not written anything that counts.
    #[error(transparent)]
    Program(ProgramError),
    /// The vault has a problem.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The row of the point before cannot be read, or the new one breaks the rules.
    #[error(transparent)]
    Row(StdoutError),
    /// It writes more than can be kept track of.
    #[error(
        "the program writes more than {PIECES_MAX} chunks, {} so far: protect it in parts, each a source of its own",
        ByteSize(*.bytes)
    )]
    TooLong {
        /// How much was read.
        bytes: u64,
    },
    /// It was asked to stop.
    #[error("stopped; the program was ended, and nothing of this capture counts")]
    Stopped,
}

impl From<ProgramError> for CaptureError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Stopped => Self::Stopped,
            error => Self::Program(error),
        }
    }
}

impl From<StdoutError> for CaptureError {
    fn from(error: StdoutError) -> Self {
        match error {
            StdoutError::Vault(error) => Self::Vault(error),
            error => Self::Row(error),
        }
    }
}

impl From<RowError> for CaptureError {
    fn from(error: RowError) -> Self {
        Self::Row(error.into())
    }
}

impl CaptureError {
    /// A word for metrics: the class of the error.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Program(_) => "source",
            Self::Vault(error) => error.class(),
            Self::Row(_) => "damaged",
            Self::TooLong { .. } => "too_large",
            Self::Stopped => "stopped",
        }
    }
}
