//! What a restore reproduces of one object. Values that no file system could hold cannot be made.

use std::num::NonZeroU64;

use backstay_core::id::{ContentId, LinkId};

use crate::stat::FileTime;

use super::Attributes;

/// Greatest size of a file, bytes.
pub const SIZE_BYTES_MAX: u64 = i64::MAX as u64;

/// What stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// One name of a file that has several: the file itself is in the row of the link id.
    Link(LinkId),
    /// An object of its own.
    Object {
        /// Type and contents.
        object: Object,
        /// The rest.
        meta: Meta,
    },
}

/// Type and contents of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A regular file; `None` when it is empty.
    File(Option<Contents>),
    /// A directory. What is in it has rows of its own.
    Directory,
    /// A symbolic link.
    Symlink(SymlinkTarget),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
}

impl Object {
    /// A regular file of this size, and what is in it unless it is empty. `None` above [`SIZE_BYTES_MAX`].
    pub fn file(size_bytes: u64, id: ContentId) -> Option<Self> {
        match NonZeroU64::new(size_bytes) {
            None => Some(Self::File(None)),
            Some(size) => Contents::new(size, id).map(|contents| Self::File(Some(contents))),
        }
    }

    /// Size of the file; 0 of anything else.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::File(Some(contents)) => contents.size_bytes(),
            _ => 0,
        }
    }
}

/// Contents of a file that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    size: NonZeroU64,
    id: ContentId,
}

impl Contents {
    /// `None` when `size` is above [`SIZE_BYTES_MAX`].
    pub fn new(size: NonZeroU64, id: ContentId) -> Option<Self> {
        (size.get() <= SIZE_BYTES_MAX).then_some(Self { size, id })
    }

    /// Length, holes included.
    pub fn size_bytes(&self) -> u64 {
        self.size.get()
    }

    /// What they are.
    pub fn id(&self) -> ContentId {
        self.id
    }
}

/// The target of a symbolic link: 1 to 4095 bytes without NUL. It may lead anywhere; nothing here follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymlinkTarget(Box<[u8]>);

impl SymlinkTarget {
    /// Greatest length, bytes.
    pub const BYTES_MAX: usize = 4095;

    /// `None` if no symbolic link can have this target.
    pub fn new(target: &[u8]) -> Option<Self> {
        let fits = !target.is_empty() && target.len() <= Self::BYTES_MAX && !target.contains(&0);
        fits.then(|| Self(target.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a device stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// Its device.
    pub minor: u32,
}

/// Permission bits: at most 07777.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    const ALL: u32 = 0o7777;

    /// `None` if there are bits outside 07777.
    pub const fn new(bits: u32) -> Option<Self> {
        if bits <= Self::ALL { Some(Self(bits as u16)) } else { None }
    }

    /// The permission bits of a mode, without what else is in it.
    pub const fn of_mode(mode: u32) -> Self {
        Self((mode & Self::ALL) as u16)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

/// What every object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permissions. Those of symbolic links are kept and not restored.
    pub mode: Permissions,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Time of the last change of the contents.
    pub mtime: FileTime,
    /// Extended attributes, access control lists among them.
    pub attributes: Attributes,
}
