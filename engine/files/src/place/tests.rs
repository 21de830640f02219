mod directories;
mod hostile;
mod refused;
mod resume;

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use backstay_core::id::{ContentId, LinkId};
use rustix::fs::XattrFlags;

use super::*;
use crate::exclude::Exclude;
use crate::observe;
use crate::row::{Attributes, DeviceNumber, Meta, Object, Permissions, RowError, SymlinkTarget};
use crate::stat::{FileKind, FileTime};
use crate::walk::{Crossing, Found, Step, Walk, WalkOptions};

const MARKER: &[u8] = b"vault and point";

const MTIME: i64 = 1_234_567_890;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Metadata that this user may set.
fn wanted(mode: u32) -> Reproduced {
    let meta = Meta {
        mode: Permissions::new(mode).unwrap(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: FileTime::new(MTIME, 123_456_789).unwrap(),
        attributes: Attributes::default(),
    };
    Reproduced { meta, large_values: Vec::new() }
}

fn path(text: &str) -> PathKey {
    PathKey::from_components(text.split('/').filter(|c| !c.is_empty()).map(str::as_bytes)).unwrap()
}

fn key(text: &str) -> HeadKey {
    HeadKey::Path(path(text))
}

fn file(size: u64) -> Object {
    Object::file(size, ContentId::new([1; 32])).unwrap()
}

fn link_to(target: &str) -> Object {
    Object::Symlink(SymlinkTarget::new(target.as_bytes()).unwrap())
}

fn no_defects(defect: Defect) {
    panic!("{defect}");
}

fn placer(destination: &Destination) -> Placer<'_> {
    destination.placer(no_defects)
}

fn place_directory(placer: &mut Placer<'_>, at: &str) {
    let placed = placer.place(&key(at), &Object::Directory, wanted(0o755)).unwrap();
    assert!(matches!(placed, Placed::Done));
}

fn place_file(placer: &mut Placer<'_>, at: &str, contents: &str) {
    match placer.place(&key(at), &file(contents.len() as u64), wanted(0o644)).unwrap() {
        Placed::File(new) => {
            new.write_at(0, contents.as_bytes()).unwrap();
            assert_eq!(new.finish(), []);
        }
        other => panic!("{other:?}"),
    }
}

fn open(path: &Path, existing: Existing) -> Destination {
    Destination::open(path, MARKER, existing).unwrap()
}

/// One object of a tree with everything that a restore reproduces, for comparing.
#[derive(Debug, PartialEq)]
struct Seen {
    key: String,
    object: Object,
    contents: Vec<u8>,
    meta: Meta,
    links: u64,
}

fn walk(root: &Path) -> Vec<Found> {
    let options = WalkOptions {
        exclude: Exclude::nothing(),
        leave_out: Vec::new(),
        crossing: Crossing::Stay,
        threads: NonZeroUsize::MIN,
    };
    let steps = Walk::start(root, options).unwrap().map(|step| match step {
        Step::Found(found) => found,
        other => panic!("{other:?}"),
    });
    steps.collect()
}

fn see(found: &Found) -> (Seen, Reproduced) {
    let mut contents = Vec::new();
    let pinned = found.pin().unwrap().expect("it is still there");
    let number = DeviceNumber { major: found.stat.represents.0, minor: found.stat.represents.1 };
    let object = match found.stat.kind {
        FileKind::File => {
            found.open_file().unwrap().read_whole(&mut contents, 1 << 20).unwrap();
            file(contents.len() as u64)
        }
        FileKind::Directory => Object::Directory,
        FileKind::Symlink => Object::Symlink(observe::symlink_target(&pinned).unwrap().unwrap()),
        FileKind::Fifo => Object::Fifo,
        FileKind::Socket => Object::Socket,
        FileKind::CharDevice => Object::CharDevice(number),
        FileKind::BlockDevice => Object::BlockDevice(number),
    };
    let mut large_values = Vec::new();
    let attributes = observe::attributes_of(&pinned).unwrap().into_attributes(|value| {
        large_values.push(value.to_vec());
        Ok::<_, RowError>(ContentId::new([2; 32]))
    });
    let meta = observe::meta(&found.stat, attributes.unwrap());
    let seen = Seen {
        key: found.key.to_string(),
        object,
        contents,
        meta: meta.clone(),
        links: if found.stat.kind == FileKind::Directory { 0 } else { found.stat.links },
    };
    (seen, Reproduced { meta, large_values })
}

/// Captures and restores as simply as can be.
fn copy_tree(from: &Path, to: &Destination) -> Finished {
    let mut placer = placer(to);
    let found = walk(from);
    let link_id = |found: &Found| LinkId::new(u128::from(found.stat.identity.inode).to_be_bytes());
    let has_names = |found: &Found| found.stat.kind != FileKind::Directory && found.stat.links > 1;
    let mut rows: Vec<(HeadKey, &Found)> = Vec::new();
    for found in &found {
        if has_names(found) {
            rows.push((HeadKey::Link(link_id(found)), found));
        }
        rows.push((HeadKey::Path(found.key.clone()), found));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|a, b| a.0 == b.0);
    for (key, found) in rows {
        match &key {
            HeadKey::Path(path) if has_names(found) => placer.link(path, &link_id(found)).unwrap(),
            key => {
                let (seen, wanted) = see(found);
                if let Placed::File(new) = placer.place(key, &seen.object, wanted).unwrap() {
                    new.set_size(found.stat.size_bytes).unwrap();
                    new.write_at(0, &seen.contents).unwrap();
                    assert_eq!(new.finish(), []);
                }
            }
        }
    }
    placer.finish()
}

/// A tree with every type, odd names, and what the file system allows of attributes.
fn build_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/empty")).unwrap();
    fs::write(root.join("a/file"), "contents").unwrap();
    fs::write(root.join("a/b/empty file"), "").unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
    symlink("/nowhere/../at all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("dangling too")).unwrap();
    for name in [&b"line\nfeed"[..], b"\xff\xfe", &[b'n'; 255]] {
        fs::write(root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let fd = File::open(root).unwrap();
    rustix::fs::mkfifoat(&fd, "fifo", Mode::RUSR).unwrap();
    let _ = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (path, name, value) in [
        ("a", "user.of-directory", &b"value"[..]),
        ("a/file", "user.of-file", b"\0\xff"),
        ("a/b", "system.posix_acl_default", &acl()),
        ("a/b/empty file", "system.posix_acl_access", &acl()),
        ("dangling", "trusted.of-symlink", b"value"),
        ("a/file", "security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ] {
        if let Err(error) = rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()) {
            println!("SKIPPED: {name} cannot be set here: {error}");
        }
    }
    let number = rustix::fs::makedev(1, 3);
    for (name, kind) in
        [("null", rustix::fs::FileType::CharacterDevice), ("block", rustix::fs::FileType::BlockDevice)]
    {
        if let Err(error) = rustix::fs::mknodat(&fd, name, kind, Mode::RUSR, number) {
            println!("SKIPPED: no device can be made here: {error}");
        }
    }
    if is_root() {
        std::os::unix::fs::lchown(root.join("dangling"), Some(1234), Some(2345)).unwrap();
        std::os::unix::fs::chown(root.join("a/b/empty file"), Some(1234), Some(2345)).unwrap();
    } else {
        println!("SKIPPED: only root may change owners");
    }
    let permit =
        |path: &str, mode| fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    permit("a/b/empty file", 0o4751);
    permit("a/b/empty", 0o3777);
    permit("a/b", 0o555);
    permit("a", 0o751);
}

/// Version 2; user::rwx user:1:r-- group::r-x mask::r-x other::--x
fn acl() -> Vec<u8> {
    let entries =
        [(1u16, 7u16, u32::MAX), (2, 4, 1), (4, 5, u32::MAX), (0x10, 5, u32::MAX), (0x20, 1, u32::MAX)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// So that the temporary directory can be removed by somebody who is not root.
fn open_up(root: &Path) {
    for dir in ["a", "a/b"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_tree_with_every_type_is_the_same_after_it_was_placed_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("made/for/it"));
    build_tree(&from);
    let destination = open(&to, Existing::Refuse);
    assert_eq!(destination.begin(), Begin::Fresh);
    let finished = copy_tree(&from, &destination);
    assert_eq!(destination.complete(finished).unwrap(), []);
    let seen = |root: &Path| walk(root).iter().map(|found| see(found).0).collect::<Vec<_>>();
    let (expected, found) = (seen(&from), seen(&to));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(
        fs::metadata(to.join("a/file")).unwrap().ino(),
        fs::metadata(to.join("a/b/again")).unwrap().ino()
    );
    open_up(&from);
    open_up(&to);
}

#[test]
fn a_tree_is_placed_over_itself_when_replacing_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    build_tree(&from);
    for _ in 0..2 {
        let destination = open(&to, Existing::Replace);
        let finished = copy_tree(&from, &destination);
        assert_eq!(destination.complete(finished).unwrap(), []);
    }
    let seen = |root: &Path| walk(root).iter().map(|found| see(found).0).collect::<Vec<_>>();
    assert_eq!(seen(&to), seen(&from));
    open_up(&from);
    open_up(&to);
}

#[test]
fn what_the_point_does_not_have_stays_when_replacing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["own", "sub/own", "sub/file"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let destination = open(dir.path(), Existing::Replace);
    let mut placer = placer(&destination);
    place_directory(&mut placer, "sub");
    place_file(&mut placer, "sub/file", "restored");
    let finished = placer.finish();
    destination.complete(finished).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!([read("own"), read("sub/own"), read("sub/file")], ["mine", "mine", "restored"]);
    assert!(!dir.path().join(STAGING_NAME).exists());
}

fn see_all(root: &Path) -> Vec<(Seen, FileTime)> {
    walk(root).iter().map(|found| (see(found).0, found.stat.ctime)).collect()
}

#[test]
fn contents_are_written_by_several_threads_and_holes_stay_holes() {
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let Placed::File(new) = placer.place(&key("file"), &file(64 * MIB), wanted(0o600)).unwrap() else {
        panic!()
    };
    new.set_size(64 * MIB).unwrap();
    std::thread::scope(|scope| {
        for n in 0..4u64 {
            let new = &new;
            scope.spawn(move || new.write_at(n * 16 * MIB, &[n as u8 + 1; 4096]).unwrap());
        }
    });
    assert_eq!(new.finish(), []);
    let written = File::open(dir.path().join("file")).unwrap();
    for n in 0..4u64 {
        let mut byte = [0];
        written.read_exact_at(&mut byte, n * 16 * MIB + 4095).unwrap();
        assert_eq!(byte, [n as u8 + 1]);
    }
    let meta = written.metadata().unwrap();
    assert_eq!(meta.len(), 64 * MIB);
    if meta.blocks() * 512 >= 64 * MIB {
        println!("SKIPPED: the file system of the temporary directory knows no holes");
    }
}
