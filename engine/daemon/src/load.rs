//! Reading of the configuration's files: a directory with fleet.toml and node.toml, or one file.

use std::fs;
use std::io::Read;
use std::path::Path;

use backstay_core::config::{Config, ConfigTexts, SourceText, TEXT_BYTES_MAX};

use crate::failure::Failure;

/// Reads and checks the configuration at `path`, a directory or a file.
pub fn load(path: &Path) -> Result<Config, Failure> {
    let metadata = fs::metadata(path).map_err(|error| {
        Failure::usage(format!(
            "cannot read the configuration {}: {error}; give its place with --config DIR or --config FILE",
            path.display()
        ))
    })?;
    let parsed = if metadata.is_dir() {
        let (fleet, node) = (path.join("fleet.toml"), path.join("node.toml"));
        let (fleet_text, node_text) = (read(&fleet)?, read(&node)?);
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
    parsed.map_err(Failure::usage)
}

fn read(path: &Path) -> Result<String, Failure> {
    let refuse = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot read the configuration {}: {error}", path.display()))
    };
    let file = fs::File::open(path).map_err(|error| refuse(&error))?;
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| refuse(&error))?;
    Ok(text)
}
