//! `find`: paths of a point that match a pattern.

use backstay_files::look::{Letters, Pattern, Search};
use clap::Args;

use super::looking::{Stay, looked, show_entry};
use super::{Context, PointArgs};
use crate::failure::Failure;
use crate::terminal::{Lines, nobody_reads, remark};

#[derive(Debug, Args)]
pub(super) struct FindArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What is looked for: a name anywhere ("*.jpg"), or with a slash a path from the root ("www/**/*.html").
    #[arg(value_name = "GLOB")]
    glob: String,
    /// Take capital letters for small ones.
    #[arg(short, long)]
    ignore_case: bool,
    #[command(flatten)]
    point: PointArgs,
}

pub(super) fn run(context: &Context, arguments: &FindArgs) -> Result<u8, Failure> {
    let letters = if arguments.ignore_case { Letters::AnyCase } else { Letters::Exact };
    let pattern = Pattern::new(&arguments.glob, letters).map_err(Failure::usage)?;
    let looked = looked(context, &arguments.source, &arguments.point, Stay::Short)?;
    let mut search = Search::open(&looked.reading, pattern);
    let mut lines = Lines::new();
    let mut found = false;
    while let Some(entry) = search.next_entry()? {
        found = true;
        show_entry(context, &mut lines, &entry)?;
        if nobody_reads() {
            break;
        }
    }
    if !found && !context.json {
        remark(&format!(
            "nothing in point {} of {} (of {}) matches {}; `backstay points {}` lists other points, --point and --at choose one",
            looked.point.link.point,
            looked.source.name,
            looked.point.common.capture_start,
            arguments.glob,
            looked.source.name
        ));
    }
    Ok(0)
}
