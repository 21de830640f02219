//! The seam to where objects are: five operations and nothing more (docs/format.md, section 1).
//! Owns the trait, its errors and its limits. What is in the objects is none of a store's business.

mod count;
mod dir;
mod glance;
mod mem;
mod pace;
mod retry;
mod trash;
mod versions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use count::{Counted, RequestCounts, RequestObserver};
pub use dir::{Arriving, DirStore, Disk, Page, SystemDisk, Writing};
pub use glance::{GLANCE_MAX, Glance};
pub use mem::MemStore;
pub use pace::{Pace, Way};
pub use retry::{Retried, RetryPolicy};
pub use trash::{Trashed, is_kept};
pub use versions::{VERSIONS_MAX, Version};

use crate::name::{Named, ObjectName};

/// Greatest object that is read or written whole, bytes.
pub const OBJECT_BYTES_MAX: u64 = 128 << 20;

/// Most that is appended at once, bytes.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;

/// Most objects that one listing returns.
pub const LISTING_MAX: usize = 4_000_000;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// What the name says.
    pub named: Named,
    /// Its length, bytes.
    pub bytes: u64,
}

/// A stretch of an object, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// What can be listed: a folder of names, never a partial name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(String);

impl Folder {
    /// One of the top folders, such as `index`, or a folder below it, such as `packs/ab`.
    pub fn new(parts: &[&dyn fmt::Display]) -> Self {
        Self(parts.iter().map(|part| format!("{part}/")).collect())
    }

    /// Takes a text for a folder, if names of objects can be below it: those of a vault's top folders, and those below them.
    pub fn parse(text: &str) -> Option<Self> {
        const TOPS: [&str; 13] = [
            "format", "trust", "keys", "packs", "index", "points", "layout", "heads", "ledger", "fences",
            "bad", "proofs", "journal",
        ];
        let mut parts = text.strip_suffix('/')?.split('/');
        let top = parts.next().filter(|top| TOPS.contains(top))?;
        // The branches of a journal are a level of their own.
        let (below, branch) = (parts.next(), parts.next());
        let is_plain = |part: &str| {
            let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            matches!(
                (top, part.len()),
                ("packs", 2) | ("points" | "layout" | "heads" | "proofs" | "journal", 32)
            ) && part.bytes().all(plain)
                || top == "ledger" && matches!(part, "gc" | "sessions")
        };
        let is_branch = |part: &str| top == "journal" && is_plain(part);
        (below.is_none_or(is_plain) && branch.is_none_or(is_branch) && parts.next().is_none())
            .then(|| Self(text.to_owned()))
    }

    /// The common beginning of the names, with a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where objects are. Every store has read-after-write and list-after-write consistency, and
/// passes the conformance suite of the testkit.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Whether its requests are paid for one by one.
    fn requests_cost(&self) -> bool {
        false
    }

    /// Writes an object whole. When this returns the object is durable, and a reader has seen either
    /// nothing or all of it. Writing a name again replaces its content.
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError>;

    /// Reads an object whole, up to [`OBJECT_BYTES_MAX`].
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError>;

    /// Reads a stretch of an object; one that reaches past its end is [`StoreErrorKind::Truncated`].
    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError>;

    /// Lists the objects below a folder in order of name, up to [`LISTING_MAX`]. Foreign names are left out.
    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError>;

    /// What one request shows of all names, where requests cost. Nothing where a store does not do that, or cannot say how far it
    /// has come. What is put or deleted meanwhile may be in it or not, each object by itself.
    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        Ok(None)
    }

    /// Deletes an object; that it is not there is no error.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Deletes objects, in no order; those that are not there are no error. When this returns all are gone durably; when it
    /// fails, some may be. A store may be much quicker with many at once.
    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        for name in names {
            self.delete(name).await?;
        }
        Ok(())
    }

    /// Appends to an object of a journal, up to [`APPEND_BYTES_MAX`]; with the first of it the object is there. When this returns
    /// the content is at this offset, durably. What is there from this offset on must be the same, as far as it goes, or this is
    /// [`StoreErrorKind::Conflict`]; where something is missing before it, for longer than it makes sense to wait for that,
    /// [`StoreErrorKind::Truncated`]. Whoever appends several at once counts what was acknowledged without a gap. Stores that
    /// cannot append refuse.
    async fn append(&self, name: &ObjectName, _: u64, _: Bytes) -> Result<(), StoreError> {
        Err(StoreError {
            operation: Operation::Append,
            object: name.to_string(),
            place: self.place(),
            kind: StoreErrorKind::Refused,
            cause: "a store of this kind cannot append".to_owned(),
        })
    }

    /// What was deleted and can be brought back, in order of name; nothing where a store keeps no trash.
    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        Ok(Vec::new())
    }

    /// Brings a deleted object back to its name, durably. One that is there stays as it is, and what is not in the trash
    /// any more is [`StoreErrorKind::NotFound`].
    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        Err(trash::keeps_none(self.place(), trashed))
    }

    /// What an object was before, newest first, up to [`VERSIONS_MAX`]; also of one that was deleted. Nothing where a store keeps
    /// none, or where nobody may ask.
    async fn versions(&self, _: &ObjectName) -> Result<Vec<Version>, StoreError> {
        Ok(Vec::new())
    }

    /// Reads a stretch of what an object was before, up to [`OBJECT_BYTES_MAX`].
    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        _: Stretch,
    ) -> Result<Bytes, StoreError> {
        Err(versions::keeps_none(self.place(), name, version))
    }

    /// Clears away what puts have left that were broken off at least so long ago, where that costs room without being an object;
    /// how many.
    async fn clear_unfinished(&self, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Which store this is, for messages: a path or an address.
    fn place(&self) -> String;
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        (**self).put(name, content).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        (**self).get(name).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        (**self).get_range(name, stretch).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        (**self).list(folder).await
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        (**self).glance().await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        (**self).delete(name).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        (**self).delete_all(names).await
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        (**self).append(name, offset, content).await
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        (**self).trash().await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        (**self).bring_back(trashed).await
    }

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        (**self).versions(name).await
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        (**self).get_version(name, version, stretch).await
    }

    async fn clear_unfinished(&self, age: Duration) -> Result<u64, StoreError> {
        (**self).clear_unfinished(age).await
    }

    fn requests_cost(&self) -> bool {
        (**self).requests_cost()
    }

    fn place(&self) -> String {
        (**self).place()
    }
}

/// The operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Store::put`].
    Put,
    /// [`Store::get`].
    Get,
    /// [`Store::get_range`].
    GetRange,
    /// [`Store::list`].
    List,
    /// [`Store::append`].
    Append,
    /// [`Store::delete`].
    Delete,
    /// [`Store::bring_back`].
    BringBack,
}

impl Operation {
    /// As metrics and messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::List => "list",
            Self::Append => "append to",
            Self::Delete => "delete",
            Self::BringBack => "bring back",
        }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// The object is shorter than the stretch that was asked for, or than where something was to be appended.
    Truncated,
    /// Something else is there already.
    Conflict,
    /// The object or listing is larger than the limits allow.
    TooLarge,
    /// The store is full.
    NoSpace,
    /// A quota is reached; what to do, the other side has said.
    Quota,
    /// The store or this part of it cannot be written.
    ReadOnly,
    /// Permission was refused by the system.
    Denied,
    /// The other side does not do it, and has said why.
    Refused,
    /// The place of the store is not what it was: a disk is not mounted any more, or another one is.
    Gone,
    /// A fault that may pass: try again.
    Transient,
    /// It is at another node, which was tried to be reached for as long as it makes sense to wait for it; may be reached later.
    Unreachable,
    /// Another fault of the medium or the system.
    Permanent,
}

/// A failed operation on a store.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// What was tried.
    pub operation: Operation,
    /// Name of the object or folder.
    pub object: String,
    /// Which store.
    pub place: String,
    /// Why, for decisions.
    pub kind: StoreErrorKind,
    /// Why, for people.
    pub cause: String,
}

impl std::error::Error for StoreError {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, object, place, kind, cause } = self;
        // What was asked of a node that is not there says nothing: the cause names the node.
        if *kind == StoreErrorKind::Unreachable {
            return f.write_str(cause);
        }
        write!(f, "cannot {} {object} in {place}: {cause}{}", operation.as_str(), kind.advice(*operation))
    }
}

impl StoreError {
    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Transient | StoreErrorKind::Unreachable)
    }

    /// Whether it is this object that cannot be read, as one on a bad sector: others may be good.
    pub fn is_unreadable(&self) -> bool {
        use StoreErrorKind::{Denied, Permanent, TooLarge, Truncated};
        matches!(self.operation, Operation::Get | Operation::GetRange)
            && matches!(self.kind, Permanent | Denied | TooLarge | Truncated)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

impl StoreErrorKind {
    fn advice(self, operation: Operation) -> &'static str {
        match self {
            // The next part of the journal begins another object.
            _ if operation == Operation::Append && matches!(self, Self::Truncated | Self::Conflict) => "",
            Self::NotFound | Self::Truncated => "; run `backstay vault check` to see what is damaged",
            Self::NoSpace => {
                "; free space there or move the vault to a larger disk, nothing that was acknowledged is lost"
            }
            Self::ReadOnly => {
                "; mount it writable (`mount -o remount,rw …`), or look in the kernel log for why it became read-only"
            }
            Self::Gone => "; mount the disk of the vault again. Nothing is written in its place",
            Self::Denied => "; give the user that runs backstay access to it",
            Self::TooLarge
            | Self::Quota
            | Self::Conflict
            | Self::Refused
            | Self::Unreachable
            | Self::Transient
            | Self::Permanent => "",
        }
    }
}
