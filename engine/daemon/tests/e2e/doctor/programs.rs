//! Programs that are started, and what they are to dump.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{SQLITE, Told, captured, doctor, examine, is_root, paste, set_mode};
use crate::manual::is_installed;
use crate::outcome::run;
use crate::sandbox::{Sandbox, text};

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
