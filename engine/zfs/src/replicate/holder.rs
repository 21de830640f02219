//! The side that has the replicas, as the source's side sees it: what may be asked of it, and no more. Every name that is given
//! lies at or below the place that the holder's own configuration grants; the holder sees to that.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;

use crate::aside;
use crate::begin::{Begin, RECORD_BYTES};
use crate::error::{Class, ZfsError};
use crate::guid::{DatasetGuid, SnapshotGuid};
use crate::name::{FlowId, HoldTag, OwnSnapshot, SnapshotName};
use crate::plan::{COMPLETE_PROPERTY, GONE_PROPERTY, MEMBER_PROPERTY, Structure, member_of, member_text};
use crate::role::{ACTIVE_PROPERTY, begun};
use crate::state::{Dataset, DatasetKind, PROPERTY_PREFIX};
use crate::zfs::{Form, Making, Receive, Receiving, Settled, Zfs};

/// What a holder does not do.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Its ZFS has failed, or refuses.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
    /// What was asked is outside of what it grants, or makes no sense.
    #[error("the holder refuses: {0}")]
    Refused(String),
    /// What was received is not what it was said to be.
    #[error("{place} has no snapshot of the GUID {guid} after it was received; it is planned anew")]
    NotThere {
        /// Where it was looked for.
        place: String,
        /// Which snapshot.
        guid: SnapshotGuid,
    },
    /// It cannot be reached, or has gone away.
    #[error("the holder cannot be reached: {0}")]
    Unreachable(String),
}

impl HolderError {
    /// What follows from it.
    pub fn class(&self) -> Class {
        match self {
            Self::Zfs(error) => error.class(),
            Self::Refused(_) => Class::Operator,
            Self::NotThere { .. } => Class::Stale,
            Self::Unreachable(_) => Class::Transient,
        }
    }
}

/// What comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arriving {
    /// Of which member.
    pub member: DatasetGuid,
    /// Where its replica is, or is made.
    pub replica: DatasetName,
    /// The name that the snapshot gets.
    pub mark: String,
    /// The snapshot.
    pub guid: SnapshotGuid,
    /// Its form.
    pub form: Form,
    /// What is made, where there is no replica yet; of which snapshot it becomes a clone.
    pub makes: Option<(DatasetKind, Option<SnapshotName>)>,
}

/// The side that has the replicas of one source.
pub trait Holder: Send + Sync + fmt::Debug {
    /// Where the replica of the source's root is.
    fn place(&self) -> &DatasetName;

    /// What is at the place and below.
    fn list(&self) -> Result<Vec<Dataset>, HolderError>;

    /// Changes what is there without moving data.
    fn change(&self, structure: &Structure) -> Result<(), HolderError>;

    /// Begins to receive.
    fn receive(&self, arriving: &Arriving) -> Result<Box<dyn Receiving>, HolderError>;

    /// Sees that a replica has this snapshot, holds it for the flow, and releases older ones.
    fn settle(&self, replica: &DatasetName, guid: SnapshotGuid, flow: FlowId) -> Result<(), HolderError>;

    /// Notes the newest set that is there whole.
    fn complete(&self, set: OwnSnapshot) -> Result<(), HolderError>;
}

/// The holder on this host: what a node does for another, and for itself where both pools are its own.
#[derive(Debug)]
pub struct LocalHolder {
    zfs: Arc<dyn Zfs>,
    place: DatasetName,
    clock: fn() -> Timestamp,
}

impl LocalHolder {
    /// With the replica of the source's root at `place`, whose parent exists.
    pub fn new(zfs: Arc<dyn Zfs>, place: DatasetName, clock: fn() -> Timestamp) -> Self {
        Self { zfs, place, clock }
    }

    /// Refuses names that are not at the place or below, and what was set aside: that is the operator's, also where somebody has
    /// a service of this name.
    fn inside(&self, name: &DatasetName) -> Result<(), HolderError> {
        match name.below(&self.place) {
            Some(_) if aside::is_aside(name) => {
                Err(HolderError::Refused(format!("{name} was set aside, and is no replica")))
            }
            Some(_) => Ok(()),
            None => Err(HolderError::Refused(format!("{name} is not below {}", self.place))),
        }
    }

    fn set(&self, dataset: &DatasetName, property: &str, value: Option<&str>) -> Result<(), HolderError> {
        Ok(self.zfs.set(dataset, &format!("{PROPERTY_PREFIX}{property}"), value)?)
    }

    /// Refuses where the replica has become what it was a replica of: nothing may come there from before.
    /// Where its name is free while it becomes active, that is nobody else's either. What is at the place.
    fn inactive(&self) -> Result<Vec<Dataset>, HolderError> {
        let listed = self.zfs.list(&self.place)?;
        let active = match listed.first() {
            Some(root) => root.properties.get(ACTIVE_PROPERTY).cloned(),
            None => begun(&*self.zfs, &self.place)?.map(|set| set.to_string()),
        };
        match active {
            None => Ok(listed),
            Some(set) => Err(HolderError::Refused(format!(
                "{} is active since {set}, and no replica any more",
                self.place
            ))),
        }
    }

    fn now(&self) -> String {
        let text = (self.clock)().to_string();
        text.chars().filter(|c| *c != '-' && *c != ':').collect()
    }

    /// Moves a replica with all below it out of the way, where nobody but the operator deletes it.
    fn set_aside(&self, replica: &DatasetName) -> Result<(), HolderError> {
        let aside = aside::beside(&self.place);
        let aside = aside.ok_or_else(|| HolderError::Refused(format!("{} is a whole pool", self.place)))?;
        if self.zfs.list(&aside)?.is_empty() {
            self.zfs.create_holder(&aside)?;
        }
        let listed = self.zfs.list(replica)?;
        let Some(there) = listed.iter().find(|dataset| dataset.name == *replica) else { return Ok(()) };
        let last = replica.as_str().rsplit('/').next().unwrap_or_default();
        // With its GUID, since several can be set aside in a second; without its name where that is long.
        let (now, guid) = (self.now(), there.guid.0);
        let to = aside
            .join(&format!("{now}_{last}_{guid:016x}"))
            .or_else(|| aside.join(&format!("{now}_{guid:016x}")));
        let to = to.ok_or_else(|| HolderError::Refused(format!("{replica} cannot be named elsewhere")))?;
        Ok(self.zfs.rename(replica, &to)?)
    }
}

impl Holder for LocalHolder {
    fn place(&self) -> &DatasetName {
        &self.place
    }

    fn list(&self) -> Result<Vec<Dataset>, HolderError> {
        Ok(self.zfs.list(&self.place)?)
    }

    fn change(&self, structure: &Structure) -> Result<(), HolderError> {
        self.inactive()?;
        match structure {
            Structure::Rename { from, to } => {
                self.inside(from)?;
                self.inside(to)?;
                Ok(self.zfs.rename(from, to)?)
            }
            Structure::SetAside { replica } => {
                self.inside(replica)?;
                self.set_aside(replica)
            }
            Structure::Adopt { replica, member } => {
                self.inside(replica)?;
                self.set(replica, MEMBER_PROPERTY, Some(&member_text(*member)))
            }
            Structure::Abort { replica } => {
                self.inside(replica)?;
                Ok(self.zfs.abort_receive(replica)?)
            }
            Structure::MarkGone { replica } => {
                self.inside(replica)?;
                self.set(replica, GONE_PROPERTY, Some(&self.now()))
            }
            Structure::MarkThere { replica } => {
                self.inside(replica)?;
                self.set(replica, GONE_PROPERTY, None)
            }
        }
    }

    fn receive(&self, arriving: &Arriving) -> Result<Box<dyn Receiving>, HolderError> {
        let Arriving { member, replica, mark, guid, form, makes } = arriving;
        self.inside(replica)?;
        self.inactive()?;
        let snapshot = SnapshotName::new(replica, mark).map_err(|e| HolderError::Refused(e.to_string()))?;
        let makes = match makes {
            None => None,
            Some((kind, origin)) => {
                origin.as_ref().map_or(Ok(()), |origin| self.inside(origin.dataset()))?;
                let properties = vec![(MEMBER_PROPERTY.to_owned(), member_text(*member))];
                Some(Making { kind: *kind, origin: origin.clone(), properties })
            }
        };
        let receive = Receive { snapshot, guid: *guid, form: *form, makes };
        let receiving = self.zfs.receive(&receive)?;
        Ok(Box::new(Checked { receiving, guid: *guid, form: *form, begin: Beginning::Coming(Vec::new()) }))
    }

    fn settle(&self, replica: &DatasetName, guid: SnapshotGuid, flow: FlowId) -> Result<(), HolderError> {
        self.inside(replica)?;
        let listed = self.zfs.list(replica)?;
        let there = listed.into_iter().find(|dataset| dataset.name == *replica);
        let not_there = || HolderError::NotThere { place: replica.to_string(), guid };
        let there = there.ok_or_else(not_there)?;
        if member_of(&there).is_none() {
            return Err(HolderError::Refused(format!("{replica} is nobody's replica")));
        }
        there.snapshot(guid).ok_or_else(not_there)?;
        Ok(self.zfs.settle(&settled(&there, guid, flow)?)?)
    }

    fn complete(&self, set: OwnSnapshot) -> Result<(), HolderError> {
        self.inside(&self.place)?;
        let listed = self.inactive()?;
        let has_set = |root: &Dataset| root.snapshots.iter().any(|shot| shot.mark == set.to_string());
        // It is what the replica will go on from: not on the word of whoever sends alone.
        if !listed.first().is_some_and(has_set) {
            return Err(HolderError::Refused(format!("{} has no snapshot of the set {set}", self.place)));
        }
        self.set(&self.place, COMPLETE_PROPERTY, Some(&set.to_string()))
    }
}

/// What a flow is to have on a dataset that has this snapshot.
pub(super) fn settled(dataset: &Dataset, guid: SnapshotGuid, flow: FlowId) -> Result<Settled, ZfsError> {
    let name = |mark: &str| {
        SnapshotName::new(&dataset.name, mark).map_err(|error| ZfsError::Answer {
            doing: format!("name a snapshot of {}", dataset.name),
            what: error.to_string(),
        })
    };
    let others = dataset.snapshots.iter().filter(|snapshot| snapshot.holds > 0 && snapshot.guid != guid);
    Ok(Settled {
        tag: HoldTag::of(flow),
        held: dataset.snapshot(guid).map(|held| name(&held.mark)).transpose()?,
        cursor: None,
        others: others.map(|other| name(&other.mark)).collect::<Result<_, _>>()?,
        stale_cursors: Vec::new(),
    })
}

/// A stream whose first record is looked at before anything of it reaches the kernel.
struct Checked {
    receiving: Box<dyn Receiving>,
    guid: SnapshotGuid,
    form: Form,
    begin: Beginning,
}

/// How far the first record is.
enum Beginning {
    /// So much of it has come.
    Coming(Vec<u8>),
    /// It was let through.
    Passed,
}

impl Checked {
    fn judge(&self, record: &[u8]) -> io::Result<()> {
        let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let record = record.try_into().map_err(|_| refuse("the stream has no first record".to_owned()))?;
        let begin =
            Begin::parse(record).map_err(|error| refuse(format!("the stream is refused: {error}")))?;
        if begin.to != self.guid {
            return Err(refuse(format!("the stream is of the snapshot {}, not {}", begin.to, self.guid)));
        }
        if begin.is_raw != (self.form == Form::Raw) {
            return Err(refuse("the stream is not of the form that was said".to_owned()));
        }
        Ok(())
    }
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Beginning::Coming(come) = &mut self.begin else { return self.receiving.write(bytes) };
        let taken = bytes.len().min(RECORD_BYTES - come.len());
        come.extend_from_slice(&bytes[..taken]);
        if come.len() == RECORD_BYTES {
            let record = std::mem::take(come);
            self.judge(&record)?;
            self.receiving.write_all(&record)?;
            self.begin = Beginning::Passed;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.receiving.flush()
    }
}

impl Receiving for Checked {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        self.receiving.finish()
    }
}
