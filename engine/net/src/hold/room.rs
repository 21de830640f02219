//! How much room a space has: a quota, a part of it that is kept for logs, and what stays free on the disk. Owns the arithmetic
//! and what is promised to requests that are under way, so that many at once cannot exceed together what each may.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::units::ByteSize;
use backstay_wire::peer::{Reason, Refusal};

/// An object takes no less on a disk, bytes.
const OBJECT_BYTES_LEAST: u64 = 4096;

/// Where a directory store has what has no name yet.
const UNFINISHED: &str = "unfinished";

/// The limits of a space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomLimits {
    /// How large it may become; no limit when absent.
    pub quota: Option<ByteSize>,
    /// How much stays free on its file system.
    pub floor: Option<ByteSize>,
    /// How much of the quota is for logs alone.
    pub wal_reserve: Option<ByteSize>,
}

/// What an object is, as far as room is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A log, or what ends a commit: these may use the reserve.
    Reserved,
    /// Anything else.
    Other,
}

/// How much is there, and how much may be.
#[derive(Debug)]
pub struct Room {
    limits: RoomLimits,
    folder: PathBuf,
    disks: Disks,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None until it was counted.
    used: Option<u64>,
    /// Of requests that are under way.
    promised: u64,
    /// What was added while it is counted, which the count may have missed.
    added_meanwhile: u64,
}

/// What is promised on each file system, of all spaces of a node: they share what is free.
#[derive(Debug, Clone, Default)]
pub struct Disks(Arc<Mutex<HashMap<u64, u64>>>);

impl Disks {
    fn promised(&self, disk: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&disk).copied().unwrap_or(0)
    }

    fn add(&self, disk: u64, bytes: u64) {
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_disk = promised.entry(disk).or_default();
        *of_disk = of_disk.saturating_add(bytes);
    }

    fn take_back(&self, disk: u64, bytes: u64) {
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_disk) = promised.get_mut(&disk) {
            *of_disk = of_disk.saturating_sub(bytes);
        }
    }
}

/// Room that is kept for one request; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    room: Arc<Room>,
    bytes: u64,
    disk: u64,
    /// What goes when it is kept.
    replaced: u64,
}

impl Room {
    /// The room of the folder at this path.
    pub fn new(folder: PathBuf, limits: RoomLimits, disks: Disks) -> Self {
        Self { limits, folder, disks, state: Mutex::default() }
    }

    /// Counts what is there; done once, and again when somebody else has written or deleted. Blocks.
    pub fn count(&self) -> io::Result<()> {
        self.state().added_meanwhile = 0;
        let found = bytes_below(&self.folder)?;
        let mut state = self.state();
        // What was added may have been seen or not: rather too much until the next count.
        state.used = Some(found.saturating_add(state.added_meanwhile));
        Ok(())
    }

    /// Whether it was counted.
    pub(super) fn is_counted(&self) -> bool {
        self.state().used.is_some()
    }

    /// Keeps room for an object of this length, which may take the place of one of that, or says why there is none. Blocks for as
    /// long as the system takes to say how much is free.
    pub(super) fn promise(
        self: &Arc<Self>,
        length: u64,
        before: Option<u64>,
        purpose: Purpose,
    ) -> Result<Promise, Refusal> {
        let replaced = before.map_or(0, on_disk);
        // On the disk both are there for a while.
        self.keep_free(on_disk(length), replaced, purpose)
    }

    /// Keeps room for what an object grows by, from this length on to that one.
    pub(super) fn promise_growth(self: &Arc<Self>, from: u64, to: u64) -> Result<Promise, Refusal> {
        let before = if from == 0 { 0 } else { on_disk(from) };
        self.keep_free(on_disk(to).saturating_sub(before), 0, Purpose::Reserved)
    }

    fn keep_free(self: &Arc<Self>, bytes: u64, replaced: u64, purpose: Purpose) -> Result<Promise, Refusal> {
        let (disk, free) = disk_of(&self.folder).map_err(|error| cannot_see(&error))?;
        let mut state = self.state();
        let taken = state.used.unwrap_or(0).saturating_add(state.promised).saturating_sub(replaced);
        let promised = self.disks.promised(disk);
        judge(&self.limits, taken, promised, Some(free), bytes, purpose)?;
        state.promised = state.promised.saturating_add(bytes);
        self.disks.add(disk, bytes);
        drop(state);
        Ok(Promise { room: Arc::clone(self), bytes, disk, replaced })
    }

    /// Bytes that may be put still, and bytes that are there. Blocks.
    pub(super) fn free_and_used(&self) -> io::Result<(u64, u64)> {
        let (disk, free) = disk_of(&self.folder)?;
        let promised = self.disks.promised(disk);
        let state = self.state();
        let used = state.used.unwrap_or(0);
        let by_disk =
            free.saturating_sub(self.limits.floor.map_or(0, |floor| floor.0)).saturating_sub(promised);
        let by_quota = self.limits.quota.map_or(u64::MAX, |quota| {
            quota
                .0
                .saturating_sub(self.limits.wal_reserve.map_or(0, |reserve| reserve.0))
                .saturating_sub(used + state.promised)
        });
        Ok((by_disk.min(by_quota), used))
    }

    /// Something that was there is gone.
    pub(super) fn forget(&self, length: u64) {
        let mut state = self.state();
        state.used = state.used.map(|used| used.saturating_sub(on_disk(length)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    /// It is there now.
    pub(super) fn kept(mut self) {
        let mut state = self.room.state();
        let (bytes, replaced) = (self.bytes, self.replaced);
        state.used = state.used.map(|used| used.saturating_add(bytes).saturating_sub(replaced));
        state.added_meanwhile = state.added_meanwhile.saturating_add(bytes);
        // At the same moment: nobody sees it twice.
        state.promised = state.promised.saturating_sub(bytes);
        drop(state);
        self.room.disks.take_back(self.disk, bytes);
        self.bytes = 0;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut state = self.room.state();
            state.promised = state.promised.saturating_sub(self.bytes);
            drop(state);
            self.room.disks.take_back(self.disk, self.bytes);
        }
    }
}

/// What an object of this length takes.
fn on_disk(length: u64) -> u64 {
    length.max(OBJECT_BYTES_LEAST)
}

/// Whether so many bytes more are permitted, where so many are taken or promised. What is promised is not yet missing from what is
/// free.
fn judge(
    limits: &RoomLimits,
    taken: u64,
    promised: u64,
    free: Option<u64>,
    bytes: u64,
    purpose: Purpose,
) -> Result<(), Refusal> {
    let reserve = match purpose {
        Purpose::Reserved => 0,
        Purpose::Other => limits.wal_reserve.map_or(0, |reserve| reserve.0),
    };
    let refuse = |reason, text| Err(Refusal { reason, text, retry_after: None });
    if let Some(quota) = limits.quota
        && taken.saturating_add(bytes) > quota.0.saturating_sub(reserve)
    {
        return refuse(
            Reason::Quota,
            format!(
                "the holder gives this node {quota}{}, and {} are there: let retention remove more, or have `quota` in the holder's [hold] raised",
                if reserve == 0 {
                    String::new()
                } else {
                    format!(", {} of it for WAL alone", ByteSize(reserve))
                },
                ByteSize(taken)
            ),
        );
    }
    if let (Some(floor), Some(free)) = (limits.floor, free)
        && free < floor.0.saturating_add(promised).saturating_add(bytes)
    {
        return refuse(
            Reason::Full,
            format!(
                "the holder keeps {floor} of its disk free (`floor` in its [hold]), and {} are free",
                ByteSize(free)
            ),
        );
    }
    Ok(())
}

fn cannot_see(error: &io::Error) -> Refusal {
    let text = format!("the holder cannot see how much of its disk is free: {error}");
    Refusal { reason: Reason::Fault, text, retry_after: None }
}

/// The file system of a folder, or of the one above that is there, and what is free on it for whoever is not root.
fn disk_of(folder: &Path) -> io::Result<(u64, u64)> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there)?;
    let disk = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(there)?);
    Ok((disk, stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Objects, and what the trash keeps of them; not what has no name yet.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut folders = vec![folder.to_path_buf()];
    let mut bytes = 0u64;
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                if entry.file_name() != UNFINISHED {
                    folders.push(entry.path());
                }
                continue;
            }
            match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => bytes = bytes.saturating_add(on_disk(found?.len())),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(quota: u64, floor: u64, reserve: u64) -> RoomLimits {
        let size = |mib: u64| (mib > 0).then_some(ByteSize(mib * MIB));
        RoomLimits { quota: size(quota), floor: size(floor), wal_reserve: size(reserve) }
    }

    fn reason(limits: &RoomLimits, taken: u64, free: u64, bytes: u64, purpose: Purpose) -> Option<Reason> {
        let judged = judge(limits, taken * MIB, 0, Some(free * MIB), bytes * MIB, purpose);
        judged.err().map(|refusal| refusal.reason)
    }

    #[test]
    fn a_quota_is_reached_and_not_exceeded() {
        let limits = limits(100, 0, 0);
        assert_eq!(reason(&limits, 90, 0, 10, Purpose::Other), None);
        assert_eq!(reason(&limits, 90, 0, 11, Purpose::Other), Some(Reason::Quota));
    }

    #[test]
    fn the_reserve_is_for_logs_alone() {
        let limits = limits(100, 0, 20);
        assert_eq!(reason(&limits, 80, 0, 1, Purpose::Other), Some(Reason::Quota));
        assert_eq!(reason(&limits, 80, 0, 20, Purpose::Reserved), None);
        assert_eq!(reason(&limits, 80, 0, 21, Purpose::Reserved), Some(Reason::Quota));
    }

    #[test]
    fn what_stays_free_on_the_disk_stays_free_for_everybody() {
        let limits = limits(0, 50, 0);
        assert_eq!(reason(&limits, 0, 60, 10, Purpose::Reserved), None);
        assert_eq!(reason(&limits, 0, 60, 11, Purpose::Reserved), Some(Reason::Full));
    }

    #[test]
    fn what_is_promised_counts_until_it_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Arc::new(Room::new(folder.path().to_path_buf(), limits(10, 0, 0), Disks::default()));
        room.count().expect("counts");
        let first = room.promise(6 * MIB, None, Purpose::Other).expect("there is room");
        assert_eq!(
            room.promise(6 * MIB, None, Purpose::Other).expect_err("not for both").reason,
            Reason::Quota
        );
        drop(first);
        let second = room.promise(6 * MIB, None, Purpose::Other).expect("there is room again");
        second.kept();
        assert_eq!(
            room.promise(6 * MIB, None, Purpose::Other).expect_err("it is there").reason,
            Reason::Quota
        );
        room.forget(6 * MIB);
        room.promise(6 * MIB, None, Purpose::Other).expect("it is gone");
        room.promise(MIB, None, Purpose::Other).expect("nothing is there").kept();
        room.promise(9 * MIB, Some(MIB), Purpose::Other).expect("in its place").kept();
        room.promise(10 * MIB, Some(9 * MIB), Purpose::Other).expect("in the place of the other").kept();
        assert_eq!(room.promise(MIB, None, Purpose::Other).expect_err("it is full").reason, Reason::Quota);
    }
}
