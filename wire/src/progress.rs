//! How far something is that takes long. Owns the figures; how they are shown, and when the rest will be done, is for whoever
//! shows them.

use serde::{Deserialize, Serialize};

/// How far a capture is, or other work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The source, of a capture; empty while none has begun.
    pub source: String,
    /// How many things of the kind in `counted` are done.
    pub entries: u64,
    /// Bytes read, or sent.
    pub read_bytes: u64,
    /// Bytes of new records.
    pub stored_bytes: u64,
    /// What is counted.
    #[serde(default)]
    pub counted: Counted,
    /// How many there will be; absent when nobody can tell.
    #[serde(default)]
    pub expected: Option<Expected>,
}

/// What is counted in [`Progress::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Entries of a source.
    #[default]
    Entries,
    /// Points.
    Points,
    /// Packs.
    Packs,
    /// Requests to the vault: of work whose parts cannot be compared otherwise.
    Requests,
    /// What this version does not know.
    #[serde(other)]
    Unknown,
}

/// How much there will be in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// So many entries; absent where they say nothing of what is left.
    #[serde(default)]
    pub entries: Option<u64>,
    /// So many bytes; absent likewise.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Whether that is known.
    pub certainty: Certainty,
}

/// Whether what is expected is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It is.
    Known,
    /// It is taken from something that is most likely similar.
    Guessed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_another_version_can_be_read() {
        let before = r#"{"source":"data.files","entries":3,"read_bytes":4,"stored_bytes":5}"#;
        let read: Progress = serde_json::from_str(before).expect("what was told before there were totals");
        assert_eq!((read.counted, read.expected), (Counted::Entries, None));
        let after = r#"{"source":"","entries":3,"read_bytes":4,"stored_bytes":5,"counted":"moons","more":1}"#;
        let read: Progress = serde_json::from_str(after).expect("what a later version may tell");
        assert_eq!(read.counted, Counted::Unknown);
    }
}
