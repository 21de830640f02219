//! Work on vaults that a command has the daemon do, and what becomes of it. Owns what of that fits into a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::SecretText;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upkeep {
    /// Bring back points that were dropped.
    Undelete {
        /// The vault's name.
        vault: String,
        /// Ids of points, or how these begin; all that can be had when empty.
        points: Vec<String>,
        /// The full name of a source, to which they have to belong.
        source: Option<String>,
        /// The name under which they are held from then on.
        hold: Option<String>,
    },
    /// Take the holds off points.
    Release {
        /// The vault's name.
        vault: String,
        /// Ids of points, or how these begin.
        points: Vec<String>,
    },
    /// Mend what is damaged.
    Repair {
        /// The vault's name.
        vault: String,
        /// Whether every pack is read.
        reads_all: bool,
        /// Vaults from which that is taken which is missing.
        from: Vec<String>,
        /// Whether points are dropped that lack contents.
        #[serde(default)]
        drops_damaged: bool,
    },
    /// Copy points from one vault to another.
    Copy {
        /// Where from.
        from: String,
        /// Where to.
        to: String,
        /// Full names of sources; all when empty.
        sources: Vec<String>,
    },
    /// Make this node the custodian.
    TakeCustody {
        /// The vault's name.
        vault: String,
        /// The text of the recovery key's file.
        recovery: Option<SecretText>,
    },
    /// Wrap the keys to one more holder.
    AddKey {
        /// The vault's name.
        vault: String,
        /// Name of the holder.
        holder: String,
        /// To what they are wrapped.
        to: KeyRecipient,
    },
    /// Take the keys of a holder away.
    RemoveKey {
        /// The vault's name.
        vault: String,
        /// Name of the holder.
        holder: String,
    },
    /// Begin a new epoch of keys in all vaults.
    RotateKeys {
        /// The text of the recovery key's file.
        recovery: Option<SecretText>,
        /// Recipients of holders that are no nodes, by the holders' names.
        recipients: BTreeMap<String, KeyRecipient>,
        /// What is thought of the keys of before.
        old: OldKeys,
    },
}

/// What is thought of keys that others take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldKeys {
    /// What they have sealed is built on.
    Trusted,
    /// Somebody else may have them: everything is stored again.
    Compromised,
}

/// To what a holder's keys are wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecipient {
    /// A public age key, `age1…`.
    pub recipient: String,
    /// What the holder can do.
    pub role: KeyRole,
}

/// What a holder of keys can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Read everything.
    Full,
    /// Care for the vault, without reading contents of files.
    Custodian,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpkeepReport {
    /// By [`Upkeep::Undelete`].
    Undeleted(UndeleteReport),
    /// By [`Upkeep::Release`].
    Released(ReleaseReport),
    /// By [`Upkeep::Repair`].
    Repaired(RepairReport),
    /// By [`Upkeep::Copy`].
    Copied(CopyReport),
    /// By [`Upkeep::TakeCustody`].
    CustodyTaken {
        /// The term that has begun.
        term: u64,
    },
    /// By [`Upkeep::AddKey`].
    KeyAdded,
    /// By [`Upkeep::RemoveKey`].
    KeyRemoved,
    /// By [`Upkeep::RotateKeys`].
    KeysRotated {
        /// Vaults that have the new keys.
        vaults: u64,
    },
}

/// What became of dropped points.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UndeleteReport {
    /// Point by point.
    pub points: Vec<UndeletedPoint>,
    /// How many there are more, because a message could not hold them.
    pub more: u64,
    /// How many of those could not be brought back.
    pub more_failures: u64,
}

/// A dropped point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeletedPoint {
    /// Its source.
    pub source: String,
    /// Its id.
    pub point: String,
    /// When its capture began, RFC 3339.
    pub time: String,
    /// Why it could not be brought back, if so.
    pub failure: Option<String>,
}

/// Points that are not held any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReleaseReport {
    /// Their ids.
    pub points: Vec<String>,
    /// How many there are more, because a message could not hold them.
    pub more: u64,
}

/// What a repair has found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RepairReport {
    /// The vault's name.
    pub vault: String,
    /// What was mended, a line each.
    pub mended: Vec<String>,
    /// How many lines there are more.
    pub more_mended: u64,
    /// What is lost.
    pub losses: Vec<LossReport>,
    /// How many losses there are more.
    pub more_losses: u64,
    /// Chunks that came from other vaults.
    pub chunks_fetched: u64,
    /// Records that were moved out of damaged packs.
    pub records_salvaged: u64,
    /// Chunks that points need and that are nowhere.
    pub chunks_lost: u64,
    /// Points that were dropped: they could not be read any more, or that was wanted of those that lack contents.
    pub points_lost: u64,
}

impl RepairReport {
    /// Whether anything is lost for good.
    pub fn has_losses(&self) -> bool {
        !self.losses.is_empty() || self.more_losses > 0 || self.chunks_lost > 0 || self.points_lost > 0
    }
}

/// Something that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossReport {
    /// Its source.
    pub source: String,
    /// The point, where it is one point's.
    pub point: Option<String>,
    /// The path, where it is known.
    pub path: Option<String>,
    /// Why.
    pub why: String,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CopyReport {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Points that are there now and were not before.
    pub points: u64,
    /// Points that were there.
    pub already: u64,
    /// Records that were sent.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Points that could not be copied.
    pub failures: Vec<CopyFailure>,
    /// How many there are more.
    pub more_failures: u64,
}

/// A point that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFailure {
    /// Its source.
    pub source: String,
    /// Its id.
    pub point: String,
    /// Why.
    pub why: String,
}

impl UpkeepReport {
    /// Leaves out half of each of its lists, and counts what is left out. False when there is nothing to leave out.
    pub fn shorten(&mut self) -> bool {
        match self {
            Self::Undeleted(report) => {
                let left_out = second_half(&mut report.points);
                report.more += left_out.len() as u64;
                report.more_failures +=
                    left_out.iter().filter(|point| point.failure.is_some()).count() as u64;
                !left_out.is_empty()
            }
            Self::Released(report) => count_half(&mut report.points, &mut report.more),
            Self::Repaired(report) => {
                let mended = count_half(&mut report.mended, &mut report.more_mended);
                count_half(&mut report.losses, &mut report.more_losses) || mended
            }
            Self::Copied(report) => count_half(&mut report.failures, &mut report.more_failures),
            Self::CustodyTaken { .. } | Self::KeyAdded | Self::KeyRemoved | Self::KeysRotated { .. } => false,
        }
    }
}

fn count_half<T>(list: &mut Vec<T>, more: &mut u64) -> bool {
    let left_out = second_half(list).len();
    *more += left_out as u64;
    left_out > 0
}

fn second_half<T>(list: &mut Vec<T>) -> Vec<T> {
    list.split_off(list.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let point = |n: u32| UndeletedPoint {
            source: "data.files".into(),
            point: n.to_string(),
            time: String::new(),
            failure: (n % 2 == 1).then(|| "gone".to_owned()),
        };
        let mut report = UpkeepReport::Undeleted(UndeleteReport {
            points: (0..5).map(point).collect(),
            ..UndeleteReport::default()
        });
        assert!(report.shorten());
        let UpkeepReport::Undeleted(short) = &report else { panic!("another report") };
        assert_eq!((short.points.len(), short.more, short.more_failures), (2, 3, 1));
        while report.shorten() {}
        let UpkeepReport::Undeleted(none) = &report else { panic!("another report") };
        assert_eq!((none.points.len(), none.more, none.more_failures), (0, 5, 2));
        assert!(!UpkeepReport::KeyAdded.shorten());
    }
}
