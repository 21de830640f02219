//! What this node keeps of the fleet's configuration in its vaults, laid out as a tree under the state, which is captured as any
//! other: the files of the configuration as they are on the disk, and the roster of the fleet. Secrets are references there, and
//! no key is among it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_core::config::{Config, FLEET_RPO, FilesSource, Source, SourceKind, SourceName, TEXT_BYTES_MAX};
use backstay_core::units::Timestamp;

use crate::failure::Failure;
use crate::fleet;
use crate::node::{advice, make_state_folder};

/// The file that is the same on all nodes.
pub const FLEET_FILE: &str = "fleet.toml";
/// A node's own file.
pub const NODE_FILE: &str = "node.toml";
/// All tables in one file, whatever that is called where it was read.
pub const SINGLE_FILE: &str = "backstay.toml";
/// The roster as the admin has signed it (docs/protocol.md).
pub const ROSTER: &str = "roster";

/// Longest roster that is taken along, bytes.
pub const ROSTER_BYTES_MAX: u64 = 4 << 20;

/// Where nothing has changed, nothing is written to a vault that was told so no longer ago than this.
const TOLD_FOR: Duration = FLEET_RPO.checked_div(2).expect("2 is not 0");

/// How often the daemon looks whether the files have changed.
pub const LOOK: Duration = Duration::from_secs(15);

/// Whether a source is what nodes keep of the fleet's configuration.
pub fn is_fleet(source: &Source) -> bool {
    source.service.as_str() == SourceName::FLEET
}

/// The files that are taken along, each with its name there.
fn files(config: &Config) -> BTreeMap<&'static str, PathBuf> {
    let mut files = BTreeMap::new();
    if let Some(read_from) = &config.read_from {
        // As it was read: a directory has both.
        if config.fleet_file.is_some() {
            files.insert(FLEET_FILE, read_from.join(FLEET_FILE));
            files.insert(NODE_FILE, read_from.join(NODE_FILE));
        } else {
            files.insert(SINGLE_FILE, read_from.clone());
        }
    }
    files.insert(ROSTER, fleet::Files::below(&config.node.state).roster_file());
    files
}

/// What changed files are known by: for each the time of its last change, and its length.
pub fn mark(config: &Config) -> BTreeMap<&'static str, Option<(Timestamp, u64)>> {
    let mark = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((changed(&found), found.len()))
    };
    files(config).into_iter().map(|(name, path)| (name, mark(&path))).collect()
}

/// When any of the files was changed last; none where none is there.
pub fn last_change(config: &Config) -> Option<Timestamp> {
    mark(config).into_values().flatten().map(|(time, _)| time).max()
}

/// Of what is captured now of the tree of `source`: whether a vault that has it as it was then has all of it, and was told so
/// lately.
pub fn is_told(source: &Source, since: Timestamp, now: Timestamp) -> bool {
    let SourceKind::Files(FilesSource { path, .. }) = &source.kind else { return false };
    let there = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let times =
        there.chain([path.clone()]).map(|path| fs::symlink_metadata(path).map(|found| changed(&found)));
    let last = times.collect::<Result<Vec<_>, _>>().ok().and_then(|times| times.into_iter().max());
    last.is_some_and(|last| last < since) && since <= now && now.duration_since(since) < TOLD_FOR
}

/// Brings the tree of `source` up to date. What has not changed is not touched, so that its times say when it was.
pub fn lay_out(config: &Config, source: &Source) -> Result<(), Failure> {
    let SourceKind::Files(FilesSource { path: folder, .. }) = &source.kind else { return Ok(()) };
    make_state_folder(&config.node.state)?;
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::failed(format!(
            "cannot lay out {} under the state: {}: {error}; {}",
            source.name,
            path.display(),
            advice(path, error)
        ))
    };
    make_folder(folder).map_err(|error| failed(folder, &error))?;
    let files = files(config);
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let is_meant = |name: &OsStr| files.keys().any(|known| OsStr::new(known) == name);
        if !path.file_name().is_some_and(is_meant) {
            fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    for (name, from) in &files {
        let to = folder.join(name);
        let written = match read(from).map_err(|error| failed(from, &error))? {
            Some(content) => write_if_other(&to, &content),
            None => match fs::remove_file(&to) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        written.map_err(|error| failed(&to, &error))?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

/// A file's content. None where there is no roster; the configuration has to be there, or what is in the vaults
/// would be taken away because a disk is not mounted.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let is_roster = path.file_name() == Some(OsStr::new(ROSTER));
    let bytes_max = if is_roster { ROSTER_BYTES_MAX } else { TEXT_BYTES_MAX as u64 };
    let file = match File::open(path) {
        Err(error) if is_roster && error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(Some(content))
}

fn write_if_other(to: &Path, content: &[u8]) -> std::io::Result<()> {
    if fs::read(to).is_ok_and(|there| there == content) {
        return Ok(());
    }
    // One that stays behind goes the next time, as all that is not meant.
    let unfinished = to.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(&unfinished, to)
}

fn changed(found: &fs::Metadata) -> Timestamp {
    // By that of the inode: a file that was put back has an old time of its contents.
    Timestamp::from_nanos(found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose configuration was read from a directory, and its source.
    fn node(folder: &Path) -> (Config, Source) {
        let etc = folder.join("etc");
        fs::create_dir(&etc).expect("makes");
        fs::write(
            etc.join(FLEET_FILE),
            "[fleet]\nname = \"home\"\n[vault.local]\nkind = \"dir\"\npath = \"/srv/vault\"\n[service.web]\nfiles = { path = \"/srv/web\" }\n",
        )
        .expect("writes");
        let state = folder.join("state");
        let own = format!("[node]\nname = \"box\"\nstate = \"{}\"\n", state.display());
        fs::write(etc.join(NODE_FILE), own).expect("writes");
        let config = crate::load::load(&etc).unwrap_or_else(|failure| panic!("{failure}"));
        let source = config.own_fleet_source().expect("a source").clone();
        (config, source)
    }

    fn laid_out(source: &Source) -> Vec<(String, String)> {
        let SourceKind::Files(files) = &source.kind else { panic!("{source:?}") };
        let entries =
            fs::read_dir(&files.path).expect("a folder").map(|entry| entry.expect("an entry").path());
        let read = |path: PathBuf| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a text"))
        };
        let mut found: Vec<_> = entries.map(read).collect();
        found.sort();
        found
    }

    #[test]
    fn the_files_as_they_are_and_the_roster_are_laid_out_and_nothing_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, source) = node(folder.path());
        lay_out(&config, &source).unwrap_or_else(|failure| panic!("{failure}"));
        let names = |source: &Source| laid_out(source).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&source), [FLEET_FILE, NODE_FILE]);

        let roster = fleet::Files::below(&config.node.state).roster_file();
        fs::create_dir_all(roster.parent().expect("a folder")).expect("makes");
        fs::write(&roster, "signed").expect("writes");
        let changed = "[fleet]\nname = \"home\"\n# more\n";
        fs::write(folder.path().join("etc").join(FLEET_FILE), changed).expect("writes");
        fs::write(config.node.state.join("fleet-source/fleet.new"), "torn").expect("writes");
        lay_out(&config, &source).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(names(&source), [FLEET_FILE, NODE_FILE, ROSTER]);
        assert_eq!(laid_out(&source)[0].1, changed);

        fs::remove_file(&roster).expect("removes");
        lay_out(&config, &source).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(names(&source), [FLEET_FILE, NODE_FILE]);
        // A disk that is not mounted takes nothing away from the vaults.
        fs::rename(folder.path().join("etc"), folder.path().join("away")).expect("renames");
        assert!(lay_out(&config, &source).is_err());
        assert_eq!(names(&source), [FLEET_FILE, NODE_FILE]);
    }

    #[test]
    fn a_vault_is_told_again_when_something_has_changed_and_after_half_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, source) = node(folder.path());
        lay_out(&config, &source).unwrap_or_else(|failure| panic!("{failure}"));
        let SourceKind::Files(files) = &source.kind else { panic!("{source:?}") };
        let times = || {
            let paths = [files.path.clone(), files.path.join(FLEET_FILE), files.path.join(NODE_FILE)];
            paths.map(|path| changed(&fs::metadata(path).expect("is there")))
        };
        let before = times();
        let last = before.iter().max().copied().expect("a time");
        let at = |seconds: u64| last.saturating_add(Duration::from_secs(seconds));
        assert!(is_told(&source, at(1), at(2)));
        assert!(!is_told(&source, last, at(2)), "it may have changed after that");
        assert!(!is_told(&source, at(1), at(1).saturating_add(TOLD_FOR)));
        assert!(!is_told(&source, at(5), at(2)), "the clock went back");
        lay_out(&config, &source).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(times(), before, "what has not changed is not touched");
        assert_eq!(last_change(&config).map(|change| change <= last), Some(true));
    }
}
