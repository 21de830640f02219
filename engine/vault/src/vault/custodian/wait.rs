//! Whom a pass waits for: commits that may not know what it has announced. One that stands still for a day of the
//! custodian's own time is fenced. Readers are not waited for; what they pin stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backstay_core::id::{PointId, SessionId};
use backstay_core::units::Timestamp;

use super::super::settled::KnownSession;
use super::announce::Announced;
use super::notes::Observed;
use super::{Custodian, Inspection};
use crate::commit_object::{FenceObject, SessionKind, SessionObject, SessionState};
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, StoreErrorKind};

/// How long a session may stand still.
const STILL_SECONDS_MAX: u64 = 24 * 3600;

/// Most time between two looks that counts as having been there.
const LOOK_SECONDS_MAX: u64 = 2 * 3600;

/// Commits that are named one by one.
const AWAITED_MAX: usize = 16;

/// A commit for which a pass waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Its node.
    pub node: String,
    /// The session.
    pub session: SessionId,
    /// When it began.
    pub start: Timestamp,
    /// When it will be given up if it goes on to stand still, seconds of the custodian's time.
    pub given_up_in_seconds: u64,
}

/// What one listing of `sessions/` has shown.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) known: HashMap<SessionId, Arc<KnownSession>>,
    /// Those that are damaged: whose they are, and whether they have ended, nobody can say.
    pub(super) damaged: HashSet<SessionId>,
}

impl Sessions {
    /// Whether there is any of which a layout has to speak, or that is to go. A reader that is alive is neither.
    pub(super) fn have_something_to_decide(&self) -> bool {
        let is_living_reader = |session: &SessionObject| {
            session.kind == SessionKind::Reader && session.state == SessionState::Open
        };
        !self.damaged.is_empty() || self.known.values().any(|known| !is_living_reader(&known.object))
    }

    /// Points that readers, and commits that are under way, need.
    pub(super) fn pins(&self, fences: &Fences) -> HashSet<PointId> {
        self.open(fences).flat_map(|session| session.pins.iter().copied()).collect()
    }

    /// Those that have neither ended nor been fenced.
    pub(super) fn open(&self, fences: &Fences) -> impl Iterator<Item = &SessionObject> {
        self.known.values().map(|known| &known.object).filter(|session| {
            session.state == SessionState::Open && !fences.known.contains_key(&session.session)
        })
    }
}

/// What one listing of `fences/` has shown.
#[derive(Debug, Default)]
pub(super) struct Fences {
    pub(super) known: HashMap<SessionId, FenceObject>,
}

impl Inspection<'_> {
    /// Reads all sessions. One that nobody may have written protects nothing.
    pub(super) fn list_sessions(&self) -> Result<Sessions, VaultError> {
        let mut sessions = Sessions::default();
        let listed = self.vault().list(&Folder::new(&[&"ledger", &"sessions"]))?;
        let mut unknown = Vec::new();
        for listed in &listed {
            let Named::Session(id) = listed.named else { continue };
            // What has ended stays so: its object is not written any more.
            match self.ended().get(&id) {
                Some(ended) => drop(sessions.known.insert(id, Arc::clone(ended))),
                None => unknown.push(listed),
            }
        }
        self.vault().get_each(unknown, |listed, object| {
            let Named::Session(id) = listed.named else { return Ok(()) };
            let session = object.map_err(VaultError::from);
            match session.and_then(|object| self.vault().session_in(&listed.name, id, &object)) {
                Ok(session) => {
                    let session = Arc::new(session);
                    if session.object.state != SessionState::Open {
                        self.ended().insert(id, Arc::clone(&session));
                    }
                    sessions.known.insert(id, session);
                }
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(error @ VaultError::Damaged { .. }) => {
                    tracing::warn!(%error, "to be fenced");
                    sessions.damaged.insert(id);
                }
                Err(VaultError::Store(error)) if error.kind == StoreErrorKind::TooLarge => {
                    tracing::warn!(%error, "to be fenced");
                    sessions.damaged.insert(id);
                }
                Err(error @ VaultError::Untrusted { .. }) => tracing::warn!(%error, "left out"),
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(sessions)
    }

    /// Reads all fences.
    pub(super) fn list_fences(&self) -> Result<Fences, VaultError> {
        let mut fences = Fences::default();
        for listed in self.vault().list(&Folder::new(&[&"fences"]))? {
            let Named::Fence(id) = listed.named else { continue };
            match self.vault().fence_object(&listed) {
                Ok(fence) => drop(fences.known.insert(id, fence)),
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                // Also one that cannot be read ends its session: for which sources, is not known.
                Err(error) => return Err(error),
            }
        }
        Ok(fences)
    }
}

impl Custodian<'_> {
    /// The commits that began before the pass and have neither ended nor been fenced.
    pub(super) fn wait_for(
        &mut self,
        sessions: &Sessions,
        pass: &Announced,
    ) -> Result<Vec<Awaited>, VaultError> {
        let fences = self.look.list_fences()?;
        let now = self.look.now();
        for session in sessions.damaged.iter().filter(|session| !fences.known.contains_key(session)) {
            // A writer heeds a fence whatever it says: a commit under way is not acknowledged, and done again.
            let newest = self.vault.newest_collection()?;
            self.vault.fence_damaged(&self.identity, *session, newest, now)?;
        }
        let mut awaited = Vec::new();
        for (session, still_seconds) in self.watch(sessions, &fences)? {
            if session.kind == SessionKind::Writer && session.collection < pass.number {
                awaited.push(Awaited {
                    node: session.node.clone(),
                    session: session.session,
                    start: session.start,
                    given_up_in_seconds: STILL_SECONDS_MAX - still_seconds,
                });
            }
        }
        awaited.truncate(AWAITED_MAX);
        Ok(awaited)
    }

    /// Looks at the sessions that are open, and fences those that have stood still for too long, of readers too. Returns
    /// the others, oldest first, and for how many seconds each has stood still.
    pub(super) fn watch<'s>(
        &mut self,
        sessions: &'s Sessions,
        fences: &Fences,
    ) -> Result<Vec<(&'s SessionObject, u64)>, VaultError> {
        let now = self.look.now();
        let before: HashMap<SessionId, Observed> =
            self.notes.observed.drain(..).map(|observed| (observed.session, observed)).collect();
        let mut living = Vec::new();
        let mut open: Vec<&SessionObject> = sessions.open(fences).collect();
        open.sort_by_key(|session| (session.start, session.session));
        for session in open {
            let observed = look(before.get(&session.session), session, now);
            if observed.still_seconds >= STILL_SECONDS_MAX {
                self.vault.fence(&self.identity, session, now, "it has shown no sign of life for a day")?;
                tracing::warn!(session = %session.session, node = session.node, "given up for dead");
                continue;
            }
            living.push((session, observed.still_seconds));
            self.notes.observed.push(observed);
        }
        self.note()?;
        Ok(living)
    }
}

/// What is known of a session after one more look. Only time that passed while somebody looked counts: a custodian that
/// was down has not seen that nobody was alive.
fn look(before: Option<&Observed>, session: &SessionObject, now: Timestamp) -> Observed {
    let still_seconds = match before.filter(|before| before.counter == session.counter) {
        Some(before) => {
            let since = now.duration_since(before.seen).as_secs().min(LOOK_SECONDS_MAX);
            before.still_seconds.saturating_add(since)
        }
        None => 0,
    };
    Observed { session: session.session, counter: session.counter, seen: now, still_seconds }
}
