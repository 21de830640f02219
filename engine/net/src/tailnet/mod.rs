//! This node's place on a tailnet (Tailscale or Headscale), as the tailscaled beside it tells: which node it is there, which
//! addresses it has, and which node is behind an address. Owns the questions and how their answers are judged; refuses to
//! change anything in tailscaled, and to take a certificate's place: a node must be vouched for by both.
//!
//! - [`LocalApi`] asks tailscaled over its Unix socket. Each question is bounded in time, each answer in size.
//! - [`OwnNode::sockets`] are the addresses that `listen = "tailnet:PORT"` stands for.
//! - [`vouches`] judges whether a peer is the tailnet node that a node of the fleet is bound to.

mod answer;
mod error;
mod exchange;
mod listen;
mod local_api;
mod node;
mod vouch;
mod voucher;

pub use error::{BackendState, TailnetError};
pub use local_api::{ANSWER_BYTES_MAX, ANSWER_TIME, DEFAULT_SOCKET, LocalApi};
pub use node::{Interface, OwnNode, Peer, StableNodeId, StableNodeIdError};
pub use vouch::{Stranger, vouches};
pub use voucher::{NotVouchedFor, Voucher};
