//! What belongs to an object besides its contents: extended attributes, the target of a symbolic link, names
//! of owners. Owns the bounds of what is taken into a row; what exceeds them is counted, never dropped in
//! silence.

mod owners;

use std::os::fd::AsFd;

use backstay_core::id::ContentId;
use rustix::io::Errno;

use crate::read::SourceFile;
use crate::row::{
    ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX, Attribute, AttributeName, AttributeValue, Attributes,
    INLINE_VALUE_BYTES_MAX, Meta, Permissions, RowError, SymlinkTarget,
};
use crate::stat::FileStat;
use crate::walk::Pinned;
use crate::xattr::{Holder, magic_path};

pub use owners::Owners;

/// Extended attributes as they were read, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawAttributes {
    list: Vec<(AttributeName, Vec<u8>)>,
    /// How many attributes there are that are not here: unreadable, or beyond what a row can hold.
    pub left_out: usize,
}

/// The extended attributes of a file.
pub fn attributes(file: &SourceFile) -> Result<RawAttributes, Errno> {
    read_attributes(&Holder::Open(file.as_fd()))
}

/// The extended attributes of an object that is not opened for reading.
pub fn attributes_of(pinned: &Pinned) -> Result<RawAttributes, Errno> {
    read_attributes(&Holder::Pinned(magic_path(pinned)))
}

/// Where a symbolic link leads. `None` if it has a target that no symbolic link can have.
pub fn symlink_target(pinned: &Pinned) -> Result<Option<SymlinkTarget>, Errno> {
    let target = rustix::fs::readlinkat(pinned, c"", Vec::with_capacity(256))?;
    Ok(SymlinkTarget::new(target.as_bytes()))
}

/// What of `stat` a restore reproduces, with these attributes.
pub fn meta(stat: &FileStat, attributes: Attributes) -> Meta {
    let mode = Permissions::of_mode(stat.mode.into());
    Meta { mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, attributes }
}

impl RawAttributes {
    /// Those of an object that cannot be asked for them.
    pub fn unknown() -> Self {
        Self { list: Vec::new(), left_out: 1 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes that the values take.
    pub fn bytes(&self) -> usize {
        self.list.iter().map(|(_, value)| value.len()).sum()
    }

    /// For the row. `store` is called for each value that is too large to be in it, by rising name, and says
    /// what its content id is.
    pub fn into_attributes<E: From<RowError>>(
        self,
        mut store: impl FnMut(&[u8]) -> Result<ContentId, E>,
    ) -> Result<Attributes, E> {
        let attribute = |(name, value): (AttributeName, Vec<u8>)| {
            let value = match u32::try_from(value.len()) {
                Ok(length_bytes) if value.len() > INLINE_VALUE_BYTES_MAX => {
                    AttributeValue::Large { length_bytes, id: store(&value)? }
                }
                _ => AttributeValue::Inline(value.into()),
            };
            Ok(Attribute { name, value })
        };
        let list = self.list.into_iter().map(attribute).collect::<Result<_, E>>()?;
        Ok(Attributes::new(list)?)
    }
}

fn read_attributes(holder: &Holder<'_>) -> Result<RawAttributes, Errno> {
    let mut names = holder.list()?;
    names.sort_unstable();
    let mut attributes = RawAttributes::default();
    let mut weight = 0;
    for name in names {
        let value = match holder.get(&name) {
            Ok(value) => value,
            // Removed meanwhile.
            Err(Errno::NODATA) => continue,
            Err(_) => {
                attributes.left_out += 1;
                continue;
            }
        };
        let Some(name) = AttributeName::new(&name) else {
            attributes.left_out += 1;
            continue;
        };
        let heavier = weight + Attribute::weight(&name, value.len());
        if heavier > ATTRIBUTES_BYTES_MAX || attributes.list.len() == ATTRIBUTES_MAX {
            attributes.left_out += 1;
            continue;
        }
        weight = heavier;
        attributes.list.push((name, value));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::XattrFlags;

    use super::*;
    use crate::exclude::Exclude;
    use crate::walk::{Crossing, Found, Step, Walk, WalkOptions};

    fn found(root: &Path) -> Vec<Found> {
        let options = WalkOptions {
            exclude: Exclude::nothing(),
            leave_out: Vec::new(),
            crossing: Crossing::Stay,
            threads: NonZeroUsize::MIN,
        };
        Walk::start(root, options)
            .unwrap()
            .map(|step| match step {
                Step::Found(found) => found,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// False, with a message, where the file system refuses.
    fn set(path: &Path, name: &str, value: &[u8]) -> bool {
        match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
            Ok(()) => true,
            Err(error) => {
                println!("SKIPPED: {name} cannot be set here: {error}");
                false
            }
        }
    }

    fn pinned(found: &Found) -> Pinned {
        found.pin().unwrap().expect("it is still there")
    }

    fn read(found: &Found) -> Vec<(String, Vec<u8>)> {
        let raw = attributes_of(&pinned(found)).unwrap();
        assert_eq!(raw.left_out, 0);
        let list = raw.list.into_iter().filter(|(name, _)| name.as_bytes() != b"security.selinux");
        list.map(|(name, value)| (String::from_utf8_lossy(name.as_bytes()).into_owned(), value)).collect()
    }

    #[test]
    fn attributes_of_files_and_directories_are_read_by_name_and_by_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        if !set(dir.path(), "user.of-root", b"\0binary") {
            return;
        }
        assert!(
            set(&dir.path().join("file"), "user.b", b"") && set(&dir.path().join("file"), "user.a", b"1")
        );
        let found = found(dir.path());
        assert_eq!(read(&found[0]), [("user.of-root".to_owned(), b"\0binary".to_vec())]);
        assert_eq!(read(&found[1]), [("user.a".to_owned(), b"1".to_vec()), ("user.b".to_owned(), vec![])]);
        let file = found[1].open_file().unwrap();
        assert_eq!(attributes(&file), attributes_of(&pinned(&found[1])));
    }

    #[test]
    fn attributes_of_a_symlink_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        if !set(&dir.path().join("file"), "user.a", b"1") || !set(&dir.path().join("link"), "trusted.b", b"2")
        {
            return;
        }
        assert_eq!(read(&found(dir.path())[2]), [("trusted.b".to_owned(), b"2".to_vec())]);
    }

    #[test]
    fn a_posix_acl_is_an_attribute_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        // Version 2; user::rwx user:1:r-- group::r-- mask::r-- other::---
        let acl =
            [(1u16, 7u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in acl {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        if set(dir.path(), "system.posix_acl_access", &value) {
            assert_eq!(read(&found(dir.path())[0]), [("system.posix_acl_access".to_owned(), value)]);
        }
    }

    #[test]
    fn large_values_are_stored_elsewhere_in_the_order_of_their_names() {
        let name = |name: &str| AttributeName::new(name.as_bytes()).unwrap();
        let raw = RawAttributes {
            list: vec![(name("a"), vec![1; 5000]), (name("b"), vec![2; 4096]), (name("c"), vec![3; 4097])],
            left_out: 0,
        };
        let mut stored = Vec::new();
        let attributes = raw
            .into_attributes(|value| {
                stored.push(value.to_vec());
                Ok::<_, RowError>(ContentId::new([stored.len() as u8; 32]))
            })
            .unwrap();
        assert_eq!(stored, [vec![1; 5000], vec![3; 4097]]);
        assert_eq!(attributes.large_spans().collect::<Vec<_>>(), [(0, 5000), (5000, 4097)]);
        assert_eq!(attributes.len(), 3);
    }

    #[test]
    fn the_target_of_a_symlink_is_its_own_whatever_becomes_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x/".repeat(2000);
        symlink(&long, dir.path().join("link")).unwrap();
        let found = found(dir.path());
        let link = pinned(&found[1]);
        fs::rename(dir.path().join("link"), dir.path().join("renamed")).unwrap();
        symlink("another", dir.path().join("link")).unwrap();
        assert_eq!(symlink_target(&link), Ok(SymlinkTarget::new(long.as_bytes())));
        assert!(found[1].pin().unwrap().is_none(), "another one has its name");
        fs::remove_file(dir.path().join("link")).unwrap();
        assert_eq!(found[1].pin().unwrap_err(), Errno::NOENT);
    }
}
