//! What a program writes to its standard output as a source: how the program is run, how its output becomes a point,
//! and how the output is had back. Owns the process and whose rights it has; chunks, packs and runs on disk are the
//! vault's, and the form of the one row is that of a directory tree (docs/format.md, section 11, "command"). All of it
//! blocks and belongs on ordinary threads.

pub mod capture;
pub mod environment;
pub mod launch;
pub mod program;
pub mod restore;
pub mod row;
pub mod user;

/// The kind of such sources, as points carry it.
pub const KIND: &str = "command";
