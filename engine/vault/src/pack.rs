//! Packs: many records of one class in one object, with a sealed table of contents at the end
//! (docs/format.md, section 5). Owns the layout; what is inside a record is `record`'s.

use aws_lc_rs::aead::{Aad, Nonce};
use backstay_core::id::{ChunkId, KeyId, PackId};
use bytes::Bytes;

use crate::buffer::{ALIGNMENT_BYTES, BufferPool};
use crate::chunk::ChunkClass;
use crate::keys::{KeyRing, random_bytes};
use crate::malformed::Malformed;
use crate::pack_keys::PackKeys;
use crate::record::{HEADER_BYTES, MARK, RECORD_BYTES_MAX, RecordHeader, RecordOpener};
use crate::take::Take;

/// A pack is closed when its records reach this many bytes. Metadata is asked for in smaller pieces, and a capture of
/// millions of files is to take no more memory for it than one of thousands.
const fn bytes_aim(class: ChunkClass) -> usize {
    match class {
        ChunkClass::Data => 32 << 20,
        ChunkClass::Meta => 8 << 20,
    }
}

/// Greatest pack, bytes.
pub const PACK_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"BKSPACK\0";
const FOOT_MAGIC: [u8; 8] = *b"BKSFOOT\0";
const VERSION: u8 = 0;
const HEAD_BYTES: usize = 32;
const FOOT_ENTRY_BYTES: usize = 44;
const FOOT_FIXED_BYTES: usize = 16 + 12 + 16;
const TRAILER_BYTES: usize = 12;

/// Where a record is within its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Where the record begins, bytes from the start of the pack.
    pub offset: u32,
    /// Length of the record, bytes.
    pub length: u32,
    /// Plain length of the chunk, bytes.
    pub plain_length: u32,
}

/// A finished pack.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Hash of the object.
    pub id: PackId,
    /// Class of its records.
    pub class: ChunkClass,
    /// The object.
    pub content: Bytes,
    /// Its records, in order of offset.
    pub entries: Vec<PackEntry>,
    /// With which keys they are sealed.
    pub keys: PackKeys,
}

/// Collects sealed records until they make a pack.
#[derive(Debug)]
pub struct PackBuilder {
    class: ChunkClass,
    /// Where each record begins in `gathered`.
    records: Vec<PackEntry>,
    /// The records in the order in which they came.
    gathered: Vec<u8>,
    keys: PackKeys,
}

/// A pack that has everything but its name.
#[derive(Debug)]
pub struct UnnamedPack {
    class: ChunkClass,
    content: Bytes,
    entries: Vec<PackEntry>,
    keys: PackKeys,
}

impl PackBuilder {
    /// An empty pack.
    pub fn new(class: ChunkClass) -> Self {
        Self { class, records: Vec::new(), gathered: Vec::new(), keys: PackKeys::NONE }
    }

    /// Adds a sealed record of the pack's class, with its header. There has to be room for its key.
    pub fn add(&mut self, header: &RecordHeader, record: &[u8]) {
        let has_room = self.keys.add(header.key_id);
        // Whoever does not see a compromised key here would count on what it has sealed.
        assert!(has_room, "a record was added with one key more than a pack may have");
        // Memory that is not written to takes none, and a pack that grew step by step would be copied each time.
        self.gathered.reserve_exact(bytes_aim(self.class).saturating_sub(self.gathered.len()));
        let (offset, length) = (self.gathered.len() as u32, record.len() as u32);
        let RecordHeader { id, plain_length, .. } = *header;
        self.records.push(PackEntry { id, offset, length, plain_length });
        self.gathered.extend_from_slice(record);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Class of its records.
    pub fn class(&self) -> ChunkClass {
        self.class
    }

    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.gathered.len()
    }

    /// Its records, in the order in which they were added.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|entry| &self.gathered[entry.offset as usize..][..entry.length as usize])
    }

    /// Whether a record that this key has sealed may be in it.
    pub fn may_take_key(&self, key_id: &KeyId) -> bool {
        self.keys.may_take(key_id)
    }

    /// Whether a record of this length still fits below the aim.
    pub fn has_room_for(&self, record_bytes: usize) -> bool {
        self.is_empty() || self.gathered.len() + record_bytes <= bytes_aim(self.class)
    }

    /// Whether the pack would be one that readers take, with a record of this length more.
    pub fn may_take(&self, record_bytes: usize) -> bool {
        let foot_bytes = FOOT_FIXED_BYTES + (self.records.len() + 1) * FOOT_ENTRY_BYTES;
        let whole = HEAD_BYTES + self.gathered.len() + record_bytes + foot_bytes + TRAILER_BYTES;
        whole.next_multiple_of(ALIGNMENT_BYTES) <= PACK_BYTES_MAX
    }

    /// Puts the records in random order, so that their lengths in sequence do not betray a file, and
    /// closes the pack. The builder is empty then.
    pub fn close(&mut self, ring: &KeyRing, buffers: &BufferPool) -> UnnamedPack {
        shuffle(&mut self.records);
        let foot_bytes = FOOT_FIXED_BYTES + self.records.len() * FOOT_ENTRY_BYTES;
        let whole =
            (HEAD_BYTES + self.gathered.len() + foot_bytes + TRAILER_BYTES).next_multiple_of(ALIGNMENT_BYTES);
        let mut buffer = buffers.take(whole);
        let mut content = Filling { bytes: buffer.as_mut(), at: 0 };
        content.put(&MAGIC);
        content.put(&[VERSION, self.class.code(), 0, 0, 0, 0, 0, 0]);
        content.put(&random_bytes::<16>());
        let mut entries = std::mem::take(&mut self.records);
        let keys = std::mem::replace(&mut self.keys, PackKeys::NONE);
        for entry in &mut entries {
            let record = entry.offset as usize..(entry.offset + entry.length) as usize;
            entry.offset = content.at as u32;
            content.put(&self.gathered[record]);
        }
        self.gathered.clear();
        content.zeros_to(whole - TRAILER_BYTES - foot_bytes);
        let foot = seal_foot(ring, &content.bytes[..HEAD_BYTES], &entries);
        content.put(&foot);
        content.put(&(foot_bytes as u32).to_le_bytes());
        content.put(&FOOT_MAGIC);
        UnnamedPack { class: self.class, content: buffer.freeze(), entries, keys }
    }
}

impl UnnamedPack {
    /// Hashes it, which takes a while.
    pub fn name(self) -> Pack {
        let Self { class, content, entries, keys } = self;
        Pack { id: PackId::new(*blake3::hash(&content).as_bytes()), class, content, entries, keys }
    }
}

/// Fills a buffer from its beginning.
struct Filling<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl Filling<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn zeros_to(&mut self, end: usize) {
        self.bytes[self.at..end].fill(0);
        self.at = end;
    }
}

/// Reads a whole pack: checks its id, its frame and that its table of contents matches its records'
/// headers. Opens no record.
pub fn read_pack(ring: &KeyRing, id: PackId, content: Bytes) -> Result<Pack, Malformed> {
    if blake3::hash(&content).as_bytes() != id.as_bytes() {
        return Err(Malformed::Hash);
    }
    let (class, entries) = read_contents(ring, &content)?;
    let mut keys = PackKeys::NONE;
    for entry in &entries {
        let record = &content[entry.offset as usize..(entry.offset + entry.length) as usize];
        let header = RecordHeader::decode(record)?;
        if (header.id, header.length, header.plain_length, header.class)
            != (entry.id, entry.length, entry.plain_length, class)
        {
            return Err(Malformed::Field("table of contents"));
        }
        if !keys.add(header.key_id) {
            return Err(Malformed::Field("number of keys"));
        }
    }
    Ok(Pack { id, class, content, entries, keys })
}

/// Reads class and table of contents of a whole pack, whose id is not checked.
pub fn read_contents(ring: &KeyRing, content: &[u8]) -> Result<(ChunkClass, Vec<PackEntry>), Malformed> {
    let class = read_head(content)?;
    let trailer_at = content.len().checked_sub(TRAILER_BYTES).ok_or(Malformed::Short)?;
    let mut trailer = Take::new(&content[trailer_at..]);
    let foot_bytes = trailer.u32()? as usize;
    if trailer.array()? != FOOT_MAGIC {
        return Err(Malformed::Field("end mark"));
    }
    let foot_at =
        trailer_at.checked_sub(foot_bytes).filter(|at| *at >= HEAD_BYTES).ok_or(Malformed::Short)?;
    let plain = open_foot(ring, &content[..HEAD_BYTES], &content[foot_at..trailer_at])?;
    let mut entries = Vec::with_capacity(plain.len() / FOOT_ENTRY_BYTES);
    let mut take = Take::new(&plain);
    let mut end = HEAD_BYTES;
    while !take.is_empty() {
        let entry = PackEntry {
            id: ChunkId::new(take.array()?),
            offset: take.u32()?,
            length: take.u32()?,
            plain_length: take.u32()?,
        };
        let begins = entry.offset as usize;
        let room = foot_at.checked_sub(begins).filter(|_| begins >= end);
        if room.is_none_or(|room| entry.length as usize > room) {
            return Err(Malformed::Field("table of contents"));
        }
        end = begins + entry.length as usize;
        entries.push(entry);
    }
    Ok((class, entries))
}

/// The records of a pack that do not open, or are not what their ids say. Those of a key that is not at hand are left out:
/// nothing can be said of them.
pub fn bad_records(ring: &KeyRing, opener: &mut RecordOpener, pack: &Pack) -> Vec<(ChunkId, Malformed)> {
    let mut bad = Vec::new();
    for entry in &pack.entries {
        let record = &pack.content[entry.offset as usize..(entry.offset + entry.length) as usize];
        match opener.open(ring, &entry.id, record) {
            Ok(_) | Err(Malformed::Key(_)) => {}
            Err(cause) => bad.push((entry.id, cause)),
        }
    }
    bad
}

/// Finds the records of a pack by their marks, for one whose table of contents is lost. What is found is not
/// authenticated: opening the records shows which are whole. One whose length is damaged may reach into those that follow
/// it, which are found all the same.
pub fn salvage(content: &[u8]) -> Vec<PackEntry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(found) = find_mark(&content[at..]) {
        at += found;
        match RecordHeader::decode(&content[at..]) {
            Ok(header) if header.length as usize <= (content.len() - at).min(RECORD_BYTES_MAX) => {
                let RecordHeader { id, length, plain_length, .. } = header;
                entries.push(PackEntry { id, offset: at as u32, length, plain_length });
                at += HEADER_BYTES;
            }
            _ => at += MARK.len(),
        }
    }
    entries
}

fn find_mark(content: &[u8]) -> Option<usize> {
    content
        .windows(MARK.len())
        .position(|window| window == MARK)
        .filter(|at| content.len() - at >= HEADER_BYTES)
}

fn read_head(content: &[u8]) -> Result<ChunkClass, Malformed> {
    if content.len() > PACK_BYTES_MAX {
        return Err(Malformed::Field("size"));
    }
    let mut take = Take::new(content.get(..HEAD_BYTES).ok_or(Malformed::Short)?);
    if take.array()? != MAGIC {
        return Err(Malformed::Field("magic"));
    }
    match take.u8()? {
        VERSION => {}
        found => return Err(Malformed::Newer { found, known: VERSION }),
    }
    ChunkClass::from_code(take.u8()?).ok_or(Malformed::Field("class"))
}

fn seal_foot(ring: &KeyRing, head: &[u8], entries: &[PackEntry]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(entries.len() * FOOT_ENTRY_BYTES + 16);
    for entry in entries {
        plain.extend_from_slice(entry.id.as_bytes());
        plain.extend_from_slice(&entry.offset.to_le_bytes());
        plain.extend_from_slice(&entry.length.to_le_bytes());
        plain.extend_from_slice(&entry.plain_length.to_le_bytes());
    }
    let key_id = ring.meta_epoch();
    let key = ring.meta_key(key_id, FOOT_PURPOSE, &head[16..]).expect("the ring holds its own epoch");
    let nonce: [u8; 12] = random_bytes();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(foot_aad(ring, head)),
        &mut plain,
    )
    .expect("a footer is far below the limit of AES-GCM");
    [key_id.as_bytes().as_slice(), &nonce, &plain].concat()
}

fn open_foot(ring: &KeyRing, head: &[u8], foot: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut take = Take::new(foot);
    let key_id = KeyId::new(take.array()?);
    let nonce = Nonce::assume_unique_for_key(take.array()?);
    let mut sealed = take.rest().to_vec();
    let key = ring.meta_key(key_id, FOOT_PURPOSE, &head[16..])?;
    let aad = Aad::from(foot_aad(ring, head));
    let plain_length = key.open_in_place(nonce, aad, &mut sealed).map_err(|_| Malformed::Sealed)?.len();
    sealed.truncate(plain_length);
    if plain_length % FOOT_ENTRY_BYTES != 0 {
        return Err(Malformed::Field("table of contents"));
    }
    Ok(sealed)
}

const FOOT_PURPOSE: &[u8] = b"backstay footer 0\0";

fn foot_aad(ring: &KeyRing, head: &[u8]) -> Vec<u8> {
    [ring.domain().as_bytes().as_slice(), head].concat()
}

/// Fisher–Yates; the slight bias of the remainder does not matter here.
fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let random = u64::from_le_bytes(random_bytes());
        items.swap(last, (random % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Bundle;
    use crate::record::{RecordSealer, open_record};

    fn sample(ring: &KeyRing) -> Pack {
        let mut builder = PackBuilder::new(ChunkClass::Data);
        for n in 0..20u8 {
            let plain = vec![n; 100 + usize::from(n)];
            let id = ring.chunk_id(ChunkClass::Data, &plain).expect("full ring");
            let mut sealer = RecordSealer::new();
            let record = sealer.seal(ring, ChunkClass::Data, id, &plain).expect("seals");
            builder.add(&RecordHeader::decode(record).expect("sealed"), record);
        }
        builder.close(ring, &BufferPool::new(1)).name()
    }

    #[test]
    fn a_pack_reads_back_and_is_aligned() {
        let ring = KeyRing::new(&Bundle::generate());
        let pack = sample(&ring);
        assert_eq!(pack.content.len() % 4096, 0);
        let read = read_pack(&ring, pack.id, pack.content.clone()).expect("reads");
        assert_eq!((read.entries.len(), &read.entries), (20, &pack.entries));
        assert_eq!((read.keys.ids().len(), read.keys), (1, pack.keys));
        for entry in read.entries {
            let record = &pack.content[entry.offset as usize..][..entry.length as usize];
            open_record(&ring, &entry.id, record).expect("opens");
        }
    }

    #[test]
    fn records_are_found_again_when_the_footer_is_lost() {
        let ring = KeyRing::new(&Bundle::generate());
        let pack = sample(&ring);
        let end = pack.entries[9].offset as usize + 50;
        assert_eq!(salvage(&pack.content[..end]), pack.entries[..9]);
        let mut damaged = pack.content.to_vec();
        damaged[pack.entries[3].offset as usize] ^= 1;
        let mut expected = pack.entries.clone();
        expected.remove(3);
        assert_eq!(salvage(&damaged), expected);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let ring = KeyRing::new(&Bundle::generate());
        let pack = sample(&ring);
        for place in (0..pack.content.len()).step_by(37) {
            let mut damaged = pack.content.to_vec();
            damaged[place] ^= 0x10;
            assert_eq!(read_pack(&ring, pack.id, damaged.into()).map(|p| p.id), Err(Malformed::Hash));
        }
    }
}
