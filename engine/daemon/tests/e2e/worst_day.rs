//! The worst day: nothing is left but a vault and a page of paper with its passphrase. What a daemon has captured comes back by the
//! commands that are printed on the page, typed as they stand there.

mod by_the_points;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use backstay_testkit::bare::{Bare, PASSPHRASE, commands};
use backstay_testkit::random::Random;
use backstay_vault::keys::AgeIdentity;
use serde_json::Value;

use crate::daemon::{Daemon, wait_for};
use crate::judge::{Picture, assert_same};
use crate::mistakes::{NOBODY, as_nobody};
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, text};
use crate::tree;

/// A node with two trees and the output of a program, and a vault with a recovery key.
struct Node {
    sandbox: Sandbox,
}

impl Node {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        tree::make_plain(&sandbox.source, 60, 30_000, &mut Random::new(71));
        let web = sandbox.path("web");
        fs::create_dir(&web).unwrap();
        fs::write(web.join("index.html"), "<p>hello</p>").unwrap();
        sandbox.more = format!(
            "[service.web]\nfiles = {{ path = \"{}\", watch = false }}\n\
             [service.db]\ncommand.dump = {{ run = [\"echo\", \"all rows\"] }}\n[allow]\ncommands = true\n",
            web.display()
        );
        let node = Self { sandbox };
        let key = node.key();
        node.sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
        fs::write(node.passphrase(), format!("{PASSPHRASE}\n")).unwrap();
        node
    }

    fn key(&self) -> PathBuf {
        self.sandbox.path("recovery.key")
    }

    fn passphrase(&self) -> PathBuf {
        self.sandbox.path("passphrase")
    }

    fn web(&self) -> PathBuf {
        self.sandbox.path("web")
    }

    /// The page, as it is printed.
    #[track_caller]
    fn kit(&self) -> String {
        let (key, passphrase) = (self.key(), self.passphrase());
        let arguments =
            ["kit", "--key-file", key.to_str().unwrap(), "--passphrase-file", passphrase.to_str().unwrap()];
        self.sandbox.run(arguments).good().text()
    }

    /// Both trees and the text of the configuration; all but the vault is gone then.
    fn lose(&self) -> (Picture, Picture, String) {
        let config = self.sandbox.path("backstay.toml");
        let was = (
            Picture::of(&self.sandbox.source),
            Picture::of(&self.web()),
            fs::read_to_string(&config).unwrap(),
        );
        for folder in [&self.sandbox.source, &self.web(), &self.sandbox.state] {
            fs::remove_dir_all(folder).unwrap();
        }
        for file in [&config, &self.key(), &self.passphrase()] {
            fs::remove_file(file).unwrap();
        }
        was
    }
}

/// A machine with nothing but the program and what was typed from paper.
fn bare_with(page: &str) -> Bare {
    Bare::with(env!("CARGO_BIN_EXE_backstay"), page)
}

/// Has a shell there read what was typed.
fn types(bare: &Bare, line: &str) -> Outcome {
    run(bare.typed(line))
}

#[test]
fn everything_comes_back_from_the_printed_page_alone() {
    let mut node = Node::new();
    let daemon = Daemon::start(&mut node.sandbox);
    let is_captured = |source: &str| daemon.flow(source, "local")["state"] == "ok";
    for source in ["data.files", "web.files", "db.dump", "_fleet.alpha"] {
        wait_for(source, || is_captured(source));
    }
    let page = node.kit();
    daemon.running.terminate().good();
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(page.contains("fleet test") && page.contains("on alpha"), "{page}");
    let (data, web, config) = node.lose();

    let bare = bare_with(&page);
    let printed = commands(&page);
    let [look, own, below] = &printed[..] else { panic!("{printed:?}\n{page}") };
    let seen = types(&bare, look).good().text();
    for expected in ["data.files", "web.files", "db.dump", "backstay.toml would be written"] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    assert!(!node.sandbox.source.exists() && seen.contains("nothing was written"), "{seen}");
    assert!(!node.sandbox.path("backstay.toml").exists());

    // The output of a program has no path of its own.
    let partly = types(&bare, own).refused(3, &["db.dump", "not restored"]);
    assert!(partly.text().contains("--to DIR"), "{partly:?}");
    data.assert_same(&Picture::of(&node.sandbox.source));
    web.assert_same(&Picture::of(&node.web()));
    assert_eq!(fs::read_to_string(node.sandbox.path("backstay.toml")).unwrap(), config);

    let all = bare.path("all");
    let below = below.replace("/srv/restored", all.to_str().unwrap());
    types(&bare, &below).good();
    data.assert_same(&Picture::of(&all.join("data.files")));
    web.assert_same(&Picture::of(&all.join("web.files")));
    assert_eq!(fs::read_to_string(all.join("db.dump")).unwrap(), "all rows\n");
    assert_eq!(fs::read_to_string(all.join("_fleet.alpha/backstay.toml")).unwrap(), config);

    // And the machine goes on where the lost one ended, by the commands that it has printed.
    let left = partly.text();
    let left: Vec<&str> = left.lines().filter_map(|line| line.strip_prefix("    backstay ")).collect();
    let [open, take, doctor, now] = &left[..] else { panic!("{partly:?}") };
    assert!(doctor.ends_with(" doctor") && now.ends_with(" now"), "{left:?}");
    let key = bare.path("recovery.key");
    let typed = |line: &str| {
        let line = line.replace("/root/backstay-recovery.key", key.to_str().unwrap());
        types(&bare, &format!("backstay {line}"))
    };
    typed(&format!("{open} --passphrase-file passphrase.txt")).good();
    typed(take).good();
    fs::write(node.sandbox.source.join("new"), "after the worst day").unwrap();
    let reports = node.sandbox.run(["now", "--json"]).good().json();
    assert_eq!(reports.as_array().map(Vec::len), Some(4), "{reports:#}");
    assert_same(&node.sandbox.source, &node.sandbox.restore("after"));
    node.sandbox.check_vault();
}

#[test]
fn a_line_that_was_typed_wrong_is_named_and_so_is_what_else_keeps_a_key_from_opening() {
    let node = Node::new();
    node.sandbox.run(["now"]).good();
    let page = node.kit();
    let [look, ..] = &commands(&page)[..] else { panic!("{page}") };
    let begin = page.lines().position(|line| line.starts_with("-----BEGIN AGE")).unwrap();
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let typed = &mut lines[begin + 4];
    let other = if typed.starts_with('a') { "b" } else { "a" };
    typed.replace_range(0..1, other);
    let bare = bare_with(&lines.join("\n"));
    types(&bare, look).refused(1, &["kit.txt", "line 4 of the key was typed wrong"]);

    // The key alone, as `age -d` takes it, does as well; and without a terminal nobody is asked.
    let end = page.lines().position(|line| line.starts_with("-----END AGE")).unwrap();
    let key: Vec<&str> = page.lines().skip(begin).take(end - begin + 1).collect();
    let bare = bare_with(&(key.join("\n") + "\n"));
    types(&bare, look).good();
    let unasked = look.replace(" --passphrase-file passphrase.txt", "");
    let unasked = if unasked == *look { panic!("{look}") } else { unasked };
    types(&bare, &unasked).refused(2, &["no terminal", "--passphrase-file"]);
    // Nobody is asked for it in vain.
    let vault = node.sandbox.vault.to_str().unwrap();
    let nowhere = unasked.replace(vault, "/nonexistent/vault");
    types(&bare, &nowhere).refused(1, &["there is no vault in /nonexistent/vault", "mounted"]);
    fs::write(bare.path("passphrase.txt"), "another one\n").unwrap();
    types(&bare, look).refused(1, &["the passphrase does not open the key"]);
    fs::write(bare.path("kit.txt"), "nothing of a key\n").unwrap();
    types(&bare, look).refused(1, &["kit.txt", "not a recovery key"]);
}

#[test]
fn no_page_is_printed_with_a_key_that_would_not_be_enough() {
    let mut node = Node::new();
    let (recovery, passphrase) = (node.key(), node.passphrase());
    let kit = |sandbox: &Sandbox, key: &Path| {
        let (key, passphrase) = (key.to_str().unwrap(), passphrase.to_str().unwrap());
        sandbox.run(["kit", "--key-file", key, "--passphrase-file", passphrase])
    };
    let refused = |outcome: Outcome, why: &[&str]| {
        let outcome = outcome.refused(1, &[&["no page is printed"], why].concat());
        assert_eq!(outcome.text(), "", "nothing that could be taken for a page");
    };
    // Whoever has these opens the vault, and cannot have everything back, or not go on with it.
    for (holder, role, why) in [
        ("anna", "full", ["the admin's key", "backstay vault init local --recovery"]),
        ("otto", "custodian", ["cannot read what was captured", "backstay vault init local --recovery"]),
    ] {
        let identity = AgeIdentity::generate();
        let key = node.sandbox.path(format!("{holder}.key"));
        fs::write(&key, identity.to_file()).unwrap();
        let recipient = identity.recipient();
        let add = ["vault", "keys", "add", "local", holder, "--recipient", &recipient, "--role", role];
        node.sandbox.run(add).good();
        refused(kit(&node.sandbox, &key), &why);
        node.sandbox.run(["vault", "keys", "remove", "local", holder]).good();
    }

    // What is wrapped to it is of before a rotation, as another node's at the same time leaves it.
    let wrapped = node.sandbox.vault.join("keys/recovery.age");
    let before = fs::read(&wrapped).unwrap();
    let key = recovery.to_str().unwrap();
    node.sandbox.run(["vault", "keys", "rotate", "--recovery", key]).good();
    node.sandbox.run(["now"]).good();
    fs::write(&wrapped, before).unwrap();
    refused(kit(&node.sandbox, &recovery), &["lacks keys", "backstay vault init local --recovery"]);
    let init = ["vault", "init", "local", "--recovery", key];
    node.sandbox.run(init).good();
    kit(&node.sandbox, &recovery).good();

    // One vault for which it is not enough is too much; of one that is not there, that is said.
    let usb = node.sandbox.path("usb");
    node.sandbox.more += &format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    let printed = kit(&node.sandbox, &recovery).refused(3, &["whether its key opens", "usb"]);
    assert!(printed.text().contains("NOT TRIED"), "{printed:?}");
    let init = ["vault", "init", "usb", "--recovery", key];
    node.sandbox.run(init).good();
    fs::remove_file(usb.join("keys/recovery.age")).unwrap();
    refused(kit(&node.sandbox, &recovery), &["opens no keys in", "backstay vault init usb --recovery"]);
    node.sandbox.run(init).good();
    kit(&node.sandbox, &recovery).good();
}

/// The arguments of `restore --all` from a vault.
fn restore_all<'a>(vault: &'a Path, key: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let from = ["restore", "--all", "--from", vault.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    from.into_iter().chain(more.iter().copied()).collect()
}

/// The outcome of each source, as `restore --all --json` tells it.
fn outcomes(outcome: &Outcome) -> Vec<(String, String)> {
    let shown = outcome.json();
    let sources = shown["sources"].as_array().unwrap().iter();
    sources.map(|source| (text(&source["source"]), text(&source["outcome"]))).collect()
}

fn told(outcomes: &[(String, String)]) -> Vec<(&str, &str)> {
    outcomes.iter().map(|(source, outcome)| (source.as_str(), outcome.as_str())).collect()
}

#[test]
fn what_is_in_the_way_is_named_and_the_same_command_goes_on_when_it_is_gone() {
    let mut node = Node::new();
    node.sandbox.more = node.sandbox.more.split("[service.db]").next().unwrap().to_owned();
    node.sandbox.run(["now"]).good();
    let config = node.sandbox.write_config();
    let was = (Picture::of(&node.sandbox.source), Picture::of(&node.web()));
    fs::remove_dir_all(&node.sandbox.source).unwrap();
    fs::remove_dir_all(&node.sandbox.state).unwrap();
    let key = node.key();
    // Without the configuration in the way: it is the same.
    let arguments = restore_all(&node.sandbox.vault, &key, &["--config", config.to_str().unwrap(), "--json"]);
    let mut bare = Command::new(env!("CARGO_BIN_EXE_backstay"));
    bare.args(&arguments);
    let first = run(bare).ended_with(3);
    assert!(first.stderr.contains("web.files") && first.stderr.contains("not empty"), "{first:?}");
    assert_eq!(told(&outcomes(&first)), [("data.files", "restored"), ("web.files", "refused")]);
    assert_eq!(first.json()["configuration"]["files"][0]["outcome"], "was_there", "{first:?}");
    let left = |outcome: &Outcome| outcome.json()["next"].as_array().unwrap().len();
    assert_eq!(left(&first), 0, "nothing is captured before the trees are there");
    was.0.assert_same(&Picture::of(&node.sandbox.source));
    was.1.assert_same(&Picture::of(&node.web()));

    fs::rename(node.web(), node.sandbox.path("moved away")).unwrap();
    let again = |code| {
        let mut bare = Command::new(env!("CARGO_BIN_EXE_backstay"));
        bare.args(&arguments);
        run(bare).ended_with(code)
    };
    let second = again(0);
    assert_eq!(told(&outcomes(&second)), [("data.files", "was_restored"), ("web.files", "restored")]);
    assert!(left(&second) > 2, "{second:?}");
    was.1.assert_same(&Picture::of(&node.web()));
    // All is done, and what is there is somebody's now.
    assert_eq!(told(&outcomes(&again(1))), [("data.files", "refused"), ("web.files", "refused")]);

    // Another configuration is there: it stays, and is named.
    fs::write(&config, "# another one\n").unwrap();
    let refused = again(1);
    assert_eq!(refused.json()["configuration"]["files"][0]["outcome"], "refused", "{refused:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "# another one\n");
}

#[test]
fn only_what_the_configuration_names_goes_to_its_place_and_what_the_vault_lacks_is_named() {
    let mut node = Node::new();
    node.sandbox.run(["now"]).good();
    // The service has another name since, the program is gone, and a tree was never captured.
    node.sandbox.more = format!(
        "[service.site]\nfiles = {{ path = \"{}\", watch = false }}\n\
         [service.late]\nfiles = {{ path = \"/srv/late\", watch = false }}\n",
        node.web().display()
    );
    fs::write(node.web().join("index.html"), "<p>newer</p>").unwrap();
    node.sandbox.run(["now", "data", "site", "_fleet"]).good();
    let config = node.sandbox.path("backstay.toml");
    let key = node.key();
    for folder in [&node.sandbox.source, &node.web(), &node.sandbox.state] {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::remove_file(&config).unwrap();
    let arguments = restore_all(&node.sandbox.vault, &key, &["--config", config.to_str().unwrap(), "--json"]);
    let mut bare = Command::new(env!("CARGO_BIN_EXE_backstay"));
    bare.args(&arguments);
    let partly = run(bare).ended_with(3);
    let mut outcomes = outcomes(&partly);
    outcomes.sort();
    assert_eq!(
        told(&outcomes),
        [
            ("data.files", "restored"),
            ("db.dump", "not_configured"),
            ("site.files", "restored"),
            ("web.files", "not_configured")
        ]
    );
    assert_eq!(fs::read_to_string(node.web().join("index.html")).unwrap(), "<p>newer</p>");
    let missing = &partly.json()["missing"];
    assert_eq!(missing.as_array().map(Vec::len), Some(1), "{missing}");
    let missing = text(&missing[0]);
    assert!(missing.contains("late.files") && missing.ends_with("local"), "{missing}");
}

#[test]
fn what_an_ordinary_user_cannot_set_is_told_and_the_exit_code_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: only root can become another user");
        return;
    }
    let node = Node::new();
    let source = &node.sandbox.source;
    fs::write(source.join("of another"), "contents").unwrap();
    chown(source.join("of another"), Some(1234), Some(1234)).unwrap();
    // Of whoever restores it.
    let all_of = |folder: &Path| {
        let mut chown = Command::new("chown");
        chown.arg("--recursive").arg(NOBODY.to_string()).arg(folder);
        run(chown).good();
    };
    node.sandbox.run(["now"]).good();
    let (all, key) = (node.sandbox.path("all"), node.key());
    fs::create_dir(&all).unwrap();
    [&node.sandbox.vault, &key, &all].iter().for_each(|path| all_of(path));
    let restored = || {
        let to = ["--to", all.to_str().unwrap(), "--json"];
        run(as_nobody(&node.sandbox, restore_all(&node.sandbox.vault, &key, &to))).ended_with(3)
    };
    // What is told is told again by the next run, which does nothing.
    for first in [true, false] {
        let restored = restored();
        assert!(
            restored.stderr.contains("not restored, or not whole: ")
                && restored.stderr.contains("data.files")
        );
        let shown = restored.json();
        let data =
            shown["sources"].as_array().unwrap().iter().find(|one| one["source"] == "data.files").unwrap();
        assert_eq!(data["outcome"], "incomplete", "{shown:#}");
        let problem = text(&data["problem"]);
        assert!(problem.contains("things are not as they were, the first: "), "{problem}");
        assert!(problem.contains("owner"), "{problem}");
        let dump =
            shown["sources"].as_array().unwrap().iter().find(|one| one["source"] == "db.dump").unwrap();
        assert_eq!(dump["outcome"], if first { "restored" } else { "was_restored" }, "{shown:#}");
    }
    assert_eq!(fs::read_to_string(all.join("data.files/of another")).unwrap(), "contents");
    assert_eq!(fs::metadata(all.join("data.files/of another")).unwrap().uid(), NOBODY);

    // Where nothing may be written, nothing is said to be restored.
    let to_its_place = restore_all(&node.sandbox.vault, &key, &["--json"]);
    fs::remove_dir_all(source).unwrap();
    fs::remove_dir_all(node.web()).unwrap();
    let nowhere = run(as_nobody(&node.sandbox, to_its_place)).ended_with(1);
    assert!(nowhere.stderr.contains("not restored, or not whole: "), "{nowhere:?}");
    for (source, outcome) in outcomes(&nowhere) {
        assert!(["failed", "needs_to"].contains(&outcome.as_str()), "{source}: {outcome}");
    }
}

#[test]
fn a_restore_of_everything_that_was_killed_is_continued_by_the_same_command() {
    let node = Node::new();
    tree::make_plain(&node.sandbox.source.join("more"), 300, 200_000, &mut Random::new(72));
    node.sandbox.run(["now"]).good();
    let was = Picture::of(&node.sandbox.source);
    let all = node.sandbox.path("all");
    let key = node.key();
    let arguments = restore_all(&node.sandbox.vault, &key, &["--to", all.to_str().unwrap()]);
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(&arguments);
        command
    };
    // Something of the large tree is there, and not all.
    crate::crash::kill_when(command(), || all.join("data.files/more").is_dir());
    run(command()).good();
    was.assert_same(&Picture::of(&all.join("data.files")));
    assert!(all.join("web.files/index.html").exists() && all.join("db.dump").exists());
    let left = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(
        left,
        ["_fleet.alpha", "data.files", "db.dump", "web.files"],
        "nothing of the restore's own stays"
    );
}

#[test]
fn a_vault_of_before_restores_below_a_directory_and_mistakes_are_told() {
    let node = Node::new();
    // What is named alone leaves the configuration out, as versions did that had no such source.
    node.sandbox.run(["now", "data", "web"]).good();
    let all = node.sandbox.path("all");
    let key = node.key();
    let from = |vault: &Path, key: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(restore_all(vault, key, more));
        run(command)
    };
    let (vault, to) = (&node.sandbox.vault, ["--to", all.to_str().unwrap()]);
    from(vault, &key, &to).good();
    assert_same(&node.sandbox.source, &all.join("data.files"));
    let config = node.sandbox.path("etc");
    let without = from(vault, &key, &["--config", config.to_str().unwrap()]);
    without.refused(1, &["the configuration was not restored", "there is none in this vault", "data.files"]);
    assert!(!config.exists());

    from(vault, &key, &["--node", "gamma", "--dry-run"]).refused(2, &["nothing of node gamma", "alpha"]);
    from(&all, &key, &["--dry-run"]).refused(1, &["there is no vault in"]);
    from(vault, &node.sandbox.path("no key"), &["--dry-run"]).refused(2, &["there is no key file"]);
    let other = node.sandbox.path("other.key");
    fs::write(&other, AgeIdentity::generate().to_file()).unwrap();
    from(vault, &other, &["--dry-run"]).refused(1, &["opens no keys in"]);
    from(Path::new("vault"), &key, &[]).refused(2, &["is no address of a vault"]);
    let before = ["--dry-run", "--at", "2001-01-01T00:00:00Z"];
    from(vault, &key, &before).refused(1, &["no point", "its newest is of"]);
}

#[test]
fn the_configuration_is_captured_once_and_again_when_it_has_changed() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let points = |sandbox: &Sandbox| -> Vec<Value> {
        let shown = sandbox.run(["points", "_fleet", "--json"]).good().json();
        shown.as_array().unwrap().clone()
    };
    sandbox.run(["run", "--once"]).good();
    assert_eq!(points(&sandbox).len(), 1);
    assert_eq!(points(&sandbox)[0]["source"], "_fleet.alpha");
    let heads = |sandbox: &Sandbox| tree_of(&sandbox.vault.join("heads"));
    let before = heads(&sandbox);
    let due = sandbox.run(["run", "--once"]).good();
    assert!(!due.text().contains("_fleet"), "nothing of it is due: {due:?}");
    let said = sandbox.run(["now", "_fleet"]).good();
    assert!(said.text().contains("unchanged"), "{said:?}");
    assert_eq!(heads(&sandbox), before, "a vault that has it is not written to");

    // Nothing of the data changes, and the new objective is not due.
    sandbox.rpo = "30m";
    sandbox.run(["run", "--once"]).good();
    assert_eq!(points(&sandbox).len(), 2);
    let config = sandbox.write_config();
    let shown = sandbox.run(["cat", "_fleet", "backstay.toml"]).good().text();
    assert_eq!(shown, fs::read_to_string(config).unwrap());
    let status = sandbox.run(["status", "--json"]).good().json();
    let sources: Vec<&str> =
        status["flows"].as_array().unwrap().iter().map(|flow| flow["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["data.files", "_fleet.alpha"]);
    assert!(!sandbox.run(["status"]).good().text().contains("_fleet"), "people see it when it is wrong");
}

/// The names of all files below a directory.
fn tree_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(tree_of(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}
