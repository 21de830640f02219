//! Putting of layouts. One is written down before it is put, and put again after a crash before anything else: so none
//! lands later that its author does not know of (docs/collection.md, rule 9).

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, SourceId};
use backstay_core::layout::Layout;

use super::super::Catalogue;
use super::super::objects::hash_of;
use super::Custodian;
use super::notes::PendingLayout;
use crate::envelope::{self, EnvelopeKind};
use crate::error::VaultError;
use crate::malformed::encode_cbor;
use crate::name::{Named, ObjectName};

impl Custodian<'_> {
    /// Puts a layout that comes after the one in force of a source. What it lets go is taken away only by a pass that is
    /// announced after it (docs/collection.md, rule 6).
    pub(super) fn put_next_layout(
        &mut self,
        catalogue: &Catalogue,
        mut layout: Layout,
    ) -> Result<(), VaultError> {
        if self.notes.announced != CollectionNumber::NONE {
            self.notes.announced = CollectionNumber::NONE;
            self.note()?;
        }
        layout.generation += 1;
        layout.previous = catalogue.layout_object;
        layout.term = self.term;
        self.put_layout(catalogue.source, &layout)
    }

    pub(super) fn put_layout(&mut self, source: SourceId, layout: &Layout) -> Result<(), VaultError> {
        let stem = Named::Layout(source, layout.generation, ObjectHash::new([0; 32])).to_name();
        let ring = self.vault.ring();
        let signer = &self.identity.signer;
        let object = envelope::seal(ring, signer, EnvelopeKind::Layout, stem.stem(), &encode_cbor(layout));
        let name = Named::Layout(source, layout.generation, hash_of(&object)).to_name();
        // Before it is noted: what readers do not take shall not be put by the next process either.
        if !envelope::is_within_bounds(&object) {
            return Err(VaultError::TooLarge { object: name.to_string(), bytes: object.len() });
        }
        self.notes.layout = Some(PendingLayout { name: name.to_string(), content: object.to_vec() });
        self.note()?;
        self.vault.forget();
        self.vault.put(&name, object)?;
        if let Some(layout) = self.notes.layout.take() {
            self.store.keep_layout(source, &layout)?;
        }
        self.note()
    }

    /// Puts the layout once more whose put may not have ended: in a process that died, or in this one, which was told of a
    /// failure. Comes before whatever decides anything: the next one is to build on it.
    pub(super) fn put_layout_again(&mut self) -> Result<(), VaultError> {
        let Some(layout) = &self.notes.layout else { return Ok(()) };
        if let Some((name, Named::Layout(source, ..))) = ObjectName::parse(&layout.name)
            && envelope::is_within_bounds(&layout.content)
        {
            self.vault.put(&name, layout.content.clone().into())?;
            self.store.keep_layout(source, layout)?;
        }
        self.notes.layout = None;
        self.note()
    }
}
