//! How nodes of a fleet reach each other: connections over QUIC with mutual TLS, who is at the other end, and the two sides of
//! a vault that another node holds, and of live replicas. What is in objects is none of its business.

pub mod enrol;
pub mod hold;
pub mod identity;
pub mod link;
pub mod replica;
pub mod serve;
pub mod tailnet;

mod endpoint;
mod frames;
mod outgoing;
mod reset;
mod tls;

pub use endpoint::{Accepting, Endpoint, EndpointError};
