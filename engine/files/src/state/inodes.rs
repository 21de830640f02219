//! Which row an inode had: found by device and inode, so that what was renamed is not read again. Records
//! of 24 bytes, sorted by binary search in a file; the sort spills to disk beyond a bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::table::BlockOffset;
use crate::stat::Identity;

const RECORD_BYTES: usize = 24;

/// Records that are sorted in memory at once: 6 MiB.
const SORTED_AT_ONCE: usize = 256 << 10;

const BUFFER_BYTES: usize = 64 << 10;

/// (device, inode, block).
type Record = (u64, u64, u64);

/// Collects inodes in any order and writes them sorted.
#[derive(Debug)]
pub(super) struct InodeSorter {
    path: PathBuf,
    pending: Vec<Record>,
    /// Sorted runs, one after the other, in a file of their own; where each begins and how many records it has.
    spilled: Option<BufWriter<File>>,
    runs: Vec<(u64, u64)>,
}

impl InodeSorter {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), pending: Vec::new(), spilled: None, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, identity: Identity, block: BlockOffset) -> io::Result<()> {
        self.pending.push((identity.device, identity.inode, block.0));
        if self.pending.len() >= SORTED_AT_ONCE { self.spill() } else { Ok(()) }
    }

    /// Writes the sorted records; returns how many there are.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.pending.sort_unstable();
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&self.path)?);
        let mut records = 0;
        match self.spilled.take() {
            None => {
                for record in &self.pending {
                    write_record(&mut out, record)?;
                    records += 1;
                }
            }
            Some(spilled) => {
                let spilled = spilled.into_inner().map_err(io::IntoInnerError::into_error)?;
                records = merge(&spilled, &self.runs, &self.pending, &mut out)?;
                std::fs::remove_file(self.spill_path())?;
            }
        }
        out.flush()?;
        Ok(records)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.pending.sort_unstable();
        if self.spilled.is_none() {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(self.spill_path())?;
            self.spilled = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        }
        let begins = self.runs.iter().map(|(_, records)| records * RECORD_BYTES as u64).sum();
        self.runs.push((begins, self.pending.len() as u64));
        if let Some(out) = &mut self.spilled {
            for record in self.pending.drain(..) {
                write_record(out, &record)?;
            }
        }
        Ok(())
    }

    fn spill_path(&self) -> PathBuf {
        self.path.with_extension("spill")
    }
}

/// Finds inodes in the file that [`InodeSorter`] wrote.
#[derive(Debug)]
pub(super) struct InodeTable {
    file: File,
    records: u64,
}

impl InodeTable {
    /// Opens the file, which must have this many records.
    pub(super) fn open(path: &Path, records: u64) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let whole = file.metadata()?.len() == records * RECORD_BYTES as u64;
        Ok(whole.then_some(Self { file, records }))
    }

    /// The block that has the row of this inode.
    pub(super) fn find(&self, identity: Identity) -> io::Result<Option<BlockOffset>> {
        let wanted = (identity.device, identity.inode);
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low + (high - low) / 2;
            let (device, inode, block) = self.read(middle)?;
            match (device, inode).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(BlockOffset(block))),
            }
        }
        Ok(None)
    }

    fn read(&self, place: u64) -> io::Result<Record> {
        let mut bytes = [0; RECORD_BYTES];
        self.file.read_exact_at(&mut bytes, place * RECORD_BYTES as u64)?;
        Ok(decode(&bytes))
    }
}

fn merge(spilled: &File, runs: &[(u64, u64)], rest: &[Record], out: &mut impl Write) -> io::Result<u64> {
    let mut readers = runs
        .iter()
        .map(|(begins, records)| {
            let file = spilled.try_clone()?;
            Ok(RunReader {
                file: BufReader::with_capacity(BUFFER_BYTES, Placed { file, at: *begins }),
                left: *records,
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut rest = rest.iter();
    let last = readers.len();
    let mut heap = BinaryHeap::new();
    for (place, reader) in readers.iter_mut().enumerate() {
        heap.extend(reader.next()?.map(|record| Reverse((record, place))));
    }
    heap.extend(rest.next().map(|record| Reverse((*record, last))));
    let mut written = 0;
    while let Some(Reverse((record, place))) = heap.pop() {
        write_record(out, &record)?;
        written += 1;
        let next = if place == last { rest.next().copied() } else { readers[place].next()? };
        heap.extend(next.map(|record| Reverse((record, place))));
    }
    Ok(written)
}

struct RunReader {
    file: BufReader<Placed>,
    left: u64,
}

impl RunReader {
    fn next(&mut self) -> io::Result<Option<Record>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = [0; RECORD_BYTES];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(decode(&bytes)))
    }
}

/// A file that is read from a place of its own.
struct Placed {
    file: File,
    at: u64,
}

impl Read for Placed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn write_record(out: &mut impl Write, record: &Record) -> io::Result<()> {
    for field in [record.0, record.1, record.2] {
        out.write_all(&field.to_le_bytes())?;
    }
    Ok(())
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Record {
    let field = |at: usize| {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(field)
    };
    (field(0), field(8), field(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: u64) -> Identity {
        Identity { device: 1 + n % 2, inode: n.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    #[test]
    fn inodes_are_found_whether_or_not_the_sort_spilled() {
        let folder = tempfile::tempdir().expect("a folder");
        for count in [0, 10, SORTED_AT_ONCE as u64 * 2 + 77] {
            let path = folder.path().join("inodes");
            let mut sorter = InodeSorter::new(&path);
            for n in 0..count {
                sorter.push(identity(n), BlockOffset(n)).expect("pushes");
            }
            assert_eq!(sorter.finish().expect("sorts"), count);
            let table = InodeTable::open(&path, count).expect("opens").expect("whole");
            for n in (0..count).step_by(1 + count as usize / 1000) {
                assert_eq!(table.find(identity(n)).expect("reads"), Some(BlockOffset(n)));
            }
            assert_eq!(table.find(identity(count + 1)).expect("reads"), None);
            assert!(!path.with_extension("spill").exists());
        }
    }
}
