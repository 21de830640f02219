//! The recovery key: after `vault init --recovery`, it and any vault of the domain alone are enough, and the key that
//! signs trust is nowhere but with it.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_vault::keys::{AgeIdentity, unwrap_bundle};

use crate::judge::{Picture, assert_same};
use crate::mount::Mount;
use crate::sandbox::Sandbox;

/// A node with the vaults `local` and `usb`, both with a point and neither with a recovery key.
fn two_vaults() -> (Sandbox, PathBuf) {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.run(["now"]).good();
    (sandbox, usb)
}

/// Whether the keys of the node that lie in this bundle have the admin's private key.
#[track_caller]
fn has_admin_key(bundle: &[u8]) -> bool {
    let bundle: serde_json::Value = serde_json::from_slice(bundle).expect("a bundle");
    assert!(bundle["domain"].is_string(), "no bundle: {bundle:#}");
    bundle.get("admin_seed").is_some()
}

/// What the identity in a file opens of an object in `keys/`, as `age -d` does it.
#[track_caller]
fn opened(identity: &Path, object: &Path) -> Vec<u8> {
    let identity = fs::read_to_string(identity).unwrap();
    let identity = AgeIdentity::from_file(&identity).unwrap();
    let wrapped = fs::read(object).unwrap_or_else(|error| panic!("{}: {error}", object.display()));
    let bundle = unwrap_bundle(&wrapped, &identity).unwrap();
    bundle.to_json().to_vec()
}

/// Both vaults open with the recovery key alone, and only it has the admin key.
#[track_caller]
fn assert_recoverable(sandbox: &Sandbox, key: &Path, vaults: &[&PathBuf]) {
    let own = sandbox.state.join("identity/age.key");
    for vault in vaults {
        assert!(has_admin_key(&opened(key, &vault.join("keys/recovery.age"))), "{vault:?}");
        assert!(!has_admin_key(&opened(&own, &vault.join("keys/alpha.age"))), "{vault:?}");
    }
    assert!(!has_admin_key(&fs::read(sandbox.state.join("identity/domain.json")).unwrap()));
}

#[test]
fn one_recovery_key_opens_every_vault_of_the_domain() {
    let (mut sandbox, usb) = two_vaults();
    let key = sandbox.path("recovery.key");
    let init = ["vault", "init", "local", "--recovery", key.to_str().unwrap()];
    let said = sandbox.run(init).good().text();
    assert!(said.contains("added to vault local") && said.contains("added to vault usb"), "{said}");
    assert_recoverable(&sandbox, &key, &[&sandbox.vault, &usb]);

    // Again: nothing is to be done, and nothing is done.
    let before = [&sandbox.vault, &usb].map(|vault| Picture::of(vault));
    let said = sandbox.run(init).good().text();
    assert!(said.contains("already"), "{said}");
    for (before, vault) in before.iter().zip([&sandbox.vault, &usb]) {
        before.assert_same(&Picture::of(vault));
    }
    sandbox.run(["now"]).good();

    // The worst day: only a key and the vaults are left.
    sandbox.state = sandbox.path("state of another machine");
    let key = key.to_str().unwrap();
    for vault in ["local", "usb"] {
        for command in ["stat", "check"] {
            sandbox.run(["vault", command, vault]).refused(1, &["no key in", "--key-file"]);
            let looked = sandbox.run(["vault", command, vault, "--key-file", key, "--json"]).good().json();
            assert_eq!(looked["vault"], vault, "{looked:#}");
        }
        let name = format!("restored from {vault}");
        assert_same(&sandbox.source, &sandbox.restore_with(&name, &["--from", vault, "--key-file", key]));
    }
    assert!(!sandbox.state.exists(), "looking makes no state");
}

#[test]
fn a_vault_that_is_away_gets_the_recovery_key_by_the_next_run() {
    let (sandbox, usb) = two_vaults();
    let key = sandbox.path("recovery.key");
    let away = sandbox.path("usb is unplugged");
    fs::rename(&usb, &away).unwrap();
    let init = ["vault", "init", "local", "--recovery", key.to_str().unwrap()];
    sandbox.run(init).refused(3, &["vault usb has not got the recovery key", "vault init usb --recovery"]);
    assert_recoverable(&sandbox, &key, &[&sandbox.vault]);
    fs::rename(&away, &usb).unwrap();
    sandbox.run(["vault", "init", "usb", "--recovery", key.to_str().unwrap()]).good();
    assert_recoverable(&sandbox, &key, &[&sandbox.vault, &usb]);
}

#[test]
fn a_recovery_key_that_was_given_to_one_vault_only_is_given_to_the_others() {
    let (sandbox, usb) = two_vaults();
    let key = sandbox.path("recovery.key");
    let Some(read_only) = Mount::read_only(&usb) else { return };
    let init = ["vault", "init", "local", "--recovery", key.to_str().unwrap()];
    sandbox.run(init).refused(3, &["vault usb has not got the recovery key", "Read-only file system"]);
    drop(read_only);
    sandbox.run(init).good();
    assert_recoverable(&sandbox, &key, &[&sandbox.vault, &usb]);
}

#[test]
fn a_second_recovery_key_is_refused_and_not_written() {
    let (sandbox, _) = two_vaults();
    let key = sandbox.path("recovery.key");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    let other = sandbox.path("other.key");
    let init = ["vault", "init", "usb", "--recovery", other.to_str().unwrap()];
    sandbox.run(init).refused(1, &["has a recovery key already", "give the file that was written then"]);
    assert!(!other.exists());
    fs::write(&other, AgeIdentity::generate().to_file()).unwrap();
    sandbox.run(init).refused(1, &["opens no vault that can be reached", "Nothing was changed"]);
}

#[test]
fn a_vault_made_with_a_recovery_key_gives_it_to_those_before() {
    let (mut sandbox, usb) = two_vaults();
    let third = sandbox.path("third");
    sandbox.more += &format!("[vault.third]\nkind = \"dir\"\npath = \"{}\"\n", third.display());
    let key = sandbox.path("recovery.key");
    sandbox.run(["vault", "init", "third", "--recovery", key.to_str().unwrap()]).good();
    assert_recoverable(&sandbox, &key, &[&sandbox.vault, &usb, &third]);
}

#[test]
fn a_machine_that_was_built_anew_goes_on_with_its_vault() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 2 }";
    let change = |sandbox: &Sandbox, n: u32| fs::write(sandbox.source.join("file"), format!("{n}")).unwrap();
    change(&sandbox, 0);
    let key = sandbox.path("recovery.key");
    let key = key.to_str().unwrap();
    sandbox.run(["vault", "init", "local", "--recovery", key]).good();
    for n in 1..3 {
        change(&sandbox, n);
        sandbox.capture();
    }
    sandbox.run(["vault", "custodian", "take", "local"]).refused(1, &["with the recovery key", "--key-file"]);

    sandbox.state = sandbox.path("state of the new machine");
    change(&sandbox, 3);
    sandbox.run(["now"]).refused(1, &["no key in", "vault custodian take"]);
    let other = sandbox.path("other.key");
    fs::write(&other, AgeIdentity::generate().to_file()).unwrap();
    let take =
        |file: &str| sandbox.run(["vault", "custodian", "take", "local", "--key-file", file, "--json"]);
    take(other.to_str().unwrap()).refused(1, &["opens no keys in"]);
    assert_eq!(take(key).good().json()["term"], 2);
    // What the old machine has captured counts, and is built on.
    assert_eq!(sandbox.points().len(), 2);
    sandbox.capture();
    assert_eq!(sandbox.points().len(), 3);
    let pruned = sandbox.run(["vault", "prune", "local", "--json"]).good().json();
    assert_eq!(pruned["points_dropped"], 1, "{pruned:#}");
    sandbox.check_vault();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
    assert!(!has_admin_key(&fs::read(sandbox.state.join("identity/domain.json")).unwrap()));

    // The old one may write, and is not custodian any more.
    sandbox.state = sandbox.path("state");
    sandbox.run(["vault", "prune", "local"]).refused(1, &["not the custodian", "alpha with another key is"]);
    change(&sandbox, 4);
    sandbox.capture();
    sandbox.check_vault();
}

#[test]
fn what_a_machine_has_captured_before_it_was_built_anew_is_copied_to_where_its_former_key_is_known() {
    let mut sandbox = Sandbox::new();
    let key = sandbox.path("recovery.key");
    let key = key.to_str().unwrap();
    sandbox.run(["vault", "init", "local", "--recovery", key]).good();
    fs::write(sandbox.source.join("file"), "before").unwrap();
    sandbox.capture();
    sandbox.state = sandbox.path("state of the new machine");
    sandbox.run(["vault", "custodian", "take", "local", "--key-file", key]).good();
    fs::write(sandbox.source.join("file"), "after").unwrap();
    sandbox.capture();
    let points = sandbox.points();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.run(["vault", "init", "usb", "--recovery", key]).good();
    let copied = sandbox.run(["vault", "copy", "local", "usb", "--source", "data", "--json"]).good().json();
    assert_eq!(copied["points"], 2, "{copied:#}");
    let listed = sandbox.run(["points", "data", "--from", "usb", "--json"]).good().json();
    let listed = listed.as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap());
    assert!(listed.eq(points.iter().map(String::as_str)));
    let restored = sandbox.restore_with("restored", &["--from", "usb", "--point", &points[0]]);
    assert_eq!(fs::read_to_string(restored.join("file")).unwrap(), "before");
}

#[test]
fn a_daemon_that_runs_learns_of_the_new_custodian() {
    use crate::daemon::{Daemon, wait_for};

    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let key = sandbox.path("recovery.key");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("the flow", || !daemon.flow("data.files", "local")["last_point"].is_null());
    let other = sandbox.path("state of another");
    let own = std::mem::replace(&mut sandbox.state, other);
    let lines = std::mem::take(&mut sandbox.node_lines);
    let name = std::mem::replace(&mut sandbox.node_name, "beta");
    sandbox.run(["vault", "custodian", "take", "local", "--key-file", key.to_str().unwrap()]).good();
    sandbox.state = own;
    sandbox.node_lines = lines;
    sandbox.node_name = name;
    sandbox.run(["vault", "prune", "local"]).refused(1, &["not the custodian", "beta is"]);
    fs::write(sandbox.source.join("file"), "more contents").unwrap();
    assert!(sandbox.capture().is_new, "it may write still");
    daemon.running.terminate().good();
    sandbox.check_vault();
}
