//! Records: one chunk, compressed and sealed (docs/format.md, section 5). A record does not depend on
//! the pack or vault it lies in.

use aws_lc_rs::aead::{Aad, Nonce};
use backstay_core::id::{ChunkId, KeyId};
use zstd::zstd_safe::{CParameter, Strategy};

use crate::chunk::{CHUNK_BYTES_MAX, ChunkClass};
use crate::keys::{KeyRing, MissingKey, random_bytes};
use crate::malformed::Malformed;
use crate::noise::is_noise;
use crate::take::Take;

/// Begins every record, so that records are found again in a damaged pack.
pub const MARK: [u8; 8] = *b"\xb5\xe2\x9dREC\r\n";

/// Length of what stands before the ciphertext.
pub const HEADER_BYTES: usize = 80;

const TAG_BYTES: usize = 16;
const CODEC_NONE: u8 = 0;
const CODEC_ZSTD: u8 = 1;

/// How chunks are compressed: level 2 with a smaller hash table, of 128 KiB, and one strategy for all lengths. Of 100 MB
/// of binaries level 1 leaves 48.9 MB at 323 MB/s, this 44.1 MB at 272 MB/s, level 2 43.3 MB at 246 MB/s, and level 3
/// 4 % less than that at 0.7 of the speed. With text all but level 3 lie within 3 %.
const ZSTD_LEVEL: i32 = 2;
const ZSTD_PARAMETERS: [CParameter; 3] =
    [CParameter::Strategy(Strategy::ZSTD_fast), CParameter::HashLog(15), CParameter::MinMatch(6)];

/// A chunk is kept compressed only if that saves at least one part in this many.
const WORTHWHILE_SHARE: usize = 32;

/// Greatest record, bytes.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + CHUNK_BYTES_MAX + TAG_BYTES;

/// The clear fields of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the whole record.
    pub length: u32,
    /// Class of the chunk.
    pub class: ChunkClass,
    /// Plain length of the chunk.
    pub plain_length: u32,
    /// The epoch that sealed it.
    pub key_id: KeyId,
    /// The chunk.
    pub id: ChunkId,
    codec: u8,
    nonce: [u8; 12],
}

impl RecordHeader {
    /// Reads the header at the beginning of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        if take.array()? != MARK {
            return Err(Malformed::Field("mark"));
        }
        let length = take.u32()?;
        let class = ChunkClass::from_code(take.u8()?).ok_or(Malformed::Field("class"))?;
        let codec = take.u8()?;
        if codec > CODEC_ZSTD || take.array()? != [0; 2] {
            return Err(Malformed::Field("codec"));
        }
        let plain_length = take.u32()?;
        let header = Self {
            length,
            class,
            plain_length,
            key_id: KeyId::new(take.array()?),
            nonce: take.array()?,
            id: ChunkId::new(take.array()?),
            codec,
        };
        let sealed =
            (length as usize).checked_sub(HEADER_BYTES + TAG_BYTES).ok_or(Malformed::Field("length"))?;
        // A chunk is kept compressed only when that makes it smaller.
        let fits = sealed > 0 && sealed <= plain_length as usize && plain_length as usize <= CHUNK_BYTES_MAX;
        if !fits || (codec == CODEC_NONE && sealed != plain_length as usize) {
            return Err(Malformed::Field("length"));
        }
        Ok(header)
    }

    /// The header of `record`, which must be exactly one record, of this chunk.
    pub(crate) fn of_record(chunk: &ChunkId, record: &[u8]) -> Result<Self, Malformed> {
        let header = Self::decode(record)?;
        if header.length as usize != record.len() {
            return Err(Malformed::Field("length"));
        }
        match header.id == *chunk {
            true => Ok(header),
            false => Err(Malformed::Field("chunk id")),
        }
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MARK);
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12] = self.class.code();
        bytes[13] = self.codec;
        bytes[16..20].copy_from_slice(&self.plain_length.to_le_bytes());
        bytes[20..36].copy_from_slice(self.key_id.as_bytes());
        bytes[36..48].copy_from_slice(&self.nonce);
        bytes[48..].copy_from_slice(self.id.as_bytes());
        bytes
    }
}

/// Compresses and seals chunks; one for each thread, because compression keeps a large state.
pub struct RecordSealer {
    compressor: zstd::bulk::Compressor<'static>,
    /// The record that was sealed last; it only grows, so that no memory is asked for with each chunk.
    record: Vec<u8>,
}

impl RecordSealer {
    /// A sealer with its own compression state.
    pub fn new() -> Self {
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("a level that zstd knows");
        for parameter in ZSTD_PARAMETERS {
            compressor.set_parameter(parameter).expect("a parameter that zstd knows");
        }
        Self { compressor, record: Vec::new() }
    }

    /// The record of a chunk whose id is known. `plain` has 1 to [`CHUNK_BYTES_MAX`] bytes.
    pub fn seal(
        &mut self,
        ring: &KeyRing,
        class: ChunkClass,
        id: ChunkId,
        plain: &[u8],
    ) -> Result<&[u8], MissingKey> {
        assert!(!plain.is_empty() && plain.len() <= CHUNK_BYTES_MAX, "chunks have 1 byte to 16 MiB");
        let key_id = ring.sealing_epoch(class).ok_or(MissingKey(KeyId::new([0; 16])))?;
        let key = ring.record_key(class, key_id, &id)?;
        let (codec, contents) = self.compress(plain);
        let sealed = HEADER_BYTES..HEADER_BYTES + contents;
        let whole = sealed.end + TAG_BYTES;
        let header = RecordHeader {
            length: whole as u32,
            class,
            plain_length: plain.len() as u32,
            key_id,
            id,
            codec,
            nonce: random_bytes(),
        };
        self.record[..HEADER_BYTES].copy_from_slice(&header.encode());
        let aad = associated_data(ring, &self.record[12..36], &id);
        let nonce = Nonce::assume_unique_for_key(header.nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut self.record[sealed.clone()])
            .expect("a chunk is far below the limit of AES-GCM");
        self.record[sealed.end..whole].copy_from_slice(tag.as_ref());
        Ok(&self.record[..whole])
    }

    /// Puts the contents into the place that they have in the record; codec and length.
    fn compress(&mut self, plain: &[u8]) -> (u8, usize) {
        let room = HEADER_BYTES + plain.len() + TAG_BYTES;
        if self.record.len() < room {
            self.record.resize(room, 0);
        }
        let place = &mut self.record[HEADER_BYTES..HEADER_BYTES + plain.len()];
        if is_noise(plain) {
            place.copy_from_slice(plain);
            return (CODEC_NONE, plain.len());
        }
        let worthwhile = plain.len() - plain.len() / WORTHWHILE_SHARE;
        match self.compressor.compress_to_buffer(plain, &mut place[..worthwhile]) {
            Ok(length) if length < plain.len() => (CODEC_ZSTD, length),
            // Also the answer of zstd when the output would not fit into what is worthwhile.
            _ => {
                place.copy_from_slice(plain);
                (CODEC_NONE, plain.len())
            }
        }
    }
}

impl Default for RecordSealer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RecordSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordSealer")
    }
}

/// Opens records; one for each thread that opens many, because it keeps its memory.
pub struct RecordOpener {
    decompressor: zstd::bulk::Decompressor<'static>,
    /// Compressed contents. This and the next only grow.
    compressed: Vec<u8>,
    /// The chunk that was opened last, and its length.
    plain: Vec<u8>,
    plain_length: usize,
}

impl RecordOpener {
    /// An opener with its own decompression state.
    pub fn new() -> Self {
        let decompressor = zstd::bulk::Decompressor::new().expect("zstd needs no dictionary");
        Self { decompressor, compressed: Vec::new(), plain: Vec::new(), plain_length: 0 }
    }

    /// Opens a record and recomputes the chunk's id. `record` must be exactly one record, of this chunk.
    pub fn open(&mut self, ring: &KeyRing, expected: &ChunkId, record: &[u8]) -> Result<&[u8], Malformed> {
        self.plain_length = 0;
        let header = RecordHeader::of_record(expected, record)?;
        let key = ring.record_key(header.class, header.key_id, &header.id)?;
        let aad = Aad::from(associated_data(ring, &record[12..36], &header.id));
        let nonce = Nonce::assume_unique_for_key(header.nonce);
        let (sealed, tag) = record[HEADER_BYTES..].split_at(record.len() - HEADER_BYTES - TAG_BYTES);
        let plain_length = header.plain_length as usize;
        let plain = at_least(&mut self.plain, plain_length);
        match header.codec {
            CODEC_ZSTD => {
                let opened = at_least(&mut self.compressed, sealed.len());
                key.open_separate_gather(nonce, aad, sealed, tag, opened).map_err(|_| Malformed::Sealed)?;
                // It never writes beyond the buffer, which is as long as the authenticated plain length.
                match self.decompressor.decompress_to_buffer(opened, plain) {
                    Ok(length) if length == plain_length => {}
                    _ => return Err(Malformed::Compressed),
                }
            }
            _ => key.open_separate_gather(nonce, aad, sealed, tag, plain).map_err(|_| Malformed::Sealed)?,
        }
        if ring.chunk_id(header.class, plain) != Some(*expected) {
            return Err(Malformed::Hash);
        }
        self.plain_length = plain_length;
        Ok(self.opened())
    }

    /// The chunk that was opened last; nothing after an error.
    pub fn opened(&self) -> &[u8] {
        &self.plain[..self.plain_length]
    }
}

impl Default for RecordOpener {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RecordOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordOpener")
    }
}

fn at_least(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

/// Opens one record; see [`RecordOpener::open`].
pub fn open_record(ring: &KeyRing, expected: &ChunkId, record: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut opener = RecordOpener::new();
    opener.open(ring, expected, record)?;
    opener.plain.truncate(opener.plain_length);
    Ok(opener.plain)
}

/// domain ‖ bytes 12 to 36 of the record ‖ chunk id.
fn associated_data(ring: &KeyRing, fields: &[u8], id: &ChunkId) -> [u8; 72] {
    let mut aad = [0; 72];
    aad[..16].copy_from_slice(ring.domain().as_bytes());
    aad[16..40].copy_from_slice(fields);
    aad[40..].copy_from_slice(id.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::Bundle;

    fn seal(ring: &KeyRing, plain: &[u8]) -> (ChunkId, Vec<u8>) {
        let id = ring.chunk_id(ChunkClass::Data, plain).expect("a full ring");
        (id, RecordSealer::new().seal(ring, ChunkClass::Data, id, plain).expect("seals").to_vec())
    }

    #[test]
    fn compressible_and_random_chunks_read_back() {
        let ring = KeyRing::new(&Bundle::generate());
        for plain in [vec![7u8; 100_000], random_bytes::<5000>().to_vec(), vec![1]] {
            let (id, record) = seal(&ring, &plain);
            assert_eq!(RecordHeader::decode(&record).expect("decodes").length as usize, record.len());
            assert!(record.len() <= plain.len() + HEADER_BYTES + TAG_BYTES);
            assert_eq!(open_record(&ring, &id, &record), Ok(plain));
        }
    }

    #[test]
    fn another_domain_cannot_open_a_record() {
        let ring = KeyRing::new(&Bundle::generate());
        let (id, record) = seal(&ring, b"payload");
        let other = KeyRing::new(&Bundle::generate());
        assert!(matches!(open_record(&other, &id, &record), Err(Malformed::Key(_))));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(place in 0usize..400, bit in 0u8..8) {
            let ring = KeyRing::new(&Bundle::generate());
            let (id, mut record) = seal(&ring, &random_bytes::<300>());
            let place = place % record.len();
            record[place] ^= 1 << bit;
            prop_assert!(open_record(&ring, &id, &record).is_err());
        }
    }
}
