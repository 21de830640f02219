//! Users who cannot see everything.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use super::{Told, captured, examine, is_root, paste, set_mode};
use crate::mistakes::as_nobody;
use crate::outcome::run;
use crate::sandbox::Sandbox;

#[test]
fn an_ordinary_user_is_told_what_it_cannot_see_and_as_whom_to_look() {
    if !is_root() {
        eprintln!("LEFT OUT: only root can be somebody else");
        return;
    }
    let sandbox = captured();
    let told = Told::of(&run(as_nobody(&sandbox, ["doctor", "--json"])));
    let line = told.fix("state", "keys", "warning", "vaults are not looked into");
    assert_eq!(line, format!("sudo backstay --config {} doctor", sandbox.path("backstay.toml").display()));
    // A daemon of that user's own cannot read what is root's.
    let mut own = captured();
    own.state = own.path("state of nobody");
    fs::create_dir(&own.state).unwrap();
    set_mode(&own.state, 0o700);
    chown(&own.state, Some(65_534), Some(65_534)).unwrap();
    set_mode(&own.source.join("file"), 0o600);
    let told = Told::of(&run(as_nobody(&own, ["doctor", "--json"])));
    let advice = told.fix("source data.files", "readable", "problem", "cannot read");
    assert!(advice.contains("CAP_DAC_READ_SEARCH") && !advice.contains("setfacl"), "{advice}");

    // A vault that it cannot make is made for it, and what is above stays as it is.
    let above = own.path("above");
    fs::create_dir(&above).unwrap();
    own.vault = above.join("vault");
    let look = |own: &Sandbox| Told::of(&run(as_nobody(own, ["doctor", "--json"])));
    let line = look(&own).fix("vault local", "writing", "problem", "Permission denied");
    assert_eq!(line, format!("sudo sh -c 'install -d -o nobody -m 700 {}'", own.vault.display()));
    paste(line.strip_prefix("sudo ").unwrap());
    look(&own).assert_level("vault local", "writing", "ok");
    assert_eq!(fs::metadata(&above).unwrap().uid(), 0);
    // One that root has made is given to it, without what is in it.
    chown(&own.vault, Some(0), Some(0)).unwrap();
    set_mode(&own.vault, 0o755);
    let line = look(&own).fix("vault local", "writing", "problem", "Permission denied");
    assert_eq!(line, format!("sudo sh -c 'chown nobody {}'", own.vault.display()));
    fs::write(own.vault.join("something else"), "").unwrap();
    look(&own).fix("vault local", "writing", "problem", "findmnt -T");
}

#[test]
fn root_does_not_tell_a_daemon_of_another_user_that_all_is_well() {
    if !is_root() {
        eprintln!("LEFT OUT: only root can be somebody else");
        return;
    }
    let sandbox = captured();
    let told = examine(&sandbox);
    told.assert_none("daemon", "user");
    told.assert_level("source data.files", "readable", "ok");
    chown(&sandbox.state, Some(65_534), Some(65_534)).unwrap();
    let told = examine(&sandbox);
    let line = told.fix("daemon", "user", "warning", "this runs as root");
    let config = sandbox.path("backstay.toml");
    assert_eq!(line, format!("sudo -u nobody backstay --config {} doctor", config.display()));
    for (subject, check) in [
        ("state", "writing"),
        ("vault local", "writing"),
        ("vault local", "opens"),
        ("source data.files", "readable"),
    ] {
        told.without_fix(subject, check, "note", "as root; not as nobody");
    }
}

#[test]
fn a_secret_that_an_ordinary_user_cannot_see_is_not_made_anew() {
    if !is_root() {
        eprintln!("LEFT OUT: only root can be somebody else");
        return;
    }
    let mut sandbox = captured();
    let folder = sandbox.path("secrets");
    fs::create_dir(&folder).unwrap();
    let secret = folder.join("pw");
    fs::write(&secret, "hunter2\n").unwrap();
    // Everybody may read it, and nobody can get there.
    set_mode(&secret, 0o644);
    set_mode(&folder, 0o700);
    sandbox.more = format!(
        "command.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{}\" }} }}\n[allow]\ncommands = true\n",
        secret.display()
    );
    let told = Told::of(&run(as_nobody(&sandbox, ["doctor", "--json"])));
    let line = told.fix("secrets", "there", "warning", "Permission denied");
    assert!(line.starts_with("sudo backstay ") && line.ends_with(" doctor"), "{line}");
    examine(&sandbox).fix("secrets", "rights", "note", "not all can get to where it lies");
}
