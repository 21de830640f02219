//! The last place where a record is looked for: what its packs were before, where the store keeps that.

use backstay_core::id::ChunkId;

use super::fetch::ChunkReader;
use crate::error::VaultError;
use crate::record::RecordOpener;
use crate::store::Stretch;

impl ChunkReader {
    /// Whether a record could be opened in an older version of one of the packs in which it should be.
    pub(super) fn open_older(&self, opener: &mut RecordOpener, id: ChunkId) -> Result<bool, VaultError> {
        let vault = self.vault();
        for place in vault.places(&id)? {
            let stretch = Stretch { offset: u64::from(place.offset), length: u64::from(place.length) };
            let opens = |record: &[u8]| opener.open(vault.ring(), &id, record).is_ok();
            if vault.older_stretch(place.pack, stretch, opens)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
