//! The configuration of a node, out of what it keeps of it in its vaults, to where it is read. Never over anything.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use backstay_core::config::{
    Config, ConfigTexts, NodeName, SecretRef, SourceKind, SourceText, TEXT_BYTES_MAX,
};
use backstay_core::id::SignerKey;
use backstay_files::keys::PathKey;
use backstay_files::look::StoredFile;
use backstay_net::identity::SignedRoster;
use backstay_vault::read::ChunkReader;
use backstay_vault::vault::Reading;
use serde::Serialize;

use super::found::FoundSource;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::fleet_source::{FLEET_FILE, NODE_FILE, ROSTER, ROSTER_BYTES_MAX, SINGLE_FILE};
use crate::load;
use crate::new_file::{Existing, NewFile};
use crate::node::advice;

/// Where it goes: a directory, or a file for all tables.
#[derive(Debug)]
pub(super) struct ConfigPlace {
    pub(super) path: PathBuf,
    is_file: bool,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub(super) struct ShownConfiguration {
    source: String,
    time: String,
    files: Vec<ShownFile>,
    /// What its secrets refer to and is not there.
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownFile {
    path: String,
    outcome: FileOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum FileOutcome {
    Planned,
    Written,
    /// It is there, and the same.
    WasThere,
    /// Another one is there, and stays.
    Refused,
}

impl ConfigPlace {
    /// As --config says it: what ends in `.toml` is a file, unless it is a directory.
    pub(super) fn at(path: &Path) -> Self {
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        Self { path: path.to_path_buf(), is_file: path.is_file() || (is_toml && !path.is_dir()) }
    }

    /// The directory, or that of the file.
    pub(super) fn folder(&self) -> PathBuf {
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty());
        match self.is_file {
            true => above.unwrap_or(Path::new(".")).to_path_buf(),
            false => self.path.clone(),
        }
    }

    /// Where a file of the configuration goes.
    fn file(&self, name: &str) -> Result<PathBuf, Failure> {
        match (self.is_file, name) {
            (false, name) => Ok(self.path.join(name)),
            (true, SINGLE_FILE) => Ok(self.path.clone()),
            (true, _) => Err(Failure::usage(format!(
                "the configuration was two files, {FLEET_FILE} and {NODE_FILE}: give a directory for them, with --config DIR"
            ))),
        }
    }

    /// What --config is for what was restored.
    fn read_from(&self, has_single: bool) -> PathBuf {
        if has_single && !self.is_file { self.path.join(SINGLE_FILE) } else { self.path.clone() }
    }
}

impl ShownConfiguration {
    /// Whether any of it was written.
    pub(super) fn is_written(&self) -> bool {
        self.files.iter().any(|file| file.outcome == FileOutcome::Written)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.files.iter().any(|file| file.outcome == FileOutcome::Refused)
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let file = |ShownFile { path, outcome }: &ShownFile| match outcome {
            FileOutcome::Planned => format!("{path} would be written, as of {}", self.time),
            FileOutcome::Written => format!("{path} written, as of {}", self.time),
            FileOutcome::WasThere => format!("{path} is there already, as the vault has it"),
            FileOutcome::Refused => format!(
                "{path} is another one, and is not written over: compare it with `backstay restore {} --to DIR`, or move it away and run the same command again",
                self.source
            ),
        };
        let missing = self.missing.iter().map(|what| format!("still to be brought here by hand: {what}"));
        self.files.iter().map(file).chain(missing).collect()
    }
}

/// The files of a configuration, as a source has them.
#[derive(Debug)]
pub(super) struct FoundConfiguration {
    source: String,
    time: String,
    files: Vec<(&'static str, Vec<u8>)>,
    /// Who belonged to the fleet, as its admin has signed it; or why that is not known. None where there was no fleet.
    roster: Option<Result<String, String>>,
}

impl FoundConfiguration {
    /// Reads what this source has.
    pub(super) fn of(source: &FoundSource) -> Result<Self, Failure> {
        let (vault, catalogue) = (&source.held.vault, &source.held.catalogue);
        let reading = Reading::begin(vault, catalogue, source.point.link, None, &SystemClock)?;
        let reader = ChunkReader::new(vault.clone());
        let read = |name: &str, bytes_max: u64| -> Result<Option<Vec<u8>>, Failure> {
            let key = PathKey::from_components([name.as_bytes()]).map_err(Failure::failed)?;
            let file = match StoredFile::find(&reading, &key) {
                Err(error) if error.is_not_there() => return Ok(None),
                file => file?,
            };
            if file.size_bytes() > bytes_max {
                return Err(Failure::failed(format!("{name} of {} is longer than any is", source.name)));
            }
            Ok(Some(file.write_to(reader.clone(), Vec::new())?))
        };
        let mut files = Vec::new();
        for name in [SINGLE_FILE, FLEET_FILE, NODE_FILE] {
            files.extend(read(name, TEXT_BYTES_MAX as u64)?.map(|content| (name, content)));
        }
        if files.is_empty() {
            return Err(Failure::failed(format!("there is no configuration in {}", source.name)));
        }
        let time = source.point.common.capture_start.to_string();
        let roster = match read(ROSTER, ROSTER_BYTES_MAX) {
            Ok(roster) => roster.map(|roster| members(roster, vault.ring().admin())),
            Err(failure) => Some(Err(failure.message)),
        };
        Ok(Self { source: source.name.to_string(), time, files, roster })
    }

    /// Who belonged to the fleet, or why that is not known; none where there was none.
    pub(super) fn roster(&self) -> Option<&Result<String, String>> {
        self.roster.as_ref()
    }

    /// What --config is to be for it when it is restored there.
    pub(super) fn read_from(&self, place: &ConfigPlace) -> PathBuf {
        place.read_from(self.files.iter().any(|(name, _)| *name == SINGLE_FILE))
    }

    /// What it says, if this version can read it.
    pub(super) fn parsed(&self) -> Result<Config, String> {
        let text = |name: &str| -> Option<Result<&str, String>> {
            let (_, content) = self.files.iter().find(|(known, _)| *known == name)?;
            Some(std::str::from_utf8(content).map_err(|error| format!("{name} of {}: {error}", self.source)))
        };
        let texts = match (text(SINGLE_FILE), text(FLEET_FILE), text(NODE_FILE)) {
            (Some(single), ..) => ConfigTexts::Single(SourceText { name: SINGLE_FILE, text: single? }),
            (None, Some(fleet), Some(node)) => ConfigTexts::Split {
                fleet: SourceText { name: FLEET_FILE, text: fleet? },
                node: SourceText { name: NODE_FILE, text: node? },
            },
            _ => return Err(format!("{} has one file of two", self.source)),
        };
        Config::parse(texts).map_err(|errors| in_one_line(&errors.to_string()))
    }

    /// Writes the files.
    pub(super) fn restore(&self, place: &ConfigPlace, dry_run: bool) -> Result<ShownConfiguration, Failure> {
        // All have a place before the first is written.
        let paths = self.files.iter().map(|(name, content)| Ok((place.file(name)?, content)));
        let mut files = Vec::new();
        for (path, content) in paths.collect::<Result<Vec<_>, Failure>>()? {
            let outcome = match (there(&path)?, dry_run) {
                (Some(there), _) if there == *content => FileOutcome::WasThere,
                (Some(_), _) => FileOutcome::Refused,
                (None, true) => FileOutcome::Planned,
                (None, false) => {
                    write(&path, content)?;
                    FileOutcome::Written
                }
            };
            files.push(ShownFile { path: path.display().to_string(), outcome });
        }
        let missing = match dry_run {
            true => Vec::new(),
            false => missing(&self.read_from(place)),
        };
        Ok(ShownConfiguration { source: self.source.clone(), time: self.time.clone(), files, missing })
    }
}

/// What was wrong with a configuration, in a line among others.
fn in_one_line(problems: &str) -> String {
    let lines = problems.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// The nodes that a roster names.
fn members(roster: Vec<u8>, admin: SignerKey) -> Result<String, String> {
    let roster = SignedRoster::read(roster.into(), Some(admin)).map_err(|fault| fault.to_string())?;
    let names: Vec<&str> = roster.members.keys().map(NodeName::as_str).collect();
    Ok(format!("{} (roster {} of {})", names.join(", "), roster.number, roster.made))
}

fn there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Whole or not at all, for its owner alone, and not over anything that came meanwhile.
fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
    }
    let mut file = NewFile::create(path, Existing::Refuse)?;
    file.writer().write_all(content).map_err(|error| failed("write", path, &error))?;
    Ok(file.finish()?)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}; {}", path.display(), advice(path, error)))
}

/// What the secrets of a configuration refer to and is not on this machine, as far as a file can be looked for.
fn missing(path: &Path) -> Vec<String> {
    match load::load(path) {
        Ok(config) => {
            secrets(&config).into_iter().filter(|secret| !is_there(secret)).map(|s| s.to_string()).collect()
        }
        Err(failure) => {
            let why = in_one_line(&failure.message);
            vec![format!("what its secrets refer to, which is not known, since it cannot be read: {why}")]
        }
    }
}

fn secrets(config: &Config) -> Vec<SecretRef> {
    let of_vaults = config.secrets.values().flat_map(|secret| {
        let keys = std::iter::once(&secret.writer).chain(&secret.custodian);
        keys.flat_map(|key| [&key.access, &key.secret])
    });
    let of_programs = config.sources_at_home_on(&config.node.name).flat_map(|source| match &source.kind {
        SourceKind::Command(command) => command.secrets.values().collect(),
        _ => Vec::new(),
    });
    let mut secrets: Vec<SecretRef> = Vec::new();
    for secret in of_vaults.chain(of_programs) {
        if !secrets.contains(secret) {
            secrets.push(secret.clone());
        }
    }
    secrets
}

fn is_there(secret: &SecretRef) -> bool {
    match secret {
        SecretRef::File(path) => path.exists(),
        SecretRef::Env(_) | SecretRef::Credential(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_gets_the_files_under_their_names_and_a_file_the_one_with_all_tables() {
        let folder = tempfile::tempdir().expect("a folder");
        let at =
            |path: &Path, name: &str| ConfigPlace::at(path).file(name).map_err(|failure| failure.message);
        let etc = folder.path().join("etc");
        assert_eq!(at(&etc, NODE_FILE), Ok(etc.join("node.toml")));
        assert_eq!(at(&etc, SINGLE_FILE), Ok(etc.join("backstay.toml")));
        let file = folder.path().join("mine.toml");
        assert_eq!(at(&file, SINGLE_FILE), Ok(file.clone()));
        assert!(at(&file, FLEET_FILE).expect_err("two files").contains("--config DIR"));
        assert_eq!(ConfigPlace::at(&file).folder(), folder.path());
        // Whatever they are called.
        let (odd, directory) = (folder.path().join("config"), folder.path().join("dir.toml"));
        fs::write(&odd, "").expect("writes");
        fs::create_dir(&directory).expect("makes");
        assert_eq!(at(&odd, SINGLE_FILE), Ok(odd.clone()));
        assert_eq!(at(&directory, NODE_FILE), Ok(directory.join("node.toml")));
        assert_eq!(ConfigPlace::at(&directory).read_from(true), directory.join("backstay.toml"));
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("etc/node.toml");
        write(&file, b"first").expect("writes");
        let refused = write(&file, b"second").expect_err("it is there");
        assert!(refused.message.contains("is there already"), "{refused}");
        let mode = fs::metadata(&file).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "it may have a secret in clear");
        assert_eq!(fs::read_dir(file.parent().expect("a folder")).expect("lists").count(), 1);
        assert_eq!(there(&file).map_err(|failure| failure.message), Ok(Some(b"first".to_vec())));
        let missing = there(&folder.path().join("other")).map_err(|failure| failure.message);
        assert_eq!(missing, Ok(None));
    }
}
