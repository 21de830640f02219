//! Reading of the configuration's files: a directory with fleet.toml and node.toml, or one file.

use std::fs;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use backstay_core::config::{Config, ConfigTexts, SourceKind, SourceText, TEXT_BYTES_MAX};
use backstay_files::exclude::Exclude;

use crate::failure::Failure;
use crate::node::advice;

/// Reads and checks the configuration at `path`, a directory or a file.
pub fn load(path: &Path) -> Result<Config, Failure> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mut fleet_file = None;
    let parsed = if metadata.is_dir() {
        let (fleet, node) = (path.join("fleet.toml"), path.join("node.toml"));
        let (fleet_text, node_text) = (read(&fleet)?, read(&node)?);
        fleet_file = Some(*blake3::hash(fleet_text.as_bytes()).as_bytes());
        let (fleet_name, node_name) = (fleet.display().to_string(), node.display().to_string());
        Config::parse(ConfigTexts::Split {
            fleet: SourceText { name: &fleet_name, text: &fleet_text },
            node: SourceText { name: &node_name, text: &node_text },
        })
    } else {
        let text = read(path)?;
        let name = path.display().to_string();
        Config::parse(ConfigTexts::Single(SourceText { name: &name, text: &text }))
    };
    let config = parsed.map_err(Failure::usage)?;
    check_exclusions(&config)?;
    // The daemon reads it again, wherever it is by then.
    let read_from = Some(std::path::absolute(path)?);
    Ok(Config { fleet_file, read_from, ..config })
}

/// What an exclusion means is known to the kind of source only, and a capture is too late to find out.
fn check_exclusions(config: &Config) -> Result<(), Failure> {
    for source in &config.sources {
        if let SourceKind::Files(files) = &source.kind {
            Exclude::new(&files.exclude)
                .map_err(|error| Failure::usage(format!("service.{}: {error}", source.name)))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut text = String::new();
    let read = file.take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

fn unreadable(path: &Path, error: &Error) -> Failure {
    let what_to_do = match error.kind() {
        ErrorKind::NotFound => {
            "write one: two files, fleet.toml and node.toml, in /etc/backstay or where --config DIR says, or one file with all tables, which --config FILE names. The README's quick start has an example to begin with; `backstay demo` needs none".to_owned()
        }
        ErrorKind::InvalidData => "it has to be text, in UTF-8".to_owned(),
        _ => advice(path, error),
    };
    Failure::usage(format!("cannot read the configuration {}: {error}; {what_to_do}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusion_that_cannot_be_used_is_told_before_anything_is_captured() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = "[fleet]\nname = \"home\"\n[node]\nname = \"box\"\nstate = \"/tmp/backstay\"\n\
                    [vault.local]\nkind = \"dir\"\npath = \"/srv/vault\"\n\
                    [service.static]\nfiles = { path = \"/srv\", exclude = [\"[a\"] }\n";
        fs::write(file.path(), text).expect("written");
        let error = load(file.path()).expect_err("a class that is not closed").to_string();
        assert!(error.starts_with("service.static.files: the exclusion \"[a\" cannot be used"), "{error}");
    }
}
