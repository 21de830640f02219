//! What `zfs get` and `zpool get` print (with `-Hp`: columns apart by tabs, numbers exact). Owns the properties that are asked for.

use std::collections::{BTreeMap, HashMap};

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;

use crate::guid::{DatasetGuid, SnapshotGuid, Txg};
use crate::name::{BookmarkName, SnapshotName};
use crate::plan::{COMPLETE_PROPERTY, GONE_PROPERTY, MEMBER_PROPERTY};
use crate::role::{ACTIVE_PROPERTY, MOUNTPOINT_PROPERTY};
use crate::state::{Bookmark, Dataset, DatasetKind, Encryption, Key, PROPERTY_PREFIX, Pool, Snapshot};

/// Of datasets, snapshots and bookmarks alike; of those that one of them has not nothing is printed, or `-`.
const NATIVE: [&str; 14] = [
    "type",
    "guid",
    "createtxg",
    "creation",
    "userrefs",
    "encryptionroot",
    "keystatus",
    "origin",
    "written",
    "used",
    "referenced",
    "mounted",
    "mountpoint",
    "receive_resume_token",
];

/// Those of Backstay's own that are read.
const OWN: [&str; 5] =
    [MEMBER_PROPERTY, COMPLETE_PROPERTY, GONE_PROPERTY, ACTIVE_PROPERTY, MOUNTPOINT_PROPERTY];

/// What is asked for, as `zfs get` takes it.
pub(super) fn properties() -> String {
    let own = OWN.map(|name| format!("{PROPERTY_PREFIX}{name}"));
    NATIVE.iter().map(|name| (*name).to_owned()).chain(own).collect::<Vec<_>>().join(",")
}

/// What is printed of one dataset, snapshot or bookmark.
#[derive(Default)]
struct Printed<'p> {
    name: &'p str,
    native: HashMap<&'p str, &'p str>,
    own: BTreeMap<String, String>,
}

impl<'p> Printed<'p> {
    fn get(&self, property: &str) -> Option<&'p str> {
        self.native.get(property).copied().filter(|value| !matches!(*value, "-" | ""))
    }

    fn needed(&self, property: &str) -> Result<&'p str, String> {
        self.get(property).ok_or_else(|| format!("{} has no {property}", self.name))
    }

    fn number(&self, property: &str) -> Result<u64, String> {
        number(self.needed(property)?)
    }

    fn bytes(&self, property: &str) -> Result<u64, String> {
        self.get(property).map_or(Ok(0), number)
    }
}

/// Reads lines of name, property, value and its source. The error says what was found.
pub(super) fn parse_list(printed: &str) -> Result<Vec<Dataset>, String> {
    let mut datasets: Vec<Dataset> = Vec::new();
    let mut hanging = Vec::new();
    for one in grouped(printed)? {
        match one.needed("type")? {
            "filesystem" => datasets.push(dataset(&one, DatasetKind::Filesystem)?),
            "volume" => datasets.push(dataset(&one, DatasetKind::Volume)?),
            // In whatever order it comes.
            "snapshot" | "bookmark" => hanging.push(one),
            other => return Err(format!("{} is a {other:?}", one.name)),
        }
    }
    // Parents first: not by the names as they are, since `tank/a b` would stand between `tank/a` and `tank/a/b`.
    datasets.sort_by(|a, b| a.name.as_str().split('/').cmp(b.name.as_str().split('/')));
    let places: HashMap<DatasetName, usize> =
        datasets.iter().enumerate().map(|(place, dataset)| (dataset.name.clone(), place)).collect();
    for one in hanging {
        let owner = |dataset: &DatasetName| {
            let place = places.get(dataset).copied();
            place.ok_or_else(|| format!("{} hangs on a dataset that is not listed", one.name))
        };
        let (guid, txg) = (SnapshotGuid(one.number("guid")?), Txg(one.number("createtxg")?));
        let at = time(one.number("creation")?)?;
        if one.name.contains('@') {
            let name = SnapshotName::parse(one.name).map_err(|error| error.to_string())?;
            let holds = one.bytes("userrefs")?;
            let written_bytes = one.bytes("written")?;
            let snapshot = Snapshot { mark: name.mark().to_owned(), guid, txg, at, written_bytes, holds };
            datasets[owner(name.dataset())?].snapshots.push(snapshot);
        } else {
            let name = BookmarkName::parse(one.name).map_err(|error| error.to_string())?;
            let bookmark = Bookmark { mark: name.mark().to_owned(), guid, txg, at };
            datasets[owner(name.dataset())?].bookmarks.push(bookmark);
        }
    }
    for dataset in &mut datasets {
        dataset.snapshots.sort_by_key(|snapshot| snapshot.txg);
        dataset.bookmarks.sort_by_key(|bookmark| bookmark.txg);
    }
    Ok(datasets)
}

/// The lines of one after the other: all of a name come in a row.
fn grouped(printed: &str) -> Result<Vec<Printed<'_>>, String> {
    let mut all: Vec<Printed<'_>> = Vec::new();
    for line in printed.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, property, value, source] = columns[..] else {
            return Err(format!("a line with other columns than were asked for: {line:?}"));
        };
        if all.last().is_none_or(|last| last.name != name) {
            all.push(Printed { name, ..Printed::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        match property.strip_prefix(PROPERTY_PREFIX) {
            // What is below inherits such properties, and means nothing by it.
            Some(own) if matches!(source, "local" | "received") => {
                last.own.insert(own.to_owned(), value.to_owned());
            }
            Some(_) => {}
            None => drop(last.native.insert(property, value)),
        }
    }
    Ok(all)
}

fn dataset(one: &Printed<'_>, kind: DatasetKind) -> Result<Dataset, String> {
    let encryption = match one.get("encryptionroot") {
        None => None,
        Some(root) => {
            let is_loaded = one.get("keystatus") == Some("available");
            let key = if is_loaded { Key::Loaded } else { Key::NotLoaded };
            Some(Encryption { root: parse_dataset(root)?, key })
        }
    };
    let origin = one.get("origin").map(SnapshotName::parse).transpose();
    Ok(Dataset {
        name: parse_dataset(one.name)?,
        guid: DatasetGuid(one.number("guid")?),
        kind,
        encryption,
        origin: origin.map_err(|error| error.to_string())?,
        written_bytes: one.bytes("written")?,
        used_bytes: one.bytes("used")?,
        referenced_bytes: one.bytes("referenced")?,
        is_mounted: one.get("mounted") == Some("yes"),
        mountpoint: one.get("mountpoint").map(str::to_owned),
        resume_token: one.get("receive_resume_token").map(str::to_owned),
        properties: one.own.clone(),
        snapshots: Vec::new(),
        bookmarks: Vec::new(),
    })
}

/// Reads `zpool get -o property,value all`.
pub(super) fn parse_pool(printed: &str) -> Pool {
    let pairs = || printed.lines().filter_map(|line| line.split_once('\t'));
    let features = pairs().filter_map(|(property, value)| {
        let name = property.strip_prefix("feature@")?;
        matches!(value, "enabled" | "active").then(|| name.to_owned())
    });
    Pool {
        features: features.collect(),
        is_suspended: pairs().any(|(property, value)| property == "health" && value == "SUSPENDED"),
    }
}

fn parse_dataset(text: &str) -> Result<DatasetName, String> {
    DatasetName::parse(text).ok_or_else(|| format!("{text:?} is not the name of a dataset"))
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn time(seconds: u64) -> Result<Timestamp, String> {
    let seconds = i64::try_from(seconds).map_err(|_| format!("{seconds} is not a time"))?;
    Ok(Timestamp::from_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, properties: &[(&str, &str, &str)]) -> String {
        let line = |(property, value, source): &(&str, &str, &str)| {
            format!("{name}\t{property}\t{value}\t{source}\n")
        };
        properties.iter().map(line).collect()
    }

    fn listed() -> String {
        let dataset = |name, kind, guid, more: &[(&str, &str, &str)]| {
            let common = [("type", kind, "-"), ("guid", guid, "-"), ("written", "4096", "-")];
            lines(name, &[&common, more].concat())
        };
        let hanging = |name, kind, guid, txg| {
            let common = [("type", kind, "-"), ("guid", guid, "-"), ("createtxg", txg, "-")];
            lines(name, &[&common[..], &[("creation", "1764600000", "-"), ("userrefs", "1", "-")]].concat())
        };
        let inherited = [("backstay:dataset", "0000000000000005", "inherited from tank/a")];
        let own = [
            ("backstay:dataset", "0000000000000005", "local"),
            ("encryptionroot", "tank/a", "-"),
            ("keystatus", "available", "-"),
            ("mounted", "yes", "-"),
            ("receive_resume_token", "-", "-"),
        ];
        let clone =
            [("origin", "tank/x@y", "-"), ("receive_resume_token", "1-abc", "-"), ("mounted", "-", "-")];
        [
            dataset("tank/a b", "filesystem", "7", &[]),
            dataset("tank/a", "filesystem", "5", &own),
            hanging("tank/a@two", "snapshot", "12", "30"),
            hanging("tank/a@one", "snapshot", "11", "20"),
            hanging("tank/a#one", "bookmark", "11", "20"),
            dataset("tank/a/v", "volume", "6", &[&clone[..], &inherited].concat()),
        ]
        .concat()
    }

    #[test]
    fn snapshots_are_ordered_by_their_transaction_groups_and_parents_come_first() {
        let datasets = parse_list(&listed()).expect("as it is printed");
        let names: Vec<_> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        assert_eq!(names, ["tank/a", "tank/a/v", "tank/a b"]);
        let [a, v, _] = &datasets[..] else { panic!("three") };
        let marks: Vec<_> = a.snapshots.iter().map(|snapshot| snapshot.mark.as_str()).collect();
        assert_eq!((marks, a.snapshots[1].holds), (vec!["one", "two"], 1));
        assert_eq!(a.bookmarks[0].guid, a.snapshots[0].guid);
        assert_eq!(a.encryption.as_ref().map(|encryption| encryption.key), Some(Key::Loaded));
        assert!(a.is_mounted && !v.is_mounted);
        assert_eq!((v.kind, v.resume_token.as_deref()), (DatasetKind::Volume, Some("1-abc")));
        assert_eq!(v.origin.as_ref().map(ToString::to_string).as_deref(), Some("tank/x@y"));
    }

    #[test]
    fn properties_of_our_own_count_where_they_are_set_and_not_where_they_are_inherited() {
        let datasets = parse_list(&listed()).expect("as it is printed");
        assert_eq!(datasets[0].properties.get("dataset").map(String::as_str), Some("0000000000000005"));
        assert!(datasets[1].properties.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let unknown = lines("tank", &[("type", "magic", "-")]);
        let without = lines("tank", &[("type", "filesystem", "-")]);
        let lonely = lines("tank@a", &[("type", "snapshot", "-"), ("guid", "1", "-")]);
        for printed in ["tank", &unknown, &without, &lonely] {
            assert!(parse_list(printed).is_err(), "{printed:?} was understood");
        }
    }

    #[test]
    fn a_pool_tells_its_features_and_whether_it_stands() {
        let pool = parse_pool("health\tSUSPENDED\nfeature@bookmark_v2\tactive\nfeature@draid\tdisabled\n");
        assert_eq!(pool, Pool { features: vec!["bookmark_v2".to_owned()], is_suspended: true });
    }
}
