//! `diff`: what differs between two points, or between a point and the tree on disk.

use std::ffi::OsString;
use std::path::PathBuf;

use backstay_core::config::SourceKind;
use backstay_files::keys::PathKey;
use backstay_files::look::{Aspect, Between, Compared, Difference, Live, Reread};
use backstay_vault::vault::Reading;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::choose::{Asked, NEWEST, choose, choose_both, held};
use super::looking::{ShownEntry, ShownPath, parse_path};
use crate::clock::SystemClock;
use crate::engine::walk_options;
use crate::failure::Failure;
use crate::terminal::{Lines, nobody_reads, remark};

/// The word for the tree on disk.
const LIVE: &str = "live";

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// A point: its id or how that begins, the time at or before which it was captured (as `--at` of
    /// `backstay restore` takes it), or `newest`.
    #[arg(value_name = "OLD", default_value = NEWEST)]
    old: String,
    /// Another point, or `live` for the tree as it is on disk now.
    #[arg(value_name = "NEW", default_value = LIVE)]
    new: String,
    /// Only what is at and below this path, relative to the root.
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Compare with this directory instead of the source's own: with what was restored there.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Read all contents on disk, also of files that look untouched.
    #[arg(long)]
    reread: bool,
    /// Tell of directories as well of which only the time differs.
    #[arg(long)]
    all: bool,
    /// The vault to read from; where none is given, the first that has the points.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// Read with this recovery key instead of the node's own identity.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// A difference in JSON.
#[derive(Serialize)]
struct ShownDifference {
    /// What has become of the path: added, removed, changed, or unreadable.
    change: &'static str,
    /// In what it has changed.
    aspects: Vec<&'static str>,
    old: Option<ShownEntry>,
    new: Option<ShownEntry>,
    /// Why something is unreadable, with its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// How many there are of each.
#[derive(Default)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
    unreadable: u64,
}

pub(super) fn run(context: &Context, arguments: &DiffArgs) -> Result<u8, Failure> {
    let below = arguments.path.as_deref().map(parse_path).transpose()?.unwrap_or_else(PathKey::root);
    if arguments.old == LIVE {
        return Err(Failure::usage("the older side is a point; give `live` as the second"));
    }
    let is_live = arguments.new == LIVE || arguments.with.is_some();
    if arguments.with.is_some() && arguments.new != LIVE {
        return Err(Failure::usage("--with compares one point with a directory; give only one point"));
    }
    let vaults = context.vaults_to_read(arguments.key_file.as_deref())?;
    let source = context.config.find_source(&arguments.source).map_err(Failure::usage)?;
    let held = held(&vaults, source, arguments.from.as_deref())?;
    let mut telling = Telling { context, lines: Lines::new(), all: arguments.all, counts: Counts::default() };
    if is_live {
        let (held, old) = choose(held, source, &Asked::parse(&arguments.old)?)?;
        let reading =
            Reading::begin(&held.vault, &held.catalogue, old.link, Some(vaults.writer()), &SystemClock)?;
        let SourceKind::Files(files) = &source.kind else {
            return Err(Failure::usage(format!(
                "{} is no directory tree: its points can be compared with each other only",
                source.name
            )));
        };
        let root = arguments.with.as_ref().unwrap_or(&files.path);
        let walk = walk_options(&context.config, files)?;
        let file_system = old.common.facts.root_file_system;
        let reread = if arguments.reread { Reread::Always } else { Reread::WhenTouched };
        let mut live = Live::open(&reading, root, file_system, walk, below, reread)?;
        while let Some(compared) = live.next_difference()?
            && !nobody_reads()
        {
            telling.tell(compared)?;
        }
    } else {
        let (asked_old, asked_new) = (Asked::parse(&arguments.old)?, Asked::parse(&arguments.new)?);
        let (held, [old, new]) = choose_both(held, source, [&asked_old, &asked_new])?;
        let begin =
            |link| Reading::begin(&held.vault, &held.catalogue, link, Some(vaults.writer()), &SystemClock);
        let (old, new) = (begin(old.link)?, begin(new.link)?);
        let mut between = Between::open(&old, &new, below)?;
        while let Some(difference) = between.next_difference()?
            && !nobody_reads()
        {
            telling.tell(Compared::Different(Box::new(difference)))?;
        }
    }
    telling.end()
}

struct Telling<'c> {
    context: &'c Context,
    lines: Lines,
    all: bool,
    counts: Counts,
}

impl Telling<'_> {
    fn tell(&mut self, compared: Compared) -> Result<(), Failure> {
        let (sign, shown) = match compared {
            Compared::Unreadable(why) => {
                self.counts.unreadable += 1;
                let change = "unreadable";
                ('?', ShownDifference { change, aspects: vec![], old: None, new: None, why: Some(why) })
            }
            Compared::Different(difference) => {
                if !self.all && is_time_of_directory(&difference) {
                    return Ok(());
                }
                let (count, sign, change) = match (&difference.old, &difference.new) {
                    (None, _) => (&mut self.counts.added, '+', "added"),
                    (_, None) => (&mut self.counts.removed, '-', "removed"),
                    _ => (&mut self.counts.changed, sign(&difference.aspects), "changed"),
                };
                *count += 1;
                let [old, new] =
                    [&difference.old, &difference.new].map(|entry| entry.as_ref().map(ShownEntry::of));
                let aspects = difference.aspects.iter().map(|aspect| aspect.word()).collect();
                (sign, ShownDifference { change, aspects, old, new, why: None })
            }
        };
        let line = if self.context.json { serde_json::to_string(&shown)? } else { shown.text(sign) };
        self.lines.print(&line);
        Ok(())
    }

    fn end(self) -> Result<u8, Failure> {
        let Self { context, lines, counts, .. } = self;
        drop(lines);
        let Counts { added, removed, changed, unreadable } = counts;
        if !context.json {
            remark(&format!("{added} added, {removed} removed, {changed} changed"));
        }
        match unreadable {
            0 => Ok(0),
            some => {
                Err(Failure::partly(format!("{some} paths cannot be read and were not compared; see above")))
            }
        }
    }
}

/// One letter for what has changed: its kind, its contents, or what belongs to it.
fn sign(aspects: &[Aspect]) -> char {
    match aspects {
        aspects if aspects.contains(&Aspect::Kind) => 'T',
        aspects if aspects.contains(&Aspect::Contents) => 'M',
        _ => 'U',
    }
}

/// Whatever is made or removed in a directory changes its time, and is told by itself.
fn is_time_of_directory(difference: &Difference) -> bool {
    let is_directory = difference.new.as_ref().is_some_and(|entry| entry.kind == "directory");
    is_directory && difference.aspects == [Aspect::Time]
}

impl ShownDifference {
    fn text(&self, sign: char) -> String {
        match (&self.old, &self.new, &self.why) {
            (_, _, Some(why)) => format!("{sign} {why}"),
            (Some(old), Some(new), _) => {
                format!("{sign} {}  {}", new.path().text(), self.aspects_text(old, new))
            }
            (old, new, _) => {
                let path = old.as_ref().or(new.as_ref()).map(ShownEntry::path);
                format!(
                    "{sign} {}",
                    path.map(ShownPath::text).into_iter().map(|text| text.to_string()).collect::<String>()
                )
            }
        }
    }

    /// What was and what is, where that fits on a line.
    fn aspects_text(&self, old: &ShownEntry, new: &ShownEntry) -> String {
        let told = self.aspects.iter().map(|aspect| match *aspect {
            "kind" => format!("{} -> {}", old.kind, new.kind),
            "contents" if old.size != new.size => format!("{} -> {} bytes", old.size, new.size),
            "mode" => format!("mode {} -> {}", old.mode, new.mode),
            "owner" => format!("owner {}:{} -> {}:{}", old.uid, old.gid, new.uid, new.gid),
            "time" => format!("time {} -> {}", old.mtime, new.mtime),
            other => other.to_owned(),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}
