//! The objects by which commits and collections keep out of each other's way: sessions, fences and `gc/` records
//! (docs/format.md, section 10). Owns their shapes; the protocol is the vault's.

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId, PointId, SessionId, SourceId};
use backstay_core::units::Timestamp;
use minicbor::{Decode, Encode};

/// `sessions/<session>`: something is under way that a collection must respect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionObject {
    /// Its name.
    #[n(0)]
    pub session: SessionId,
    /// The node whose it is.
    #[n(1)]
    pub node: String,
    /// Rises with each overwrite, 1 at first.
    #[n(2)]
    pub counter: u64,
    /// How far it is.
    #[n(3)]
    pub state: SessionState,
    /// When it began.
    #[n(4)]
    pub start: Timestamp,
    /// Points that must not go meanwhile.
    #[n(5)]
    pub pins: Vec<PointId>,
    /// The sources of which it may write points.
    #[n(6)]
    pub sources: Vec<SourceId>,
    /// What it is for.
    #[n(7)]
    pub kind: SessionKind,
    /// The newest collection that was listed before this was put for the first time (*m* in the document).
    #[n(8)]
    pub collection: CollectionNumber,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SessionState {
    /// Under way, or left behind.
    #[n(0)]
    Open,
    /// All of it is durable, and counts.
    #[n(1)]
    Acknowledged,
    /// Nothing of it counts.
    #[n(2)]
    GivenUp,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SessionKind {
    /// A commit.
    #[n(1)]
    Writer,
    /// Keeps a point while it is read.
    #[n(2)]
    Reader,
}

/// `fences/<session>`: nothing of the session is acknowledged from now on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FenceObject {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// When it was put.
    #[n(1)]
    pub time: Timestamp,
    /// Why, for people.
    #[n(2)]
    pub reason: String,
    /// The newest collection when the session began.
    #[n(3)]
    pub collection: CollectionNumber,
    /// The sources for which it ends the session: all that the session named.
    #[n(4)]
    pub sources: Vec<SourceId>,
}

/// `gc/<n>-<hash>`: what a collection is about to delete.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GcRecord {
    /// Number of the collection.
    #[n(0)]
    pub number: CollectionNumber,
    /// Term of the custodian that collects.
    #[n(1)]
    pub term: u64,
    /// Packs that nobody may count on any more.
    #[n(2)]
    pub packs: Vec<PackId>,
    /// Index objects of custodians on which writers may count.
    #[n(3)]
    pub index: Vec<ObjectHash>,
    /// Number of the list in `bad/` that is in force, if anything is known to be lost.
    #[n(4)]
    pub bad: Option<u64>,
}

/// `bad/<n>-<hash>`: chunks that points need and that are lost, as far as the custodian knows. The one with the greatest
/// number stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BadList {
    /// Rises with each list.
    #[n(0)]
    pub number: u64,
    /// Term of the custodian.
    #[n(1)]
    pub term: u64,
    /// When it was found.
    #[n(2)]
    pub time: Timestamp,
    /// The chunks, rising.
    #[n(3)]
    pub lost: Vec<ChunkId>,
}
