//! Where the configuration that a vault has of a node is not the one by which its trees would be brought back: each goes to where
//! its newest point says.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Node, outcomes, restore_all, told};
use crate::daemon::Daemon;
use crate::damage::packs;
use crate::judge::Picture;
use crate::outcome::{Outcome, run};

/// `restore --all` to where it was, with the configuration to this place.
fn to_its_place(node: &Node, config: &Path, more: &[&str]) -> Outcome {
    let key = node.key();
    let place = ["--config", config.to_str().unwrap(), "--json"];
    let mut bare = Command::new(env!("CARGO_BIN_EXE_backstay"));
    bare.args(restore_all(&node.sandbox.vault, &key, &[&place[..], more].concat()));
    run(bare)
}

/// A node that has captured everything, without the output of a program.
fn node_of_trees() -> Node {
    let mut node = Node::new();
    node.sandbox.more = node.sandbox.more.split("[service.db]").next().unwrap().to_owned();
    node.sandbox.run(["now"]).good();
    node
}

/// Loses the trees, and all but the vault and the key.
fn lose_trees(node: &Node) -> (Picture, Picture) {
    let was = (Picture::of(&node.sandbox.source), Picture::of(&node.web()));
    for folder in [&node.sandbox.source, &node.web(), &node.sandbox.state] {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::remove_file(node.sandbox.path("backstay.toml")).unwrap();
    was
}

/// Both trees are where they were, and it was told why that is all that is known.
#[track_caller]
fn assert_by_the_points(node: &Node, restored: &Outcome, was: &(Picture, Picture), why: &[&str]) {
    assert_eq!(told(&outcomes(restored)), [("data.files", "restored"), ("web.files", "restored")]);
    was.0.assert_same(&Picture::of(&node.sandbox.source));
    was.1.assert_same(&Picture::of(&node.web()));
    let unknown = restored.json()["unknown"].to_string();
    for fragment in why.iter().chain(&["the path that its newest point has noted"]) {
        assert!(unknown.contains(fragment) && restored.stderr.contains(fragment), "{fragment}: {restored:?}");
    }
}

#[test]
fn what_a_node_had_before_it_was_renamed_is_not_taken_for_its_configuration() {
    let mut node = node_of_trees();
    // Its key is the one that the vault knows, under the old name: its configuration is not taken under the new one.
    node.sandbox.node_name = "beta";
    fs::write(node.web().join("index.html"), "<p>renamed</p>").unwrap();
    node.sandbox.run(["now", "data", "web"]).good();
    node.sandbox.run(["now", "_fleet"]).ended_with(1);
    let was = lose_trees(&node);
    let config = node.sandbox.path("etc/backstay.toml");
    to_its_place(&node, &config, &["--node", "beta"])
        .refused(2, &["nothing of node beta", "alpha (2 sources and its configuration", "give --node alpha"]);
    let restored = to_its_place(&node, &config, &[]).ended_with(3);
    let why = ["_fleet.alpha is of", "calls itself beta", "renamed", "--to DIR"];
    assert_by_the_points(&node, &restored, &was, &why);
    assert!(!config.exists(), "it is of before");
    assert_eq!(restored.json()["configuration"], Value::Null);
}

#[test]
fn what_a_node_of_another_name_and_key_has_kept_is_not_taken_for_that_of_its_successor() {
    let mut node = node_of_trees();
    let key = node.key();
    node.sandbox.node_name = "beta";
    node.sandbox.state = node.sandbox.path("state of beta");
    let take = ["vault", "custodian", "take", "local", "--key-file", key.to_str().unwrap()];
    node.sandbox.run(take).good();
    fs::write(node.sandbox.source.join("new"), "of beta").unwrap();
    fs::write(node.web().join("index.html"), "<p>of beta</p>").unwrap();
    node.sandbox.run(["now", "data", "web"]).good();
    let config = node.sandbox.path("etc/backstay.toml");
    let whose =
        ["sources of several nodes", "alpha (its configuration alone", "beta (2 sources, no configuration"];
    to_its_place(&node, &config, &[]).refused(2, &whose);
    to_its_place(&node, &config, &["--node", "beta", "--dry-run"]).ended_with(3);
    let was = lose_trees(&node);
    let restored = to_its_place(&node, &config, &["--node", "beta"]).ended_with(3);
    let why = ["there is none of node beta in this vault, only _fleet.alpha of", "--to DIR"];
    assert_by_the_points(&node, &restored, &was, &why);
    assert!(!config.exists(), "it is alpha's");
}

#[test]
fn a_configuration_that_cannot_be_used_has_the_trees_go_to_where_their_points_say() {
    let mut node = node_of_trees();
    let was = (Picture::of(&node.sandbox.source), Picture::of(&node.web()));
    // What the daemon keeps is on the disk, not what it was started with.
    let daemon = Daemon::start(&mut node.sandbox);
    let used = node.sandbox.write_config();
    let copy = node.sandbox.path("copy.toml");
    fs::copy(&used, &copy).unwrap();
    let broken = "[fleet]\nname = \"test\"\n";
    fs::write(&used, broken).unwrap();
    let mut now = Command::new(env!("CARGO_BIN_EXE_backstay"));
    now.arg("--config").arg(&copy).args(["now", "_fleet"]);
    run(now).good();
    daemon.running.terminate().good();
    lose_trees(&node);
    let config = node.sandbox.path("etc/backstay.toml");
    let restored = to_its_place(&node, &config, &[]).ended_with(3);
    assert_by_the_points(
        &node,
        &restored,
        &was,
        &["_fleet.alpha", "cannot be used", "the table [node] is missing"],
    );
    // Whoever can read it mends it.
    assert_eq!(fs::read_to_string(&config).unwrap(), broken);
}

#[test]
fn a_configuration_that_is_damaged_has_the_trees_go_to_where_their_points_say() {
    let mut node = Node::new();
    node.sandbox.more = node.sandbox.more.split("[service.db]").next().unwrap().to_owned();
    node.sandbox.run(["now", "data", "web"]).good();
    let before = packs(&node.sandbox.vault);
    node.sandbox.run(["now", "_fleet"]).good();
    for pack in packs(&node.sandbox.vault).iter().filter(|pack| !before.contains(pack)) {
        fs::remove_file(pack).unwrap();
    }
    let was = lose_trees(&node);
    let config = node.sandbox.path("etc/backstay.toml");
    let restored = to_its_place(&node, &config, &[]).ended_with(3);
    assert_by_the_points(&node, &restored, &was, &["the configuration was not restored", "cannot be read"]);
    assert!(!config.exists());
}
