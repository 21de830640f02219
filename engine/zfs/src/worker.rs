//! The process that speaks to libzfs_core: one for each operation, so that one that hangs in the kernel harms nobody. Owns
//! the messages between it and whoever started it, and what is done on each. Moves no bytes of streams itself: the kernel
//! writes to its standard output, and reads from there.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::library::{Failed, Library, Received, SEND_COMPRESSED, SEND_LARGE_BLOCKS, SEND_RAW, Value};
use crate::name::{BookmarkName, HoldTag, SnapshotName};
use crate::state::{DatasetKind, PROPERTY_PREFIX};
use crate::zfs::{Form, Making, Receive, Settled, Stream};

/// The argument by which the executable knows that it is to be this process.
pub const WORKER_WORD: &str = "zfs-worker";

/// Most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// `ZFS_CANMOUNT_NOAUTO` of `include/sys/fs/zfs.h`.
const CANMOUNT_NOAUTO: u64 = 2;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Snapshot { snapshots: Vec<SnapshotName> },
    DestroySnapshots { snapshots: Vec<SnapshotName> },
    Bookmark { snapshot: SnapshotName, bookmark: BookmarkName },
    DestroyBookmarks { bookmarks: Vec<BookmarkName> },
    Hold { snapshot: SnapshotName, tag: HoldTag },
    Release { snapshot: SnapshotName, tag: HoldTag },
    Holds { snapshot: SnapshotName },
    Settle { settled: Settled },
    SendSize { stream: Stream },
    Send { stream: Stream },
    Receive { receive: Receive },
    Sync { pool: String },
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Holds {
        tags: Vec<HoldTag>,
    },
    Size {
        bytes: u64,
    },
    /// What ZFS says no with, and of which objects it is known.
    Failed {
        refusal: Refusal,
        faults: Vec<(String, Refusal)>,
    },
    NoZfs {
        why: String,
    },
}

/// Is this process: reads one request from standard input, does it, and answers there.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard output may be a stream.
            let _ = writeln!(io::stderr(), "backstay {WORKER_WORD}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut control = UnixStream::from(control);
    let operation: Operation = receive_message(&mut control)?;
    end_with_asker(control.try_clone()?)?;
    let answer = match Library::load() {
        Ok(library) => perform(library, &operation),
        Err(why) => Answer::NoZfs { why },
    };
    match send_message(&mut control, &answer) {
        // Whoever asked wants to know no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}

/// Has this process end when whoever has started it does: a receive that goes on by itself would be in the way of the next one.
/// The kernel's own way to say so (`PR_SET_PDEATHSIG`) would take the end of a thread for that of the process.
fn end_with_asker(mut control: UnixStream) -> io::Result<()> {
    let watch = move || {
        // Nothing more is said there: it is either the end, or nobody who is listened to.
        let _ = control.read(&mut [0]);
        std::process::exit(1);
    };
    std::thread::Builder::new().name("backstay-asker".into()).spawn(watch).map(drop)
}

fn perform(library: Library, operation: &Operation) -> Answer {
    let done = match operation {
        Operation::Snapshot { snapshots } => library.snapshot(&texts(snapshots)),
        Operation::DestroySnapshots { snapshots } => library.destroy_snapshots(&texts(snapshots)),
        Operation::Bookmark { snapshot, bookmark } => {
            library.bookmark(&bookmark.to_string(), &snapshot.to_string())
        }
        Operation::DestroyBookmarks { bookmarks } => library.destroy_bookmarks(&texts(bookmarks)),
        Operation::Hold { snapshot, tag } => library.hold(&snapshot.to_string(), tag.as_str()),
        Operation::Release { snapshot, tag } => library.release(&texts(&[snapshot]), tag.as_str()),
        Operation::Holds { snapshot } => {
            return match library.holds(&snapshot.to_string()) {
                Ok(tags) => Answer::Holds { tags: tags.iter().map(|tag| HoldTag::found(tag)).collect() },
                Err(failed) => failed.into(),
            };
        }
        Operation::Settle { settled } => settle(library, settled),
        Operation::SendSize { stream } => {
            let Stream { snapshot, base, form, resume, .. } = stream;
            let base = base.as_ref().map(ToString::to_string);
            let size =
                library.send_size(&snapshot.to_string(), base.as_deref(), flags(*form), numbers(*resume));
            return match size {
                Ok(bytes) => Answer::Size { bytes },
                Err(failed) => failed.into(),
            };
        }
        Operation::Send { stream } => send(library, stream),
        Operation::Receive { receive } => self::receive(library, receive),
        Operation::Sync { pool } => library.sync(pool),
    };
    match done {
        Ok(()) => Answer::Done,
        Err(failed) => failed.into(),
    }
}

fn send(library: Library, stream: &Stream) -> Result<(), Failed> {
    let Stream { snapshot, base, form, resume, held_by } = stream;
    if let Some(tag) = held_by {
        unless(Refusal::EXISTS, library.hold(&snapshot.to_string(), tag.as_str()))?;
    }
    let base = base.as_ref().map(ToString::to_string);
    let to = io::stdout();
    library.send(&snapshot.to_string(), base.as_deref(), flags(*form), numbers(*resume), to.as_fd())
}

fn receive(library: Library, receive: &Receive) -> Result<(), Failed> {
    let Receive { snapshot, form, makes, .. } = receive;
    let origin = makes.as_ref().and_then(|making| making.origin.as_ref()).map(ToString::to_string);
    let received = Received {
        snapshot: &snapshot.to_string(),
        properties: &makes.as_ref().map(properties).unwrap_or_default(),
        origin: origin.as_deref(),
        is_raw: *form == Form::Raw,
    };
    let from = io::stdout();
    library.receive(&received, from.as_fd())
}

/// In the order of `Zfs::settle`. What is released or destroyed goes in one transaction group.
fn settle(library: Library, settled: &Settled) -> Result<(), Failed> {
    let Settled { tag, held, cursor, others, stale_cursors } = settled;
    if let Some(held) = held {
        unless(Refusal::EXISTS, library.hold(&held.to_string(), tag.as_str()))?;
        if let Some(cursor) = cursor {
            // Its name has the GUID of the snapshot in it, so that one of this name is this one.
            unless(Refusal::EXISTS, library.bookmark(&cursor.to_string(), &held.to_string()))?;
        }
    }
    let mut held_too = Vec::new();
    for other in texts(others) {
        match library.holds(&other) {
            Ok(tags) if tags.iter().any(|found| found == tag.as_str()) => held_too.push(other),
            Ok(_) => {}
            // It went meanwhile, and its holds with it.
            Err(failed) if failed.refusal == Refusal::NOT_FOUND => {}
            Err(failed) => return Err(failed),
        }
    }
    if !held_too.is_empty() {
        unless(Refusal::NOT_FOUND, library.release(&held_too, tag.as_str()))?;
    }
    match stale_cursors.as_slice() {
        [] => Ok(()),
        stale => unless(Refusal::NOT_FOUND, library.destroy_bookmarks(&texts(stale))),
    }
}

/// A refusal that says that what was to be done is done.
fn unless(done: Refusal, outcome: Result<(), Failed>) -> Result<(), Failed> {
    match outcome {
        Err(failed) if failed.refusal == done => Ok(()),
        outcome => outcome,
    }
}

impl From<Failed> for Answer {
    fn from(failed: Failed) -> Self {
        Self::Failed { refusal: failed.refusal, faults: failed.faults.into_iter().collect() }
    }
}

fn texts<T: ToString>(names: &[T]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn flags(form: Form) -> u32 {
    match form {
        Form::Plain => SEND_LARGE_BLOCKS | SEND_COMPRESSED,
        // Raw streams have large blocks and are compressed as they are on disk: the library wants it said
        // (`lib/libzfs/libzfs_sendrecv.c`, `lzc_flags_from_sendflags`, and `cmd/zfs/zfs_main.c` for `-w`).
        Form::Raw => SEND_RAW | SEND_LARGE_BLOCKS | SEND_COMPRESSED,
    }
}

fn numbers(resume: Option<crate::zfs::Resume>) -> (u64, u64) {
    resume.map_or((0, 0), |resume| (resume.object, resume.offset_bytes))
}

/// Those of a replica: neither written to nor mounted (docs/zfs.md, section 3). A zvol has no mount point.
fn properties(making: &Making) -> Vec<(String, Value)> {
    let mut properties = vec![("readonly".to_owned(), Value::Number(1))];
    if making.kind == DatasetKind::Filesystem {
        properties.push(("canmount".to_owned(), Value::Number(CANMOUNT_NOAUTO)));
        properties.push(("mountpoint".to_owned(), Value::Text("none".to_owned())));
    }
    let own = making.properties.iter();
    properties
        .extend(own.map(|(name, value)| (format!("{PROPERTY_PREFIX}{name}"), Value::Text(value.clone()))));
    properties
}

/// Writes a message: its length, then itself.
pub(crate) fn send_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {} bytes is too long", body.len())));
    }
    let length = (body.len() as u32).to_be_bytes();
    to.write_all(&[length.as_slice(), &body].concat())
}

/// Reads a message. Its length is judged before it is read.
pub(crate) fn receive_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let snapshot = SnapshotName::parse("tank/a@b").expect("a name");
        let operation = Operation::Hold { snapshot, tag: HoldTag::found("backstay_1") };
        let mut wire = Vec::new();
        send_message(&mut wire, &operation).expect("it is short");
        let read: Operation = receive_message(&mut wire.as_slice()).expect("it is whole");
        assert!(matches!(read, Operation::Hold { tag, .. } if tag.as_str() == "backstay_1"));
    }

    #[test]
    fn a_message_that_is_too_long_or_cut_off_is_refused_unread() {
        let long = u32::MAX.to_be_bytes();
        assert!(receive_message::<Answer>(&mut long.as_slice()).is_err());
        let cut = [0, 0, 0, 9, b'"'];
        assert!(receive_message::<Answer>(&mut cut.as_slice()).is_err());
    }
}
