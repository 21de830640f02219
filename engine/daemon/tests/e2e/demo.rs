//! `demo`, as somebody sees it who has never heard of Backstay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::outcome::{Running, run};

#[test]
fn the_demo_tells_what_it_captured_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_backstay"));
    demo.arg("demo").env("TMPDIR", place.path());
    let said = run(demo).good().text();
    let first = said.lines().find(|line| line.starts_with("first capture: ")).expect("it is told");
    assert!(!first.contains("read 0 B") && !first.contains("read 0B"), "{said}");
    assert!(!first.contains("stored 0 B") && !first.contains("stored 0B"), "{said}");
    for part in ["second capture: ", "compared", "are the same", "removed everything"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn nobody_else_may_look_into_the_folder_of_the_demo_or_guess_its_name() {
    let place = tempfile::tempdir().unwrap();
    let start = || {
        let mut demo = Command::new("sh");
        demo.arg("-c").arg("umask 0; exec \"$0\" demo").arg(env!("CARGO_BIN_EXE_backstay"));
        demo.env("TMPDIR", place.path());
        Running::start(demo)
    };
    let mut demo = start();
    let folder = loop {
        if let Some(folder) = fs::read_dir(place.path()).unwrap().next() {
            break folder.unwrap();
        }
        assert!(demo.is_running(), "{}", demo.stderr_so_far());
    };
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let name = folder.file_name().into_string().unwrap();
    assert!(!name.contains(&demo.id().to_string()), "{name} can be guessed");
    demo.wait().good();
}
