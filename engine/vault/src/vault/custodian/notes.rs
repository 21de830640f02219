//! What a custodian keeps for itself, outside the vault: how far it came, since when it has seen sessions stand still,
//! and a layout whose put may not have ended. Losing it costs a pass or a day, never data, but for the layout: that is
//! put again before anything else, so that nothing lands later which its author did not know.

use std::collections::BTreeMap;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, PackId, SessionId, SourceId};
use backstay_core::units::Timestamp;
use minicbor::{Decode, Encode};

use crate::error::VaultError;
use crate::malformed::{Malformed, decode_cbor, encode_cbor};

/// The notes of the custodian of one vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Notes {
    /// The newest collection that was worked off.
    #[n(0)]
    pub finished: CollectionNumber,
    /// Open sessions, as they were seen last.
    #[n(1)]
    pub observed: Vec<Observed>,
    /// Packs that no index object named.
    #[n(2)]
    pub unindexed: Vec<PackId>,
    /// A layout that is being put.
    #[n(3)]
    pub layout: Option<PendingLayout>,
    /// Records that are not what their ids say, where the chunk has another place: pack, and where in it.
    #[cbor(n(4), default)]
    pub not_whole: Vec<(PackId, u32)>,
    /// The newest record of a collection that this custodian has put; none when it has thinned since.
    #[cbor(n(5), default)]
    pub announced: CollectionNumber,
    /// That record, and those that were listed before it was put: whoever has seen it has seen them too.
    #[cbor(n(6), default)]
    pub records: Vec<ObjectHash>,
}

impl Notes {
    /// As they are kept in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode_cbor(self)
    }

    /// Reads what [`Notes::to_bytes`] has written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode_cbor(bytes)
    }
}

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Observed {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// Its counter when it was seen last.
    #[n(1)]
    pub counter: u64,
    /// When that was.
    #[n(2)]
    pub seen: Timestamp,
    /// For how long it has stood still, as far as the custodian was there to see it, seconds.
    #[n(3)]
    pub still_seconds: u64,
}

/// The name and the bytes of a layout object.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PendingLayout {
    /// Name of the object.
    #[n(0)]
    pub name: String,
    /// Its bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub content: Vec<u8>,
}

impl PendingLayout {
    /// As it is kept in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode_cbor(self)
    }

    /// Reads what [`PendingLayout::to_bytes`] has written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode_cbor(bytes)
    }
}

/// Where notes are kept.
pub trait NoteStore: Send {
    /// The notes that were saved last; empty ones when there are none.
    fn load(&mut self) -> Result<Notes, VaultError>;

    /// Saves them. When this returns they are durable.
    fn save(&mut self, notes: &Notes) -> Result<(), VaultError>;

    /// Keeps a copy of the newest layout of a source, for a repair.
    fn keep_layout(&mut self, source: SourceId, layout: &PendingLayout) -> Result<(), VaultError>;

    /// The copy that was kept last.
    fn layout(&mut self, source: SourceId) -> Result<Option<PendingLayout>, VaultError>;
}

/// Notes in memory, for tests and for vaults that end with the process.
#[derive(Debug, Default, Clone)]
pub struct MemoryNotes {
    /// The notes.
    pub notes: Notes,
    /// Copies of layouts.
    pub layouts: BTreeMap<SourceId, PendingLayout>,
}

impl NoteStore for MemoryNotes {
    fn load(&mut self) -> Result<Notes, VaultError> {
        Ok(self.notes.clone())
    }

    fn save(&mut self, notes: &Notes) -> Result<(), VaultError> {
        self.notes = notes.clone();
        Ok(())
    }

    fn keep_layout(&mut self, source: SourceId, layout: &PendingLayout) -> Result<(), VaultError> {
        self.layouts.insert(source, layout.clone());
        Ok(())
    }

    fn layout(&mut self, source: SourceId) -> Result<Option<PendingLayout>, VaultError> {
        Ok(self.layouts.get(&source).cloned())
    }
}
