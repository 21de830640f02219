//! Keeping the replicas of a source as its members are: the plan is made, done, and made anew until there is nothing left to do
//! (docs/zfs.md, section 3). Owns the order of the steps of a flow. A crash at any of them leaves what the next run goes on
//! from; nothing is kept anywhere but on the pools.

mod holder;
mod pump;
mod run;

use std::fmt;

use backstay_core::config::DatasetName;
use backstay_core::id::DomainId;

use crate::aside;
use crate::error::{Class, ZfsError};
use crate::guid::DatasetGuid;
use crate::name::{FlowId, FlowTarget, OwnSnapshot};
use crate::plan::{Conflict, Snapshots, Structure, Wait};

pub use self::holder::{Arriving, Holder, HolderError, LocalHolder};
pub use self::pump::{Progress, StreamError, not_taken};
pub use self::run::replicate;

/// What is replicated, and how.
#[derive(Debug, Clone)]
pub struct Replication {
    /// The root of the source.
    pub root: DatasetName,
    /// Below which nothing is a member; whole names.
    pub except: Vec<DatasetName>,
    /// The domain of the fleet.
    pub domain: DomainId,
    /// To whom.
    pub target: FlowTarget,
    /// Which of several snapshots that wait are sent.
    pub select: Snapshots,
    /// How many members are sent at once.
    pub at_once: usize,
}

impl Replication {
    /// Whether a dataset is a member.
    pub fn has_member(&self, name: &DatasetName) -> bool {
        name.below(&self.root).is_some()
            && !aside::is_aside(name)
            && !self.except.iter().any(|except| name.below(except).is_some())
    }

    /// The flow of a member.
    pub fn flow(&self, member: DatasetGuid) -> FlowId {
        FlowId::new(&self.domain, member, &self.target)
    }
}

/// How it went.
#[derive(Debug)]
pub struct Report {
    /// Of each member, in the order of their names.
    pub members: Vec<(DatasetName, Outcome)>,
    /// Changes at the replica's side that were not done, and why; members that need them wait.
    pub undone: Vec<(Structure, HolderError)>,
    /// The newest set that is whole at the replica.
    pub complete: Option<OwnSnapshot>,
    /// Bytes of all streams.
    pub sent_bytes: u64,
}

impl Report {
    /// Whether every member is at its newest snapshot there.
    pub fn is_done(&self) -> bool {
        self.members.iter().all(|(_, outcome)| matches!(outcome, Outcome::Done))
    }
}

/// How a member stands in the end.
#[derive(Debug)]
pub enum Outcome {
    /// Its replica has its newest snapshot.
    Done,
    /// It waits for something that has not come.
    Waiting(Wait),
    /// Somebody has to decide.
    Conflict(Conflict),
    /// It has failed.
    Failed(ReplicateError),
}

/// Why nothing, or one member, was not replicated.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// ZFS here has failed, or refuses.
    #[error(transparent)]
    Source(#[from] ZfsError),
    /// The other side has failed, or refuses.
    #[error("at the replica: {0}")]
    Holder(#[from] HolderError),
    /// The root of the source is not there.
    #[error(
        "{0} is not there: is its pool imported (`zpool import`)? Was it renamed or destroyed? Its replica is left as it is"
    )]
    NoSource(DatasetName),
    /// What is planned changes all the time.
    #[error("after {0} changes the replica of {1} is still not as it should be: somebody else changes it")]
    Restless(usize, DatasetName),
}

impl ReplicateError {
    /// What follows from it.
    pub fn class(&self) -> Class {
        match self {
            Self::Source(error) => error.class(),
            Self::Holder(error) => error.class(),
            Self::NoSource(_) => Class::Operator,
            Self::Restless(..) => Class::Transient,
        }
    }
}

impl From<StreamError> for ReplicateError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Source(error) => Self::Source(error),
            StreamError::Holder(error) => Self::Holder(error),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Waiting(Wait::Snapshot) => f.write_str("waits for its first snapshot"),
            Self::Waiting(Wait::Parent) => f.write_str("waits for the replica of its parent"),
            Self::Waiting(Wait::Origin) => f.write_str("waits for the replica of its origin"),
            Self::Waiting(Wait::Structure) => f.write_str("waits for another replica to be moved"),
            Self::Conflict(conflict) => conflict.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
