//! This node among the others of its fleet: its certificate, the roster, the links to other nodes, and what it holds for them.
//! Owns the files of that under the state; connections and protocol are `net`'s, the commands that change who belongs to the fleet
//! are in `enrolment`.

mod files;
mod host;
mod member;
mod pem;
mod renewal;
mod scrubbing;
mod serving;
mod standings;

pub use files::{Files, public};
pub use host::local_api;
#[cfg(test)]
pub use member::Greeted;
pub use member::{Answer, FleetMember, Told, say_farewell};
pub use pem::read_chain;
pub use serving::{Commits, serve};
pub use standings::Standings;

use std::time::Duration;

/// How long a certificate of a node is valid.
pub const CERTIFICATE_VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate that is valid for no longer than this is renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(20 * 24 * 3600);

/// A fleet has this port by default.
pub const PORT: u16 = 7420;
