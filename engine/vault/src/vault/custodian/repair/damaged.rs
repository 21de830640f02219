//! Points that lack contents which nobody has: dropped when that is wanted, as retention drops points. Their runs are
//! merged into those of the points that stay, which read as before, and what nothing needs any more goes with a pass.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use backstay_core::point::PointLink;

use super::super::{Custodian, Pass};
use super::Repaired;
use super::chunks::Missing;
use crate::error::VaultError;

/// Passes until all is decided and deleted that can be.
const PASSES_MAX: usize = 64;

/// What is said of a point that is dropped.
struct Damaged {
    source_name: String,
    why: String,
}

impl Custodian<'_> {
    /// Drops the points that lack contents; whether there were any. Those stay that retention would not take either: the
    /// newest of each source, on which the next capture builds, what is held, read or built on, and what no pass can accept
    /// yet, because a commit is under way.
    pub(super) fn drop_damaged(
        &mut self,
        missing: &Missing,
        done: &mut Repaired,
    ) -> Result<bool, VaultError> {
        if missing.lacking.is_empty() {
            return Ok(false);
        }
        let mut damaged = HashMap::new();
        if missing.more > 0 {
            // No list has room for all of it: a pass goes on only when fewer points need it.
            damaged = self.damaged_points(missing)?;
            self.thin_without(&|_| None, &damaged.keys().copied().collect())?;
        }
        // Before the first pass, which goes no further where something is missing that no list names.
        self.put_bad_list(&self.missing(missing.chunks_max)?)?;
        self.pass_as_far_as_can_be()?;
        // Anew: a pass may have accepted points, and moved what is there.
        damaged.extend(self.damaged_points(&self.missing(missing.chunks_max)?)?);
        if damaged.is_empty() {
            return Ok(false);
        }
        self.thin_without(&|_| None, &damaged.keys().copied().collect())?;
        self.pass_as_far_as_can_be()?;
        let catalogues = self.vault.catalogues()?;
        let points = catalogues.iter().flat_map(|catalogue| catalogue.points());
        let counting: HashSet<PointLink> = points.map(|point| point.link).collect();
        for (link, Damaged { source_name, why }) in &damaged {
            if !counting.contains(link) {
                done.lost_point(source_name, link.point, why.clone());
            }
        }
        Ok(true)
    }

    fn pass_as_far_as_can_be(&mut self) -> Result<(), VaultError> {
        for _ in 0..PASSES_MAX {
            match self.collect()? {
                Pass::Done(done) if done.is_cut => {}
                Pass::Done(_) | Pass::Idle | Pass::Waits(_) => break,
            }
        }
        Ok(())
    }

    fn damaged_points(&self, missing: &Missing) -> Result<HashMap<PointLink, Damaged>, VaultError> {
        let mut damaged = HashMap::new();
        for catalogue in self.vault.catalogues()? {
            let newest = catalogue.newest().map(|point| point.link);
            for point in catalogue.points().iter().filter(|point| Some(point.link) != newest) {
                if !catalogue.accepts(point.link) || !catalogue.holds(point).is_empty() {
                    continue;
                }
                self.each_lacking_path(&catalogue, point, missing, &mut |path, chunk| {
                    let why = format!("{path} lacks chunk {chunk}, which is lost; the point was dropped");
                    let source_name = point.common.source_name.clone();
                    damaged.insert(point.link, Damaged { source_name, why });
                    ControlFlow::Break(())
                })?;
            }
        }
        Ok(damaged)
    }
}
