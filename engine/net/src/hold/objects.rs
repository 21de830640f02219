//! Objects on their way to whoever asks: found, bounded, and read a piece at a time.

use backstay_vault::name::ObjectName;
use backstay_vault::store::{DirStore, OBJECT_BYTES_MAX, Store, StoreError, Stretch};
use backstay_wire::peer::{Reason, Refusal};
use bytes::Bytes;

use super::space::refusal_of;

/// How much is read at once, bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// An object, or a stretch of it, that is being sent.
#[derive(Debug)]
pub(crate) struct Opened {
    store: DirStore,
    name: ObjectName,
    next: u64,
    end: u64,
    /// All of one that may be renewed meanwhile.
    whole: Option<Bytes>,
}

impl Opened {
    /// An object that is renewed under its name, read as it is now.
    pub(super) async fn find_renewed(store: &DirStore, name: ObjectName) -> Result<Self, Refusal> {
        let whole = store.get(&name).await.map_err(refusal_of)?;
        let end = whole.len() as u64;
        Ok(Self { store: store.clone(), name, next: 0, end, whole: Some(whole) })
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
        Ok(Self { store: store.clone(), name, next, end, whole: None })
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
        if let Some(whole) = self.whole.take() {
            self.next = self.end;
            return Ok(Some(whole));
        }
        let stretch = Stretch { offset: self.next, length };
        let piece = self.store.get_range(&self.name, stretch).await?;
        self.next += length;
        Ok(Some(piece))
    }
}

/// BLAKE3-256 of an object that is there; none where there is none.
pub(super) async fn hash_of(store: &DirStore, name: &ObjectName) -> Result<Option<[u8; 32]>, Refusal> {
    let mut opened = match Opened::find(store, name.clone(), None).await {
        Ok(opened) => opened,
        Err(refusal) if refusal.reason == Reason::NotFound => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = opened.next().await.map_err(refusal_of)? {
        hasher.update(&piece);
    }
    Ok(Some(*hasher.finalize().as_bytes()))
}
