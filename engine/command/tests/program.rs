//! Programs that end well, badly, late and not at all: what is told of them, and that nothing of them stays.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backstay_command::environment::Environment;
use backstay_command::program::{
    Ended, KEPT_OPEN_TIME, Launcher, Output, Program, ProgramError, SAID_BYTES_MAX,
};
use backstay_command::user::User;
use backstay_core::config::{CommandSource, Config, ConfigTexts, SourceKind, SourceText};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_backstay-launcher");

/// A source as the configuration has it.
fn source(keys: &str) -> CommandSource {
    let text = format!(
        "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n[vault.v]\nkind = \"dir\"\npath = \"/v\"\n\
         [service.s]\ncommand.dump = {{ {keys} }}\n"
    );
    let config = Config::parse(ConfigTexts::Single(SourceText { name: "test", text: &text })).unwrap();
    match &config.sources[0].kind {
        SourceKind::Command(command) => command.clone(),
        kind => panic!("{kind:?}"),
    }
}

fn program_of(source: &CommandSource, user: User) -> Program {
    let environment = Environment::of(&user).with(&source.env).with_secrets(&source.secrets).unwrap();
    Program::new(source, environment, user, Launcher::at(LAUNCHER))
}

fn shell(script: &str) -> Program {
    let mut source = source("run = [\"sh\", \"-c\", \"SCRIPT\"]");
    source.run[2] = script.to_owned();
    program_of(&source, User::own().unwrap())
}

fn lasting(script: &str, timeout: Duration) -> Program {
    Program { timeout, ..shell(script) }
}

fn all(output: &mut Output<'_>) -> Result<Vec<u8>, ProgramError> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match output.read(&mut buffer)? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buffer[..read]),
        }
    }
}

fn run(program: &Program) -> Result<Vec<u8>, ProgramError> {
    program.run(&|| false, all)
}

fn text(program: &Program) -> String {
    String::from_utf8(run(program).unwrap()).unwrap()
}

/// A mark that is on the command line of what a test starts, so that it can be looked whether any of it is left.
fn mark() -> String {
    use std::sync::atomic::AtomicU32;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("backstay-mark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn is_running(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(mark))
}

#[track_caller]
fn assert_gone(mark: &str) {
    let start = Instant::now();
    while is_running(mark) {
        assert!(start.elapsed() < Duration::from_secs(3), "something of {mark} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_it_writes_is_had_as_it_is() {
    assert_eq!(text(&shell("printf 'a\\0b'; printf c")), "a\0bc");
    assert_eq!(text(&shell(":")), "");
    assert_eq!(run(&shell("head -c 5000000 /dev/zero")).unwrap().len(), 5_000_000);
    // It has nothing to read, and does not begin where the daemon did.
    assert_eq!(text(&shell("cat; pwd")), "/\n");
}

#[test]
fn its_environment_is_what_is_stated_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    std::fs::write(&file, "from a file\n").unwrap();
    let keys = format!(
        "run = [\"env\", \"-0\"], env = {{ PGHOST = \"/run/pg\", EMPTY = \"\" }}, \
         secrets = {{ PW = \"file:{}\", CARGO = \"env:CARGO_MANIFEST_DIR\" }}",
        file.display()
    );
    let own = User::own().unwrap();
    let printed = text(&program_of(&source(&keys), own.clone()));
    let found: BTreeMap<&str, &str> =
        printed.split_terminator('\0').map(|line| line.split_once('=').unwrap()).collect();
    let expected = BTreeMap::from([
        ("CARGO", std::env!("CARGO_MANIFEST_DIR")),
        ("EMPTY", ""),
        ("HOME", own.home.as_str()),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("PGHOST", "/run/pg"),
        ("PW", "from a file"),
        ("USER", own.name.as_str()),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn one_that_ends_badly_gives_nothing_and_says_why() {
    let error = run(&shell("echo half; echo no such database >&2; exit 3")).unwrap_err();
    assert!(matches!(&error, ProgramError::Ended { how: Ended::Code(3), .. }), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("sh has ended with exit code 3") && told.contains("no such database"), "{told}");
    assert!(!told.contains("half"), "{told}");
    let error = run(&shell("kill -11 $$")).unwrap_err();
    assert!(matches!(error, ProgramError::Ended { how: Ended::Signal(11), .. }), "{error}");
}

#[test]
fn one_that_is_not_there_is_told_from_one_that_fails() {
    let program = program_of(&source("run = [\"no-such-program-here\", \"x\"]"), User::own().unwrap());
    let error = run(&program).unwrap_err();
    assert!(matches!(error, ProgramError::NotStarted { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("no-such-program-here: No such file"), "{told}");
    assert!(matches!(
        run(&shell("exit 127")).unwrap_err(),
        ProgramError::Ended { how: Ended::Code(127), .. }
    ));
    let gone = source("run = [\"true\"], secrets = { PW = \"file:/no/such/secret\" }");
    let told = run(&program_of(&gone, User::own().unwrap())).unwrap_err().to_string();
    assert!(told.contains("the secret PW cannot be read from /no/such/secret"), "{told}");
    let launcher = Program { launcher: Launcher::at("/no/such/launcher"), ..shell(":") };
    assert!(matches!(run(&launcher).unwrap_err(), ProgramError::NotStarted { .. }));
}

#[test]
fn what_it_says_is_bounded_and_harmless() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; printf '\\033[2Jlast' >&2; exit 1";
    let ProgramError::Ended { said, .. } = run(&shell(script)).unwrap_err() else { panic!("it has ended") };
    assert!(said.len() <= SAID_BYTES_MAX + 3, "{}", said.len());
    assert!(said.starts_with('…') && said.ends_with("line 2999 | [2Jlast"), "{said}");
    assert!(!said.chars().any(char::is_control));
    // One that says more than a pipe holds does not hang, whether anybody wants to know or not.
    assert_eq!(text(&shell("head -c 3000000 /dev/zero >&2; echo done")), "done\n");
}

#[test]
fn secrets_are_not_in_what_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    std::fs::write(&file, "hunter2 of a file\n").unwrap();
    let keys = format!(
        "run = [\"sh\", \"-c\", \"env >&2; exit 1\"], secrets = {{ PW = \"file:{}\", OTHER = \"env:CARGO_PKG_NAME\" }}",
        file.display()
    );
    let program = program_of(&source(&keys), User::own().unwrap());
    assert!(!format!("{program:?}").contains("backstay-command\""), "{program:?}");
    let told = run(&program).unwrap_err().to_string();
    assert!(told.contains("PW=(secret)") && told.contains("OTHER=(secret)"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("backstay-command"), "{told}");
}

#[test]
fn one_that_takes_too_long_is_ended_with_all_that_it_has_started() {
    let mark = mark();
    let script = format!("sh -c 'sleep 100; : {mark}' & sleep 100; : {mark}");
    let start = Instant::now();
    let error = run(&lasting(&script, Duration::from_millis(300))).unwrap_err();
    assert!(matches!(error, ProgramError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("timeout"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_gone(&mark);
}

#[test]
fn one_that_does_not_heed_the_first_signal_is_killed() {
    let mark = mark();
    let script = format!("trap '' TERM; echo begun; while :; do sleep 0.05; done; : {mark}");
    let start = Instant::now();
    let error = run(&lasting(&script, Duration::from_millis(300))).unwrap_err();
    assert!(matches!(error, ProgramError::TimedOut { .. }), "{error}");
    assert!((9..25).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_gone(&mark);
}

#[test]
fn one_that_is_stopped_ends_soon() {
    let mark = mark();
    let stop = AtomicBool::new(false);
    let program = shell(&format!("echo begun; sleep 100; : {mark}"));
    let start = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
        });
        program.run(&|| stop.load(Ordering::Relaxed), all).unwrap_err()
    });
    assert!(matches!(error, ProgramError::Stopped), "{error}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_gone(&mark);
}

#[test]
fn one_whose_output_nobody_wants_any_more_ends_soon() {
    let mark = mark();
    let program = shell(&format!("while :; do echo more; sleep 0.01; done; : {mark}"));
    let error = program.run::<(), ProgramError>(&|| false, |output| {
        output.read(&mut [0; 10])?;
        let cause = std::io::Error::other("the vault has failed");
        Err(ProgramError::Output { program: "sh".into(), cause })
    });
    assert!(error.unwrap_err().to_string().contains("the vault has failed"));
    assert_gone(&mark);
    // Also when it only stops reading: what was read is a part.
    let early = shell("yes").run::<_, ProgramError>(&|| false, |output| output.read(&mut [0; 10]));
    assert!(matches!(early.unwrap_err(), ProgramError::Stopped));
}

#[test]
fn output_that_is_kept_open_by_somebody_else_does_not_count() {
    let mark = mark();
    // It leaves the group, so that it is there still when the program has ended.
    let script = format!("setsid sh -c 'sleep 60; : {mark}' & echo done");
    let start = Instant::now();
    let error = run(&shell(&script)).unwrap_err();
    assert!(matches!(error, ProgramError::KeptOpen { .. }), "{error}");
    let took = start.elapsed();
    assert!(took >= KEPT_OPEN_TIME && took < KEPT_OPEN_TIME * 2, "{took:?}");
    // What is in no group that is known cannot be ended; here the test does it.
    end_by_mark(&mark);
    // One that writes on for ever is not read for ever.
    let mark = self::mark();
    let script = format!("setsid sh -c 'yes {mark}' & sleep 0.2");
    let error = run(&shell(&script)).unwrap_err();
    assert!(matches!(error, ProgramError::KeptOpen { .. }), "{error}");
}

fn end_by_mark(mark: &str) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let number = process.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(number)) = (String::from_utf8_lossy(&line).contains(mark), number) {
            let pid = rustix::process::Pid::from_raw(number).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn what_is_left_in_its_group_is_ended_when_it_has_ended_well() {
    let mark = mark();
    let script = format!("sh -c 'sleep 100; : {mark}' > /dev/null 2>&1 & echo done");
    assert_eq!(text(&shell(&script)), "done\n");
    assert_gone(&mark);
}

#[test]
fn it_runs_as_the_user_that_is_named_and_with_that_ones_groups() {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can become somebody else");
        return;
    }
    let user = User::named(&"daemon".parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("pw");
    std::fs::write(&secret, "of root").unwrap();
    let modes = [(folder.path(), 0o755), (&secret, 0o600)];
    for (path, mode) in modes {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let script = "id -un; id -gn; id -G; echo $HOME $USER; grep Cap.*: /proc/self/status; cat /etc/shadow";
    let mut asked = source("run = [\"sh\", \"-c\", \"x\"]");
    asked.run[2] = format!("{script} 2>/dev/null; :");
    let printed = text(&program_of(&asked, user.clone()));
    let lines: Vec<&str> = printed.lines().collect();
    let by_system = |arguments: &[&str]| {
        let output = std::process::Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(lines[..3], ["daemon", "daemon", &by_system(&["-G", "daemon"])]);
    assert_eq!(lines[3], format!("{} daemon", user.home));
    let capabilities: Vec<_> = lines.iter().filter(|line| line.starts_with("CapEff")).collect();
    assert_eq!(capabilities, ["CapEff:\t0000000000000000"].iter().collect::<Vec<_>>());
    assert!(!printed.contains("root:"), "{printed}");

    // A secret is read by that user, who cannot read what is root's.
    let keys = format!("run = [\"env\"], secrets = {{ PW = \"file:{}\" }}", secret.display());
    let told = run(&program_of(&source(&keys), user)).unwrap_err().to_string();
    assert!(told.contains("the secret PW cannot be read") && told.contains("Permission denied"), "{told}");
    assert!(!told.contains("of root"), "{told}");
}

#[test]
fn it_keeps_no_group_of_whoever_started_it() {
    const NAME: &str = "it_keeps_no_group_of_whoever_started_it";
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can become somebody else");
        return;
    }
    // This test, once more, by somebody with more groups.
    if std::env::var_os("BACKSTAY_TEST_HAS_GROUPS").is_none() {
        let mut again = std::process::Command::new("setpriv");
        again.args(["--groups", "4,24"]).arg(std::env::current_exe().unwrap()).args(["--exact", NAME]);
        let outcome = again.env("BACKSTAY_TEST_HAS_GROUPS", "1").output().unwrap();
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stdout));
        return;
    }
    assert_eq!(rustix::process::getgroups().unwrap().len(), 2);
    let user = User::named(&"daemon".parse().unwrap()).unwrap();
    let groups = text(&program_of(&source("run = [\"id\", \"-G\"]"), user));
    assert!(!groups.split_whitespace().any(|group| ["4", "24", "0"].contains(&group)), "{groups}");
}

#[test]
fn nothing_that_the_configuration_has_chosen_is_loaded_before_the_rights_are_given_up() {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root has rights to give up");
        return;
    }
    // The loader says on standard error when it cannot preload; it does so in the program, and not in the launcher.
    let asked = source("run = [\"sh\", \"-c\", \"exit 1\"], env = { LD_PRELOAD = \"/no/such/library.so\" }");
    let user = User::named(&"daemon".parse().unwrap()).unwrap();
    let told = run(&program_of(&asked, user)).unwrap_err().to_string();
    assert_eq!(told.matches("/no/such/library.so").count(), 1, "{told}");
}

#[test]
fn it_does_not_outlive_whoever_started_it() {
    // A process that starts a program and is killed: this test, once more.
    if std::env::var_os("BACKSTAY_TEST_STARTS").is_some() {
        let mark = std::env::var("BACKSTAY_TEST_STARTS").unwrap();
        let _ = run(&shell(&format!("while :; do sleep 0.05; done; : {mark}")));
        return;
    }
    let mark = mark();
    let mut starter = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "it_does_not_outlive_whoever_started_it"])
        .env("BACKSTAY_TEST_STARTS", &mark)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !is_running(&mark) {
        assert!(start.elapsed() < Duration::from_secs(20), "it was not started");
        std::thread::sleep(Duration::from_millis(10));
    }
    starter.kill().unwrap();
    starter.wait().unwrap();
    assert_gone(&mark);
}

#[test]
fn the_launcher_does_nothing_unless_it_is_told() {
    assert!(Path::new(LAUNCHER).is_file());
    let outcome = std::process::Command::new(LAUNCHER)
        .arg(backstay_command::launch::LAUNCH_WORD)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(outcome.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("it was not told what to launch"));
}
