//! Who can read vaults: holders come and go, and new keys are used from one moment on.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_testkit::random::Random;
use backstay_vault::keys::{AgeIdentity, Bundle, Role, unwrap_bundle};

use crate::damage::packs;
use crate::judge::assert_same;
use crate::sandbox::Sandbox;

fn change(sandbox: &Sandbox, n: u32) {
    fs::write(sandbox.source.join(format!("file {n}")), format!("contents {n}")).unwrap();
}

/// A node with two vaults, a recovery key and a point.
fn node() -> (Sandbox, PathBuf, PathBuf) {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    let key = sandbox.path("recovery.key");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    sandbox.run(["vault", "init", "usb", "--recovery", key.to_str().unwrap()]).good();
    change(&sandbox, 0);
    sandbox.capture();
    (sandbox, usb, key)
}

fn opened(identity: &AgeIdentity, file: &Path) -> Bundle {
    unwrap_bundle(&fs::read(file).unwrap(), identity).unwrap()
}

#[test]
fn holders_are_added_with_what_they_may_do_and_removed() {
    let (sandbox, _, _) = node();
    let anna = AgeIdentity::generate();
    let recipient = anna.recipient();
    let add = |holder: &str, role: &str| {
        sandbox.run(["vault", "keys", "add", "local", holder, "--recipient", &recipient, "--role", role])
    };
    add("anna", "full").good();
    add("care", "custodian").good();
    add("anna", "full").refused(1, &["has keys in vault local already", "keys remove local anna"]);
    add("Anna!", "full").refused(2, &["no name for a holder"]);
    let listed = sandbox.run(["vault", "keys", "list", "local", "--json"]).good().json();
    assert_eq!(listed, serde_json::json!(["alpha", "anna", "care", "recovery"]));
    let full = opened(&anna, &sandbox.vault.join("keys/anna.age"));
    assert!(full.role == Role::Full && full.admin_seed.is_none() && !full.data.is_empty());
    let care = opened(&anna, &sandbox.vault.join("keys/care.age"));
    assert!(care.role == Role::Custodian && care.data.is_empty());
    sandbox.run(["vault", "keys", "remove", "local", "anna"]).good();
    assert!(!sandbox.vault.join("keys/anna.age").exists());
    sandbox.run(["vault", "keys", "remove", "local", "anna"]).refused(1, &["has no keys in vault local"]);
    sandbox.run(["vault", "keys", "remove", "local", "alpha"]).refused(2, &["is this node"]);
    sandbox.run(["vault", "keys", "remove", "local", "recovery"]).refused(2, &["alone has the admin's key"]);
    sandbox.check_vault();
}

#[test]
fn after_a_rotation_all_is_readable_and_what_is_new_is_sealed_with_new_keys() {
    let (mut sandbox, usb, key) = node();
    let key = key.to_str().unwrap();
    let identity = AgeIdentity::from_file(&fs::read_to_string(key).unwrap()).unwrap();
    let before = opened(&identity, &sandbox.vault.join("keys/recovery.age"));
    sandbox.run(["vault", "keys", "rotate"]).refused(2, &["give it with --recovery FILE"]);
    let anna = AgeIdentity::generate();
    sandbox.run(["vault", "keys", "add", "usb", "anna", "--recipient", &anna.recipient()]).good();
    let named = format!("anna={}", anna.recipient());
    sandbox
        .run(["vault", "keys", "rotate", "--recovery", key])
        .refused(2, &["anna has keys in vault usb", "--recipient anna=age1", "nothing was changed"]);
    sandbox.run(["vault", "keys", "rotate", "--recovery", key, "--recipient", &named]).good();
    for vault in [&sandbox.vault, &usb] {
        let after = opened(&identity, &vault.join("keys/recovery.age"));
        assert!(after.continues(&before) && after.admin_seed == before.admin_seed);
    }
    assert!(opened(&anna, &usb.join("keys/anna.age")).meta.len() == 2);

    let first = sandbox.points();
    let written: Vec<PathBuf> = points(&sandbox.vault);
    change(&sandbox, 1);
    sandbox.capture();
    let new = points(&sandbox.vault).into_iter().find(|point| !written.contains(point)).unwrap();
    // Bytes 8 to 24 of an envelope name its key.
    assert_eq!(fs::read(new).unwrap()[8..24], identity_of_last(&identity, &sandbox.vault));
    assert_same(&sandbox.source, &sandbox.restore("newest"));
    assert!(!sandbox.restore_with("older", &["--point", &first[0]]).join("file 1").exists());
    sandbox.run(["vault", "prune", "local"]).good();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    sandbox.state = sandbox.path("state of another machine");
    assert_same(&sandbox.source, &sandbox.restore_with("worst day", &["--key-file", key]));
}

/// Takes the packs away that were there, and tells whether the newest point is restored as the source is.
fn stands_without(sandbox: &Sandbox, packs: &[PathBuf]) -> bool {
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let to = sandbox.path("without");
    let restored = sandbox.run(["restore", "data", "--to", to.to_str().unwrap()]);
    let is_good = restored.code == Some(0);
    if is_good {
        assert_same(&sandbox.source, &to);
    }
    is_good
}

#[test]
fn after_keys_were_compromised_the_next_point_stands_without_anything_that_they_have_sealed() {
    for compromised in [true, false] {
        let sandbox = Sandbox::new();
        (0..5).for_each(|n| change(&sandbox, n));
        let first = sandbox.capture();
        assert!(!sandbox.capture().is_new);
        let packs = packs(&sandbox.vault);
        let rotate = ["vault", "keys", "rotate", "--compromised"];
        let rotated = sandbox.run(&rotate[..if compromised { 4 } else { 3 }]).good();
        assert_eq!(rotated.text().contains("stores all of it again"), compromised, "{rotated:?}");
        let exported = sandbox.path("exported.age");
        let anna = AgeIdentity::generate();
        let (to, recipient) = (exported.to_str().unwrap(), anna.recipient());
        sandbox.run(["vault", "keys", "export", "local", "--to", to, "--recipient", &recipient]).good();
        assert_eq!(opened(&anna, &exported).compromised.len(), if compromised { 2 } else { 0 });
        change(&sandbox, 5);
        let next = sandbox.capture();
        assert!(next.is_new);
        assert_eq!(next.read_bytes > first.read_bytes, compromised, "everything is read again");
        // That one is built on, and points of before are readable.
        assert!(!sandbox.capture().is_new);
        sandbox.restore_with("older", &["--point", &first.point]);
        sandbox.check_vault();
        assert_eq!(stands_without(&sandbox, &packs), compromised);
    }
}

#[test]
fn another_node_without_the_keys_of_contents_is_custodian_and_frees_space() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", keep = { last = 1 }";
    let mut random = Random::new(5);
    let mut write = |sandbox: &Sandbox, n: u32| {
        fs::write(sandbox.source.join(format!("large {n}")), random.bytes(600_000)).unwrap();
    };
    (0..8).for_each(|n| write(&sandbox, n));
    let key = sandbox.path("recovery.key");
    let key = key.to_str().unwrap();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.run(["vault", "init", "local", "--recovery", key]).good();
    sandbox.run(["vault", "init", "usb", "--recovery", key]).good();
    sandbox.capture();
    let first = packs(&sandbox.vault).pop().unwrap();
    (0..6).for_each(|n| write(&sandbox, n));
    sandbox.capture();

    let (alpha, beta) = (sandbox.state.clone(), sandbox.path("state of beta"));
    (sandbox.state, sandbox.node_name) = (beta.clone(), "beta");
    // It has made its identity by then.
    sandbox.run(["vault", "prune", "local"]).refused(1, &["no key in"]);
    let identity = fs::read_to_string(beta.join("identity/age.key")).unwrap();
    let recipient = AgeIdentity::from_file(&identity).unwrap().recipient();
    let add = ["vault", "keys", "add", "local", "beta", "--role", "custodian", "--recipient", &recipient];
    (sandbox.state, sandbox.node_name) = (alpha.clone(), "alpha");
    sandbox.run(add).good();

    (sandbox.state, sandbox.node_name) = (beta.clone(), "beta");
    sandbox.run(["vault", "custodian", "take", "local", "--key-file", key]).good();
    let bundle = Bundle::from_json(&fs::read(beta.join("identity/domain.json")).unwrap()).unwrap();
    assert!(bundle.role == Role::Custodian && bundle.data.is_empty() && bundle.admin_seed.is_none());
    // Of another vault of the domain it gets no more.
    sandbox.run(["vault", "custodian", "take", "usb", "--key-file", key]).good();
    let of_usb = opened(&AgeIdentity::from_file(&identity).unwrap(), &usb.join("keys/beta.age"));
    assert!(of_usb.role == Role::Custodian && of_usb.data.is_empty());
    let pruned = sandbox.run(["vault", "prune", "local", "--json"]).good().json();
    assert_eq!(pruned["points_dropped"], 1, "{pruned:#}");
    assert!(!first.exists(), "what is needed of it was moved: {pruned:#}");
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    let to = sandbox.path("contents");
    let restored = sandbox.run(["restore", "data", "--to", to.to_str().unwrap()]);
    assert_ne!(restored.code, Some(0), "it reads no contents: {restored:?}");
    // What it could give to others would lack the keys of contents.
    let before = fs::read(sandbox.vault.join("keys/recovery.age")).unwrap();
    let rotate = ["vault", "keys", "rotate", "--recovery", key];
    sandbox.run(rotate).refused(2, &["keys of a custodian", "nothing was changed"]);
    let anna = ["vault", "keys", "add", "local", "anna", "--recipient", &recipient];
    sandbox.run(anna).refused(2, &["keys of a custodian"]);
    assert_eq!(fs::read(sandbox.vault.join("keys/recovery.age")).unwrap(), before);

    (sandbox.state, sandbox.node_name) = (alpha, "alpha");
    sandbox.run(["vault", "keys", "rotate", "--recovery", key]).good();
    let alpha = std::mem::replace(&mut sandbox.state, beta.clone());
    sandbox.node_name = "beta";
    sandbox.run(["vault", "prune", "local"]).good();
    let rotated = Bundle::from_json(&fs::read(beta.join("identity/domain.json")).unwrap()).unwrap();
    assert!(rotated.role == Role::Custodian && rotated.meta.len() == bundle.meta.len() + 1);

    (sandbox.state, sandbox.node_name) = (alpha, "alpha");
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("restored"));
    assert!(!sandbox.capture().is_new);
}

#[test]
fn exported_keys_open_as_an_age_file() {
    let (sandbox, _, _) = node();
    let to = sandbox.path("keys.age");
    let anna = AgeIdentity::generate();
    let export = |arguments: &[&str]| {
        let mut all = vec!["vault", "keys", "export", "local", "--to", to.to_str().unwrap()];
        all.extend_from_slice(arguments);
        sandbox.run(all)
    };
    export(&[]).refused(2, &["--recipient", "--passphrase-file"]);
    export(&["--recipient", "age1nonsense"]).refused(2, &["not an age recipient"]);
    export(&["--recipient", &anna.recipient()]).good();
    assert!(opened(&anna, &to).admin_seed.is_none());
    export(&["--recipient", &anna.recipient()]).refused(1, &["cannot write", "exists"]);
    let secret = sandbox.path("passphrase");
    fs::write(&secret, "correct horse battery\n").unwrap();
    fs::remove_file(&to).unwrap();
    export(&["--passphrase-file", secret.to_str().unwrap()]).good();
    assert!(fs::read(&to).unwrap().starts_with(b"age-encryption.org/v1\n-> scrypt "));
}

fn points(vault: &Path) -> Vec<PathBuf> {
    let sources = fs::read_dir(vault.join("points")).unwrap();
    sources
        .flat_map(|source| fs::read_dir(source.unwrap().path()).unwrap())
        .map(|point| point.unwrap().path())
        .collect()
}

/// The newest key of metadata.
fn identity_of_last(identity: &AgeIdentity, vault: &Path) -> [u8; 16] {
    let bundle = opened(identity, &vault.join("keys/recovery.age"));
    *bundle.meta.last().unwrap().key_id.as_bytes()
}
