//! `cat`: contents of files of a point.

use std::ffi::OsString;
use std::io::{BufWriter, Write};

use backstay_files::look::StoredFile;
use backstay_vault::read::ChunkReader;
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use clap::Args;

use super::looking::{ShownPath, Stay, looked, parse_path};
use super::{Context, PointArgs};
use crate::failure::Failure;
use crate::terminal::{nobody_reads, stream};

#[derive(Debug, Args)]
pub(super) struct CatArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Files in it, relative to its root.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    point: PointArgs,
}

pub(super) fn run(context: &Context, arguments: &CatArgs) -> Result<u8, Failure> {
    let paths = arguments.paths.iter().map(|path| parse_path(path)).collect::<Result<Vec<_>, _>>()?;
    let looked = looked(context, &arguments.source, &arguments.point, Stay::Long)?;
    // All are looked for before the first is written.
    let files = paths.iter().map(|path| StoredFile::find(&looked.reading, path));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let reader = ChunkReader::new(looked.reading.vault().clone());
    for (path, file) in paths.iter().zip(&files) {
        if nobody_reads() {
            break;
        }
        if context.json {
            // Contents may be anything, and text cannot hold that: each file is a line with its bytes in base64.
            stream(|out| {
                let mut out = BufWriter::new(out);
                let path = serde_json::to_string(&ShownPath::of(path))?;
                let head = path.trim_end_matches('}');
                write!(out, "{head},\"size\":{},\"contents_base64\":\"", file.size_bytes())?;
                let encoder = EncoderWriter::new(out, &STANDARD);
                let mut out = file.write_to(reader.clone(), encoder)?.finish()?;
                writeln!(out, "\"}}")?;
                Ok(out.flush()?)
            })?;
        } else {
            stream(|out| file.write_to(reader.clone(), out).map(drop).map_err(Failure::from))?;
        }
    }
    Ok(0)
}
