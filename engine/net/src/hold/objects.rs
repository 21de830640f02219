//! Objects on their way to whoever asks: found, bounded, and read a piece at a time.

use std::sync::Arc;
use std::time::Duration;

use backstay_vault::name::ObjectName;
use backstay_vault::store::{DirStore, OBJECT_BYTES_MAX, Store, StoreError, Stretch};
use backstay_wire::peer::{Reason, Refusal};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::space::{busy, refusal_of};

/// How much is read at once, bytes.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// What is longer than this waits for its turn, bytes: whoever asks for much and reads none of it has pieces of no more than so
/// many in memory.
const SENT_AT_ONCE_FROM: u64 = 64 << 10;

/// And waits no longer than that.
const TURN_WAIT_MAX: Duration = Duration::from_secs(20);

/// An object, or a stretch of it, that is being sent.
#[derive(Debug)]
pub(crate) struct Opened {
    store: DirStore,
    name: ObjectName,
    next: u64,
    end: u64,
    /// All of one that may be renewed meanwhile, and its share of the memory for such.
    whole: Option<(Bytes, OwnedSemaphorePermit)>,
    /// Its turn, of one that is long.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Opened {
    /// An object that is renewed under its name, read as it is now.
    pub(super) async fn find_renewed(
        store: &DirStore,
        name: ObjectName,
        memory: OwnedSemaphorePermit,
    ) -> Result<Self, Refusal> {
        let whole = store.get(&name).await.map_err(refusal_of)?;
        let end = whole.len() as u64;
        Ok(Self { store: store.clone(), name, next: 0, end, whole: Some((whole, memory)), _turn: None })
    }

    pub(super) async fn find(
        store: &DirStore,
        name: ObjectName,
        stretch: Option<(u64, u64)>,
    ) -> Result<Self, Refusal> {
        let length = store.length(&name).await.map_err(refusal_of)?;
        let (next, end) = match stretch {
            None => (0, length),
            Some((offset, wanted)) => match offset.checked_add(wanted).filter(|end| *end <= length) {
                Some(end) => (offset, end),
                None => {
                    let text = format!("{name} has {length} bytes");
                    return Err(Refusal { reason: Reason::Truncated, text, retry_after: None });
                }
            },
        };
        if end - next > OBJECT_BYTES_MAX {
            let text = format!("{name} has {length} bytes, more than any object");
            return Err(Refusal { reason: Reason::TooLarge, text, retry_after: None });
        }
        Ok(Self { store: store.clone(), name, next, end, whole: None, _turn: None })
    }

    /// Waits for its turn, of those of this space; not for as long as whoever asks would wait for an answer.
    pub(super) async fn in_turn(self, turns: &Arc<Semaphore>) -> Result<Self, Refusal> {
        if self.whole.is_some() || self.remaining() <= SENT_AT_ONCE_FROM {
            return Ok(self);
        }
        match timeout(TURN_WAIT_MAX, Arc::clone(turns).acquire_owned()).await {
            Ok(turn) => Ok(Self { _turn: turn.ok(), ..self }),
            Err(_) => Err(busy("too much is read at once")),
        }
    }

    /// Bytes that remain.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.next
    }

    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let length = self.remaining().min(PIECE_BYTES);
        if length == 0 {
            return Ok(None);
        }
        if let Some((whole, _)) = &self.whole {
            self.next = self.end;
            return Ok(Some(whole.clone()));
        }
        let stretch = Stretch { offset: self.next, length };
        let piece = self.store.get_range(&self.name, stretch).await?;
        self.next += length;
        Ok(Some(piece))
    }
}

/// What is there under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// An object with this BLAKE3-256.
    Hash([u8; 32]),
    /// An object that cannot be read, as on a bad sector.
    Unreadable,
}

impl There {
    pub(super) fn hash(&self) -> Option<[u8; 32]> {
        match self {
            Self::Hash(hash) => Some(*hash),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Looks at what is there. That it cannot be read is an answer where its writer can put it again, and else an error.
pub(super) async fn look_at(store: &DirStore, name: &ObjectName, has_hash: bool) -> Result<There, Refusal> {
    let mut next = 0;
    let length = match store.length(name).await {
        Ok(length) => length,
        Err(error) if error.is_not_found() => return Ok(There::Nothing),
        Err(error) => return Err(refusal_of(error)),
    };
    let mut hasher = blake3::Hasher::new();
    while next < length {
        let stretch = Stretch { offset: next, length: PIECE_BYTES.min(length - next) };
        match store.get_range(name, stretch).await {
            Ok(piece) => _ = hasher.update(&piece),
            Err(error) if has_hash && error.is_unreadable() => return Ok(There::Unreadable),
            Err(error) => return Err(refusal_of(error)),
        }
        next += stretch.length;
    }
    Ok(There::Hash(*hasher.finalize().as_bytes()))
}
