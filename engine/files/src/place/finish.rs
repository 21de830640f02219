//! Giving an object what its row says beside contents: owner, attributes, permissions, time. Owns the order,
//! which matters: a new owner takes away capabilities and set-id bits, permissions may forbid attributes, an
//! access control list replaces permissions, and everything moves the time.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::keys::HeadKey;
use crate::row::{AttributeName, AttributeValue, Meta};
use crate::stat::{FileStat, FileTime};
use crate::xattr::{Holder, magic_path};

use super::error::{Defect, Lacking};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// What an object is to have beside its contents.
#[derive(Debug, Clone)]
pub struct Reproduced {
    /// From its row.
    pub meta: Meta,
    /// The values of those attributes that the row only refers to, in the order of the attributes.
    pub large_values: Vec<Vec<u8>>,
}

/// Whether this process may do what only root may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    Root,
    User,
}

impl Privilege {
    pub(super) fn of_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::Root } else { Self::User }
    }
}

/// The object that is finished.
#[derive(Debug)]
pub(super) enum Handle<'f> {
    /// Open for reading or writing.
    Open(BorrowedFd<'f>),
    /// Open as a mere path: its magic link.
    Pinned(String),
}

/// Collects what an object lacks in the end.
#[derive(Debug)]
pub(super) struct Finish<'f> {
    handle: Handle<'f>,
    key: &'f HeadKey,
    privilege: Privilege,
    defects: Vec<Defect>,
}

impl<'f> Finish<'f> {
    /// Of an object that is open for reading or writing.
    pub(super) fn open(fd: BorrowedFd<'f>, key: &'f HeadKey, privilege: Privilege) -> Self {
        Self { handle: Handle::Open(fd), key, privilege, defects: Vec::new() }
    }

    /// Of an object that is open as a mere path.
    pub(super) fn pinned(fd: impl AsFd, key: &'f HeadKey, privilege: Privilege) -> Self {
        Self { handle: Handle::Pinned(magic_path(fd)), key, privilege, defects: Vec::new() }
    }

    /// All there is, of an object in which nothing will be placed any more.
    pub(super) fn whole(mut self, wanted: &Reproduced, mode: ModeWanted) -> Vec<Defect> {
        let owned = self.owner(&wanted.meta);
        self.remove_others(wanted);
        self.attributes(wanted, Lists::Without);
        if mode == ModeWanted::Yes {
            self.mode(&wanted.meta, owned);
        }
        self.attributes(wanted, Lists::Only);
        self.time(wanted.meta.mtime);
        self.defects
    }

    /// Whether a finished object has the owner, the mode and the names of attributes that it is to have.
    pub(super) fn is_as(&self, fd: impl AsFd, wanted: &Reproduced) -> bool {
        let Ok(stat) = FileStat::of(fd) else { return false };
        let meta = &wanted.meta;
        let same =
            (stat.uid, stat.gid) == (meta.uid, meta.gid) && meta.mode.bits() == u32::from(stat.mode) & 0o7777;
        let mut names: Vec<&[u8]> =
            meta.attributes.iter().map(|attribute| attribute.name.as_bytes()).collect();
        names.sort_unstable();
        let Handle::Pinned(path) = &self.handle else { return false };
        same && Holder::Pinned(path.clone()).list().is_ok_and(|mut there| {
            there.sort_unstable();
            there.iter().map(Vec::as_slice).eq(names)
        })
    }

    /// What a directory can be given before things are placed in it.
    pub(super) fn begin_directory(mut self, wanted: &Reproduced) -> Vec<Defect> {
        self.remove_others(wanted);
        self.attributes(wanted, Lists::Without);
        self.defects
    }

    /// The rest, after everything was placed in it.
    pub(super) fn end_directory(mut self, wanted: &Reproduced) -> Vec<Defect> {
        let owned = self.owner(&wanted.meta);
        self.mode(&wanted.meta, owned);
        self.attributes(wanted, Lists::Only);
        self.time(wanted.meta.mtime);
        self.defects
    }

    /// The time alone, which removing something from a directory has changed.
    pub(super) fn time_only(mut self, wanted: &Reproduced) -> Vec<Defect> {
        self.time(wanted.meta.mtime);
        self.defects
    }

    fn lacks(&mut self, lacking: Lacking, error: Errno) {
        self.defects.push(Defect { key: self.key.clone(), lacking, error });
    }

    /// Whether owner and group are as wanted in the end.
    fn owner(&mut self, meta: &Meta) -> Owned {
        let (Some(uid), Some(gid)) = (uid(meta.uid), gid(meta.gid)) else {
            self.lacks(Lacking::Owner, Errno::INVAL);
            return Owned::No;
        };
        if self.is_owned_by(uid, gid) {
            return Owned::Yes;
        }
        let Err(error) = self.change_owner(Some(uid), Some(gid)) else { return Owned::Yes };
        // A user may still give a file to another of its groups.
        let _ = self.change_owner(None, Some(gid));
        self.lacks(Lacking::Owner, error);
        Owned::No
    }

    /// Asking costs less than a change that changes nothing: what is restored often belongs to who restores it.
    fn is_owned_by(&self, uid: Uid, gid: Gid) -> bool {
        let Handle::Open(fd) = &self.handle else { return false };
        rustix::fs::fstat(fd).is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()))
    }

    fn change_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match &self.handle {
            Handle::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Handle::Pinned(path) => rustix::fs::chown(path, uid, gid),
        }
    }

    fn mode(&mut self, meta: &Meta, owned: Owned) {
        let wanted = meta.mode.bits();
        let given = match owned {
            Owned::Yes => wanted,
            Owned::No => wanted & !(SET_USER_ID | SET_GROUP_ID),
        };
        let mode = Mode::from_raw_mode(given);
        let set = match &self.handle {
            Handle::Open(fd) => rustix::fs::fchmod(fd, mode),
            Handle::Pinned(path) => rustix::fs::chmod(path, mode),
        };
        match set {
            Err(error) => self.lacks(Lacking::Mode, error),
            Ok(()) if given != wanted => self.lacks(Lacking::Mode, Errno::PERM),
            Ok(()) => {}
        }
    }

    /// Takes away what the object got from its surroundings or had before: inherited access control lists,
    /// attributes of an object that is kept.
    fn remove_others(&mut self, wanted: &Reproduced) {
        let holder = self.holder();
        let names = match holder.list() {
            Ok(names) => names,
            Err(error) => return self.lacks(Lacking::Attributes, error),
        };
        let is_wanted = |name: &[u8]| wanted.meta.attributes.iter().any(|a| a.name.as_bytes() == name);
        for name in names {
            let ours = name.starts_with(b"user.") || is_access_list(&name);
            if ours
                && !is_wanted(&name)
                && let Err(error) = holder.remove(&name)
                && error != Errno::NODATA
            {
                self.lacks(Lacking::Attributes, error);
            }
        }
    }

    fn attributes(&mut self, wanted: &Reproduced, lists: Lists) {
        let holder = self.holder();
        let mut large_values = wanted.large_values.iter();
        for attribute in wanted.meta.attributes.iter() {
            let name = &attribute.name;
            let value = match &attribute.value {
                AttributeValue::Inline(value) => Some(&value[..]),
                AttributeValue::Large { .. } => large_values.next().map(Vec::as_slice),
            };
            if is_access_list(name.as_bytes()) != (lists == Lists::Only) {
                continue;
            }
            let set = match value {
                None => Err(Errno::NODATA),
                Some(_) if self.privilege == Privilege::User && is_privileged(name) => Err(Errno::PERM),
                Some(value) => holder.set(name.as_bytes(), value),
            };
            if let Err(error) = set {
                self.lacks(Lacking::Attribute(name.clone()), error);
            }
        }
    }

    fn time(&mut self, mtime: FileTime) {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds(), tv_nsec: mtime.nanos().into() },
        };
        let set = match &self.handle {
            Handle::Open(fd) => rustix::fs::futimens(fd, &times),
            Handle::Pinned(path) => rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()),
        };
        if let Err(error) = set {
            self.lacks(Lacking::Time, error);
        }
    }

    fn holder(&self) -> Holder<'f> {
        match &self.handle {
            Handle::Open(fd) => Holder::Open(*fd),
            Handle::Pinned(path) => Holder::Pinned(path.clone()),
        }
    }
}

/// Whether the object has permissions of its own: symbolic links have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModeWanted {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owned {
    Yes,
    No,
}

/// Which attributes: access control lists come after permissions, the others before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    Only,
    Without,
}

fn is_access_list(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

fn is_privileged(name: &AttributeName) -> bool {
    name.as_bytes().starts_with(b"security.") || name.as_bytes().starts_with(b"trusted.")
}

/// The greatest number means "no change" to the system.
fn uid(number: u32) -> Option<Uid> {
    (number != u32::MAX).then(|| Uid::from_raw(number))
}

fn gid(number: u32) -> Option<Gid> {
    (number != u32::MAX).then(|| Gid::from_raw(number))
}
