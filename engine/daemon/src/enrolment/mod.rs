//! The commands that change who belongs to the fleet: beginning one, inviting, joining, removing, other certificates. All of them
//! need the admin's key, but for joining, and have it in memory only as long as they run.

mod change;
mod init;
mod invite;
mod joining;
mod starter;

pub use change::{import, rebind, refuse_unknown, remove};
pub use init::init;
pub use invite::{Again, Invited, invite};
pub use joining::{DEFAULT_STATE, JoinPlan, join};
pub use starter::Starter;
