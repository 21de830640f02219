//! A closer look at a chunk that could not be had: whether it is lost, or only not at hand.

use backstay_core::id::ChunkId;

use super::super::super::Vault;
use super::piecewise::read_pieces;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::record::RecordOpener;

/// Whether a chunk is gone or damaged in each place that the index names. Costs a pack that is read whole for each, since
/// what a record itself says of its key may be what is damaged.
///
/// # Errors
/// What is no damage: a store that refuses or does not answer, a key that is not at hand; `unread`, which says that it
/// could not be had, if it can be had now.
pub(super) fn check_lost(vault: &Vault, chunk: ChunkId, unread: VaultError) -> Result<(), VaultError> {
    for place in vault.places(&chunk)? {
        let name = Named::Pack(place.pack).to_name();
        let Some(content) = read_pieces(vault, place.pack)? else { continue };
        let is_whole = blake3::hash(&content).as_bytes() == place.pack.as_bytes();
        let (begins, length) = (place.offset as usize, place.length as usize);
        let record = content.get(begins..begins.saturating_add(length)).unwrap_or_default();
        match RecordOpener::new().open(vault.ring(), &chunk, record) {
            Err(Malformed::Key(key)) if is_whole => return Err(vault.damaged(&name, key.into())),
            // It is damaged, or its writer has put it so.
            Err(_) => {}
            Ok(_) => return Err(unread),
        }
    }
    Ok(())
}
