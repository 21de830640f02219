//! Names of snapshots, bookmarks and holds, and those that are Backstay's own (docs/zfs.md, section 2).

mod own;

use std::fmt;

use backstay_core::config::DatasetName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use own::{Cursor, FlowId, FlowTarget, HoldTag, OwnSnapshot};

/// OpenZFS refuses longer names (`ZFS_MAX_DATASET_NAME_LEN`, with the NUL at its end).
const NAME_BYTES_MAX: usize = 255;

/// A text that is not the name that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of a {what}")]
pub struct NameError {
    what: &'static str,
    text: String,
}

macro_rules! marked {
    ($(#[$meta:meta])* $name:ident, $mark:literal, $what:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            dataset: DatasetName,
            mark: String,
        }

        impl $name {
            /// The one of this name of a dataset.
            pub fn new(dataset: &DatasetName, mark: &str) -> Result<Self, NameError> {
                Self::parse(&format!("{dataset}{}{mark}", $mark))
            }

            /// As `zfs list` shows it.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let refused = || NameError { what: $what, text: text.chars().take(NAME_BYTES_MAX).collect() };
                let (dataset, mark) = text.split_once($mark).ok_or_else(refused)?;
                let dataset = DatasetName::parse(dataset).ok_or_else(refused)?;
                // `%recv` and the like are OpenZFS's own, and are shown now and then.
                let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.: %".contains(c);
                if mark.is_empty() || text.len() > NAME_BYTES_MAX || !mark.chars().all(is_allowed) {
                    return Err(refused());
                }
                Ok(Self { dataset, mark: mark.to_owned() })
            }

            /// Whose it is.
            pub fn dataset(&self) -> &DatasetName {
                &self.dataset
            }

            /// What its name adds to that of the dataset.
            pub fn mark(&self) -> &str {
                &self.mark
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}{}", self.dataset, $mark, self.mark)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'d> Deserialize<'d> for $name {
            fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

marked!(
    /// A snapshot, such as `tank/matrix@before`.
    SnapshotName, '@', "snapshot");
marked!(
    /// A bookmark, such as `tank/matrix#sent`: what is left of a snapshot that something can be sent from.
    BookmarkName, '#', "bookmark");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_openzfs() {
        let name = SnapshotName::parse("tank/a b@before upgrade").expect("a name");
        assert_eq!((name.dataset().as_str(), name.mark()), ("tank/a b", "before upgrade"));
        assert_eq!(name.to_string(), "tank/a b@before upgrade");
        assert_eq!(BookmarkName::parse("tank#x").expect("a name").mark(), "x");
        let long = format!("tank@{}", "x".repeat(251));
        for text in ["", "tank", "tank@", "@x", "tank#x", "tank@a@b", "tank@a/b", "tank@ä", long.as_str()] {
            assert!(SnapshotName::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
