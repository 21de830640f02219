//! `doctor`: a node that is well is told so, each fault is told with the line that mends it, and where that is a command the
//! test runs the printed line and looks again.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, wait_for};
use crate::damage::packs;
use crate::hanging::{hang_index, let_go};
use crate::judge::Picture;
use crate::manual::is_installed;
use crate::mistakes::as_nobody;
use crate::mount::Mount;
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, text};

/// What a file of SQLite begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What an examination has told.
#[derive(Debug)]
struct Told(Value);

impl Told {
    #[track_caller]
    fn of(outcome: &Outcome) -> Self {
        let told = Self(outcome.json());
        // The exit code is that of the worst.
        let count = |level: &str| told.0[level].as_u64().unwrap();
        let code = match (count("problems"), count("warnings")) {
            (0, 0) => 0,
            (0, _) => 3,
            _ => 1,
        };
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        told
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.0["checks"].as_array().unwrap().iter()
    }

    /// The finding of this subject and check that is worst.
    #[track_caller]
    fn find(&self, subject: &str, check: &str) -> &Value {
        let rank = |level: &Value| ["ok", "note", "warning", "problem"].iter().position(|word| level == word);
        let of_it = self.checks().filter(|found| found["subject"] == subject && found["check"] == check);
        let worst = of_it.max_by_key(|found| rank(&found["level"]));
        worst.unwrap_or_else(|| panic!("no {check} of {subject} in {:#}", self.0))
    }

    /// The fix of a finding that must have this level, and this in its text; what is printed to be pasted.
    #[track_caller]
    fn fix(&self, subject: &str, check: &str, level: &str, fragment: &str) -> String {
        let found = self.find(subject, check);
        assert_eq!(found["level"], level, "{found:#}");
        assert!(found.to_string().contains(fragment), "{fragment:?} is not in {found:#}");
        text(&found["fix"])
    }

    /// A finding of this level with this in its text, for which there is nothing to do here.
    #[track_caller]
    fn without_fix(&self, subject: &str, check: &str, level: &str, fragment: &str) {
        let found = self.find(subject, check);
        assert_eq!((&found["level"], found.get("fix")), (&level.into(), None), "{found:#}");
        assert!(found.to_string().contains(fragment), "{fragment:?} is not in {found:#}");
    }

    #[track_caller]
    fn assert_level(&self, subject: &str, check: &str, level: &str) {
        let found = self.find(subject, check);
        assert_eq!(found["level"], level, "{found:#}");
    }

    #[track_caller]
    fn assert_none(&self, subject: &str, check: &str) {
        let mut of_it = self.checks().filter(|found| found["subject"] == subject && found["check"] == check);
        let bad = of_it.find(|found| found["level"] != "ok");
        assert!(bad.is_none(), "{bad:#?}");
    }
}

/// The command line, with a home of its own, so that a printed line writes nowhere else.
fn doctor(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.command(["doctor", "--json"]);
    command.env("HOME", sandbox.path(""));
    command
}

#[track_caller]
fn examine(sandbox: &Sandbox) -> Told {
    Told::of(&run(doctor(sandbox)))
}

/// Runs a printed line as somebody would who pastes it.
#[track_caller]
fn paste(line: &str) -> Outcome {
    let binary = Path::new(env!("CARGO_BIN_EXE_backstay"));
    let path = std::env::join_paths(
        std::iter::once(binary.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("PATH", path.unwrap());
    run(shell).good()
}

/// A node with one file and one point.
fn captured() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    sandbox
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a test machine is like itself: where its temporary directories are, and what sets its clock.
fn is_of_this_machine(found: &Value) -> bool {
    let is = |subject: &str, check: &str| found["subject"] == subject && found["check"] == check;
    let is_layer = found["check"] == "medium" && found["what"].as_str().unwrap().contains("overlay");
    is("system", "clock") || is("unit", "installed") || found["check"] == "room" || is_layer
}

#[test]
fn a_node_that_is_well_is_told_so_and_left_as_it_is() {
    let mut sandbox = Sandbox::new();
    // A disk of its own, so that the vault survives what the source does not.
    let Some(_disk) = Mount::tmpfs(&sandbox.source, "16m") else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.watch = true;
    let key = sandbox.path("key elsewhere");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    sandbox.capture();
    sandbox.run(["verify"]).good();
    let before = [&sandbox.vault, &sandbox.state, &sandbox.source].map(|folder| Picture::of(folder));
    examine(&sandbox).assert_level("daemon", "running", "warning");
    for (folder, before) in [&sandbox.vault, &sandbox.state, &sandbox.source].into_iter().zip(before) {
        before.assert_same(&Picture::of(folder));
    }

    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || daemon.flow("data.files", "local")["state"] == "ok");
    let told = examine(&sandbox);
    let bad: Vec<&Value> = told
        .checks()
        .filter(|found| found["level"] != "ok" && !is_of_this_machine(found))
        .filter(|found| !(found["check"] == "copies" && found["level"] == "note"))
        .collect();
    assert_eq!(bad, Vec::<&Value>::new());
    for (subject, check) in [
        ("daemon", "version"),
        ("daemon", "configuration"),
        ("metrics", "address"),
        ("state", "rights"),
        ("state", "keys"),
        ("vault local", "opens"),
        ("vault local", "recovery"),
        ("vault local", "custodian"),
        ("vault local", "clock"),
        ("source data.files", "readable"),
        ("watching", "limits"),
        ("scratch", "room"),
        ("flow data.files to local", "exposure"),
        ("flow data.files to local", "proofs"),
    ] {
        told.assert_level(subject, check, "ok");
    }
    // For people: a line for each check, and fewer with --quiet.
    let shown = run(sandbox.command(["doctor"])).text();
    assert!(shown.contains("\nvault local\n  ok       "), "{shown}");
    assert!(shown.trim_end().ends_with("0 problems"), "{shown}");
    let quiet = run(sandbox.command(["doctor", "--quiet"])).text();
    assert!(!quiet.contains("  ok  ") && quiet.lines().count() < shown.lines().count(), "{quiet}");
    daemon.running.terminate().good();
}

#[test]
fn rights_that_are_too_wide_are_closed_by_the_printed_lines() {
    let mut sandbox = captured();
    let secret = sandbox.path("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    sandbox.more = format!(
        "command.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{}\" }} }}\n[allow]\ncommands = true\n",
        secret.display()
    );
    let config = sandbox.write_config();
    for (path, mode) in [(&secret, 0o644), (&sandbox.vault, 0o777), (&sandbox.state, 0o755), (&config, 0o666)]
    {
        set_mode(path, mode);
    }
    let outcome = run(doctor(&sandbox));
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
    let told = Told::of(&outcome);
    let of = |path: &Path| path.display().to_string();
    let fixes = [
        (("secrets", "rights"), format!("chmod 600 {}", of(&secret))),
        (("vault local", "rights"), format!("chmod go-w {}", of(&sandbox.vault))),
        (("state", "rights"), format!("chmod 700 {}", of(&sandbox.state))),
        (("configuration", "rights"), format!("chmod go-w {}", of(&config))),
    ];
    for ((subject, check), line) in &fixes {
        assert_eq!(told.fix(subject, check, "problem", ""), *line);
        paste(line);
    }
    let mended = examine(&sandbox);
    for ((subject, check), _) in &fixes {
        mended.assert_level(subject, check, "ok");
    }
    assert_eq!(
        [mode(&secret), mode(&sandbox.vault), mode(&sandbox.state), mode(&config)],
        [0o600, 0o755, 0o700, 0o644]
    );
    fs::remove_file(&secret).unwrap();
    let line = examine(&sandbox).fix("secrets", "there", "problem", "PW of data.dump");
    assert_eq!(line, format!("[ -e {0} ] || install -m 600 /dev/null {0}", of(&secret)));
    // A link that leads nowhere is something, and stays.
    std::os::unix::fs::symlink("nowhere", &secret).unwrap();
    let advice = examine(&sandbox).fix("secrets", "there", "problem", "cannot be looked at");
    assert!(advice.contains("namei -l"), "{advice}");
}

#[test]
fn a_vault_that_only_this_node_opens_gets_a_recovery_key_by_the_printed_line() {
    let sandbox = captured();
    let line = examine(&sandbox).fix("vault local", "recovery", "warning", "when this host is lost");
    paste(&line);
    let told = examine(&sandbox);
    told.assert_level("vault local", "recovery", "ok");
    // The key lies on this host now, and is to be carried away.
    let key = sandbox.path("backstay-recovery.key");
    assert!(key.exists());
    told.fix("secrets", "recovery_key", "note", "shred -u");
    set_mode(&key, 0o644);
    paste(&examine(&sandbox).fix("secrets", "recovery_key", "problem", "other users can read"));
    examine(&sandbox).assert_level("secrets", "recovery_key", "note");
}

#[test]
fn a_node_that_has_lost_its_keys_goes_on_by_the_line_in_the_advice() {
    let sandbox = captured();
    let key = sandbox.path("backstay-recovery.key");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    let identity = sandbox.state.join("identity");
    fs::write(identity.join("age.key"), "junk").unwrap();
    let told = examine(&sandbox);
    told.fix("state", "keys", "problem", "is damaged");
    told.without_fix("vault local", "opens", "note", "was not looked into");
    fs::remove_dir_all(&identity).unwrap();
    let told = examine(&sandbox);
    told.fix("state", "keys", "problem", "identity and keys are gone");
    let advice = told.fix("vault local", "opens", "problem", "does not open with this node's keys");
    paste(advice.split('`').nth(1).unwrap());
    let told = examine(&sandbox);
    for (subject, check) in [("state", "keys"), ("vault local", "opens"), ("vault local", "custodian")] {
        told.assert_level(subject, check, "ok");
    }
    sandbox.capture();
}

#[test]
fn another_disk_in_the_place_of_a_vault_and_one_that_is_full_are_told() {
    let mut sandbox = captured();
    let other = captured();
    let right = std::mem::replace(&mut sandbox.vault, other.vault.clone());
    examine(&sandbox).fix("vault local", "opens", "problem", "another disk is mounted there");
    sandbox.vault = right;

    let disk = sandbox.path("disk");
    let Some(_disk) = Mount::tmpfs(&disk, "1m") else { return };
    // Where something else lies, no vault is made, and the line says where one can be.
    let line = {
        let other = disk.join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "").unwrap();
        sandbox.more = format!("[vault.full]\nkind = \"dir\"\npath = \"{}\"\n", other.display());
        examine(&sandbox).fix("vault full", "opens", "problem", "and no vault")
    };
    sandbox.more = format!("[vault.full]\nkind = \"dir\"\n{line}\n");
    examine(&sandbox).assert_level("vault full", "opens", "note");
    sandbox.more = format!("[vault.full]\nkind = \"dir\"\npath = \"{}\"\n", disk.join("vault").display());
    fs::write(disk.join("filler"), vec![1; 1_020_000]).unwrap();
    let advice = examine(&sandbox).fix("vault full", "room", "problem", "are free");
    assert!(advice.contains("vault prune full") && advice.contains("df -h"), "{advice}");
}

#[test]
fn a_vault_that_is_gone_is_missed_and_a_new_one_is_not() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let line = examine(&sandbox).fix("vault local", "opens", "note", "it was not made yet");
    paste(&line);
    examine(&sandbox).assert_level("vault local", "opens", "ok");
    sandbox.capture();

    let away = sandbox.path("away");
    fs::rename(&sandbox.vault, &away).unwrap();
    for make in [false, true] {
        if make {
            fs::create_dir(&sandbox.vault).unwrap();
        }
        let told = examine(&sandbox);
        told.fix("vault local", "mounted", "problem", "lsblk -f");
        told.fix("vault local", "mounted", "problem", "most likely its disk is not mounted");
        told.assert_none("source data.files", "disks");
    }
    fs::remove_dir(&sandbox.vault).unwrap();
    fs::rename(&away, &sandbox.vault).unwrap();
    examine(&sandbox).assert_level("vault local", "opens", "ok");

    // One whose directory is not there can be made where its line says so.
    sandbox.more =
        format!("[vault.other]\nkind = \"dir\"\npath = \"{}\"\n", sandbox.path("a/b/vault").display());
    let line = examine(&sandbox).fix("vault other", "present", "problem", "is not there");
    assert_eq!(line, format!("mkdir -p {}", sandbox.path("a/b").display()));
    paste(&line);
    examine(&sandbox).assert_level("vault other", "present", "ok");
}

#[test]
fn copies_beside_the_source_are_warned_of() {
    let mut sandbox = captured();
    let lines = examine(&sandbox).fix("source data.files", "disks", "warning", "its only copies, in local");
    // What is pasted is valid.
    sandbox.more = format!("{lines}\n");
    sandbox.run(["check-config"]).good();
    sandbox.more = format!("[vault.second]\nkind = \"dir\"\npath = \"{}\"\n", sandbox.vault.display());
    sandbox.targets = r#"["local", "second"]"#;
    examine(&sandbox).fix("configuration", "vaults", "problem", "have one directory");
}

#[test]
fn a_program_that_cannot_be_started_is_told_with_the_reason() {
    let mut sandbox = captured();
    let with = |sandbox: &mut Sandbox, run: &str, allow: &str| {
        sandbox.more = format!("command.dump = {{ run = {run}, rpo = \"24h\" }}\n[allow]\n{allow}\n");
        examine(sandbox)
    };
    let (source, allowed) = ("source data.dump", "commands = true");
    let told = with(&mut sandbox, "[\"true\"]", "commands = false");
    let line = told.fix(source, "allowed", "problem", "runs no programs");
    assert_eq!(line, allowed);
    with(&mut sandbox, "[\"true\"]", &line).assert_level(source, "program", "ok");

    with(&mut sandbox, "[\"no-such-program\"]", allowed).fix(
        source,
        "program",
        "problem",
        "apt-file search bin/no-such-program",
    );
    let install = with(&mut sandbox, "[\"slapcat\", \"-n\", \"1\"]", allowed);
    if !Path::new("/usr/sbin/slapcat").exists() {
        assert_eq!(install.fix(source, "program", "problem", "no program slapcat"), "apt-get install slapd");
    }

    // One that is there and may not be run; it may be secret, so that no line opens it.
    let script = sandbox.path("of-this-test");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    set_mode(&script, 0o600);
    let run_it = format!("[\"{}\"]", script.display());
    let line = with(&mut sandbox, &run_it, allowed).fix(
        source,
        "program",
        "problem",
        "that the daemon's user may run",
    );
    assert!(line.contains(&format!("chmod 0750 {}", script.display())), "{line}");
    set_mode(&script, 0o700);
    with(&mut sandbox, &run_it, allowed).assert_level(source, "program", "ok");

    // One that the shell of who looks finds, and the daemon does not.
    set_mode(&script, 0o755);
    sandbox.more =
        format!("command.dump = {{ run = [\"of-this-test\", \"-x\"], rpo = \"24h\" }}\n[allow]\n{allowed}\n");
    let mut command = doctor(&sandbox);
    command.env("PATH", sandbox.path(""));
    let line = Told::of(&run(command)).fix(source, "program", "problem", "no program of-this-test");
    assert_eq!(line, format!("run = [\"{}\", \"-x\"]", script.display()));

    let nobody = with(&mut sandbox, "[\"true\"]", "commands = true\ncommand_user = \"no-such-user\"");
    let line = nobody.fix(source, "user", "problem", "there is no user no-such-user");
    assert_eq!(line, "useradd --system --shell /usr/sbin/nologin no-such-user");
    let short = "command.dump = { run = [\"true\"] }\n[allow]\ncommands = true\n".to_owned();
    sandbox.more = short;
    assert_eq!(examine(&sandbox).fix(source, "timeout", "note", "its RPO is 15m"), "rpo = \"2h\"");
}

#[test]
fn a_program_of_another_user_gets_its_secret_by_the_printed_line() {
    if !is_root() {
        eprintln!("LEFT OUT: only root runs programs as others");
        return;
    }
    let mut sandbox = captured();
    let secret = sandbox.path("secret");
    fs::write(&secret, "x\n").unwrap();
    set_mode(&secret, 0o600);
    sandbox.more = format!(
        "command.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{}\" }} }}\n[allow]\ncommands = true\ncommand_user = \"nobody\"\n",
        secret.display()
    );
    // Where the binary lies, another user may not get.
    let binary = sandbox.path("backstay");
    fs::copy(env!("CARGO_BIN_EXE_backstay"), &binary).unwrap();
    let look = || {
        let mut command = Command::new(&binary);
        command.arg("--config").arg(sandbox.write_config()).args(["doctor", "--json"]);
        Told::of(&run(command))
    };
    let told = look();
    told.fix("source data.dump", "program", "problem", "the secret PW cannot be read");
    let line = told.fix("secrets", "rights", "problem", "the user nobody cannot read");
    paste(&line);
    let told = look();
    told.assert_level("secrets", "rights", "ok");
    told.assert_level("source data.dump", "program", "ok");
}

#[test]
fn databases_in_a_tree_are_told_until_the_printed_line_dumps_them() {
    let mut sandbox = captured();
    let database = sandbox.source.join("app.db");
    let has_sqlite = is_installed("sqlite3");
    if has_sqlite {
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg(&database).arg("create table notes(text); insert into notes values('worth keeping')");
        run(sqlite).good();
    } else {
        let mut page = SQLITE.to_vec();
        page.resize(4096, 0);
        fs::write(&database, page).unwrap();
    }
    let cluster = sandbox.source.join("var/pg");
    fs::create_dir_all(cluster.join("global")).unwrap();
    fs::write(cluster.join("PG_VERSION"), "17\n").unwrap();
    fs::write(cluster.join("postmaster.pid"), "1\n").unwrap();
    let rocks = sandbox.source.join("rocks");
    fs::create_dir(&rocks).unwrap();
    for name in ["CURRENT", "MANIFEST-000001"] {
        fs::write(rocks.join(name), "").unwrap();
    }
    let told = examine(&sandbox);
    let source = "source data.files";
    let sqlite = told.fix(source, "sqlite", "warning", "app.db is a database of SQLite");
    let postgres = told.fix(source, "postgres", "problem", "is a data directory of PostgreSQL");
    told.fix(source, "rocksdb", "warning", "RocksDB");
    assert!(sqlite.starts_with("command.app = { run = [\"sqlite3\", \"-readonly\", "), "{sqlite}");
    assert!(text(&told.find(source, "sqlite")["fix_place"]).ends_with("backstay.toml, in [service.data]"));
    // The table of the service is the last one there.
    sandbox.more = format!("{sqlite}\n{postgres}\n[allow]\ncommands = true\n");
    let told = examine(&sandbox);
    told.assert_none(source, "sqlite");
    told.assert_none(source, "postgres");
    if has_sqlite {
        sandbox.run(["now", "data.app"]).good();
        let dump = sandbox.path("dump.sql");
        sandbox.run(["restore", "data.app", "--to", dump.to_str().unwrap()]).good();
        assert!(fs::read_to_string(dump).unwrap().contains("INSERT INTO notes VALUES('worth keeping')"));
    }
    // What is left out of the source is nobody's concern.
    sandbox.more = String::new();
    sandbox.source_lines = r#", exclude = ["app.db", "var", "rocks"]"#;
    let told = examine(&sandbox);
    for check in ["sqlite", "postgres", "rocksdb"] {
        told.assert_none(source, check);
    }
}

#[test]
fn a_source_that_is_gone_or_empty_is_told() {
    let sandbox = captured();
    let file = sandbox.source.join("file");
    fs::remove_file(&file).unwrap();
    examine(&sandbox).fix("source data.files", "present", "warning", "its newest point has 2 entries");
    fs::remove_dir(&sandbox.source).unwrap();
    examine(&sandbox).fix("source data.files", "present", "problem", "is not there");
    fs::write(&sandbox.source, "a file").unwrap();
    examine(&sandbox).fix("source data.files", "present", "problem", "is not a directory");
}

#[test]
fn a_file_system_within_a_tree_that_is_not_captured_is_told() {
    let mut sandbox = captured();
    let inside = sandbox.source.join("inside");
    // On a file system in memory nobody keeps anything.
    let Some(_memory) = Mount::tmpfs(&inside, "1m") else { return };
    examine(&sandbox).assert_none("source data.files", "file_systems");
    let image = sandbox.path("image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let disk = sandbox.source.join("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mkfs.ext4 -q {image}; mount -o loop {image} {disk}\n{}",
        examine_into(&sandbox, "before"),
        image = image.display(),
        disk = disk.display()
    );
    if in_own_mounts(&script).is_none() {
        return;
    }
    let lines =
        told_in(&sandbox, "before").fix("source data.files", "file_systems", "warning", "are not captured");
    assert_eq!(lines, format!("[service.disk]\nfiles = {{ path = \"{}\" }}", disk.display()));
    sandbox.more = format!("{lines}\n");
    let script = script.replace("mkfs.ext4 -q", "true").replace("/before", "/after");
    sandbox.write_config();
    in_own_mounts(&script).unwrap();
    told_in(&sandbox, "after").assert_none("source data.files", "file_systems");
}

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

#[test]
fn state_in_memory_and_a_vault_that_is_mounted_for_reading_only_are_problems() {
    let mut sandbox = captured();
    let disk = sandbox.path("disk");
    let Some(_mount) = Mount::tmpfs(&disk, "16m") else { return };
    let state = std::mem::replace(&mut sandbox.state, disk.join("state"));
    examine(&sandbox).fix("state", "medium", "problem", "gone when this host is booted");
    sandbox.state = state;
    let Some(_read_only) = Mount::read_only(&sandbox.vault) else { return };
    let line = examine(&sandbox).fix("vault local", "writing", "problem", "for reading only");
    let line = line.split_once("If it is sound: ").unwrap().1;
    assert_eq!(line, format!("mount -o remount,rw {}", sandbox.vault.display()));
    paste(line);
    examine(&sandbox).assert_level("vault local", "writing", "ok");
}

/// Runs lines as root where mounts are this process's own; `None` where that is not permitted.
fn in_own_mounts(script: &str) -> Option<Outcome> {
    let mut shell = Command::new("unshare");
    let binaries = Path::new(env!("CARGO_BIN_EXE_backstay")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    shell.args(["--mount", "--propagation", "private", "sh", "-e", "-c", script]).env("PATH", path);
    let outcome = run(shell);
    if outcome.code == Some(0) {
        return Some(outcome);
    }
    eprintln!("LEFT OUT: no mounts of its own here: {}", outcome.stderr.trim());
    None
}

/// Lines of a script after which `/etc` is a copy in memory, which is gone with the mounts: what is written there changes
/// nothing of the machine that tests.
fn own_etc(sandbox: &Sandbox) -> String {
    let copy = sandbox.path("etc");
    fs::create_dir_all(&copy).unwrap();
    let copy = copy.display();
    format!("mount -t tmpfs -o mode=755 backstay-e2e {copy}; cp -a /etc/. {copy}; mount --bind {copy} /etc\n")
}

/// The examinations of a script, which were written to these files.
fn told_in(sandbox: &Sandbox, name: &str) -> Told {
    Told(serde_json::from_slice(&fs::read(sandbox.path(name)).unwrap()).unwrap())
}

/// A line of a script that examines, whatever comes of it.
fn examine_into(sandbox: &Sandbox, name: &str) -> String {
    let (config, to) = (sandbox.write_config(), sandbox.path(name));
    format!("backstay --config {} doctor --json > {} || true\n", config.display(), to.display())
}

#[test]
fn a_disk_that_fstab_knows_is_mounted_by_the_printed_line() {
    let mut sandbox = Sandbox::new();
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).unwrap();
    sandbox.vault = disk.join("vault");
    let fstab = sandbox.path("fstab");
    fs::write(&fstab, format!("backstay-e2e {} tmpfs mode=755,nofail 0 0\n", disk.display())).unwrap();
    let line = format!("mount {}", disk.display());
    let script = format!(
        "{}cp {} /etc/fstab\n{}{line}\n{}",
        own_etc(&sandbox),
        fstab.display(),
        examine_into(&sandbox, "before"),
        examine_into(&sandbox, "after")
    );
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    let before = told_in(&sandbox, "before");
    assert_eq!(before.fix("vault local", "mounted", "problem", "is not mounted"), line);
    let after = told_in(&sandbox, "after");
    after.assert_none("vault local", "mounted");
    after.fix("vault local", "medium", "problem", "it lies in memory");
}

#[test]
fn more_directories_than_can_be_watched_are_told_with_a_line_that_raises_the_limit() {
    let mut sandbox = captured();
    sandbox.watch = true;
    for n in 0..10 {
        fs::create_dir(sandbox.source.join(format!("folder {n}"))).unwrap();
    }
    let limit = sandbox.path("limit");
    fs::write(&limit, "5\n").unwrap();
    let script = format!(
        "mount --bind {} /proc/sys/fs/inotify/max_user_watches\n{}",
        limit.display(),
        examine_into(&sandbox, "told")
    );
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    let line = told_in(&sandbox, "told").fix(
        "watching",
        "limits",
        "warning",
        "11 directories are watched, of 5 that are allowed",
    );
    assert!(line.starts_with("printf 'fs.inotify.max_user_watches = 524288\\n' > /etc/sysctl.d/"), "{line}");
}

#[test]
fn what_the_unit_does_not_allow_is_allowed_by_the_printed_lines() {
    let mut sandbox = captured();
    sandbox.node_lines = "metrics = \"127.0.0.1:9420\"".to_owned();
    let config = sandbox.write_config();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/backstay.service");
    let unit = fs::read_to_string(shipped)
        .unwrap()
        .replace("/etc/backstay run", &format!("{} run", config.display()));
    let units = sandbox.path("units");
    fs::create_dir(&units).unwrap();
    fs::write(units.join("backstay.service"), unit).unwrap();
    // Systemd does not run here: the lines are run, and what they would tell it is not.
    let tools = sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("systemctl"), "#!/bin/sh\nexit 0\n").unwrap();
    set_mode(&tools.join("systemctl"), 0o755);
    let bind = format!(
        "{}mkdir -p /etc/systemd/system; mount --bind {} /etc/systemd/system\n",
        own_etc(&sandbox),
        units.display()
    );
    // A daemon that has died is told of, though something of it is started at times.
    let cron = "mkdir -p /etc/cron.d; echo '5 * * * * root backstay now' > /etc/cron.d/backstay-e2e\n";
    let script = format!("{bind}{cron}{}", examine_into(&sandbox, "before"));
    let of_etc = || fs::metadata("/etc").unwrap().modified().unwrap();
    let etc = of_etc();
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    assert_eq!(of_etc(), etc, "this machine was changed");
    let before = told_in(&sandbox, "before");
    before.fix("daemon", "running", "problem", "systemctl enable --now backstay");
    before.fix("unit", "installed", "problem", "systemctl enable --now backstay");
    let writing = before.fix("unit", "writing", "problem", "does not let the daemon write to vault local");
    let network = before.fix("unit", "network", "problem", "node.metrics wants one");
    let script = format!(
        "{bind}PATH={}:$PATH\n{writing}\n{network}\n{}",
        tools.display(),
        examine_into(&sandbox, "after")
    );
    in_own_mounts(&script).unwrap();
    let after = told_in(&sandbox, "after");
    after.assert_level("unit", "writing", "ok");
    after.assert_level("unit", "network", "ok");
}

#[test]
fn a_daemon_that_has_read_an_older_configuration_or_cannot_serve_is_told() {
    let mut sandbox = captured();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || daemon.flow("data.files", "local")["state"] == "ok");
    examine(&sandbox).assert_level("daemon", "configuration", "ok");
    // What is changed within the second of its start is not told from what it has read.
    std::thread::sleep(Duration::from_secs(3));
    sandbox.more = "# changed\n".to_owned();
    let told = examine(&sandbox);
    let pid = daemon.running.id();
    told.fix("daemon", "configuration", "warning", &format!("kill {pid}"));
    // A key is added while no daemon runs.
    told.fix("vault local", "recovery", "warning", &format!("kill {pid}"));
    let stopped = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    let told = examine(&sandbox);
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    told.fix("daemon", "running", "problem", "has not answered within 10 seconds");
    told.fix("metrics", "address", "warning", "the daemon does not answer at");
    daemon.running.terminate().good();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    sandbox.node_lines = format!("metrics = \"{address}\"");
    let line = examine(&sandbox).fix("metrics", "address", "problem", "another program listens");
    drop(taken);
    assert!(line.starts_with("metrics = \"127.0.0.1:"), "{line}");
    examine(&sandbox).assert_level("metrics", "address", "ok");
}

#[test]
fn flows_that_are_late_and_proofs_that_have_failed_are_told() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), vec![7; 300_000]).unwrap();
    sandbox.capture();
    sandbox.rpo = "1s";
    std::thread::sleep(Duration::from_millis(2500));
    let line = examine(&sandbox).fix("flow data.files to local", "exposure", "problem", "are allowed");
    sandbox.rpo = "15m";
    let told = examine(&sandbox);
    told.assert_level("flow data.files to local", "exposure", "ok");
    paste(&line);
    let verify = told.fix("flow data.files to local", "proofs", "note", "never proven");
    paste(&verify);
    examine(&sandbox).assert_level("flow data.files to local", "proofs", "ok");

    packs(&sandbox.vault).into_iter().for_each(|pack| fs::remove_file(pack).unwrap());
    sandbox.run(["verify", "--level", "data"]).ended_with(1);
    let line = examine(&sandbox).fix(
        "flow data.files to local",
        "proofs",
        "problem",
        "not all of it can be had back",
    );
    assert!(line.ends_with("vault repair local"), "{line}");
}

#[test]
fn points_of_a_time_to_come_tell_of_a_wrong_clock() {
    if !is_installed("faketime") {
        return;
    }
    let sandbox = captured();
    fs::write(sandbox.source.join("file"), "later").unwrap();
    let mut ahead = Command::new("faketime");
    ahead
        .args(["-f", "+3d"])
        .arg(env!("CARGO_BIN_EXE_backstay"))
        .arg("--config")
        .arg(sandbox.write_config())
        .arg("now");
    run(ahead).good();
    let told = examine(&sandbox);
    told.fix("vault local", "clock", "problem", "vault prune local --trust-clock --dry-run");
}

#[test]
fn a_vault_that_hangs_is_given_up_and_everything_else_is_told() {
    let mut sandbox = captured();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    sandbox.run(["now"]).good();
    let hanging = hang_index(&usb);
    let start = Instant::now();
    let told = examine(&sandbox);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let_go(&hanging);
    told.fix("vault usb", "opens", "problem", "no answer within 20s");
    told.assert_level("vault local", "opens", "ok");
    told.assert_level("flow data.files to local", "exposure", "ok");
    told.assert_level("flow data.files to usb", "exposure", "warning");
}

#[test]
fn a_file_system_that_hangs_holds_nothing_up() {
    let mut sandbox = captured();
    // One whose server never says a word, with a tree, a vault, a secret, and the home of who looks, where the recovery key
    // would be.
    let hung = sandbox.path("hung");
    fs::create_dir(&hung).unwrap();
    sandbox.more = format!(
        "[service.far]\nto = [\"local\"]\nfiles = {{ path = \"{hung}\" }}\ncommand.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{hung}/pw\" }} }}\n[vault.far]\nkind = \"dir\"\npath = \"{hung}/vault\"\n",
        hung = hung.display()
    );
    let script = format!(
        "exec 3<>/dev/fuse\nmount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent {0}\nexport HOME={0}\n{1}",
        hung.display(),
        examine_into(&sandbox, "told")
    );
    let start = Instant::now();
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    assert!(start.elapsed() < Duration::from_secs(75), "{:?}", start.elapsed());
    let told = told_in(&sandbox, "told");
    told.assert_level("secrets", "there", "warning");
    for subject in ["source far.files", "vault far"] {
        told.fix(subject, "present", "problem", "does not answer within 20s");
    }
    told.assert_level("vault local", "opens", "ok");
    told.assert_level("source data.files", "readable", "ok");
    told.assert_level("flow data.files to local", "exposure", "ok");
}

#[test]
fn snapshots_that_no_source_removes_are_deleted_by_the_printed_lines() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", snapshot = \"btrfs\"";
    let image = sandbox.path("btrfs.img");
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    if !is_root() || !is_installed("mkfs.btrfs") {
        return;
    }
    let mut make = Command::new("mkfs.btrfs");
    make.arg("--quiet").arg(&image);
    run(make).good();
    let Some(_mount) = Mount::image(&image, &sandbox.source) else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    examine(&sandbox).assert_none("snapshots", "left");
    let folder = sandbox.source.join(".backstay");
    // Of this source, which its next capture removes; of one that was renamed; and what is no snapshot.
    for name in ["data.files", "old name.files"] {
        let mut take = Command::new("btrfs");
        take.args(["subvolume", "snapshot", "-r"]).arg(&sandbox.source).arg(folder.join(name));
        run(take).good();
    }
    fs::create_dir(folder.join("mine")).unwrap();
    let told = examine(&sandbox);
    let of_it: Vec<&Value> = told.checks().filter(|found| found["subject"] == "snapshots").collect();
    assert_eq!(of_it.len(), 1, "{of_it:#?}");
    let line = told.fix("snapshots", "left", "warning", "old name.files is a snapshot of no source");
    let (_, line) = line.split_once(": ").unwrap();
    assert_eq!(line, format!("btrfs subvolume delete '{}'", folder.join("old name.files").display()));
    paste(line);
    examine(&sandbox).assert_none("snapshots", "left");
    assert!(folder.join("data.files").exists() && folder.join("mine").exists());
}

#[test]
fn a_configuration_that_is_wrong_ends_as_with_every_command() {
    let mut sandbox = Sandbox::new();
    sandbox.more = "[service.other]\nfiles = { path = \"/srv\", exlude = [] }\n".to_owned();
    sandbox.run([OsStr::new("doctor")]).refused(2, &["exlude", "exclude"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["--config", "/nonexistent", "doctor"]);
    run(command).refused(2, &["/nonexistent"]);
}
