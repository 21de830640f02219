//! Reading ahead: while one stretch of an output is written, a thread has the next one. Owns the bound on what is held.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use backstay_core::id::ChunkId;
use backstay_files::row::Reference;
use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use backstay_vault::record::RecordOpener;
use backstay_vault::vault::Vault;
use bytes::Bytes;
use crossbeam_channel::bounded;

use super::StreamError;

/// Plain bytes of one window, unless one chunk has more.
const WINDOW_BYTES: u64 = 16 << 20;

/// Windows that are ready before they are wanted. One more is being read, and one written.
const WINDOWS_AHEAD: usize = 1;

/// The chunks of a window.
type Chunks = HashMap<ChunkId, Bytes>;

/// Gives each reference with the whole chunk that it refers to, in their order, to `take`.
pub(super) fn read_ahead(
    vault: &Arc<Vault>,
    references: &[Reference],
    mut take: impl FnMut(&Reference, &[u8]) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let reader = ChunkReader::new(Arc::clone(vault));
    let (ready, windows) = bounded::<(&[Reference], Result<Chunks, VaultError>)>(WINDOWS_AHEAD);
    std::thread::scope(|scope| {
        let read = move || {
            for window in Windows(references) {
                let chunks = fetch(&reader, window);
                let is_over = chunks.is_err();
                // Whoever writes may have given up.
                if ready.send((window, chunks)).is_err() || is_over {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("backstay-fetch".into())
            .spawn_scoped(scope, read)
            .map_err(StreamError::Thread)?;
        // Taken by the closure, so that the thread ends when this does.
        for (window, chunks) in windows {
            let chunks = chunks?;
            for reference in window {
                let chunk = chunks.get(&reference.chunk).ok_or(VaultError::GivenUp)?;
                take(reference, chunk)?;
            }
        }
        Ok(())
    })
}

/// References window by window.
struct Windows<'r>(&'r [Reference]);

impl<'r> Iterator for Windows<'r> {
    type Item = &'r [Reference];

    fn next(&mut self) -> Option<&'r [Reference]> {
        let mut bytes = 0;
        let more = self.0.iter().skip(1).take_while(|reference| {
            bytes += u64::from(reference.length_bytes);
            bytes < WINDOW_BYTES
        });
        let (window, rest) = self.0.split_at_checked(1 + more.count())?;
        self.0 = rest;
        Some(window)
    }
}

fn fetch(reader: &ChunkReader, window: &[Reference]) -> Result<Chunks, VaultError> {
    let mut wanted: Vec<ChunkId> = window.iter().map(|reference| reference.chunk).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut chunks = Chunks::with_capacity(wanted.len());
    let mut opener = RecordOpener::new();
    for read in reader.plan(wanted)? {
        let stretch = reader.read(&read);
        for (place, (id, ..)) in read.records.iter().enumerate() {
            if let Entry::Vacant(vacant) = chunks.entry(*id) {
                vacant.insert(Bytes::copy_from_slice(reader.open(&mut opener, &read, &stretch, place)?));
            }
        }
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_and_leave_nothing_out() {
        let reference = |n: u64, length_bytes| Reference {
            offset_bytes: n,
            chunk: ChunkId::new([n as u8; 32]),
            chunk_offset_bytes: 0,
            length_bytes,
        };
        let references: Vec<Reference> = (0..100).map(|n| reference(n, (n as u32 % 7 + 1) << 20)).collect();
        let windows: Vec<_> = Windows(&references).collect();
        assert_eq!(windows.concat(), references);
        for window in &windows {
            let bytes: u64 = window.iter().map(|reference| u64::from(reference.length_bytes)).sum();
            assert!(bytes < WINDOW_BYTES + (7 << 20), "{bytes}");
        }
        assert_eq!(Windows(&[]).count(), 0);
        assert_eq!(Windows(&[reference(0, 16 << 20), reference(1, 16 << 20)]).count(), 2);
    }
}
