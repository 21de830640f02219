//! What is asked about live replicas (docs/protocol.md, sections 4 and 9). Names of datasets and snapshots are texts here: what
//! they may be is for whoever has ZFS.

use minicbor::decode::Error;

use super::request::{Raw, named};
use super::text::NAME_BYTES_MAX;

/// The capability to keep replicas.
pub const CAPABILITY_REPLICA: &str = "replica";

/// Longest name of a dataset or snapshot, bytes.
pub const REPLICA_NAME_BYTES_MAX: usize = 256;

/// What is asked about the replicas of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaRequest {
    /// Ask what stands: the answer is an object with a [`super::ReplicaListing`].
    List,
    /// Change something without moving data.
    Change(ReplicaChange),
    /// Receive a stream: it follows, to the end of the stream.
    Receive(ReplicaArriving),
    /// See that a replica has a snapshot, hold that for a flow, and release what the flow holds beside it.
    Settle {
        /// The replica.
        replica: String,
        /// The GUID of the snapshot.
        guid: u64,
        /// The flow.
        flow: u64,
    },
    /// Note the newest set that is complete.
    Complete {
        /// Its name.
        set: String,
    },
}

/// A change that moves no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaChange {
    /// It gets another name.
    Rename {
        /// From here.
        from: String,
        /// To there.
        to: String,
    },
    /// It is kept elsewhere.
    SetAside {
        /// What.
        replica: String,
    },
    /// It is ours from now on.
    Adopt {
        /// What.
        replica: String,
        /// The GUID of the member whose replica it is.
        member: u64,
    },
    /// What a receive has left is thrown away.
    Abort {
        /// Where.
        replica: String,
    },
    /// Its member is gone.
    MarkGone {
        /// What.
        replica: String,
    },
    /// Its member is there again.
    MarkThere {
        /// What.
        replica: String,
    },
}

/// A stream that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaArriving {
    /// The GUID of the member.
    pub member: u64,
    /// Its replica.
    pub replica: String,
    /// The name that the snapshot gets, without its dataset.
    pub mark: String,
    /// The GUID of the snapshot.
    pub guid: u64,
    /// Whether it is raw.
    pub form: StreamForm,
    /// What it makes, where it builds on nothing there.
    pub makes: Option<ReplicaMakes>,
}

/// What a stream makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaMakes {
    /// What it is.
    pub kind: ReplicaKind,
    /// Of which snapshot it becomes a clone.
    pub origin: Option<String>,
}

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamForm {
    /// As it is compressed on disk.
    Plain,
    /// As it is encrypted on disk.
    Raw,
}

/// The kind of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaKind {
    /// A file system.
    Filesystem,
    /// A block device.
    Volume,
}

impl ReplicaKind {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Filesystem => 0,
            Self::Volume => 1,
        }
    }

    pub(super) fn of_number(number: u64) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Filesystem),
            1 => Ok(Self::Volume),
            other => Err(Error::message(format!("{other} is no kind of dataset"))),
        }
    }
}

/// The changes that this version knows.
const CHANGES: std::ops::RangeInclusive<u64> = 1..=6;

impl ReplicaRequest {
    /// What is said of the replicas of this service.
    pub(super) fn into_raw(self, space: String, service: String) -> Raw {
        let (space, service) = (Some(space), Some(service));
        match self {
            Self::List => Raw { what: 12, space, service, ..Raw::default() },
            Self::Change(change) => Raw { what: 13, space, service, ..change.into_raw() },
            Self::Receive(arriving) => Raw { what: 14, space, service, ..arriving.into_raw() },
            Self::Settle { replica, guid, flow } => Raw {
                what: 15,
                space,
                service,
                replica: Some(replica),
                guid: Some(guid),
                flow: Some(flow),
                ..Raw::default()
            },
            Self::Complete { set } => Raw { what: 16, space, service, set: Some(set), ..Raw::default() },
        }
    }

    /// What is said by one of 12 to 16; none by a change that this version does not know.
    pub(super) fn of_raw(raw: Raw) -> Result<Option<Self>, Error> {
        Ok(Some(match raw.what {
            12 => Self::List,
            13 => match raw.change {
                Some(number) if !CHANGES.contains(&number) => return Ok(None),
                _ => Self::Change(ReplicaChange::of_raw(raw)?),
            },
            14 => Self::Receive(ReplicaArriving::of_raw(raw)?),
            15 => Self::Settle {
                replica: dataset(raw.replica, "replica")?,
                guid: number(raw.guid, "GUID")?,
                flow: number(raw.flow, "flow")?,
            },
            _ => Self::Complete { set: named(raw.set, "set", NAME_BYTES_MAX)? },
        }))
    }
}

impl ReplicaChange {
    fn into_raw(self) -> Raw {
        let of = |change, replica| Raw { change: Some(change), replica: Some(replica), ..Raw::default() };
        match self {
            Self::Rename { from, to } => Raw { to: Some(to), ..of(1, from) },
            Self::SetAside { replica } => of(2, replica),
            Self::Adopt { replica, member } => Raw { member: Some(member), ..of(3, replica) },
            Self::Abort { replica } => of(4, replica),
            Self::MarkGone { replica } => of(5, replica),
            Self::MarkThere { replica } => of(6, replica),
        }
    }

    fn of_raw(raw: Raw) -> Result<Self, Error> {
        let replica = dataset(raw.replica, "replica")?;
        Ok(match number(raw.change, "change")? {
            1 => Self::Rename { from: replica, to: dataset(raw.to, "new name")? },
            2 => Self::SetAside { replica },
            3 => Self::Adopt { replica, member: number(raw.member, "member")? },
            4 => Self::Abort { replica },
            5 => Self::MarkGone { replica },
            _ => Self::MarkThere { replica },
        })
    }
}

impl ReplicaArriving {
    fn into_raw(self) -> Raw {
        let (kind, origin) =
            self.makes.map_or((None, None), |makes| (Some(makes.kind.number()), makes.origin));
        let form = match self.form {
            StreamForm::Plain => 0,
            StreamForm::Raw => 1,
        };
        Raw {
            member: Some(self.member),
            replica: Some(self.replica),
            mark: Some(self.mark),
            guid: Some(self.guid),
            form: Some(form),
            kind,
            origin,
            ..Raw::default()
        }
    }

    fn of_raw(raw: Raw) -> Result<Self, Error> {
        let form = match number(raw.form, "form")? {
            0 => StreamForm::Plain,
            1 => StreamForm::Raw,
            other => return Err(Error::message(format!("{other} is no form of a stream"))),
        };
        let origin = raw.origin.map(|origin| dataset(Some(origin), "origin")).transpose()?;
        let makes = match (raw.kind, origin) {
            (Some(kind), origin) => Some(ReplicaMakes { kind: ReplicaKind::of_number(kind)?, origin }),
            (None, Some(_)) => return Err(Error::message("a clone that is made of no kind")),
            (None, None) => None,
        };
        Ok(Self {
            member: number(raw.member, "member")?,
            replica: dataset(raw.replica, "replica")?,
            mark: dataset(raw.mark, "name of a snapshot")?,
            guid: number(raw.guid, "GUID")?,
            form,
            makes,
        })
    }
}

fn dataset(name: Option<String>, what: &str) -> Result<String, Error> {
    named(name, what, REPLICA_NAME_BYTES_MAX)
}

fn number(number: Option<u64>, what: &str) -> Result<u64, Error> {
    number.ok_or_else(|| Error::message(format!("it has no {what}")))
}
