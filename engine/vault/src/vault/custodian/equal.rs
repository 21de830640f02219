//! Proof that an equal run says what the run says whose place it takes, and refers to the same bytes. Elements do not cover
//! where bytes lie, so nothing else would notice a reference that leads to others. All of it is read from the vault again,
//! rows as well as sealed data: nothing is taken from the memory of whoever has just written it.

use std::collections::HashMap;

use backstay_core::fold::Cursor;
use backstay_core::id::ChunkId;
use backstay_core::kind::{ChunkRange, KindRules};
use backstay_core::run::{Change, Entry, Run};

use super::Custodian;
use super::merge::unreadable;
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::record::RecordOpener;
use crate::table::{LiveBytes, RunCursor, part_live};

/// References that have moved and are compared at a time, which bounds the memory: some hundred bytes for each.
const MOVES_MAX: usize = 1 << 19;

/// Chunks that are looked for at a time; of what is read one stretch is held.
const PLANNED_MAX: usize = 256;

impl Custodian<'_> {
    /// Fails when `new`, which is in the vault by now, does not stand for the same as `old`.
    pub(super) fn check_equal(&self, rules: &dyn KindRules, old: &Run, new: &Run) -> Result<(), VaultError> {
        let mut before = RunCursor::new(self.reader.clone(), &old.parts, b"");
        let mut after = RunCursor::new(self.reader.clone(), &new.parts, b"");
        let mut moves = Moves::default();
        let mut groups: HashMap<ChunkId, u64> = HashMap::new();
        loop {
            let (is_before, is_after) =
                (before.advance().map_err(VaultError::from)?, after.advance().map_err(VaultError::from)?);
            if is_before != is_after {
                return Err(self.unequal("one of them has more entries"));
            }
            if !is_before {
                break;
            }
            let moved = moved(rules, &before.entry(), &after.entry())?;
            for (from, to) in moved.ok_or_else(|| self.unequal("an entry says something else"))? {
                *groups.entry(to.chunk).or_default() += u64::from(to.length);
                moves.add(from, to);
            }
            if moves.pairs.len() >= MOVES_MAX {
                self.check_moved(&std::mem::take(&mut moves))?;
            }
        }
        self.check_moved(&moves)?;
        self.check_live(new, groups)
    }

    /// What lies in these places now is what lay in those before.
    fn check_moved(&self, moves: &Moves) -> Result<(), VaultError> {
        let before = self.hash_all(moves, |pair| pair.from)?;
        let after = self.hash_all(moves, |pair| pair.to)?;
        // What was not hashed at all is equal to nothing.
        match before.iter().zip(&after).all(|(before, after)| before.is_some() && before == after) {
            true => Ok(()),
            false => Err(self.unequal("a reference leads to other bytes")),
        }
    }

    /// The hash of what lies in one of the places of each pair. Each chunk is read and opened once.
    fn hash_all(
        &self,
        moves: &Moves,
        side: fn(&Pair) -> Place,
    ) -> Result<Vec<Option<blake3::Hash>>, VaultError> {
        let mut of_chunk: Vec<Vec<u32>> = vec![Vec::new(); moves.chunks.len()];
        for (number, pair) in (0..).zip(&moves.pairs) {
            of_chunk[side(pair).chunk as usize].push(number);
        }
        let wanted: Vec<ChunkId> = moves
            .chunks
            .iter()
            .zip(&of_chunk)
            .filter(|(_, pairs)| !pairs.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let reader = ChunkReader::new(self.vault.clone());
        let mut opener = RecordOpener::new();
        let mut hashes = vec![None; moves.pairs.len()];
        for some in wanted.chunks(PLANNED_MAX) {
            for read in reader.plan(some.iter().copied())? {
                let stretch = reader.read(&read);
                for (record, (chunk, ..)) in read.records.iter().enumerate() {
                    let plain = reader.open(&mut opener, &read, &stretch, record)?;
                    for number in &of_chunk[moves.numbers[chunk] as usize] {
                        let pair = &moves.pairs[*number as usize];
                        let bytes = side(pair).of(plain, pair.length);
                        let bytes =
                            bytes.ok_or_else(|| self.unequal("a reference leads beyond its chunk"))?;
                        hashes[*number as usize] = Some(blake3::hash(bytes));
                    }
                }
            }
        }
        Ok(hashes)
    }

    /// The run's own tables say how much it refers to of each of these: by them a collection knows what is needed.
    fn check_live(&self, run: &Run, mut groups: HashMap<ChunkId, u64>) -> Result<(), VaultError> {
        let mut look = |LiveBytes { chunk, bytes }| {
            // There may be more: references that were there before.
            groups.entry(chunk).and_modify(|untold| *untold = untold.saturating_sub(bytes));
        };
        run.parts.iter().try_for_each(|part| part_live(&self.reader, part, &mut look))?;
        match groups.into_values().all(|untold| untold == 0) {
            true => Ok(()),
            false => Err(self.unequal("its tables leave out what it refers to")),
        }
    }

    fn unequal(&self, cause: &'static str) -> VaultError {
        VaultError::Unequal { place: self.vault.place(), cause }
    }
}

/// What two entries refer to in different places, each with where it is after; `None` when they differ in anything else.
fn moved(
    rules: &dyn KindRules,
    before: &Entry<'_>,
    after: &Entry<'_>,
) -> Result<Option<Vec<(ChunkRange, ChunkRange)>>, VaultError> {
    if (before.key, before.replaced) != (after.key, after.replaced) {
        return Ok(None);
    }
    let (old, new) = match (before.change, after.change) {
        (Change::Put(old), Change::Put(new)) if old != new => (old, new),
        (old, new) => return Ok((old == new).then(Vec::new)),
    };
    let references = |value| {
        let mut references = Vec::new();
        let told = rules.references(before.key, value, &mut |range| references.push(range));
        told.map_err(unreadable).map(|()| references)
    };
    let (from, to) = (references(old)?, references(new)?);
    let lengths = |ranges: &[ChunkRange]| ranges.iter().map(|range| range.length).collect::<Vec<_>>();
    if lengths(&from) != lengths(&to) {
        return Ok(None);
    }
    // With its references led back it has to be what it was, to the byte: the element does not cover all of a row.
    let mut places = from.iter();
    let mut back = |_| places.next().map(|range| (range.chunk, range.offset));
    let restored = rules.with_references(before.key, new, &mut back).map_err(unreadable)?;
    let element = |value| rules.element(before.key, value).map_err(unreadable);
    if restored.as_deref() != Some(old) || element(old)? != element(new)? {
        return Ok(None);
    }
    Ok(Some(from.into_iter().zip(to).filter(|(from, to)| from != to).collect()))
}

/// References that have moved. Chunks go by numbers, which are shorter.
#[derive(Debug, Default)]
struct Moves {
    chunks: Vec<ChunkId>,
    numbers: HashMap<ChunkId, u32>,
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    from: Place,
    to: Place,
    length: u32,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Number of the chunk.
    chunk: u32,
    offset: u32,
}

impl Moves {
    fn add(&mut self, from: ChunkRange, to: ChunkRange) {
        let (from_place, to) = (self.place(from), self.place(to));
        self.pairs.push(Pair { from: from_place, to, length: from.length });
    }

    fn place(&mut self, range: ChunkRange) -> Place {
        let next = self.chunks.len() as u32;
        let chunk = *self.numbers.entry(range.chunk).or_insert_with(|| {
            self.chunks.push(range.chunk);
            next
        });
        Place { chunk, offset: range.offset }
    }
}

impl Place {
    fn of(self, plain: &[u8], length: u32) -> Option<&[u8]> {
        plain.get(self.offset as usize..)?.get(..length as usize)
    }
}
