//! Giving points of a time to come their own times again, after a clock ran ahead. Only when somebody who knows that the clock
//! is right now asks for it: a clock that stands back would do as much harm. It changes by what retention judges, and
//! nothing that decides.

use std::collections::HashMap;

use backstay_core::layout::Layout;
use backstay_core::point::PointLink;
use backstay_core::retention::{Dated, redated};
use backstay_core::units::Timestamp;

use super::super::Catalogue;
use super::Custodian;
use crate::error::VaultError;

impl Custodian<'_> {
    /// Of every source: points that retention takes for later than now get the times of their captures again. How many got
    /// another time.
    pub fn trust_clock(&mut self) -> Result<u64, VaultError> {
        self.put_layout_again()?;
        let mut changed = 0;
        for catalogue in self.look.survey()? {
            let Some(mut layout) = catalogue.layout.clone() else { continue };
            let points = redate(&catalogue, &mut layout, self.look.now());
            if points > 0 {
                self.put_next_layout(&catalogue, layout)?;
                changed += points;
            }
        }
        Ok(changed)
    }
}

/// Gives the accepted points of a source their times by this clock; how many changed.
pub(super) fn redate(catalogue: &Catalogue, layout: &mut Layout, now: Timestamp) -> u64 {
    let points = catalogue.points().iter().chain(catalogue.partial_points());
    let captured: HashMap<PointLink, Timestamp> =
        points.map(|point| (point.link, point.common.capture_start)).collect();
    let dated: Vec<Dated> = layout
        .accepted
        .iter()
        .map(|accepted| Dated {
            time: accepted.retention_time,
            captured: captured.get(&accepted.link).copied(),
        })
        .collect();
    let mut changed = 0;
    for (accepted, time) in layout.accepted.iter_mut().zip(redated(now, &dated)) {
        changed += u64::from(accepted.retention_time != time);
        accepted.retention_time = time;
    }
    changed
}
