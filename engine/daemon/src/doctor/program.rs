//! A `command` source: whether its program can be started as it would be, by the user and with the secrets that it gets. That
//! is tried with the launcher itself, which starts a shell that only looks for the program. Nothing of the source is run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_command::environment::Environment;
use backstay_command::launch::SEARCH_PATH;
use backstay_command::program::{Launcher, Program, ProgramError};
use backstay_command::user::User;
use backstay_core::config::{Allow, CommandSource, SecretRef};
use backstay_core::units::format_duration;

use super::finding::{Finding, Level};
use super::limit::{LOOK_TIME, within};
use super::words::{Words, quote, toml_text};

/// How long the launcher and a shell may take.
const TRY_TIME: Duration = Duration::from_secs(15);

/// Packages of Debian, by the programs that are asked for most.
const PACKAGES: [(&str, &str); 14] = [
    ("pg_dump", "postgresql-client"),
    ("pg_dumpall", "postgresql-client"),
    ("pg_basebackup", "postgresql-client"),
    ("sqlite3", "sqlite3"),
    ("mysqldump", "default-mysql-client"),
    ("mariadb-dump", "mariadb-client"),
    ("redis-cli", "redis-tools"),
    ("slapcat", "slapd"),
    ("ldapsearch", "ldap-utils"),
    ("docker", "docker.io"),
    ("podman", "podman"),
    ("git", "git"),
    ("tar", "tar"),
    ("zfs", "zfsutils-linux"),
];

/// A source.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it runs.
    pub source: &'a CommandSource,
    /// What this node allows.
    pub allow: &'a Allow,
    /// The shortest objective of its flows.
    pub rpo: Duration,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

/// What became of the attempt to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The program is there and may be run.
    Good,
    /// It is not found in the path, or may not be run.
    NotFound {
        /// Where it is beside the path, in the environment of this process.
        elsewhere: Option<PathBuf>,
    },
    /// It would not come so far.
    Refused(String),
    /// That could not be tried.
    Unknown(String),
}

impl Command<'_> {
    fn subject(&self) -> String {
        format!("source {}", self.name)
    }

    /// Starts the launcher. Bounded by [`TRY_TIME`].
    pub fn attempt(&self) -> Tried {
        let user = match &self.allow.command_user {
            Some(name) => User::named(name),
            None => User::own(),
        };
        let user = match user {
            Ok(user) => user,
            Err(error) => return Tried::Refused(error.to_string()),
        };
        let environment = Environment::of(&user).with(&self.source.env);
        // What is the daemon's alone, this process cannot have.
        let files = self.source.secrets.iter().filter(|(_, secret)| matches!(secret, SecretRef::File(_)));
        let files = files.map(|(name, secret)| (name.clone(), secret.clone())).collect();
        let environment = match environment.with_secrets(&files) {
            Ok(environment) => environment,
            Err(error) => return Tried::Refused(error.to_string()),
        };
        let name = self.source.run.first().cloned().unwrap_or_default();
        // By hand: for a shell, some names are commands of its own.
        let look = "case $1 in */*) [ -f \"$1\" ] && [ -x \"$1\" ]; exit;; esac; IFS=:; for folder in $2; do [ -f \"$folder/$1\" ] && [ -x \"$folder/$1\" ] && exit 0; done; exit 1";
        let path = self.source.env.iter().find(|(name, _)| name.as_str() == "PATH");
        let path = path.map_or(SEARCH_PATH, |(_, path)| path.as_str());
        let argv = ["/bin/sh", "-c", look, "sh", &name, path].map(str::to_owned).to_vec();
        let program = Program { argv, environment, user, timeout: TRY_TIME, launcher: Launcher::own() };
        let tried: Result<(), ProgramError> = program.run(&|| false, |output| {
            // It writes nothing.
            while output.read(&mut [0; 512])? > 0 {}
            Ok(())
        });
        match tried {
            Ok(()) => Tried::Good,
            Err(ProgramError::NotStarted { why, .. }) => Tried::Refused(why),
            Err(ProgramError::Ended { .. }) => Tried::NotFound { elsewhere: elsewhere(&name) },
            Err(error) => Tried::Unknown(error.to_string()),
        }
    }

    /// Judges what was tried, and the times.
    pub fn judge(&self, tried: &Tried, words: &Words) -> Vec<Finding> {
        let subject = self.subject();
        let in_allow = format!("{}, in [allow]", words.node_file.display());
        if !self.allow.commands {
            return vec![
                Finding::problem(&subject, "allowed", "this node runs no programs that fleet.toml names")
                    .because("nothing is captured of this source")
                    .set(in_allow, "commands = true"),
            ];
        }
        let name = self.source.run.first().map_or("", String::as_str);
        let as_whom = self
            .allow
            .command_user
            .as_ref()
            .map_or("the daemon's user".to_owned(), |user| format!("the user {user}"));
        let mut findings = vec![match tried {
            Tried::Good => {
                Finding::ok(&subject, "program", format!("{name} is there, and {as_whom} may run it"))
            }
            Tried::NotFound { elsewhere } => self.not_found(name, &as_whom, elsewhere.as_deref(), words),
            Tried::Refused(why) => self.refused(why, words),
            Tried::Unknown(why) => Finding::told(Level::Warning, &subject, "program", why),
        }];
        findings.extend(self.times(words));
        findings
    }

    fn not_found(&self, name: &str, as_whom: &str, elsewhere: Option<&Path>, words: &Words) -> Finding {
        let subject = self.subject();
        let what = match name.starts_with('/') {
            true => format!("there is no program {name} that {as_whom} may run"),
            false => format!("there is no program {name} in {SEARCH_PATH} that {as_whom} may run"),
        };
        let finding =
            Finding::problem(&subject, "program", what).because("nothing is captured of this source");
        if let Some(found) = elsewhere {
            let run: Vec<String> = std::iter::once(found.display().to_string())
                .chain(self.source.run.iter().skip(1).cloned())
                .map(|word| toml_text(&word))
                .collect();
            let place = format!("{}, in the source {}", words.fleet_file.display(), self.name);
            return finding.set(place, format!("run = [{}]", run.join(", ")));
        }
        let file = PathBuf::from(name);
        let is_file = move || fs::metadata(file).is_ok_and(|found| found.is_file());
        if within(LOOK_TIME, is_file) == Some(true) {
            // No line to run: a script that dumps may have a password in it, which is for nobody else.
            let name = quote(Path::new(name));
            return finding.advise(format!(
                "let {as_whom} alone run it, for example `chgrp GROUP {name} && chmod 0750 {name}` with a group of that user; `namei -l {name}` shows which directory above it is closed"
            ));
        }
        let base =
            Path::new(name).file_name().map_or(name.to_owned(), |base| base.to_string_lossy().into_owned());
        match PACKAGES.iter().find(|(program, _)| *program == base) {
            Some((_, package)) => finding.run(words.as_root(&format!("apt-get install {package}"))),
            None => finding.advise(format!(
                "install it (`apt-file search bin/{base}` names the package), or correct `run` of {} in {}",
                self.name,
                words.fleet_file.display()
            )),
        }
    }

    fn refused(&self, why: &str, words: &Words) -> Finding {
        let subject = self.subject();
        if why.contains("there is no user") {
            let name = self.allow.command_user.as_ref().map_or(String::new(), ToString::to_string);
            return Finding::problem(&subject, "user", format!("there is no user {name} on this host"))
                .because(format!("nothing is captured of this source. Correct `command_user` in [allow] of {}, or make the user", words.node_file.display()))
                .run(words.as_root(&format!("useradd --system --shell /usr/sbin/nologin {name}")));
        }
        if why.contains("cannot become the user") && words.uid != self.daemon_uid {
            return Finding::note(
                &subject,
                "user",
                "whether the daemon may become `command_user` is not known to an ordinary user",
            )
            .run(words.as_user(self.daemon_uid, &words.backstay("doctor")));
        }
        Finding::told(Level::Problem, &subject, "program", why)
    }

    fn times(&self, words: &Words) -> Option<Finding> {
        let (timeout, subject) = (self.source.timeout.as_duration(), self.subject());
        if timeout <= self.rpo {
            return Some(Finding::ok(
                &subject,
                "timeout",
                format!(
                    "it is ended after {}, within its RPO of {}",
                    format_duration(timeout),
                    format_duration(self.rpo)
                ),
            ));
        }
        let what = format!(
            "it may run for {}, and its RPO is {}",
            format_duration(timeout),
            format_duration(self.rpo)
        );
        Some(
            Finding::note(&subject, "timeout", what)
                .because(
                    "a run that takes so long is late, and a program with a short RPO runs every few minutes",
                )
                .set(
                    format!("{}, in the source {}", words.fleet_file.display(), self.name),
                    format!("rpo = \"{}\"", format_duration(timeout * 2)),
                ),
        )
    }
}

/// Whether a program is in the path of this process.
pub fn is_on_path(name: &str) -> bool {
    elsewhere(name).is_some()
}

/// Where a program is in the path of this process.
fn elsewhere(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{Config, ConfigTexts, SourceKind, SourceText};

    use super::super::finding::Fix;
    use super::*;

    /// What is found of a source that runs this, and of what was tried.
    fn bad(run: &str, allow: &str, tried: &Tried) -> Vec<(&'static str, Level, Option<Fix>)> {
        let text = format!(
            "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n[vault.v]\nkind = \"dir\"\npath = \"/v\"\n\
             [service.s]\ncommand.dump = {{ run = {run}, rpo = \"24h\" }}\n[allow]\n{allow}\n"
        );
        let config = Config::parse(ConfigTexts::Single(SourceText { name: "t", text: &text }));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let SourceKind::Command(source) = &config.sources[0].kind else { panic!("{config:?}") };
        let rpo = config.sources[0].flows[0].rpo;
        let command = Command { name: "s.dump", source, allow: &config.allow, rpo, daemon_uid: 0 };
        let found = command
            .judge(tried, &Words::of_tests(0))
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        found.map(|finding| (finding.check, finding.level, finding.fix)).collect()
    }

    const ALLOWED: &str = "commands = true";

    #[test]
    fn what_is_not_allowed_or_not_there_is_told_with_its_line() {
        let run = "[\"pg_dump\", \"-Fc\"]";
        assert_eq!(bad(run, ALLOWED, &Tried::Good), []);
        let allow = Fix::Setting {
            place: "/etc/backstay/node.toml, in [allow]".into(),
            lines: "commands = true".into(),
        };
        assert_eq!(bad(run, "", &Tried::Good), [("allowed", Level::Problem, Some(allow))]);
        let not_found = Tried::NotFound { elsewhere: None };
        let install = Fix::Command("apt-get install postgresql-client".into());
        assert_eq!(bad(run, ALLOWED, &not_found), [("program", Level::Problem, Some(install))]);
        let found = &bad("[\"no-such\"]", ALLOWED, &not_found)[0];
        assert!(
            matches!(&found.2, Some(Fix::Advice(advice)) if advice.contains("apt-file search bin/no-such"))
        );
        let elsewhere = Tried::NotFound { elsewhere: Some("/opt/pg/bin/pg_dump".into()) };
        let line = "run = [\"/opt/pg/bin/pg_dump\", \"-Fc\"]";
        assert_eq!(bad(run, ALLOWED, &elsewhere)[0].2.as_ref().map(Fix::text), Some(line));
    }

    #[test]
    fn users_that_are_not_there_can_be_made() {
        let why = "there is no user postgress on this machine; correct command_user in [allow] of node.toml";
        let allow = "commands = true\ncommand_user = \"postgress\"";
        let found = bad("[\"true\"]", allow, &Tried::Refused(why.into()));
        let line = "useradd --system --shell /usr/sbin/nologin postgress";
        assert_eq!(found, [("user", Level::Problem, Some(Fix::Command(line.into())))]);
    }
}
