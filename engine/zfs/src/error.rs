//! What ZFS says no with, and what follows from it (docs/zfs.md, section 6). Owns the classes; refuses to try anything again.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An operation on a pool that was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ZfsError {
    /// ZFS has refused it.
    #[error("cannot {doing}: {refusal}; {}", .refusal.advice())]
    Refused {
        /// What was to be done, with the name of its object.
        doing: String,
        /// What it says.
        refusal: Refusal,
    },
    /// A command of ZFS has failed.
    #[error("cannot {doing}: {said}")]
    Command {
        /// What was to be done, with the name of its object.
        doing: String,
        /// What it has written to standard error, in one line.
        said: String,
    },
    /// It has shown no progress.
    #[error(
        "cannot {doing}: nothing has moved for {} s, so it was given up; see whether the pool is suspended (`zpool status`)",
        .after.as_secs()
    )]
    Stalled {
        /// What was to be done.
        doing: String,
        /// For how long.
        after: Duration,
    },
    /// Earlier operations hang in the kernel.
    #[error(
        "cannot {doing}: {count} earlier operations on the pool {pool} hang in the kernel and cannot be ended; see `zpool status {pool}`, and `zpool clear {pool}` when its devices are back"
    )]
    Stuck {
        /// What was to be done.
        doing: String,
        /// Where.
        pool: String,
        /// How many.
        count: usize,
    },
    /// This host has no ZFS that can be spoken to.
    #[error("there is no OpenZFS here: {why}; install zfsutils-linux, and load its module (`modprobe zfs`)")]
    NoZfs {
        /// What is missing.
        why: String,
    },
    /// The process that was to do it has ended before it said how it went.
    #[error("cannot {doing}: the process that does it has failed: {why}; try again")]
    Worker {
        /// What was to be done.
        doing: String,
        /// What is known of it.
        why: String,
    },
    /// The stream could not be taken or given by this side.
    #[error("cannot {doing}: {cause}")]
    Stream {
        /// What was to be done.
        doing: String,
        /// Why.
        cause: io::Error,
    },
    /// What ZFS has printed or packed is not what it is known to be.
    #[error("cannot {doing}: what ZFS says is not understood: {what}; which version is it (`zfs version`)?")]
    Answer {
        /// What was to be done.
        doing: String,
        /// What was found.
        what: String,
    },
    /// Another node says that it was not done there.
    #[error("{said}")]
    Told {
        /// What follows from it, as that node says.
        class: Class,
        /// What it says.
        said: String,
    },
}

impl ZfsError {
    /// What follows from it.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { refusal, .. } => refusal.class(),
            Self::Stalled { .. } | Self::Stuck { .. } | Self::Worker { .. } | Self::Stream { .. } => {
                Class::Transient
            }
            Self::Command { .. } => Class::Stale,
            Self::NoZfs { .. } | Self::Answer { .. } => Class::Operator,
            Self::Told { class, .. } => *class,
        }
    }
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same can be tried again, later.
    Transient,
    /// Something is not as it was when this was planned: look anew, and plan anew.
    Stale,
    /// It will be the same until somebody has done something about it.
    Operator,
}

/// What ZFS says no with: its own errors have numbers above those of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusal(i32);

macro_rules! refusals {
    ($($(#[$meta:meta])* $name:ident = $number:expr, $class:ident, $advice:literal;)+) => {
        impl Refusal {
            $($(#[$meta])* pub const $name: Self = Self($number);)+

            /// What follows from it.
            pub fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)+
                    _ => Class::Transient,
                }
            }

            /// What to do about it.
            fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)+
                    _ => "it is tried again",
                }
            }
        }
    };
}

use rustix::io::Errno;

// `include/sys/fs/zfs.h` of OpenZFS, `zfs_errno_t`, counts from 1024.
refusals! {
    /// There is no such dataset or snapshot.
    NOT_FOUND = Errno::NOENT.raw_os_error(), Stale, "it is looked for anew";
    /// The replica lacks the snapshot that the stream builds on.
    NO_BASE = Errno::NODEV.raw_os_error(), Stale, "it is planned anew";
    /// Something of this name is there.
    EXISTS = Errno::EXIST.raw_os_error(), Stale, "it is looked at anew";
    /// The replica was written to, or has newer snapshots.
    MODIFIED = Errno::TXTBSY.raw_os_error(), Stale, "it is looked at anew";
    /// Somebody uses it: a hold, a clone, another receive.
    BUSY = Errno::BUSY.raw_os_error(), Stale, "it is looked at anew";
    /// A quota is reached.
    QUOTA = Errno::DQUOT.raw_os_error(), Operator, "raise the quota there, or let retention keep less";
    /// The pool is full.
    NO_SPACE = Errno::NOSPC.raw_os_error(), Operator, "make room in the pool";
    /// The pool lacks a feature of the stream.
    UNSUPPORTED = Errno::OPNOTSUPP.raw_os_error(), Operator, "the pool there is older: `zpool upgrade` it";
    /// It is not permitted, or a key is not loaded.
    NOT_PERMITTED = Errno::PERM.raw_os_error(), Operator, "run as root, or have it granted (`zfs allow`)";
    /// The key is not loaded.
    NO_KEY = Errno::ACCESS.raw_os_error(), Operator, "load its key (`zfs load-key`)";
    /// What was received is damaged.
    CHECKSUM = Errno::BADE.raw_os_error(), Transient, "it goes on where it was";
    /// What was received makes no sense, or has ended too early.
    INVALID = Errno::INVAL.raw_os_error(), Stale, "it is planned anew";
    /// The device has failed.
    IO = Errno::IO.raw_os_error(), Transient, "see `zpool status`";
    /// The stream of an encrypted dataset lacks what tells which encryption it continues.
    IVSET_MISSING = 1024 + 10, Operator, "the replica cannot be continued: move it elsewhere (`zfs rename`), and it is sent anew";
    /// It continues another encryption than that of the replica.
    IVSET_MISMATCH = 1024 + 11, Operator, "the replica cannot be continued: move it elsewhere (`zfs rename`), and it is sent anew";
    /// The replica was received without, and the stream is with spill blocks' flags, or the other way.
    SPILL_FLAG = 1024 + 12, Operator, "the replica cannot be continued: move it elsewhere (`zfs rename`), and it is sent anew";
    /// The stream is of a newer OpenZFS.
    STREAM_FEATURE = 1024 + 13, Operator, "OpenZFS is older there: upgrade it";
    /// The bookmark is not of this dataset's past.
    NOT_ANCESTOR = 1024 + 15, Stale, "it is planned anew";
    /// The stream has ended too early; what came is kept.
    TRUNCATED = 1024 + 16, Transient, "it goes on where it was";
    /// The replica was received with other flags.
    LARGE_BLOCKS = 1024 + 17, Operator, "the replica cannot be continued: move it elsewhere (`zfs rename`), and it is sent anew";
    /// A receive that was cut off is there.
    RESUME_EXISTS = 1024 + 23, Stale, "it is looked at anew";
}

impl Refusal {
    /// That of this number, as the library returns it.
    pub fn new(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match *self {
            Self::NO_BASE => "the snapshot on which the stream builds is not there",
            Self::MODIFIED => "the replica was modified since its newest snapshot, or has newer ones",
            Self::IVSET_MISSING => "the stream does not tell which encryption it continues",
            Self::IVSET_MISMATCH => "the stream continues another encryption than that of the replica",
            Self::SPILL_FLAG => "the replica was received without the flag for spill blocks",
            Self::STREAM_FEATURE => "the stream has a feature that this OpenZFS does not know",
            Self::NOT_ANCESTOR => "the bookmark is not of this dataset's past",
            Self::TRUNCATED => "the stream has ended too early",
            Self::LARGE_BLOCKS => "the replica was received with another setting of large blocks",
            Self::RESUME_EXISTS => "there is what an earlier receive has left",
            Self(number) if number < 1024 => return write!(f, "{}", io::Error::from_raw_os_error(number)),
            Self(number) => return write!(f, "error {number} of OpenZFS"),
        };
        f.write_str(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_waits_for_the_operator_and_a_cut_stream_does_not() {
        assert_eq!(Refusal::NO_SPACE.class(), Class::Operator);
        assert_eq!(Refusal::TRUNCATED.class(), Class::Transient);
        assert_eq!(Refusal::MODIFIED.class(), Class::Stale);
        // One that nobody has heard of yet.
        assert_eq!(Refusal::new(1024 + 99).class(), Class::Transient);
    }

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = ZfsError::Refused { doing: "receive tank/a@b".to_owned(), refusal: Refusal::NO_SPACE };
        let said = error.to_string();
        assert_eq!(
            said,
            "cannot receive tank/a@b: No space left on device (os error 28); make room in the pool"
        );
        let own = ZfsError::Refused { doing: "receive tank/a@b".to_owned(), refusal: Refusal::LARGE_BLOCKS };
        assert!(own.to_string().contains("large blocks; the replica cannot be continued"), "{own}");
    }
}
