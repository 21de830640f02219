//! Which layout of a source is in force (docs/format.md, section 9).

use backstay_core::id::{ObjectHash, SourceId};
use backstay_core::layout::Layout;

use super::catalogue::{ListFolder, judge};
use super::{Catalogue, Vault};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// How often the layouts of a source are listed, because one was replaced before it was read.
const LISTINGS_MAX: usize = 16;

impl Vault {
    /// The layout of the greatest term, and in it of the greatest generation, that the custodian of that term has
    /// signed. A former custodian's stands until its successor writes one. Their order in the listing says nothing: a
    /// new term may begin at a generation that the one before has passed. One that is gone when it is asked for has been
    /// replaced since it was listed, perhaps long ago: then those that are left say what no longer holds, and it is
    /// looked again.
    pub(super) fn layout_in_force(
        &self,
        source: SourceId,
        list: &mut ListFolder<'_>,
        left_out: &mut Vec<VaultError>,
    ) -> Result<Option<(ObjectHash, Layout)>, VaultError> {
        let folder = Folder::new(&[&"layout", &source]);
        let mut gone = None;
        for _ in 0..LISTINGS_MAX {
            let left_out_before = left_out.len();
            match self.layout_of_one_listing(&list(&folder)?, left_out) {
                Err(VaultError::Store(error)) if error.is_not_found() => {
                    left_out.truncate(left_out_before);
                    // The points that the next one accepts may be newer than what was seen at first.
                    self.first_look.forget();
                    gone = Some(error);
                }
                found => return found,
            }
        }
        gone.map_or(Ok(None), |gone| Err(gone.into()))
    }

    /// Whether the layout that was in force when this was read is the only one there is, or there is none still: then nothing was
    /// dropped since.
    pub(super) fn has_layout_still(&self, catalogue: &Catalogue) -> Result<bool, VaultError> {
        let listed = self.list(&Folder::new(&[&"layout", &catalogue.source]))?;
        let hash = |listed: &Listed| match listed.named {
            Named::Layout(_, _, hash) => Some(hash),
            _ => None,
        };
        Ok(listed.iter().filter_map(hash).eq(catalogue.layout_object) && catalogue.left_out.is_empty())
    }

    /// # Errors
    /// Also when a layout is not there any more.
    fn layout_of_one_listing(
        &self,
        listed: &[Listed],
        left_out: &mut Vec<VaultError>,
    ) -> Result<Option<(ObjectHash, Layout)>, VaultError> {
        let mut best = None;
        for listed in listed {
            let Named::Layout(_, generation, hash) = listed.named else { continue };
            let read = match self.read_layout(listed, generation) {
                // An older one would say what no longer holds.
                Err(VaultError::Store(error)) if error.is_unreadable() || error.is_not_found() => {
                    return Err(error.into());
                }
                read => read,
            };
            let Some(layout) = judge(read, left_out)? else { continue };
            let rank = (layout.term, layout.generation, hash);
            if best.as_ref().is_none_or(|(greatest, _)| rank > *greatest) {
                best = Some((rank, layout));
            }
        }
        Ok(best.map(|((_, _, hash), layout)| (hash, layout)))
    }

    /// Tells all layouts of a source that can be read, in no order: what was accepted when, and made of what. There may be
    /// hundreds, of which one is in memory at a time.
    pub(super) fn each_layout(
        &self,
        source: SourceId,
        tell: &mut dyn FnMut(&Layout),
    ) -> Result<(), VaultError> {
        for listed in self.list(&Folder::new(&[&"layout", &source]))? {
            let Named::Layout(_, generation, _) = listed.named else { continue };
            if let Some(layout) = judge(self.read_layout(&listed, generation), &mut Vec::new())? {
                tell(&layout);
            }
        }
        Ok(())
    }

    pub(super) fn read_layout(&self, listed: &Listed, generation: u64) -> Result<Layout, VaultError> {
        let term = |layout: &Layout| layout.term;
        let layout = self.get_decision(listed, EnvelopeKind::Layout, term)?;
        let wrong = |what| Err(self.damaged(&listed.name, Malformed::Field(what)));
        if layout.generation != generation {
            return wrong("generation");
        }
        // Such a layout would decide against sessions that have not begun.
        if layout.decided_below > layout.collection {
            return wrong("number below which sessions are decided");
        }
        Ok(layout)
    }
}
