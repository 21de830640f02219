//! `ls`: what is in a directory of a point.

use std::ffi::{OsStr, OsString};

use backstay_files::keys::PathKey;
use backstay_files::look::{Depth, Listing};
use clap::Args;

use super::looking::{Stay, looked, parse_path, show_entry};
use super::{Context, PointArgs};
use crate::failure::Failure;
use crate::terminal::{Lines, nobody_reads};

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

pub(super) fn run(context: &Context, arguments: &LsArgs) -> Result<u8, Failure> {
    let below = match &arguments.path {
        Some(path) => parse_path(path)?,
        None => PathKey::root(),
    };
    let looked = looked(context, &arguments.source, &arguments.point, Stay::Short)?;
    let depth = if arguments.recursive { Depth::All } else { Depth::Children };
    let mut listing = Listing::open(&looked.reading, below, depth);
    let mut lines = Lines::new();
    let mut found = false;
    while let Some(entry) = listing.next_entry()? {
        found = true;
        show_entry(context, &mut lines, &entry)?;
        if nobody_reads() {
            break;
        }
    }
    if !found {
        return Err(Failure::failed(format!(
            "{} is not in point {} of {}; `backstay ls {}` shows what is, and `backstay find` looks for it",
            arguments.path.as_deref().unwrap_or(OsStr::new("/")).display(),
            looked.point.link.point,
            looked.source.name,
            looked.source.name
        )));
    }
    Ok(0)
}
