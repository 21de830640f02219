//! The daemon as its operator meets it: it keeps the objective, answers, and ends when it is told to.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::crash;
use crate::exposition;
use crate::judge::assert_same;
use crate::outcome::Running;
use crate::sandbox::{Capture, Sandbox, free_port, text};
use crate::tree;

/// What a daemon has to do is done by then, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Promised: a daemon has ended so long after SIGTERM.
pub(crate) const END_TIME: Duration = Duration::from_secs(10);

/// Every metric that this version has: name, type, labels besides those of a flow, and whether it is a flow's.
const METRICS: [(&str, &str, &[&str], bool); 23] = [
    ("backstay_build_info", "gauge", &["version"], false),
    ("backstay_captured_bytes_total", "counter", &[], true),
    ("backstay_captures_running", "gauge", &[], false),
    ("backstay_dedup_saved_bytes_total", "counter", &[], true),
    ("backstay_flow_errors_total", "counter", &["class"], true),
    ("backstay_flow_state", "gauge", &["state"], true),
    ("backstay_last_point_timestamp_seconds", "gauge", &[], true),
    ("backstay_last_proof_success", "gauge", &[], true),
    ("backstay_last_proof_timestamp_seconds", "gauge", &["level"], true),
    ("backstay_prune_errors_total", "counter", &["vault"], false),
    ("backstay_queue_depth", "gauge", &["queue"], false),
    ("backstay_resident_memory_bytes", "gauge", &[], false),
    ("backstay_restorable_timestamp_seconds", "gauge", &[], true),
    ("backstay_restore_seconds", "gauge", &[], true),
    ("backstay_rpo_exposure_seconds", "gauge", &[], true),
    ("backstay_rpo_objective_seconds", "gauge", &[], true),
    ("backstay_sent_bytes_total", "counter", &[], true),
    ("backstay_store_request_seconds", "histogram", &["op", "vault"], false),
    ("backstay_store_requests_total", "counter", &["op", "outcome", "vault"], false),
    ("backstay_vault_bytes", "gauge", &["class", "vault"], false),
    ("backstay_vault_chunks", "gauge", &["vault"], false),
    ("backstay_vault_pruned_timestamp_seconds", "gauge", &["vault"], false),
    ("backstay_vault_read_from_older", "gauge", &["vault"], false),
];

const FLOW_LABELS: [(&str, &str); 4] =
    [("service", "data"), ("source", "data.files"), ("kind", "files"), ("target", "local")];

/// A daemon and the port of its metrics.
pub(crate) struct Daemon {
    pub(crate) running: Running,
    pub(crate) port: u16,
}

impl Daemon {
    pub(crate) fn start(sandbox: &mut Sandbox) -> Self {
        let port = free_port();
        let others: Vec<&str> =
            sandbox.node_lines.lines().filter(|line| !line.starts_with("metrics =")).collect();
        sandbox.node_lines = format!("{}\nmetrics = \"127.0.0.1:{port}\"", others.join("\n"));
        let mut running = sandbox.start(["run"]);
        wait_for("the daemon's answer", || {
            assert!(running.is_running(), "the daemon has ended: {}", running.stderr_so_far());
            get(port, "/healthz").is_some()
        });
        Self { running, port }
    }

    /// Value of a series without labels, or with these as they are written.
    pub(crate) fn figure(&self, series: &str) -> Option<f64> {
        let page = get(self.port, "/metrics").expect("the daemon answers");
        let line =
            page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line.rsplit(' ').next()?.parse().expect("a number"))
    }

    /// How it says that a flow is.
    #[track_caller]
    pub(crate) fn flow(&self, source: &str, target: &str) -> Value {
        let status: Value = serde_json::from_str(&get(self.port, "/status.json").unwrap()).unwrap();
        let mut flows = status["flows"].as_array().unwrap().iter();
        let flow = flows.find(|flow| flow["source"] == source && flow["target"] == target);
        flow.unwrap_or_else(|| panic!("{source} to {target} is not in {status:#}")).clone()
    }

    /// Value of a series of the flow; `None` while it has none.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let page = get(self.port, "/metrics").expect("the daemon answers");
        let line = series(&page, name).into_iter().next()?;
        let value: f64 = line.rsplit(' ').next()?.parse().expect("a number");
        (!value.is_nan()).then_some(value)
    }
}

#[test]
fn the_daemon_keeps_a_changing_tree_within_its_objective() {
    let mut sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 100, 20_000, &mut Random::new(10));
    // What this machine can keep: many times what the first capture takes, of which those after are a part.
    let start = Instant::now();
    sandbox.capture();
    let rpo = Duration::from_secs((start.elapsed() * 10).as_secs().max(6));
    sandbox.rpo = format!("{}s", rpo.as_secs()).leak();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || daemon.value("backstay_rpo_exposure_seconds").is_some());
    let mut samples = Vec::new();
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < rpo * 4 {
        fs::write(sandbox.source.join(format!("changing {}", n % 5)), format!("for the {n}th time")).unwrap();
        n += 1;
        samples.push(daemon.value("backstay_rpo_exposure_seconds").expect("it stays known"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(samples.len() > 20, "{samples:?}");
    assert!(samples.iter().all(|exposure| *exposure < rpo.as_secs_f64()), "{rpo:?}: {samples:?}");
    assert!(samples.iter().any(|exposure| *exposure > 0.1), "always 0 is not measured: {samples:?}");
    assert!(sandbox.points().len() >= 4, "{:?}", sandbox.points());

    daemon.running.terminate().good();
}

#[test]
fn an_empty_mount_point_is_not_taken_for_the_vault() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the point of before", || daemon.value("backstay_last_point_timestamp_seconds").is_some());
    let away = sandbox.path("away");
    // The daemon has read from the vault; then it has written to it, too.
    for contents in ["later", "still later"] {
        fs::rename(&sandbox.vault, &away).unwrap();
        fs::create_dir(&sandbox.vault).unwrap();
        fs::write(sandbox.source.join("file"), contents).unwrap();
        sandbox.run(["now"]).refused(1, &["the disk is probably not mounted; mount it"]);
        assert_eq!(fs::read_dir(&sandbox.vault).unwrap().count(), 0, "nothing is written in its place");
        fs::remove_dir(&sandbox.vault).unwrap();
        fs::rename(&away, &sandbox.vault).unwrap();
        sandbox.run(["now"]).good();
    }
    daemon.running.terminate().good();
    sandbox.check_vault();
}

#[test]
fn a_commit_that_died_is_fenced_when_its_vault_is_back() {
    let mut sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 400, 400_000, &mut Random::new(11));
    // The first of several packs is there: the commit is open.
    crash::kill_when(sandbox.command(["now"]), || sandbox.vault.join("packs").is_dir());
    let fences = |sandbox: &Sandbox| fs::read_dir(sandbox.vault.join("fences")).map_or(0, Iterator::count);
    assert_eq!(fences(&sandbox), 0, "nobody has been there yet");

    let away = sandbox.path("away");
    fs::rename(&sandbox.vault, &away).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    fs::rename(&away, &sandbox.vault).unwrap();
    sandbox.run(["now"]).good();
    assert_eq!(fences(&sandbox), 1);
    daemon.running.terminate().good();
    sandbox.check_vault();
}

#[test]
fn the_metrics_are_well_formed_and_of_the_right_types() {
    let mut sandbox = Sandbox::new();
    let contents = Random::new(18).bytes(100_000);
    fs::write(sandbox.source.join("file"), &contents).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || daemon.value("backstay_last_point_timestamp_seconds").is_some());
    // The same contents once more: read, and not sent.
    fs::write(sandbox.source.join("the same again"), &contents).unwrap();
    sandbox.capture();
    // A failure has the class of its error.
    let away = sandbox.path("away");
    fs::rename(&sandbox.source, &away).unwrap();
    sandbox.run(["now"]).refused(1, &["cannot be read"]);
    fs::rename(&away, &sandbox.source).unwrap();

    let is_idle = || get(daemon.port, "/metrics").unwrap().contains("\nbackstay_captures_running 0\n");
    wait_for("the end of all captures", is_idle);
    let pruned = "backstay_vault_pruned_timestamp_seconds{vault=\"local\"}";
    wait_for("the prune after them", || daemon.figure(pruned).is_some());
    let are_there =
        |page: &str| ["restore", "data"].iter().all(|level| page.contains(&format!("level=\"{level}\"")));
    wait_for("both proofs", || get(daemon.port, "/metrics").is_some_and(|page| are_there(&page)));
    let page = get(daemon.port, "/metrics").unwrap();
    let families = exposition::read(&page);
    let names: Vec<&str> = families.keys().map(String::as_str).collect();
    assert_eq!(names, METRICS.map(|(name, ..)| name), "{page}");
    for (name, kind, labels, is_of_flow) in METRICS {
        let family = &families[name];
        assert_eq!(family.kind, kind, "{name}");
        assert!(!family.series.is_empty(), "{name} has no series");
        // Of what the node keeps of the configuration there is the state, and no exposure that would stand beside that of data.
        let of_fleet = |series: &&exposition::Series| series.label("service") == Some("_fleet");
        assert_eq!(
            family.series.iter().any(|series| of_fleet(&series)),
            name == "backstay_flow_state",
            "{name}"
        );
        for series in family.series.iter().filter(|series| !of_fleet(series)) {
            for (label, value) in FLOW_LABELS.iter().filter(|_| is_of_flow) {
                assert_eq!(series.label(label), Some(*value), "{name}: {series:?}");
            }
            let more = series.labels.iter().map(|(label, _)| label.as_str()).filter(|label| {
                !["part", "le"].contains(label) && !FLOW_LABELS.iter().any(|(of_flow, _)| of_flow == label)
            });
            let mut more: Vec<&str> = more.collect();
            more.sort_unstable();
            assert_eq!(more, labels, "{name}");
            assert!(kind == "gauge" || series.value >= 0.0, "{name}: {series:?}");
        }
    }
    let value = |name: &str, label: &str, wanted: &str| {
        let mut series = families[name].series.iter();
        series.find(|series| series.label(label) == Some(wanted)).map(|series| series.value)
    };
    assert_eq!(value("backstay_rpo_objective_seconds", "target", "local"), Some(900.0));
    assert_eq!(value("backstay_flow_errors_total", "class", "source"), Some(1.0), "{page}");
    assert_eq!(value("backstay_flow_errors_total", "class", "no_space"), Some(0.0), "{page}");
    assert_eq!(value("backstay_flow_state", "state", "ok"), Some(1.0), "{page}");
    let saved = value("backstay_dedup_saved_bytes_total", "target", "local").unwrap();
    assert!(saved >= 100_000.0, "{saved}");
    assert_eq!(value("backstay_queue_depth", "queue", "requests"), Some(0.0));
    let resident = families["backstay_resident_memory_bytes"].series[0].value;
    let told = fs::read_to_string(format!("/proc/{}/status", daemon.running.id())).unwrap();
    let peak = told.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of its memory");
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident > 1e6 && resident <= peak * 1024.0, "{resident} of {peak} kB");
    let said = daemon.running.terminate().good().stderr;
    assert!(said.contains("cannot be read"), "a failure is in the log: {said}");
}

#[test]
fn what_is_left_out_on_purpose_is_in_the_status_and_in_the_log_once() {
    let mut sandbox = Sandbox::new();
    sandbox.vault = sandbox.source.join("vault");
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    for n in 0..3 {
        fs::write(sandbox.source.join("file"), format!("contents {n}")).unwrap();
        let now = sandbox.run(["now"]).good();
        assert!(now.stderr.contains("left out"), "{now:?}");
    }
    let status = sandbox.run(["status", "--json"]).good().json();
    let flow = &status["flows"][0];
    assert!(text(&flow["remarks"][0]).contains("vault: left out"), "{status:#}");
    assert_eq!((&flow["problem"], text(&status["severity"])), (&Value::Null, "ok".to_owned()));
    let said = daemon.running.terminate().good().stderr;
    assert_eq!(said.matches("left out").count(), 1, "{said}");
}

#[test]
fn run_once_leaves_a_target_alone_that_is_not_due() {
    let mut sandbox = Sandbox::new();
    let other = sandbox.path("other");
    sandbox.more = format!("[vault.other]\nkind = \"dir\"\npath = \"{}\"\n", other.display());
    sandbox.targets = r#"["local", "other"]"#;
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.run(["run", "--once"]).good();
    fs::write(sandbox.source.join("file"), "second").unwrap();
    sandbox.source_lines = r#", rpo = { local = "1s", other = "1d" }"#;
    std::thread::sleep(Duration::from_millis(1100));
    sandbox.run(["run", "--once"]).good();
    let points = |vault| sandbox.run(["points", "--from", vault, "--json"]).good().json();
    let number = |vault| points(vault).as_array().unwrap().len();
    assert_eq!([number("local"), number("other")], [2, 1]);
}

#[test]
fn now_goes_through_the_daemon() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || daemon.value("backstay_last_point_timestamp_seconds").is_some());
    // Who holds the lock is the daemon, so that no other process captures.
    assert_eq!(
        fs::read_to_string(sandbox.state.join("lock")).unwrap().trim(),
        daemon.running.id().to_string()
    );
    fs::write(sandbox.source.join("file"), "second").unwrap();
    let captured = sandbox.capture();
    assert!(captured.is_new);
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--point", &captured.point]));
    let twice = [sandbox.start(["now", "--json"]), sandbox.start(["now", "--json", "data.files"])];
    for now in twice {
        assert_eq!(Capture::of(&now.wait().good()).point, captured.point);
    }
    sandbox.run(["now", "nosuch"]).refused(2, &["no source \"nosuch\""]);
    daemon.running.terminate().good();
}

#[test]
fn status_says_how_it_is_to_people_and_to_programs() {
    let mut sandbox = Sandbox::new();
    let check = |sandbox: &Sandbox| sandbox.run(["status", "--check"]).code;
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    assert_eq!(check(&sandbox), Some(3), "nothing is known before the first point");
    let unknown = sandbox.run(["status", "--json"]).good().json();
    assert_eq!(unknown["flows"][0]["exposure_seconds"], Value::Null, "unknown is not zero: {unknown:#}");

    sandbox.capture();
    let start = Instant::now();
    assert_eq!(check(&sandbox), Some(0));
    let status = sandbox.run(["status", "--json"]).good().json();
    let flow = &status["flows"][0];
    assert_eq!((text(&status["severity"]), &status["daemon"]), ("ok".to_owned(), &Value::Bool(false)));
    assert_eq!(
        [text(&flow["source"]), text(&flow["target"]), text(&flow["state"])],
        ["data.files", "local", "ok"]
    );
    assert_eq!(flow["objective_seconds"], 900.0);
    assert!(flow["exposure_seconds"].as_f64().unwrap() < 60.0, "{status:#}");
    let shown = sandbox.run(["status"]).good().text();
    assert!(
        ["data.files", "local", "15m", "no daemon runs"].iter().all(|part| shown.contains(part)),
        "{shown}"
    );

    // Past the objective, and past twice of it.
    std::thread::sleep(Duration::from_secs(6).saturating_sub(start.elapsed()));
    sandbox.rpo = "5s";
    assert_eq!(check(&sandbox), Some(1));
    sandbox.rpo = "1s";
    assert_eq!(check(&sandbox), Some(2));
    assert_eq!(sandbox.run(["status"]).code, Some(0), "without --check it is only told");
    let rpo = std::mem::replace(&mut sandbox.rpo, "soon");
    assert_eq!(check(&sandbox), Some(3), "with a configuration that says nothing nobody can tell");
    sandbox.rpo = rpo;

    // The daemon's own view.
    sandbox.rpo = "15m";
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the vault's answer", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let of_daemon = sandbox.run(["status", "--json"]).good().json();
    assert_eq!(of_daemon["daemon"], true, "{of_daemon:#}");
    let served: Value = serde_json::from_str(&get(daemon.port, "/status.json").unwrap()).unwrap();
    assert_eq!(served["flows"][0]["last_point"], of_daemon["flows"][0]["last_point"]);
    assert!(get(daemon.port, "/").unwrap().contains("data.files"));
    assert_eq!(get(daemon.port, "/etc/passwd"), None);
    daemon.running.terminate().good();
}

#[test]
fn sigterm_ends_the_daemon_within_ten_seconds_and_a_restart_goes_on() {
    let mut sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 4000, 40_000, &mut Random::new(11));
    fs::write(sandbox.source.join("large"), Random::new(12).bytes(250 << 20)).unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the capture", || {
        let status: Value = serde_json::from_str(&get(daemon.port, "/status.json").unwrap()).unwrap();
        status["flows"][0]["capturing"] == true
    });
    let start = Instant::now();
    daemon.running.terminate().good();
    let took = start.elapsed();
    assert!(took < END_TIME, "it took {took:?}");
    assert!(sandbox.points().is_empty(), "the capture was over before the signal");
    assert!(!sandbox.run(["status", "--json"]).good().json()["daemon"].as_bool().unwrap());

    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || daemon.value("backstay_last_point_timestamp_seconds").is_some());
    let start = Instant::now();
    daemon.running.terminate().good();
    assert!(start.elapsed() < END_TIME, "it took {:?}", start.elapsed());
    assert_same(&sandbox.source, &sandbox.restore("restored"));
    sandbox.check_vault();
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_the_next_without_repair() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the first point", || daemon.value("backstay_last_point_timestamp_seconds").is_some());
    daemon.running.kill();
    // Its socket is still there, and nobody answers on it.
    assert!(sandbox.state.join("control.sock").exists());
    tree::append(&sandbox.source.join("file"), b" and more");
    assert!(sandbox.capture().is_new);
    let daemon = Daemon::start(&mut sandbox);
    tree::append(&sandbox.source.join("file"), b" and more");
    assert!(sandbox.capture().is_new);
    let said = daemon.running.terminate().good().stderr;
    assert!(said.contains("no recovery key exists"), "{said}");
    assert_eq!(sandbox.points().len(), 3);
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn run_once_does_what_is_due_and_nothing_else() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    // The first capture is due at once.
    sandbox.run(["run", "--once"]).good();
    assert_eq!(sandbox.points().len(), 1);
    fs::write(sandbox.source.join("file"), "second").unwrap();
    sandbox.run(["run", "--once"]).good();
    assert_eq!(sandbox.points().len(), 1, "nothing was due");
    sandbox.rpo = "1s";
    std::thread::sleep(Duration::from_millis(1100));
    sandbox.run(["run", "--once", "data"]).good();
    assert_eq!(sandbox.points().len(), 2);
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn run_once_goes_through_the_daemon() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.capture();
    let daemon = Daemon::start(&mut sandbox);
    fs::write(sandbox.source.join("file"), "second").unwrap();
    let nothing = sandbox.run(["run", "--once", "--json"]).good();
    assert_eq!(nothing.json(), Value::Array(Vec::new()), "nothing was due");
    assert_eq!(sandbox.points().len(), 1);
    sandbox.run(["run", "--once", "nosuch"]).refused(2, &["no source \"nosuch\""]);
    daemon.running.terminate().good();

    // A daemon for which something is due, which it does itself as well: `run --once` ends when it is done.
    sandbox.rpo = "1s";
    std::thread::sleep(Duration::from_millis(1100));
    let daemon = Daemon::start(&mut sandbox);
    sandbox.run(["run", "--once"]).good();
    assert!(sandbox.points().len() >= 2, "{:?}", sandbox.points());
    daemon.running.terminate().good();
}

#[test]
fn what_is_at_home_on_another_node_is_not_captured_here() {
    let mut sandbox = Sandbox::new();
    let source = sandbox.source.display();
    sandbox.more = format!(
        "primary = \"alpha\"\n[service.far]\nprimary = \"beta\"\nfiles = {{ path = \"{source}\" }}\n\
         [fleet.nodes]\nalpha = \"127.0.0.1:7420\"\nbeta = \"127.0.0.1:7421\"\n"
    );
    let refused = |sandbox: &Sandbox| {
        for command in [&["now", "far"][..], &["run", "--once", "far"]] {
            let fragments = ["far.files is not at home on this node (alpha) but on beta"];
            sandbox.run(command).refused(2, &fragments);
        }
    };
    refused(&sandbox);
    let daemon = Daemon::start(&mut sandbox);
    refused(&sandbox);
    daemon.running.terminate().good();
}

#[test]
fn nobody_else_may_look_into_the_state_or_talk_to_the_daemon() {
    let mut sandbox = Sandbox::new();
    let daemon = Daemon::start(&mut sandbox);
    let socket = fs::metadata(sandbox.state.join("control.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o7777, 0o600);
    for folder in ["", "identity"] {
        let mode = fs::metadata(sandbox.state.join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{folder:?}");
    }
    for file in fs::read_dir(sandbox.state.join("identity")).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{file:?}");
    }
    daemon.running.terminate().good();
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of a page; `None` when nobody listens or the answer is not 200.
pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// Lines of the series with this name.
fn series<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))).collect()
}
