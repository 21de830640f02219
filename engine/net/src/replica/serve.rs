//! What is asked of the holder of this node by another one. Everything of the holder blocks, and runs on threads for that.

use std::io::Write as _;
use std::sync::Arc;

use backstay_wire::peer::{Answer, FrameError, Reason, Refusal, ReplicaArriving, ReplicaRequest};
use backstay_zfs::guid::SnapshotGuid;
use backstay_zfs::name::{FlowId, OwnSnapshot};
use backstay_zfs::replicate::{Arriving, Holder, HolderError, not_taken};
use bytes::Bytes;
use quinn::RecvStream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::messages::{arriving_asked, change_asked, dataset, no_name};
use super::refusals::answer_to;
use super::turns::Turn;
use super::{PIECE_BYTES, PIECES_MAX, Piece, listing};
use crate::frames::REPLICA_SILENCE_MAX;
use crate::hold::{Lost, NotTaken};

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Performed {
    /// This is answered.
    Answer(Answer),
    /// This is the payload of the answer.
    Listing(Bytes),
}

/// What is done with a holder.
type Work = Box<dyn FnOnce(&dyn Holder) -> Result<(), HolderError> + Send>;

/// Does what is asked, but receives nothing.
pub(crate) async fn perform(
    holder: Arc<dyn Holder>,
    turn: Turn,
    what: ReplicaRequest,
) -> Result<Performed, Refusal> {
    let work: Work = match what {
        ReplicaRequest::List => return list(holder, turn).await,
        ReplicaRequest::Change(change) => {
            let structure = change_asked(&change)?;
            Box::new(move |holder| holder.change(&structure))
        }
        ReplicaRequest::Settle { replica, guid, flow } => {
            let (replica, flow) = (dataset(&replica)?, FlowId::of_number(flow));
            Box::new(move |holder| holder.settle(&replica, SnapshotGuid(guid), flow))
        }
        ReplicaRequest::Complete { set } => {
            let set = OwnSnapshot::parse(&set).ok_or_else(|| no_name(&set))?;
            Box::new(move |holder| holder.complete(set))
        }
        ReplicaRequest::Receive(_) => {
            let text = "a stream where none can be".to_owned();
            return Err(Refusal { reason: Reason::Malformed, text, retry_after: None });
        }
    };
    let done = spawn_blocking(move || {
        let done = work(&*holder);
        drop(turn);
        done
    });
    Ok(Performed::Answer(answer(done.await)))
}

async fn list(holder: Arc<dyn Holder>, turn: Turn) -> Result<Performed, Refusal> {
    let listed = spawn_blocking(move || {
        let datasets = holder.list()?;
        let counted = datasets.len();
        let payload = listing::to_send(holder.place(), datasets).to_payload();
        drop(turn);
        Ok(payload.map_err(|error| too_large(&*holder, counted, &error)))
    });
    match listed.await {
        Ok(Ok(payload)) => Ok(Performed::Listing(payload?.into())),
        Ok(Err(error)) => Ok(Performed::Answer(answer_to(error))),
        Err(error) => Ok(Performed::Answer(answer(Err(error)))),
    }
}

fn too_large(holder: &dyn Holder, datasets: usize, error: &FrameError) -> Refusal {
    let what = match error {
        FrameError::Malformed(what) => what.clone(),
        other => other.to_string(),
    };
    let text = format!(
        "{} with {datasets} datasets cannot be listed for another node: {what}; have retention keep less there, or make services of parts of it",
        holder.place()
    );
    Refusal { reason: Reason::TooLarge, text, retry_after: None }
}

/// Receives a stream: what comes of it goes through a bounded channel to a thread that writes it. When the stream is lost, the
/// channel is closed without an end, and the receive is dropped there: what has come stays, to be resumed.
pub(crate) async fn receive(
    holder: Arc<dyn Holder>,
    turn: Turn,
    arriving: ReplicaArriving,
    stream: &mut RecvStream,
) -> Result<Answer, NotTaken> {
    let arriving = arriving_asked(arriving)?;
    let (pieces, come) = mpsc::channel(PIECES_MAX);
    let mut work = spawn_blocking(move || {
        let received = write(&*holder, &arriving, come);
        drop(turn);
        received
    });
    tokio::select! {
        biased;
        // It has ended before the stream: it is refused.
        received = &mut work => return Ok(answer(received)),
        forwarded = forward(stream, pieces) => forwarded?,
    }
    Ok(answer(work.await))
}

/// Hands over what comes. That nobody takes it any more is no error of the stream.
async fn forward(stream: &mut RecvStream, pieces: mpsc::Sender<Piece>) -> Result<(), Lost> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = timeout(REPLICA_SILENCE_MAX, stream.read(&mut buffer)).await;
        let piece = match read {
            // Copied: the slices of quinn hold on to whole datagrams.
            Ok(Ok(Some(read))) => Piece::Bytes(Bytes::copy_from_slice(&buffer[..read])),
            Ok(Ok(None)) => Piece::End,
            Ok(Err(error)) => return Err(Lost(error.to_string())),
            Err(_) => return Err(Lost("nothing more comes of the stream of a replica".to_owned())),
        };
        let is_over = matches!(piece, Piece::End);
        if pieces.send(piece).await.is_err() || is_over {
            return Ok(());
        }
    }
}

fn write(
    holder: &dyn Holder,
    arriving: &Arriving,
    mut come: mpsc::Receiver<Piece>,
) -> Result<(), HolderError> {
    let mut receiving = holder.receive(arriving)?;
    while let Some(piece) = come.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => {
                if let Err(cause) = receiving.write_all(&bytes) {
                    let name = format!("{}@{}", arriving.replica, arriving.mark);
                    return Err(not_taken(receiving, &name, cause).into());
                }
            }
            Piece::End => return Ok(receiving.finish()?),
        }
    }
    drop(receiving);
    Err(HolderError::Unreachable("its stream was cut off".to_owned()))
}

fn answer(done: Result<Result<(), HolderError>, JoinError>) -> Answer {
    match done {
        Ok(Ok(())) => Answer::Done,
        Ok(Err(error)) => answer_to(error),
        Err(_) => {
            let text = "the holder is stopping".to_owned();
            Answer::Refused(Refusal { reason: Reason::Fault, text, retry_after: None })
        }
    }
}
