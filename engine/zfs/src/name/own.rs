//! Names that are Backstay's own. Whoever finds one on a pool knows what it is for, without anything that a node keeps.

use std::fmt;
use std::str::FromStr;

use backstay_core::config::{DatasetName, Target};
use backstay_core::id::DomainId;
use backstay_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BookmarkName, NameError, SnapshotName};
use crate::guid::{DatasetGuid, SnapshotGuid};

/// With which every name begins that is Backstay's own.
const PREFIX: &str = "backstay_";

const FLOW_CONTEXT: &str = "backstay 2026-12-01 zfs flow";

/// A member's way to one target. It hangs on what it is, and neither on names nor on what a node remembers: so nothing is
/// stranded when a service is renamed or a node's state is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

impl FlowId {
    /// Of this dataset, by its GUID, to a target.
    pub fn new(domain: &DomainId, member: DatasetGuid, target: &FlowTarget) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(FLOW_CONTEXT);
        hasher.update(domain.as_bytes());
        hasher.update(&member.0.to_le_bytes());
        hasher.update(target.to_string().as_bytes());
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        Self(u64::from_be_bytes(first))
    }

    /// That of this number, as another node tells it.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// To what a flow of a dataset goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowTarget {
    /// The replica at the node of this name.
    Replica(String),
    /// The vault of this name.
    Vault(String),
}

impl FlowTarget {
    /// The target of the configuration, at this node where it is a live one.
    pub fn new(target: &Target, node: &str) -> Self {
        match target {
            Target::Replica | Target::Standby => Self::Replica(node.to_owned()),
            Target::Vault(vault) => Self::Vault(vault.to_string()),
        }
    }
}

impl fmt::Display for FlowTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(node) => write!(f, "replica {node}"),
            Self::Vault(vault) => write!(f, "vault {vault}"),
        }
    }
}

/// The tag of a hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldTag(String);

impl HoldTag {
    /// That of a flow.
    pub fn of(flow: FlowId) -> Self {
        Self(format!("{PREFIX}{flow}"))
    }

    /// As it was found.
    pub fn found(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The flow whose hold it is; `None` of somebody else's.
    pub fn flow(&self) -> Option<FlowId> {
        hex(self.0.strip_prefix(PREFIX)?, 16).map(FlowId)
    }
}

impl fmt::Display for HoldTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a snapshot that was taken by Backstay, without its dataset: the same for all of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnSnapshot {
    /// When it was taken, to the second.
    pub at: Timestamp,
    /// Tells sets of one second apart.
    pub set: u32,
}

impl OwnSnapshot {
    /// Of this dataset.
    pub fn of(self, dataset: &DatasetName) -> Result<SnapshotName, NameError> {
        SnapshotName::new(dataset, &self.to_string())
    }

    /// What the name of a snapshot says; `None` of one that somebody else took.
    pub fn parse(mark: &str) -> Option<Self> {
        let (time, set) = mark.strip_prefix(PREFIX)?.split_once('_')?;
        let own = Self { at: parse_compact(time)?, set: u32::try_from(hex(set, 8)?).ok()? };
        (own.to_string() == mark).then_some(own)
    }
}

impl fmt::Display for OwnSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{:08x}", compact(self.at), self.set)
    }
}

impl FromStr for OwnSnapshot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text).ok_or_else(|| NameError { what: "snapshot of Backstay", text: text.to_owned() })
    }
}

/// The bookmark of a flow, without its dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Whose it is.
    pub flow: FlowId,
    /// The snapshot that it stands for.
    pub snapshot: SnapshotGuid,
}

impl Cursor {
    /// Of this dataset.
    pub fn of(self, dataset: &DatasetName) -> Result<BookmarkName, NameError> {
        BookmarkName::new(dataset, &self.to_string())
    }

    /// What the name of a bookmark says; `None` of somebody else's.
    pub fn parse(mark: &str) -> Option<Self> {
        let (flow, snapshot) = mark.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self { flow: FlowId(hex(flow, 16)?), snapshot: SnapshotGuid(hex(snapshot, 16)?) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{:016x}", self.flow, self.snapshot.0)
    }
}

/// Exactly so many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let is_lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (text.len() == digits && is_lower).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// `20261201T153300Z`. Of a time before 0 or after 9999 it makes something that is not read again.
fn compact(at: Timestamp) -> String {
    let text = Timestamp::from_seconds(at.as_nanos().div_euclid(1_000_000_000)).to_string();
    text.chars().filter(|c| *c != '-' && *c != ':').collect()
}

fn parse_compact(text: &str) -> Option<Timestamp> {
    let shape = |(at, c): (usize, char)| match at {
        8 => c == 'T',
        15 => c == 'Z',
        _ => c.is_ascii_digit(),
    };
    if text.len() != 16 || !text.char_indices().all(shape) {
        return None;
    }
    let (date, time) = (&text[..8], &text[9..15]);
    let spelled = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    Timestamp::parse(&spelled).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_tell_when_and_with_which_others_they_were_taken() {
        let own =
            OwnSnapshot { at: Timestamp::parse("2026-12-01T15:33:00Z").expect("a time"), set: 0x1f9c_03ab };
        assert_eq!(own.to_string(), "backstay_20261201T153300Z_1f9c03ab");
        assert_eq!(OwnSnapshot::parse(&own.to_string()), Some(own));
        for text in [
            "backstay_20261201T153300Z",
            "backstay_20261201T153300Z_1F9C03AB",
            "backstay_20261301T153300Z_1f9c03ab",
            "backstay_20261201T153300Z_1f9c03ab_",
            "zrepl_20261201_153300_000",
            "",
        ] {
            assert_eq!(OwnSnapshot::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn flows_are_known_by_what_they_are() {
        let domain = DomainId::new([7; 16]);
        let replica = FlowTarget::Replica("cobblestone".to_owned());
        let flow = FlowId::new(&domain, DatasetGuid(5), &replica);
        assert_eq!(flow, FlowId::new(&domain, DatasetGuid(5), &replica));
        let vault = FlowTarget::Vault("cobblestone".to_owned());
        let others = [
            FlowId::new(&DomainId::new([8; 16]), DatasetGuid(5), &replica),
            FlowId::new(&domain, DatasetGuid(6), &replica),
            FlowId::new(&domain, DatasetGuid(5), &vault),
        ];
        assert!(others.iter().all(|other| *other != flow));
        assert_eq!(HoldTag::of(flow).flow(), Some(flow));
        let cursor = Cursor { flow, snapshot: SnapshotGuid(u64::MAX) };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(HoldTag::found("zrepl_STEP_J_a").flow(), None);
        // Of a snapshot's name neither a cursor nor a hold is read.
        assert_eq!(Cursor::parse("backstay_20261201T153300Z_1f9c03ab"), None);
    }
}
