//! Group commit (docs/format.md, section 10): commits to one vault that are ready at about the same time wait for each other for a
//! few seconds, and go together: one session, packs and an index that they share, one question at the end. Owns who waits for whom
//! and for how long; what a commit is and when it is acknowledged is the session's.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_core::clock::Clock;

use super::{Acknowledged, HeadDraft, PointDraft, Session, Vault};
use crate::error::VaultError;
use crate::write::Written;

/// The first waits no longer for others.
pub const GROUP_TIME: Duration = Duration::from_secs(5);

/// Commits that go together at most.
pub const GROUP_MEMBERS_MAX: usize = 32;

/// Bytes of records after which nobody else is waited for: a full pack.
const GROUP_BYTES_MAX: usize = 32 << 20;

/// Those that wait now.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Gathering>);

#[derive(Debug, Default)]
struct Gathering {
    /// Rises with each group.
    number: u64,
    members: Vec<Member>,
}

/// A commit that waits.
#[derive(Debug)]
struct Member {
    session: Session,
    written: Written,
    points: Vec<PointDraft>,
    heads: Vec<HeadDraft>,
    told: SyncSender<Result<Acknowledged, VaultError>>,
}

/// What became of a commit that goes with others is said here.
#[derive(Debug)]
pub struct Awaiting(Receiver<Result<Acknowledged, VaultError>>);

impl Awaiting {
    /// Waits for it.
    pub fn wait(self) -> Result<Acknowledged, VaultError> {
        self.0.recv().unwrap_or(Err(VaultError::GivenUp))
    }
}

impl Session {
    /// Commits together with others of the same vault: after [`GROUP_TIME`] at the latest, when there is enough for a pack, or when
    /// [`Vault::close_group`] says that nobody else comes.
    pub fn commit_with_others(
        self,
        written: Written,
        points: Vec<PointDraft>,
        heads: Vec<HeadDraft>,
        clock: Arc<dyn Clock>,
    ) -> Awaiting {
        let vault = Arc::clone(self.vault());
        let (told, awaiting) = sync_channel(1);
        let member = Member { session: self, written, points, heads, told };
        let mut gathering = vault.groups.gathering();
        let is_first = gathering.members.is_empty();
        gathering.members.push(member);
        let number = gathering.number;
        let members = if gathering.is_whole() { gathering.take() } else { Vec::new() };
        drop(gathering);
        if !members.is_empty() {
            vault.start_group(members, clock);
        } else if is_first {
            let waiting = Arc::clone(&vault);
            vault.io.spawn(async move {
                tokio::time::sleep(GROUP_TIME).await;
                let mut gathering = waiting.groups.gathering();
                let members = if gathering.number == number { gathering.take() } else { Vec::new() };
                drop(gathering);
                waiting.start_group(members, clock);
            });
        }
        Awaiting(awaiting)
    }
}

impl Vault {
    /// Has those that wait commit now.
    pub fn close_group(self: &Arc<Self>, clock: Arc<dyn Clock>) {
        let members = self.groups.gathering().take();
        self.start_group(members, clock);
    }

    fn start_group(self: &Arc<Self>, members: Vec<Member>, clock: Arc<dyn Clock>) {
        if !members.is_empty() {
            // It blocks, and none of those that wait shall have to do it: each has other vaults to wait for.
            self.io.spawn_blocking(move || commit_all(members, &*clock));
        }
    }
}

impl Groups {
    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    fn is_whole(&self) -> bool {
        let bytes: usize = self.members.iter().map(|member| member.written.withheld_bytes()).sum();
        self.members.len() >= GROUP_MEMBERS_MAX || bytes >= GROUP_BYTES_MAX
    }

    fn take(&mut self) -> Vec<Member> {
        self.number += 1;
        std::mem::take(&mut self.members)
    }
}

/// Those that have read the same by one session, the others each by its own.
fn commit_all(members: Vec<Member>, clock: &dyn Clock) {
    let mut members = members.into_iter();
    let Some(Member { session, mut written, mut points, mut heads, told }) = members.next() else { return };
    let (mut group, mut alone) = (vec![(told, points.len())], Vec::new());
    for member in members {
        match session.take_in(member.session) {
            Ok(()) => {
                written.append(member.written);
                group.push((member.told, member.points.len()));
                points.extend(member.points);
                heads.extend(member.heads);
            }
            Err(session) => alone.push(Member { session, ..member }),
        }
    }
    tracing::debug!(commits = group.len(), alone = alone.len(), "commits go together");
    let outcome = session.commit(written, &points, &heads, clock);
    tell_all(group, outcome);
    for Member { session, written, points, heads, told } in alone {
        // Nobody waits any more where the capture has ended otherwise.
        let _ = told.send(session.commit(written, &points, &heads, clock));
    }
}

/// Each member its own points.
fn tell_all(
    group: Vec<(SyncSender<Result<Acknowledged, VaultError>>, usize)>,
    outcome: Result<Acknowledged, VaultError>,
) {
    let mut outcome = outcome.map(|acknowledged| acknowledged.points.into_iter()).map_err(Arc::new);
    for (told, points) in group {
        let of_it = match &mut outcome {
            Ok(links) => Ok(Acknowledged { points: links.take(points).collect() }),
            Err(error) => Err(VaultError::Together(Arc::clone(error))),
        };
        let _ = told.send(of_it);
    }
}
