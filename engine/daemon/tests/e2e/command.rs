//! What a program writes as a source, as its operator meets it: captured, kept, lost, mended, and had back as a file, on
//! standard output and by a program.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::crash::kill_when;
use crate::daemon::{Daemon, PATIENCE, get, wait_for};
use crate::damage::packs;
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, seeded, text};

/// A node with the source `db.dump`, whose program writes what is in a file.
struct Dump {
    sandbox: Sandbox,
}

impl Dump {
    /// With more keys of the source.
    fn new(keys: &str) -> Self {
        let mut dump = Self { sandbox: Sandbox::new() };
        dump.writes(b"");
        let cat = format!("run = [\"cat\", \"{}\"]{keys}", dump.output().display());
        dump.runs(&cat, "commands = true");
        dump
    }

    /// The source has these keys, and node.toml allows this.
    fn runs(&mut self, keys: &str, allow: &str) {
        self.sandbox.more = format!("[service.db]\ncommand.dump = {{ {keys} }}\n[allow]\n{allow}\n");
    }

    fn runs_script(&mut self, script: &str, keys: &str) {
        self.runs(&format!("run = [\"sh\", \"-c\", {}]{keys}", Value::from(script)), "commands = true");
    }

    fn output(&self) -> PathBuf {
        self.sandbox.path("output")
    }

    fn writes(&self, output: &[u8]) {
        fs::write(self.output(), output).unwrap();
        // Also when it runs as somebody else.
        fs::set_permissions(self.output(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Captures, which must be wholly good; whether there is a new point.
    #[track_caller]
    fn capture(&self) -> bool {
        let report = self.sandbox.run(["now", "db", "--json"]).good().json();
        let targets = report[0]["targets"].as_array().unwrap();
        targets.iter().all(|target| target["outcome"]["point"].is_object())
    }

    /// Had back to a new file of this name.
    #[track_caller]
    fn restored(&self, name: &str, more: &[&str]) -> Vec<u8> {
        let path = self.sandbox.path(name);
        let arguments = ["restore", "db", "--to", path.to_str().unwrap()];
        self.sandbox.run(arguments.iter().chain(more)).good();
        fs::read(path).unwrap()
    }

    #[track_caller]
    fn points(&self) -> Vec<String> {
        let points = self.sandbox.run(["points", "db", "--json"]).good().json();
        points.as_array().unwrap().iter().map(|point| text(&point["point"])).collect()
    }

    fn try_capture(&self) -> Outcome {
        self.sandbox.run(["now", "db"])
    }
}

#[test]
fn what_a_program_writes_is_had_back_as_a_file_on_standard_output_and_by_a_program() {
    let mut random = seeded();
    let dump = Dump::new("");
    let sandbox = &dump.sandbox;
    let mut outputs: Vec<Vec<u8>> = Vec::new();
    for length in [0, 1, 63 << 10, 64 << 10, random.below(9 << 20)] {
        let output = random.bytes(length);
        dump.writes(&output);
        assert!(dump.capture(), "{length} bytes");
        assert!(!dump.capture(), "{length} bytes");
        outputs.push(output);
    }
    let points = dump.points();
    assert_eq!(points.len(), outputs.len());
    for (point, output) in points.iter().zip(&outputs) {
        assert!(dump.restored(&format!("dump {point}"), &["--point", point]) == *output);
        let streamed = sandbox.run(["restore", "db", "--point", point, "--to", "-"]).good();
        assert!(streamed.stdout == *output, "{} bytes are others", output.len());
        assert!(streamed.stderr.contains("db.dump restored to standard output"), "{streamed:?}");
        let received = sandbox.path(format!("received {point}"));
        let script = format!("cat > '{}'; echo of its own", received.display());
        let told =
            sandbox.run(["restore", "db", "--point", point, "--to-program", "sh", "-c", &script]).good();
        assert!(told.text().starts_with("of its own\ndb.dump restored to sh from local"), "{told:?}");
        assert!(fs::read(received).unwrap() == *output);
    }
    let file = sandbox.path(format!("dump {}", points[4]));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);

    // Where it is, nothing is replaced but by order.
    let to = file.to_str().unwrap();
    sandbox.run(["restore", "db", "--to", to]).refused(1, &["is there already", "--into"]);
    sandbox.run(["restore", "db", "--point", &points[1], "--to", to, "--into"]).good();
    assert!(fs::read(&file).unwrap() == outputs[1]);
    let shown = sandbox.run(["restore", "db", "--to", to, "--into", "--json"]).good().json();
    assert_eq!(
        (&shown["bytes"], &shown["source"]),
        (&outputs[4].len().into(), &"db.dump".into()),
        "{shown:#}"
    );
    let shown = sandbox.run(["restore", "db", "--json", "--to-program", "cat"]).good();
    assert_eq!(shown.json()["to"], "cat", "what the program writes is not in the document");
    sandbox.run(["restore", "db", "--to", "-", "--json"]).refused(2, &["--json"]);
    sandbox
        .run(["restore", "db", "--to", sandbox.path("").to_str().unwrap(), "--into"])
        .refused(1, &["is not a file"]);

    let listed = sandbox.run(["ls", "db", "--json"]).good().json();
    assert_eq!(
        (&listed["path"], &listed["size"]),
        (&"stdout".into(), &outputs[4].len().into()),
        "{listed:#}"
    );
    assert_eq!((&listed["kind"], &listed["mode"]), (&"file".into(), &"0600".into()), "{listed:#}");
    // It is looked into as a tree of one file.
    assert!(sandbox.run(["cat", "db", "stdout"]).good().stdout == outputs[4]);
    let compared = sandbox.run(["diff", "db", &points[3], &points[4], "--json"]);
    assert!(compared.text().contains("\"stdout\""), "{compared:?}");
    sandbox.run(["diff", "db"]).refused(2, &["db.dump is no directory tree"]);
    sandbox.check_vault();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
}

#[test]
fn a_program_that_takes_only_a_part_or_fails_is_told() {
    let dump = Dump::new("");
    let sandbox = &dump.sandbox;
    dump.writes(&Random::new(1).bytes(3 << 20));
    dump.capture();
    let to = |program: &[&str]| {
        let arguments = ["restore", "db", "--to-program"];
        sandbox.run(arguments.iter().chain(program))
    };
    to(&["sh", "-c", "cat > /dev/null; exit 7"]).refused(1, &["given the whole output", "exit code 7"]);
    to(&["head", "-c", "10"]).refused(1, &["head has ended with exit code 0, before it had read everything"]);
    to(&["no-such-program"]).refused(1, &["no-such-program cannot be started"]);
    // All that follows is the program's, whatever it looks like.
    to(&["sh", "-c", "cat > /dev/null; test \"$1\" = --json", "sh", "--json"]).good();
    let unread = crate::outcome::run_unread(sandbox.command(["restore", "db", "--to", "-"]));
    unread.refused(1, &["standard output: nobody reads it any more"]);

    // A tree is no stream.
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    sandbox.run(["restore", "data", "--to-program", "cat"]).refused(2, &["--to DEST"]);
    sandbox.run(["restore", "data", "--to", "-"]).refused(2, &["name a directory"]);
    sandbox.run(["restore", "data"]).refused(2, &["--to"]);
    sandbox.run(["restore", "db", "other", "--to", "-"]).refused(2, &["other is not in db.dump"]);
}

#[test]
fn no_program_is_run_that_this_node_does_not_allow() {
    let mut dump = Dump::new("");
    let mark = dump.sandbox.path("mark");
    let keys = format!(
        "run = [\"touch\", \"{}\"], timeout = \"90s\", env = {{ A = \"shown-nowhere\" }}, secrets = {{ B = \"env:C\" }}",
        mark.display()
    );
    dump.runs(&keys, "");
    let refused = dump.try_capture().refused(1, &["add to node.toml: [allow] with commands = true"]);
    assert!(!mark.exists() && !refused.stderr.contains("panicked"));
    let explained = dump.sandbox.run(["check-config"]).good();
    for fragment in [
        "not on this node",
        "ends it after 1m30s",
        "sets A, B (env:C)",
        "warning: db.dump is what a program writes",
    ] {
        assert!(explained.text().contains(fragment), "{fragment:?} is not in {explained:?}");
    }
    assert!(!explained.text().contains("shown-nowhere"), "{explained:?}");
    dump.runs(&keys, "commands = true\ncommand_user = \"no-such-user\"");
    let explained = dump.sandbox.run(["check-config", "--json"]).good().json();
    let sources = explained["sources"].as_array().unwrap();
    let command =
        sources.iter().map(|source| &source["command"]).find(|command| command.is_object()).unwrap();
    assert_eq!(
        (&command["allowed"], &command["user"]),
        (&true.into(), &"no-such-user".into()),
        "{explained:#}"
    );
    assert_eq!(command["timeout_seconds"], 90.0, "{explained:#}");
    dump.try_capture().refused(1, &["there is no user no-such-user"]);
    dump.runs(&keys, "commands = true");
    dump.try_capture().refused(1, &["the secret B is not there: env:C is not set"]);
    assert!(!mark.exists());
    dump.runs(&keys, "commandos = true");
    dump.try_capture().refused(2, &["commandos", "did you mean \"commands\"?"]);
}

#[test]
fn it_runs_as_the_user_that_node_toml_names() {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can become somebody else");
        return;
    }
    let mut dump = Dump::new("");
    dump.runs(
        "run = [\"sh\", \"-c\", \"id -un; id -G; pwd; env | sort\"], env = { PGHOST = \"/run/pg\" }",
        "commands = true\ncommand_user = \"daemon\"",
    );
    assert!(dump.capture());
    let groups = std::process::Command::new("id").args(["-G", "daemon"]).output().unwrap();
    let groups = String::from_utf8(groups.stdout).unwrap();
    let printed = String::from_utf8(dump.restored("printed", &[])).unwrap();
    let begins = format!("daemon\n{groups}/\nHOME=");
    assert!(printed.starts_with(&begins), "{printed}");
    assert!(printed.contains("\nPGHOST=/run/pg\n") && printed.contains("\nUSER=daemon\n"), "{printed}");
    assert!(!printed.contains("BACKSTAY") && !printed.contains("CARGO"), "{printed}");
}

#[test]
fn a_program_that_fails_or_takes_too_long_makes_no_point() {
    let mut dump = Dump::new("");
    dump.runs_script("echo half; echo no database >&2; exit 3", "");
    dump.try_capture().refused(1, &["sh has ended with exit code 3", "no database", "nothing was captured"]);
    dump.runs_script("printf 'a\\033[2Jb\\nc' >&2; kill -9 $$", "");
    let told = dump.try_capture().refused(1, &["signal 9", "it said: a[2Jb | c"]);
    assert!(!told.stderr.contains('\u{1b}'), "{told:?}");
    let start = Instant::now();
    dump.runs_script("echo begun; sleep 100", ", timeout = \"1s\"");
    dump.try_capture().refused(1, &["had not ended after 1s, and was ended"]);
    assert!(start.elapsed() < Duration::from_secs(60));
    dump.sandbox.run(["restore", "db", "--to", "-"]).refused(1, &["db.dump has no point"]);
    let points = dump.points();
    assert!(points.is_empty(), "{points:?}");
    dump.sandbox.check_vault();
}

#[test]
fn what_is_due_is_captured_and_what_is_not_is_left_alone() {
    let dump = Dump::new(", rpo = \"24h\"");
    dump.writes(b"once");
    let once = || dump.sandbox.run(["run", "--once", "db"]).good();
    once();
    dump.writes(b"twice");
    once();
    assert_eq!(dump.points().len(), 1, "it is not due for hours");
    assert!(dump.capture());
    assert_eq!(dump.restored("dump", &[]), b"twice");
    let flows = dump.sandbox.run(["status", "--json"]).json();
    let mut flows = flows["flows"].as_array().unwrap().iter();
    let flow = flows.find(|flow| flow["source"] == "db.dump").unwrap();
    assert_eq!((&flow["kind"], &flow["state"]), (&"command".into(), &"ok".into()), "{flow:#}");
}

#[test]
fn the_daemon_captures_a_program_within_its_objective_and_tries_again_when_it_fails() {
    let mut dump = Dump::new("");
    let fails = dump.sandbox.path("fails");
    let script = format!("test ! -e {} && date +%s%N", fails.display());
    dump.runs_script(&script, ", rpo = \"4s\"");
    let daemon = Daemon::start(&mut dump.sandbox);
    wait_for("the vault and the first point", || daemon.flow("db.dump", "local")["state"] == "ok");
    wait_for("three points", || dump.points().len() >= 3);
    let labels = r#"kind="command",service="db",source="db.dump",target="local""#;
    let page = get(daemon.port, "/metrics").unwrap();
    assert!(page.contains(labels), "{page}");
    let exposure = daemon.figure(&format!("backstay_rpo_exposure_seconds{{{labels}}}")).unwrap();
    assert!((0.0..8.0).contains(&exposure), "{exposure}");
    fs::write(&fails, "").unwrap();
    wait_for("a failure", || daemon.flow("db.dump", "local")["state"] == "critical");
    let flow = daemon.flow("db.dump", "local");
    assert!(flow.to_string().contains("exit code 1"), "{flow:#}");
    let points = dump.points().len();
    fs::remove_file(&fails).unwrap();
    wait_for("another point", || dump.points().len() > points);
    wait_for("that all is well", || daemon.flow("db.dump", "local")["state"] == "ok");
    let errors = format!("backstay_flow_errors_total{{class=\"source\",{labels}}}");
    assert!(daemon.figure(&errors).unwrap() >= 1.0);
    // `now` is told by the daemon, too.
    assert!(dump.capture());
    daemon.running.terminate().good();
}

#[test]
fn points_are_pruned_and_what_is_kept_is_whole() {
    let mut random = seeded();
    let dump = Dump::new(", keep = { last = 2 }");
    let mut outputs = Vec::new();
    for n in 0..5 {
        let length = if n % 2 == 0 { 6 << 20 } else { random.below(100_000) };
        outputs.push(random.bytes(length));
        dump.writes(&outputs[n]);
        dump.capture();
    }
    let pruned = dump.sandbox.run(["vault", "prune", "local", "--json"]).good().json();
    assert_eq!(pruned["points_dropped"], 3, "{pruned:#}");
    let points = dump.points();
    assert_eq!(points.len(), 2);
    for (point, output) in points.iter().zip(&outputs[3..]) {
        assert!(dump.restored(&format!("dump {point}"), &["--point", point]) == *output);
    }
    dump.sandbox.check_vault();
    dump.sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    // What nobody wants any more can come back while the trash has it.
    dump.sandbox.run(["vault", "undelete", "local"]).good();
    let points = dump.points();
    assert!(dump.restored("oldest", &["--point", &points[0]]) == outputs[0]);
    dump.sandbox.run(["now", "db", "--hold", "release"]).good();
    let shown = dump.sandbox.run(["points", "db", "--json"]).good().json();
    assert_eq!(shown[5]["holds"][0], "release", "{shown:#}");
}

#[test]
fn what_is_lost_is_refused_and_comes_back_with_the_next_capture() {
    let dump = Dump::new("");
    let sandbox = &dump.sandbox;
    let output = Random::new(3).bytes(5 << 20);
    dump.writes(&output);
    dump.capture();
    fs::remove_file(packs(&sandbox.vault).pop().unwrap()).unwrap();
    let destination = sandbox.path("dump");
    let to = destination.to_str().unwrap();
    sandbox.run(["restore", "db", "--to", to]).refused(1, &["vault check"]);
    assert!(!destination.exists());
    let left: Vec<_> =
        fs::read_dir(sandbox.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("dump")), "{left:?}");
    // A program must not take a part for the whole.
    let done = sandbox.path("done");
    let script = format!("cat > /dev/null && touch {}", done.display());
    sandbox.run(["restore", "db", "--to-program", "sh", "-c", &script]).refused(1, &["sh was ended"]);
    assert!(!done.exists());
    sandbox.run(["restore", "db", "--to", "-"]).refused(1, &["vault check"]);

    let repaired = sandbox.run(["vault", "repair", "local", "--json"]);
    let shown = repaired.json();
    assert_eq!(repaired.code, Some(3), "{shown:#}");
    assert_eq!(
        (&shown["losses"][0]["path"], &shown["losses"][0]["source"]),
        (&"stdout".into(), &"db.dump".into()),
        "{shown:#}"
    );
    assert!(!dump.capture(), "nothing differs");
    assert!(dump.restored("dump", &[]) == output);
    sandbox.check_vault();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
}

#[test]
fn two_vaults_are_fed_by_one_run_and_copied_to_each_other() {
    let mut dump = Dump::new("");
    let (usb, runs) = (dump.sandbox.path("usb"), dump.sandbox.path("runs"));
    let script = format!("echo x >> {}; cat {}", runs.display(), dump.output().display());
    dump.runs_script(&script, "");
    dump.sandbox.targets = r#"["local", "usb"]"#;
    dump.sandbox.more += &format!(
        "[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n[vault.third]\nkind = \"dir\"\npath = \"{}\"\n",
        usb.display(),
        dump.sandbox.path("third").display()
    );
    let outputs = [Random::new(1).bytes(3 << 20), b"small".to_vec()];
    for output in &outputs {
        dump.writes(output);
        assert!(dump.capture());
    }
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\nx\n");
    let points = dump.points();
    let copied = dump.sandbox.run(["vault", "copy", "usb", "third", "--json"]).good().json();
    assert_eq!(copied["points"], 2, "{copied:#}");
    for vault in ["local", "usb", "third"] {
        dump.sandbox.run(["vault", "check", vault, "--read-data", "1/1"]).good();
        for (point, output) in points.iter().zip(&outputs) {
            let restored = dump.restored(&format!("{vault} {point}"), &["--from", vault, "--point", point]);
            assert!(restored == *output, "{vault}");
        }
    }
    // One that was away gets what it lacks by a run of its own.
    let away = dump.sandbox.path("away");
    fs::rename(&usb, &away).unwrap();
    dump.writes(b"third");
    dump.try_capture().refused(3, &["not mounted"]);
    fs::rename(&away, &usb).unwrap();
    dump.writes(b"fourth");
    assert!(dump.capture());
    for vault in ["local", "usb"] {
        assert_eq!(dump.restored(&format!("{vault} at the end"), &["--from", vault]), b"fourth");
    }
}

#[test]
fn a_daemon_that_is_killed_takes_its_program_with_it_and_acknowledges_nothing() {
    let mut dump = Dump::new("");
    let (begun, mark) = (dump.sandbox.path("begun"), format!("backstay-e2e-{}", std::process::id()));
    dump.writes(b"before");
    assert!(dump.capture());
    let script = format!("echo half; touch {}; while :; do sleep 0.05; done; : {mark}", begun.display());
    dump.runs_script(&script, ", rpo = \"2s\"");
    let daemon = Daemon::start(&mut dump.sandbox);
    wait_for("the program", || begun.exists());
    assert!(is_running(&mark));
    daemon.running.kill();
    wait_until_gone(&mark);
    assert_eq!(dump.points().len(), 1);
    assert_eq!(dump.restored("after the kill", &[]), b"before");

    // The same by a signal to end, which it heeds in time.
    fs::remove_file(&begun).unwrap();
    let daemon = Daemon::start(&mut dump.sandbox);
    wait_for("the program", || begun.exists());
    let start = Instant::now();
    daemon.running.terminate().good();
    assert!(start.elapsed() < crate::daemon::END_TIME, "{:?}", start.elapsed());
    wait_until_gone(&mark);

    // And by itself.
    let capture = dump.sandbox.command(["now", "db"]);
    fs::remove_file(&begun).unwrap();
    kill_when(capture, || begun.exists());
    wait_until_gone(&mark);

    dump.runs_script("echo whole", "");
    assert!(dump.capture());
    assert_eq!(dump.restored("dump", &[]), b"whole\n");
    dump.sandbox.check_vault();
    run(dump.sandbox.command(["vault", "prune", "local"])).good();
    dump.sandbox.check_vault();
}

#[test]
fn a_restore_that_is_killed_leaves_no_file_under_the_name() {
    let dump = Dump::new("");
    dump.writes(&Random::new(4).bytes(64 << 20));
    dump.capture();
    let destination = dump.sandbox.path("dump");
    let to = destination.to_str().unwrap();
    let usual = Instant::now();
    dump.sandbox.run(["restore", "db", "--to", to]).good();
    let usual = usual.elapsed();
    fs::remove_file(&destination).unwrap();
    let mut cut_short = 0;
    for n in 0..12 {
        let running = dump.sandbox.start(["restore", "db", "--to", to]);
        std::thread::sleep(usual.mul_f64(f64::from(n) / 12.0));
        cut_short += u32::from(running.kill().code.is_none());
        if destination.exists() {
            assert_eq!(fs::metadata(&destination).unwrap().len(), 64 << 20);
            fs::remove_file(&destination).unwrap();
        }
    }
    assert!(cut_short > 3, "{cut_short} of 12");
    assert_eq!(dump.restored("dump", &[]).len(), 64 << 20);
}

fn is_running(mark: &str) -> bool {
    let line = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).unwrap_or_default();
    let own = std::process::id().to_string();
    let others = fs::read_dir(Path::new("/proc")).unwrap().flatten();
    let mut others = others.filter(|process| process.file_name() != own.as_str());
    others.any(|process| String::from_utf8_lossy(&line(process)).contains(mark))
}

#[track_caller]
fn wait_until_gone(mark: &str) {
    let start = Instant::now();
    while is_running(mark) {
        assert!(start.elapsed() < PATIENCE, "the program has outlived whoever started it");
        std::thread::sleep(Duration::from_millis(10));
    }
}
