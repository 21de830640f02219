//! What differs between two states of a tree: the words for it, and the comparison of one object with another.

use crate::look::ListedEntry;
use crate::row::{Meta, Object, Restored};

/// What differs of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was there; `None` of what is new.
    pub old: Option<ListedEntry>,
    /// What is there; `None` of what is gone.
    pub new: Option<ListedEntry>,
    /// In what they differ; nothing where one of them is not there.
    pub aspects: Vec<Aspect>,
}

/// In what two objects can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What kind of object it is.
    Kind,
    /// Contents of a file, target of a link, number of a device.
    Contents,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// When the contents changed last.
    Time,
    /// Extended attributes, access control lists among them.
    Attributes,
    /// Of which file it is a name: one with several names became another, or none.
    Link,
}

impl Aspect {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Contents => "contents",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "time",
            Self::Attributes => "attributes",
            Self::Link => "link",
        }
    }
}

/// In what two objects differ.
pub(crate) fn aspects(old: &Restored, new: &Restored) -> Vec<Aspect> {
    match (old, new) {
        (
            Restored::Object { object: old, meta: old_meta },
            Restored::Object { object: new, meta: new_meta },
        ) => {
            let of_object = match (same_kind(old, new), old == new) {
                (false, _) => Some(Aspect::Kind),
                (true, false) => Some(Aspect::Contents),
                (true, true) => None,
            };
            of_object.into_iter().chain(aspects_of_meta(old_meta, new_meta)).collect()
        }
        (old, new) => {
            if old == new {
                Vec::new()
            } else {
                vec![Aspect::Link]
            }
        }
    }
}

/// In what the rest of two objects differs.
pub(super) fn aspects_of_meta(old: &Meta, new: &Meta) -> impl Iterator<Item = Aspect> + use<> {
    [
        (old.mode != new.mode).then_some(Aspect::Mode),
        ((old.uid, old.gid) != (new.uid, new.gid)).then_some(Aspect::Owner),
        (old.mtime != new.mtime).then_some(Aspect::Time),
        (old.attributes != new.attributes).then_some(Aspect::Attributes),
    ]
    .into_iter()
    .flatten()
}

pub(super) fn same_kind(old: &Object, new: &Object) -> bool {
    std::mem::discriminant(old) == std::mem::discriminant(new)
}
