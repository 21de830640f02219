//! What stands of replicas, as a payload and back.

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;
use backstay_wire::peer::{
    FrameError, ListedBookmark, ListedDataset, ListedEncryption, ListedSnapshot, ReplicaListing,
};
use backstay_zfs::guid::{DatasetGuid, SnapshotGuid, Txg};
use backstay_zfs::name::SnapshotName;
use backstay_zfs::state::{Bookmark, Dataset, Encryption, Key, Snapshot};

use super::messages::{kind_to_send, kind_told};
use crate::frames::plain;

/// A listing as it is sent.
pub(super) fn to_send(place: &DatasetName, datasets: Vec<Dataset>) -> ReplicaListing {
    ReplicaListing { place: place.to_string(), datasets: datasets.into_iter().map(listed).collect() }
}

/// The place, and what is there: nothing of it lies elsewhere.
pub(super) fn told(payload: &[u8]) -> Result<(DatasetName, Vec<Dataset>), String> {
    let listing = ReplicaListing::of_payload(payload).map_err(|error: FrameError| error.to_string())?;
    let place = name(&listing.place)?;
    let datasets: Vec<_> = listing.datasets.into_iter().map(dataset).collect::<Result<_, _>>()?;
    match datasets.iter().find(|dataset| dataset.name.below(&place).is_none()) {
        Some(outside) => Err(format!("{} in a listing of {place}", outside.name)),
        None => Ok((place, datasets)),
    }
}

fn listed(dataset: Dataset) -> ListedDataset {
    let encryption = dataset.encryption.map(|encryption| ListedEncryption {
        root: encryption.root.to_string(),
        is_loaded: encryption.key == Key::Loaded,
    });
    let snapshots = dataset.snapshots.into_iter().map(|snapshot| ListedSnapshot {
        mark: snapshot.mark,
        guid: snapshot.guid.0,
        txg: snapshot.txg.0,
        time_nanos: snapshot.at.as_nanos(),
        written_bytes: snapshot.written_bytes,
        holds: snapshot.holds,
    });
    let bookmarks = dataset.bookmarks.into_iter().map(|bookmark| ListedBookmark {
        mark: bookmark.mark,
        guid: bookmark.guid.0,
        txg: bookmark.txg.0,
        time_nanos: bookmark.at.as_nanos(),
    });
    ListedDataset {
        name: dataset.name.to_string(),
        guid: dataset.guid.0,
        kind: kind_to_send(dataset.kind),
        encryption,
        origin: dataset.origin.map(|origin| origin.to_string()),
        written_bytes: dataset.written_bytes,
        used_bytes: dataset.used_bytes,
        referenced_bytes: dataset.referenced_bytes,
        is_mounted: dataset.is_mounted,
        mountpoint: dataset.mountpoint,
        resume_token: dataset.resume_token,
        properties: dataset.properties.into_iter().collect(),
        snapshots: snapshots.collect(),
        bookmarks: bookmarks.collect(),
    }
}

fn dataset(listed: ListedDataset) -> Result<Dataset, String> {
    let encryption = listed.encryption.map(|encryption| {
        let key = if encryption.is_loaded { Key::Loaded } else { Key::NotLoaded };
        Ok::<_, String>(Encryption { root: name(&encryption.root)?, key })
    });
    let origin = listed.origin.map(|origin| SnapshotName::parse(&origin).map_err(|error| error.to_string()));
    let snapshots = listed.snapshots.into_iter().map(|snapshot| Snapshot {
        mark: snapshot.mark,
        guid: SnapshotGuid(snapshot.guid),
        txg: Txg(snapshot.txg),
        at: Timestamp::from_nanos(snapshot.time_nanos),
        written_bytes: snapshot.written_bytes,
        holds: snapshot.holds,
    });
    let bookmarks = listed.bookmarks.into_iter().map(|bookmark| Bookmark {
        mark: bookmark.mark,
        guid: SnapshotGuid(bookmark.guid),
        txg: Txg(bookmark.txg),
        at: Timestamp::from_nanos(bookmark.time_nanos),
    });
    Ok(Dataset {
        name: name(&listed.name)?,
        guid: DatasetGuid(listed.guid),
        kind: kind_told(listed.kind),
        encryption: encryption.transpose()?,
        origin: origin.transpose()?,
        written_bytes: listed.written_bytes,
        used_bytes: listed.used_bytes,
        referenced_bytes: listed.referenced_bytes,
        is_mounted: listed.is_mounted,
        mountpoint: listed.mountpoint,
        resume_token: listed.resume_token,
        properties: listed.properties.into_iter().collect(),
        snapshots: snapshots.collect(),
        bookmarks: bookmarks.collect(),
    })
}

fn name(text: &str) -> Result<DatasetName, String> {
    DatasetName::parse(text).ok_or_else(|| format!("{:?} cannot be the name of a dataset", plain(text)))
}

#[cfg(test)]
mod tests {
    use backstay_zfs::state::DatasetKind;

    use super::*;

    fn replica(text: &str) -> Dataset {
        let name = DatasetName::parse(text).expect("a name");
        let (mark, guid, txg, at) =
            ("a".to_owned(), SnapshotGuid(u64::MAX), Txg(3), Timestamp::from_nanos(-4));
        Dataset {
            guid: DatasetGuid(1),
            kind: DatasetKind::Volume,
            encryption: Some(Encryption { root: name.clone(), key: Key::NotLoaded }),
            origin: Some(SnapshotName::parse("pool/held/m@b").expect("a name")),
            name,
            written_bytes: 5,
            used_bytes: 6,
            referenced_bytes: 7,
            is_mounted: true,
            mountpoint: Some("none".to_owned()),
            resume_token: Some("1-2".to_owned()),
            properties: [("dataset", "x"), ("gone", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            snapshots: vec![Snapshot { mark: mark.clone(), guid, txg, at, written_bytes: 8, holds: 9 }],
            bookmarks: vec![Bookmark { mark, guid, txg, at }],
        }
    }

    #[test]
    fn what_stands_is_told_as_it_is() {
        let place = DatasetName::parse("pool/held/m").expect("a name");
        let datasets = vec![replica("pool/held/m"), replica("pool/held/m/a b")];
        let payload = to_send(&place, datasets.clone()).to_payload().expect("short");
        assert_eq!(told(&payload), Ok((place, datasets)));
    }

    #[test]
    fn what_lies_elsewhere_is_not_believed() {
        let place = DatasetName::parse("pool/held/m").expect("a name");
        let payload = to_send(&place, vec![replica("pool/held/mine")]).to_payload().expect("short");
        assert_eq!(told(&payload), Err("pool/held/mine in a listing of pool/held/m".to_owned()));
    }
}
