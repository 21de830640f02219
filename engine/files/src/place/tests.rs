mod resume;

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use backstay_core::id::{ContentId, LinkId};
use rustix::fs::XattrFlags;

use super::*;
use crate::exclude::Exclude;
use crate::observe;
use crate::row::{Attributes, DeviceNumber, Meta, Object, Permissions, RowError, SymlinkTarget};
use crate::stat::{FileKind, FileStat, FileTime};
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
fn a_destination_with_something_in_it_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "").unwrap();
    let error = Destination::open(dir.path(), MARKER, Existing::Refuse).unwrap_err();
    assert_eq!(error, PlaceError::NotEmpty { path: dir.path().to_owned() });
    assert_eq!(error.reach(), Reach::Restore);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let under_file = dir.path().join("precious/below");
    assert!(matches!(
        Destination::open(&under_file, MARKER, Existing::Replace),
        Err(PlaceError::Destination { .. })
    ));
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

#[test]
fn planted_symlinks_are_replaced_and_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, to) = (dir.path().join("outside"), dir.path().join("to"));
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    fs::create_dir(&to).unwrap();
    symlink(&outside, to.join("directory")).unwrap();
    symlink(outside.join("file"), to.join("file")).unwrap();
    symlink(outside.join("file"), to.join("fifo")).unwrap();
    symlink(outside.join("new"), to.join("link")).unwrap();
    symlink(&outside, to.join(STAGING_NAME)).unwrap();
    let before = see_all(&outside);

    let destination = open(&to, Existing::Replace);
    let mut placer = placer(&destination);
    place_directory(&mut placer, "directory");
    place_file(&mut placer, "directory/file", "restored");
    place_directory(&mut placer, "directory/sub");
    assert!(placer.place(&key("fifo"), &Object::Fifo, wanted(0o777)).is_ok());
    place_file(&mut placer, "file", "restored");
    assert!(placer.place(&key("link"), &link_to("elsewhere"), wanted(0o777)).is_ok());
    let finished = placer.finish();
    destination.complete(finished).unwrap();

    assert_eq!(see_all(&outside), before);
    assert!(fs::symlink_metadata(to.join("directory")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "restored");
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("elsewhere"));
}

fn see_all(root: &Path) -> Vec<(Seen, FileTime)> {
    walk(root).iter().map(|found| (see(found).0, found.stat.ctime)).collect()
}

#[test]
fn a_name_that_turns_up_in_an_empty_destination_is_reported_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    place_directory(&mut placer, "a");
    for name in ["a/dir", "a/file", "a/link"] {
        symlink(outside.path(), dir.path().join(name)).unwrap();
    }
    let taken = |name: &str| PlaceError::Taken { key: key(name) };
    let error = placer.place(&key("a/dir"), &Object::Directory, wanted(0o755)).unwrap_err();
    assert_eq!(error, taken("a/dir"));
    // What is in that directory is reported, too, and goes nowhere.
    let error = placer.place(&key("a/dir/file"), &file(1), wanted(0o644)).unwrap_err();
    assert_eq!(error, taken("a/dir"));
    assert_eq!(placer.place(&key("a/file"), &file(1), wanted(0o644)).unwrap_err(), taken("a/file"));
    assert_eq!(placer.place(&key("a/link"), &link_to("x"), wanted(0o777)).unwrap_err(), taken("a/link"));
    assert_eq!(taken("x").reach(), Reach::Object);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_with_something_in_it_is_not_replaced_by_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("full/x")).unwrap();
    fs::create_dir_all(dir.path().join("empty")).unwrap();
    let destination = open(dir.path(), Existing::Replace);
    let mut placer = placer(&destination);
    place_file(&mut placer, "empty", "now a file");
    let error = placer.place(&key("full"), &file(1), wanted(0o644)).unwrap_err();
    assert_eq!(error, PlaceError::InTheWay { key: key("full") });
    assert!(dir.path().join("full/x").is_dir());
}

#[test]
fn the_name_of_the_staging_directory_is_reserved_in_the_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    for name in [STAGING_NAME.to_owned(), format!("{STAGING_NAME}/links/x")] {
        let error = placer.place(&key(&name), &file(1), wanted(0o644)).unwrap_err();
        assert_eq!(error, PlaceError::Reserved { key: key(&name) });
    }
    place_directory(&mut placer, "a");
    place_file(&mut placer, &format!("a/{STAGING_NAME}"), "harmless");
}

#[test]
fn a_foreign_staging_directory_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let staging = dir.path().join(STAGING_NAME);
    fs::create_dir_all(staging.join("links")).unwrap();
    fs::write(staging.join("marker"), MARKER).unwrap();
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Destination::read_marker(dir.path()), Ok(None));
    let error = Destination::open(dir.path(), MARKER, Existing::Refuse).unwrap_err();
    assert_eq!(error, PlaceError::NotEmpty { path: dir.path().to_owned() });
}

#[test]
fn a_link_to_a_file_that_was_not_placed_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let link = LinkId::new([9; 16]);
    let error = placer(&destination).link(&path("name"), &link).unwrap_err();
    assert_eq!(error, PlaceError::LinkMissing { key: key("name"), link });
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

#[test]
fn owners_that_cannot_be_given_are_reported_and_take_set_id_bits_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let mut foreign = wanted(0o6755);
    (foreign.meta.uid, foreign.meta.gid) = (4321, 4321);
    let Placed::File(new) = placer.place(&key("file"), &file(0), foreign).unwrap() else { panic!() };
    let defects = new.finish();
    let mode = fs::metadata(dir.path().join("file")).unwrap().mode() & 0o7777;
    if is_root() {
        assert_eq!((defects, mode), (vec![], 0o6755));
    } else {
        let lacking: Vec<_> = defects.iter().map(|defect| (&defect.lacking, defect.error)).collect();
        assert_eq!(lacking, [(&Lacking::Owner, Errno::PERM), (&Lacking::Mode, Errno::PERM)]);
        assert_eq!(mode, 0o755);
    }
}

#[test]
fn attributes_that_cannot_be_given_are_reported_by_name() {
    use crate::row::{Attribute, AttributeName, AttributeValue};
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let mut odd = wanted(0o644);
    let name = AttributeName::new(b"nowhere.odd").unwrap();
    let attribute = Attribute { name: name.clone(), value: AttributeValue::Inline([1].into()) };
    odd.meta.attributes = Attributes::new(vec![attribute]).unwrap();
    let Placed::File(new) = placer.place(&key("file"), &file(0), odd).unwrap() else { panic!() };
    let expected = Defect { key: key("file"), lacking: Lacking::Attribute(name), error: Errno::OPNOTSUPP };
    assert!(expected.to_string().contains("nowhere.odd"));
    assert_eq!(new.finish(), [expected]);
}

#[test]
fn devices_are_made_by_root_and_reported_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let object = Object::CharDevice(DeviceNumber { major: 1, minor: 3 });
    let placed = placer(&destination).place(&key("null"), &object, wanted(0o666));
    if is_root() {
        assert!(placed.is_ok(), "{placed:?}");
    } else {
        let expected = PlaceError::NotPermitted { key: key("null"), kind: FileKind::CharDevice };
        assert_eq!(placed.unwrap_err(), expected);
    }
}

#[test]
fn what_a_directory_hands_down_to_its_files_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let set = |name, value: &[u8]| rustix::fs::setxattr(dir.path(), name, value, XattrFlags::empty());
    if let Err(error) = set("system.posix_acl_default", &acl()) {
        println!("SKIPPED: no access control lists here: {error}");
        return;
    }
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    place_directory(&mut placer, "a");
    place_file(&mut placer, "a/file", "x");
    place_file(&mut placer, "file", "x");
    let _ = placer.finish();
    for name in ["a", "a/file", "file"] {
        let mut list = [0; 256];
        let length = rustix::fs::listxattr(dir.path().join(name), &mut list).unwrap();
        assert!(!list[..length].windows(5).any(|part| part == b"posix"), "{name}");
    }
}

#[test]
fn a_tree_as_deep_as_paths_can_be_is_placed_with_few_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let mut at = PathKey::root();
    for depth in 1..=2047 {
        at = at.child(b"d").unwrap();
        let placed = placer.place(&HeadKey::Path(at.clone()), &Object::Directory, wanted(0o755)).unwrap();
        assert!(matches!(placed, Placed::Done), "{depth}");
    }
    at = at.child(b"f").unwrap();
    assert_eq!(at.relative_path().len(), 4095);
    let Placed::File(new) = placer.place(&HeadKey::Path(at), &file(0), wanted(0o644)).unwrap() else {
        panic!()
    };
    assert_eq!(new.finish(), []);
    let finished = placer.finish();
    destination.complete(finished).unwrap();
    let found = walk(dir.path());
    assert_eq!(found.len(), 2049);
    assert!(found[1..].iter().all(|found| found.stat.mtime.seconds() == MTIME));
}

#[test]
fn a_directory_that_was_swapped_is_not_taken_for_the_one_that_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    // So deep that the first directory is no longer kept open.
    let deep = "d/".repeat(200) + "file";
    place_file(&mut placer, &deep, "x");
    fs::rename(dir.path().join("d"), dir.path().join("moved")).unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let error = placer.place(&key("d/file"), &file(1), wanted(0o644)).unwrap_err();
    let doing = "opening its directory again";
    assert_eq!(error, PlaceError::Entry { key: key("d/file"), doing, error: Errno::NOENT });
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 0);
}

#[test]
fn a_directory_is_finished_after_the_files_that_are_made_later_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    let modified = |at: &str| fs::metadata(dir.path().join(at)).unwrap().mtime();
    let later =
        |placer: &mut Placer<'_>, at: &str| match placer.place_later(&key(at), &file(1), wanted(0o644)) {
            Ok(Placed::Later(file)) => file,
            other => panic!("{other:?}"),
        };
    place_directory(&mut placer, "a");
    let [first, second] = ["a/first", "a/second"].map(|at| later(&mut placer, at));
    place_directory(&mut placer, "b");
    assert!(!dir.path().join("a/first").exists());
    let made = first.make().unwrap();
    assert_eq!(made.finish(), []);
    assert_ne!(modified("a"), MTIME, "one file is still to come");
    assert_eq!(second.make().unwrap().finish(), []);
    assert_eq!((modified("a"), modified("a/second")), (MTIME, MTIME));
    drop(later(&mut placer, "b/never"));
    assert_ne!(modified("b"), MTIME, "the keys are still in it");
    let finished = placer.finish();
    assert_eq!(modified("b"), MTIME, "also when a file that was to come does not");
    assert_eq!(destination.complete(finished).unwrap(), []);
}

#[test]
fn where_something_may_be_in_the_way_nothing_is_put_off() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "mine").unwrap();
    let destination = open(dir.path(), Existing::Replace);
    let placed = placer(&destination).place_later(&key("file"), &file(1), wanted(0o644)).unwrap();
    assert!(matches!(placed, Placed::File(_)), "{placed:?}");
}

#[test]
fn directories_without_rows_are_made_for_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&destination);
    place_file(&mut placer, "a/b/file", "x");
    place_file(&mut placer, "a/c/file", "y");
    let finished = placer.finish();
    assert_eq!(destination.complete(finished).unwrap(), []);
    assert_eq!(fs::read_to_string(dir.path().join("a/c/file")).unwrap(), "y");
}

#[test]
fn somebody_who_swaps_directories_for_symlinks_meanwhile_gains_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, to) = (dir.path().join("outside"), dir.path().join("to"));
    fs::create_dir_all(&outside).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for n in 0..50 {
                    let (at, away) = (to.join(format!("{n:02}")), to.join(format!("away{n:02}")));
                    if fs::rename(&at, &away).is_ok() {
                        let _ = symlink(&outside, &at);
                    }
                }
            }
        });
        for _ in 0..20 {
            let _ = fs::remove_dir_all(&to);
            let Ok(destination) = Destination::open(&to, MARKER, Existing::Replace) else { continue };
            let mut placer = destination.placer(|_| {});
            for n in 0..50 {
                for name in [format!("{n:02}"), format!("{n:02}/sub")] {
                    let _ = placer.place(&key(&name), &Object::Directory, wanted(0o755));
                }
                let in_it = format!("{n:02}/sub/file");
                if let Ok(Placed::File(new)) = placer.place(&key(&in_it), &file(0), wanted(0o644)) {
                    let _ = new.finish();
                }
            }
            let finished = placer.finish();
            let _ = destination.complete(finished);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let stat = FileStat::at(File::open(&outside).unwrap(), b".").unwrap();
    assert_ne!(stat.mtime.seconds(), MTIME);
}
