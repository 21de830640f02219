//! Live tables: how many bytes of each data chunk a part refers to, which is what tells how sparse a
//! chunk has become.

use std::collections::HashMap;

use backstay_core::id::ChunkId;

use crate::malformed::Malformed;
use crate::take::{Take, put_varint};

/// Greatest piece, bytes.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How many bytes of a chunk are referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveBytes {
    /// The chunk.
    pub chunk: ChunkId,
    /// Bytes of it that are referred to.
    pub bytes: u64,
}

/// Collects references until a part is closed.
#[derive(Debug, Default)]
pub struct LiveTable(HashMap<ChunkId, u64>);

impl LiveTable {
    /// Counts a reference.
    pub fn refer(&mut self, chunk: ChunkId, bytes: u64) {
        *self.0.entry(chunk).or_default() += bytes;
    }

    /// How many chunks are referred to.
    pub fn chunks(&self) -> usize {
        self.0.len()
    }

    /// The pieces; the table is empty again.
    pub fn take_pieces(&mut self) -> Vec<Vec<u8>> {
        let mut rows: Vec<(ChunkId, u64)> = std::mem::take(&mut self.0).into_iter().collect();
        rows.sort_unstable();
        let mut pieces = vec![];
        let mut piece = Vec::new();
        for (chunk, bytes) in rows {
            if piece.len() + 42 > PIECE_BYTES_MAX {
                pieces.push(std::mem::take(&mut piece));
            }
            piece.extend_from_slice(chunk.as_bytes());
            put_varint(&mut piece, bytes);
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }

    /// Reads one piece.
    pub fn decode_piece(bytes: &[u8]) -> Result<Vec<LiveBytes>, Malformed> {
        let mut rows: Vec<LiveBytes> = Vec::new();
        let mut take = Take::new(bytes);
        while !take.is_empty() {
            let chunk = ChunkId::new(take.array()?);
            if rows.last().is_some_and(|last| last.chunk >= chunk) {
                return Err(Malformed::Field("order of chunks"));
            }
            rows.push(LiveBytes { chunk, bytes: take.varint()? });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_back_in_order_with_sums() {
        let mut table = LiveTable::default();
        for n in (0..3000u32).rev().chain(0..10) {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            table.refer(ChunkId::new(id), u64::from(n) + 1);
        }
        let pieces = table.take_pieces();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        let rows: Vec<_> = pieces.iter().flat_map(|p| LiveTable::decode_piece(p).expect("reads")).collect();
        assert_eq!((rows.len(), rows[3].bytes, rows[20].bytes), (3000, 8, 21));
    }
}
