//! The daemon as systemd runs it: what it tells, the credentials that it gets, and what its unit lets it do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{END_TIME, PATIENCE};
use crate::hanging::{hang_index, let_go};
use crate::manual::is_installed;
use crate::outcome::{Outcome, Running, run};
use crate::sandbox::Sandbox;

/// What is allowed between two signs of life, as the unit says it.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The unit, in its folder.
pub(crate) const UNIT: &str = "backstay.service";

/// The exposure that the unit may have, by the tool that judges it.
const EXPOSURE_MAX: f64 = 2.0;

/// systemd's side.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn of(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// Starts the daemon with the environment of a unit.
    fn start(&self, sandbox: &Sandbox) -> Running {
        let mut run = sandbox.command(["run"]);
        run.env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env("CREDENTIALS_DIRECTORY", sandbox.path("credentials"));
        run.env_remove("LISTEN_FDS").env_remove("LISTEN_PID").env_remove("WATCHDOG_PID");
        Running::start(run)
    }

    /// Waits for a message with this line, and says when it came.
    #[track_caller]
    fn wait_for(&self, line: &str, within: Duration) -> Instant {
        let end = Instant::now() + within;
        let mut told = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut message = [0; 4096];
            let Ok(length) = self.socket.recv(&mut message) else { break };
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|told| told == line) {
                return Instant::now();
            }
            told.push(text);
        }
        panic!("no {line} within {within:?}; told was {told:?}");
    }
}

#[test]
fn the_daemon_tells_that_it_is_ready_alive_and_ending() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let manager = Manager::of(&sandbox);
    let running = manager.start(&sandbox);
    manager.wait_for("READY=1", PATIENCE);
    // It answers by then.
    sandbox.run(["now"]).good();
    let mut last = Instant::now();
    for _ in 0..5 {
        let alive = manager.wait_for("WATCHDOG=1", WATCHDOG);
        assert!(alive - last < WATCHDOG, "{:?} without a sign of life", alive - last);
        last = alive;
    }
    // And it is no more talkative than it has to be, whatever is going on.
    let start = Instant::now();
    (0..3).for_each(|_| _ = manager.wait_for("WATCHDOG=1", WATCHDOG));
    assert!(start.elapsed() > WATCHDOG * 3 / 4, "three signs of life within {:?}", start.elapsed());

    let ending = std::thread::spawn(move || running.terminate());
    manager.wait_for("STOPPING=1", END_TIME);
    ending.join().unwrap().good();
}

#[test]
fn a_process_that_is_not_watched_gives_no_signs_of_life() {
    let sandbox = Sandbox::new();
    let manager = Manager::of(&sandbox);
    let mut command = sandbox.command(["run"]);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let running = Running::start(command);
    manager.wait_for("READY=1", PATIENCE);
    manager.socket.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut message = [0; 4096];
    assert!(manager.socket.recv(&mut message).is_err(), "{}", String::from_utf8_lossy(&message));
    running.terminate().good();
}

#[test]
fn a_manager_that_does_not_listen_keeps_nothing_from_being_done() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let manager = Manager::of(&sandbox);
    let mut command = sandbox.command(["run"]);
    // So many signs of life that no queue holds them.
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "4000").env_remove("WATCHDOG_PID");
    let running = Running::start(command);
    manager.wait_for("READY=1", PATIENCE);
    std::thread::sleep(Duration::from_secs(3));
    sandbox.run(["now"]).good();
    let start = Instant::now();
    running.terminate().good();
    assert!(start.elapsed() < END_TIME, "it took {:?}", start.elapsed());
}

#[test]
fn the_daemon_is_ready_although_a_vault_hangs_and_a_source_fails() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    let hanging = hang_index(&sandbox.vault);
    sandbox.more = "[service.gone]\nfiles = { path = \"/nonexistent\" }\n".to_owned();
    let manager = Manager::of(&sandbox);
    let running = manager.start(&sandbox);
    manager.wait_for("READY=1", Duration::from_secs(20));
    (0..3).for_each(|_| _ = manager.wait_for("WATCHDOG=1", WATCHDOG));
    let_go(&hanging);
    running.terminate().good();
}

#[test]
fn credentials_of_the_unit_reach_the_programs_that_they_are_for() {
    let mut sandbox = Sandbox::new();
    let credentials = sandbox.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("db-password"), "correct horse\n").unwrap();
    let script = "printf 'with %s' \\\"$PASSWORD\\\"";
    sandbox.more = format!(
        "[service.db]\ncommand.dump = {{ run = [\"sh\", \"-c\", \"{script}\"], rpo = \"1d\", secrets = {{ PASSWORD = \"credential:db-password\" }} }}\n[allow]\ncommands = true\n"
    );
    // Without the daemon, there is no directory of credentials: it is said what is missing.
    sandbox.run(["now", "db"]).refused(1, &["credential:db-password"]);
    let manager = Manager::of(&sandbox);
    let running = manager.start(&sandbox);
    manager.wait_for("READY=1", PATIENCE);
    sandbox.run(["now", "db"]).good();
    let restored = sandbox.run(["restore", "db", "--to", "-"]).good();
    assert_eq!(restored.text(), "with correct horse");
    let ended = running.terminate().good();
    assert!(!ended.stderr.contains("correct horse"), "{ended:?}");
}

/// The unit, and what is beside it.
fn systemd_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd")
}

/// The unit in a folder of its own with these drop-ins; the binary that is tested in the place of the installed one, or
/// systemd would miss that.
fn unit(folder: &Path, drop_ins: &[PathBuf]) -> PathBuf {
    let text = fs::read_to_string(systemd_folder().join(UNIT)).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/backstay "), "{text}");
    let text = text.replace("/usr/bin/backstay", env!("CARGO_BIN_EXE_backstay"));
    let place = folder.join(UNIT);
    fs::write(&place, text).unwrap();
    fs::create_dir(folder.join("backstay.service.d")).unwrap();
    for drop_in in drop_ins {
        let name = drop_in.file_name().unwrap();
        fs::copy(drop_in, folder.join("backstay.service.d").join(name)).unwrap();
    }
    place
}

fn analyze(arguments: &[&str], unit: &Path) -> Outcome {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(arguments).arg(unit).env("SYSTEMD_LOG_LEVEL", "info");
    run(analyze).good()
}

#[test]
fn the_unit_exposes_little() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = unit(folder.path(), &[]);
    let judged = analyze(&["security", "--offline=true", "--no-pager"], &unit).text();
    let exposure =
        judged.lines().find_map(|line| line.split("Overall exposure level for backstay.service: ").nth(1));
    let exposure: f64 = exposure.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&judged);
    assert!(exposure <= EXPOSURE_MAX, "{judged}");
}

#[test]
fn the_unit_and_its_drop_ins_are_without_fault() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let drop_ins: Vec<PathBuf> = fs::read_dir(systemd_folder().join("drop-ins"))
        .unwrap()
        .map(|drop_in| drop_in.unwrap().path())
        .collect();
    assert!(!drop_ins.is_empty());
    for drop_ins in [&[][..], &drop_ins] {
        let folder = tempfile::tempdir().unwrap();
        let verified = analyze(&["verify"], &unit(folder.path(), drop_ins));
        assert_eq!((verified.text(), verified.stderr.as_str()), (String::new(), ""));
    }
}

/// The capabilities that a unit or drop-in names.
fn capabilities(file: &str) -> Vec<String> {
    let text = fs::read_to_string(systemd_folder().join(file)).unwrap();
    let lists = text.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    lists.flat_map(str::split_whitespace).map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

/// A command of the sandbox with what a unit or drop-ins leave of root.
pub(crate) fn bounded(sandbox: &Sandbox, files: &[&str], arguments: &[&str]) -> Command {
    let kept: Vec<String> = files.iter().flat_map(|file| capabilities(file)).collect();
    let command = sandbox.command(arguments);
    let mut setpriv = Command::new("setpriv");
    setpriv.arg(format!("--bounding-set=-all,+{}", kept.join(",+"))).arg("--no-new-privs");
    setpriv.arg(command.get_program()).args(command.get_args()).env("BACKSTAY_LOG", "warn");
    setpriv
}

#[test]
fn what_the_unit_leaves_of_root_captures_and_proves_every_tree() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: only root can give capabilities away");
        return;
    }
    let sandbox = Sandbox::new();
    let source = sandbox.source.clone();
    for (name, mode, owner) in [("closed", 0o600, 1234), ("setuid", 0o4755, 0), ("others", 0o640, 65_534)] {
        fs::write(source.join(name), name).unwrap();
        chown(source.join(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(source.join("folder")).unwrap();
    fs::write(source.join("folder/file"), "in a folder of somebody else").unwrap();
    chown(source.join("folder"), Some(1234), Some(1234)).unwrap();
    fs::set_permissions(source.join("folder"), fs::Permissions::from_mode(0o500)).unwrap();
    let tried = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&source);
        run(command).code == Some(0)
    };
    if !tried("mknod", &["null", "c", "1", "3"]) {
        eprintln!("LEFT OUT: device nodes cannot be made here");
    }
    if !tried("setfattr", &["-n", "user.note", "-v", "kept", "closed"]) {
        eprintln!("LEFT OUT: there are no attributes here");
    }
    // A vault that belongs to somebody else can be written.
    fs::create_dir(&sandbox.vault).unwrap();
    chown(&sandbox.vault, Some(1234), Some(1234)).unwrap();
    run(bounded(&sandbox, &[UNIT], &["now"])).good();
    let proven = run(bounded(&sandbox, &[UNIT], &["verify", "--level", "restore"])).good();
    assert!(proven.text().contains("restore proof good"), "{proven:?}");
}

#[test]
fn what_the_unit_does_not_permit_is_said_and_its_drop_ins_permit_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: only root can give capabilities away");
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.more = "[service.db]\ncommand.dump = { run = [\"id\", \"-un\"], rpo = \"1d\" }\n[allow]\ncommands = true\ncommand_user = \"nobody\"\n".to_owned();
    run(bounded(&sandbox, &[UNIT], &["now", "db"]))
        .refused(1, &["cannot become the user", "Operation not permitted", "drop-in commands.conf"]);
    run(bounded(&sandbox, &[UNIT, "drop-ins/commands.conf"], &["now", "db"])).good();
    assert_eq!(sandbox.run(["restore", "db", "--to", "-"]).good().text(), "nobody\n");

    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let mut set = Command::new("setfattr");
    set.args(["-n", "trusted.note", "-v", "seen"]).arg(sandbox.source.join("file"));
    if run(set).code != Some(0) {
        eprintln!("LEFT OUT: attributes trusted.* cannot be given here");
        return;
    }
    let noted = |sandbox: &Sandbox, files: &[&str]| {
        let manager = Manager::of(sandbox);
        let mut command = bounded(sandbox, files, &["run"]);
        command.env("NOTIFY_SOCKET", &manager.path);
        let running = Running::start(command);
        manager.wait_for("READY=1", PATIENCE);
        sandbox.run(["now", "data"]).good();
        fs::remove_file(&manager.path).unwrap();
        running.terminate().good().stderr.contains("trusted-attributes.conf")
    };
    assert!(noted(&sandbox, &[UNIT]), "what is missing in silence has to be said");
    // So that it is looked at again.
    fs::write(sandbox.source.join("file"), "other contents").unwrap();
    assert!(!noted(&sandbox, &[UNIT, "drop-ins/trusted-attributes.conf"]));
    let mut get = Command::new("getfattr");
    get.args(["--only-values", "-n", "trusted.note"]).arg(sandbox.restore("restored").join("file"));
    assert_eq!(run(get).good().text(), "seen");
}
