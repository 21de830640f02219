//! One request: sent, with its payload, and its answer read. Writes while it reads, because a refusal may come before the payload
//! was sent.

use std::time::Duration;

use backstay_wire::peer::{Answer, ConnectionKind, Refusal, Request};
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout;

use super::pace::{PIECE_BYTES, Pace, Way};
use super::{Link, LinkError, dial};
use crate::frames::{self, MessageError, SILENCE_MAX};

/// Payloads up to this length go over the live connection, bytes.
const LIVE_BYTES_MAX: u64 = 256 << 10;

/// A connection that has as many requests as it may have, or is lost, is waited for no longer than that.
const STREAM_WAIT_MAX: Duration = Duration::from_secs(60);

/// Why a request was not answered as it should be.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AskError {
    /// The node was not reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It refuses.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The connection was lost, or nothing comes. What was asked may have been done.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The answer is none to that question.
    #[error("the answer breaks the rules of the protocol: {0}")]
    Answer(String),
}

/// Over which connection so many bytes go.
pub(super) fn kind_for(bytes: u64) -> ConnectionKind {
    if bytes <= LIVE_BYTES_MAX { ConnectionKind::Live } else { ConnectionKind::Bulk }
}

impl Link {
    /// Asks, with a payload if there is one. Answers without objects only.
    pub(super) async fn ask(
        &self,
        kind: ConnectionKind,
        request: &Request,
        payload: Bytes,
        pace: &Pace,
    ) -> Result<Answer, AskError> {
        let (answer, mut receive) = self.exchange(kind, request, payload, pace).await?;
        match answer {
            Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
            Answer::Object { .. } => Err(AskError::Answer("an object that nobody asked for".to_owned())),
            answer => {
                frames::end(&mut receive, SILENCE_MAX).await.map_err(unreadable)?;
                Ok(answer)
            }
        }
    }

    /// Asks for an object of at most so many bytes.
    pub(super) async fn ask_object(
        &self,
        kind: ConnectionKind,
        request: &Request,
        bytes_max: u64,
        pace: &Pace,
    ) -> Result<Bytes, AskError> {
        let _turn = pace.turn(Way::Down).await;
        let (answer, mut receive) = self.exchange(kind, request, Bytes::new(), pace).await?;
        let length = match answer {
            Answer::Object { length } if length <= bytes_max => length,
            Answer::Object { length } => {
                return Err(AskError::Answer(format!(
                    "an object of {length} bytes where there can be {bytes_max}"
                )));
            }
            Answer::Refused(refusal) => return Err(AskError::Refused(refusal)),
            other => return Err(AskError::Answer(format!("{other:?} where an object was asked for"))),
        };
        read_payload(&mut receive, length, pace).await
    }

    async fn exchange(
        &self,
        kind: ConnectionKind,
        request: &Request,
        payload: Bytes,
        pace: &Pace,
    ) -> Result<(Answer, RecvStream), AskError> {
        let open = self.open(kind).await?;
        let lost = |why: String| {
            let closed = open.connection.close_reason();
            AskError::Lost(closed.map_or(why, |closed| dial::worded(&closed)))
        };
        let (send, mut receive) = match timeout(STREAM_WAIT_MAX, open.connection.open_bi()).await {
            Ok(opened) => opened.map_err(|error| lost(error.to_string()))?,
            Err(_) => return Err(lost("too many requests are under way on it".to_owned())),
        };
        let mut sending = Sending { send, is_whole: false };
        let _turn = if payload.is_empty() { None } else { pace.turn(Way::Up).await };
        let answer = {
            let mut write = std::pin::pin!(sending.message_and_payload(request, payload, pace));
            // Without a time of its own: as long as the payload goes, no answer is due.
            let mut read = std::pin::pin!(frames::read::<Answer>(&mut receive, Duration::MAX));
            let written = tokio::select! {
                biased;
                answer = &mut read => Err(answer),
                written = &mut write => Ok(written),
            };
            match written {
                Err(answer) => answer,
                Ok(Err(failed)) if !failed.may_be_answered => return Err(lost(failed.why)),
                Ok(_) => {
                    timeout(SILENCE_MAX, &mut read).await.unwrap_or(Err(MessageError::Silent(SILENCE_MAX)))
                }
            }
        };
        let answer = answer.map_err(|error| match error.is_fault_of_peer() {
            true => AskError::Answer(error.to_string()),
            false => lost(error.to_string()),
        })?;
        open.touch();
        Ok((answer, receive))
    }
}

/// A request on its way. One that is given up is reset, so that it is not taken for one that ends too early.
struct Sending {
    send: SendStream,
    is_whole: bool,
}

/// It could not be written to its end.
struct NotWritten {
    why: String,
    /// The other side does not read it, and may have said why.
    may_be_answered: bool,
}

impl Sending {
    async fn message_and_payload(
        &mut self,
        request: &Request,
        mut payload: Bytes,
        pace: &Pace,
    ) -> Result<(), NotWritten> {
        let not_sent = |error: MessageError| NotWritten {
            why: error.to_string(),
            may_be_answered: matches!(error, MessageError::Lost(_)),
        };
        frames::write(&mut self.send, request, SILENCE_MAX).await.map_err(not_sent)?;
        while !payload.is_empty() {
            let piece = payload.split_to(payload.len().min(PIECE_BYTES));
            pace.wait(Way::Up, piece.len()).await;
            match timeout(SILENCE_MAX, self.send.write_chunk(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let may_be_answered = matches!(error, WriteError::Stopped(_));
                    return Err(NotWritten { why: error.to_string(), may_be_answered });
                }
                Err(_) => {
                    let why = "nothing more is taken".to_owned();
                    return Err(NotWritten { why, may_be_answered: false });
                }
            }
        }
        self.is_whole = true;
        // One that was stopped is answered.
        let _ = self.send.finish();
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = self.send.reset(VarInt::from_u32(0));
        }
    }
}

/// Reads a payload of this length, after which nothing may follow. Memory grows with what comes.
async fn read_payload(receive: &mut RecvStream, length: u64, pace: &Pace) -> Result<Bytes, AskError> {
    let mut content = BytesMut::new();
    let mut came = 0u64;
    while came < length {
        let most = usize::try_from(length - came).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = match timeout(SILENCE_MAX, receive.read_chunk(most, true)).await {
            Ok(Ok(Some(chunk))) => chunk.bytes,
            Ok(Ok(None)) => return Err(AskError::Answer(format!("{came} bytes of an object of {length}"))),
            Ok(Err(error)) => return Err(AskError::Lost(error.to_string())),
            Err(_) => return Err(AskError::Lost("nothing more comes".to_owned())),
        };
        came += piece.len() as u64;
        // Before the next one is read, so that the other side is held up by the window.
        pace.wait(Way::Down, piece.len()).await;
        content.extend_from_slice(&piece);
    }
    frames::end(receive, SILENCE_MAX).await.map_err(unreadable)?;
    Ok(content.freeze())
}

fn unreadable(error: MessageError) -> AskError {
    match error.is_fault_of_peer() {
        true => AskError::Answer(error.to_string()),
        false => AskError::Lost(error.to_string()),
    }
}
