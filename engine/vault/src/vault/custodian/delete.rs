//! The end of a pass: what goes, in which order (docs/collection.md, rules 1 and 12). Index objects went before.

use std::collections::{HashMap, HashSet};

use backstay_core::id::{SessionId, SourceId};
use backstay_core::point::PointLink;

use super::super::Catalogue;
use super::super::proofs::PROOFS_KEPT;
use super::announce::Announced;
use super::decide::Decided;
use super::inspection::Inventory;
use super::wait::{Fences, Sessions};
use super::{Collected, Custodian};
use crate::commit_object::{FenceObject, SessionState};
use crate::error::VaultError;
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed};

/// Heads of a source that stay, the newest.
const HEADS_KEPT: usize = 2;

/// Layouts of a source that stay: the one in force, and those before it.
const LAYOUTS_KEPT: usize = 2;

/// How many deletes go out between two looks whether this node is custodian still.
const BATCH: usize = 1000;

impl Custodian<'_> {
    /// Deletes packs, then points, then sessions and fences, then what newer heads and layouts have replaced.
    pub(super) fn delete(
        &mut self,
        pass: &Announced,
        decided: &Decided,
        sessions: &Sessions,
        fences: &Fences,
        inventory: &Inventory,
        done: &mut Collected,
    ) -> Result<(), VaultError> {
        self.delete_packs(pass, inventory, done)?;
        tracing::debug!("packs are deleted");
        let mut points = Vec::new();
        let mut others = self.old_proofs()?;
        let mut listings = self.vault.list_sources()?;
        for (catalogue, layout) in &decided.sources {
            let source = catalogue.source;
            let (heads, layouts) = (listings.below("heads", source), listings.below("layout", source));
            let now = self.vault.catalogue_listed(source, &mut listings)?;
            let forsaken = self.forsaken(catalogue, &now, layout.generation, decided)?;
            others.extend(self.replaced_heads(source, heads, &forsaken)?);
            others.extend(replaced_layouts(&now, layouts));
            points
                .extend(forsaken.iter().map(|link| Named::Point(source, link.point, link.object).to_name()));
        }
        done.points_deleted += points.len() as u64;
        self.remove_all(&points)?;
        tracing::debug!(points = points.len(), others = others.len(), "points are deleted");
        others.extend(self.sessions_to_delete(pass, sessions, fences));
        done.objects_deleted += others.len() as u64;
        self.remove_all(&others)
    }

    fn delete_packs(
        &self,
        pass: &Announced,
        inventory: &Inventory,
        done: &mut Collected,
    ) -> Result<(), VaultError> {
        let mut doomed: Vec<_> = pass.doomed.iter().filter(|pack| inventory.contains_key(pack)).collect();
        doomed.sort_unstable();
        done.packs_deleted += doomed.len() as u64;
        done.bytes_deleted += doomed.iter().map(|pack| inventory[*pack]).sum::<u64>();
        let names: Vec<ObjectName> = doomed.into_iter().map(|pack| Named::Pack(*pack).to_name()).collect();
        self.remove_all(&names)
    }

    /// Points of a source that were decided away or dropped, and that nobody reads. What was put after the listing that
    /// was decided by is for the next pass.
    fn forsaken(
        &self,
        before: &Catalogue,
        now: &Catalogue,
        generation: u64,
        decided: &Decided,
    ) -> Result<HashSet<PointLink>, VaultError> {
        let seen: HashSet<PointLink> = before.links().collect();
        if now.layout.as_ref().map(|layout| layout.generation) != Some(generation) {
            let other = "another layout is in force than was just put: look for a second custodian";
            return Err(self.look.refused(other));
        }
        let forsaken = now.refused().iter().filter(|link| seen.contains(link));
        Ok(forsaken.filter(|link| !decided.pins.contains(&link.point)).copied().collect())
    }

    /// Sessions that are over and decided; fences two collections later, when no sleeper can take them for absent.
    fn sessions_to_delete(&self, pass: &Announced, sessions: &Sessions, fences: &Fences) -> Vec<ObjectName> {
        let mut names = Vec::new();
        let mut there: HashSet<SessionId> = sessions.known.keys().copied().collect();
        for (id, session) in &sessions.known {
            let is_over = session.object.state != SessionState::Open || fences.known.contains_key(id);
            if is_over && session.object.collection < pass.number {
                names.push(Named::Session(*id).to_name());
                there.remove(id);
            }
        }
        for id in sessions.damaged.iter().filter(|id| fences.known.contains_key(id)) {
            names.push(Named::Session(*id).to_name());
        }
        names.sort_unstable();
        let is_aged = |fence: &FenceObject| pass.number.get() >= fence.collection.get().saturating_add(2);
        let goes = fences.known.iter().filter(|(id, fence)| is_aged(fence) && !there.contains(id));
        let mut aged: Vec<ObjectName> = goes.map(|(id, _)| Named::Fence(*id).to_name()).collect();
        aged.sort_unstable();
        // Only after their sessions.
        names.extend(aged);
        names
    }

    /// All but the newest; and those of commits that were not acknowledged in time, whose points go.
    fn replaced_heads(
        &self,
        source: SourceId,
        heads: Vec<Listed>,
        forsaken: &HashSet<PointLink>,
    ) -> Result<Vec<ObjectName>, VaultError> {
        let mut replaced = Vec::new();
        let mut kept = 0;
        for listed in heads.into_iter().rev() {
            let goes = kept == HEADS_KEPT || self.names_forsaken(source, &listed, forsaken)?;
            match goes {
                true => replaced.push(listed.name),
                false => kept += 1,
            }
        }
        Ok(replaced)
    }

    fn names_forsaken(
        &self,
        source: SourceId,
        listed: &Listed,
        forsaken: &HashSet<PointLink>,
    ) -> Result<bool, VaultError> {
        let Named::Head(_, sequence, _) = listed.named else { return Ok(false) };
        let head = match self.vault.read_head(source, sequence, listed) {
            Ok(head) => head,
            // Of somebody who may not write it: it is nobody's newest. A damaged one says nothing to anybody.
            Err(VaultError::Untrusted { .. }) => return Ok(false),
            Err(VaultError::Damaged { .. }) => return Ok(true),
            Err(VaultError::Store(error)) if error.is_unreadable() => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut own = head.targets.iter().filter(|target| target.vault == self.vault.id());
        Ok(own.any(|target| forsaken.contains(&PointLink { point: target.point, object: target.object })))
    }

    /// All proofs but the newest of each source.
    fn old_proofs(&self) -> Result<Vec<ObjectName>, VaultError> {
        let mut kept: HashMap<SourceId, usize> = HashMap::new();
        let is_old = |listed: &Listed| match listed.named {
            Named::Proof(source, ..) => {
                let kept = kept.entry(source).or_default();
                *kept += 1;
                *kept > PROOFS_KEPT
            }
            _ => false,
        };
        let newest_first = self.vault.list(&Folder::new(&[&"proofs"]))?.into_iter().rev();
        Ok(newest_first.filter(is_old).map(|listed| listed.name).collect())
    }

    pub(super) fn remove_all(&self, names: &[ObjectName]) -> Result<(), VaultError> {
        for batch in names.chunks(BATCH) {
            self.check_office()?;
            self.vault.io().block_on(self.vault.store().delete_all(batch))?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &ObjectName) -> Result<(), VaultError> {
        Ok(self.vault.io().block_on(self.vault.store().delete(name))?)
    }
}

/// Never one that its author may not know: of this term only those before the one in force.
fn replaced_layouts(now: &Catalogue, mut listed: Vec<Listed>) -> impl Iterator<Item = ObjectName> {
    listed
        .retain(|listed| !matches!(listed.named, Named::Layout(.., hash) if Some(hash) == now.layout_object));
    listed.truncate(listed.len().saturating_sub(LAYOUTS_KEPT - 1));
    listed.into_iter().map(|listed| listed.name)
}
