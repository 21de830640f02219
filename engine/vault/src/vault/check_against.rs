//! Comparing a vault with what the heads in another one say of it: a store that serves last month's list looks whole.

use std::sync::Arc;

use super::{CheckReport, Vault};
use crate::error::VaultError;

impl Vault {
    /// Names every source of which the other vault has seen a newer point here than there is.
    pub fn check_against(self: &Arc<Self>, other: &Vault) -> Result<CheckReport, VaultError> {
        if other.format().domain != self.format().domain {
            let (found, expected) = (other.format().domain, self.format().domain);
            return Err(VaultError::WrongKey { place: other.place(), found, expected });
        }
        let mut report = CheckReport::default();
        for theirs in other.catalogues()? {
            let Some((_, head)) = &theirs.head else { continue };
            let Some(seen) = head.targets.iter().find(|target| target.vault == self.id()) else { continue };
            let own = self.catalogue(theirs.source)?;
            let ends_at = own.newest().map_or(0, |point| point.common.sequence);
            if ends_at < seen.sequence && !own.has_object(seen.point) {
                let known = theirs.newest().or(own.newest());
                let source = match known {
                    Some(point) => point.common.source_name.clone(),
                    None => format!("source {}", theirs.source),
                };
                let (here, there) = (self.place(), other.place());
                report.add(
                    source,
                    format!(
                        "{here} ends at capture {ends_at}, and by what {there} knows it had {}: its store serves an older state",
                        seen.sequence
                    ),
                );
            }
        }
        Ok(report)
    }
}
