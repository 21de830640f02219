//! A stream that is written. One that is given up is reset: quinn ends what is dropped as if it were whole.

use std::time::Duration;

use bytes::Bytes;
use quinn::{SendStream, StoppedError, VarInt, WriteError};
use tokio::time::timeout;

use crate::frames::SILENCE_MAX;

/// With which code a stream ends that cannot go on (docs/protocol.md, section 1).
const FAULT: VarInt = VarInt::from_u32(1);

/// So much is written at once, bytes: each has its time.
const PIECE_BYTES: usize = 64 << 10;

/// A stream that is written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) stream: SendStream,
    is_whole: bool,
}

/// Why it was not written to its end.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// The other side does not want it, and may have said why.
    Stopped,
    /// The connection is no more, or nothing is taken.
    Lost(String),
}

impl Outgoing {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, is_whole: false }
    }

    /// Whether it was ended, after all that belongs to it.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Writes all of it.
    pub(crate) async fn payload(&mut self, bytes: Bytes) -> Result<(), NotWritten> {
        self.payload_within(bytes, SILENCE_MAX).await
    }

    /// The same where something of it has to be taken within this time.
    pub(crate) async fn payload_within(
        &mut self,
        mut bytes: Bytes,
        within: Duration,
    ) -> Result<(), NotWritten> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            match timeout(within, self.stream.write_chunk(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(WriteError::Stopped(_))) => return Err(NotWritten::Stopped),
                Ok(Err(error)) => return Err(NotWritten::Lost(error.to_string())),
                Err(_) => return Err(NotWritten::Lost("nothing more is taken".to_owned())),
            }
        }
        Ok(())
    }

    /// Ends it, and waits until the other side has all of it, or wants no more.
    pub(crate) async fn finish(&mut self, within: Duration) -> Result<(), NotWritten> {
        self.is_whole = true;
        if self.stream.finish().is_err() {
            return Err(NotWritten::Stopped);
        }
        match timeout(within, self.stream.stopped()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_))) => Err(NotWritten::Stopped),
            Ok(Err(StoppedError::ConnectionLost(error))) => Err(NotWritten::Lost(error.to_string())),
            Ok(Err(error)) => Err(NotWritten::Lost(error.to_string())),
            Err(_) => {
                self.is_whole = false;
                Err(NotWritten::Lost("not all of it was taken in time".to_owned()))
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = self.stream.reset(FAULT);
        }
    }
}

/// How long a payload of this length may take in all (docs/protocol.md, section 6).
pub(crate) fn allowed(length: u64) -> Duration {
    const PAYLOAD_BYTES_PER_SECOND: u64 = 16 << 10;
    SILENCE_MAX + Duration::from_secs(length / PAYLOAD_BYTES_PER_SECOND)
}
