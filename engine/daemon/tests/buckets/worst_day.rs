//! All hosts are gone; what is left is the bucket, and the page that was printed.

use std::fs;
use std::path::Path;

use backstay_testkit::bare::{Bare, PASSPHRASE, commands};
use backstay_testkit::random::Random;

use crate::fleet::{Fleet, assert_same};
use crate::host::{Said, said};

/// A machine with nothing but the program and what was typed from paper.
fn bare_with(page: &str) -> Bare {
    Bare::with(env!("CARGO_BIN_EXE_backstay"), page)
}

/// Has a shell there read what was typed.
fn types(bare: &Bare, line: &str) -> Said {
    said(bare.typed(line))
}

fn copy_of(folder: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn two_nodes_come_back_from_the_bucket_by_the_printed_page_alone() {
    let mut fleet = Fleet::apart();
    fleet.vault = "prefix = \"home/\"\ncustodian = \"alpha\"".to_owned();
    fleet.nodes = [fleet.secret(), fleet.secret()];
    let mut random = Random::new(5);
    for node in crate::fleet::NODES {
        fs::write(fleet.source(node).join("large"), random.bytes(3 << 20)).unwrap();
        fs::write(fleet.source(node).join("small"), format!("of {node}")).unwrap();
    }
    let recovery = fleet.recovery();
    fleet.run(0, &["init", "alpha", "--recovery", &recovery]).good();
    fleet.run(0, &["vault", "init", "offsite", "--recovery", &recovery]).good();
    fleet.join();
    let daemons = [fleet.daemon(0), fleet.daemon(1)];
    fleet.run(0, &["now"]).good();
    fleet.run(1, &["now"]).good();
    let passphrase = fleet.path("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let kit = ["kit", "--key-file", &recovery, "--passphrase-file", passphrase.to_str().unwrap()];
    let page = fleet.run(0, &kit).good().out;
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(!page.contains(&fleet.garage.key().secret), "{page}");
    let without = fleet.run(0, &[&kit[..], &["--no-access-keys"]].concat()).good().out;
    drop(daemons);

    // Everything that the hosts had.
    let before = fleet.path("before");
    fs::create_dir(&before).unwrap();
    for node in crate::fleet::NODES {
        copy_of(&fleet.source(node), &before.join(node));
        copy_of(&fleet.path(node), &before.join(format!("configuration of {node}")));
        fs::remove_dir_all(fleet.source(node)).unwrap();
        fs::remove_dir_all(fleet.path(node)).unwrap();
        fs::remove_dir_all(fleet.path(&format!("state-{node}"))).unwrap();
    }
    for file in ["recovery.key", "passphrase", "s3-id", "s3-key"] {
        fs::remove_file(fleet.path(file)).unwrap();
    }

    let bare = bare_with(&page);
    let printed = commands(&page);
    let [look, own, below] = &printed[..] else { panic!("{printed:?}\n{page}") };
    let seen = types(&bare, look).good().out;
    assert!(seen.contains("alpha.files") && seen.contains("beta.files"), "{seen}");
    // A machine is one node.
    let whose = types(&bare, &own.replace(" --node alpha", ""));
    assert_eq!(whose.code, Some(2), "{}", whose.errors);
    assert!(whose.errors.contains("alpha, beta") && whose.errors.contains("--node NODE"), "{}", whose.errors);
    let restored = types(&bare, own).good();
    assert!(restored.out.contains("to be brought here by hand: file:"), "{}", restored.out);
    for left in
        ["as its admin has signed it last: alpha, beta (roster ", "invite alpha --again", " init alpha "]
    {
        assert!(restored.out.contains(left), "{left}: {}", restored.out);
    }
    assert_same(&before.join("alpha"), &fleet.source("alpha"));
    assert_same(&before.join("configuration of alpha"), &fleet.path("alpha").canonicalize().unwrap());
    assert!(!fleet.source("beta").exists());
    let beta = own
        .replace("--node alpha", "--node beta")
        .replace(fleet.path("alpha").to_str().unwrap(), fleet.path("beta").to_str().unwrap());
    types(&bare, &beta).good();
    assert_same(&before.join("beta"), &fleet.source("beta"));
    assert_same(&before.join("configuration of beta"), &fleet.path("beta"));

    let all = bare.path("all");
    types(&bare, &below.replace("/srv/restored", all.to_str().unwrap())).good();
    for node in crate::fleet::NODES {
        assert_same(&before.join(node), &all.join(format!("{node}.files")));
        let roster = all.join(format!("_fleet.{node}")).join("roster");
        assert!(fs::metadata(&roster).unwrap().len() > 100, "who belonged to the fleet: {roster:?}");
    }

    // From here on the fleet is that of the docs, "Go on": what secrets refer to is brought by hand.
    let key = fleet.garage.key().clone();
    for (file, text) in [("s3-id", &key.id), ("s3-key", &key.secret)] {
        fs::write(fleet.path(file), text).unwrap();
    }
    let open = format!("backstay kit --open kit.txt --passphrase-file passphrase.txt --to {recovery}");
    types(&bare, &open).good();
    assert!(fs::read_to_string(&recovery).unwrap().contains(&key.secret), "the key of the bucket is in it");
    fleet.run(0, &["vault", "custodian", "take", "offsite", "--key-file", &recovery]).good();
    fleet.run(0, &["init", "alpha", "--recovery", &recovery]).good();
    fleet.join();
    for (n, node) in crate::fleet::NODES.into_iter().enumerate() {
        fs::write(fleet.source(node).join("after"), "the worst day").unwrap();
        fleet.run(n, &["now"]).good();
        let again = fleet.path(&format!("{node} again"));
        fleet.run(n, &["restore", node, "--to", again.to_str().unwrap()]).good();
        assert_same(&fleet.source(node), &again);
    }
    fleet.run(0, &["vault", "check", "offsite", "--read-data", "1/1"]).good();

    let elsewhere = types(&bare, &look.replace("/home/", "/elsewhere/"));
    assert_eq!(elsewhere.code, Some(1), "{}", elsewhere.errors);
    assert!(elsewhere.errors.contains("there is no vault in"), "{}", elsewhere.errors);
    // Without the access key on it, it comes from the environment.
    let bare = bare_with(&without);
    let line = commands(&without).remove(0);
    assert_ne!(types(&bare, &line).code, Some(0), "no key opens the bucket");
    let keys = format!("AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", key.id, key.secret);
    types(&bare, &format!("{keys} {line}")).good();
}
