//! A restore that is continued: what counts as done, and what is made again.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// Longer than a tick of the clock that file systems use.
fn let_the_clock_tick() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Whether a file of four bytes counts as finished by an earlier attempt.
fn is_done(placer: &mut Placer<'_>, name: &str) -> bool {
    match placer.place(&key(name), &file(4), wanted(0o644)).unwrap() {
        Placed::AlreadyDone => true,
        Placed::File(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_restart_of_the_system_only_files_count_that_had_been_sent_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    {
        let destination = open(dir.path(), Existing::Refuse);
        let mut placer = placer(&destination);
        place_file(&mut placer, "sent", "data");
        let_the_clock_tick();
        destination.staging().sync(&destination.systems().all()).unwrap();
        place_file(&mut placer, "written", "data");
    }
    let boot = dir.path().join(STAGING_NAME).join("boot");
    {
        let destination = open(dir.path(), Existing::Refuse);
        assert!(["sent", "written"].map(|name| is_done(&mut placer(&destination), name)) == [true, true]);
    }
    fs::write(&boot, "another boot").unwrap();
    for attempt in 0..2 {
        let destination = open(dir.path(), Existing::Refuse);
        assert!(is_done(&mut placer(&destination), "sent"), "attempt {attempt}");
        assert!(!is_done(&mut placer(&destination), "written"), "attempt {attempt}");
        place_file(&mut placer(&destination), "written", "data");
    }
}

#[test]
fn what_was_there_before_is_not_taken_for_restored_when_an_attempt_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("there");
    fs::write(&there, "rots").unwrap();
    let file = fs::File::options().write(true).open(&there).unwrap();
    let time = wanted(0o644).meta.mtime;
    file.set_modified(UNIX_EPOCH + Duration::new(time.seconds() as u64, time.nanos())).unwrap();
    let_the_clock_tick();
    drop(open(dir.path(), Existing::Replace));

    let destination = open(dir.path(), Existing::Replace);
    assert_eq!(destination.begin(), Begin::Resumed);
    let mut placer = placer(&destination);
    assert!(!is_done(&mut placer, "there"));
}

#[test]
fn a_second_restore_is_refused_while_the_first_is_at_work_and_takes_nothing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), Existing::Refuse);
    let mut placer = placer(&first);
    let Placed::File(new) = placer.place(&key("file"), &file(4), wanted(0o644)).unwrap() else { panic!() };
    for (marker, existing) in [(MARKER, Existing::Refuse), (b"another point", Existing::Replace)] {
        let refused = Destination::open(dir.path(), marker, existing).unwrap_err();
        assert_eq!(refused, PlaceError::AtWork { path: dir.path().to_owned() });
        let said = refused.to_string();
        assert!(
            said.contains("another restore is at work") && said.contains("wait for it or end it"),
            "{said}"
        );
    }
    new.write_at(0, b"data").unwrap();
    assert_eq!(new.finish(), []);
    let finished = placer.finish();
    first.complete(finished).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "data");
    drop(Destination::open(dir.path(), MARKER, Existing::Replace).unwrap());
}

#[test]
fn a_restore_that_was_killed_goes_on_with_files_that_are_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let link = LinkId::new([7; 16]);
    let linked = HeadKey::Link(link);
    {
        let destination = open(dir.path(), Existing::Refuse);
        let mut placer = placer(&destination);
        for name in [&linked, &key("a/done"), &key("a/half")] {
            let Placed::File(new) = placer.place(name, &file(4), wanted(0o444)).unwrap() else { panic!() };
            new.write_at(0, b"data").unwrap();
            if *name != key("a/half") {
                assert_eq!(new.finish(), []);
            }
        }
        placer.link(&path("b"), &link).unwrap();
        let closed = placer.place(&key("closed"), &Object::Directory, wanted(0o000)).unwrap();
        assert!(matches!(closed, Placed::Done));
        let _ = placer.finish();
    }
    assert_eq!(Destination::read_marker(dir.path()), Ok(Some(MARKER.to_vec())));
    let other = Destination::open(dir.path(), b"another point", Existing::Refuse).unwrap_err();
    assert_eq!(other, PlaceError::OtherRestore { path: dir.path().to_owned() });

    let destination = open(dir.path(), Existing::Refuse);
    assert_eq!(destination.begin(), Begin::Resumed);
    let mut placer = placer(&destination);
    for name in [&linked, &key("a/done")] {
        let placed = placer.place(name, &file(4), wanted(0o444)).unwrap();
        assert!(matches!(placed, Placed::AlreadyDone), "{name}");
    }
    place_file(&mut placer, "a/half", "whole");
    placer.link(&path("b"), &link).unwrap();
    place_directory(&mut placer, "closed");
    place_file(&mut placer, "closed/file", "x");
    let finished = placer.finish();
    destination.complete(finished).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("a/half")).unwrap(), "whole");
    assert_eq!(fs::metadata(dir.path().join("b")).unwrap().nlink(), 1);
    assert_eq!(Destination::read_marker(dir.path()), Ok(None));
    assert_eq!(Destination::read_marker(&dir.path().join("missing")), Ok(None));
}
