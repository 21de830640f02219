//! A stream from where it is sent to where it is received. Owns which side is to blame when it ends too early, and what stays of it
//! then.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::holder::HolderError;
use crate::error::{Class, ZfsError};
use crate::zfs::{Receiving, Sending};

/// Bytes that are moved at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How far a replication is, for whoever looks on; and whether it is to stop.
#[derive(Debug, Default)]
pub struct Progress {
    sent_bytes: AtomicU64,
    is_stopped: AtomicBool,
}

impl Progress {
    /// Bytes of all streams so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Has it end soon. What was sent stays, to be resumed.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// A stream that was not sent whole.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// This side has failed.
    #[error(transparent)]
    Source(ZfsError),
    /// The other one.
    #[error(transparent)]
    Holder(HolderError),
}

/// Why a receive takes no more: it may have ended by itself, and know better than what was to be written to it.
pub fn not_taken(to: Box<dyn Receiving>, name: &str, cause: io::Error) -> ZfsError {
    match to.finish() {
        Err(error) if cause.kind() == ErrorKind::BrokenPipe || error.class() == Class::Operator => error,
        _ => ZfsError::Stream { doing: format!("receive {name}"), cause },
    }
}

/// Moves all of it.
pub(super) fn pump(
    mut from: Box<dyn Sending>,
    mut to: Box<dyn Receiving>,
    name: &str,
    progress: &Progress,
) -> Result<(), StreamError> {
    let mut piece = vec![0; PIECE_BYTES];
    let source = |cause| StreamError::Source(ZfsError::Stream { doing: format!("send {name}"), cause });
    loop {
        if progress.is_stopped() {
            return Err(source(io::Error::new(ErrorKind::Interrupted, "it was asked to stop")));
        }
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Dropped, the receive keeps what it has.
            Err(error) => return Err(source(error)),
        };
        if let Err(cause) = to.write_all(&piece[..read]) {
            return Err(StreamError::Holder(not_taken(to, name, cause).into()));
        }
        progress.sent_bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
    // A stream that was not sent whole is not whole there either; that it was cut off here is why.
    if let Err(error) = from.finish() {
        drop(to);
        return Err(StreamError::Source(error));
    }
    to.finish().map_err(|error| StreamError::Holder(error.into()))
}
