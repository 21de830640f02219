//! Where a source stands in a vault when a capture begins: its session, and on what it builds.

use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::point::{Facts, PointLink};
use backstay_core::run::Run;

use super::give_up;
use crate::error::VaultError;
use crate::vault::{Catalogue, PointObject, Session, Vault, WriterIdentity};

/// Where a source stands in one vault.
#[derive(Debug)]
pub struct Standing {
    /// The vault.
    pub vault: Arc<Vault>,
    /// What it holds of the source.
    pub catalogue: Catalogue,
    /// The point on which the capture builds.
    pub parent: Option<Arc<PointObject>>,
}

impl Standing {
    /// Opens a session; gives it up when its parent is not the wanted one.
    pub(super) fn open(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        clock: &dyn Clock,
        is_wanted: impl Fn(Option<PointLink>) -> bool,
    ) -> Result<(Session, Self), VaultError> {
        let (session, catalogue) = Session::open(vault, writer, source_name, clock.now())?;
        Self::of(session, catalogue, clock, is_wanted)
    }

    /// The same for the first session of a capture: where requests cost, it is opened as late as it can be.
    pub(super) fn begin(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        clock: &dyn Clock,
        is_wanted: impl Fn(Option<PointLink>) -> bool,
    ) -> Result<(Session, Self), VaultError> {
        let (session, catalogue) = Session::begin(vault, writer, source_name, clock.now())?;
        Self::of(session, catalogue, clock, is_wanted)
    }

    fn of(
        session: Session,
        catalogue: Catalogue,
        clock: &dyn Clock,
        is_wanted: impl Fn(Option<PointLink>) -> bool,
    ) -> Result<(Session, Self), VaultError> {
        let vault = session.vault();
        let standing = Self { vault: Arc::clone(vault), catalogue, parent: session.parent().cloned() };
        if !is_wanted(standing.parent_link()) {
            give_up(session, clock)?;
            return Err(VaultError::CursorMoved { place: standing.vault.place() });
        }
        Ok((session, standing))
    }

    pub(super) fn has_partial(&self, link: PointLink) -> bool {
        self.catalogue.partial_points().iter().any(|point| point.link == link)
    }

    pub(super) fn parent_link(&self) -> Option<PointLink> {
        self.parent.as_ref().map(|point| point.link)
    }

    /// The partial points from which a capture of this node may go on: of the same parent, of the same tree as far as
    /// facts tell, and settled. What another session has left may yet be decided against, and its chunks may go. Not from
    /// what compromised keys have sealed.
    pub(super) fn resumable(&self, node: &str, facts: &Facts) -> Result<Vec<Arc<PointObject>>, VaultError> {
        let parent = self.parent_link();
        let mut resumable = Vec::new();
        let is_copied = |point: &PointObject| {
            point.vault_part.partial.as_ref().is_some_and(|partial| partial.copied.is_some())
        };
        for point in self.catalogue.partial_points() {
            let continues = !is_copied(point)
                && point.common.node == node
                && point.common.facts == *facts
                && point.vault_part.parent == parent;
            let own = [Run { parts: point.vault_part.run.clone() }];
            if continues && self.vault.is_settled(&self.catalogue, point)? && self.vault.are_trusted(&own)? {
                resumable.push(Arc::clone(point));
            }
        }
        Ok(resumable)
    }
}
