//! What is asked of a holder, as a message and back. A name that ZFS cannot have is refused.

use backstay_core::config::DatasetName;
use backstay_wire::peer::{
    Reason, Refusal, ReplicaArriving, ReplicaChange, ReplicaKind, ReplicaMakes, StreamForm,
};
use backstay_zfs::guid::{DatasetGuid, SnapshotGuid};
use backstay_zfs::name::SnapshotName;
use backstay_zfs::plan::Structure;
use backstay_zfs::replicate::Arriving;
use backstay_zfs::state::DatasetKind;
use backstay_zfs::zfs::Form;

use crate::frames::plain;

/// A change as it is sent.
pub(super) fn change_to_send(structure: &Structure) -> ReplicaChange {
    let text = ToString::to_string;
    match structure {
        Structure::Rename { from, to } => ReplicaChange::Rename { from: text(from), to: text(to) },
        Structure::SetAside { replica } => ReplicaChange::SetAside { replica: text(replica) },
        Structure::Adopt { replica, member } => {
            ReplicaChange::Adopt { replica: text(replica), member: member.0 }
        }
        Structure::Abort { replica } => ReplicaChange::Abort { replica: text(replica) },
        Structure::MarkGone { replica } => ReplicaChange::MarkGone { replica: text(replica) },
        Structure::MarkThere { replica } => ReplicaChange::MarkThere { replica: text(replica) },
    }
}

/// A change that was asked for.
pub(super) fn change_asked(change: &ReplicaChange) -> Result<Structure, Refusal> {
    Ok(match change {
        ReplicaChange::Rename { from, to } => Structure::Rename { from: dataset(from)?, to: dataset(to)? },
        ReplicaChange::SetAside { replica } => Structure::SetAside { replica: dataset(replica)? },
        ReplicaChange::Adopt { replica, member } => {
            Structure::Adopt { replica: dataset(replica)?, member: DatasetGuid(*member) }
        }
        ReplicaChange::Abort { replica } => Structure::Abort { replica: dataset(replica)? },
        ReplicaChange::MarkGone { replica } => Structure::MarkGone { replica: dataset(replica)? },
        ReplicaChange::MarkThere { replica } => Structure::MarkThere { replica: dataset(replica)? },
    })
}

/// A stream as it is announced.
pub(super) fn arriving_to_send(arriving: &Arriving) -> ReplicaArriving {
    let Arriving { member, replica, mark, guid, form, makes } = arriving;
    let makes = makes.as_ref().map(|(kind, origin)| ReplicaMakes {
        kind: kind_to_send(*kind),
        origin: origin.as_ref().map(ToString::to_string),
    });
    ReplicaArriving {
        member: member.0,
        replica: replica.to_string(),
        mark: mark.clone(),
        guid: guid.0,
        form: match form {
            Form::Plain => StreamForm::Plain,
            Form::Raw => StreamForm::Raw,
        },
        makes,
    }
}

/// A stream that was announced.
pub(super) fn arriving_asked(arriving: ReplicaArriving) -> Result<Arriving, Refusal> {
    let ReplicaArriving { member, replica, mark, guid, form, makes } = arriving;
    let makes = makes.map(|ReplicaMakes { kind, origin }| {
        let origin = origin.map(|origin| SnapshotName::parse(&origin).map_err(|_| no_name(&origin)));
        Ok((kind_told(kind), origin.transpose()?))
    });
    Ok(Arriving {
        member: DatasetGuid(member),
        replica: dataset(&replica)?,
        mark,
        guid: SnapshotGuid(guid),
        form: match form {
            StreamForm::Plain => Form::Plain,
            StreamForm::Raw => Form::Raw,
        },
        makes: makes.transpose()?,
    })
}

pub(super) fn kind_to_send(kind: DatasetKind) -> ReplicaKind {
    match kind {
        DatasetKind::Filesystem => ReplicaKind::Filesystem,
        DatasetKind::Volume => ReplicaKind::Volume,
    }
}

pub(super) fn kind_told(kind: ReplicaKind) -> DatasetKind {
    match kind {
        ReplicaKind::Filesystem => DatasetKind::Filesystem,
        ReplicaKind::Volume => DatasetKind::Volume,
    }
}

/// The dataset of this name.
pub(super) fn dataset(name: &str) -> Result<DatasetName, Refusal> {
    DatasetName::parse(name).ok_or_else(|| no_name(name))
}

/// Refuses a name.
pub(super) fn no_name(name: &str) -> Refusal {
    let text = format!("{:?} cannot be the name of a dataset, a snapshot or a set", plain(name));
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
