//! A stream to a holder at another node: a writer that blocks, over a task that moves the bytes.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use backstay_vault::store::{Pace, Way};
use backstay_wire::peer::{Answer, Request};
use backstay_zfs::error::ZfsError;
use backstay_zfs::replicate::HolderError;
use backstay_zfs::zfs::Receiving;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::refusals::{as_zfs, asked_in_vain};
use super::{PIECE_BYTES, PIECES_MAX, Piece};
use crate::frames::{self, MessageError, REPLICA_SILENCE_MAX, SILENCE_MAX};
use crate::link::{AskError, Open};
use crate::outgoing::{NotWritten, Outgoing, allowed};

/// What may be on its way still when all was written, bytes: the window of a connection.
const ON_ITS_WAY_BYTES: u64 = 16 << 20;

/// So much goes between two waits, bytes.
const STEP_BYTES: usize = 64 << 10;

/// A stream that is received at another node. Dropped before its end, it is reset.
#[derive(Debug)]
pub(super) struct RemoteReceiving {
    runtime: Handle,
    pieces: mpsc::Sender<Piece>,
    task: JoinHandle<Result<(), HolderError>>,
}

impl RemoteReceiving {
    /// Begins one with this request.
    pub(super) fn begin(runtime: &Handle, open: Arc<Open>, request: Request, pace: Arc<Pace>) -> Self {
        let (pieces, to_send) = mpsc::channel(PIECES_MAX);
        let task = runtime.spawn(send(open, request, to_send, pace));
        Self { runtime: runtime.clone(), pieces, task }
    }
}

impl Write for RemoteReceiving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(PIECE_BYTES)];
        match self.pieces.blocking_send(Piece::Bytes(Bytes::copy_from_slice(taken))) {
            Ok(()) => Ok(taken.len()),
            // It has ended by itself: `finish` has the reason.
            Err(_) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Receiving for RemoteReceiving {
    fn finish(mut self: Box<Self>) -> Result<(), ZfsError> {
        // Where nobody takes it, it has ended by itself.
        let _ = self.pieces.blocking_send(Piece::End);
        let runtime = self.runtime.clone();
        match runtime.block_on(&mut self.task) {
            Ok(sent) => sent.map_err(as_zfs),
            Err(_) => Err(as_zfs(HolderError::Unreachable("this node is stopping".to_owned()))),
        }
    }
}

impl Drop for RemoteReceiving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(
    open: Arc<Open>,
    request: Request,
    mut pieces: mpsc::Receiver<Piece>,
    pace: Arc<Pace>,
) -> Result<(), HolderError> {
    let (mut sending, mut receive) = open.stream().await.map_err(asked_in_vain)?;
    let written = write(&mut sending, &request, &mut pieces, &pace);
    let answer = open.answered(written, &mut receive, REPLICA_SILENCE_MAX).await.map_err(asked_in_vain)?;
    match answer {
        Answer::Done if sending.is_whole() => Ok(()),
        Answer::Done => Err(asked_in_vain(AskError::Answer("done before all of it was sent".to_owned()))),
        other => Err(asked_in_vain(AskError::Answer(format!("{other:?} is no answer to that")))),
    }
}

/// Without a turn, which would keep whatever else is sent waiting for hours: what comes to the holder in small pieces is taken
/// for as long as it comes.
async fn write(
    sending: &mut Outgoing,
    request: &Request,
    pieces: &mut mpsc::Receiver<Piece>,
    pace: &Pace,
) -> Result<(), NotWritten> {
    match frames::write(&mut sending.stream, request, SILENCE_MAX).await {
        Ok(()) => {}
        // It may have been refused already.
        Err(MessageError::Lost(_)) => return Err(NotWritten::Stopped),
        Err(error) => return Err(NotWritten::Lost(error.to_string())),
    }
    loop {
        match pieces.recv().await {
            Some(Piece::Bytes(mut bytes)) => {
                while !bytes.is_empty() {
                    let step = bytes.split_to(bytes.len().min(STEP_BYTES));
                    pace.wait(Way::Up, step.len()).await;
                    sending.payload_within(step, REPLICA_SILENCE_MAX).await?;
                }
            }
            Some(Piece::End) => return sending.finish(allowed(ON_ITS_WAY_BYTES)).await,
            None => return Err(NotWritten::Lost("it was given up".to_owned())),
        }
    }
}
