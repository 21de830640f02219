//! Files that nobody else may read or write: the configuration, which names programs that are run, and secrets. Facts are
//! modes and owners; nothing of a secret is read to the end or shown.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, SecretRef, SourceKind};

use super::finding::Finding;
use super::words::{Words, is_private_group, owner, quote, user, user_name};

const SUBJECT: &str = "secrets";

const WRITABLE_BY_OTHERS: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
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
        /// Whether nobody but its owner is in its group.
        is_group_private: bool,
        /// Whether every user can get to where it lies.
        is_reachable: bool,
    },
    /// Nothing is there, not even a link that leads nowhere.
    Missing,
    /// It cannot be looked at.
    Unseen {
        /// What kind of error it was.
        kind: ErrorKind,
        /// The error.
        why: String,
    },
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
                is_group_private: is_group_private(found.uid(), found.gid()),
                is_reachable: is_reachable(path),
            },
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
                Self::Missing
            }
            Err(error) => Self::Unseen { kind: error.kind(), why: error.to_string() },
        }
    }
}

fn is_group_private(uid: u32, gid: u32) -> bool {
    let texts = (fs::read_to_string("/etc/passwd"), fs::read_to_string("/etc/group"));
    matches!(texts, (Ok(passwd), Ok(groups)) if is_private_group(&passwd, &groups, uid, gid))
}

/// Whether every directory above can be searched by others. What cannot be told counts as open.
fn is_reachable(path: &Path) -> bool {
    let Ok(real) = fs::canonicalize(path) else { return true };
    let mut above = real.ancestors().skip(1);
    above.all(|folder| fs::metadata(folder).map_or(true, |found| found.mode() & 0o001 != 0))
}

/// Judges the files of the configuration.
pub fn judge_configuration(path: &Path, facts: &FileFacts, words: &Words) -> Finding {
    const SUBJECT: &str = "configuration";
    let FileFacts::There { mode, uid, is_group_private, .. } = *facts else {
        return Finding::note(SUBJECT, "rights", format!("{} cannot be looked at", path.display()));
    };
    let close = words.as_user(uid, &format!("chmod go-w {}", quote(path)));
    let shown = path.display();
    if mode & WRITABLE_BY_OTHERS == 0 && mode & WRITABLE_BY_GROUP != 0 && is_group_private {
        let what = format!(
            "the group of {shown} can write to it (mode {mode:04o}), and only {} is in it",
            user(uid)
        );
        return Finding::note(SUBJECT, "rights", what)
            .because("whoever is added to that group could name programs that the daemon runs")
            .run(close);
    }
    if mode & (WRITABLE_BY_OTHERS | WRITABLE_BY_GROUP) != 0 {
        return Finding::problem(
            SUBJECT,
            "rights",
            format!("other users can write to {shown} (mode {mode:04o})"),
        )
        .because(
            "whoever writes it says what is protected, where it goes, and which programs the daemon runs",
        )
        .run(close);
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

/// All secrets that sources and vaults of this node refer to, by what they refer to.
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
    for (vault, secret) in &config.secrets {
        for (name, reference) in secret.references() {
            let new = || (reference.clone(), Wanted { of: Vec::new(), reader: None });
            let (_, wanted) = all.entry(reference.to_string()).or_insert_with(new);
            wanted.of.push(format!("{name} of vault {vault}"));
        }
    }
    all
}

/// Judges one secret. What is in the daemon's environment or credentials, nobody else can see.
pub fn judge(
    reference: &SecretRef,
    wanted: &Wanted,
    facts: Option<&FileFacts>,
    daemon_uid: u32,
    words: &Words,
) -> Finding {
    let of = wanted.of.join(", ");
    match (reference, facts) {
        (SecretRef::File(path), Some(facts)) => match facts {
            FileFacts::There { .. } => judge_file(path, &of, wanted.reader.as_deref(), facts, words),
            FileFacts::Missing => missing(path, &of, wanted.reader.as_deref(), daemon_uid, words),
            FileFacts::Unseen { kind, why } => unseen(path, &of, (*kind, why), daemon_uid, words),
        },
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

/// The only case with a line that makes a file: it must never be one that empties a secret that is there, not even when it is
/// pasted twice.
fn missing(path: &Path, of: &str, reader: Option<&str>, daemon_uid: u32, words: &Words) -> Finding {
    let file = quote(path);
    let own = (daemon_uid != 0).then(|| owner(daemon_uid));
    let reader = reader.map(str::to_owned).or(own);
    let give = reader.map_or(String::new(), |reader| format!(" && chown {reader} {file}"));
    // No editor: other lines may be pasted behind this one.
    let line = format!("[ -e {file} ] || install -m 600 /dev/null {file}{give}");
    Finding::problem(SUBJECT, "there", format!("{} ({of}) is not there", path.display()))
        .because("captures that need it fail. The line makes it, empty: write the secret into it then")
        .run(words.as_root(&line))
}

/// Whether something is there is not known, or nobody can say what.
fn unseen(path: &Path, of: &str, error: (ErrorKind, &str), daemon_uid: u32, words: &Words) -> Finding {
    let (kind, why) = error;
    let what = format!("{} ({of}) cannot be looked at: {why}", path.display());
    if kind == ErrorKind::PermissionDenied && words.uid != daemon_uid {
        return Finding::warning(SUBJECT, "there", what)
            .because(format!("this runs as {}, and the daemon as {}", user(words.uid), user(daemon_uid)))
            .run(words.as_user(daemon_uid, &words.backstay("doctor")));
    }
    Finding::problem(SUBJECT, "there", what).because("captures that need it fail").advise(format!(
        "see what is in the way: `namei -l {0}` shows each part of the path, and where links lead",
        quote(path)
    ))
}

fn judge_file(path: &Path, of: &str, reader: Option<&str>, facts: &FileFacts, words: &Words) -> Finding {
    let shown = path.display();
    let FileFacts::There { mode, uid, is_empty, opens, is_reachable, .. } = *facts else {
        return Finding::note(SUBJECT, "there", format!("{shown} ({of}) was not looked at"));
    };
    // Its reader must be able to read it when nobody else can.
    let owner = user_name(uid);
    let chown = match reader {
        Some(reader) if owner.as_deref() != Some(reader) => format!("chown {reader} {} && ", quote(path)),
        _ => String::new(),
    };
    let close = format!("{chown}chmod 600 {}", quote(path));
    let close = if chown.is_empty() { words.as_user(uid, &close) } else { words.as_root(&close) };
    if mode & READABLE_BY_ALL != 0 && is_reachable {
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
            .advise(format!("write the secret into {}", path.display()));
    }
    if let (Some(reader), 0) = (reader.filter(|_| !chown.is_empty()), mode & READABLE_BY_GROUP) {
        return Finding::problem(SUBJECT, "rights", format!("the user {reader} cannot read {shown} ({of})"))
            .because(format!(
                "the program runs as that one, and {} owns the file: captures that need it fail",
                user(uid)
            ))
            .run(close);
    }
    if mode & READABLE_BY_ALL != 0 {
        let what = format!(
            "every user may read {shown} ({of}; mode {mode:04o}), and not all can get to where it lies"
        );
        return Finding::note(SUBJECT, "rights", what)
            .because(
                "only the rights of directories above keep the secret: who opens one of them gives it away",
            )
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
    let FileFacts::There { mode, uid, is_reachable, .. } = *facts else { return None };
    let shown = path.display();
    Some(match mode & 0o077 == 0 || !is_reachable {
        true => Finding::note(SUBJECT, "recovery_key", format!("the recovery key {shown} lies on this host"))
            .because("with it and a vault everything can be read, and when this host is lost it is lost too")
            .advise(format!(
                "print it or copy it to another machine, see that it is whole there, then `shred -u {}`",
                quote(path)
            )),
        false => Finding::problem(
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

    fn there(mode: u32, is_empty: bool) -> FileFacts {
        FileFacts::There { mode, uid: 0, is_empty, opens: true, is_group_private: false, is_reachable: true }
    }

    fn of_file(facts: &FileFacts, reader: Option<&str>, daemon_uid: u32, uid: u32) -> Finding {
        let wanted = Wanted { of: vec!["PW of s.dump".into()], reader: reader.map(str::to_owned) };
        let file = SecretRef::File("/etc/backstay/pw".into());
        judge(&file, &wanted, Some(facts), daemon_uid, &Words::of_tests(uid))
    }

    fn judged(mode: u32, is_empty: bool, reader: Option<&str>) -> (Level, Option<Fix>) {
        let found = of_file(&there(mode, is_empty), reader, 0, 0);
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
    fn one_that_is_not_there_is_made_by_the_line_for_who_reads_it() {
        let line = |reader, daemon_uid| {
            let found = of_file(&FileFacts::Missing, reader, daemon_uid, 0);
            assert_eq!(found.level, Level::Problem);
            found.fix.expect("a line").text().to_owned()
        };
        let make = "[ -e /etc/backstay/pw ] || install -m 600 /dev/null /etc/backstay/pw";
        assert_eq!(line(None, 0), make);
        assert_eq!(line(Some("postgres"), 0), format!("{make} && chown postgres /etc/backstay/pw"));
        assert_eq!(line(None, 4_000_000), format!("{make} && chown 4000000 /etc/backstay/pw"));
        let wanted = Wanted { of: vec!["PW of s.dump".into()], reader: None };
        let unset = SecretRef::Env("BACKSTAY_NOT_SET_ANYWHERE".into());
        assert_eq!(judge(&unset, &wanted, None, 0, &Words::of_tests(0)).level, Level::Note);
    }

    #[test]
    fn no_line_empties_a_secret_that_is_there_and_cannot_be_seen() {
        let unseen = |kind| FileFacts::Unseen { kind, why: "x".into() };
        let found = of_file(&unseen(ErrorKind::PermissionDenied), None, 0, 1000);
        let again = Fix::Command("sudo backstay doctor".into());
        assert_eq!((found.level, found.fix), (Level::Warning, Some(again)));
        for kind in [ErrorKind::PermissionDenied, ErrorKind::NotFound, ErrorKind::Other] {
            let found = of_file(&unseen(kind), None, 0, 0);
            assert!(matches!(found.fix, Some(Fix::Advice(_))), "{found:?}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("links");
        assert!(matches!(FileFacts::of(&link), FileFacts::Unseen { kind: ErrorKind::NotFound, .. }));
        assert_eq!(FileFacts::of(&folder.path().join("none")), FileFacts::Missing);
    }

    #[test]
    fn the_printed_line_makes_a_file_and_leaves_one_that_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a secret");
        let line = missing(&path, "PW", None, 0, &Words::of_tests(0)).fix.expect("a line").text().to_owned();
        let paste = || {
            let mut shell = std::process::Command::new("sh");
            let done = shell.args(["-c", &line]).env("EDITOR", "true").status();
            assert!(done.expect("runs").success());
        };
        paste();
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o7777, 0o600);
        fs::write(&path, "hunter2").expect("writes");
        paste();
        assert_eq!(fs::read(&path).expect("reads"), b"hunter2");
    }

    #[test]
    fn who_cannot_get_to_a_file_cannot_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pw");
        fs::write(&path, "x").expect("writes");
        let set = |path: &Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("sets");
        };
        set(&path, 0o644);
        for (mode, level) in [(0o700, Level::Note), (0o755, Level::Problem)] {
            set(folder.path(), mode);
            assert_eq!(of_file(&FileFacts::of(&path), None, 0, 0).level, level, "{mode:o}");
        }
    }

    #[test]
    fn a_configuration_that_others_can_write_is_a_problem() {
        let judged = |facts: &FileFacts| {
            judge_configuration(Path::new("/etc/backstay/node.toml"), facts, &Words::of_tests(0))
        };
        let of = |mode| judged(&there(mode, false));
        assert_eq!(of(0o644).level, Level::Ok);
        let found = of(0o664);
        assert_eq!(found.fix, Some(Fix::Command("chmod go-w /etc/backstay/node.toml".into())));
        assert_eq!(found.level, Level::Problem);
        // A group with nobody else in it lets nobody in; others are others.
        let private = |mode| FileFacts::There {
            mode,
            uid: 0,
            is_empty: false,
            opens: true,
            is_group_private: true,
            is_reachable: true,
        };
        assert_eq!(judged(&private(0o664)).level, Level::Note);
        assert_eq!(judged(&private(0o666)).level, Level::Problem);
    }

    #[test]
    fn a_recovery_key_does_not_belong_on_the_host() {
        let key =
            |mode| judge_recovery_key(Path::new("/root/k"), &there(mode, false)).map(|found| found.level);
        assert_eq!(key(0o600), Some(Level::Note));
        assert_eq!(key(0o644), Some(Level::Problem));
        assert!(judge_recovery_key(Path::new("/root/k"), &FileFacts::Missing).is_none());
    }
}
