//! This node among the others of its fleet: its certificate, the roster, the links to other nodes, and what it holds for them.
//! Owns the files of that under the state; connections and protocol are `net`'s.

mod change;
mod files;
mod host;
mod init;
mod invite;
mod joining;
mod member;
mod pem;
mod renewal;
mod serving;
mod starter;

pub use change::{Told, import, rebind, remove};
pub use init::init;
pub use invite::{Invited, invite};
pub use joining::{DEFAULT_STATE, JoinPlan, join};
pub use member::FleetMember;
pub use serving::serve;
pub use starter::Starter;

use std::time::Duration;

/// How long a certificate of a node is valid.
const CERTIFICATE_VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate that is valid for no longer than this is renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(20 * 24 * 3600);

/// A fleet has this port by default.
const PORT: u16 = 7420;
