//! Directories: when they are made and finished, and how deep they can be.

use super::*;

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
