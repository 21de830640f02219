//! Rows of the made-up kinds of sources: how a value is stored, and what its row says of that.
//!
//! | kind | a row | its element covers |
//! |---|---|---|
//! | chunks | for each piece of the value: chunk id, length | key and row |
//! | groups | hash of the value; for each piece: chunk id, offset in the chunk, length | key and hash |
//!
//! Numbers are u32, little endian. Elements of the second kind do not cover where bytes lie, so that its groups can be
//! split, like those of real small files.

use std::collections::{BTreeMap, HashMap, HashSet};

use backstay_core::id::{ChunkId, Element};
use backstay_core::kind::ChunkRange;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::error::VaultError;
use backstay_vault::keys::KeyRing;
use backstay_vault::split::GroupBuilder;
use backstay_vault::write::{ChunkWriter, Ticket};

use crate::capture::State;

/// Rows by their keys.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Values are cut into pieces of this many bytes.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of the hash with which a row of groups begins.
const HASH_BYTES: usize = 32;

/// A made-up kind of source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowKind {
    /// Each piece of a value is a chunk of its own.
    #[default]
    Chunks,
    /// The pieces of a capture are put together into groups.
    Groups,
}

impl RowKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Chunks, Self::Groups];

    /// Its name, as points carry it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chunks => "command",
            Self::Groups => "groups",
        }
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a row refers to, in order.
    pub fn references(self, row: &[u8]) -> Vec<ChunkRange> {
        let (begins, bytes) = self.form();
        let reference = |bytes: &[u8]| {
            let (id, numbers) = bytes.split_at(ChunkId::LENGTH);
            let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
            let (offset, length) = match self {
                Self::Chunks => (0, number(numbers)),
                Self::Groups => (number(&numbers[..4]), number(&numbers[4..])),
            };
            ChunkRange { chunk: ChunkId::from_slice(id).expect("32 bytes"), offset, length }
        };
        row.get(begins..).unwrap_or_default().chunks_exact(bytes).map(reference).collect()
    }

    /// The element of a row.
    pub fn element(self, key: &[u8], row: &[u8]) -> Element {
        let (context, covered) = match self {
            Self::Chunks => ("backstay testkit element", row),
            Self::Groups => ("backstay testkit element of groups", row.get(..HASH_BYTES).unwrap_or_default()),
        };
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&(key.len() as u32).to_be_bytes()).update(key).update(covered);
        Element::new(*hasher.finalize().as_bytes())
    }

    /// The row of groups of which some bytes have moved; `None` when none has, or when it is of the other kind.
    pub fn moved(
        self,
        row: &[u8],
        moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Option<Vec<u8>> {
        if self == Self::Chunks {
            return None;
        }
        let (begins, bytes) = self.form();
        let (mut out, mut any) = (row.to_vec(), false);
        for (range, place) in self.references(row).into_iter().zip((begins..).step_by(bytes)) {
            if let Some((chunk, offset)) = moved(range) {
                out[place..place + bytes].copy_from_slice(&reference(ChunkRange { chunk, offset, ..range }));
                any = true;
            }
        }
        any.then_some(out)
    }

    /// Where the references of a row begin, and how long each is.
    fn form(self) -> (usize, usize) {
        match self {
            Self::Chunks => (0, ChunkId::LENGTH + 4),
            Self::Groups => (HASH_BYTES, ChunkId::LENGTH + 8),
        }
    }
}

/// A row of groups, by hand.
pub fn row_of_groups(hash: [u8; HASH_BYTES], references: &[ChunkRange]) -> Vec<u8> {
    references.iter().fold(hash.to_vec(), |mut row, range| {
        row.extend(reference(*range));
        row
    })
}

fn reference(ChunkRange { chunk, offset, length }: ChunkRange) -> Vec<u8> {
    [chunk.as_bytes().as_slice(), &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// Stores each piece as a chunk.
pub(crate) fn write_chunks(writer: &ChunkWriter, state: &State) -> Result<Rows, VaultError> {
    let mut rows = Rows::new();
    for (key, value) in state {
        let mut row = Vec::new();
        for piece in value.chunks(PIECE_BYTES) {
            let id = writer.put_data(piece.to_vec().into()).wait()?;
            row.extend_from_slice(id.as_bytes());
            row.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        }
        rows.insert(key.clone(), row);
    }
    Ok(rows)
}

/// Stores what is new in groups. As a capture of files does, it takes over the rows of values that have not changed, and
/// for a value that had another key it refers to where that lies, if the vault has it still.
pub(crate) fn write_groups(
    ring: &KeyRing,
    writer: &ChunkWriter,
    before: &Rows,
    state: &State,
    lost: &HashSet<ChunkId>,
) -> Result<Rows, VaultError> {
    let kind = RowKind::Groups;
    let by_hash: HashMap<&[u8], &Vec<u8>> = before.values().map(|row| (&row[..HASH_BYTES], row)).collect();
    let (mut rows, mut placed) = (Rows::new(), Vec::new());
    let mut builder = GroupBuilder::default();
    let mut named: Vec<Ticket> = Vec::new();
    for (key, value) in state {
        let hash = *blake3::hash(value).as_bytes();
        let is_same = |row: &&Vec<u8>| row[..HASH_BYTES] == hash;
        let has_none_of = |row: &&Vec<u8>| kind.references(row).iter().all(|at| !lost.contains(&at.chunk));
        let is_there = |row: &&Vec<u8>| kind.references(row).iter().all(|at| writer.is_known(&at.chunk));
        let kept = before.get(key).filter(is_same).filter(has_none_of);
        if let Some(row) = kept.or_else(|| by_hash.get(hash.as_slice()).copied().filter(is_there)) {
            rows.insert(key.clone(), row.clone());
            continue;
        }
        let mut pieces = Vec::new();
        for piece in value.chunks(PIECE_BYTES) {
            let name = ring.chunk_id(ChunkClass::Data, piece).ok_or(VaultError::GivenUp)?;
            let (at, closed) = builder.add(piece, &name);
            named.extend(closed.into_iter().map(|group| writer.put_data(group.contents)));
            pieces.push((at, piece.len() as u32));
        }
        placed.push((key, hash, pieces));
    }
    named.extend(builder.close().map(|group| writer.put_data(group.contents)));
    let groups: Vec<ChunkId> = named.iter().map(Ticket::wait).collect::<Result<_, _>>()?;
    for (key, hash, pieces) in placed {
        let range = |(at, length): &(backstay_vault::split::Placed, u32)| ChunkRange {
            chunk: groups[at.group as usize],
            offset: at.offset,
            length: *length,
        };
        let ranges: Vec<ChunkRange> = pieces.iter().map(range).collect();
        rows.insert(key.clone(), row_of_groups(hash, &ranges));
    }
    Ok(rows)
}
