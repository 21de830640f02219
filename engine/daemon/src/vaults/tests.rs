//! When a vault is opened, and what is done then to sessions that are open in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use backstay_core::units::Timestamp;
use backstay_vault::keys::{FormerKeys, Role};
use backstay_vault::vault::{Session, Vault};
use tokio::runtime::Runtime;

use super::{Absent, Access, Recipient, Vaults, lock};
use crate::clock::SystemClock;
use crate::load::load;
use crate::metrics::{MeteredVaults, Metrics};

/// A process of the node alpha whose state and vault are in this folder.
fn process(folder: &Path, io: &Runtime) -> Vaults {
    process_of("alpha", folder, io)
}

fn process_of(node: &str, folder: &Path, io: &Runtime) -> Vaults {
    let (state, vault) = (folder.join(format!("state of {node}")), folder.join("vault"));
    let text = format!(
        "[fleet]\nname = \"home\"\n[node]\nname = \"{node}\"\nstate = \"{}\"\n[vault.local]\nkind = \"dir\"\n\
         path = \"{}\"\n[service.static]\nfiles = {{ path = \"/srv\" }}\n",
        state.display(),
        vault.display()
    );
    let file = folder.join("backstay.toml");
    fs::write(&file, text).expect("written");
    let config = load(&file).expect("a configuration");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let observer = Arc::new(MeteredVaults(metrics));
    let (config, io) = (Arc::new(config), io.handle().clone());
    Vaults::new(config, io, Arc::new(SystemClock), observer, Access::Keep).expect("a node")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn fences(folder: &Path) -> usize {
    fs::read_dir(folder.join("vault/fences")).map_or(0, Iterator::count)
}

#[test]
fn a_process_that_opens_a_vault_again_leaves_its_own_open_sessions_alone() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let vaults = process(folder.path(), &io);
    let vault = vaults.open("local", Absent::Make).expect("makes");
    let now = Timestamp::from_seconds(1000);
    let (session, _) = Session::open(&vault, vaults.writer(), "static.files", now).expect("opens");
    vaults.outdate("local").expect("known");
    let again = vaults.open("local", Absent::Refuse).expect("opens");
    assert!(!Arc::ptr_eq(&vault, &again), "it was opened again");
    assert_eq!(fences(folder.path()), 0, "its own work was ended by itself");
    drop(session);
}

#[test]
fn a_vault_that_is_opened_again_has_the_folder_of_its_index() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let vaults = process(folder.path(), &io);
    let before = vaults.open("local", Absent::Make).expect("makes");
    vaults.outdate("local").expect("known");
    let vault = vaults.open("local", Absent::Refuse).expect("opens");
    // What goes on with the one before has let go of it.
    drop(before);
    let lock = folder.path().join("state of alpha/index").join(vault.id().to_string()).join("lock");
    let lock = fs::File::open(lock).expect("it is there");
    let is_free = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
    assert!(!is_free, "nobody has it");
}

#[test]
fn the_next_process_fences_what_one_before_has_left_open() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let first = process(folder.path(), &io);
    let vault = first.open("local", Absent::Make).expect("makes");
    let now = Timestamp::from_seconds(1000);
    let _dead = Session::open(&vault, first.writer(), "static.files", now).expect("opens");
    drop((vault, first));
    process(folder.path(), &io).open("local", Absent::Refuse).expect("opens");
    assert_eq!(fences(folder.path()), 1);
}

#[test]
fn commits_that_outlive_the_absence_of_a_vault_go_on_and_those_that_do_not_are_fenced() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let vaults = process(folder.path(), &io);
    let open = || vaults.open("local", Absent::Refuse);
    let begin = |vault: &Arc<Vault>, source: &str| {
        let now = Timestamp::from_seconds(1000);
        Session::open(vault, vaults.writer(), source, now).expect("opens").0
    };
    let vault = vaults.open("local", Absent::Make).expect("makes");
    let (one, other) = (begin(&vault, "static.files"), begin(&vault, "other.files"));
    // The disk is unmounted, and mounted again.
    let (path, away) = (folder.path().join("vault"), folder.path().join("away"));
    fs::rename(&path, &away).expect("unmounted");
    open().expect_err("it is not there");
    one.give_up(Timestamp::from_seconds(1100)).expect_err("it cannot be fenced");
    fs::rename(&away, &path).expect("mounted");
    let again = open().expect("opens");
    assert!(!Arc::ptr_eq(&vault, &again), "it was opened again");
    assert_eq!(fences(folder.path()), 1, "the one that has failed, and not the one under way");
    let later = begin(&again, "static.files");
    drop(other);
    open().expect("opens");
    assert_eq!(fences(folder.path()), 2, "it is under way no more");
    later.give_up(Timestamp::from_seconds(1200)).expect("fences");
    open().expect("opens");
    assert_eq!(fences(folder.path()), 3);
}

/// The nodes alpha, which has made the vault, and beta, which has the keys, too.
fn two_nodes(folder: &Path, io: &Runtime) -> (Vaults, Vaults, Recipient) {
    let (alpha, beta) = (process(folder, io), process_of("beta", folder, io));
    alpha.open("local", Absent::Make).expect("makes");
    let to = Recipient { recipient: lock(&beta.identity).age.recipient(), role: Role::Full };
    alpha.add_key("local", "beta", &to).expect("adds");
    beta.open("local", Absent::Refuse).expect("opens");
    (alpha, beta, to)
}

#[test]
fn a_rotation_keeps_the_epochs_that_another_node_has_begun_meanwhile() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let (alpha, beta, to) = two_nodes(folder.path(), &io);
    let others = BTreeMap::from([("beta".to_owned(), to)]);
    alpha.rotate_keys(FormerKeys::Compromised, None, &others).expect("rotates");
    beta.rotate_keys(FormerKeys::Trusted, None, &BTreeMap::new()).expect("rotates");
    let (of_alpha, of_beta) = (alpha.bundle().expect("keys"), beta.bundle().expect("keys"));
    assert!(of_beta.continues(&of_alpha));
    assert_eq!((of_beta.data.len(), of_beta.compromised.len()), (3, 2));
    alpha.outdate("local").expect("known");
    alpha.open("local", Absent::Refuse).expect("opens");
    assert_eq!(alpha.bundle(), Some(of_beta));
}

#[test]
fn keys_are_not_given_to_a_node_or_a_recovery_key_under_what_a_rotation_would_not_go_by() {
    let (folder, io) = (tempfile::tempdir().expect("a folder"), runtime());
    let (alpha, beta, to) = two_nodes(folder.path(), &io);
    for (holder, said) in [("alpha", "custodian take local"), ("recovery", "--recovery FILE")] {
        let refused = beta.add_key("local", holder, &to).expect_err("is refused").message;
        assert!(refused.contains(said), "{refused}");
    }
    let others = BTreeMap::from([("recovery".to_owned(), to)]);
    let refused = alpha.rotate_keys(FormerKeys::Trusted, None, &others).expect_err("is refused").message;
    assert!(refused.contains("--recovery FILE"), "{refused}");
}
