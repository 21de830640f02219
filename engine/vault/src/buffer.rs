//! Page-aligned buffers that are used again. Fresh memory costs a page fault for every 4 KiB, and only aligned memory
//! can go to a disk past the page cache. How many are out
//! at a time is bounded by who takes them, not here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Pages, and the blocks of disks.
pub const ALIGNMENT_BYTES: usize = 4096;

/// Keeps buffers that came back, up to a number. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BufferPool(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    free: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl BufferPool {
    /// Keeps at most this many free buffers.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Kept { free: Mutex::default(), most }))
    }

    /// A buffer of this length. What is in it is whatever it was used for before.
    pub fn take(&self, length: usize) -> Buffer {
        let room = length + ALIGNMENT_BYTES;
        let free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // One that is too short is of no use to anybody who follows: lengths hardly differ within a pool.
        let storage = free.filter(|free| free.len() >= room).unwrap_or_else(|| vec![0; room]);
        let begins = match storage.as_ptr().align_offset(ALIGNMENT_BYTES) {
            offset if offset < ALIGNMENT_BYTES => offset,
            // Allowed by its contract. Then the buffer is merely not aligned.
            _ => 0,
        };
        Buffer { storage, begins, length, home: Arc::clone(&self.0) }
    }
}

/// A buffer; it goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    storage: Vec<u8>,
    begins: usize,
    length: usize,
    home: Arc<Kept>,
}

impl Buffer {
    /// Its bytes, unchanged from now on. The buffer goes back with the last slice of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Shortens it.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.storage[self.begins..self.begins + self.length]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.begins..self.begins + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.home.most {
            free.push(std::mem::take(&mut self.storage));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_slice_and_is_used_again() {
        let pool = BufferPool::new(1);
        let mut buffer = pool.take(10_000);
        buffer.as_mut().fill(7);
        let address = buffer.as_ref().as_ptr();
        let bytes = buffer.freeze();
        let slice = bytes.slice(5000..);
        drop(bytes);
        assert_ne!(pool.take(10_000).as_ref().as_ptr(), address, "still in use");
        assert!(slice.iter().all(|byte| *byte == 7));
        // The one taken meanwhile came back first; there is room for one only.
        drop(slice);
        let kept = pool.take(10_000).as_ref().as_ptr();
        assert_eq!(pool.take(9000).as_ref().as_ptr(), kept);
    }

    #[test]
    fn buffers_are_aligned_and_have_the_length_asked_for() {
        let pool = BufferPool::new(4);
        for length in [1, 4096, 5_000_000] {
            let buffer = pool.take(length);
            assert_eq!(
                (buffer.as_ref().len(), buffer.as_ref().as_ptr().addr() % ALIGNMENT_BYTES),
                (length, 0)
            );
        }
    }
}
