//! Group commit (docs/format.md, section 10): commits to one vault that are ready at about the same time wait for each other for a
//! few seconds, and go together: one session, packs and an index that they share, one question at the end. Owns who waits for whom;
//! what a commit is and when it is acknowledged is the session's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_core::clock::Clock;

use super::{Acknowledged, HeadDraft, PointDraft, Session, Vault};
use crate::error::VaultError;
use crate::write::Written;

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

/// Who waits is told here what became of his commit.
type Told = SyncSender<Result<Acknowledged, VaultError>>;

/// A commit that waits.
#[derive(Debug)]
struct Member {
    session: Session,
    written: Written,
    points: Vec<PointDraft>,
    heads: Vec<HeadDraft>,
    told: Told,
}

/// Commits that go by one session.
#[derive(Debug)]
struct Group {
    session: Session,
    written: Written,
    points: Vec<PointDraft>,
    heads: Vec<HeadDraft>,
    /// With how many points are theirs, in order.
    told: Vec<(Told, usize)>,
}

/// What became of a commit that goes with others is said here.
#[derive(Debug)]
pub struct Awaiting(Receiver<Result<Acknowledged, VaultError>>);

impl Awaiting {
    /// Waits for it.
    pub fn wait(self) -> Result<Acknowledged, VaultError> {
        // Nobody is left who would say it.
        self.0.recv().unwrap_or(Err(VaultError::GroupLost))
    }
}

impl Session {
    /// Commits together with others of the same vault: after so long at the latest, when there is enough for a pack, or when
    /// [`Vault::close_group`] says that nobody else comes.
    pub fn commit_with_others(
        self,
        written: Written,
        points: Vec<PointDraft>,
        heads: Vec<HeadDraft>,
        clock: Arc<dyn Clock>,
        wait: Duration,
    ) -> Awaiting {
        let vault = Arc::clone(self.vault());
        let (told, awaiting) = sync_channel(1);
        let member = Member { session: self, written, points, heads, told };
        let mut gathering = vault.groups.gathering();
        gathering.members.push(member);
        let number = gathering.number;
        let members = if gathering.is_whole() { gathering.take() } else { Vec::new() };
        drop(gathering);
        if !members.is_empty() {
            start(members, &clock);
            return Awaiting(awaiting);
        }
        // Each has its own patience; the shortest counts for all.
        let waiting = Arc::clone(&vault);
        vault.io.spawn(async move {
            tokio::time::sleep(wait).await;
            let mut gathering = waiting.groups.gathering();
            let members = if gathering.number == number { gathering.take() } else { Vec::new() };
            drop(gathering);
            start(members, &clock);
        });
        Awaiting(awaiting)
    }
}

impl Vault {
    /// Has those that wait commit now.
    pub fn close_group(&self, clock: &Arc<dyn Clock>) {
        let members = self.groups.gathering().take();
        start(members, clock);
    }

    /// Whether any commit waits for others.
    pub fn gathers(&self) -> bool {
        !self.groups.gathering().members.is_empty()
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

/// Each group on a thread of its own: it blocks, and none of those that wait shall have to do it, since each has other vaults to
/// wait for.
fn start(members: Vec<Member>, clock: &Arc<dyn Clock>) {
    for group in groups_of(members) {
        let clock = Arc::clone(clock);
        let commit = move || {
            // Its members learn that nobody is left to tell them.
            let _ = catch_unwind(AssertUnwindSafe(|| group.commit(&*clock)));
        };
        if let Err(error) = std::thread::Builder::new().name("group commit".into()).spawn(commit) {
            tracing::warn!(%error, "no thread for a commit; raise the limit on tasks (TasksMax= of the unit, ulimit -u)");
        }
    }
}

/// Those that have read the same go by one session.
fn groups_of(members: Vec<Member>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for Member { session, written, points, heads, told } in members {
        let mut alone = Some(session);
        let taken = groups.iter_mut().find(|group| {
            alone = alone.take().and_then(|session| group.session.take_in(session).err());
            alone.is_none()
        });
        match (taken, alone) {
            (Some(group), _) => {
                group.written.append(written);
                group.told.push((told, points.len()));
                group.points.extend(points);
                group.heads.extend(heads);
            }
            (None, Some(session)) => {
                let told = vec![(told, points.len())];
                groups.push(Group { session, written, points, heads, told });
            }
            (None, None) => {}
        }
    }
    groups
}

impl Group {
    fn commit(self, clock: &dyn Clock) {
        let Self { session, written, points, heads, told } = self;
        tracing::debug!(commits = told.len(), place = session.vault().place(), "commits go together");
        let outcome = session.commit(written, &points, &heads, clock);
        let mut outcome = outcome.map(|acknowledged| acknowledged.points.into_iter()).map_err(Arc::new);
        for (told, points) in told {
            let of_it = match &mut outcome {
                Ok(links) => Ok(Acknowledged { points: links.take(points).collect() }),
                Err(error) => Err(VaultError::Together(Arc::clone(error))),
            };
            // Nobody waits any more where the capture has panicked.
            let _ = told.send(of_it);
        }
    }
}
