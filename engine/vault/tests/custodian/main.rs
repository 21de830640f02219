//! The custodian at work (docs/collection.md): what is accepted, thinned and deleted, and that it loses nothing.

mod asking;
mod beside;
mod compromised;
mod crashes;
mod crashes_of_undelete;
mod late_records;
mod passes;
mod readers;
mod role;
mod scene;
mod splitting;
mod thinning;
mod undelete;
