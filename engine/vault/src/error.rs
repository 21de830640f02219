//! Why something on a vault failed. Every error names the object and the place.

use std::sync::Arc;

use backstay_core::id::{ChunkId, DomainId, PointId, SessionId, SignerKey, SourceId};
use backstay_core::layout::StackError;

use crate::index::SegmentError;
use crate::keys::MissingKey;
use crate::malformed::Malformed;
use crate::store::{Operation, StoreError, StoreErrorKind};
use crate::table::TableError;

/// A failed operation on a vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing that looks like a vault.
    #[error(
        "there is no vault in {place}: it has no format/ object; mount the disk it is on, correct the path, or make one with `backstay vault init`"
    )]
    NoVault {
        /// The store.
        place: String,
    },
    /// There is one already.
    #[error("there is a vault in {place} already; nothing was changed")]
    AlreadyThere {
        /// The store.
        place: String,
    },
    /// The keys at hand are not this vault's.
    #[error(
        "the vault in {place} belongs to key domain {found}, the keys at hand to {expected}: wrong key; use the bundle of its fleet (`age -d -i IDENTITY keys/NAME.age`)"
    )]
    WrongKey {
        /// The store.
        place: String,
        /// Domain of the vault.
        found: DomainId,
        /// Domain of the keys.
        expected: DomainId,
    },
    /// Made by a later version.
    #[error(
        "the vault in {place} needs {needs}, which this backstay does not have; install a newer backstay"
    )]
    Newer {
        /// The store.
        place: String,
        /// What is needed.
        needs: String,
    },
    /// Made by an earlier version, before the format was settled.
    #[error(
        "the vault in {place} was made by an earlier version of backstay, from before the format was settled, and is of another form; restore from it with that version, and make a new vault"
    )]
    Older {
        /// The store.
        place: String,
    },
    /// An object is not what it should be.
    #[error("{object} in {place} is damaged: {cause}; run `backstay vault check` to see what that affects")]
    Damaged {
        /// Name of the object.
        object: String,
        /// The store.
        place: String,
        /// What is wrong.
        cause: Malformed,
    },
    /// An object was written by somebody who may not.
    #[error(
        "{object} in {place} is signed by {signer}, which may not write it: it is left out; see `trust/`"
    )]
    Untrusted {
        /// Name of the object.
        object: String,
        /// The store.
        place: String,
        /// Who signed it.
        signer: SignerKey,
    },
    /// A file of the local index turned out damaged while something went through all of it. It is made anew from the
    /// vault: the same call goes through again.
    #[error("a file of the local index was thrown away: {0}; it is made anew from the vault, try again")]
    LocalIndex(#[from] SegmentError),
    /// A chunk cannot be had from anywhere.
    #[error(
        "chunk {chunk} cannot be had from {place}: {cause}; run `backstay vault check`, or restore from another vault"
    )]
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// The store.
        place: String,
        /// Why: not indexed, or what was wrong at the last place tried.
        cause: String,
    },
    /// A point has no complete stack of runs.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A point is not there.
    #[error("there is no point {point} in {place}; `backstay points` lists those that are")]
    NoPoint {
        /// The point.
        point: PointId,
        /// The store.
        place: String,
    },
    /// A block of a run is not what it should be.
    #[error("{0}")]
    Table(String),
    /// What was written in the place of a run does not stand for the same.
    #[error(
        "a run that was to take the place of an equal one in {place} does not stand for the same, {cause}: it is left out, and the one before stays; run `backstay vault check`, and test the memory of this machine"
    )]
    Unequal {
        /// The store.
        place: String,
        /// What is not equal.
        cause: &'static str,
    },
    /// The custodian gave the session up for dead.
    #[error(
        "the commit {session} took so long that it was given up for dead; nothing of it counts, capture again"
    )]
    Fenced {
        /// The session.
        session: SessionId,
    },
    /// Two collections have begun since the session was opened: its fence may be gone again.
    #[error(
        "two collections have begun in {place} while the commit {session} was under way: nothing of it is acknowledged, capture again; look why it took so long, or for a second custodian"
    )]
    Overtaken {
        /// The session.
        session: SessionId,
        /// The store.
        place: String,
    },
    /// A collection began each time that a session was opened.
    #[error(
        "a collection has begun in {place} each time a commit was opened: nothing was written, it will be tried again; look for two custodians"
    )]
    Collecting {
        /// The store.
        place: String,
    },
    /// Somebody else has committed a point of the source meanwhile.
    #[error(
        "the source has another newest point in {place} than this capture goes on from; it is captured again from there"
    )]
    CursorMoved {
        /// The store.
        place: String,
    },
    /// The newest point of a source changed each time it was pinned.
    #[error(
        "the newest point of source {source_id} in {place} changes again and again: nothing was written, it will be tried again; look for two nodes that capture the same source"
    )]
    Unsettled {
        /// The source.
        source_id: SourceId,
        /// The store.
        place: String,
    },
    /// The node is not in the vault's trust list, or may not write the source.
    #[error(
        "node {node} may not write {source_name} to the vault in {place}: its `trust/` names other nodes, other keys or other sources; if the node was built anew, `backstay vault init VAULT --recovery FILE` on it has the vault know it again; else bring back the node.state with which the vault was made"
    )]
    MayNotWrite {
        /// The node.
        node: String,
        /// The source.
        source_name: String,
        /// The store.
        place: String,
    },
    /// A point that is to be copied is of a node that the other vault does not know.
    #[error(
        "node {node} has captured it with the key {signer}, which `trust/` of the vault in {place} does not list: nobody would believe it there, so it was not copied; a vault that is made by `backstay vault init` while this one can be read lists the nodes of this one"
    )]
    UnknownAuthor {
        /// The node.
        node: String,
        /// The key.
        signer: SignerKey,
        /// The store.
        place: String,
    },
    /// Keys or trust have changed since the vault was opened, and what it needs was written by those.
    #[error(
        "keys, or the custodian, of the vault in {place} have changed since this process opened it: run the same command again, which opens it anew"
    )]
    Outdated {
        /// The store.
        place: String,
    },
    /// A store has taken nothing for long, while others of the same capture did.
    #[error(
        "the store in {place} has taken nothing for {seconds} seconds: this capture goes on without it, and it is tried again later; look whether its disk hangs"
    )]
    Stalled {
        /// The store.
        place: String,
        /// How long.
        seconds: u64,
    },
    /// An object would be larger than readers take.
    #[error(
        "{object} would have {bytes} bytes, more than any reader takes: nothing was written; split the source, or keep fewer points"
    )]
    TooLarge {
        /// Name of the object.
        object: String,
        /// How large it would be.
        bytes: usize,
    },
    /// The numbers of a source's points have come to their end.
    #[error(
        "source {source_id} in {place} has a point or head with the greatest number there is, which no honest node writes: no other can follow; see `trust/` for who may write the source, and capture to a new vault"
    )]
    NoNextNumber {
        /// The source.
        source_id: SourceId,
        /// The store.
        place: String,
    },
    /// Another node is custodian.
    #[error(
        "node {node} is not the custodian of the vault in {place}, {custodian} is: nothing is thinned or deleted here; run it there, or make this node custodian with `backstay vault custodian take`"
    )]
    NotCustodian {
        /// The node.
        node: String,
        /// The custodian.
        custodian: String,
        /// The store.
        place: String,
    },
    /// Two have written to `trust/` at once.
    #[error(
        "trust/ of the vault in {place} was written by somebody else at the same time: see with `backstay vault stat` who is custodian now, and try again if it should be another"
    )]
    TrustMoved {
        /// The store.
        place: String,
    },
    /// The store does not list what was just put there.
    #[error(
        "the store in {place} does not list what was just put there: its listings are of an earlier time, and nothing is decided by them; look for a cache or a replica in between"
    )]
    OldListing {
        /// The store.
        place: String,
    },
    /// Something is damaged or unclear, so that nobody can say what is not needed.
    #[error(
        "nothing was thinned or deleted in {place}: {cause}; run `backstay vault check`, and mend it first"
    )]
    NotCollected {
        /// The store.
        place: String,
        /// What is wrong.
        cause: String,
    },
    /// The notes of the custodian, outside the vault, could not be read or written.
    #[error("the custodian's notes in {place}: {cause}; nothing was deleted")]
    Notes {
        /// Where they are.
        place: String,
        /// What went wrong.
        cause: String,
    },
    /// A key that sealing needs is not in the ring.
    #[error(transparent)]
    Key(#[from] MissingKey),
    /// Commits of several sources went together, and failed together.
    #[error("{0}")]
    Together(Arc<VaultError>),
    /// The commit with which another went has no end.
    #[error(
        "the commit with which it went came to no end: no thread could be started for it, or it panicked, which is an error in Backstay; the log tells, and it is captured again"
    )]
    GroupLost,
    /// Another part of the same work failed before; it has the reason.
    #[error("given up because of an error before")]
    GivenUp,
}

impl VaultError {
    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Together(error) => error.is_transient(),
            Self::Fenced { .. }
            | Self::Overtaken { .. }
            | Self::Collecting { .. }
            | Self::CursorMoved { .. }
            | Self::Unsettled { .. }
            | Self::Stalled { .. }
            | Self::GroupLost
            | Self::LocalIndex(_) => true,
            _ => false,
        }
    }

    /// Whether one object is damaged, unreadable or nobody's, and the others may be good.
    pub fn is_of_one_object(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Untrusted { .. } => true,
            Self::Store(error) => error.is_unreadable(),
            Self::Together(error) => error.is_of_one_object(),
            _ => false,
        }
    }

    /// Whether it says of what is stored that it is not as it should be, and other things may be.
    pub fn is_finding(&self) -> bool {
        match self {
            Self::Chunk { .. } | Self::Table(_) | Self::Stack(_) => true,
            Self::Together(error) => error.is_finding(),
            _ => self.is_of_one_object(),
        }
    }

    /// A word for metrics: the class of the error.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Store(error) => match error.kind {
                StoreErrorKind::NoSpace | StoreErrorKind::Quota => "no_space",
                StoreErrorKind::ReadOnly => "read_only",
                StoreErrorKind::Denied => "denied",
                StoreErrorKind::Refused if error.operation == Operation::Delete => "no_delete",
                StoreErrorKind::Refused | StoreErrorKind::Conflict => "refused",
                StoreErrorKind::Gone => "no_vault",
                StoreErrorKind::Transient => "transient",
                StoreErrorKind::Unreachable => "unreachable",
                _ => "store",
            },
            Self::NoVault { .. } | Self::AlreadyThere { .. } => "no_vault",
            Self::WrongKey { .. } | Self::Key(_) | Self::Outdated { .. } => "key",
            Self::Newer { .. } => "newer",
            Self::Older { .. } => "older",
            Self::Damaged { .. }
            | Self::Chunk { .. }
            | Self::Stack(_)
            | Self::Table(_)
            | Self::Unequal { .. } => "damaged",
            Self::Untrusted { .. } | Self::MayNotWrite { .. } | Self::UnknownAuthor { .. } => "untrusted",
            Self::NoPoint { .. } => "no_point",
            Self::Fenced { .. } => "fenced",
            Self::Overtaken { .. } | Self::Collecting { .. } => "collection",
            Self::Unsettled { .. } => "unsettled",
            Self::CursorMoved { .. } => "cursor_moved",
            Self::Stalled { .. } => "stalled",
            Self::TooLarge { .. } => "too_large",
            Self::NoNextNumber { .. } => "damaged",
            Self::NotCustodian { .. } => "not_custodian",
            Self::TrustMoved { .. } => "trust",
            Self::OldListing { .. } => "store",
            Self::NotCollected { .. } => "damaged",
            Self::Notes { .. } | Self::LocalIndex(_) => "state",
            Self::Together(error) => error.class(),
            Self::GroupLost | Self::GivenUp => "given_up",
        }
    }
}

impl From<TableError<VaultError>> for VaultError {
    fn from(error: TableError<VaultError>) -> Self {
        match error {
            TableError::Source(error) => error,
            malformed => Self::Table(malformed.to_string()),
        }
    }
}
