//! `points` and `ls`: looking into vaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use backstay_core::config::Source;
use backstay_core::units::ByteSize;
use backstay_files::keys::PathKey;
use backstay_files::listing::{ListedEntry, Listing};
use backstay_vault::vault::Reading;
use clap::Args;
use serde::Serialize;

use super::choose::{held, point};
use super::status::show_table;
use super::{Context, PointArgs, capture, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::terminal::{nobody_reads, print};

#[derive(Debug, Args)]
pub(super) struct PointsArgs {
    /// The source; all of this node where none is given.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// The vault to look into; all where none is given.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// Read with this recovery key instead of the node's own identity.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// A path in it, relative to its root.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Everything below, not only what is directly in it.
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    point: PointArgs,
}

#[derive(Serialize)]
struct ShownPoint {
    source: String,
    point: String,
    time: String,
    node: String,
    entries: u64,
    bytes: u64,
    defects: u64,
    /// Names under which it is held for ever.
    holds: Vec<String>,
    vaults: Vec<String>,
}

pub(super) fn points(context: &Context, arguments: &PointsArgs) -> Result<u8, Failure> {
    let vaults = context.vaults_to_read(arguments.key_file.as_deref())?;
    let typed: Vec<String> = arguments.source.iter().cloned().collect();
    let mut shown = Vec::new();
    for source in capture::named(context, &typed)? {
        shown.extend(points_of(&vaults, source, arguments.from.as_deref())?);
    }
    if context.json {
        print_json(&shown)?;
        return Ok(0);
    }
    let head = ["SOURCE", "POINT", "TIME", "ENTRIES", "SIZE", "IN", ""].map(str::to_owned);
    let rows = shown.iter().map(|point| {
        [
            point.source.clone(),
            point.point.clone(),
            point.time.clone(),
            point.entries.to_string(),
            ByteSize(point.bytes).to_string(),
            point.vaults.join(","),
            remarks_on(point),
        ]
    });
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    show_table(&table);
    Ok(0)
}

fn remarks_on(point: &ShownPoint) -> String {
    let defects = (point.defects > 0).then(|| format!("{} defects", point.defects));
    let held = (!point.holds.is_empty()).then(|| format!("held: {}", point.holds.join(", ")));
    defects.into_iter().chain(held).collect::<Vec<_>>().join("; ")
}

fn points_of(
    vaults: &crate::vaults::Vaults,
    source: &Source,
    from: Option<&str>,
) -> Result<Vec<ShownPoint>, Failure> {
    let mut shown: BTreeMap<(i64, String), ShownPoint> = BTreeMap::new();
    for held in held(vaults, source, from)? {
        for point in held.catalogue.points() {
            let common = &point.common;
            let key = (common.capture_start.as_nanos(), common.id.to_string());
            let entry = shown.entry(key).or_insert_with(|| ShownPoint {
                source: common.source_name.clone(),
                point: common.id.to_string(),
                time: common.capture_start.to_string(),
                node: common.node.clone(),
                entries: common.entries,
                bytes: common.bytes,
                defects: common.defects.iter().map(|defect| defect.count).sum(),
                holds: held.catalogue.holds(point).to_vec(),
                vaults: Vec::new(),
            });
            entry.vaults.push(held.name.clone());
        }
    }
    Ok(shown.into_values().collect())
}

#[derive(Serialize)]
struct ShownEntry {
    path: String,
    /// The exact bytes of the path in hexadecimal digits, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: String,
    target: Option<String>,
    /// The exact bytes of the target, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
}

pub(super) fn ls(context: &Context, arguments: &LsArgs) -> Result<u8, Failure> {
    let vaults = context.vaults_to_read(arguments.point.key_file.as_deref())?;
    let source = context.config.find_source(&arguments.source).map_err(Failure::usage)?;
    let held = held(&vaults, source, arguments.point.from.as_deref())?;
    let (held, point) = point(held, source, &arguments.point)?;
    let below = match &arguments.path {
        Some(path) => parse_path(path)?,
        None => PathKey::root(),
    };
    // Listing is soon over: it needs no pin.
    let reading = Reading::begin(&held.vault, &held.catalogue, point.link, None, &SystemClock)?;
    let mut listing = Listing::open(&reading, below.clone());
    let mut found = false;
    while let Some(entry) = listing.next_entry()? {
        found = true;
        let direct = entry.path == below || entry.path.parent().as_ref() == Some(&below);
        if direct || arguments.recursive {
            show_entry(context, &entry)?;
        }
        if nobody_reads() {
            break;
        }
    }
    if !found {
        return Err(Failure::failed(format!(
            "{} is not in point {} of {}",
            arguments.path.as_deref().unwrap_or(OsStr::new("/")).display(),
            point.link.point,
            source.name
        )));
    }
    Ok(0)
}

fn show_entry(context: &Context, entry: &ListedEntry) -> Result<(), Failure> {
    let path = if entry.path.is_root() { b".".to_vec() } else { entry.path.relative_path() };
    let shown = ShownEntry {
        path_bytes: bytes_beyond_text(&path),
        path: String::from_utf8_lossy(&path).into_owned(),
        kind: entry.kind,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size_bytes,
        mtime: entry.mtime.to_string(),
        target: entry.target.as_ref().map(|target| String::from_utf8_lossy(target).into_owned()),
        target_bytes: entry.target.as_deref().and_then(bytes_beyond_text),
    };
    if context.json {
        // One object a line: a point may have millions of entries.
        print(&serde_json::to_string(&shown)?);
    } else {
        let target =
            shown.target.as_ref().map(|target| format!(" -> {}", target.escape_debug())).unwrap_or_default();
        print(&format!(
            "{:<9} {} {:>5} {:>5} {:>12} {} {}{target}",
            shown.kind,
            shown.mode,
            shown.uid,
            shown.gid,
            shown.size,
            shown.mtime,
            shown.path.escape_debug()
        ));
    }
    Ok(())
}

/// The bytes of a name that is not UTF-8 and that a text would not keep, in hexadecimal digits.
fn bytes_beyond_text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).err()?;
    Some(name.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path as it was typed, relative to the root of the source.
pub(super) fn parse_path(typed: &OsStr) -> Result<PathKey, Failure> {
    let components = typed.as_bytes().split(|byte| *byte == b'/');
    PathKey::from_components(components.filter(|part| !part.is_empty() && *part != b"."))
        .map_err(|error| Failure::usage(format!("{typed:?} is not a path in a source: {error}")))
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
