//! A tree that changes while it is captured: what was listed is captured as it is found, and nothing of it lies.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use backstay_testkit::random::Random;

use crate::daemon::wait_for;
use crate::sandbox::Sandbox;

/// Of this much a capture is busy for a while, and reads ahead what comes after it.
const LARGE_BYTES: usize = 200 << 20;

fn has_a_pack(sandbox: &Sandbox) -> bool {
    let Ok(folders) = fs::read_dir(sandbox.vault.join("packs")) else { return false };
    folders.flatten().any(|folder| fs::read_dir(folder.path()).is_ok_and(|mut packs| packs.next().is_some()))
}

#[test]
fn a_directory_that_is_renamed_and_a_file_that_grows_while_another_is_read_are_in_the_point() {
    let sandbox = Sandbox::new();
    let inside = |name: &str| sandbox.source.join(name);
    let mut random = Random::new(1);
    fs::write(inside("a-large"), random.bytes(LARGE_BYTES)).unwrap();
    fs::create_dir(inside("b-directory")).unwrap();
    fs::write(inside("b-directory/child"), "child").unwrap();
    fs::set_permissions(inside("b-directory"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::create_dir(inside("c-directory")).unwrap();
    fs::write(inside("c-directory/child"), "child").unwrap();
    fs::write(inside("d-grows"), "").unwrap();

    let capture = sandbox.start(["now"]);
    wait_for("the first pack", || has_a_pack(&sandbox));
    fs::rename(inside("b-directory"), sandbox.path("elsewhere")).unwrap();
    fs::remove_dir_all(inside("c-directory")).unwrap();
    fs::write(inside("c-directory"), "a file now").unwrap();
    let grown = random.bytes(300_000);
    fs::write(inside("d-grows"), &grown).unwrap();
    let told = capture.wait().ended_with(3);
    assert!(told.stderr.contains("b-directory"), "{told:?}");

    let restored = sandbox.restore("restored");
    let directory = restored.join("b-directory");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(fs::read_to_string(directory.join("child")).unwrap(), "child");
    assert!(restored.join("c-directory").is_dir());
    assert!(fs::read(restored.join("d-grows")).unwrap() == grown);
    // The next capture finds it as it is now.
    assert!(sandbox.capture().is_new);
    let again = sandbox.restore("again");
    assert!(!again.join("b-directory").exists());
    assert_eq!(fs::read_to_string(again.join("c-directory")).unwrap(), "a file now");
    sandbox.check_vault();
}
