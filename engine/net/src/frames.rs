//! Messages on streams (docs/protocol.md, section 2), each within a time.

use std::time::Duration;

use backstay_wire::peer::{self, FrameError, MESSAGE_BYTES_MAX, PREFIX_BYTES};
use minicbor::{Decode, Encode};
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use tokio::time::timeout;

/// A stream on which nothing comes, or nothing is taken, for so long is given up (docs/protocol.md, section 6).
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The same of a stream of a replica, and of what is asked about replicas: whoever sends may have to compute for so long, and a pool
/// may be busy.
pub(crate) const REPLICA_SILENCE_MAX: Duration = Duration::from_secs(300);

/// A hello takes no longer.
pub(crate) const HELLO_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// It is not one, or too long.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The stream ended in it.
    #[error("the stream ended within a message")]
    Ended,
    /// Something follows where nothing can.
    #[error("something follows the last message")]
    Goes,
    /// The stream or its connection is no more.
    #[error("{0}")]
    Lost(String),
    /// Nothing came, or nothing was taken, for too long.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
}

impl MessageError {
    /// Whether the other side has broken the rules of the protocol.
    pub(crate) fn is_fault_of_peer(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Ended | Self::Goes)
    }
}

/// Reads one message. Its length is judged before anything is allocated.
pub(crate) async fn read<T>(from: &mut RecvStream, within: Duration) -> Result<T, MessageError>
where
    T: for<'b> Decode<'b, ()>,
{
    let read = async {
        let mut prefix = [0; PREFIX_BYTES];
        from.read_exact(&mut prefix).await.map_err(lost)?;
        let mut body = vec![0; peer::body_length(prefix)?.min(MESSAGE_BYTES_MAX)];
        from.read_exact(&mut body).await.map_err(lost)?;
        Ok(peer::decode(&body)?)
    };
    timeout(within, read).await.unwrap_or(Err(MessageError::Silent(within)))
}

/// Writes one message.
pub(crate) async fn write<T: Encode<()>>(
    to: &mut SendStream,
    message: &T,
    within: Duration,
) -> Result<(), MessageError> {
    let frame = peer::encode(message)?;
    match timeout(within, to.write_all(&frame)).await {
        Ok(written) => written.map_err(|error: WriteError| MessageError::Lost(error.to_string())),
        Err(_) => Err(MessageError::Silent(within)),
    }
}

/// Waits for the end of what comes, after which nothing may follow.
pub(crate) async fn end(from: &mut RecvStream, within: Duration) -> Result<(), MessageError> {
    match timeout(within, from.read_chunk(1, true)).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(_))) => Err(MessageError::Goes),
        Ok(Err(error)) => Err(MessageError::Lost(error.to_string())),
        Err(_) => Err(MessageError::Silent(within)),
    }
}

fn lost(error: ReadExactError) -> MessageError {
    match error {
        ReadExactError::FinishedEarly(_) => MessageError::Ended,
        ReadExactError::ReadError(error) => MessageError::Lost(error.to_string()),
    }
}

/// A text of which parts come from the other side, as one line without anything by which a terminal could be led astray.
pub(crate) fn plain(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
