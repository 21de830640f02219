//! Directory trees as a source: how a tree is walked, what of it is kept as rows, and how rows become a
//! tree again. Owns everything that touches the protected file system; chunks, packs and runs on disk are
//! the vault's. All of it blocks and belongs on ordinary threads. Nothing here follows a symbolic link that
//! it found below the root it was given.

mod beneath;
pub mod capture;
pub mod content;
pub mod devices;
pub mod exclude;
pub mod heads;
pub mod keys;
pub mod kind;
pub mod look;
mod names;
pub mod observe;
mod on_disk;
pub mod place;
mod point_rows;
pub mod prove;
pub mod read;
pub mod restore;
pub mod row;
pub mod rule;
pub mod spill;
pub mod stat;
pub mod state;
pub mod touched;
pub mod walk;
pub mod watch;
mod xattr;
