//! Splitting of sparse groups: what a run still needs of them is written anew, as new groups, and an equal run refers to
//! these. Only for whoever has the data key.

use std::collections::HashMap;
use std::slice;

use backstay_core::id::ChunkId;
use backstay_core::kind::{ChunkRange, KindRules};
use backstay_core::run::Run;

use super::Custodian;
use super::merge::write_moved;
use super::sparse::Sparse;
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::record::RecordOpener;
use crate::split::{Group, GroupBuilder};
use crate::write::{ChunkWriter, Ticket};

/// Groups that are open at the same time, each of half a MiB.
const OPEN_MAX: usize = 32;

impl Custodian<'_> {
    /// Whether this node can read contents, and write them.
    pub(super) fn may_split(&self) -> bool {
        self.vault.ring().reads_contents()
    }

    /// Writes what is needed of these groups, and the run that refers to where it is now.
    pub(super) fn split(
        &self,
        chunks: &mut ChunkWriter,
        rules: &dyn KindRules,
        run: &Run,
        sparse: &Sparse,
    ) -> Result<Run, VaultError> {
        let moved = self.regroup(chunks, sparse)?;
        let mut place = |range: ChunkRange| {
            // Stretches do not overlap: the one that begins last before it holds it.
            let (begins, to) = moved.get(&range.chunk)?.range(..=range.offset).next_back()?;
            let skipped = range.offset - begins;
            // One that was left out lies behind another that was not.
            let is_in_it = u64::from(skipped) + u64::from(range.length) <= u64::from(to.length);
            is_in_it.then(|| (to.chunk, to.offset + skipped))
        };
        write_moved(&self.reader, chunks, rules, slice::from_ref(run), &mut place)
    }

    fn regroup(&self, chunks: &ChunkWriter, sparse: &Sparse) -> Result<Moved, VaultError> {
        let mut builder = GroupBuilder::default();
        let mut named: Vec<Ticket> = Vec::new();
        let mut placed = Vec::new();
        let put = |group: Group| chunks.put_data(group.contents);
        for batch in sparse.order.chunks(OPEN_MAX) {
            let contents = self.contents(batch)?;
            for chunk in batch {
                let Some(plain) = contents.get(chunk) else { continue };
                for (offset, length) in &sparse.ranges[chunk] {
                    let Some(data) = plain.get(*offset as usize..(offset + length) as usize) else {
                        continue;
                    };
                    let hash =
                        self.vault.ring().chunk_id(ChunkClass::Data, data).ok_or(VaultError::GivenUp)?;
                    let (at, closed) = builder.add(data, &hash);
                    named.extend(closed.into_iter().map(put));
                    placed.push((*chunk, *offset, *length, at));
                }
            }
        }
        named.extend(builder.close().map(put));
        let named: Vec<ChunkId> = named.iter().map(Ticket::wait).collect::<Result<_, _>>()?;
        let mut moved = Moved::new();
        for (chunk, begins, length, at) in placed {
            let to = Place { chunk: named[at.group as usize], offset: at.offset, length };
            moved.entry(chunk).or_default().insert(begins, to);
        }
        Ok(moved)
    }

    /// What is in these chunks. One that cannot be read is left out: it stays where it is.
    fn contents(&self, chunks: &[ChunkId]) -> Result<HashMap<ChunkId, Vec<u8>>, VaultError> {
        let reader = ChunkReader::new(self.vault.clone());
        let mut opener = RecordOpener::new();
        let mut contents = HashMap::new();
        let (reads, _) = reader.plan_what_is_there(chunks.iter().copied())?;
        for read in reads {
            let stretch = reader.read(&read);
            for (record, (chunk, ..)) in read.records.iter().enumerate() {
                match reader.open(&mut opener, &read, &stretch, record) {
                    Ok(plain) => drop(contents.insert(*chunk, plain.to_vec())),
                    Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                    Err(error) => tracing::warn!(%error, "a group is not split"),
                }
            }
        }
        Ok(contents)
    }
}

/// Where stretches of chunks are now, by where they began.
type Moved = HashMap<ChunkId, std::collections::BTreeMap<u32, Place>>;

#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: ChunkId,
    offset: u32,
    length: u32,
}
