//! The systemd unit: whether it is installed, and whether its drop-ins allow what the configuration takes. Pure, but for the
//! looks at a program, at the home of a user and at subvolumes; the unit's files are read by `unit_file`. Asks systemd nothing: it may not run, and what is written is what it will do after a
//! `daemon-reload`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, ListenAddress, SecretRef, SourceKind};

use super::finding::Finding;
use super::limit::{LOOK_TIME, within};
use super::unit_file::{NAME, Unit};
use super::words::{Words, owner, quote, user_name};
use crate::snapshot::{FOLDER, subvolume_of};

const SUBJECT: &str = "unit";

/// The folder of drop-ins that an operator writes.
const DROP_INS: &str = "/etc/systemd/system/backstay.service.d";

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

/// What is known of the directories that are written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Those that are there.
    pub there: BTreeSet<PathBuf>,
    /// Those that are not, and may be made where they belong. Of others, such as those whose disk is missing, something else
    /// has to be seen to first.
    pub makeable: BTreeSet<PathBuf>,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

/// Judges the unit by the configuration.
pub fn judge(unit: Option<&Unit>, config: &Config, places: &Places, words: &Words) -> Vec<Finding> {
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
    findings.push(writing(unit, config, places, words));
    findings.extend(network(unit, config, words));
    findings.extend(user(unit, config, words));
    findings.extend(snapshots(unit, config, words));
    findings.extend(credentials(unit, config, words));
    findings
}

/// A command that does `first`, writes lines below `[Service]` of a drop-in and has systemd take it up.
fn drop_in(name: &str, first: &str, lines: &[String], words: &Words) -> String {
    // For systemd a percent sign begins what it fills in itself.
    let lines: Vec<String> = lines.iter().map(|line| quote(Path::new(&line.replace('%', "%%")))).collect();
    // Appended: what an operator has put there stays, and may lack an end of its last line.
    words.as_root(&format!(
        "{first}mkdir -p {DROP_INS} && printf '%s\\n' '' '[Service]' {} >> {DROP_INS}/{name}.conf && systemctl daemon-reload && systemctl restart backstay",
        lines.join(" ")
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
    let line = format!("install -m 755 {} {}", quote(&own), quote(&program));
    Some(
        Finding::problem(SUBJECT, "program", what)
            .because("the daemon cannot start")
            .run(words.as_root(&line)),
    )
}

fn writing(unit: &Unit, config: &Config, places: &Places, words: &Words) -> Finding {
    let vaults = config.vaults.values();
    let vaults = vaults.filter_map(|vault| Some((format!("vault {}", vault.name), vault.kind.directory()?)));
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
    let finding = Finding::problem(
        SUBJECT,
        "writing",
        format!("the unit does not let the daemon write to {}", named.join(", ")),
    )
    .because("captures there fail with \"Read-only file system\", although the same works from a shell");
    let is_makeable = |path: &Path| places.makeable.contains(path);
    let known: BTreeSet<&Path> = refused
        .iter()
        .map(|(_, path)| *path)
        .filter(|path| places.there.contains(*path) || is_makeable(path))
        .collect();
    if known.is_empty() {
        // Made without its disk, it would hide that there is none.
        return finding.advise(format!(
            "it is not there as it should be: see to that first, as is said of it, then `{}` prints the line that permits it",
            words.backstay("doctor")
        ));
    }
    // Nothing above it is permitted, which could be all of the system: it is made, so that it can be permitted itself.
    let of_daemon = match places.daemon_uid {
        0 => String::new(),
        uid => format!("-o {} ", owner(uid)),
    };
    let make = |path: &&Path| format!("install -d {of_daemon}-m 700 {} && ", quote(path));
    let first: String = known.iter().filter(|path| is_makeable(path)).map(make).collect();
    let lines: Vec<String> =
        known.iter().map(|path| format!("ReadWritePaths=-{}", unit_word(path))).collect();
    finding.run(drop_in("vaults", &first, &lines, words))
}

/// A path as a word of a unit.
fn unit_word(path: &Path) -> String {
    let text = path.display().to_string();
    match text.contains([' ', '\t', '"', '\'', '\\']) {
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
    let line = drop_in("network", "", &lines, words);
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
    let becomes = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
    if own == wanted.as_str() || becomes.into_iter().all(|capability| unit.may(capability)) {
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
        .run(drop_in("commands", "", &lines, words)),
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
    let may_delete = unit.may("CAP_SYS_ADMIN");
    // Where there is none that can be told, of the source more is said.
    let top_of =
        |root: PathBuf| within(LOOK_TIME, move || subvolume_of(&root.canonicalize().ok()?).ok()).flatten();
    let tops: BTreeSet<PathBuf> = roots.iter().filter_map(|root| top_of(root.to_path_buf())).collect();
    if tops.is_empty() {
        return None;
    }
    let folders: Vec<PathBuf> = tops.iter().map(|top| top.join(FOLDER)).collect();
    let closed: Vec<&PathBuf> = folders.iter().filter(|folder| !unit.may_write(folder)).collect();
    if may_delete && closed.is_empty() {
        return Some(Finding::ok(SUBJECT, "snapshots", "it may make snapshots and delete them"));
    }
    // The folder alone: what is protected the daemon only reads.
    let make: String =
        closed.iter().map(|folder| format!("install -d -m 700 {} && ", quote(folder))).collect();
    let capability = (!may_delete).then(|| "CapabilityBoundingSet=CAP_SYS_ADMIN".to_owned());
    let paths = closed.iter().map(|folder| format!("ReadWritePaths=-{}", unit_word(folder)));
    let lines: Vec<String> = capability.into_iter().chain(paths).collect();
    Some(
        Finding::problem(
            SUBJECT,
            "snapshots",
            "the unit does not let the daemon make snapshots, or delete them",
        )
        .because("sources with `snapshot` are not captured, or snapshots are left")
        .run(drop_in("snapshots", &make, &lines, words)),
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
    let name_of = |word: String| word.split(':').next().map(str::to_owned);
    let given = |key: &str| unit.list(key).into_iter().filter_map(name_of);
    let given: Vec<String> =
        ["LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"]
            .into_iter()
            .flat_map(given)
            .collect();
    let missing: Vec<&&str> =
        wanted.iter().filter(|name| !given.iter().any(|known| known == *name)).collect();
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
            .run(drop_in("credentials", "", &lines, words)),
    )
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use std::fs;

    use super::super::finding::Level;
    use super::super::words::toml_text;
    use super::*;

    const SHIPPED: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/backstay.service"));

    fn config(vault: &str, node: &str, rest: &str) -> Config {
        let text = format!(
            "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n{node}\n[vault.v]\nkind = \"dir\"\npath = {}\n{rest}\n",
            toml_text(vault)
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
        bad_at(unit, config, &Places::default())
    }

    fn bad_at(unit: &Unit, config: &Config, places: &Places) -> Vec<(&'static str, Level, String)> {
        let found = judge(Some(unit), config, places, &Words::of_tests(0));
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
    fn a_vault_elsewhere_takes_a_drop_in_with_its_own_path_and_nothing_above_it() {
        let elsewhere = config("/nonexistent/vault", "", FILES);
        let vault: BTreeSet<PathBuf> = ["/nonexistent/vault".into()].into();
        let line = |places: &Places| {
            let found = bad_at(&installed(&[]), &elsewhere, places);
            assert_eq!((found[0].0, found[0].1), ("writing", Level::Problem));
            found[0].2.clone()
        };
        let write = "mkdir -p /etc/systemd/system/backstay.service.d && printf '%s\\n' '' '[Service]' ReadWritePaths=-/nonexistent/vault >> /etc/systemd/system/backstay.service.d/vaults.conf && ";
        let there = Places { there: vault.clone(), ..Places::default() };
        assert!(line(&there).starts_with(write), "{}", line(&there));
        let made = Places { makeable: vault, ..Places::default() };
        let make = "install -d -m 700 /nonexistent/vault && ";
        assert!(line(&made).starts_with(&format!("{make}{write}")), "{}", line(&made));
        let of_another = Places { daemon_uid: 4_000_000, ..made };
        assert!(line(&of_another).starts_with("install -d -o 4000000 -m 700 /nonexistent/vault && "));
        // One whose disk is missing is neither made nor permitted.
        assert!(line(&Places::default()).starts_with("it is not there as it should be"));
        let mended = installed(&[("vaults.conf", "[Service]\nReadWritePaths=-/nonexistent/vault\n")]);
        assert_eq!(bad(&mended, &elsewhere), []);
    }

    #[test]
    fn whatever_a_path_has_the_printed_line_writes_what_systemd_and_this_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let drop_ins = folder.path().join("backstay.service.d");
        for name in ["a b", "it's", "say \"x\"", "100%", "back\\slash", "all ' \" %s \\ $HOME"] {
            let vault = folder.path().join(name);
            let config = config(vault.to_str().expect("text"), "", FILES);
            let places = Places { makeable: [vault.clone()].into(), ..Places::default() };
            let line = bad_at(&installed(&[]), &config, &places)[0].2.clone();
            let (line, _) = line.split_once(" && systemctl").expect("systemd takes it up");
            // What was there has no end of its last line.
            fs::create_dir_all(&drop_ins).expect("makes");
            fs::write(drop_ins.join("vaults.conf"), "[Service]\nReadWritePaths=-/x").expect("writes");
            let line = line.replace(DROP_INS, drop_ins.to_str().expect("text"));
            let done = std::process::Command::new("sh").args(["-ec", &line]).status().expect("runs");
            assert!(done.success(), "{line}");
            assert!(vault.is_dir(), "{line}");
            let written = fs::read_to_string(drop_ins.join("vaults.conf")).expect("reads");
            let mended = installed(&[("vaults.conf", written.as_str())]);
            assert_eq!(bad_at(&mended, &config, &places), [], "{written}");
            assert!(mended.may_write(Path::new("/x")), "{written}");
        }
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
}
