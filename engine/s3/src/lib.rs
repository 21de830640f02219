//! A store in a bucket of any S3-compatible service. Objects lie below a prefix under the names that they have in every store.
//! Nothing depends on what services do differently: no conditional writes, no checksums that some do not know, no order of
//! anything but the names of a listing.

mod bodies;
mod connector;
mod error;
mod limiter;
mod store;
mod tempo;
mod transfer;

pub use store::{Credentials, Place, S3Store};
