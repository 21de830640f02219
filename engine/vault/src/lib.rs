//! The vault: an encrypted, deduplicated, append-mostly repository in a store (docs/format.md).
//! Owns everything from a chunk of plaintext to durable objects and back. What a source is and how it
//! is read is the business of the crates above.

pub mod buffer;
pub mod chunk;
pub mod clear;
pub mod collections;
pub mod commit_object;
pub mod envelope;
pub mod error;
pub mod index;
pub mod index_object;
pub mod keys;
pub mod malformed;
pub mod name;
mod noise;
pub mod pack;
pub mod pack_keys;
pub mod read;
pub mod record;
pub mod split;
pub mod store;
pub mod table;
pub mod take;
pub mod targets;
pub mod vault;
pub mod write;
