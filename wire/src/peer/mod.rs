//! Messages between nodes (docs/protocol.md): their shapes, encoding, limits and versions. Sans-I/O: no sockets, no clock, no
//! runtime. What is in objects is none of their business, and who may ask for what is the holder's.

mod answer;
mod frame;
mod hello;
mod join;
mod replica;
mod replica_listing;
mod request;
mod standing;
mod text;

pub use answer::{Answer, CHAIN_LENGTH_MAX, Listed, Reason, Refusal, WAIT_MAX};
pub use frame::{FrameError, MESSAGE_BYTES_MAX, PREFIX_BYTES, body_length, decode, encode};
pub use hello::{CAPABILITIES_MAX, CAPABILITY_APPEND, ConnectionKind, Greeting, Hello, MAJOR, MINOR};
pub use join::{FLEET_FILE_BYTES_MAX, JoinAnswer, JoinRequest, Welcome};
pub use replica::{
    CAPABILITY_REPLICA, REPLICA_NAME_BYTES_MAX, ReplicaArriving, ReplicaChange, ReplicaKind, ReplicaMakes,
    ReplicaRequest, StreamForm,
};
pub use replica_listing::{
    ListedBookmark, ListedDataset, ListedEncryption, ListedSnapshot, REPLICA_DATASETS_MAX,
    REPLICA_LISTING_BYTES_MAX, REPLICA_MARKS_MAX, REPLICA_PROPERTIES_MAX, REPLICA_TEXT_BYTES_MAX,
    ReplicaListing,
};
pub use request::{APPEND_BYTES_MAX, DELETE_NAMES_MAX, PAYLOAD_BYTES_MAX, ROSTER_BYTES_MAX, Request};
pub use standing::{NewestThere, ProofThere, STANDING_PROOFS_MAX, Standing};

#[cfg(test)]
mod tests;
