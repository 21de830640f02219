//! On a real OpenZFS.

mod replication;
mod roles;
mod single;
