//! The part of `vault check` that concerns the protocol of commits and collections: sessions, fences, `gc/` records, lists
//! of what is lost.

use std::collections::HashMap;

use backstay_core::id::SessionId;

use super::settled::KnownSession;
use super::{Catalogue, CheckReport, Vault};
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// The sessions that are listed and can be read.
pub(super) type Sessions = HashMap<SessionId, KnownSession>;

impl Vault {
    /// Reads all of them; returns the sessions.
    pub(super) fn check_commits(&self, report: &mut CheckReport) -> Result<Sessions, VaultError> {
        let mut sessions = Sessions::new();
        for listed in self.list(&Folder::new(&[&"ledger", &"sessions"]))? {
            let Named::Session(id) = listed.named else { continue };
            sessions.extend(noted(self.session(&listed.name, id), &listed, report)?.map(|known| (id, known)));
        }
        for listed in self.list(&Folder::new(&[&"fences"]))? {
            noted(self.fence_object(&listed), &listed, report)?;
        }
        for listed in self.list(&Folder::new(&[&"ledger", &"gc"]))? {
            noted(self.gc_record(&listed), &listed, report)?;
        }
        for listed in self.list(&Folder::new(&[&"bad"]))? {
            noted(self.read_bad_list(&listed), &listed, report)?;
        }
        Ok(sessions)
    }
}

/// Points that say they are of a session which says otherwise.
pub(super) fn check_writers(catalogue: &Catalogue, sessions: &Sessions, report: &mut CheckReport) {
    for point in catalogue.points().iter().chain(catalogue.partial_points()) {
        let session = point.vault_part.session;
        if sessions.get(&session).is_some_and(|known| !known.may_have_written(point)) {
            let what = format!("{} {}", point.common.source_name, point.link.point);
            report.add(what, format!("session {session}, which it names, was not opened for it"));
        }
    }
}

/// What was read; what is damaged or untrusted goes into the report.
pub(super) fn noted<T>(
    read: Result<T, VaultError>,
    listed: &Listed,
    report: &mut CheckReport,
) -> Result<Option<T>, VaultError> {
    match read {
        Ok(value) => Ok(Some(value)),
        // Gone since it was listed.
        Err(VaultError::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) if error.is_of_one_object() => {
            report.add(listed.name.as_str(), error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
