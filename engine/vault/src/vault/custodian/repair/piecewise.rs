//! Reading a pack of which the disk does not give everything: piece by piece, so that one bad sector takes no more than what
//! lies on it.

use backstay_core::id::PackId;
use bytes::Bytes;

use super::super::super::Vault;
use crate::error::VaultError;
use crate::name::{Named, ObjectName};
use crate::pack::PACK_BYTES_MAX;
use crate::store::{Folder, StoreError, StoreErrorKind, Stretch};

/// What is asked for at once, bytes, and in what it is divided where that cannot be read.
const PIECES: [u64; 3] = [1 << 20, 64 << 10, 4 << 10];

/// Least pieces of one pack that are found unreadable before larger ones are not divided any more: each may take seconds on a
/// disk that fails.
const UNREADABLE_MAX: usize = 1024;

/// The content of a pack, whole or, where the disk does not give it, with zeros in the place of what cannot be read. `None`
/// when it is gone, or nothing of it can be read.
///
/// # Errors
/// What says nothing of the pack: a store that refuses or does not answer.
pub(super) fn read_pieces(vault: &Vault, pack: PackId) -> Result<Option<Bytes>, VaultError> {
    let name = Named::Pack(pack).to_name();
    match vault.get(&name) {
        Ok(content) => return Ok(Some(content)),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) if is_of_disk(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let id = pack.to_string();
    let listed = vault.list(&Folder::new(&[&"packs", &&id[..2]]))?;
    let Some(listed) = listed.iter().find(|listed| listed.name == name) else { return Ok(None) };
    // A record lies within the greatest pack.
    let length = listed.bytes.min(PACK_BYTES_MAX as u64);
    let mut reading =
        Reading { vault, name: &name, content: vec![0; length as usize], read: 0, unreadable: 0 };
    reading.stretch(0, length, &PIECES)?;
    let Reading { content, read, .. } = reading;
    tracing::warn!(%name, read, length, "read piece by piece");
    Ok((read > 0).then(|| content.into()))
}

/// Whether an error is one of the object: another part of it may be good.
fn is_of_disk(error: &StoreError) -> bool {
    error.is_unreadable() && error.kind != StoreErrorKind::Denied
}

struct Reading<'v> {
    vault: &'v Vault,
    name: &'v ObjectName,
    content: Vec<u8>,
    /// Bytes that could be read.
    read: u64,
    /// Least pieces that could not.
    unreadable: usize,
}

impl Reading<'_> {
    fn stretch(&mut self, from: u64, to: u64, pieces: &[u64]) -> Result<(), VaultError> {
        let Some((piece, smaller)) = pieces.split_first() else { return Ok(()) };
        let mut offset = from;
        while offset < to {
            let length = (*piece).min(to - offset);
            match self.vault.get_range(self.name, Stretch { offset, length }) {
                Ok(bytes) => {
                    let place = offset as usize;
                    // A store may give less than was asked for.
                    let bytes = &bytes[..bytes.len().min(length as usize)];
                    self.content[place..place + bytes.len()].copy_from_slice(bytes);
                    self.read += bytes.len() as u64;
                }
                Err(VaultError::Store(error)) if is_of_disk(&error) => {
                    if smaller.is_empty() {
                        self.unreadable += 1;
                    } else if self.unreadable < UNREADABLE_MAX {
                        self.stretch(offset, offset + length, smaller)?;
                    }
                }
                Err(error) => return Err(error),
            }
            offset += length;
        }
        Ok(())
    }
}
