//! A look through a tree, bounded by entries and by time: how many directories it has, what this user cannot read, and which
//! databases are in it. Gathers facts; says when it stopped before the end. Directories near the root come first, so that
//! what is not reached lies deep.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use backstay_files::exclude::Exclude;
use rustix::fs::{Access, AtFlags, CWD, OFlags};

/// Entries that are looked at, at most.
pub const ENTRIES_MAX: u64 = 500_000;

/// How long a look through a tree may take.
pub const TIME_MAX: Duration = Duration::from_secs(20);

/// Files of which the beginning is read, at most.
const HEADERS_MAX: u64 = 20_000;

/// Entries of each kind that are named; the others are counted.
const NAMED_MAX: usize = 5;

/// Other file systems that are told of.
const FOREIGN_MAX: usize = 100;

/// A database that has not been written to for so long is at rest: a copy of it is whole.
const RESTING: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a file of SQLite begins (sqlite.org/fileformat.html, 1.2).
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Pages of SQLite are at least so long, and files have whole ones.
const SQLITE_PAGE_LEAST: u64 = 512;

/// The kinds of databases that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseKind {
    /// A data directory of PostgreSQL.
    Postgres,
    /// One of MySQL or MariaDB.
    MySql,
    /// A file of SQLite.
    Sqlite,
    /// A directory of RocksDB or LevelDB.
    Rocks,
}

/// A database in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Which.
    pub kind: DatabaseKind,
    /// Its file or directory.
    pub path: PathBuf,
    /// Whether it is in use, or was written to lately.
    pub is_in_use: bool,
}

/// What a look through a tree has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Entries that were looked at.
    pub entries: u64,
    /// Directories among them, the root too.
    pub directories: u64,
    /// What cannot be read, by name.
    pub unreadable: Vec<PathBuf>,
    /// How many in all.
    pub unreadable_count: u64,
    /// Directories in which another file system begins, which is not a part of the source; some of them.
    pub foreign: Vec<PathBuf>,
    /// Databases, of each kind some.
    pub databases: Vec<Database>,
    /// Why it stopped before the end, if it did.
    pub stopped: Option<&'static str>,
}

/// What is looked through.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The root.
    pub root: PathBuf,
    /// What is left out.
    pub exclude: Exclude,
    /// Directories that are left out: vaults, state.
    pub leave_out: Vec<PathBuf>,
    /// Whether other file systems inside belong to it.
    pub crosses: bool,
}

/// A directory that waits for its turn.
struct Waiting {
    path: PathBuf,
    relative: Vec<u8>,
}

impl Tree {
    /// Looks, until the end or a bound.
    pub fn sample(&self) -> std::io::Result<Sample> {
        let end = Instant::now() + TIME_MAX;
        let device = fs::metadata(&self.root)?.dev();
        let identity = |path: &PathBuf| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let left_out: Vec<(u64, u64)> = self.leave_out.iter().filter_map(identity).collect();
        let mut sample = Sample { directories: 1, ..Sample::default() };
        let mut headers = 0;
        let mut waiting = VecDeque::from([Waiting { path: self.root.clone(), relative: Vec::new() }]);
        while let Some(folder) = waiting.pop_front() {
            let entries = match fs::read_dir(&folder.path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    sample.cannot_read(folder.path);
                    continue;
                }
                // It went away meanwhile.
                Err(_) => continue,
            };
            let mut names: Vec<OsString> = Vec::new();
            for entry in entries.flatten() {
                if sample.entries >= ENTRIES_MAX || Instant::now() >= end {
                    let is_many = sample.entries >= ENTRIES_MAX;
                    sample.stopped = Some(if is_many { "entries" } else { "time" });
                    sample.look_at_names(&folder.path, &names);
                    return Ok(sample);
                }
                let (name, path) = (entry.file_name(), entry.path());
                let mut relative = folder.relative.clone();
                if !relative.is_empty() {
                    relative.push(b'/');
                }
                relative.extend_from_slice(name.as_bytes());
                let Ok(found) = entry.metadata() else { continue };
                if self.exclude.matches(&relative) || left_out.contains(&(found.dev(), found.ino())) {
                    continue;
                }
                sample.entries += 1;
                if found.is_dir() {
                    if found.dev() == device || self.crosses {
                        sample.directories += 1;
                        waiting.push_back(Waiting { path, relative });
                    } else if sample.foreign.len() < FOREIGN_MAX {
                        sample.foreign.push(path);
                    }
                } else if found.is_file() {
                    if rustix::fs::accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS).is_err() {
                        sample.cannot_read(path);
                    } else if may_be_sqlite(&found) && headers < HEADERS_MAX {
                        headers += 1;
                        sample.look_at_header(path, &found);
                    }
                }
                names.push(name);
            }
            sample.look_at_names(&folder.path, &names);
        }
        Ok(sample)
    }
}

fn may_be_sqlite(found: &fs::Metadata) -> bool {
    found.len() > 0 && found.len().is_multiple_of(SQLITE_PAGE_LEAST)
}

impl Sample {
    fn cannot_read(&mut self, path: PathBuf) {
        self.unreadable_count += 1;
        if self.unreadable.len() < NAMED_MAX {
            self.unreadable.push(path);
        }
    }

    fn add(&mut self, kind: DatabaseKind, path: PathBuf, is_in_use: bool) {
        let same = |known: &&Database| known.kind == kind && known.is_in_use == is_in_use;
        // One more than is named, so that it can be said that there are more.
        if self.databases.iter().filter(same).count() <= NAMED_MAX {
            self.databases.push(Database { kind, path, is_in_use });
        }
    }

    fn look_at_header(&mut self, path: PathBuf, found: &fs::Metadata) {
        let mut begin = [0; SQLITE_MAGIC.len()];
        // The time of the last access of what is protected is nobody's business; who may not keep it is root's.
        let quietly = File::options()
            .read(true)
            .custom_flags((OFlags::NOATIME | OFlags::NONBLOCK).bits() as i32)
            .open(&path);
        let opened = quietly
            .or_else(|_| File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path));
        if opened.and_then(|mut file| file.read_exact(&mut begin)).is_err() || begin != *SQLITE_MAGIC {
            return;
        }
        let beside = |end: &str| {
            let mut name = path.clone().into_os_string();
            name.push(end);
            fs::metadata(name).is_ok_and(|found| found.len() > 0)
        };
        let is_in_use = is_young(found) || beside("-wal") || beside("-journal");
        self.add(DatabaseKind::Sqlite, path, is_in_use);
    }

    /// Databases that are directories are known by the names in them.
    fn look_at_names(&mut self, folder: &Path, names: &[OsString]) {
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let begins = |begin: &str| names.iter().any(|name| name.as_bytes().starts_with(begin.as_bytes()));
        let young = |name: &str| fs::metadata(folder.join(name)).is_ok_and(|found| is_young(&found));
        if has("PG_VERSION") && (has("global") || has("base") || has("pg_wal")) {
            self.add(DatabaseKind::Postgres, folder.to_path_buf(), has("postmaster.pid"));
        } else if has("ibdata1") {
            self.add(DatabaseKind::MySql, folder.to_path_buf(), young("ibdata1") || young("ib_logfile0"));
        } else if has("CURRENT") && begins("MANIFEST-") {
            let newest = names.iter().filter_map(|name| fs::metadata(folder.join(name)).ok());
            let is_in_use = newest.into_iter().any(|found| is_young(&found));
            self.add(DatabaseKind::Rocks, folder.to_path_buf(), is_in_use);
        }
    }
}

fn is_young(found: &fs::Metadata) -> bool {
    let age = found.modified().map(|modified| SystemTime::now().duration_since(modified));
    // Of a time to come: the clock is wrong, and it may have been now.
    age.is_ok_and(|age| age.is_err() || age.is_ok_and(|age| age < RESTING))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &Path, exclude: &[&str]) -> Tree {
        Tree {
            root: root.to_path_buf(),
            exclude: Exclude::new(exclude).expect("patterns"),
            leave_out: vec![root.join("vault")],
            crosses: false,
        }
    }

    fn sqlite(path: &Path, age: Duration) {
        let mut bytes = SQLITE_MAGIC.to_vec();
        bytes.resize(4096, 0);
        fs::write(path, bytes).expect("writes");
        let file = File::options().write(true).open(path).expect("opens");
        file.set_modified(SystemTime::now() - age).expect("sets");
    }

    #[test]
    fn databases_are_known_by_what_they_have_and_not_by_their_names() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("app/pg/global")).expect("makes");
        fs::write(at("app/pg/PG_VERSION"), "17\n").expect("writes");
        fs::write(at("app/pg/postmaster.pid"), "7\n").expect("writes");
        // A database within a cluster, and a mere text.
        fs::create_dir_all(at("base/1")).expect("makes");
        fs::write(at("base/1/PG_VERSION"), "17\n").expect("writes");
        fs::create_dir(at("rocks")).expect("makes");
        for name in ["CURRENT", "MANIFEST-000004"] {
            fs::write(at("rocks").join(name), "").expect("writes");
        }
        sqlite(&at("app.db"), Duration::ZERO);
        sqlite(&at("old.db"), RESTING * 2);
        fs::write(at("fake.sqlite"), vec![b'x'; 512]).expect("writes");
        fs::create_dir(at("vault")).expect("makes");
        sqlite(&at("vault/left out.db"), Duration::ZERO);
        fs::create_dir(at("cache")).expect("makes");
        sqlite(&at("cache/excluded.db"), Duration::ZERO);
        let sample = tree(root.path(), &["cache"]).sample().expect("looks");
        let mut found: Vec<(DatabaseKind, String, bool)> = sample
            .databases
            .iter()
            .map(|database| {
                let path = database.path.strip_prefix(root.path()).expect("below").display().to_string();
                (database.kind, path, database.is_in_use)
            })
            .collect();
        found.sort();
        let expected = [
            (DatabaseKind::Postgres, "app/pg", true),
            (DatabaseKind::Sqlite, "app.db", true),
            (DatabaseKind::Sqlite, "old.db", false),
            (DatabaseKind::Rocks, "rocks", true),
        ];
        assert_eq!(found, expected.map(|(kind, path, is_in_use)| (kind, path.to_owned(), is_in_use)));
        // The root, app, pg, global, base, 1, rocks.
        assert_eq!(sample.directories, 7);
        assert_eq!(sample.stopped, None);
    }

    #[test]
    fn what_is_found_is_bounded() {
        let root = tempfile::tempdir().expect("a folder");
        for n in 0..20 {
            sqlite(&root.path().join(format!("{n}.db")), Duration::ZERO);
        }
        let sample = tree(root.path(), &[]).sample().expect("looks");
        assert_eq!(sample.databases.len(), NAMED_MAX + 1);
        assert_eq!(sample.entries, 20);
    }
}
