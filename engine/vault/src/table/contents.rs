//! What a part consists of and refers to, without its entries: what a collection has to keep for it.

use backstay_core::id::ChunkId;
use backstay_core::run::PartRef;

use super::cursor::{ChunkSource, TableError, open_root};
use super::live::{LiveBytes, LiveTable};
use super::root::decode_index;

/// Tells every chunk that a part consists of, and every data chunk that it refers to. One may be told more than once.
pub fn part_chunks<S: ChunkSource>(
    source: &S,
    part: &PartRef,
    tell: &mut dyn FnMut(ChunkId),
) -> Result<(), TableError<S::Error>> {
    let root = open_root(source, part)?;
    tell(part.root);
    for index in &root.index {
        tell(index.chunk);
        let rows = one(source, index.chunk, decode_index)?;
        rows.iter().for_each(|row| tell(row.chunk));
    }
    for piece in &root.live {
        tell(piece.chunk);
        let rows = one(source, piece.chunk, LiveTable::decode_piece)?;
        rows.iter().for_each(|row| tell(row.chunk));
    }
    Ok(())
}

/// How many bytes of data a part refers to.
pub fn referred_bytes<S: ChunkSource>(source: &S, part: &PartRef) -> Result<u64, TableError<S::Error>> {
    let mut referred = 0u64;
    part_live(source, part, &mut |live| referred = referred.saturating_add(live.bytes))?;
    Ok(referred)
}

/// Tells how much of each data chunk a part refers to, in order of chunk.
pub fn part_live<S: ChunkSource>(
    source: &S,
    part: &PartRef,
    tell: &mut dyn FnMut(LiveBytes),
) -> Result<(), TableError<S::Error>> {
    for piece in &open_root(source, part)?.live {
        one(source, piece.chunk, LiveTable::decode_piece)?.into_iter().for_each(&mut *tell);
    }
    Ok(())
}

fn one<S: ChunkSource, T>(
    source: &S,
    chunk: ChunkId,
    decode: impl Fn(&[u8]) -> Result<T, crate::malformed::Malformed>,
) -> Result<T, TableError<S::Error>> {
    let plain = super::cursor::fetch_one(source, chunk)?;
    decode(&plain).map_err(|cause| TableError::Malformed { chunk, cause })
}
