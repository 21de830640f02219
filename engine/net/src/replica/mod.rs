//! Live replicas at another node (docs/protocol.md, section 9): `RemoteHolder` asks, `serve` answers by whatever holder the host of
//! this node gives. What replicas are, and in which order anything is done to them, is the business of `backstay-zfs`.

mod listing;
mod messages;
mod refusals;
mod remote;
mod sending;
mod serve;
mod turns;

use bytes::Bytes;

pub(crate) use refusals::worth_a_note;
pub use remote::RemoteHolder;
pub(crate) use serve::{Performed, perform, receive};
pub(crate) use turns::Turns;

/// So much of a stream is handed over at once, at most, bytes.
const PIECE_BYTES: usize = 128 << 10;

/// So many pieces wait between a stream and the thread that has the pool, at most.
const PIECES_MAX: usize = 8;

/// What is handed over. That the channel is closed without an end means that the stream was cut off.
#[derive(Debug)]
enum Piece {
    /// More of the stream.
    Bytes(Bytes),
    /// It was whole.
    End,
}
