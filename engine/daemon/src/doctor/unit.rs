//! The systemd unit: whether it is installed, and whether its drop-ins allow what the configuration takes. Reads the unit's
//! files; judging them is pure. Asks systemd nothing: it may not run, and what is written is what it will do after a
//! `daemon-reload`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, ListenAddress, SecretRef, SourceKind, VaultKind};

use super::finding::Finding;
use super::limit::{LOOK_TIME, within};
use super::words::{Words, quote, user_name};
use crate::snapshot::subvolume_of;

const SUBJECT: &str = "unit";

/// Where units are looked for, the first found counts.
const FOLDERS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// Its name.
const NAME: &str = "backstay.service";

/// The folder of drop-ins that an operator writes.
const DROP_INS: &str = "/etc/systemd/system/backstay.service.d";

/// What the unit's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The file.
    pub file: PathBuf,
    /// Whether it starts with the system.
    pub is_enabled: bool,
    /// Keys and values, in their order, drop-ins last.
    settings: Vec<(String, String)>,
}

impl Unit {
    /// Reads the unit and its drop-ins below `root`, which is `/` but in tests.
    pub fn read(root: &Path) -> Option<Self> {
        let folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
        let file = folders.iter().map(|folder| folder.join(NAME)).find(|file| file.is_file())?;
        let mut settings = settings(&fs::read_to_string(&file).ok()?);
        let mut drop_ins: Vec<PathBuf> = Vec::new();
        for folder in &folders {
            let entries = fs::read_dir(folder.join(format!("{NAME}.d"))).into_iter().flatten().flatten();
            let is_drop_in = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
            // One of the same name in a folder before hides it.
            for path in entries.map(|entry| entry.path()).filter(is_drop_in) {
                if drop_ins.iter().all(|known| known.file_name() != path.file_name()) {
                    drop_ins.push(path);
                }
            }
        }
        drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        for drop_in in drop_ins {
            settings
                .extend(fs::read_to_string(drop_in).map(|text| self::settings(&text)).unwrap_or_default());
        }
        let wants = "etc/systemd/system/multi-user.target.wants";
        let is_enabled = fs::symlink_metadata(root.join(wants).join(NAME)).is_ok();
        Some(Self { file, is_enabled, settings })
    }

    /// The last value of a key.
    fn last(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(of, _)| of == key).map(|(_, value)| value.as_str())
    }

    /// The words of all values of a list; an empty value empties it.
    fn list(&self, key: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for (_, value) in self.settings.iter().filter(|(of, _)| of == key) {
            match value.is_empty() {
                true => words.clear(),
                false => words.extend(value.split_whitespace()),
            }
        }
        words
    }

    /// The configuration that it runs with.
    fn config(&self) -> Option<PathBuf> {
        let words: Vec<&str> = self.last("ExecStart")?.split_whitespace().collect();
        let option = words.iter().position(|word| *word == "--config");
        match option {
            Some(place) => words.get(place + 1).map(PathBuf::from),
            None => Some("/etc/backstay".into()),
        }
    }

    /// The program that it starts.
    fn program(&self) -> Option<&Path> {
        let first = self.last("ExecStart")?.split_whitespace().next()?;
        Some(Path::new(first.trim_start_matches(['-', '@', ':', '+', '!'])))
    }

    fn may_write(&self, path: &Path) -> bool {
        if self.last("ProtectSystem") != Some("strict") {
            return true;
        }
        let listed = self.list("ReadWritePaths").into_iter().map(|path| path.trim_start_matches(['-', '+']));
        let own = self.list("StateDirectory").into_iter().map(|name| format!("/var/lib/{name}"));
        let mut allowed = listed.map(str::to_owned).chain(own);
        allowed.any(|allowed| path.starts_with(allowed))
    }
}

fn settings(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begun) = line.strip_suffix('\\') {
            line = format!("{begun} {}", lines.next().unwrap_or_default());
        }
        if let Some((key, value)) = line.split_once('=') {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

/// Whether a unit of a user's own goes on when that one has logged out; `None` where there is none.
pub fn judge_of_user(words: &Words, root: &Path) -> Option<Finding> {
    let file = words.home.join(".config/systemd/user").join(NAME);
    let name = user_name(words.uid).filter(|_| words.uid != 0 && file.is_file())?;
    let what = format!("{} is the unit of the user {name}", file.display());
    Some(match root.join("var/lib/systemd/linger").join(&name).exists() {
        true => Finding::ok(SUBJECT, "linger", format!("{what}, and runs also when nobody is logged in")),
        false => Finding::problem(SUBJECT, "linger", what)
            .because("it is ended when that user logs out, and does not start with the system")
            .run(format!("loginctl enable-linger {name}")),
    })
}

/// Judges the unit by the configuration; `there` has the configured paths that are directories.
pub fn judge(unit: Option<&Unit>, config: &Config, there: &BTreeSet<PathBuf>, words: &Words) -> Vec<Finding> {
    let Some(unit) = unit else {
        return vec![
            Finding::note(SUBJECT, "installed", "the systemd unit is not installed")
                .because("without it nothing starts the daemon with the system, unless you have made something that does")
                .advise("`systemd/backstay.service` of the sources goes to /etc/systemd/system/: README, \"As a service\""),
        ];
    };
    let file = unit.file.display();
    match unit.config() {
        Some(other) if other != words.config => {
            let what =
                format!("{file} runs with {}, and not with {}", other.display(), words.config.display());
            return vec![
                Finding::note(SUBJECT, "configuration", what)
                    .because("what it allows is not compared to this configuration"),
            ];
        }
        _ => {}
    }
    let mut findings = vec![match unit.is_enabled {
        true => Finding::ok(SUBJECT, "installed", format!("{file} is there, and starts with the system")),
        false => Finding::problem(
            SUBJECT,
            "installed",
            format!("{file} is there, and does not start with the system"),
        )
        .because("after the next boot nothing is captured")
        .run(words.as_root("systemctl enable --now backstay")),
    }];
    findings.extend(program(unit, words));
    findings.push(writing(unit, config, there, words));
    findings.extend(network(unit, config, words));
    findings.extend(user(unit, config, words));
    findings.extend(snapshots(unit, config, words));
    findings.extend(credentials(unit, config, words));
    findings
}

/// A command that writes lines below `[Service]` of a drop-in and has systemd take it up.
fn drop_in(name: &str, lines: &[String], words: &Words) -> String {
    let lines: Vec<String> =
        lines.iter().map(|line| line.replace('%', "%%").replace('\'', r"'\''")).collect();
    // Appended: what an operator has put there stays.
    words.as_root(&format!(
        "mkdir -p {DROP_INS} && printf '[Service]\\n{}\\n' >> {DROP_INS}/{name}.conf && systemctl daemon-reload && systemctl restart backstay",
        lines.join("\\n")
    ))
}

fn program(unit: &Unit, words: &Words) -> Option<Finding> {
    let program = unit.program()?;
    if program.is_file() {
        return Some(Finding::ok(
            SUBJECT,
            "program",
            format!("it starts {}, which is there", program.display()),
        ));
    }
    let own = std::env::current_exe().unwrap_or_else(|_| "backstay".into());
    let what = format!("it starts {}, which is not there", program.display());
    let line = format!("install -m 755 {} {}", quote(&own), quote(program));
    Some(
        Finding::problem(SUBJECT, "program", what)
            .because("the daemon cannot start")
            .run(words.as_root(&line)),
    )
}

fn writing(unit: &Unit, config: &Config, there: &BTreeSet<PathBuf>, words: &Words) -> Finding {
    let vaults = config.vaults.values().filter_map(|vault| match &vault.kind {
        VaultKind::Dir(dir) => Some((format!("vault {}", vault.name), dir.path.as_path())),
        _ => None,
    });
    let own = [
        ("state".to_owned(), config.node.state.as_path()),
        ("scratch".to_owned(), config.node.scratch.as_path()),
    ];
    let needed: Vec<(String, &Path)> = vaults.chain(own).collect();
    let refused: Vec<&(String, &Path)> = needed.iter().filter(|(_, path)| !unit.may_write(path)).collect();
    if refused.is_empty() {
        return Finding::ok(SUBJECT, "writing", "it may write to all vaults, state and scratch");
    }
    let named: Vec<String> =
        refused.iter().map(|(what, path)| format!("{what} in {}", path.display())).collect();
    // Of a directory that is not there yet, the one above must be writable.
    let paths = refused
        .iter()
        .map(|(_, path)| if there.contains(*path) { *path } else { path.parent().unwrap_or(path) });
    let mut lines: Vec<String> = paths.map(|path| format!("ReadWritePaths=-{}", unit_word(path))).collect();
    lines.dedup();
    Finding::problem(
        SUBJECT,
        "writing",
        format!("the unit does not let the daemon write to {}", named.join(", ")),
    )
    .because("captures there fail with \"Read-only file system\", although the same works from a shell")
    .run(drop_in("vaults", &lines, words))
}

/// A path as a word of a unit.
fn unit_word(path: &Path) -> String {
    let text = path.display().to_string();
    match text.contains([' ', '"', '\\']) {
        true => format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")),
        false => text,
    }
}

fn network(unit: &Unit, config: &Config, words: &Words) -> Option<Finding> {
    let is_cut_off = matches!(unit.last("PrivateNetwork"), Some("yes" | "true" | "1" | "on"));
    let serves = matches!(config.node.metrics, Some(ListenAddress::Socket(_)));
    let mut own = config.sources_at_home_on(&config.node.name);
    let runs = own.any(|source| matches!(source.kind, SourceKind::Command(_)));
    let lines = [
        "PrivateNetwork=no".to_owned(),
        "RestrictAddressFamilies=AF_INET AF_INET6".to_owned(),
        "IPAddressAllow=localhost link-local 10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 fc00::/7"
            .to_owned(),
    ];
    let line = drop_in("network", &lines, words);
    match (is_cut_off, serves, runs) {
        (true, true, _) => Some(
            Finding::problem(SUBJECT, "network", "the unit gives the daemon no network, and node.metrics wants one")
                .because("nobody can scrape metrics or see the status page")
                .run(line),
        ),
        (true, false, true) => Some(
            Finding::note(SUBJECT, "network", "the unit gives programs of `command` sources no network")
                .because("those that talk to another host, or to this one by TCP, fail; sockets that are files work")
                .run(line),
        ),
        _ => Some(Finding::ok(SUBJECT, "network", "it has the network that the configuration takes")),
    }
}

fn user(unit: &Unit, config: &Config, words: &Words) -> Option<Finding> {
    let wanted = config.allow.command_user.as_ref().filter(|_| config.allow.commands)?;
    let own = unit.last("User").filter(|user| !user.is_empty()).unwrap_or("root");
    let held = unit.list("CapabilityBoundingSet");
    let has = |capability: &str| held.is_empty() || held.contains(&capability);
    if own == wanted.as_str() || ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"].into_iter().all(has) {
        return Some(Finding::ok(SUBJECT, "command_user", format!("it may run programs as {wanted}")));
    }
    let lines = ["CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL".to_owned()];
    Some(
        Finding::problem(
            SUBJECT,
            "command_user",
            format!("the unit does not let the daemon become {wanted}"),
        )
        .because("programs of `command` sources are not started: \"cannot become the user\"")
        .run(drop_in("commands", &lines, words)),
    )
}

fn snapshots(unit: &Unit, config: &Config, words: &Words) -> Option<Finding> {
    let own = config.sources_at_home_on(&config.node.name);
    let roots: Vec<&Path> = own
        .filter_map(|source| match &source.kind {
            SourceKind::Files(files) if files.snapshot.is_some() => Some(files.path.as_path()),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return None;
    }
    let held = unit.list("CapabilityBoundingSet");
    let may_delete = held.is_empty() || held.contains(&"CAP_SYS_ADMIN");
    // Where there is none that can be told, of the source more is said.
    let top_of = |root: PathBuf| within(LOOK_TIME, move || subvolume_of(&root).ok()).flatten();
    let tops = roots.iter().map(|root| top_of(root.to_path_buf()).unwrap_or_else(|| root.to_path_buf()));
    let closed: BTreeSet<PathBuf> = tops.filter(|top| !unit.may_write(top)).collect();
    if may_delete && closed.is_empty() {
        return Some(Finding::ok(SUBJECT, "snapshots", "it may make snapshots and delete them"));
    }
    let capability = (!may_delete).then(|| "CapabilityBoundingSet=CAP_SYS_ADMIN".to_owned());
    let paths = closed.iter().map(|top| format!("ReadWritePaths=-{}", unit_word(top)));
    let lines: Vec<String> = capability.into_iter().chain(paths).collect();
    Some(
        Finding::problem(
            SUBJECT,
            "snapshots",
            "the unit does not let the daemon make snapshots, or delete them",
        )
        .because("sources with `snapshot` are not captured, or snapshots are left")
        .run(drop_in("snapshots", &lines, words)),
    )
}

fn credentials(unit: &Unit, config: &Config, words: &Words) -> Option<Finding> {
    let own = config.sources_at_home_on(&config.node.name);
    let secrets = own.filter_map(|source| match &source.kind {
        SourceKind::Command(command) => Some(command.secrets.values()),
        _ => None,
    });
    let mut wanted: Vec<&str> = secrets
        .flatten()
        .filter_map(|secret| match secret {
            SecretRef::Credential(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let given = |key: &str| unit.list(key).into_iter().filter_map(|word| word.split(':').next());
    let given: Vec<&str> =
        ["LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"]
            .into_iter()
            .flat_map(given)
            .collect();
    let missing: Vec<&&str> = wanted.iter().filter(|name| !given.contains(name)).collect();
    if wanted.is_empty() {
        return None;
    }
    let Some(first) = missing.first() else {
        return Some(Finding::ok(SUBJECT, "credentials", "it is given all credentials that sources name"));
    };
    let names: Vec<String> = missing.iter().map(|name| format!("credential:{name}")).collect();
    let lines: Vec<String> =
        missing.iter().map(|name| format!("LoadCredential={name}:/etc/backstay/secrets/{name}")).collect();
    Some(
        Finding::problem(SUBJECT, "credentials", format!("the unit is not given {}", names.join(", ")))
            .because(format!("captures that need it fail. The lines take the secret from /etc/backstay/secrets/{first}: put it there first, mode 0600"))
            .run(drop_in("credentials", &lines, words)),
    )
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::super::finding::Level;
    use super::*;

    const SHIPPED: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/backstay.service"));

    fn config(vault: &str, node: &str, rest: &str) -> Config {
        let text = format!(
            "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n{node}\n[vault.v]\nkind = \"dir\"\npath = \"{vault}\"\n{rest}\n"
        );
        let config = Config::parse(ConfigTexts::Single(SourceText { name: "test", text: &text }));
        config.unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The shipped unit, enabled, with these drop-ins.
    fn installed(drop_ins: &[(&str, &str)]) -> Unit {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/systemd/system");
        fs::create_dir_all(folder.join("multi-user.target.wants")).expect("makes");
        fs::create_dir_all(folder.join("backstay.service.d")).expect("makes");
        fs::write(folder.join(NAME), SHIPPED).expect("writes");
        std::os::unix::fs::symlink("../backstay.service", folder.join("multi-user.target.wants").join(NAME))
            .expect("links");
        for (name, text) in drop_ins {
            fs::write(folder.join("backstay.service.d").join(name), text).expect("writes");
        }
        Unit::read(root.path()).expect("it is installed")
    }

    fn bad(unit: &Unit, config: &Config) -> Vec<(&'static str, Level, String)> {
        let found = judge(Some(unit), config, &BTreeSet::new(), &Words::of_tests(0));
        // Whether the program is there is of this machine.
        let bad =
            found.into_iter().filter(|finding| finding.level != Level::Ok && finding.check != "program");
        bad.map(|finding| {
            (finding.check, finding.level, finding.fix.map_or(String::new(), |fix| fix.text().to_owned()))
        })
        .collect()
    }

    const FILES: &str = "[service.s]\nfiles = { path = \"/srv/s\" }";

    #[test]
    fn the_shipped_unit_suits_what_it_was_made_for() {
        assert_eq!(bad(&installed(&[]), &config("/srv/backstay-vault", "", FILES)), []);
        assert!(Unit::read(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn a_vault_elsewhere_takes_a_drop_in_which_the_printed_line_writes() {
        let elsewhere = config("/nonexistent/usb/vault", "", FILES);
        let found = bad(&installed(&[]), &elsewhere);
        assert_eq!((found[0].0, found[0].1), ("writing", Level::Problem));
        let line = "printf '[Service]\\nReadWritePaths=-/nonexistent/usb\\n' >> /etc/systemd/system/backstay.service.d/vaults.conf";
        assert!(found[0].2.contains(line), "{}", found[0].2);
        let mended = installed(&[("vaults.conf", "[Service]\nReadWritePaths=-/nonexistent/usb\n")]);
        assert_eq!(bad(&mended, &elsewhere), []);
    }

    #[test]
    fn metrics_and_other_users_take_theirs() {
        let metrics = config("/srv/backstay", "metrics = \"127.0.0.1:9420\"", FILES);
        assert_eq!(bad(&installed(&[]), &metrics)[0].0, "network");
        let network =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/drop-ins/network.conf"));
        assert_eq!(bad(&installed(&[("network.conf", network)]), &metrics), []);

        let run = "[service.s]\ncommand.dump = { run = [\"x\"], secrets = { P = \"credential:pg\" } }\n[allow]\ncommands = true\ncommand_user = \"postgres\"";
        let commands = config("/srv/backstay", "", run);
        let checks: Vec<_> = bad(&installed(&[]), &commands).iter().map(|found| (found.0, found.1)).collect();
        let expected =
            [("network", Level::Note), ("command_user", Level::Problem), ("credentials", Level::Problem)];
        assert_eq!(checks, expected);
        let becomes =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/drop-ins/commands.conf"));
        let credential = "[Service]\nLoadCredential=pg:/etc/backstay/secrets/pg\n";
        let mended =
            [("commands.conf", becomes), ("credentials.conf", credential), ("network.conf", network)];
        assert_eq!(bad(&installed(&mended), &commands), []);
    }

    #[test]
    fn a_unit_of_another_configuration_is_left_alone_and_one_that_does_not_start_is_enabled() {
        let mut unit = installed(&[]);
        unit.is_enabled = false;
        let found = bad(&unit, &config("/srv/backstay", "", FILES));
        assert_eq!(found, [("installed", Level::Problem, "systemctl enable --now backstay".to_owned())]);
        let other = installed(&[(
            "x.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/backstay --config /etc/other run\n",
        )]);
        assert_eq!(bad(&other, &config("/nonexistent/v", "", FILES))[0].0, "configuration");
    }

    #[test]
    fn lines_that_go_on_and_comments_are_read_as_systemd_does() {
        let read = settings("# A=1\n; B=2\n[Service]\nC = 3 \\\n  4\nD=\n");
        let pairs: Vec<(&str, &str)> =
            read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("C", "3  4"), ("D", "")]);
    }
}
