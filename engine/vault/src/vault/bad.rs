//! Reading of `bad/`: which chunks the custodian knows to be lost (docs/format.md, section 10).

use std::collections::HashSet;

use backstay_core::id::ChunkId;

use super::Vault;
use crate::commit_object::BadList;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::store::{Folder, Listed};

impl Vault {
    /// The list with the greatest number that can be read, if there is any. One that cannot costs what it alone says: a
    /// chunk that is lost and not known to be is noticed anew.
    pub(super) fn bad_list(&self) -> Result<Option<BadList>, VaultError> {
        for listed in self.list(&Folder::new(&[&"bad"]))?.iter().rev() {
            match self.read_bad_list(listed) {
                Ok(list) => return Ok(Some(list)),
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(error) if error.is_of_one_object() => tracing::warn!(%error, "left out"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The chunks that are known to be lost.
    pub fn lost_chunks(&self) -> Result<HashSet<ChunkId>, VaultError> {
        Ok(self.bad_list()?.into_iter().flat_map(|list| list.lost).collect())
    }

    pub(super) fn read_bad_list(&self, listed: &Listed) -> Result<BadList, VaultError> {
        let list: BadList = self.get_decision(listed, EnvelopeKind::Bad, |list: &BadList| list.term)?;
        match listed.named {
            Named::Bad(number, _) if number == list.number => Ok(list),
            _ => Err(self.damaged(&listed.name, Malformed::Field("number"))),
        }
    }
}
