//! An object that comes in pieces, as from a network: written beside while it comes, so that it is never in memory as a whole,
//! and given its name when all of it is there and durable. What is dropped before that has left nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::PathBuf;

use blake3::Hasher;

use super::{DIRECT_BYTES_LEAST, DirStore, Writing, is_full, kind_of};
use crate::buffer::{ALIGNMENT_BYTES, Buffer, BufferPool};
use crate::name::ObjectName;
use crate::store::{Operation, StoreError};

/// How much is collected before it is written, bytes; a multiple of [`ALIGNMENT_BYTES`].
const PIECE_BYTES: usize = 512 << 10;

/// An object that comes in pieces. Its methods block.
#[derive(Debug)]
pub struct Arriving {
    store: DirStore,
    object: ObjectName,
    path: PathBuf,
    /// None when it has its name.
    file: Option<File>,
    writing: Writing,
    buffer: Buffer,
    filled: usize,
    written: u64,
    /// Of what was written. Fed with whole buffers: many small pieces take it several times as long.
    hasher: Hasher,
    is_placed: bool,
}

impl DirStore {
    /// Begins with an object of this length; a hint, by which the way of writing is chosen.
    pub fn begin(&self, object: &ObjectName, length: u64, pool: &BufferPool) -> Result<Arriving, StoreError> {
        let is_direct = length >= DIRECT_BYTES_LEAST as u64 && length.is_multiple_of(ALIGNMENT_BYTES as u64);
        let mut arriving = Arriving {
            store: self.clone(),
            object: object.clone(),
            path: PathBuf::new(),
            file: None,
            writing: if is_direct { Writing::Direct } else { Writing::Cached },
            buffer: pool.take((length as usize).clamp(1, PIECE_BYTES).next_multiple_of(ALIGNMENT_BYTES)),
            filled: 0,
            written: 0,
            hasher: Hasher::new(),
            is_placed: false,
        };
        arriving.trying_for_room(Arriving::make).map_err(|error| arriving.failed(&error))?;
        Ok(arriving)
    }
}

impl Arriving {
    /// Adds to it.
    pub fn write(&mut self, mut piece: &[u8]) -> Result<(), StoreError> {
        while !piece.is_empty() {
            let room = &mut self.buffer.as_mut()[self.filled..];
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            self.filled += count;
            piece = &piece[count..];
            if self.filled == self.buffer.as_ref().len() {
                self.trying_for_room(Self::flush).map_err(|error| self.failed(&error))?;
            }
        }
        Ok(())
    }

    /// Bytes that it has by now.
    pub fn length(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Writes what is left of it, after which nothing more comes; the BLAKE3-256 of all of it.
    pub fn hash(&mut self) -> Result<blake3::Hash, StoreError> {
        self.trying_for_room(Self::flush).map_err(|error| self.failed(&error))?;
        Ok(self.hasher.finalize())
    }

    /// Makes it durable, under its name, where it takes the place of another one. When this returns, all of that is durable.
    pub fn place(mut self) -> Result<(), StoreError> {
        self.trying_for_room(Self::finish).map_err(|error| self.failed(&error))
    }

    /// Does something, and once more where the disk was full and there was something in the trash whose time is over.
    fn trying_for_room(&mut self, work: fn(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match work(self) {
            Err(error) if is_full(&error) && self.has_made_room() => work(self),
            outcome => outcome,
        }
    }

    fn has_made_room(&self) -> bool {
        let inner = &self.store.inner;
        inner.open_root().is_ok_and(|root| inner.has_emptied_trash(&root.path))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let inner = &self.store.inner;
        if let Some(file) = &self.file {
            inner.disk.sync_file(file, &self.path)?;
        }
        let root = inner.open_root()?;
        inner.rename(&root.path, &self.path, self.object.as_str())?;
        self.file = None;
        self.is_placed = true;
        Ok(())
    }

    /// Makes the file. It is known by a path below the root as it is configured, since the root is not kept open for as long.
    fn make(&mut self) -> io::Result<()> {
        let inner = &self.store.inner;
        // Looks whether it is the root that was there before.
        let opened = inner.open_root()?;
        let beside = inner.unfinished(&opened.path)?;
        self.path = match beside.strip_prefix(&opened.path) {
            Ok(below) => inner.root.join(below),
            Err(_) => beside,
        };
        let made = match inner.disk.make_file(&self.path, self.writing) {
            Err(error) if self.may_do_without_direct(&error) => {
                self.writing = Writing::Cached;
                match inner.disk.remove_file(&self.path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => inner.disk.make_file(&self.path, Writing::Cached),
                }
            }
            made => made,
        };
        self.file = Some(made?);
        Ok(())
    }

    fn may_do_without_direct(&self, error: &io::Error) -> bool {
        self.writing == Writing::Direct
            && self.written == 0
            && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        // The length was a hint: what came may end elsewhere.
        if self.writing == Writing::Direct && !self.filled.is_multiple_of(ALIGNMENT_BYTES) {
            self.go_on_cached()?;
        }
        match self.write_filled() {
            // The file system has no such writes, or asks for more than this alignment.
            Err(error) if self.may_do_without_direct(&error) => {
                self.go_on_cached()?;
                self.write_filled()?;
            }
            written => written?,
        }
        self.hasher.update(&self.buffer.as_ref()[..self.filled]);
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn write_filled(&self) -> io::Result<()> {
        let mut file = self.file.as_ref().ok_or_else(|| io::Error::other("it has its name already"))?;
        // Where an earlier try has left off, a part of this may be there already.
        file.seek(SeekFrom::Start(self.written))?;
        self.store.inner.disk.write(file, &self.path, &self.buffer.as_ref()[..self.filled])
    }

    /// From now on by way of the page cache, in the same file.
    fn go_on_cached(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let flags = rustix::fs::fcntl_getfl(file)?;
        rustix::fs::fcntl_setfl(file, flags - rustix::fs::OFlags::DIRECT)?;
        self.writing = Writing::Cached;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError {
            operation: Operation::Put,
            object: self.object.to_string(),
            place: self.store.inner.root.display().to_string(),
            kind: kind_of(error),
            cause: error.to_string(),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.is_placed {
            // What stays all the same is swept after a day.
            let _ = self.store.inner.disk.remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use backstay_core::id::PackId;

    use super::*;
    use crate::name::Named;
    use crate::store::Store;

    #[tokio::test]
    async fn what_came_in_pieces_is_an_object_when_it_is_placed_and_nothing_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirStore::new(folder.path().join("vault"));
        let pool = BufferPool::new(2);
        for (number, length) in
            [0usize, 1, 4095, 4096, 1 << 20, (1 << 20) + 4096, (3 << 20) + 5].into_iter().enumerate()
        {
            let content: Vec<u8> = (0..length).map(|n| (n / 7 + number) as u8).collect();
            let name = Named::Pack(PackId::new([number as u8; 32])).to_name();
            // Announced rightly and wrongly.
            for announced in [length as u64, 2 << 20] {
                let mut arriving = store.begin(&name, announced, &pool).expect("begins");
                for piece in content.chunks(70_001) {
                    arriving.write(piece).expect("writes");
                }
                assert_eq!(arriving.length(), length as u64);
                assert_eq!(arriving.hash().expect("is written"), blake3::hash(&content));
                arriving.place().expect("is placed");
                assert!(store.get(&name).await.expect("is there") == content, "{length} bytes");
                store.delete(&name).await.expect("is deleted");
            }
            let mut given_up = store.begin(&name, length as u64, &pool).expect("begins");
            given_up.write(&content).expect("writes");
            drop(given_up);
            assert!(store.get(&name).await.expect_err("not placed").is_not_found());
        }
        let left = fs::read_dir(folder.path().join("vault/unfinished")).expect("is there").count();
        assert_eq!(left, 0, "nothing is left beside");
    }
}
