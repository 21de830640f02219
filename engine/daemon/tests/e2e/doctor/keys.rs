//! Keys and the rights on what has them.

use std::fs;
use std::path::Path;

use super::{Told, captured, doctor, examine, mode, paste, set_mode};
use crate::outcome::run;

#[test]
fn rights_that_are_too_wide_are_closed_by_the_printed_lines() {
    let mut sandbox = captured();
    let secret = sandbox.path("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    sandbox.more = format!(
        "command.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{}\" }} }}\n[allow]\ncommands = true\n",
        secret.display()
    );
    let config = sandbox.write_config();
    for (path, mode) in [(&secret, 0o644), (&sandbox.vault, 0o777), (&sandbox.state, 0o755), (&config, 0o666)]
    {
        set_mode(path, mode);
    }
    let outcome = run(doctor(&sandbox));
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
    let told = Told::of(&outcome);
    let of = |path: &Path| path.display().to_string();
    let fixes = [
        (("secrets", "rights"), format!("chmod 600 {}", of(&secret))),
        (("vault local", "rights"), format!("chmod go-w {}", of(&sandbox.vault))),
        (("state", "rights"), format!("chmod 700 {}", of(&sandbox.state))),
        (("configuration", "rights"), format!("chmod go-w {}", of(&config))),
    ];
    for ((subject, check), line) in &fixes {
        assert_eq!(told.fix(subject, check, "problem", ""), *line);
        paste(line);
    }
    let mended = examine(&sandbox);
    for ((subject, check), _) in &fixes {
        mended.assert_level(subject, check, "ok");
    }
    assert_eq!(
        [mode(&secret), mode(&sandbox.vault), mode(&sandbox.state), mode(&config)],
        [0o600, 0o755, 0o700, 0o644]
    );
    fs::remove_file(&secret).unwrap();
    let line = examine(&sandbox).fix("secrets", "there", "problem", "PW of data.dump");
    assert_eq!(line, format!("[ -e {0} ] || install -m 600 /dev/null {0}", of(&secret)));
    // A link that leads nowhere is something, and stays.
    std::os::unix::fs::symlink("nowhere", &secret).unwrap();
    let advice = examine(&sandbox).fix("secrets", "there", "problem", "cannot be looked at");
    assert!(advice.contains("namei -l"), "{advice}");
}

#[test]
fn a_vault_that_only_this_node_opens_gets_a_recovery_key_by_the_printed_line() {
    let sandbox = captured();
    let line = examine(&sandbox).fix("vault local", "recovery", "warning", "when this host is lost");
    paste(&line);
    let told = examine(&sandbox);
    told.assert_level("vault local", "recovery", "ok");
    // The key lies on this host now, and is to be carried away.
    let key = sandbox.path("backstay-recovery.key");
    assert!(key.exists());
    told.fix("secrets", "recovery_key", "note", "shred -u");
    set_mode(&key, 0o644);
    paste(&examine(&sandbox).fix("secrets", "recovery_key", "problem", "other users can read"));
    examine(&sandbox).assert_level("secrets", "recovery_key", "note");
}

#[test]
fn a_node_that_has_lost_its_keys_goes_on_by_the_line_in_the_advice() {
    let sandbox = captured();
    let key = sandbox.path("backstay-recovery.key");
    sandbox.run(["vault", "init", "local", "--recovery", key.to_str().unwrap()]).good();
    let identity = sandbox.state.join("identity");
    fs::write(identity.join("age.key"), "junk").unwrap();
    let told = examine(&sandbox);
    told.fix("state", "keys", "problem", "is damaged");
    told.without_fix("vault local", "opens", "note", "was not looked into");
    fs::remove_dir_all(&identity).unwrap();
    let told = examine(&sandbox);
    told.fix("state", "keys", "problem", "identity and keys are gone");
    let advice = told.fix("vault local", "opens", "problem", "does not open with this node's keys");
    paste(advice.split('`').nth(1).unwrap());
    let told = examine(&sandbox);
    for (subject, check) in [("state", "keys"), ("vault local", "opens"), ("vault local", "custodian")] {
        told.assert_level(subject, check, "ok");
    }
    sandbox.capture();
}
