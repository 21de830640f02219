//! Files that nobody else may read or write: the configuration, which names programs that are run, and secrets. Facts are
//! modes and owners; nothing of a secret is read to the end or shown.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, SecretRef, SourceKind};

use super::finding::Finding;
use super::words::{Words, quote, user, user_name};

const SUBJECT: &str = "secrets";

const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_ALL: u32 = 0o004;
const READABLE_BY_GROUP: u32 = 0o040;

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFacts {
    /// It is there.
    There {
        /// Permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Whether nothing is in it.
        is_empty: bool,
        /// Whether this process can open it.
        opens: bool,
    },
    /// It cannot be looked at.
    Unseen(String),
}

impl FileFacts {
    /// Looks at a file.
    pub fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Self::There {
                mode: found.mode() & 0o7777,
                uid: found.uid(),
                is_empty: found.len() == 0,
                opens: found.is_file() && File::open(path).is_ok(),
            },
            Err(error) => Self::Unseen(error.to_string()),
        }
    }
}

/// Judges the files of the configuration.
pub fn judge_configuration(path: &Path, facts: &FileFacts, words: &Words) -> Finding {
    const SUBJECT: &str = "configuration";
    let FileFacts::There { mode, uid, .. } = *facts else {
        return Finding::note(SUBJECT, "rights", format!("{} cannot be looked at", path.display()));
    };
    let shown = path.display();
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Finding::problem(
            SUBJECT,
            "rights",
            format!("other users can write to {shown} (mode {mode:04o})"),
        )
        .because(
            "whoever writes it says what is protected, where it goes, and which programs the daemon runs",
        )
        .run(words.as_user(uid, &format!("chmod go-w {}", quote(path))));
    }
    Finding::ok(
        SUBJECT,
        "rights",
        format!("{shown} belongs to {}, and nobody else can write to it", user(uid)),
    )
}

/// A secret, by where it is, with who wants it and as whom it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `PGPASSWORD of forum.dump`.
    pub of: Vec<String>,
    /// The user that reads it, where it is another than the daemon's.
    pub reader: Option<String>,
}

/// All secrets that sources of this node refer to, by what they refer to.
pub fn wanted(config: &Config) -> BTreeMap<String, (SecretRef, Wanted)> {
    let mut all: BTreeMap<String, (SecretRef, Wanted)> = BTreeMap::new();
    for source in config.sources_at_home_on(&config.node.name) {
        let SourceKind::Command(command) = &source.kind else { continue };
        for (name, reference) in &command.secrets {
            let reader = config.allow.command_user.as_ref().map(ToString::to_string);
            let new = || (reference.clone(), Wanted { of: Vec::new(), reader });
            let (_, wanted) = all.entry(reference.to_string()).or_insert_with(new);
            wanted.of.push(format!("{name} of {}", source.name));
        }
    }
    all
}

/// Judges one secret. What is in the daemon's environment or credentials, nobody else can see.
pub fn judge(reference: &SecretRef, wanted: &Wanted, facts: Option<&FileFacts>, words: &Words) -> Finding {
    let of = wanted.of.join(", ");
    match (reference, facts) {
        (SecretRef::File(path), Some(facts)) => judge_file(path, &of, wanted.reader.as_deref(), facts, words),
        (SecretRef::Env(name), _) => match std::env::var_os(name) {
            Some(_) => Finding::ok(SUBJECT, "there", format!("env:{name} ({of}) is set here")),
            None => Finding::note(SUBJECT, "there", format!("env:{name} ({of}) is not set here"))
                .because("whether the daemon has it, its own environment alone tells. A file is safer: every child of the daemon's environment could see it")
                .advise(format!("put it into a file of mode 0600 and refer to that: \"file:/etc/backstay/secrets/{}\"", name.to_lowercase())),
        },
        (SecretRef::Credential(name), _) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(folder) if PathBuf::from(&folder).join(name).is_file() => {
                Finding::ok(SUBJECT, "there", format!("credential:{name} ({of}) is there"))
            }
            _ => Finding::ok(SUBJECT, "there", format!("credential:{name} ({of}) is systemd's to give: see the unit")),
        },
        (SecretRef::File(path), None) => {
            Finding::warning(SUBJECT, "there", format!("file:{} ({of}) could not be looked at in time", path.display()))
        }
    }
}

fn judge_file(path: &Path, of: &str, reader: Option<&str>, facts: &FileFacts, words: &Words) -> Finding {
    let shown = path.display();
    let (mode, uid, is_empty, opens) = match facts {
        FileFacts::There { mode, uid, is_empty, opens } => (*mode, *uid, *is_empty, *opens),
        FileFacts::Unseen(why) => {
            let reader = reader.map_or(String::new(), |reader| format!("chown {reader} {} && ", quote(path)));
            let line = format!(
                "install -m 600 /dev/null {} && {reader}${{EDITOR:-vi}} {}",
                quote(path),
                quote(path)
            );
            return Finding::problem(SUBJECT, "there", format!("{shown} ({of}) cannot be read: {why}"))
                .because("captures that need it fail")
                .run(words.as_root(&line));
        }
    };
    // Its reader must be able to read it when nobody else can.
    let owner = user_name(uid);
    let chown = match reader {
        Some(reader) if owner.as_deref() != Some(reader) => format!("chown {reader} {} && ", quote(path)),
        _ => String::new(),
    };
    let close = format!("{chown}chmod 600 {}", quote(path));
    let close = if chown.is_empty() { words.as_user(uid, &close) } else { words.as_root(&close) };
    if mode & READABLE_BY_ALL != 0 {
        return Finding::problem(
            SUBJECT,
            "rights",
            format!("every user can read {shown} ({of}; mode {mode:04o})"),
        )
        .because("it is a secret: who has logged in here may know it. Change it where it opens something")
        .run(close);
    }
    if is_empty {
        return Finding::problem(SUBJECT, "there", format!("{shown} ({of}) is empty"))
            .because("captures that need it fail, or ask without a secret")
            .run(format!("${{EDITOR:-vi}} {}", quote(path)));
    }
    if let (Some(reader), 0) = (reader.filter(|_| !chown.is_empty()), mode & READABLE_BY_GROUP) {
        return Finding::problem(SUBJECT, "rights", format!("the user {reader} cannot read {shown} ({of})"))
            .because(format!(
                "the program runs as that one, and {} owns the file: captures that need it fail",
                user(uid)
            ))
            .run(close);
    }
    if mode & READABLE_BY_GROUP != 0 {
        return Finding::note(
            SUBJECT,
            "rights",
            format!("the group of {shown} can read it ({of}; mode {mode:04o})"),
        )
        .because("its members know the secret; where that is meant, leave it")
        .run(close);
    }
    let who = user(uid);
    match opens || reader.is_some() || words.uid != 0 {
        true => Finding::ok(
            SUBJECT,
            "rights",
            format!("{shown} ({of}) belongs to {who}, and nobody else can read it"),
        ),
        false => Finding::problem(SUBJECT, "there", format!("{shown} ({of}) is no file that can be read"))
            .because("captures that need it fail")
            .advise(format!("see what it is: `ls -l {}`", quote(path))),
    }
}

/// Judges the key that is proposed when a vault is made: it is meant to be carried away.
pub fn judge_recovery_key(path: &Path, facts: &FileFacts) -> Option<Finding> {
    let FileFacts::There { mode, uid, .. } = *facts else { return None };
    let shown = path.display();
    Some(match mode & 0o077 {
        0 => Finding::note(SUBJECT, "recovery_key", format!("the recovery key {shown} lies on this host"))
            .because("with it and a vault everything can be read, and when this host is lost it is lost too")
            .advise(format!(
                "print it or copy it to another machine, see that it is whole there, then `shred -u {}`",
                quote(path)
            )),
        _ => Finding::problem(
            SUBJECT,
            "recovery_key",
            format!("other users can read the recovery key {shown} (mode {mode:04o})"),
        )
        .because("with it and a vault everything can be read")
        .run(match user_name(uid) {
            Some(_) => format!("chmod 600 {}", quote(path)),
            None => format!("sudo chmod 600 {}", quote(path)),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Fix, Level};
    use super::*;

    fn judged(mode: u32, is_empty: bool, reader: Option<&str>) -> (Level, Option<Fix>) {
        let facts = FileFacts::There { mode, uid: 0, is_empty, opens: true };
        let wanted = Wanted { of: vec!["PW of s.dump".into()], reader: reader.map(str::to_owned) };
        let found =
            judge(&SecretRef::File("/etc/backstay/pw".into()), &wanted, Some(&facts), &Words::of_tests(0));
        assert!(found.what.contains("PW of s.dump"), "{found:?}");
        (found.level, found.fix)
    }

    #[test]
    fn a_secret_that_others_can_read_is_closed_and_stays_readable_for_its_program() {
        let run = |line: &str| Some(Fix::Command(line.to_owned()));
        assert_eq!(judged(0o644, false, None), (Level::Problem, run("chmod 600 /etc/backstay/pw")));
        let both = "chown postgres /etc/backstay/pw && chmod 600 /etc/backstay/pw";
        assert_eq!(judged(0o644, false, Some("postgres")), (Level::Problem, run(both)));
        assert_eq!(judged(0o640, false, Some("root")), (Level::Note, run("chmod 600 /etc/backstay/pw")));
        assert_eq!(judged(0o600, false, Some("postgres")), (Level::Problem, run(both)));
        assert_eq!(judged(0o600, false, None), (Level::Ok, None));
        assert_eq!(judged(0o600, true, None).0, Level::Problem);
    }

    #[test]
    fn one_that_is_not_there_is_made_by_the_line() {
        let wanted = Wanted { of: vec!["PW of s.dump".into()], reader: None };
        let unseen = FileFacts::Unseen("No such file".into());
        let found = judge(&SecretRef::File("/etc/x".into()), &wanted, Some(&unseen), &Words::of_tests(0));
        assert_eq!(found.level, Level::Problem);
        assert!(found.fix.is_some_and(|fix| fix.text().starts_with("install -m 600 /dev/null /etc/x && ")));
        let unset =
            judge(&SecretRef::Env("BACKSTAY_NOT_SET_ANYWHERE".into()), &wanted, None, &Words::of_tests(0));
        assert_eq!(unset.level, Level::Note);
    }

    #[test]
    fn a_configuration_that_others_can_write_is_a_problem() {
        let of = |mode| {
            let facts = FileFacts::There { mode, uid: 0, is_empty: false, opens: true };
            judge_configuration(Path::new("/etc/backstay/node.toml"), &facts, &Words::of_tests(0))
        };
        assert_eq!(of(0o644).level, Level::Ok);
        let found = of(0o664);
        assert_eq!(found.fix, Some(Fix::Command("chmod go-w /etc/backstay/node.toml".into())));
        assert_eq!(found.level, Level::Problem);
    }

    #[test]
    fn a_recovery_key_does_not_belong_on_the_host() {
        let key = |mode| {
            let facts = FileFacts::There { mode, uid: 0, is_empty: false, opens: true };
            judge_recovery_key(Path::new("/root/k"), &facts).map(|found| found.level)
        };
        assert_eq!(key(0o600), Some(Level::Note));
        assert_eq!(key(0o644), Some(Level::Problem));
        assert!(judge_recovery_key(Path::new("/root/k"), &FileFacts::Unseen("none".into())).is_none());
    }
}
