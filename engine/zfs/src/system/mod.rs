//! The ZFS of this host. Owns the way from an operation to a process that does it, and nothing of what it means.

mod child;
mod command;
mod list;
mod stream;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use backstay_core::config::DatasetName;

use self::child::{Process, Stuck};
use self::command::Asked;
use self::stream::{PipedReceive, PipedSend, Working};
use crate::error::{Refusal, ZfsError};
use crate::name::{BookmarkName, HoldTag, SnapshotName};
use crate::state::{Dataset, Pool};
use crate::worker::{Answer, Operation, WORKER_WORD, send_message};
use crate::zfs::{Kept, Receive, Receiving, Sending, Settled, Stream, Zfs};

pub use self::child::Patience;

/// ZFS, by worker processes and commands.
#[derive(Debug)]
pub struct SystemZfs {
    worker: PathBuf,
    patience: Patience,
    stuck: Arc<Stuck>,
}

impl SystemZfs {
    /// With this executable as worker, which [`crate::worker::run`] is when its first argument is [`WORKER_WORD`].
    pub fn new(worker: PathBuf, patience: Patience) -> Self {
        Self { worker, patience, stuck: Arc::default() }
    }

    /// One operation that answers.
    fn ask(&self, pool: &str, doing: String, operation: Operation) -> Result<Answer, ZfsError> {
        let working = self.start(pool, doing, operation, Stdio::null())?;
        working.answer(self.patience.answer)
    }

    fn start(
        &self,
        pool: &str,
        doing: String,
        operation: Operation,
        stream: Stdio,
    ) -> Result<Working, ZfsError> {
        self.stuck.admit(pool, &doing)?;
        let failed = |error: std::io::Error| ZfsError::Worker {
            doing: doing.clone(),
            why: format!("{}: {error}", self.worker.display()),
        };
        let (mut control, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(&self.worker);
        // No variable that a library of C might listen to.
        command.arg(WORKER_WORD).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(stream).stderr(Stdio::inherit());
        let child = command.spawn().map_err(failed)?;
        // The child's ends are its own now: were they open here as well, nobody would see it end.
        drop(command);
        let process = Process::new(child, pool, &self.stuck);
        // One that does not read has ended, and its answer tells.
        let _ = send_message(&mut control, &operation);
        Ok(Working { _process: process, control, doing })
    }

    fn command(
        &self,
        program: &str,
        arguments: &[&str],
        pool: &str,
        doing: &str,
    ) -> Result<String, ZfsError> {
        command::run(&Asked { program, arguments, pool, doing }, self.patience.answer, &self.stuck)
    }

    fn change(&self, arguments: &[&str], dataset: &DatasetName, doing: &str) -> Result<(), ZfsError> {
        self.command("zfs", arguments, dataset.pool(), doing).map(|_| ())
    }
}

/// A refusal that says that what was to be done is done.
fn unless(done: Refusal, outcome: Result<Answer, ZfsError>) -> Result<(), ZfsError> {
    match outcome {
        Err(ZfsError::Refused { refusal, .. }) if refusal == done => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

impl Zfs for SystemZfs {
    fn list(&self, root: &DatasetName) -> Result<Vec<Dataset>, ZfsError> {
        let doing = format!("list {root}");
        let types = "filesystem,volume,snapshot,bookmark";
        let columns = "name,property,value,source";
        let properties = list::properties();
        let arguments = ["get", "-Hp", "-r", "-t", types, "-o", columns, properties.as_str(), root.as_str()];
        let printed = match self.command("zfs", &arguments, root.pool(), &doing) {
            Err(ZfsError::Command { said, .. }) if said.contains("does not exist") => return Ok(Vec::new()),
            printed => printed?,
        };
        list::parse_list(&printed).map_err(|what| ZfsError::Answer { doing, what })
    }

    fn pool(&self, pool: &str) -> Result<Pool, ZfsError> {
        let doing = format!("look at the pool {pool}");
        let arguments = ["get", "-Hp", "-o", "property,value", "all", pool];
        Ok(list::parse_pool(&self.command("zpool", &arguments, pool, &doing)?))
    }

    fn written_since(&self, snapshot: &SnapshotName) -> Result<u64, ZfsError> {
        let (dataset, property) = (snapshot.dataset(), format!("written@{}", snapshot.mark()));
        let doing = format!("see what was written since {snapshot}");
        let arguments = ["get", "-Hp", "-o", "value", &property, dataset.as_str()];
        let printed = self.command("zfs", &arguments, dataset.pool(), &doing)?;
        list::number(printed.trim()).map_err(|what| ZfsError::Answer { doing, what })
    }

    fn snapshot(&self, snapshots: &[SnapshotName]) -> Result<(), ZfsError> {
        let Some(first) = snapshots.first() else { return Ok(()) };
        let doing = format!("take {first} and {} more", snapshots.len() - 1);
        let operation = Operation::Snapshot { snapshots: snapshots.to_vec() };
        self.ask(first.dataset().pool(), doing, operation).map(|_| ())
    }

    fn destroy_snapshots(&self, snapshots: &[SnapshotName]) -> Result<Vec<Kept>, ZfsError> {
        let Some(first) = snapshots.first() else { return Ok(Vec::new()) };
        let pool = first.dataset().pool();
        let doing = format!("destroy {first} and {} more", snapshots.len() - 1);
        let operation = Operation::DestroySnapshots { snapshots: snapshots.to_vec() };
        let working = self.start(pool, doing.clone(), operation, Stdio::null())?;
        let answer = working.any_answer(self.patience.answer)?;
        let Answer::Failed { faults, refusal } = answer else { return Ok(Vec::new()) };
        if faults.is_empty() {
            return Err(ZfsError::Refused { doing, refusal });
        }
        let kept = faults.into_iter().filter(|(_, by)| *by != Refusal::NOT_FOUND).map(|(name, by)| {
            let snapshot = SnapshotName::parse(&name);
            snapshot
                .map(|snapshot| Kept { snapshot, by })
                .map_err(|error| ZfsError::Answer { doing: doing.clone(), what: error.to_string() })
        });
        kept.collect()
    }

    fn bookmark(&self, snapshot: &SnapshotName, bookmark: &BookmarkName) -> Result<(), ZfsError> {
        let operation = Operation::Bookmark { snapshot: snapshot.clone(), bookmark: bookmark.clone() };
        // The names of ours have the GUID of the snapshot in them, so that one of this name is this one.
        unless(Refusal::EXISTS, self.ask(snapshot.dataset().pool(), format!("make {bookmark}"), operation))
    }

    fn destroy_bookmarks(&self, bookmarks: &[BookmarkName]) -> Result<(), ZfsError> {
        let Some(first) = bookmarks.first() else { return Ok(()) };
        let doing = format!("destroy {first} and {} more", bookmarks.len() - 1);
        let operation = Operation::DestroyBookmarks { bookmarks: bookmarks.to_vec() };
        unless(Refusal::NOT_FOUND, self.ask(first.dataset().pool(), doing, operation))
    }

    fn hold(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError> {
        let operation = Operation::Hold { snapshot: snapshot.clone(), tag: tag.clone() };
        unless(Refusal::EXISTS, self.ask(snapshot.dataset().pool(), format!("hold {snapshot}"), operation))
    }

    fn release(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError> {
        let operation = Operation::Release { snapshot: snapshot.clone(), tag: tag.clone() };
        let doing = format!("release {snapshot}");
        unless(Refusal::NOT_FOUND, self.ask(snapshot.dataset().pool(), doing, operation))
    }

    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<HoldTag>, ZfsError> {
        let doing = format!("see who holds {snapshot}");
        let operation = Operation::Holds { snapshot: snapshot.clone() };
        match self.ask(snapshot.dataset().pool(), doing.clone(), operation)? {
            Answer::Holds { tags } => Ok(tags),
            other => Err(ZfsError::Answer { doing, what: format!("{other:?}") }),
        }
    }

    fn settle(&self, settled: &Settled) -> Result<(), ZfsError> {
        let some = settled.held.as_ref().or(settled.others.first()).map(SnapshotName::dataset);
        let some = some.or(settled.stale_cursors.first().map(BookmarkName::dataset));
        let Some(dataset) = some.cloned() else { return Ok(()) };
        let operation = Operation::Settle { settled: settled.clone() };
        self.ask(dataset.pool(), format!("hold what {dataset} needs"), operation).map(|_| ())
    }

    fn send_size(&self, stream: &Stream) -> Result<u64, ZfsError> {
        let doing = format!("see how large {} is", stream.snapshot);
        let operation = Operation::SendSize { stream: stream.clone() };
        match self.ask(stream.snapshot.dataset().pool(), doing.clone(), operation)? {
            Answer::Size { bytes } => Ok(bytes),
            other => Err(ZfsError::Answer { doing, what: format!("{other:?}") }),
        }
    }

    fn send(&self, stream: &Stream) -> Result<Box<dyn Sending>, ZfsError> {
        let doing = format!("send {}", stream.snapshot);
        let (pipe, theirs) = pipe(&doing)?;
        let operation = Operation::Send { stream: stream.clone() };
        let working = self.start(stream.snapshot.dataset().pool(), doing, operation, theirs.into())?;
        Ok(Box::new(PipedSend { working, pipe, patience: self.patience.stream }))
    }

    fn receive(&self, receive: &Receive) -> Result<Box<dyn Receiving>, ZfsError> {
        let doing = format!("receive {}", receive.snapshot);
        let (theirs, pipe) = pipe(&doing)?;
        let operation = Operation::Receive { receive: receive.clone() };
        let working =
            self.start(receive.snapshot.dataset().pool(), doing.clone(), operation, theirs.into())?;
        let piped = PipedReceive::new(working, pipe, self.patience.stream);
        Ok(Box::new(piped.map_err(|cause| ZfsError::Stream { doing, cause })?))
    }

    fn abort_receive(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        let doing = format!("throw away what was received of {dataset}");
        match self.change(&["receive", "-A", dataset.as_str()], dataset, &doing) {
            Err(ZfsError::Command { said, .. })
                if said.contains("does not exist") || said.contains("does not have any resumable") =>
            {
                Ok(())
            }
            done => done,
        }
    }

    fn create_holder(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        let options = ["-o", "canmount=off", "-o", "mountpoint=none"];
        let arguments = [&["create"], &options[..], &[dataset.as_str()]].concat();
        self.change(&arguments, dataset, &format!("create {dataset}"))
    }

    fn set(&self, dataset: &DatasetName, property: &str, value: Option<&str>) -> Result<(), ZfsError> {
        let doing = format!("set {property} of {dataset}");
        match value {
            Some(value) => {
                self.change(&["set", &format!("{property}={value}"), dataset.as_str()], dataset, &doing)
            }
            None => self.change(&["inherit", property, dataset.as_str()], dataset, &doing),
        }
    }

    fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), ZfsError> {
        self.change(&["rename", from.as_str(), to.as_str()], from, &format!("rename {from} to {to}"))
    }

    fn clone_of(&self, snapshot: &SnapshotName, clone: &DatasetName) -> Result<(), ZfsError> {
        let (from, doing) = (snapshot.to_string(), format!("make {clone} of {snapshot}"));
        self.change(&["clone", "-o", "canmount=noauto", &from, clone.as_str()], clone, &doing)
    }

    fn promote(&self, clone: &DatasetName) -> Result<(), ZfsError> {
        self.change(&["promote", clone.as_str()], clone, &format!("promote {clone}"))
    }

    fn mount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        let doing = format!("mount {dataset}");
        match self.change(&["mount", dataset.as_str()], dataset, &doing) {
            Err(ZfsError::Command { said, .. }) if said.contains("already mounted") => Ok(()),
            done => done,
        }
    }

    fn unmount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        let doing = format!("unmount {dataset}");
        match self.change(&["unmount", dataset.as_str()], dataset, &doing) {
            Err(ZfsError::Command { said, .. }) if said.contains("not currently mounted") => Ok(()),
            done => done,
        }
    }

    fn sync(&self, pool: &str) -> Result<(), ZfsError> {
        let operation = Operation::Sync { pool: pool.to_owned() };
        self.ask(pool, format!("sync the pool {pool}"), operation).map(|_| ())
    }
}

fn pipe(doing: &str) -> Result<(std::io::PipeReader, std::io::PipeWriter), ZfsError> {
    std::io::pipe().map_err(|cause| ZfsError::Stream { doing: doing.to_owned(), cause })
}

/// The executable that runs now, as worker.
pub fn own_executable() -> PathBuf {
    PathBuf::from(OsString::from("/proc/self/exe"))
}
