//! What this node holds for others: a space for each of them, in which it may do what the rules say and no more. The objects are
//! opaque; hashes, and signatures of a few, are all that is looked at.

mod append;
mod changes;
mod conditions;
mod objects;
mod receive;
mod room;
mod rules;
mod scrub;
mod space;

pub use room::{Disks, Room, RoomLimits};
pub use rules::Rights;
pub use scrub::{NotScrubbed, SCRUB_PARTS, Scrubbed};
pub use space::{Space, Writer};

pub(crate) use append::Appended;
pub(crate) use changes::Offered;
pub(crate) use objects::Opened;
pub(crate) use receive::{Lost, NotTaken, Payload};
