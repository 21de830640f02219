//! Who is at the other end: certificates of the fleet's authority, what they say, and the roster of the nodes that belong to it.
//! Owns the judgement of certificates; what a node may do is not decided here.

mod issue;
mod judge;
mod own;
mod roster;
mod roster_object;

pub use issue::{Authority, IssueError, NodeKey};
pub use judge::{CertificateFault, PeerIdentity, TlsKeyHash, judge, valid_until};
pub use own::{Certificate, OwnCertificate};
pub use roster::{
    Charter, MEMBERS_MAX, Member, NotAMember, NotKept, Roster, RosterFault, RosterKeeper, RosterWatch,
    SignedRoster,
};
