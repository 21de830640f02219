//! The space of one node: where its objects are, how much room they have, and the operations on them that the protocol has.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::id::{DomainId, SignerKey};
use backstay_vault::buffer::BufferPool;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{DirStore, Folder, Operation, StoreError, StoreErrorKind};
use backstay_wire::peer::{Answer, Listed, Reason, Refusal};
use tokio::sync::{Mutex, MutexGuard, OnceCell, OwnedSemaphorePermit, Semaphore, watch};

use super::objects::Opened;
use super::receive::SMALL_BYTES_MAX;
use super::room::{Disks, Purpose, Room, RoomLimits};
use super::rules::{self, NotPermitted};

/// Objects of one page: with the longest names they fit into a message.
const PAGE_ENTRIES_MAX: usize = 400;

/// Changes of names that fall on one of these are made one after the other.
const LOCKS: usize = 64;

/// Small objects that are in memory at once, of all requests, bytes.
const SMALL_BYTES_AT_ONCE: usize = 16 << 20;

/// Objects that come to the disk at once, each with its buffer and its open file.
const LARGE_AT_ONCE: usize = 16;

/// Long objects that are sent at once; others wait for their turn.
const SENT_AT_ONCE: usize = 16;

/// Listings at once: each reads whole folders.
const LISTS_AT_ONCE: usize = 2;

/// When to try again what was too much at once.
const BUSY_FOR: Duration = Duration::from_millis(500);

/// Free buffers that are kept for objects that come in pieces.
const BUFFERS_KEPT: usize = 8;

/// Who writes in a space, as the roster knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// The key by which the node signs.
    pub signer: SignerKey,
    /// The key that signs `format/` and `trust/`.
    pub admin: SignerKey,
    /// The key domain of the vault.
    pub domain: DomainId,
}

/// The space of one node.
#[derive(Debug)]
pub struct Space {
    pub(super) store: DirStore,
    pub(super) room: Arc<Room>,
    pub(super) pool: BufferPool,
    /// Permits for bytes of small objects in memory.
    small: Arc<Semaphore>,
    /// Permits for objects that come to the disk in pieces.
    pub(super) large: Semaphore,
    /// Permits for long objects that are sent.
    sent: Arc<Semaphore>,
    /// Permits for listings.
    lists: Semaphore,
    counted: OnceCell<()>,
    locks: [Mutex<()>; LOCKS],
    /// How many points and heads have come.
    pub(super) commits: watch::Sender<u64>,
}

impl Space {
    /// The space in this store.
    pub fn new(store: DirStore, limits: RoomLimits, disks: Disks) -> Self {
        let room = Arc::new(Room::new(store.root().to_path_buf(), limits, disks));
        let small = Arc::new(Semaphore::new(SMALL_BYTES_AT_ONCE));
        let (large, lists) = (Semaphore::new(LARGE_AT_ONCE), Semaphore::new(LISTS_AT_ONCE));
        let sent = Arc::new(Semaphore::new(SENT_AT_ONCE));
        let locks = std::array::from_fn(|_| Mutex::new(()));
        let (pool, counted) = (BufferPool::new(BUFFERS_KEPT), OnceCell::new());
        let commits = watch::Sender::new(0);
        Self { store, room, pool, small, large, sent, lists, counted, locks, commits }
    }

    /// Changes when its node has captured something: a point or a head has come.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// How much room there is; counted anew after somebody else has written or deleted.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Opens an object to send it, or a stretch of it.
    pub(crate) async fn open(&self, name: &str, stretch: Option<(u64, u64)>) -> Result<Opened, Refusal> {
        let (name, named) = parse(name)?;
        if stretch.is_some() || !rules::is_small(&named) {
            return Opened::find(&self.store, name, stretch).await?.in_turn(&self.sent).await;
        }
        let length = self.store.length(&name).await.map_err(refusal_of)?;
        if length > SMALL_BYTES_MAX {
            let text = format!("{name} has {length} bytes, more than any of its kind");
            return Err(Refusal { reason: Reason::TooLarge, text, retry_after: None });
        }
        let memory = self.memory_for(length).ok_or_else(|| busy("too much is read at once"))?;
        Opened::find_renewed(&self.store, name, memory).await
    }

    /// A page of what is below a folder.
    pub(crate) async fn list(&self, folder: &str, after: Option<&str>) -> Result<Answer, Refusal> {
        let folder = Folder::parse(folder)
            .ok_or_else(|| malformed(format!("{:?} is no folder of objects", excerpt(folder))))?;
        let after = after.map(parse).transpose()?.map(|(name, _)| name);
        let _turn = self.lists.acquire().await;
        let page = self.store.page(&folder, after.as_ref(), PAGE_ENTRIES_MAX).await.map_err(refusal_of)?;
        let entries = page.entries.into_iter();
        let entries = entries.map(|listed| Listed { name: listed.name.to_string(), bytes: listed.bytes });
        Ok(Answer::Page { entries: entries.collect(), has_more: page.has_more })
    }

    /// How much room there is.
    pub(crate) async fn tell_room(&self) -> Result<Answer, Refusal> {
        self.count_once().await?;
        let room = Arc::clone(&self.room);
        let told = tokio::task::spawn_blocking(move || room.free_and_used()).await;
        match told {
            Ok(Ok((free_bytes, used_bytes))) => Ok(Answer::Room { free_bytes, used_bytes }),
            Ok(Err(error)) => Err(fault(format!("the holder cannot see its disk: {error}"))),
            Err(_) => Err(fault("the holder is stopping".to_owned())),
        }
    }

    /// Memory for a small object, if there is some.
    pub(super) fn memory_for(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(length).ok()?;
        Arc::clone(&self.small).try_acquire_many_owned(bytes).ok()
    }

    /// Waits until it is this request's turn to change a name.
    pub(super) async fn turn(&self, name: &ObjectName) -> MutexGuard<'_, ()> {
        let place = blake3::hash(name.as_str().as_bytes()).as_bytes()[0];
        self.locks[usize::from(place) % LOCKS].lock().await
    }

    /// Counts what is there before the first object comes.
    pub(super) async fn count_once(&self) -> Result<(), Refusal> {
        let count = async || {
            let room = Arc::clone(&self.room);
            match tokio::task::spawn_blocking(move || if room.is_counted() { Ok(()) } else { room.count() })
                .await
            {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(fault(format!("the holder cannot count what is there: {error}"))),
                Err(_) => Err(fault("the holder is stopping".to_owned())),
            }
        };
        self.counted.get_or_try_init(count).await.copied()
    }
}

/// Which purpose an object has, as far as room is concerned: what ends a commit is small, and without it what is there already
/// would be worth nothing.
pub(super) fn purpose(named: &Named) -> Purpose {
    match named {
        Named::Session(_) | Named::Fence(_) | Named::Point(..) | Named::Head(..) | Named::Journal(..) => {
            Purpose::Reserved
        }
        _ => Purpose::Other,
    }
}

/// Takes a name apart.
pub(super) fn parse(name: &str) -> Result<(ObjectName, Named), Refusal> {
    ObjectName::parse(name).ok_or_else(|| malformed(format!("{:?} is no name of an object", excerpt(name))))
}

/// The beginning of what somebody has sent, for a message.
fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

pub(super) fn denied(name: &ObjectName, why: NotPermitted) -> Refusal {
    Refusal { reason: Reason::Denied, text: format!("{name}: {}", why.text()), retry_after: None }
}

pub(super) fn malformed(text: String) -> Refusal {
    Refusal { reason: Reason::Malformed, text, retry_after: None }
}

pub(super) fn busy(what: &str) -> Refusal {
    Refusal { reason: Reason::Busy, text: format!("{what}: try again"), retry_after: Some(BUSY_FOR) }
}

pub(super) fn fault(text: String) -> Refusal {
    Refusal { reason: Reason::Fault, text, retry_after: None }
}

/// What the other side is told of an error of the holder's store. Its path is none of its business.
pub(super) fn refusal_of(error: StoreError) -> Refusal {
    if matches!(error.operation, Operation::Put | Operation::Append) && error.is_not_found() {
        let text = "the folder in which the holder is to keep this is not there, and its disk may not be mounted: `backstay doctor` on the holder says which one";
        return Refusal { reason: Reason::Fault, text: text.to_owned(), retry_after: None };
    }
    let reason = match error.kind {
        StoreErrorKind::NotFound => Reason::NotFound,
        StoreErrorKind::Truncated => Reason::Truncated,
        StoreErrorKind::TooLarge => Reason::TooLarge,
        StoreErrorKind::Conflict => Reason::Exists,
        StoreErrorKind::NoSpace | StoreErrorKind::Quota => Reason::Full,
        StoreErrorKind::ReadOnly
        | StoreErrorKind::Denied
        | StoreErrorKind::Gone
        | StoreErrorKind::Refused
        | StoreErrorKind::Transient
        | StoreErrorKind::Unreachable
        | StoreErrorKind::Permanent => Reason::Fault,
    };
    Refusal { reason, text: format!("{}: {}", error.object, error.cause), retry_after: None }
}
