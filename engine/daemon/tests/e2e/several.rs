//! Several vaults of one domain: copies, and what one knows of the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::judge::assert_same;
use crate::sandbox::Sandbox;

/// A node with the vaults `local`, to which it captures, and `usb`.
fn two_vaults(targets: &'static str) -> (Sandbox, PathBuf) {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = targets;
    (sandbox, usb)
}

fn change(sandbox: &Sandbox, n: u32) {
    fs::write(sandbox.source.join("file"), format!("contents {n}\n").repeat(50_000)).unwrap();
    fs::write(sandbox.source.join(format!("file {n}")), "more").unwrap();
}

#[test]
fn points_are_copied_to_a_new_vault_which_goes_on_by_itself() {
    let (mut sandbox, _) = two_vaults(r#"["local"]"#);
    sandbox.source_lines = ", keep = { last = 2 }";
    for n in 0..3 {
        change(&sandbox, n);
        sandbox.capture();
    }
    sandbox.run(["vault", "prune", "local"]).good();
    let points = sandbox.points();
    sandbox.run(["vault", "copy", "local", "local"]).refused(2, &["give two vaults"]);
    let mistyped = ["vault", "copy", "local", "usb", "--source", "dat"];
    sandbox.run(mistyped).refused(1, &["no points of a source dat", "nothing was copied"]);
    sandbox.run(["vault", "copy", "local", "ubs"]).refused(2, &["no vault \"ubs\"", "usb"]);
    let shown = sandbox.run(["vault", "copy", "local", "usb", "--json"]).good().json();
    assert_eq!(
        (&shown["points"], &shown["already"]),
        (&3.into(), &0.into()),
        "and the configuration: {shown:#}"
    );
    let shown = sandbox.run(["vault", "copy", "local", "usb", "--source", "data", "--json"]).good().json();
    assert_eq!((&shown["points"], &shown["already"]), (&0.into(), &2.into()), "{shown:#}");
    sandbox.run(["vault", "check", "usb", "--read-data", "1/1"]).good();
    let older = ["--from", "usb", "--point", &points[0]];
    let restored = sandbox.restore_with("older", &older);
    assert!(!restored.join("file 2").exists());
    assert_same(&sandbox.source, &sandbox.restore_with("newest", &["--from", "usb"]));

    sandbox.targets = r#"["local", "usb"]"#;
    change(&sandbox, 3);
    let both = sandbox.run(["now", "--json"]).good().json();
    assert_eq!(both[0]["targets"].as_array().unwrap().len(), 2);
    sandbox.run(["vault", "prune", "usb"]).good();
    sandbox.run(["vault", "check", "usb"]).good();
    assert_same(&sandbox.source, &sandbox.restore_with("after", &["--from", "usb"]));
}

#[test]
fn a_store_that_serves_an_older_state_is_named() {
    let (sandbox, usb) = two_vaults(r#"["local", "usb"]"#);
    for n in 0..2 {
        change(&sandbox, n);
        sandbox.capture();
    }
    let last_month = sandbox.path("last month");
    copy_tree(&usb, &last_month);
    for n in 2..5 {
        change(&sandbox, n);
        sandbox.capture();
    }
    sandbox.run(["vault", "check", "usb", "--against", "local"]).good();
    fs::remove_dir_all(&usb).unwrap();
    fs::rename(&last_month, &usb).unwrap();
    // By itself it is whole.
    sandbox.run(["vault", "check", "usb"]).good();
    sandbox.run(["vault", "check", "usb", "--against", "usb"]).refused(2, &["another vault"]);
    let named = sandbox.run(["vault", "check", "usb", "--against", "local"]).ended_with(1);
    assert!(named.text().contains("data.files") && named.text().contains("older state"), "{}", named.text());
    change(&sandbox, 5);
    let captured = sandbox.run(["now", "--json"]).good().json();
    let warnings = captured[0]["warnings"].to_string();
    assert!(warnings.contains("older state"), "{captured:#}");
    // It is captured to on what it has.
    sandbox.run(["vault", "check", "usb"]).good();
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--from", "usb"]));
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
