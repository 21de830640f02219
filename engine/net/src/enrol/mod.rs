//! How a node comes to belong to a fleet (docs/protocol.md, section 8): an invitation, which whoever has the admin's key gives
//! and keeps open, and the node that takes it up. Nobody else speaks with a node that nobody knows.

mod accept;
mod invitation;
mod join;
mod proof;
mod tls;

pub use accept::{Admitted, Enroller, InviteError, Inviting};
pub use invitation::{Invitation, InvitationError};
pub use join::{JoinError, Joined, Joining, join};
