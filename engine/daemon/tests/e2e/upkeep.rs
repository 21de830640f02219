//! Upkeep of vaults while the daemon runs: it does what the commands ask for, and goes on with what it is there for.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use backstay_testkit::random::Random;
use backstay_vault::keys::{AgeIdentity, unwrap_bundle};

use crate::daemon::{Daemon, wait_for};
use crate::damage::packs;
use crate::hanging;
use crate::judge::assert_same;
use crate::outcome::Running;
use crate::sandbox::Sandbox;

/// A node with further vaults of these names, in directories of the same names.
fn with_vaults(names: &[&str], targets: &'static str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    for name in names {
        let path = sandbox.path(name);
        sandbox.more += &format!("[vault.{name}]\nkind = \"dir\"\npath = \"{}\"\n", path.display());
    }
    sandbox.targets = targets;
    sandbox
}

fn change(sandbox: &Sandbox, n: u32) {
    fs::write(sandbox.source.join("file"), format!("contents {n}\n").repeat(1000)).unwrap();
    fs::write(sandbox.source.join(format!("file {n}")), "more").unwrap();
}

fn start(sandbox: &mut Sandbox) -> Daemon {
    let daemon = Daemon::start(sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    daemon
}

/// A node with a recovery key and a point.
fn with_recovery(mut sandbox: Sandbox) -> (Sandbox, String) {
    let key = sandbox.path("recovery.key").to_str().unwrap().to_owned();
    sandbox.run(["vault", "init", "local", "--recovery", &key]).good();
    change(&sandbox, 0);
    sandbox.source_lines = ", keep = { last = 2 }";
    sandbox.capture();
    (sandbox, key)
}

#[test]
fn points_are_brought_back_and_let_go_again() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 1 }";
    for n in 0..3 {
        change(&sandbox, n);
        sandbox.capture();
    }
    let points = sandbox.points();
    let daemon = start(&mut sandbox);
    sandbox.run(["vault", "undelete", "local"]).refused(1, &["no point of that kind is in the trash"]);
    sandbox.run(["vault", "undelete", "locl"]).refused(2, &["no vault \"locl\"", "local"]);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points(), points[2..]);
    let one = sandbox.run(["vault", "undelete", "local", &points[1][..8], "--json"]).good().json();
    assert_eq!((&one[0]["point"], &one[0]["failure"]), (&points[1].clone().into(), &serde_json::Value::Null));
    let rest = sandbox.run(["vault", "undelete", "local", "--source", "data"]).good().text();
    assert_eq!(rest.matches("brought back").count(), 1, "{rest}");
    assert_eq!(sandbox.points(), points);
    // The daemon goes on with what is there now.
    change(&sandbox, 3);
    assert!(sandbox.capture().is_new);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points()[..2], points[..2], "they are held");
    let released = sandbox.run(["vault", "release", "local", &points[0], "--json"]).good().json();
    assert_eq!(released, serde_json::json!([points[0]]));
    sandbox.run(["vault", "release", "local", &points[0]]).refused(1, &["no such point is held"]);
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points()[0], points[1]);
    daemon.running.terminate().good();
    sandbox.check_vault();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn a_damaged_vault_is_mended_from_another_one() {
    let mut sandbox = with_vaults(&["usb"], r#"["local", "usb"]"#);
    let mut random = Random::new(21);
    for n in 0..20 {
        fs::write(sandbox.source.join(format!("random {n}")), random.bytes(40_000)).unwrap();
    }
    sandbox.capture();
    let daemon = start(&mut sandbox);
    for pack in packs(&sandbox.vault) {
        fs::remove_file(pack).unwrap();
    }
    sandbox.run(["vault", "repair", "local", "--from", "local"]).refused(2, &["another vault"]);
    let shown = sandbox.run(["vault", "repair", "local", "--from", "usb", "--json"]).good().json();
    assert!(shown["chunks_fetched"].as_u64().unwrap() > 1, "{shown:#}");
    assert_eq!(shown["vault"], "local");
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    change(&sandbox, 1);
    assert!(sandbox.capture().is_new);
    daemon.running.terminate().good();
    sandbox.check_vault();
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--from", "local"]));
}

#[test]
fn what_is_lost_is_told_with_the_same_exit_code() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("large"), Random::new(22).bytes(600_000)).unwrap();
    sandbox.capture();
    let daemon = start(&mut sandbox);
    fs::remove_file(packs(&sandbox.vault).pop().unwrap()).unwrap();
    let repaired = sandbox.run(["vault", "repair", "local"]);
    repaired.refused(3, &["things are lost in vault local", "--from"]);
    // The daemon stores again what the source still has.
    sandbox.capture();
    daemon.running.terminate().good();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn points_are_copied_while_captures_to_the_same_vault_and_prunes_elsewhere_go_on() {
    let mut sandbox = with_vaults(&["usb", "third"], r#"["local", "usb", "third"]"#);
    change(&sandbox, 0);
    sandbox.run(["now"]).good();
    sandbox.targets = r#"["local"]"#;
    for n in 1..4 {
        change(&sandbox, n);
        sandbox.capture();
    }
    sandbox.targets = r#"["usb", "third"]"#;
    let daemon = Daemon::start(&mut sandbox);
    wait_for("usb", || !daemon.flow("data.files", "usb")["last_point"].is_null());
    sandbox.run(["vault", "copy", "local", "ubs"]).refused(2, &["no vault \"ubs\"", "usb"]);
    // The copy hangs where nobody captures to.
    let hanging = hanging::hang_index(&sandbox.vault);
    let mut copy = sandbox.start(["vault", "copy", "local", "usb", "--source", "data", "--json"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(copy.is_running(), "{}", copy.stderr_so_far());
    change(&sandbox, 4);
    sandbox.run(["now"]).good();
    sandbox.run(["vault", "prune", "third"]).good();
    assert!(copy.is_running());
    hanging::let_go(&hanging);
    let copied = copy.wait().good().json();
    assert_eq!(copied["points"], 3, "{copied:#}");
    daemon.running.terminate().good();
    sandbox.run(["vault", "check", "usb", "--read-data", "1/1"]).good();
    // The newest is what was captured last, and not what was copied last.
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--from", "usb"]));
}

#[test]
fn captures_go_on_to_a_vault_whose_repair_waits_for_a_copy() {
    let mut sandbox = with_vaults(&["usb"], r#"["local", "usb"]"#);
    change(&sandbox, 0);
    sandbox.run(["now"]).good();
    sandbox.targets = r#"["usb"]"#;
    let daemon = Daemon::start(&mut sandbox);
    wait_for("usb", || !daemon.flow("data.files", "usb")["last_point"].is_null());
    // The copy hangs where nobody captures to.
    let hanging = hanging::hang_index(&sandbox.vault);
    let running = |command: &Running| command.stderr_so_far();
    let mut copy = sandbox.start(["vault", "copy", "local", "usb"]);
    std::thread::sleep(Duration::from_secs(1));
    let mut repair = sandbox.start(["vault", "repair", "usb"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(copy.is_running() && repair.is_running(), "{}{}", running(&copy), running(&repair));
    change(&sandbox, 1);
    sandbox.run(["now"]).good();
    assert!(repair.is_running(), "{}", running(&repair));
    hanging::let_go(&hanging);
    copy.wait().good();
    repair.wait().good();
    change(&sandbox, 2);
    sandbox.run(["now"]).good();
    daemon.running.terminate().good();
    sandbox.run(["vault", "check", "usb", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--from", "usb"]));
}

#[test]
fn a_machine_that_was_built_anew_takes_over_with_its_daemon_up() {
    let (mut sandbox, key) = with_recovery(Sandbox::new());
    sandbox.state = sandbox.path("state of the new machine");
    let mut command = sandbox.command(["run"]);
    command.env("BACKSTAY_LOG", "trace");
    let daemon = Running::start(command);
    wait_for("the daemon", || sandbox.state.join("control.sock").exists());
    sandbox.run(["now"]).refused(1, &["no key in", "vault custodian take"]);
    sandbox.run(["vault", "custodian", "take", "local"]).refused(1, &["with the recovery key"]);
    let take = ["vault", "custodian", "take", "local", "--json", "--key-file"];
    sandbox.run(take.into_iter().chain(["/nowhere"])).refused(2, &["there is no key file"]);
    assert_eq!(sandbox.run(take.into_iter().chain([key.as_str()])).good().json()["term"], 2);
    change(&sandbox, 1);
    assert!(sandbox.capture().is_new);
    change(&sandbox, 2);
    sandbox.capture();
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points().len(), 2, "it thins now");
    let log = daemon.terminate().good().stderr;
    assert!(log.contains("custodian take"), "the log tells what was done");
    assert!(!log.contains("AGE-SECRET-KEY"), "a key is in the log");
    sandbox.check_vault();
}

#[test]
fn a_capture_under_way_outlives_a_change_of_trust() {
    let mut sandbox = Sandbox::new();
    let other = sandbox.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "of the other").unwrap();
    sandbox.more = format!("[service.other]\nfiles = {{ path = \"{}\" }}\n", other.display());
    sandbox.run(["now"]).good();
    let daemon = start(&mut sandbox);
    let mut random = Random::new(23);
    for n in 0..8 {
        fs::write(sandbox.source.join(format!("large {n}")), random.bytes(25_000_000)).unwrap();
    }
    let sessions = || fs::read_dir(sandbox.vault.join("ledger/sessions")).map_or(0, Iterator::count);
    let before = sessions();
    let long = sandbox.start(["now", "data", "--json"]);
    wait_for("its session", || sessions() > before);
    sandbox.run(["vault", "custodian", "take", "local"]).good();
    sandbox.run(["now", "other"]).good();
    long.wait().good();
    sandbox.run(["vault", "prune", "local"]).good();
    daemon.running.terminate().good();
    sandbox.check_vault();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn holders_come_and_go_and_what_is_new_is_sealed_with_new_keys() {
    let (mut sandbox, key) = with_recovery(with_vaults(&["usb"], r#"["local"]"#));
    sandbox.run(["vault", "init", "usb", "--recovery", &key]).good();
    let daemon = start(&mut sandbox);
    let anna = AgeIdentity::generate();
    let add = |holder: &str| {
        sandbox.run(["vault", "keys", "add", "local", holder, "--recipient", &anna.recipient()])
    };
    add("anna").good();
    add("berta").good();
    add("anna").refused(1, &["has keys in vault local already"]);
    add("Anna!").refused(2, &["no name for a holder"]);
    sandbox.run(["vault", "keys", "remove", "local", "berta"]).good();
    let listed = sandbox.run(["vault", "keys", "list", "local", "--json"]).good().json();
    assert_eq!(listed, serde_json::json!(["alpha", "anna", "recovery"]));

    let named = format!("anna={}", anna.recipient());
    sandbox
        .run(["vault", "keys", "rotate", "--recipient", &named])
        .refused(2, &["give it with --recovery FILE"]);
    sandbox.run(["vault", "keys", "rotate", "--recovery", &key, "--recipient", &named]).good();
    let before = envelopes(&sandbox);
    change(&sandbox, 1);
    assert!(sandbox.capture().is_new);
    let new = envelopes(&sandbox).into_iter().find(|point| !before.contains(point)).unwrap();
    let wrapped = fs::read(sandbox.vault.join("keys/anna.age")).unwrap();
    let bundle = unwrap_bundle(&wrapped, &anna).unwrap();
    assert_eq!(bundle.meta.len(), 2);
    // Bytes 8 to 24 of an envelope name its key.
    assert_eq!(fs::read(new).unwrap()[8..24], *bundle.meta[1].key_id.as_bytes());
    sandbox.run(["vault", "prune", "local"]).good();

    let to = sandbox.path("keys.age");
    let export =
        ["vault", "keys", "export", "local", "--recipient", &anna.recipient(), "--to", to.to_str().unwrap()];
    sandbox.run(export).good();
    let exported = unwrap_bundle(&fs::read(&to).unwrap(), &anna).unwrap();
    assert!(exported.meta.len() == 2 && exported.admin_seed.is_none());
    daemon.running.terminate().good();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn a_daemon_stores_everything_again_at_its_next_capture_after_keys_were_compromised() {
    let mut sandbox = with_vaults(&["usb"], r#"["local", "usb"]"#);
    let daemon = start(&mut sandbox);
    change(&sandbox, 1);
    sandbox.capture();
    assert!(!sandbox.capture().is_new);
    let vaults = [sandbox.vault.clone(), sandbox.path("usb")];
    let before = vaults.each_ref().map(|vault| packs(vault));
    sandbox.run(["vault", "keys", "rotate", "--compromised"]).good();
    assert!(sandbox.capture().is_new, "although nothing has changed");
    assert!(!sandbox.capture().is_new);
    sandbox.run(["vault", "prune", "local"]).good();
    daemon.running.terminate().good();
    sandbox.check_vault();
    before.into_iter().flatten().filter(|pack| pack.exists()).for_each(|pack| fs::remove_file(pack).unwrap());
    assert_same(&sandbox.source, &sandbox.restore_with("local restored", &["--from", "local"]));
    assert_same(&sandbox.source, &sandbox.restore_with("usb restored", &["--from", "usb"]));
}

/// A node of which a daemon has captured twice, both times something new: and the object of the newest point.
fn captured_twice(sandbox: &mut Sandbox) -> (Daemon, [serde_json::Value; 2], PathBuf) {
    let daemon = start(sandbox);
    let captured = |n| {
        change(sandbox, n);
        sandbox.capture();
        daemon.flow("data.files", "local")
    };
    let first = captured(1);
    let before = envelopes(sandbox);
    // Times are told to the second.
    std::thread::sleep(Duration::from_millis(1100));
    let second = captured(2);
    assert_ne!(first["restorable"], second["restorable"]);
    let newest = envelopes(sandbox).into_iter().find(|point| !before.contains(point)).unwrap();
    (daemon, [first, second], newest)
}

#[test]
fn the_exposure_goes_back_to_the_point_before_when_a_repair_drops_the_newest_and_a_capture_is_due() {
    let mut sandbox = Sandbox::new();
    let (daemon, [first, _], newest) = captured_twice(&mut sandbox);
    // Nothing can be captured, so that it stays as it is after the repair.
    let away = sandbox.path("away");
    fs::rename(&sandbox.source, &away).unwrap();
    let mut object = fs::read(&newest).unwrap();
    let middle = object.len() / 2;
    object[middle] ^= 1;
    fs::write(&newest, object).unwrap();
    sandbox.run(["vault", "repair", "local"]).refused(3, &["things are lost in vault local"]);
    let after = daemon.flow("data.files", "local");
    assert_eq!(after["restorable"], first["restorable"], "{after:#}");
    assert_eq!(after["last_point"], first["last_point"], "{after:#}");
    // Long before it would be due by its objective.
    fs::rename(&away, &sandbox.source).unwrap();
    wait_for("a capture", || daemon.flow("data.files", "local")["last_point"] != first["last_point"]);
    daemon.running.terminate().good();
    sandbox.check_vault();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn a_capture_that_fails_still_tells_that_the_vault_has_less_than_was_known() {
    let mut sandbox = Sandbox::new();
    let (daemon, [first, second], newest) = captured_twice(&mut sandbox);
    fs::remove_file(newest).unwrap();
    let away = sandbox.path("away");
    fs::rename(&sandbox.source, &away).unwrap();
    assert_eq!(daemon.flow("data.files", "local")["restorable"], second["restorable"]);
    sandbox.run(["now"]).refused(1, &["nothing was captured"]);
    let after = daemon.flow("data.files", "local");
    assert_eq!(after["restorable"], first["restorable"], "{after:#}");
    fs::rename(&away, &sandbox.source).unwrap();
    sandbox.capture();
    let after = daemon.flow("data.files", "local");
    assert_ne!(after["restorable"], first["restorable"], "{after:#}");
    daemon.running.terminate().good();
}

fn envelopes(sandbox: &Sandbox) -> Vec<PathBuf> {
    let sources = fs::read_dir(sandbox.vault.join("points")).unwrap();
    sources
        .flat_map(|source| fs::read_dir(source.unwrap().path()).unwrap())
        .map(|point| point.unwrap().path())
        .collect()
}
