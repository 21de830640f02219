//! What is to be done so that the replicas of a source are as its members: from what stands on both sides to steps, or to the
//! conflict that is in the way. Pure: looks at nothing, and does nothing (docs/zfs.md, section 4).
//!
//! A plan is made, its first change of structure is done, and it is made anew; when there is none, its transfers are done. So
//! nothing in it hangs on what an earlier line of it has changed.

mod conflict;
mod lineage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::config::DatasetName;

use self::lineage::{Lineage, chosen, compare, form_of, transfer};
use crate::guid::{DatasetGuid, SnapshotGuid};
use crate::name::SnapshotName;
use crate::state::Dataset;
use crate::zfs::{Form, Resume};

pub use self::conflict::Conflict;
pub use self::lineage::Common;

/// The property of a replica that names its member.
pub const MEMBER_PROPERTY: &str = "dataset";
/// The one that tells since when its member is gone.
pub const GONE_PROPERTY: &str = "gone";
/// The one of the root that names the newest set that is whole.
pub const COMPLETE_PROPERTY: &str = "complete";

/// Which of several snapshots that wait are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Snapshots {
    /// Each, oldest first.
    #[default]
    All,
    /// The newest.
    Newest,
}

/// What stands on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'s> {
    /// The root of the source.
    pub root: &'s DatasetName,
    /// Its members, parents before children; those that are excepted are not among them.
    pub members: &'s [Dataset],
    /// Where its replica is to be.
    pub place: &'s DatasetName,
    /// What is there and below.
    pub replicas: &'s [Dataset],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of this the first, and then a new plan.
    pub structure: Vec<Structure>,
    /// One for each member, in their order.
    pub members: Vec<MemberPlan>,
}

/// A change to what is at the replica's side that moves no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Structure {
    /// The member has another name now; or another one is in the way and comes to its own place later.
    Rename {
        /// From here.
        from: DatasetName,
        /// To there.
        to: DatasetName,
    },
    /// It is the replica of something that is gone, where another one's is to be. It is kept elsewhere.
    SetAside {
        /// What.
        replica: DatasetName,
    },
    /// Another tool's, with snapshots in common: it is ours from now on.
    Adopt {
        /// What.
        replica: DatasetName,
        /// Of which member.
        member: DatasetGuid,
    },
    /// What an earlier receive has left is of no use.
    Abort {
        /// Where.
        replica: DatasetName,
    },
    /// Its member is gone.
    MarkGone {
        /// What.
        replica: DatasetName,
    },
    /// Its member is there again.
    MarkThere {
        /// What.
        replica: DatasetName,
    },
}

/// What is to be done for a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPlan {
    /// Which.
    pub member: DatasetGuid,
    /// Its name.
    pub name: DatasetName,
    /// Where its replica is to be; none where that cannot be a name.
    pub place: Option<DatasetName>,
    /// What it stands at.
    pub work: Work,
}

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// To be sent in this order; nothing when the replica has all.
    Send {
        /// The newest that both have; none before the first.
        common: Option<Common>,
        /// What is sent.
        transfers: Vec<Transfer>,
        /// Of which snapshot at the replica's side the first makes a clone.
        origin: Option<SnapshotName>,
    },
    /// Something has to come before: a snapshot of it, its parent's replica, or its origin's.
    Wait(Wait),
    /// Somebody has to decide.
    Conflict(Conflict),
}

/// For what a member waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A change of structure.
    Structure,
    /// Its first snapshot.
    Snapshot,
    /// The replica of its parent.
    Parent,
    /// The replica of the dataset of which it is a clone.
    Origin,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The snapshot.
    pub guid: SnapshotGuid,
    /// Its name at the source, without the dataset.
    pub mark: String,
    /// On what it builds.
    pub base: TransferBase,
    /// Its form.
    pub form: Form,
    /// Where it goes on.
    pub resume: Option<Resume>,
}

/// On what a stream builds, by its name at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferBase {
    /// Nothing: it is a full.
    Nothing,
    /// An earlier snapshot of the member.
    Snapshot(String),
    /// A bookmark of the member.
    Bookmark(String),
    /// The snapshot of another dataset, of which it is a clone.
    Origin(SnapshotName),
}

/// Makes the plan.
pub fn plan(sides: Sides<'_>, select: Snapshots) -> Plan {
    let planner = Planner::new(sides, select);
    let mut structure = Vec::new();
    let mut members = Vec::with_capacity(sides.members.len());
    for member in sides.members {
        let place = planner.place_of(member);
        let work = match &place {
            Some(place) => planner.work(member, place, &mut structure),
            None => Work::Conflict(planner.too_long(member)),
        };
        members.push(MemberPlan { member: member.guid, name: member.name.clone(), place, work });
    }
    structure.extend(planner.gone());
    Plan { structure, members }
}

struct Planner<'s> {
    sides: Sides<'s>,
    select: Snapshots,
    living: BTreeSet<DatasetGuid>,
    by_member: BTreeMap<DatasetGuid, &'s Dataset>,
    by_name: BTreeMap<&'s DatasetName, &'s Dataset>,
}

impl<'s> Planner<'s> {
    fn new(sides: Sides<'s>, select: Snapshots) -> Self {
        Self {
            sides,
            select,
            living: sides.members.iter().map(|member| member.guid).collect(),
            by_member: sides.replicas.iter().filter_map(|r| Some((member_of(r)?, r))).collect(),
            by_name: sides.replicas.iter().map(|replica| (&replica.name, replica)).collect(),
        }
    }

    fn place_of(&self, member: &Dataset) -> Option<DatasetName> {
        match member.name.below(self.sides.root)? {
            "" => Some(self.sides.place.clone()),
            below => self.sides.place.join(below),
        }
    }

    fn too_long(&self, member: &Dataset) -> Conflict {
        let below = member.name.below(self.sides.root).unwrap_or_default();
        Conflict::NameTooLong { place: format!("{}/{below}", self.sides.place) }
    }

    fn work(&self, member: &'s Dataset, place: &DatasetName, structure: &mut Vec<Structure>) -> Work {
        let there = self.by_name.get(place).copied();
        match (self.by_member.get(&member.guid).copied(), there) {
            (Some(replica), _) if replica.name == *place => self.continued(member, replica, structure),
            // It has another name. Whatever is in its way goes first; a parent's place comes before.
            (Some(replica), there) => {
                match there {
                    Some(there) => structure.extend(self.clear(there)),
                    None if self.has_parent(place) => {
                        structure.push(Structure::Rename { from: replica.name.clone(), to: place.clone() })
                    }
                    None => return Work::Wait(Wait::Parent),
                }
                Work::Wait(Wait::Structure)
            }
            (None, Some(there)) if member_of(there).is_some() => {
                structure.extend(self.clear(there));
                Work::Wait(Wait::Structure)
            }
            (None, Some(there)) => match compare(member, there, self.select) {
                Ok(_) if !there.snapshots.is_empty() => {
                    structure.push(Structure::Adopt { replica: there.name.clone(), member: member.guid });
                    Work::Wait(Wait::Structure)
                }
                Err(conflict) if !matches!(conflict, Conflict::NothingInCommon { .. }) => {
                    Work::Conflict(conflict)
                }
                _ => Work::Conflict(Conflict::Occupied { by: there.name.clone() }),
            },
            (None, None) => self.begin(member, place),
        }
    }

    /// Makes room where a replica of another member is.
    fn clear(&self, there: &Dataset) -> Option<Structure> {
        match member_of(there) {
            Some(other) if self.living.contains(&other) => {
                // It comes to its own place later; two that change places would wait for each other.
                let to = self.sides.place.join(&format!("backstay-moving-{:016x}", other.0))?;
                Some(Structure::Rename { from: there.name.clone(), to })
            }
            Some(_) => Some(Structure::SetAside { replica: there.name.clone() }),
            None => None,
        }
    }

    fn has_parent(&self, place: &DatasetName) -> bool {
        place == self.sides.place || place.parent().is_some_and(|parent| self.by_name.contains_key(&parent))
    }

    fn continued(&self, member: &Dataset, replica: &Dataset, structure: &mut Vec<Structure>) -> Work {
        if replica.properties.contains_key(GONE_PROPERTY) {
            structure.push(Structure::MarkThere { replica: replica.name.clone() });
        }
        match compare(member, replica, self.select) {
            Ok(Lineage::Goes { common, transfers }) => {
                Work::Send { common: Some(common), transfers, origin: None }
            }
            Ok(Lineage::Resume { common, transfer }) => {
                Work::Send { common, transfers: vec![transfer], origin: None }
            }
            Ok(Lineage::Abort) => {
                structure.push(Structure::Abort { replica: replica.name.clone() });
                Work::Wait(Wait::Structure)
            }
            Err(conflict) => Work::Conflict(conflict),
        }
    }

    /// The first of a member: its newest snapshot, whole, or on top of what it is a clone of.
    fn begin(&self, member: &Dataset, place: &DatasetName) -> Work {
        let pending: Vec<_> = member.snapshots.iter().collect();
        let Some(first) = chosen(&pending, Snapshots::Newest).next() else {
            return Work::Wait(Wait::Snapshot);
        };
        if !self.has_parent(place) {
            return Work::Wait(Wait::Parent);
        }
        let (base, origin) = match self.origin(member) {
            Origin::There { source, replica } => (TransferBase::Origin(source), Some(replica)),
            Origin::Coming => return Work::Wait(Wait::Origin),
            Origin::None => (TransferBase::Nothing, None),
        };
        Work::Send { common: None, transfers: vec![transfer(member, first, base)], origin }
    }

    /// Whether a clone can be one at the replica as well.
    fn origin(&self, member: &Dataset) -> Origin {
        let Some(source) = &member.origin else { return Origin::None };
        let parent = self.sides.members.iter().find(|other| other.name == *source.dataset());
        let Some(parent) = parent else { return Origin::None };
        let Some(snapshot) = parent.snapshots.iter().find(|snapshot| snapshot.mark == source.mark()) else {
            return Origin::None;
        };
        if form_of(member) != form_of(parent) {
            return Origin::None;
        }
        match self.by_member.get(&parent.guid) {
            // Its first is the newest, so that an older one never comes.
            None => {
                let newest = chosen(&parent.snapshots.iter().collect::<Vec<_>>(), Snapshots::Newest).next();
                if newest.is_some_and(|newest| newest.guid == snapshot.guid) {
                    Origin::Coming
                } else {
                    Origin::None
                }
            }
            Some(replica) => match replica.snapshot(snapshot.guid) {
                Some(there) => SnapshotName::new(&replica.name, &there.mark)
                    .map_or(Origin::None, |replica| Origin::There { source: source.clone(), replica }),
                None => match compare(parent, replica, self.select) {
                    Ok(Lineage::Goes { transfers, .. })
                        if transfers.iter().any(|transfer| transfer.guid == snapshot.guid) =>
                    {
                        Origin::Coming
                    }
                    _ => Origin::None,
                },
            },
        }
    }

    fn gone(&self) -> impl Iterator<Item = Structure> {
        let gone = self.by_member.iter().filter(|(member, replica)| {
            !self.living.contains(member) && !replica.properties.contains_key(GONE_PROPERTY)
        });
        gone.map(|(_, replica)| Structure::MarkGone { replica: replica.name.clone() })
    }
}

enum Origin {
    /// It is no clone, or cannot be one there: it is sent whole.
    None,
    /// The snapshot comes by one of the next transfers.
    Coming,
    /// It is there.
    There { source: SnapshotName, replica: SnapshotName },
}

/// Whose replica a dataset is.
pub fn member_of(replica: &Dataset) -> Option<DatasetGuid> {
    let text = replica.properties.get(MEMBER_PROPERTY)?;
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten().map(DatasetGuid)
}

/// The value of [`MEMBER_PROPERTY`].
pub fn member_text(member: DatasetGuid) -> String {
    format!("{:016x}", member.0)
}
