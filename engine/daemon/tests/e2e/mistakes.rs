//! Everybody's bad days: each ends with an error that says what, why and what to do, and the right exit code; no
//! panic, nothing acknowledged lost, and after mending the next command goes on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use backstay_core::id::{DomainId, VaultId};
use backstay_core::units::Timestamp;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::clear::FormatObject;
use backstay_vault::keys::{Bundle, Signer};

use crate::daemon::{Daemon, wait_for};
use crate::damage::packs;
use crate::judge::{Picture, assert_same};
use crate::mount::Mount;
use crate::outcome::{run, run_unread};
use crate::sandbox::{Capture, Sandbox};
use crate::tree;

/// A user who is not root.
pub(crate) const NOBODY: u32 = 65_534;

/// A node with one file and one point.
fn captured() -> (Sandbox, Capture) {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let first = sandbox.capture();
    (sandbox, first)
}

/// After mending: a new point, the one before still restores, and the vault is whole.
#[track_caller]
fn assert_goes_on(sandbox: &Sandbox, first: &Capture, before: &Picture) {
    tree::append(&sandbox.source.join("file"), b", and more after mending");
    let mended = sandbox.capture();
    assert!(mended.is_new, "{mended:?}");
    assert_eq!(sandbox.points(), [first.point.clone(), mended.point]);
    assert_same(&sandbox.source, &sandbox.restore("mended"));
    before.assert_same(&Picture::of(&sandbox.restore_with("as before", &["--point", &first.point])));
    sandbox.check_vault();
}

#[test]
fn another_nodes_state_does_not_open_the_vault() {
    let (mut sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let vault = Picture::of(&sandbox.vault);
    let other = sandbox.path("another state");
    let right = std::mem::replace(&mut sandbox.state, other);
    let complaint = ["no key in", "opens with", "bring back node.state"];
    sandbox.run(["now"]).refused(1, &complaint);
    sandbox.run(["now"]).refused(1, &["restore SOURCE --key-file", "vault custodian take VAULT --key-file"]);
    sandbox.run(["points"]).refused(1, &complaint);
    sandbox.run(["points"]).refused(1, &["give its recovery key with --key-file"]);
    sandbox.run(["restore", "data", "--to", "/nonexistent/never made"]).refused(1, &complaint);
    sandbox.run(["status", "--check"]).ended_with(3);
    vault.assert_same(&Picture::of(&sandbox.vault));
    sandbox.state = right;
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_vault_of_another_domain_is_refused() {
    let (mut sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let (other, _) = captured();
    sandbox.more = format!("[vault.other]\nkind = \"dir\"\npath = \"{}\"\n", other.vault.display());
    sandbox
        .run(["points", "data", "--from", "other"])
        .refused(1, &["belongs to key domain", "wrong key", "use the bundle of its fleet"]);
    // In the place of the known one.
    let right = std::mem::replace(&mut sandbox.vault, other.vault.clone());
    sandbox.run(["now"]).refused(1, &["another disk is mounted there", "mount the right one"]);
    sandbox.vault = right;
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_vault_of_a_newer_format_is_refused_by_version() {
    let (sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let bundle = fs::read(sandbox.state.join("identity/domain.json")).unwrap();
    let bundle = Bundle::from_json(&bundle).unwrap();
    let admin = Signer::from_seed(bundle.admin_seed.as_ref().expect("it has not left the node"));
    let ids = sandbox.run(["vault", "stat", "local", "--json"]).good().json();
    let newer = FormatObject {
        vault: ids["id"].as_str().unwrap().parse::<VaultId>().unwrap(),
        domain: ids["domain"].as_str().unwrap().parse::<DomainId>().unwrap(),
        reader: 77,
        writer: 77,
        features: Vec::new(),
        created: Timestamp::EPOCH,
    };
    let object = forge::format(&admin, 2, &newer);
    let place = sandbox.vault.join(object.name.to_string());
    fs::write(&place, &object.content).unwrap();
    for command in [&["now"][..], &["points"], &["vault", "check", "local"]] {
        sandbox.run(command).refused(1, &["77", "install a newer backstay"]);
    }
    fs::remove_file(place).unwrap();
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn an_unknown_key_of_the_configuration_is_named_with_its_line_and_the_nearest_key() {
    let mut sandbox = Sandbox::new();
    sandbox.more = "[service.other]\nfiles = { path = \"/srv\", exlude = [\"*.tmp\"] }\n".to_owned();
    let line = fs::read_to_string(sandbox.write_config()).unwrap().lines().count();
    sandbox.run(["check-config"]).refused(2, &[&format!(":{line}:"), "exlude", "did you mean \"exclude\"?"]);
    sandbox.run(["now"]).refused(2, &["exlude"]);
    assert!(!sandbox.state.exists(), "nothing may be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["--config", "/nonexistent/backstay.toml", "status"]);
    run(command).refused(2, &["/nonexistent/backstay.toml", "--config"]);
}

#[test]
fn a_source_that_is_a_file_or_has_vanished_is_an_error_and_keeps_its_points() {
    let (sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let away = sandbox.path("away");
    fs::rename(&sandbox.source, &away).unwrap();
    sandbox.run(["now"]).refused(1, &["cannot be read", "No such file", "check that it is mounted"]);
    fs::write(&sandbox.source, "a file").unwrap();
    sandbox.run(["now"]).refused(1, &["is a file, not a directory", "give the directory it is in"]);
    fs::remove_file(&sandbox.source).unwrap();
    fs::rename(&away, &sandbox.source).unwrap();
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_source_of_which_almost_all_is_gone_is_captured_and_said() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 50, 100, &mut Random::new(13));
    let before = Picture::of(&sandbox.source);
    let first = sandbox.capture();
    for folder in fs::read_dir(&sandbox.source).unwrap() {
        fs::remove_dir_all(folder.unwrap().path()).unwrap();
    }
    sandbox.run(["now"]).refused(3, &["entries are gone", "restore the point before"]);
    before.assert_same(&Picture::of(&sandbox.restore_with("before", &["--point", &first.point])));
}

#[test]
fn a_vault_and_a_state_inside_the_source_are_left_out_and_it_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.vault = sandbox.source.join("srv/vault");
    sandbox.state = sandbox.source.join("srv/state");
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    for _ in 0..3 {
        let now = sandbox.run(["now"]).good();
        let said =
            |folder: &str| now.stderr.lines().any(|line| line.contains(folder) && line.contains("left out"));
        assert!(said("srv/vault") && said("srv/state"), "{now:?}");
    }
    let restored = sandbox.restore("restored");
    assert_eq!(fs::read_to_string(restored.join("file")).unwrap(), "contents");
    assert_eq!(fs::read_dir(restored.join("srv")).unwrap().count(), 0);
}

#[test]
fn a_vault_whose_parent_is_missing_is_taken_for_an_unmounted_disk() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let parent = sandbox.path("mnt/disk");
    sandbox.vault = parent.join("vault");
    let said = format!("mkdir -p {}", parent.display());
    let complaint = ["there is no vault local", "the disk of the vault is not mounted; mount it", &said];
    for command in [&["now"][..], &["vault", "init", "local"], &["points"], &["run", "--once"]] {
        sandbox.run(command).refused(1, &complaint);
        assert!(!sandbox.path("mnt").exists(), "{command:?} has made the parent");
    }
    fs::create_dir_all(&parent).unwrap();
    sandbox.capture();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn a_state_that_others_can_read_is_closed_to_them_and_it_is_said() {
    let (sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let key = sandbox.state.join("identity/age.key");
    set(&sandbox.state, 0o755);
    set(&key, 0o644);
    let now = sandbox.run(["now"]).good();
    for path in [&sandbox.state, &key] {
        let path = path.to_str().unwrap();
        let is_said = |line: &str| line.contains(&format!("{path} was open to other users"));
        assert!(now.stderr.lines().any(is_said), "{now:?}");
    }
    assert!(!sandbox.run(["now"]).good().stderr.contains("open to other users"), "it is closed now");
    assert_eq!(open_to_others(&sandbox.state), Vec::<String>::new());
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn no_umask_opens_the_state_to_others() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    for umask in ["0", "0777"] {
        let mut command = sandbox.command(["now"]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("umask {umask}; exec \"$@\"")).arg("sh").arg(command.get_program());
        shell.args(command.get_args());
        command = shell;
        run(command).good();
        let tightened = open_to_others(&sandbox.state);
        assert!(tightened.is_empty(), "{tightened:?}");
        fs::write(sandbox.source.join("another file"), "contents").unwrap();
    }
    sandbox.check_vault();
}

/// What in a folder has a mode that gives anything to others than its owner, in the eyes of find.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.arg(folder).args(["-perm", "/077", "!", "-type", "l"]);
    run(find).good().text().lines().map(str::to_owned).collect()
}

#[test]
fn a_known_vault_that_is_not_mounted_is_never_made_anew() {
    let (sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let away = sandbox.path("away");
    fs::rename(&sandbox.vault, &away).unwrap();
    let complaint = ["vault local is not in", "not mounted", "No new vault is made"];
    sandbox.run(["now"]).refused(1, &complaint);
    assert!(!sandbox.vault.exists());
    fs::create_dir(&sandbox.vault).unwrap();
    for command in [&["now"][..], &["points"], &["vault", "init", "local"]] {
        sandbox.run(command).refused(1, &complaint);
    }
    sandbox.run(["status", "--check"]).ended_with(3);
    assert_eq!(fs::read_dir(&sandbox.vault).unwrap().count(), 0, "something was made in the mount point");
    fs::remove_dir(&sandbox.vault).unwrap();
    fs::rename(&away, &sandbox.vault).unwrap();
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_directory_that_holds_something_else_does_not_become_a_vault() {
    let sandbox = Sandbox::new();
    fs::create_dir(&sandbox.vault).unwrap();
    fs::write(sandbox.vault.join("thesis.tex"), "precious").unwrap();
    let before = Picture::of(&sandbox.vault);
    for command in [&["now"][..], &["vault", "init", "local"]] {
        sandbox.run(command).refused(1, &["thesis.tex", "no vault", "a directory of its own"]);
    }
    before.assert_same(&Picture::of(&sandbox.vault));
}

#[test]
fn two_vaults_at_one_place_are_told_apart_from_two_copies() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let second = sandbox.path("by another path");
    sandbox.capture();
    std::os::unix::fs::symlink(&sandbox.vault, &second).unwrap();
    sandbox.targets = r#"["local", "other"]"#;
    sandbox.more = format!("[vault.other]\nkind = \"dir\"\npath = {second:?}\n");
    sandbox.run(["now"]).refused(3, &["vaults other and local are the same one", "directory of its own"]);
}

#[test]
fn names_that_do_not_exist_are_answered_with_those_that_do() {
    let (sandbox, _) = captured();
    let to = sandbox.path("never made");
    let to = to.to_str().unwrap();
    sandbox.run(["now", "dat"]).refused(2, &["no source \"dat\"", "did you mean \"data\"?"]);
    sandbox.run(["restore", "nothing", "--to", to]).refused(2, &["no source \"nothing\"", "check-config"]);
    sandbox
        .run(["restore", "data", "--to", to, "--from", "loca"])
        .refused(2, &["no vault \"loca\"", "known are: local"]);
    sandbox.run(["vault", "check", "loca"]).refused(2, &["no vault \"loca\"", "known are: local"]);
    let unknown = ["restore", "data", "--to", to, "--point", "0123456789abcdef"];
    sandbox.run(unknown).refused(1, &["no point 0123456789abcdef", "backstay points data.files"]);
    sandbox.run(["restore", "data", "--to", to, "--point", "ab"]).refused(2, &["at least 4 digits"]);
    sandbox
        .run(["restore", "data", "--to", to, "--at", "1999-01-01"])
        .refused(1, &["no point at or before 1999", "backstay points data.files"]);
    sandbox
        .run(["restore", "data", "--to", to, "--at", "yesterday"])
        .refused(2, &["\"yesterday\" is not a time", "a whole day", "`yesterday 13:30`", "in UTC"]);
    for at in ["noon", "24:30", "01.11.2026", "2h"] {
        let refused = sandbox.run(["restore", "data", "--to", to, "--at", at]);
        refused.refused(2, &["is not a time", "`2026-05-01 13:30`", "`2h ago`", "in UTC"]);
    }
    sandbox
        .run(["restore", "data", "--to", to, "--at", "2h ago"])
        .refused(1, &["no point at or before", "backstay points data.files"]);
    sandbox.run(["ls", "data", "--at", "0s ago"]).good();
    sandbox.run(["diff", "data", "0s ago"]).good();
    sandbox.run(["restore", "data"]).refused(2, &["--to"]);
    sandbox.run(["ls", "data", "nothing/here"]).refused(1, &["nothing/here is not in point"]);
    assert!(!Path::new(to).exists());
}

/// A command of the sandbox, typed by a user who is not root.
pub(crate) fn as_nobody<A: AsRef<OsStr>>(
    sandbox: &Sandbox,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    // Where the binary lies, another user may not get.
    let binary = sandbox.path("backstay");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_backstay"), &binary).unwrap();
    }
    let mut setpriv = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    setpriv.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(&binary);
    setpriv.arg("--config").arg(sandbox.write_config()).args(arguments);
    setpriv
}

#[test]
fn who_has_no_configuration_is_told_what_to_write() {
    let sandbox = Sandbox::new();
    let (nowhere, empty, folder) =
        (sandbox.path("nowhere"), sandbox.path("empty"), sandbox.path("folder.toml"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir_all(folder.join("fleet.toml")).unwrap();
    let no_text = sandbox.path("no text.toml");
    fs::write(&no_text, b"[fleet]\nname = \"\xff\"\n").unwrap();
    let how = ["fleet.toml and node.toml", "--config FILE", "README", "`backstay demo` needs none"];
    for (place, code, fragments) in [
        (&nowhere, 2, &how[..]),
        (&empty, 2, &[&["empty/fleet.toml"], &how[..]].concat()),
        (&folder, 2, &["it has to be a file"]),
        (&no_text, 2, &["no text.toml", "UTF-8"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(place).arg("status");
        run(command).refused(code, fragments);
    }
}

#[test]
fn another_user_is_told_whose_things_they_are() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: only root can become another user");
        return;
    }
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let to = sandbox.path("never made");
    let restore = ["restore", "data", "--to", to.to_str().unwrap()];
    let commands: [&[&str]; 7] = [
        &["status"],
        &["status", "--watch"],
        &["now"],
        &["vault", "prune", "local"],
        &["points"],
        &restore,
        &["run"],
    ];
    for arguments in commands {
        let whose = ["cannot ", "/state/", "Permission denied", "it is root's", "sudo backstay"];
        run(as_nobody(&sandbox, arguments)).refused(1, &whose);
    }
    daemon.running.terminate().good();

    // What is somebody else's.
    let config = sandbox.write_config();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    run(as_nobody(&sandbox, ["status"])).refused(2, &["backstay.toml", "it is root's", "sudo backstay"]);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.state = sandbox.path("state of nobody");
    fs::create_dir(&sandbox.state).unwrap();
    chown(&sandbox.state, Some(NOBODY), Some(NOBODY)).unwrap();
    run(as_nobody(&sandbox, ["now"]))
        .refused(1, &["vault", "Permission denied", "give the user that runs backstay access to it"]);
}

#[test]
fn a_key_file_that_does_not_do_is_told_from_one_that_is_missing_and_one_that_all_can_read() {
    let (sandbox, _) = captured();
    let key = sandbox.path("recovery.key");
    let shown = key.to_str().unwrap();
    sandbox.run(["vault", "init", "local", "--recovery", shown]).good();
    let other = sandbox.path("other.key");
    let (elsewhere, _) = captured();
    elsewhere.run(["vault", "init", "local", "--recovery", other.to_str().unwrap()]).good();
    fs::write(sandbox.path("junk.key"), "junk\n").unwrap();
    fs::create_dir(sandbox.path("folder.key")).unwrap();
    let written = "`backstay vault init VAULT --recovery FILE` has written";
    let mistakes: [(&str, i32, &[&str]); 4] = [
        ("missing.key", 2, &["there is no key file", written]),
        ("junk.key", 1, &["not a recovery key", "AGE-SECRET-KEY-1", written]),
        ("folder.key", 1, &["cannot read the key file", "it has to be a file"]),
        ("other.key", 1, &["opens no keys in", "another fleet or vault", written]),
    ];
    for (name, code, fragments) in mistakes {
        let file = sandbox.path(name);
        sandbox.run(["points", "--key-file", file.to_str().unwrap()]).refused(code, fragments);
    }
    let read = |sandbox: &Sandbox| sandbox.run(["points", "--key-file", shown]).good().stderr;
    assert_eq!(read(&sandbox), "", "it was made for its owner alone");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read(&sandbox).contains(&format!("chmod 600 {shown}")), "it opens all vaults");
}

#[test]
fn a_destination_that_is_no_directory_is_said_to_be_none() {
    let (sandbox, _) = captured();
    let file = sandbox.source.join("file");
    for to in [file.clone(), file.join("below it")] {
        let restore = ["restore", "data", "--to", to.to_str().unwrap()];
        sandbox.run(restore).refused(1, &["cannot be used", "is no directory", "empty or not there"]);
    }
    let used = sandbox.path("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("file"), "mine").unwrap();
    let restore = ["restore", "data", "--to", used.to_str().unwrap()];
    sandbox.run(restore).refused(1, &["is not empty", "another directory", "--into"]);
    assert_eq!(fs::read_to_string(used.join("file")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(file).unwrap(), "contents");
}

#[test]
fn what_this_user_may_not_read_is_named_and_the_rest_captured() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: only root can become another user");
        return;
    }
    let sandbox = Sandbox::new();
    let source = &sandbox.source;
    for folder in ["open", "closed"] {
        fs::create_dir(source.join(folder)).unwrap();
        fs::write(source.join(folder).join("file"), folder).unwrap();
    }
    fs::write(source.join("open/secret"), "secret").unwrap();
    fs::set_permissions(source.join("open/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    for folder in [&sandbox.state, &sandbox.vault] {
        fs::create_dir(folder).unwrap();
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let as_nobody = |arguments: &[&OsStr]| run(as_nobody(&sandbox, arguments));
    let now = [OsStr::new("now")];
    as_nobody(&now).refused(3, &["open/secret", "closed", "Permission denied", "could not be captured"]);
    let destination = sandbox.path("restored");
    fs::create_dir(&destination).unwrap();
    chown(&destination, Some(NOBODY), Some(NOBODY)).unwrap();
    as_nobody(&[OsStr::new("restore"), OsStr::new("data"), OsStr::new("--to"), destination.as_os_str()])
        .ended_with(3);
    assert_eq!(fs::read_to_string(destination.join("open/file")).unwrap(), "open");
    assert!(!destination.join("open/secret").exists() && !destination.join("closed/file").exists());

    // Mended: all of it, and what was named is there.
    fs::set_permissions(source.join("open/secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    // Names of one object: below both folders, and of what will be closed again.
    fs::write(source.join("open/shared"), "first").unwrap();
    fs::hard_link(source.join("open/shared"), source.join("closed/shared too")).unwrap();
    fs::hard_link(source.join("open/secret"), source.join("open/secret too")).unwrap();
    as_nobody(&now).good();
    // Then closed again: what was captured before stays.
    fs::set_permissions(source.join("open/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(source.join("open/shared"), "later").unwrap();
    as_nobody(&now).refused(3, &["open/secret", "closed"]);
    // Root reads everything: an identity of nobody's is also root's to use.
    let all = sandbox.restore("all");
    assert_eq!(fs::read_to_string(all.join("open/secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(all.join("closed/file")).unwrap(), "closed");
    let inode = |name: &str| fs::metadata(all.join(name)).unwrap().ino();
    assert_eq!(inode("open/secret"), inode("open/secret too"));
    assert_eq!(fs::read_to_string(all.join("open/shared")).unwrap(), "later");
    assert_eq!(inode("open/shared"), inode("closed/shared too"), "it stays with the file that it names");
}

#[test]
fn a_second_process_is_told_who_works_there() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 600, 60_000, &mut Random::new(14));
    let mut first = sandbox.start(["now"]);
    let lock = sandbox.state.join("lock");
    while fs::read_to_string(&lock).map_or(0, |holder| holder.len()) == 0 {
        assert!(first.is_running(), "{}", first.stderr_so_far());
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_raw(first.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let holder = format!("pid {}", first.id());
    for command in [&["now"][..], &["run", "--once"], &["run"], &["vault", "init", "local"]] {
        sandbox.run(command).refused(1, &["another backstay works on", &holder, "wait for it"]);
    }
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    first.wait().good();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn a_full_vault_loses_no_point_and_goes_on_when_there_is_room() {
    let sandbox = Sandbox::new();
    let Some(disk) = Mount::tmpfs(&sandbox.vault, "6m") else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let before = Picture::of(&sandbox.source);
    let first = sandbox.capture();
    tree::make_plain(&sandbox.source.join("more"), 200, 100_000, &mut Random::new(15));
    sandbox
        .run(["now"])
        .refused(1, &["No space left on device", "free space there", "nothing that was acknowledged"]);
    before.assert_same(&Picture::of(&sandbox.restore("while it is full")));
    assert_eq!(sandbox.points(), std::slice::from_ref(&first.point));
    disk.resize("200m");
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_full_state_loses_no_point_and_goes_on_when_there_is_room() {
    let sandbox = Sandbox::new();
    let Some(disk) = Mount::tmpfs(&sandbox.state, "160k") else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let before = Picture::of(&sandbox.source);
    let first = sandbox.capture();
    tree::make_plain(&sandbox.source.join("more"), 3000, 100, &mut Random::new(16));
    sandbox.run(["now"]).refused(1, &["No space left on device", "room"]);
    before.assert_same(&Picture::of(&sandbox.restore("while it is full")));
    disk.resize("100m");
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_full_destination_is_continued_when_there_is_room() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 200, 100_000, &mut Random::new(17));
    sandbox.capture();
    let place = sandbox.path("disk");
    let Some(disk) = Mount::tmpfs(&place, "6m") else { return };
    let destination = place.join("restored");
    let command = ["restore", "data", "--to", destination.to_str().unwrap()];
    sandbox.run(command).refused(1, &["No space left on device", "make room", "run the same command again"]);
    disk.resize("200m");
    sandbox.run(command).good();
    assert_same(&sandbox.source, &destination);
}

#[test]
fn a_vault_that_can_only_be_read_restores_and_takes_nothing() {
    let (sandbox, first) = captured();
    let before = Picture::of(&sandbox.source);
    let Some(read_only) = Mount::read_only(&sandbox.vault) else { return };
    fs::write(sandbox.source.join("new"), "new").unwrap();
    sandbox.run(["now"]).refused(1, &["Read-only file system", "mount it writable"]);
    before.assert_same(&Picture::of(&sandbox.restore("from read-only")));
    sandbox.run(["status", "--check"]).good();
    sandbox.check_vault();
    drop(read_only);
    assert_goes_on(&sandbox, &first, &before);
}

#[test]
fn a_command_whose_output_nobody_reads_any_more_does_its_work_and_ends_with_the_same_code() {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("not mounted/usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    fs::write(sandbox.source.join("file"), Random::new(1).bytes(100_000)).unwrap();
    run_unread(sandbox.command(["now"])).ended_with(3);
    assert_eq!(sandbox.points().len(), 1);
    let with_contents = packs(&sandbox.vault).pop().unwrap();
    fs::remove_file(with_contents).unwrap();
    let of_codes: [(&[&str], i32); 6] = [
        (&["now", "--json"], 3),
        (&["status", "--check"], 3),
        (&["vault", "check", "local"], 1),
        (&["vault", "repair", "local"], 3),
        (&["points", "data"], 0),
        (&["ls", "data", "--recursive"], 0),
    ];
    for (arguments, code) in of_codes {
        let unread = run_unread(sandbox.command(arguments)).ended_with(code);
        assert!(!unread.stderr.contains("cannot write"), "{unread:?}");
    }
}
