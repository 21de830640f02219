//! What `restore --all` has begun and restored so far, so that the same command, run again, goes on with it and does not take it for
//! something else that is in the way. A file, which goes when all is done.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::terminal::remark;

const NAME: &str = ".backstay-restore-all";

/// Longest record that is read, bytes: some hundred for each of the most sources that there are.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// A source, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) vault: String,
    pub(super) source: String,
    /// The path, which need not be text.
    pub(super) to: Vec<u8>,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Something of it may be there.
    Begun,
    /// All of it is there.
    Restored,
    /// It is there, but for what is said.
    Incomplete(String),
}

/// Of which point it is restored, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) point: String,
    pub(super) state: State,
}

#[derive(Serialize, Deserialize)]
struct Line {
    place: Place,
    note: Note,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Record {
    /// Where it is kept, if it is.
    file: Option<PathBuf>,
    /// What was noted last of each.
    notes: BTreeMap<Place, Note>,
}

impl Record {
    /// None, and none is kept.
    pub(super) fn none() -> Self {
        Self { file: None, notes: BTreeMap::new() }
    }

    /// What an earlier run has left in this folder; nothing is added there.
    pub(super) fn read(folder: &Path) -> Self {
        Self { file: None, notes: read(&folder.join(NAME)) }
    }

    /// What an earlier run has left in this folder, which gets what is added.
    pub(super) fn keep(folder: &Path) -> Self {
        let file = folder.join(NAME);
        Self { notes: read(&file), file: Some(file) }
    }

    pub(super) fn get(&self, place: &Place) -> Option<&Note> {
        self.notes.get(place)
    }

    /// Notes how far one is, durably.
    pub(super) fn note(&mut self, place: &Place, note: Note) {
        let line = Line { place: place.clone(), note };
        if let Some(file) = &self.file {
            let write = || {
                if let Some(folder) = file.parent() {
                    fs::create_dir_all(folder)?;
                }
                // Whatever was cut off before it is another line.
                let mut text = vec![b'\n'];
                serde_json::to_writer(&mut text, &line)?;
                text.push(b'\n');
                let mut out = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
                out.write_all(&text)?;
                out.sync_all()
            };
            if let Err(error) = write() {
                unkept(file, &error);
                // Said once.
                self.file = None;
            }
        }
        self.notes.insert(line.place, line.note);
    }

    /// All is done.
    pub(super) fn remove(self) {
        let Some(file) = self.file else { return };
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                remark(&format!(
                    "warning: {} is of no use any more, and cannot be removed: {error}",
                    file.display()
                ));
            }
            _ => {}
        }
    }
}

/// Lines that are not whole are passed over: what they told of is refused by what is there.
fn read(file: &Path) -> BTreeMap<Place, Note> {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() != ErrorKind::NotFound => unread(file, &error),
        _ => {}
    }
    let lines =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    lines.map(|Line { place, note }| (place, note)).collect()
}

fn unread(file: &Path, error: &std::io::Error) {
    remark(&format!("warning: what was restored before is not known: {}: {error}", file.display()));
}

fn unkept(place: &Path, error: &std::io::Error) {
    remark(&format!(
        "warning: it cannot be noted what is restored ({}: {error}): the same command, run again, would refuse that as being there already",
        place.display()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: &str) -> Place {
        Place { vault: "v".into(), source: source.into(), to: b"/srv/\xff".to_vec() }
    }

    fn note(state: State) -> Note {
        Note { point: "p".into(), state }
    }

    #[test]
    fn what_is_noted_is_known_to_the_next_run_until_all_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("below");
        let mut record = Record::keep(&below);
        assert_eq!(record.get(&place("a.files")), None);
        record.note(&place("a.files"), note(State::Begun));
        record.note(&place("a.files"), note(State::Restored));
        // A line that a crash has cut off takes no other with it.
        let torn = "{\"place\":{\"vault\":\"v\",\"sour";
        fs::OpenOptions::new()
            .append(true)
            .open(below.join(NAME))
            .and_then(|mut file| file.write_all(torn.as_bytes()))
            .expect("writes");
        let mut next = Record::keep(&below);
        assert_eq!(next.get(&place("b.files")), None);
        next.note(&place("b.files"), note(State::Incomplete("one file".into())));
        let last = Record::read(&below);
        assert_eq!(last.get(&place("a.files")), Some(&note(State::Restored)));
        assert_eq!(last.get(&place("b.files")), Some(&note(State::Incomplete("one file".into()))));
        next.remove();
        assert_eq!(Record::keep(&below).get(&place("a.files")), None);
        assert!(!below.join(NAME).exists());
    }
}
