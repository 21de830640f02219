//! `demo`: the main job on data of its own, in a temporary directory: protect, lose, restore, compare.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{Config, ConfigTexts, SourceText};
use backstay_core::units::ByteSize;
use backstay_files::place::Existing;
use backstay_files::restore::Selection;
use backstay_vault::keys::random_bytes;
use backstay_wire::control::{Ask, CaptureReport, Reply, TargetOutcome};
use clap::Args;
use tokio::runtime::Handle;

use super::{Context, capture, choose, prune, restore};
use crate::clock::SystemClock;
use crate::control::Conversation;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::node::StateLock;
use crate::serve::Daemon;
use crate::terminal::print;
use crate::vaults::Vaults;

/// Files of the made-up tree.
const FILES: u32 = 2000;

/// How long the daemon gets to become ready.
const READY_TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// A directory to protect, read only; a made-up tree where none is given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

pub(super) fn run(arguments: &DemoArgs, io: &Handle) -> Result<u8, Failure> {
    let folder = make_folder()?;
    let outcome = show(arguments, &folder, io);
    let removed = remove(&folder);
    outcome?;
    removed.map_err(|error| Failure::failed(format!("cannot remove {}: {error}", folder.display())))?;
    print("removed everything that the demo made");
    Ok(0)
}

/// Removes the folder, in which the daemon of the demo may still be at work.
fn remove(folder: &Path) -> std::io::Result<()> {
    let start = Instant::now();
    loop {
        match fs::remove_dir_all(folder) {
            Err(error)
                if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && start.elapsed() < READY_TIME =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            removed => return removed,
        }
    }
}

/// A folder of this process's own, under a name that nobody could have taken before.
fn make_folder() -> Result<PathBuf, Failure> {
    let number = u64::from_le_bytes(random_bytes());
    let folder = std::env::temp_dir().join(format!("backstay-demo-{number:016x}"));
    // Not recursively: what is there already is an error.
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
        Failure::failed(format!(
            "cannot make {}: {error}; give a directory with room by the variable TMPDIR",
            folder.display()
        ))
    })?;
    Ok(folder)
}

fn show(arguments: &DemoArgs, folder: &Path, io: &Handle) -> Result<(), Failure> {
    let source = match &arguments.path {
        Some(path) => fs::canonicalize(path)
            .map_err(|error| Failure::usage(format!("cannot protect {}: {error}", path.display())))?,
        None => make_tree(&folder.join("source"))?,
    };
    print(&format!("protecting {} in a vault under {}", source.display(), folder.display()));
    let context = Context::of(config(folder, &source)?, io);
    let vaults = start_daemon(&context)?;
    if arguments.path.is_none() {
        fs::write(source.join("written-after-the-first-capture"), "and captured by the second")?;
    }
    captured_by_daemon(&context)?;
    status(&context)?;
    let lost = match arguments.path {
        None => {
            let lost = folder.join("lost");
            fs::rename(&source, &lost)?;
            print(&format!("the source is gone: {} does not exist any more", source.display()));
            lost
        }
        Some(_) => source.clone(),
    };
    let restored = folder.join("restored");
    let start = Instant::now();
    bring_back(&context, &vaults, &restored)?;
    print(&format!("restored in {:.2} s (the recovery time)", start.elapsed().as_secs_f64()));
    let compared = compare(&lost, &restored)?;
    print(&format!(
        "compared {compared} entries with the original: names, kinds, modes, times and contents are the same"
    ));
    let_prunes_end(&context)
}

/// The daemon prunes after captures: the vault is not to be removed under its hands.
fn let_prunes_end(context: &Context) -> Result<(), Failure> {
    let ask = Ask::Prune { vault: "local".to_owned(), trusts_clock: false };
    match Conversation::ask(&context.config.node.state, ask)? {
        Some(conversation) => prune::follow(conversation).map(drop),
        None => Ok(()),
    }
}

fn config(folder: &Path, source: &Path) -> Result<Config, Failure> {
    let quote = |path: &Path| serde_json::to_string(&path.to_string_lossy());
    let text = format!(
        "[fleet]\nname = \"demo\"\n[node]\nname = \"demo\"\nstate = {}\n[vault.local]\nkind = \"dir\"\npath = {}\n\
         [policy.default]\nrpo = \"15s\"\n[service.demo]\nfiles = {{ path = {}, watch = false, verify = {{ level = \"structure\" }} }}\n",
        quote(&folder.join("state"))?,
        quote(&folder.join("vault"))?,
        quote(source)?,
    );
    Config::parse(ConfigTexts::Single(SourceText { name: "demo", text: &text })).map_err(Failure::usage)
}

/// Captures for the first time, then starts a daemon within this process.
fn start_daemon(context: &Context) -> Result<Arc<Vaults>, Failure> {
    let lock = StateLock::take(&context.config.node.state)?;
    let (vaults, metrics) = context.vaults()?;
    let engine =
        Arc::new(Engine::new(Arc::clone(&context.config), Arc::clone(&vaults), Arc::new(SystemClock))?);
    let start = Instant::now();
    for source in &context.config.sources {
        tell("first capture", &capture::capture(&engine, source, &capture::targets(source), None), start)?;
    }
    let daemon = Arc::new(Daemon::new(Arc::clone(&context.config), engine, Arc::new(SystemClock), metrics));
    context.io.spawn(async move {
        if let Err(failure) = daemon.serve(lock).await {
            tracing::error!(%failure, "the demo's daemon failed");
        }
    });
    let start = Instant::now();
    while start.elapsed() < READY_TIME {
        if Conversation::ask(&context.config.node.state, Ask::Status)?.is_some() {
            return Ok(vaults);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::failed("the demo's daemon did not become ready"))
}

fn captured_by_daemon(context: &Context) -> Result<(), Failure> {
    let start = Instant::now();
    let conversation =
        Conversation::ask(&context.config.node.state, Ask::Now { sources: Vec::new(), hold: None })?
            .ok_or_else(|| Failure::failed("the demo's daemon is gone"))?;
    for report in capture::follow(conversation)? {
        tell("second capture", &report, start)?;
    }
    Ok(())
}

fn tell(what: &str, report: &CaptureReport, start: Instant) -> Result<(), Failure> {
    for target in &report.targets {
        if let TargetOutcome::Failed { message, .. } = &target.outcome {
            return Err(Failure::failed(message));
        }
    }
    print(&format!(
        "{what}: {} entries, {}; read {}, stored {}, durable after {:.2} s",
        report.entries,
        ByteSize(report.bytes),
        ByteSize(report.read_bytes),
        ByteSize(report.stored_bytes),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn status(context: &Context) -> Result<(), Failure> {
    let Some(mut conversation) = Conversation::ask(&context.config.node.state, Ask::Status)? else {
        return Ok(());
    };
    if let Reply::Status(status) = conversation.next()? {
        for flow in &status.flows {
            let exposure =
                flow.exposure_seconds.map_or_else(|| "unknown".to_owned(), |s| format!("{s:.2} s"));
            print(&format!(
                "flow {} to {}: {}, exposure {exposure} (the recovery point reached), objective {:.0} s",
                flow.source, flow.target, flow.state, flow.objective_seconds
            ));
        }
    }
    Ok(())
}

fn bring_back(context: &Context, vaults: &Vaults, destination: &Path) -> Result<(), Failure> {
    let source = context.config.find_source("demo").map_err(Failure::usage)?;
    let held = choose::held(vaults, source, None)?;
    let newest = super::PointArgs { at: None, point: None, from: None, key_file: None };
    let (held, point) = choose::point(held, source, &newest)?;
    let report = restore::watched(&held, &point, None, &Selection::all(), destination, Existing::Refuse)?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Failure::partly(problem)),
    }
}

/// A tree of text files, directories and links.
fn make_tree(root: &Path) -> Result<PathBuf, Failure> {
    for n in 0..FILES {
        let folder = root.join(format!("folder-{:02}", n % 40));
        fs::create_dir_all(&folder)?;
        let line = format!("file {n} of the demo, line after line\n");
        fs::write(folder.join(format!("file-{n:04}.txt")), line.repeat(1 + n as usize % 200))?;
    }
    std::os::unix::fs::symlink("folder-00/file-0000.txt", root.join("a-link"))?;
    fs::hard_link(root.join("folder-01/file-0001.txt"), root.join("another-name"))?;
    Ok(root.to_path_buf())
}

/// Compares two trees entry by entry; the number of entries.
fn compare(left: &Path, right: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (fs::symlink_metadata(left)?, fs::symlink_metadata(right)?);
    let facts = |m: &fs::Metadata| {
        (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec(), if m.is_dir() { 0 } else { m.len() })
    };
    if facts(&a) != facts(&b) {
        return Err(Failure::failed(format!("{} differs from {}", right.display(), left.display())));
    }
    let mut entries = 1;
    if a.is_dir() {
        let names = |path: &Path| -> std::io::Result<Vec<std::ffi::OsString>> {
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|e| e.file_name()))
                .collect::<Result<Vec<_>, _>>()?;
            names.sort();
            Ok(names)
        };
        let (of_left, of_right) = (names(left)?, names(right)?);
        if of_left != of_right {
            return Err(Failure::failed(format!(
                "{} has other names than {}",
                right.display(),
                left.display()
            )));
        }
        for name in of_left {
            entries += compare(&left.join(&name), &right.join(&name))?;
        }
    } else if a.is_file() && fs::read(left)? != fs::read(right)? {
        return Err(Failure::failed(format!("{} differs from {}", right.display(), left.display())));
    }
    Ok(entries)
}
