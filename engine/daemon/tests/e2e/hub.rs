//! A vault that one node alone writes to: beta is the hub, alpha captures to its vault there, and what counts is what beta has
//! copied on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::daemon::wait_for;
use crate::judge::{Picture, assert_same};
use crate::pair::Pair;

const EXPOSURE: &str = "backstay_rpo_exposure_seconds{";

/// Alpha and beta; what alpha has goes to a disk of beta's, by way of beta, and to further vaults.
fn with_hub(policy: &'static str) -> Pair {
    let mut pair = Pair::apart();
    pair.more_of_fleet =
        format!("[vault.nas]\nkind = \"dir\"\npath = \"{}\"\nvia = \"beta\"\n", nas(&pair).display());
    pair.policy = policy;
    pair.enrol();
    pair
}

fn nas(pair: &Pair) -> PathBuf {
    pair.folder.path().join("nas")
}

fn make_nas(pair: &Pair) {
    pair.run(1, ["vault", "init", "nas", "--recovery", pair.recovery().to_str().unwrap()]).good();
}

/// How many packs a vault has, and how long they are together.
fn packs(vault: &Path) -> (usize, u64) {
    let folders = fs::read_dir(vault.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.unwrap().metadata().unwrap().len()))
}

fn flow(pair: &Pair, node: usize) -> Value {
    let status: Value = serde_json::from_slice(&pair.run(node, ["status", "--json"]).stdout).unwrap();
    status["flows"][0].clone()
}

#[test]
fn a_capture_counts_when_the_hub_has_copied_it_on_and_the_vault_alone_brings_it_back() {
    let pair = with_hub("to = [\"nas\"]");
    let beta = pair.daemon(1);
    // The hub cannot make the vault by itself: the key for that is with the operator.
    let failed = pair.run(0, ["now"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("not in nas yet"), "{failed:?}");
    assert!(failed.stderr.contains("vault init nas --recovery"), "{failed:?}");
    beta.terminate().good();
    make_nas(&pair);
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let before = Picture::of(&pair.source());
    assert!(flow(&pair, 0)["exposure_seconds"].as_f64().expect("it is known") < 60.0);
    // Whoever may not read it is told who may, and where the same is.
    let refused = pair.run(0, ["points", "--from", "nas"]);
    assert!(refused.stderr.contains("run it on beta"), "{refused:?}");
    assert!(refused.stderr.contains("via.beta"), "{refused:?}");
    assert_same(&pair.source(), &pair.restore(0, "from the hub", &[]));
    // From now on there is neither alpha nor what beta held for it.
    beta.terminate().good();
    fs::remove_dir_all(pair.folder.path().join("state-alpha")).unwrap();
    fs::remove_dir_all(pair.source()).unwrap();
    fs::remove_dir_all(pair.held()).unwrap();
    before.assert_same(&Picture::of(&pair.restore(1, "from nas", &["--from", "nas"])));
    let key = pair.recovery();
    let by_key = ["--from", "nas", "--key-file", key.to_str().unwrap()];
    fs::remove_dir_all(pair.folder.path().join("state-beta").join("identity")).unwrap();
    before.assert_same(&Picture::of(&pair.restore(1, "by key", &by_key)));
}

#[test]
fn what_is_at_a_hub_that_has_died_is_not_said_to_be_where_it_is_meant_to_be() {
    let pair = with_hub("to = [\"nas\"]\nrpo = \"4s\"");
    make_nas(&pair);
    let beta = pair.daemon(1);
    let alpha = pair.daemon(0);
    wait_for("the first point", || pair.figure(0, EXPOSURE).is_some_and(|exposure| exposure < 4.0));
    for n in 0..3 {
        pair.change(n);
        std::thread::sleep(Duration::from_millis(1500));
    }
    drop(beta.kill());
    let mut last = pair.figure(0, EXPOSURE).expect("it is known");
    for n in 3..10 {
        pair.change(n);
        std::thread::sleep(Duration::from_secs(1));
        let exposure = pair.figure(0, EXPOSURE).expect("it is known");
        assert!(exposure >= last, "{exposure} after {last}, and nobody has told anything");
        last = exposure;
    }
    assert!(last > 6.0, "{last}");
    let _beta = pair.daemon(1);
    wait_for("the flow to catch up", || pair.figure(0, EXPOSURE).is_some_and(|exposure| exposure < 6.0));
    alpha.terminate().good();
    assert_same(&pair.source(), &pair.restore(1, "caught up", &["--from", "nas"]));
    pair.run(1, ["vault", "check", "nas"]).good();
}

#[test]
fn a_hub_whose_vault_is_away_does_not_say_that_nothing_is_there() {
    let pair = with_hub("to = [\"nas\"]\nrpo = \"4s\"");
    make_nas(&pair);
    let beta = pair.daemon(1);
    let _alpha = pair.daemon(0);
    wait_for("the first point", || pair.figure(0, EXPOSURE).is_some_and(|exposure| exposure < 4.0));
    beta.terminate().good();
    let away = pair.folder.path().join("unmounted");
    fs::rename(nas(&pair), &away).unwrap();
    let _beta = pair.daemon(1);
    let mut last = pair.figure(0, EXPOSURE).expect("it is known");
    for n in 0..8 {
        pair.change(n);
        std::thread::sleep(Duration::from_secs(1));
        let exposure = pair.figure(0, EXPOSURE).expect("what was there is there still, as far as is known");
        assert!(exposure >= last, "{exposure} after {last}");
        last = exposure;
    }
    let flow = flow(&pair, 0);
    assert_eq!(flow["state"], "critical", "{flow}");
    assert!(flow["problem"].as_str().expect("it is said").contains("not mounted"), "{flow}");
    fs::rename(&away, nas(&pair)).unwrap();
    wait_for("the flow to catch up", || pair.figure(0, EXPOSURE).is_some_and(|exposure| exposure < 6.0));
}

#[test]
fn one_vault_at_the_hub_is_enough_for_what_stays_there_and_for_what_goes_on() {
    let pair = with_hub("to = [\"twin\", \"nas\"]");
    make_nas(&pair);
    let beta = pair.daemon(1);
    let reports: Value = serde_json::from_slice(&pair.run(0, ["now", "--json"]).stdout).unwrap();
    let targets = reports[0]["targets"].as_array().unwrap();
    let point = |n: usize| targets[n]["outcome"].to_string();
    assert_eq!(targets.len(), 2, "{reports}");
    assert_eq!(point(0), point(1), "it was captured once");
    assert_eq!(packs(&pair.held()), packs(&nas(&pair)), "and copied as it is");
    // The hub tells what it has proven.
    pair.run(1, ["verify", "data", "--from", "nas", "--level", "restore"]).good();
    pair.change(1);
    pair.run(0, ["now"]).good();
    let status: Value = serde_json::from_slice(&pair.run(0, ["status", "--json"]).stdout).unwrap();
    let flows = status["flows"].as_array().unwrap();
    let to_nas = flows.iter().find(|flow| flow["target"] == "nas").unwrap();
    assert!(to_nas["last_proof"].is_string(), "{status}");
    assert!(pair.run(0, ["doctor"]).text().contains("flow data.files to nas\n  ok "));
    assert!(pair.run(1, ["doctor"]).text().contains("points of 1 of 1 sources that go to it"));
    let removed = pair.run(0, ["node", "remove", "beta", "--dry-run"]);
    assert!(removed.stderr.contains("beta alone writes to nas"), "{removed:?}");
    drop(beta);
}

#[test]
fn what_two_nodes_have_alike_is_once_in_the_vault_of_the_hub_and_each_is_proven_and_pruned_there() {
    let mut pair = with_hub("to = [\"nas\"]\nkeep = { last = 2 }");
    let source = pair.source();
    pair.more_of_fleet.push_str(&format!(
        "[service.same]\nprimary = \"beta\"\nfiles = {{ path = \"{}\", watch = false }}\n",
        source.display()
    ));
    make_nas(&pair);
    let _beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let (_, of_one) = packs(&nas(&pair));
    pair.run(1, ["now", "same"]).good();
    let (_, of_both) = packs(&nas(&pair));
    assert!(of_both < of_one + of_one / 10, "{of_one} bytes for one, {of_both} for both");
    for n in 0..3 {
        pair.change(n);
        pair.run(0, ["now"]).good();
    }
    pair.run(1, ["vault", "prune", "nas"]).good();
    let points: Value =
        serde_json::from_slice(&pair.run(1, ["points", "data", "--from", "nas", "--json"]).stdout).unwrap();
    assert_eq!(points.as_array().map(Vec::len), Some(2), "{points}");
    // What was dropped there does not come back from what is held.
    pair.change(4);
    pair.run(0, ["now"]).good();
    let points: Value =
        serde_json::from_slice(&pair.run(1, ["points", "data", "--from", "nas", "--json"]).stdout).unwrap();
    assert_eq!(points.as_array().map(Vec::len), Some(3), "{points}");
    assert_same(&pair.source(), &pair.restore(1, "from nas", &["--from", "nas"]));
    assert!(pair.figure(1, "backstay_relayed_exposure_seconds{").is_some_and(|exposure| exposure < 60.0));
}

#[test]
fn a_node_that_joins_later_is_known_in_the_vault_of_the_hub() {
    let mut pair = Pair::apart();
    let (held, web) = (pair.folder.path().join("held for beta"), pair.folder.path().join("web"));
    fs::create_dir(&web).unwrap();
    fs::write(web.join("page"), "of beta").unwrap();
    pair.more_of_fleet = format!(
        "[vault.nas]\nkind = \"dir\"\npath = \"{}\"\nvia = \"alpha\"\n\
         [service.web]\nprimary = \"beta\"\nfiles = {{ path = \"{}\", watch = false }}\n",
        nas(&pair).display(),
        web.display()
    );
    pair.more_of_nodes[0] = format!("[hold.beta]\nvault = {{ path = \"{}\" }}\n", held.display());
    pair.policy = "to = [\"nas\"]";
    pair.run(0, ["init", "alpha", "--recovery", pair.recovery().to_str().unwrap()]).good();
    pair.run(0, ["vault", "init", "nas", "--recovery", pair.recovery().to_str().unwrap()]).good();
    pair.invite_beta();
    let _alpha = pair.daemon(0);
    pair.run(1, ["now", "web"]).good();
    let destination = pair.folder.path().join("restored");
    pair.run(0, ["restore", "web", "--from", "nas", "--to", destination.to_str().unwrap()]).good();
    assert_same(&web, &destination);
}
