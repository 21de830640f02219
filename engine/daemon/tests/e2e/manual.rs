//! Completions and man pages, tried with the shells and the formatter that read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::outcome::{Outcome, run};

/// The binary with a configuration that is not there: what is tried here needs none.
fn backstay(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["--config", "/nonexistent"]).args(arguments);
    run(command).good()
}

/// Whether the program is installed; a machine without it is told of.
pub(crate) fn is_installed(program: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", "command -v \"$1\"", "sh", program]);
    let found = run(look).code == Some(0);
    if !found {
        eprintln!("LEFT OUT: {program} is not installed");
    }
    found
}

/// Writes the script of a shell into a folder; where it is.
fn script(folder: &Path, shell: &str) -> String {
    let path = folder.join(shell);
    fs::write(&path, backstay(&["completions", shell]).stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn bash_completes_commands_options_and_values() {
    if !is_installed("bash") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path(), "bash");
    let completed = |words: &[&str]| {
        let last = words.len() - 1;
        let current = words[last];
        let before = words[last - 1];
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-c"]);
        bash.arg(
            "source \"$1\"; shift\n\
             registered=$(complete -p backstay); [[ $registered == *' -F _backstay '* ]] || exit 9\n\
             current=$1 before=$2; shift 2\n\
             COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n\
             _backstay backstay \"$current\" \"$before\"; printf '%s\\n' \"${COMPREPLY[@]}\"",
        );
        bash.args(["bash", &script, current, before]).args(words);
        run(bash).good().text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed(&["backstay", "res"]), ["restore"]);
    assert_eq!(completed(&["backstay", "vault", "pr"]), ["prune"]);
    assert_eq!(completed(&["backstay", "vault", "prune", "--dr"]), ["--dry-run"]);
    assert_eq!(completed(&["backstay", "completions", "z"]), ["zsh"]);
    assert!(completed(&["backstay", ""]).contains(&"completions".to_owned()));
}

#[test]
fn zsh_and_fish_read_their_scripts_and_fish_completes() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    for shell in ["zsh", "fish"] {
        let script = script(folder.path(), shell);
        if is_installed(shell) {
            let mut check = Command::new(shell);
            check.args(["-n", &script]).env("HOME", home);
            assert_eq!(run(check).good().stderr, "");
        }
    }
    if is_installed("fish") {
        let mut fish = Command::new("fish");
        let line = format!("source {home}/fish; complete -C 'backstay vault pr'");
        fish.args(["--no-config", "-c", &line]).env("HOME", home);
        let offered = run(fish).good().text();
        assert!(offered.lines().any(|line| line.starts_with("prune")), "{offered}");
    }
}

#[test]
fn every_man_page_is_formatted_without_a_warning_and_has_its_example() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man/man1");
    // The second time replaces what an earlier version has written.
    for _ in 0..2 {
        backstay(&["man", "--to", pages.to_str().unwrap()]);
    }
    let names: Vec<String> =
        fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    for known in ["backstay.1", "backstay-restore.1", "backstay-vault-prune.1", "backstay-vault-keys-add.1"] {
        assert!(names.iter().any(|name| name == known), "{names:?}");
    }
    if !is_installed("groff") {
        return;
    }
    for name in &names {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-ww", "-Kutf8", "-Tutf8", "-P-cbou"]).arg(pages.join(name));
        let formatted = run(groff).good();
        assert_eq!(formatted.stderr, "", "{name}");
        for heading in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS"] {
            assert!(formatted.text().contains(heading), "{name} has no {heading}");
        }
    }
}
