//! The decoders of Backstay that meet bytes of others: one function for each, which takes any bytes and panics only
//! when the decoder has a bug. Where a seal or signature would keep arbitrary bytes from a decoder, the function
//! seals them itself, with keys that everybody knows.
//!
//! `cargo test -p backstay-fuzz` replays the kept inputs of `corpus/` and mutations of them; `cargo xtask fuzz TARGET`
//! looks for new ones.

mod clear;
mod commit;
mod config;
mod files;
mod fleet;
pub mod keys;
mod kit;
mod pack;
mod segment;
mod table;
mod wire;

pub use clear::{bundle, clear, envelope, name};
pub use commit::{
    SOURCE, sample_vault, sealed_commit, sealed_head, sealed_index, sealed_layout, sealed_point, sealed_proof,
};
pub use config::config;
pub use files::{files_further_row, files_key, files_row};
pub use fleet::{invitation, sealed_roster};
pub use kit::{address, kit_page};
pub use pack::{index, pack, record, sealed_pack, sealed_record};
pub use segment::{SEALED_SEGMENT_HEAD_BYTES, SEGMENT_VAULT, sealed_segment, segment};
pub use table::{block, index_block, live_table, part_root, table};
pub use wire::{frame, peer_message, replica_listing};

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus, and of its binary in `libfuzzer/`.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "address", run: address },
    Target { name: "block", run: block },
    Target { name: "bundle", run: bundle },
    Target { name: "clear", run: clear },
    Target { name: "config", run: config },
    Target { name: "envelope", run: envelope },
    Target { name: "files_further_row", run: files_further_row },
    Target { name: "files_key", run: files_key },
    Target { name: "files_row", run: files_row },
    Target { name: "frame", run: frame },
    Target { name: "index", run: index },
    Target { name: "index_block", run: index_block },
    Target { name: "invitation", run: invitation },
    Target { name: "kit_page", run: kit_page },
    Target { name: "live_table", run: live_table },
    Target { name: "name", run: name },
    Target { name: "pack", run: pack },
    Target { name: "part_root", run: part_root },
    Target { name: "peer_message", run: peer_message },
    Target { name: "record", run: record },
    Target { name: "replica_listing", run: replica_listing },
    Target { name: "sealed_commit", run: sealed_commit },
    Target { name: "sealed_head", run: sealed_head },
    Target { name: "sealed_index", run: sealed_index },
    Target { name: "sealed_layout", run: sealed_layout },
    Target { name: "sealed_pack", run: sealed_pack },
    Target { name: "sealed_point", run: sealed_point },
    Target { name: "sealed_proof", run: sealed_proof },
    Target { name: "sealed_record", run: sealed_record },
    Target { name: "sealed_roster", run: sealed_roster },
    Target { name: "sealed_segment", run: sealed_segment },
    Target { name: "segment", run: segment },
    Target { name: "table", run: table },
];
