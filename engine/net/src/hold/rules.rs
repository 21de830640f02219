//! Who may do what to which objects of a space (docs/protocol.md, section 4). Pure: what has to be looked up is said, not done.

use backstay_vault::name::Named;

/// What a node may do in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// What whoever writes a vault needs, and nothing by which history could be undone.
    Write,
    /// To read it. So much remains to a node whose certificate is expired.
    Read,
    /// Everything: as a custodian, who deletes.
    All,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is put where none is.
    Create,
    /// It grows, from nothing on.
    Append,
    /// It takes the place of another one.
    Renew,
    /// It goes.
    Delete,
}

/// What must hold besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    Free,
    /// The node has signed what is put, and, where there is one, the object that goes.
    SignedByNode,
    /// The node has signed what is put, and the session that it is about.
    OfOwnSession,
    /// The admin has signed what is put, for this place.
    SignedByAdmin,
}

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotPermitted {
    /// Nobody but the holder does that.
    Holders,
    /// Objects of this kind stay as they are.
    Immutable,
    /// It may read, and no more.
    ReadOnly,
    /// What is appended to is appended to only, and nothing else is.
    Appending,
}

impl NotPermitted {
    /// In words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Holders => "objects of this kind are the holder's: it alone writes and deletes them",
            Self::Immutable => {
                "objects of this kind are neither replaced nor deleted by their writer: retention is the holder's, and removes them when their time has come"
            }
            Self::Appending => {
                "objects of a journal are written by appending to them, and objects of no other kind are"
            }
            Self::ReadOnly => {
                "this node may only read: its certificate is expired; it is renewed by itself as soon as an issuer can be reached"
            }
        }
    }
}

/// Whether something may be done, and under which condition.
pub(super) fn judge(rights: Rights, named: &Named, change: Change) -> Result<Condition, NotPermitted> {
    if matches!(named, Named::Journal(..)) != (change == Change::Append) && change != Change::Delete {
        return Err(NotPermitted::Appending);
    }
    match rights {
        Rights::All => Ok(Condition::Free),
        Rights::Read => Err(NotPermitted::ReadOnly),
        Rights::Write => of_writer(named, change),
    }
}

/// Whether objects of this kind are small: they are looked into, or renewed, and many are read at once.
pub(super) fn is_small(named: &Named) -> bool {
    matches!(
        named,
        Named::Session(_)
            | Named::Fence(_)
            | Named::Key(_)
            | Named::Format(_)
            | Named::Trust(_)
            | Named::Head(..)
    )
}

fn of_writer(named: &Named, change: Change) -> Result<Condition, NotPermitted> {
    use Change::{Append, Create, Delete, Renew};
    match (named, change) {
        (
            Named::Pack(_) | Named::Index(..) | Named::Point(..) | Named::Head(..) | Named::Proof(..),
            Create,
        ) => Ok(Condition::Free),
        (Named::Journal(..), Append) => Ok(Condition::Free),
        (Named::Session(_), Create) => Ok(Condition::SignedByNode),
        (Named::Session(_), Renew | Delete) => Ok(Condition::SignedByNode),
        (Named::Fence(_), Create) => Ok(Condition::OfOwnSession),
        (Named::Key(_), Create | Renew | Delete) => Ok(Condition::Free),
        (Named::Format(_) | Named::Trust(_), Create) => Ok(Condition::SignedByAdmin),
        (Named::Layout(..) | Named::Gc(..) | Named::Bad(..), _) => Err(NotPermitted::Holders),
        (_, Append | Create | Renew | Delete) => Err(NotPermitted::Immutable),
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::collection::CollectionNumber;
    use backstay_core::id::{BranchId, JournalId, ObjectHash, PackId, PointId, SessionId, SourceId};

    use super::*;

    fn every_kind() -> Vec<Named> {
        let (source, session) = (SourceId::new([1; 16]), SessionId::new([2; 16]));
        let hash = ObjectHash::new([3; 32]);
        vec![
            Named::Format(1),
            Named::Trust(1),
            Named::Key("a".to_owned()),
            Named::Pack(PackId::new([4; 32])),
            Named::Index(session, hash),
            Named::Point(source, PointId::new([5; 16]), hash),
            Named::Layout(source, 1, hash),
            Named::Head(source, 1, hash),
            Named::Session(session),
            Named::Fence(session),
            Named::Gc(CollectionNumber::new(1), hash),
            Named::Bad(1, hash),
            Named::Proof(source, 1, hash),
            Named::Journal(source, BranchId::new([6; 16]), 1, JournalId::new([7; 16])),
        ]
    }

    fn folder(named: &Named) -> String {
        named.to_name().as_str().split('/').next().unwrap_or_default().to_owned()
    }

    fn permitted(rights: Rights, change: Change) -> Vec<String> {
        let is_permitted = |named: &&Named| judge(rights, named, change).is_ok();
        every_kind().iter().filter(is_permitted).map(folder).collect()
    }

    #[test]
    fn a_writer_creates_what_a_commit_needs_and_nothing_of_the_custodian() {
        let created = permitted(Rights::Write, Change::Create);
        let expected =
            ["format", "trust", "keys", "packs", "index", "points", "heads", "ledger", "fences", "proofs"];
        assert_eq!(created, expected);
    }

    #[test]
    fn a_writer_renews_and_deletes_its_sessions_and_keys_and_nothing_of_history() {
        for change in [Change::Renew, Change::Delete] {
            assert_eq!(permitted(Rights::Write, change), ["keys", "ledger"], "{change:?}");
        }
    }

    #[test]
    fn a_journal_is_appended_to_and_nothing_else_is() {
        for rights in [Rights::Write, Rights::All] {
            assert_eq!(permitted(rights, Change::Append), ["journal"], "{rights:?}");
        }
        for change in [Change::Create, Change::Renew] {
            assert!(!permitted(Rights::All, change).contains(&"journal".to_owned()), "{change:?}");
        }
    }

    #[test]
    fn whoever_may_only_read_changes_nothing() {
        for change in [Change::Create, Change::Append, Change::Renew, Change::Delete] {
            assert_eq!(permitted(Rights::Read, change), [""; 0], "{change:?}");
        }
        for (change, left_out) in [(Change::Create, 1), (Change::Renew, 1), (Change::Delete, 0)] {
            assert_eq!(permitted(Rights::All, change).len(), every_kind().len() - left_out, "{change:?}");
        }
    }
}
