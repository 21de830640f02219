//! What stands in the way, or is put there by somebody else.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

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
