//! What commands that look into a point share: the point, paths as they are typed, entries as they are shown.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use backstay_core::config::Source;
use backstay_files::keys::PathKey;
use backstay_files::look::ListedEntry;
use backstay_vault::vault::{PointObject, Reading};
use serde::Serialize;

use super::choose::{held, point};
use super::{Context, PointArgs};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::terminal::Lines;

/// A point that is looked into.
#[derive(Debug)]
pub(super) struct Looked<'c> {
    pub(super) source: &'c Source,
    pub(super) vault: String,
    pub(super) point: Arc<PointObject>,
    pub(super) reading: Arc<Reading>,
}

/// How long looking takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is soon over: the point needs no pin.
    Short,
    /// It may take hours: the point is kept meanwhile, where that is possible.
    Long,
}

/// The point that was asked for.
pub(super) fn looked<'c>(
    context: &'c Context,
    source: &str,
    asked: &PointArgs,
    stay: Stay,
) -> Result<Looked<'c>, Failure> {
    let vaults = context.vaults_to_read(asked.key_file.as_deref())?.of_short_process();
    let source = context.config.find_source(source).map_err(Failure::usage)?;
    let held = held(&vaults, source, asked.from.as_deref())?;
    let (held, point) = point(held, source, asked)?;
    let reader = (stay == Stay::Long).then(|| vaults.writer());
    let reading = Reading::begin(&held.vault, &held.catalogue, point.link, reader, &SystemClock)?;
    Ok(Looked { source, vault: held.name, point, reading })
}

/// A path as it was typed, relative to the root of the source.
pub(super) fn parse_path(typed: &OsStr) -> Result<PathKey, Failure> {
    let components = typed.as_bytes().split(|byte| *byte == b'/');
    PathKey::from_components(components.filter(|part| !part.is_empty() && *part != b"."))
        .map_err(|error| Failure::usage(format!("{typed:?} is not a path in a source: {error}")))
}

/// Refuses to write bytes of files to a terminal, which would take some of them for commands.
pub(super) fn refuse_terminal(what: &str) -> Result<(), Failure> {
    match std::io::stdout().is_terminal() {
        true => Err(Failure::usage(format!(
            "{what} is not written to a terminal; write it to a file (`> FILE`) or to another program (`| PROGRAM`)"
        ))),
        false => Ok(()),
    }
}

/// A path in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ShownPath {
    path: String,
    /// The exact bytes of the path in hexadecimal digits, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl ShownPath {
    pub(super) fn of(path: &PathKey) -> Self {
        let path = if path.is_root() { b".".to_vec() } else { path.relative_path() };
        Self { path_bytes: bytes_beyond_text(&path), path: String::from_utf8_lossy(&path).into_owned() }
    }

    /// For people, on one line.
    pub(super) fn text(&self) -> impl std::fmt::Display + '_ {
        self.path.escape_debug()
    }
}

/// An entry in JSON.
#[derive(Debug, Serialize)]
pub(super) struct ShownEntry {
    #[serde(flatten)]
    path: ShownPath,
    pub(super) kind: &'static str,
    pub(super) mode: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: String,
    target: Option<String>,
    /// The exact bytes of the target, as of a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    /// The same for all names of a file that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

impl ShownEntry {
    pub(super) fn of(entry: &ListedEntry) -> Self {
        Self {
            path: ShownPath::of(&entry.path),
            kind: entry.kind,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size_bytes,
            mtime: entry.mtime.to_string(),
            target: entry.target.as_ref().map(|target| String::from_utf8_lossy(target).into_owned()),
            target_bytes: entry.target.as_deref().and_then(bytes_beyond_text),
            link: entry.link.map(|link| link.to_string()),
        }
    }

    pub(super) fn path(&self) -> &ShownPath {
        &self.path
    }

    /// For people, on one line.
    pub(super) fn text(&self) -> String {
        let target = self.target.as_ref().map(|target| format!(" -> {}", target.escape_debug()));
        format!(
            "{:<9} {} {:>5} {:>5} {:>12} {} {}{}",
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.mtime,
            self.path.text(),
            target.unwrap_or_default()
        )
    }
}

/// Shows an entry on a line of its own: a point may have millions.
pub(super) fn show_entry(context: &Context, lines: &mut Lines, entry: &ListedEntry) -> Result<(), Failure> {
    let shown = ShownEntry::of(entry);
    let line = if context.json { serde_json::to_string(&shown)? } else { shown.text() };
    lines.print(&line);
    Ok(())
}

/// The bytes of a name that is not UTF-8 and that a text would not keep, in hexadecimal digits.
fn bytes_beyond_text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).err()?;
    Some(name.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_text_holds_are_given_byte_by_byte() {
        assert_eq!(bytes_beyond_text(b"caf\xe9/x"), Some("636166e92f78".to_owned()));
        assert_eq!(bytes_beyond_text("café".as_bytes()), None);
    }
}
