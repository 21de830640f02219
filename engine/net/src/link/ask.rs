//! One request: sent, with its payload, and its answer read. Writes while it reads, because a refusal may come before the payload
//! was sent.

use std::time::{Duration, Instant};

use backstay_vault::store::{Pace, Way};
use backstay_wire::peer::{Answer, ConnectionKind, Refusal, Request};
use bytes::{Bytes, BytesMut};
use quinn::RecvStream;
use tokio::time::timeout;

use super::{Link, LinkError, Open, dial};
use crate::frames::{self, MessageError, REPLICA_SILENCE_MAX, SILENCE_MAX, plain};
use crate::outgoing::{NotWritten, Outgoing, allowed};

/// So much goes between two waits, bytes.
const PIECE_BYTES: usize = 64 << 10;

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
    /// ZFS there refuses.
    #[error("ZFS refuses to {doing}: error {number}")]
    RefusedByZfs {
        /// What was to be done.
        doing: String,
        /// Its error.
        number: i32,
    },
    /// The connection was lost, or nothing comes. What was asked may have been done.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The answer is none to that question.
    #[error("the answer breaks the rules of the protocol: {0}")]
    Answer(String),
}

impl AskError {
    /// An answer that is no refusal.
    pub(crate) fn unless_refused(answer: Answer) -> Result<Answer, Self> {
        match answer {
            Answer::Refused(refusal) => Err(Self::Refused(Refusal { text: plain(&refusal.text), ..refusal })),
            Answer::RefusedByZfs { doing, number } => {
                Err(Self::RefusedByZfs { doing: plain(&doing), number })
            }
            answer => Ok(answer),
        }
    }
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
        self.open(kind).await?.ask(request, payload, pace).await
    }

    /// Asks for an object of at most so many bytes.
    pub(super) async fn ask_object(
        &self,
        kind: ConnectionKind,
        request: &Request,
        bytes_max: u64,
        pace: &Pace,
    ) -> Result<Bytes, AskError> {
        self.open(kind).await?.ask_object(request, bytes_max, pace).await
    }
}

impl Open {
    /// Opens a stream for a request.
    pub(crate) async fn stream(&self) -> Result<(Outgoing, RecvStream), AskError> {
        match timeout(STREAM_WAIT_MAX, self.connection.open_bi()).await {
            Ok(Ok((send, receive))) => Ok((Outgoing::new(send), receive)),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost("too many requests are under way on it".to_owned())),
        }
    }

    /// Has a request written, and reads its answer meanwhile: a refusal may come before all was written.
    pub(crate) async fn answered(
        &self,
        write: impl Future<Output = Result<(), NotWritten>>,
        receive: &mut RecvStream,
        within: Duration,
    ) -> Result<Answer, AskError> {
        let mut write = std::pin::pin!(write);
        // Without a time of its own: as long as the payload goes, no answer is due.
        let mut read = std::pin::pin!(frames::read::<Answer>(receive, Duration::MAX));
        let written = tokio::select! {
            biased;
            answer = &mut read => Err(answer),
            written = &mut write => Ok(written),
        };
        let answer = match written {
            Err(answer) => answer,
            Ok(Err(NotWritten::Lost(why))) => return Err(self.lost(why)),
            Ok(Ok(()) | Err(NotWritten::Stopped)) => {
                timeout(within, &mut read).await.unwrap_or(Err(MessageError::Silent(within)))
            }
        };
        let answer = answer.map_err(|error| match error.is_fault_of_peer() {
            true => AskError::Answer(error.to_string()),
            false => self.lost(error.to_string()),
        })?;
        self.touch();
        AskError::unless_refused(answer)
    }

    /// Asks, with a payload if there is one. Answers without objects only.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        payload: Bytes,
        pace: &Pace,
    ) -> Result<Answer, AskError> {
        let (answer, mut receive) = self.exchange(request, payload, pace).await?;
        match answer {
            Answer::Object { .. } => Err(AskError::Answer("an object that nobody asked for".to_owned())),
            answer => {
                frames::end(&mut receive, SILENCE_MAX).await.map_err(unreadable)?;
                Ok(answer)
            }
        }
    }

    /// Asks for something of at most so many bytes.
    pub(crate) async fn ask_object(
        &self,
        request: &Request,
        bytes_max: u64,
        pace: &Pace,
    ) -> Result<Bytes, AskError> {
        let _turn = match bytes_max <= LIVE_BYTES_MAX {
            true => None,
            false => pace.turn(Way::Down).await,
        };
        let (answer, mut receive) = self.exchange(request, Bytes::new(), pace).await?;
        let length = match answer {
            Answer::Object { length } if length <= bytes_max => length,
            Answer::Object { length } => {
                return Err(AskError::Answer(format!(
                    "an object of {length} bytes where there can be {bytes_max}"
                )));
            }
            other => return Err(AskError::Answer(format!("{other:?} where an object was asked for"))),
        };
        self.read_payload(&mut receive, length, pace).await
    }

    async fn exchange(
        &self,
        request: &Request,
        payload: Bytes,
        pace: &Pace,
    ) -> Result<(Answer, RecvStream), AskError> {
        // Before the stream is there: on one that is, the other side waits. Small things wait for no turn, and logs for nothing.
        let _turn = match payload.len() as u64 <= LIVE_BYTES_MAX || cannot_wait(request) {
            true => None,
            false => pace.turn(Way::Up).await,
        };
        let (mut sending, mut receive) = self.stream().await?;
        let written = write(&mut sending, request, payload, pace);
        let answer = self.answered(written, &mut receive, answer_within(request)).await?;
        Ok((answer, receive))
    }

    /// Reads a payload of this length, after which nothing may follow. Memory grows with what comes.
    async fn read_payload(
        &self,
        receive: &mut RecvStream,
        length: u64,
        pace: &Pace,
    ) -> Result<Bytes, AskError> {
        let mut content = BytesMut::new();
        let mut came = 0u64;
        // What it takes because of the limit is not the other side's.
        let (began, mut waited) = (Instant::now(), Duration::ZERO);
        while came < length {
            let most = usize::try_from(length - came).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let left = (allowed(length) + waited).saturating_sub(began.elapsed()).min(SILENCE_MAX);
            let piece = match timeout(left, receive.read_chunk(most, true)).await {
                Ok(Ok(Some(chunk))) => chunk.bytes,
                Ok(Ok(None)) => {
                    return Err(AskError::Answer(format!("{came} bytes of an object of {length}")));
                }
                Ok(Err(error)) => return Err(self.lost(error.to_string())),
                Err(_) => return Err(self.lost("nothing more comes, or too slowly".to_owned())),
            };
            came += piece.len() as u64;
            self.touch();
            // Before the next one is read, so that the other side is held up by the window.
            waited += pace.wait(Way::Down, piece.len()).await;
            content.extend_from_slice(&piece);
        }
        frames::end(receive, SILENCE_MAX).await.map_err(unreadable)?;
        Ok(content.freeze())
    }

    fn lost(&self, why: String) -> AskError {
        let closed = self.connection.close_reason();
        AskError::Lost(closed.map_or(why, |closed| dial::worded(&closed)))
    }
}

/// Writes a request with its payload, until the other side has all of it.
async fn write(
    sending: &mut Outgoing,
    request: &Request,
    mut payload: Bytes,
    pace: &Pace,
) -> Result<(), NotWritten> {
    let length = payload.len() as u64;
    let began = Instant::now();
    match frames::write(&mut sending.stream, request, SILENCE_MAX).await {
        Ok(()) => {}
        // It may have been refused already.
        Err(MessageError::Lost(_)) => return Err(NotWritten::Stopped),
        Err(error) => return Err(NotWritten::Lost(error.to_string())),
    }
    while !payload.is_empty() {
        let piece = payload.split_to(payload.len().min(PIECE_BYTES));
        match cannot_wait(request) {
            true => pace.take_ahead(Way::Up, piece.len()),
            false => _ = pace.wait(Way::Up, piece.len()).await,
        }
        sending.payload(piece).await?;
    }
    // What was written is on its way still: on a slow one for long.
    sending.finish(allowed(length).saturating_sub(began.elapsed()).max(SILENCE_MAX)).await
}

/// What is behind nothing else, whatever the limit of the rate is.
fn cannot_wait(request: &Request) -> bool {
    matches!(request, Request::Append { .. })
}

/// How long an answer is waited for, when all was written.
fn answer_within(request: &Request) -> Duration {
    match request {
        Request::Replica { .. } => REPLICA_SILENCE_MAX,
        _ => SILENCE_MAX,
    }
}

fn unreadable(error: MessageError) -> AskError {
    match error.is_fault_of_peer() {
        true => AskError::Answer(error.to_string()),
        false => AskError::Lost(error.to_string()),
    }
}
