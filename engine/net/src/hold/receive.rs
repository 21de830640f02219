//! A payload that comes: bounded, hashed while it comes, small ones into memory and others to the disk.

use backstay_vault::buffer::BufferPool;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Arriving, DirStore, StoreError};
use backstay_wire::peer::{Reason, Refusal};
use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::changes::Offered;
use super::space::{fault, malformed, refusal_of};

/// A payload up to this length is taken into memory, bytes. What has to be looked into is no longer than that.
pub(super) const SMALL_BYTES_MAX: u64 = 1 << 20;

/// So much is handed to the disk at once, bytes, more or less.
const BATCH_BYTES: usize = 1 << 20;

/// And no more pieces: small ones take more memory than they have bytes.
const BATCH_PIECES_MAX: usize = 2048;

/// What comes from the other side.
pub(crate) trait Payload: Send {
    /// From now on it may take as long as this many bytes may take.
    fn begin(&mut self, length: u64);

    /// The next piece; none at the end of the stream.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Lost>> + Send;
}

/// The stream is no more, or has stalled. Nobody is there to whom it could be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

/// Why something was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It is answered with this.
    Refused(Refusal),
    /// There is nobody to answer.
    Lost(Lost),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Lost> for NotTaken {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// A payload that is here whole, and whose hash is right; not durable yet.
#[derive(Debug)]
pub(super) enum Received {
    /// In memory.
    Small(Bytes),
    /// On the disk.
    Large(Box<Arriving>),
}

/// Takes a payload, of the length and hash that were announced.
pub(super) async fn receive(
    store: &DirStore,
    pool: &BufferPool,
    name: &ObjectName,
    offered: &Offered,
    in_memory: bool,
    payload: &mut impl Payload,
) -> Result<Received, NotTaken> {
    let (length, hash) = (offered.length, offered.hash);
    if in_memory {
        return Ok(Received::Small(receive_small(name, length, hash, payload).await?));
    }
    let (arriving, found) = to_disk(store, pool, name, length, payload).await?;
    compare(name, found, hash)?;
    Ok(Received::Large(Box::new(arriving)))
}

/// Takes a payload of this length and hash into memory.
pub(super) async fn receive_small(
    name: &ObjectName,
    length: u64,
    hash: [u8; 32],
    payload: &mut impl Payload,
) -> Result<Bytes, NotTaken> {
    let content = into_memory(length, payload).await?;
    compare(name, blake3::hash(&content), hash)?;
    Ok(content)
}

/// Of hashes of what was sent in clear over the connection: nothing is given away by the time that this takes.
fn compare(name: &ObjectName, found: blake3::Hash, announced: [u8; 32]) -> Result<(), Refusal> {
    if *found.as_bytes() == announced {
        return Ok(());
    }
    let text = format!(
        "what came for {name} has the hash {found} and not the one that was announced: send it again"
    );
    Err(Refusal { reason: Reason::Mismatch, text, retry_after: None })
}

async fn into_memory(length: u64, payload: &mut impl Payload) -> Result<Bytes, NotTaken> {
    // Grows with what comes: whoever announces much and sends little gets no memory for it.
    let mut content = BytesMut::new();
    while let Some(piece) = payload.next().await? {
        if content.len() as u64 + piece.len() as u64 > length {
            return Err(longer(length).into());
        }
        content.extend_from_slice(&piece);
    }
    ended_at(content.len() as u64, length)?;
    Ok(content.freeze())
}

async fn to_disk(
    store: &DirStore,
    pool: &BufferPool,
    name: &ObjectName,
    length: u64,
    payload: &mut impl Payload,
) -> Result<(Arriving, blake3::Hash), NotTaken> {
    let (begun, pool, name) = (store.clone(), pool.clone(), name.clone());
    let mut arriving = blocking(move || begun.begin(&name, length, &pool)).await?;
    let mut came = 0u64;
    loop {
        let (mut batch, mut batch_bytes, mut is_over) = (Vec::new(), 0, false);
        while batch_bytes < BATCH_BYTES && batch.len() < BATCH_PIECES_MAX && !is_over {
            match payload.next().await? {
                Some(piece) => {
                    batch_bytes += piece.len();
                    batch.push(piece);
                }
                None => is_over = true,
            }
            if came + batch_bytes as u64 > length {
                return Err(longer(length).into());
            }
        }
        came += batch_bytes as u64;
        arriving = blocking(move || {
            for piece in batch {
                arriving.write(&piece)?;
            }
            Ok(arriving)
        })
        .await?;
        if is_over {
            break;
        }
    }
    ended_at(came, length)?;
    let hashed = blocking(move || {
        let hash = arriving.hash()?;
        Ok((arriving, hash))
    });
    Ok(hashed.await?)
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(refusal_of),
        Err(_) => Err(fault("the holder is stopping".to_owned())),
    }
}

fn longer(length: u64) -> Refusal {
    malformed(format!("more than the {length} bytes that were announced"))
}

fn ended_at(came: u64, length: u64) -> Result<(), Refusal> {
    match came == length {
        true => Ok(()),
        false => Err(malformed(format!("{came} bytes came of the {length} that were announced"))),
    }
}
