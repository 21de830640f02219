//! Databases among the files of a source: a copy of files that are written to meanwhile is no backup of a database, unless all
//! of them are of one instant. Pure: facts in, findings out.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::names::Names;
use super::sample::{Database, DatabaseKind};
use super::words::{Words, toml_text};

/// Databases of a kind that are named one by one.
const NAMED_MAX: usize = 3;

/// A source whose tree was looked through.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its name, `SERVICE.files`.
    pub source: &'a str,
    /// Its service.
    pub service: &'a str,
    /// What was found.
    pub databases: &'a [Database],
    /// Whether captures read the tree from a snapshot: then all files are of one instant, and what a database makes of them is
    /// what it makes of a loss of power.
    pub from_snapshot: bool,
    /// Whether they could be.
    pub could_be: bool,
    /// The words of all programs of `command` sources of this node.
    pub dumped: &'a BTreeSet<String>,
}

impl Found<'_> {
    /// Judges each kind. What is proposed as a name is taken in `names`.
    pub fn judge(&self, names: &mut Names, words: &Words) -> Vec<Finding> {
        let kinds = [DatabaseKind::Postgres, DatabaseKind::MySql, DatabaseKind::Sqlite, DatabaseKind::Rocks];
        kinds.into_iter().flat_map(|kind| self.of_kind(kind, names, words)).collect()
    }

    fn subject(&self) -> String {
        format!("source {}", self.source)
    }

    fn of_kind(&self, kind: DatabaseKind, names: &mut Names, words: &Words) -> Vec<Finding> {
        let of_it: Vec<&Database> = self.databases.iter().filter(|database| database.kind == kind).collect();
        if of_it.is_empty() {
            return Vec::new();
        }
        let (subject, name) = (self.subject(), name(kind));
        if self.from_snapshot {
            let what = format!(
                "{} of {name} are read from a snapshot, which is of one instant",
                counted(of_it.len())
            );
            return vec![Finding::ok(&subject, check(kind), what)];
        }
        let dumped = of_it.iter().filter(|database| self.is_dumped(database)).count();
        let live: Vec<&&Database> =
            of_it.iter().filter(|database| !self.is_dumped(database) && self.matters(database)).collect();
        if live.is_empty() {
            let what = match dumped {
                0 => {
                    format!("{} of {name}, not written to for a week: a copy is whole", counted(of_it.len()))
                }
                _ => format!("{} of {name}: dumped by a `command` source, or at rest", counted(of_it.len())),
            };
            return vec![Finding::ok(&subject, check(kind), what)];
        }
        let mut findings: Vec<Finding> =
            live.iter().take(NAMED_MAX).map(|database| self.finding(database, names, words)).collect();
        if live.len() > NAMED_MAX {
            findings.push(Finding::warning(&subject, check(kind), format!("there are more databases of {name}")).advise(
                "see to each of them, or read the tree from a snapshot: of those that are named here, this looks for more the next time",
            ));
        }
        findings
    }

    /// One at rest is copied whole, unless nobody can tell.
    fn matters(&self, database: &Database) -> bool {
        database.is_in_use || database.kind == DatabaseKind::Postgres
    }

    /// Files are dumped by name; what a dump of a server has is not told by its words, and it is taken to have it all.
    fn is_dumped(&self, database: &Database) -> bool {
        let path = database.path.display().to_string();
        let marks: &[&str] = match database.kind {
            DatabaseKind::Postgres => &["pg_dump", "pg_basebackup"],
            DatabaseKind::MySql => {
                &["mysqldump", "mariadb-dump", "mariabackup", "mariadb-backup", "xtrabackup"]
            }
            DatabaseKind::Sqlite | DatabaseKind::Rocks => &[],
        };
        let names_it = |word: &String| word.contains(&path) || marks.iter().any(|mark| word.contains(mark));
        self.dumped.iter().any(names_it)
    }

    fn finding(&self, database: &Database, names: &mut Names, words: &Words) -> Finding {
        let (subject, path) = (self.subject(), database.path.display().to_string());
        let place = format!("{}, in [service.{}]", words.fleet_file.display(), self.service);
        let check = check(database.kind);
        match database.kind {
            DatabaseKind::Postgres => {
                let what = format!("{path} is a data directory of PostgreSQL");
                let finding = match database.is_in_use {
                    true => Finding::problem(&subject, check, what),
                    false => Finding::warning(&subject, check, format!("{what}, which is stopped now")),
                };
                let name = names.source(self.service, "pgdump");
                // Whose server runs in a container is asked there.
                let is_contained = ["/docker/", "/containers/", "/podman/"].iter().any(|mark| path.contains(mark));
                let (run, takes) = match is_contained {
                    true => (
                        r#"["docker", "exec", "CONTAINER", "pg_dumpall", "-U", "postgres", "--clean", "--if-exists"]"#,
                        "the name of the container",
                    ),
                    false => (
                        r#"["pg_dumpall", "--clean", "--if-exists"]"#,
                        "`command_user = \"postgres\"`",
                    ),
                };
                finding
                    .because(format!("copied as files while the server runs it is not a backup: what is restored may not start, or lack what was committed. The line dumps it besides; it takes {takes}, and `commands = true` in [allow]"))
                    .set(
                        place,
                        format!("command.{name} = {{ run = {run}, rpo = \"1h\" }}"),
                    )
            }
            DatabaseKind::MySql => Finding::problem(&subject, check, format!("{path} is a data directory of MySQL or MariaDB"))
                .because("copied as files while the server runs it is not a backup: what is restored may not start")
                .set(
                    place,
                    format!(
                        "command.{} = {{ run = [\"mariadb-dump\", \"--all-databases\", \"--single-transaction\", \"--routines\", \"--events\"], rpo = \"1h\" }}",
                        names.source(self.service, "mysqldump")
                    ),
                ),
            DatabaseKind::Sqlite | DatabaseKind::Rocks if self.could_be => {
                let kind = name(database.kind);
                let finding = Finding::warning(
                    &subject,
                    check,
                    format!("{path} is a database of {kind} that is written to"),
                )
                .because("a copy that is taken between two of its writes may be torn. Read from a snapshot, it is as a power failure would leave it, which it survives");
                let is_mended = |other: &&Database| {
                    matches!(other.kind, DatabaseKind::Sqlite | DatabaseKind::Rocks)
                        && self.matters(other)
                        && !self.is_dumped(other)
                };
                // One line for all of them.
                match self.databases.iter().find(is_mended) {
                    Some(first) if first.path != database.path => {
                        finding.advise(format!("what mends {} mends this as well", first.path.display()))
                    }
                    _ => finding.set(
                        format!("{}, in `files` of [service.{}]", words.fleet_file.display(), self.service),
                        "snapshot = \"btrfs\"",
                    ),
                }
            }
            DatabaseKind::Sqlite => {
                let stem = database.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                let run = format!("[\"sqlite3\", \"-readonly\", {}, \".dump\"]", toml_text(&path));
                let line = format!(
                    "command.{} = {{ run = {run}, rpo = \"1h\" }}",
                    names.source(self.service, &stem.unwrap_or_default())
                );
                Finding::warning(&subject, check, format!("{path} is a database of SQLite that is written to"))
                    .because("a copy that is taken between two of its writes may be torn. The line dumps it besides, which is whole; it takes `commands = true` in [allow]")
                    .set(place, line)
            }
            DatabaseKind::Rocks => {
                Finding::warning(&subject, check, format!("{path} is a database of RocksDB or LevelDB that is written to"))
                    .because("its files are copied one after the other and may not belong together; it has no tool that dumps it while it is in use")
                    .advise("have the program that owns it write a backup or checkpoint of its own into the tree, or stop it for a capture (`backstay now`)")
            }
        }
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 database".to_owned(),
        more => format!("{more} databases"),
    }
}

fn name(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Postgres => "PostgreSQL",
        DatabaseKind::MySql => "MySQL or MariaDB",
        DatabaseKind::Sqlite => "SQLite",
        DatabaseKind::Rocks => "RocksDB or LevelDB",
    }
}

fn check(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Postgres => "postgres",
        DatabaseKind::MySql => "mysql",
        DatabaseKind::Sqlite => "sqlite",
        DatabaseKind::Rocks => "rocksdb",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Fix, Level};
    use super::*;

    fn judge(databases: &[Database], from_snapshot: bool, dumped: &[&str]) -> Vec<Finding> {
        let dumped = dumped.iter().map(|word| (*word).to_owned()).collect();
        let mut names = Names::of([("app", "app.files"), ("app", "app.data")]);
        let found = Found {
            source: "app.files",
            service: "app",
            databases,
            from_snapshot,
            could_be: false,
            dumped: &dumped,
        };
        found.judge(&mut names, &Words::of_tests(0))
    }

    fn database(kind: DatabaseKind, path: &str, is_in_use: bool) -> Database {
        Database { kind, path: path.into(), is_in_use }
    }

    #[test]
    fn each_kind_that_is_in_use_is_told_with_its_line() {
        let sqlite = [database(DatabaseKind::Sqlite, "/srv/app/data.db", true)];
        let found = judge(&sqlite, false, &[]);
        assert_eq!((found.len(), found[0].level, found[0].check), (1, Level::Warning, "sqlite"));
        let line = "command.data-2 = { run = [\"sqlite3\", \"-readonly\", \"/srv/app/data.db\", \".dump\"], rpo = \"1h\" }";
        let place = "/etc/backstay/fleet.toml, in [service.app]";
        assert_eq!(found[0].fix, Some(Fix::Setting { place: place.into(), lines: line.into() }));
        let contained = database(DatabaseKind::Postgres, "/var/lib/docker/volumes/db/_data", true);
        let found = judge(&[contained], false, &[]);
        assert!(
            found[0].fix.as_ref().is_some_and(|fix| fix.text().contains("\"docker\", \"exec\"")),
            "{found:?}"
        );
        for (kind, level) in [
            (DatabaseKind::Postgres, Level::Problem),
            (DatabaseKind::MySql, Level::Problem),
            (DatabaseKind::Rocks, Level::Warning),
        ] {
            assert_eq!(judge(&[database(kind, "/srv/app/db", true)], false, &[])[0].level, level);
        }
    }

    #[test]
    fn a_snapshot_a_dump_or_rest_make_it_good() {
        let sqlite = [database(DatabaseKind::Sqlite, "/srv/app/data.db", true)];
        assert_eq!(judge(&sqlite, true, &[])[0].level, Level::Ok);
        assert_eq!(judge(&sqlite, false, &["sqlite3", "/srv/app/data.db"])[0].level, Level::Ok);
        assert_eq!(judge(&sqlite, false, &["sqlite3 /srv/app/data.db .dump | cat"])[0].level, Level::Ok);
        let resting = [database(DatabaseKind::Sqlite, "/srv/app/old.db", false)];
        assert_eq!(judge(&resting, false, &[])[0].level, Level::Ok);
        let stopped = [database(DatabaseKind::Postgres, "/srv/app/pg", false)];
        assert_eq!(judge(&stopped, false, &[])[0].level, Level::Warning);
        assert_eq!(judge(&stopped, false, &["pg_dumpall"])[0].level, Level::Ok);
    }

    #[test]
    fn on_btrfs_a_snapshot_is_what_mends_it() {
        let dumped = BTreeSet::new();
        let databases = [database(DatabaseKind::Rocks, "/srv/app/kv", true)];
        let found = Found {
            source: "app.files",
            service: "app",
            databases: &databases,
            from_snapshot: false,
            could_be: true,
            dumped: &dumped,
        };
        let found = found.judge(&mut Names::default(), &Words::of_tests(0));
        assert_eq!(found[0].fix.as_ref().map(Fix::text), Some("snapshot = \"btrfs\""));
    }

    #[test]
    fn of_many_some_are_named() {
        let many: Vec<Database> =
            (0..6).map(|n| database(DatabaseKind::Sqlite, &format!("/srv/app/{n}.db"), true)).collect();
        let found = judge(&many, false, &[]);
        assert_eq!(found.len(), NAMED_MAX + 1);
        assert!(found[NAMED_MAX].what.contains("more"));
    }

    #[test]
    fn lines_that_are_pasted_together_have_names_of_their_own() {
        let same = ["a", "b", "c"]
            .map(|folder| database(DatabaseKind::Sqlite, &format!("/srv/app/{folder}/data.db"), true));
        let lines = judge(&same, false, &[]).into_iter().filter_map(|found| found.fix);
        let names: Vec<String> =
            lines.filter_map(|fix| fix.text().split(' ').next().map(str::to_owned)).collect();
        assert_eq!(names, ["command.data-2", "command.data-3", "command.data-4"]);
    }
}
