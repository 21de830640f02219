//! What the provider of a bucket does, as far as it can be found out by asking it. Nothing that the store does depends on any of
//! it: it is for people, who decide by it what protects their history.

use serde::{Deserialize, Serialize};

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// What becomes of a put that is to make something new only.
    pub conditional_put: ConditionalPut,
    /// What becomes of what is replaced or deleted.
    pub versions: Versioning,
    /// Whether objects are locked for a time.
    pub object_lock: ObjectLock,
    /// What checksums in headers are good for.
    pub checksums: Checksums,
    /// Whether listings show what was just done.
    pub listing: Listing,
    /// Whether the key that writes may put.
    pub puts: Permission,
    /// Whether the key that writes may delete.
    pub deletes: Permission,
    /// Whether the key that writes may delete older versions for good.
    pub version_deletes: Permission,
    /// Whether the custodian's own key may delete; absent where there is none.
    pub custodian_deletes: Option<Permission>,
    /// Whether the custodian's own key may delete older versions for good; absent where there is none.
    pub custodian_version_deletes: Option<Permission>,
    /// What was put to find all this out and could not be taken away again: objects and versions.
    pub left: u32,
    /// Requests that it took.
    pub requests: u32,
}

/// What becomes of a put with `If-None-Match: *` (RFC 9110, section 13.1.2) where something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionalPut {
    /// It is refused, and what is there stays.
    Honoured,
    /// It is done without a word.
    Ignored,
    /// No such put is taken, whatever is there.
    Refused,
    /// Nobody can tell.
    Unknown,
}

/// Whether a bucket keeps what is replaced or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    /// It does.
    On,
    /// It has, and does no more.
    Suspended,
    /// It does not.
    Off,
    /// This key may not ask, and nothing else tells.
    Unknown,
}

/// Whether objects are locked for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectLock {
    /// They are not, or the provider has no such thing.
    Off,
    /// They can be, and are not by themselves.
    WithoutDefault,
    /// Each is, from when it is put.
    ByDefault {
        /// For so many days.
        days: u32,
        /// Who can end it before.
        mode: LockMode,
    },
    /// This key may not ask.
    Unknown,
}

/// Who can end the lock of an object before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Keys with a right of its own for that.
    Governance,
    /// Nobody.
    Compliance,
}

/// What becomes of a put with `x-amz-checksum-sha256` that is not that of the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// It is refused.
    Verified,
    /// It is done, and the checksum is told as if it were right.
    Kept,
    /// It is done as if there were none.
    Ignored,
    /// No put with such a header is taken, not even with the right one.
    Refused,
    /// Nobody can tell.
    Unknown,
}

/// Whether listings show what was just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// They do.
    AtOnce,
    /// What was just put was not listed, or what was just deleted was: no vault can be there.
    Stale,
    /// Nobody can tell.
    Unknown,
}

/// Whether a key may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It may.
    Allowed,
    /// It was refused.
    Denied,
    /// It was not tried, or there is no such thing.
    Unknown,
}
