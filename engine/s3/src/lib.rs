//! A store in a bucket of any S3-compatible service. Objects lie below a prefix under the names that they have in every store.
//! Nothing depends on what services do differently: no conditional writes, no checksums that some do not know, no order of
//! anything but the names of a listing.

mod access;
mod bodies;
mod connector;
mod error;
mod hashing;
mod limiter;
mod provider;
mod store;
mod tempo;
mod transfer;

pub use access::{Credentials, Place};
pub use provider::{
    Checksums, ConditionalPut, Listing, LockMode, ObjectLock, Permission, Provider, Versioning,
};
pub use store::S3Store;
