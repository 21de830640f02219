//! `demo`: the main job on data of its own, in a temporary directory, with two nodes that are processes of their own: protect on
//! one, kill it, restore on the other, compare.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::units::{ByteSize, Timestamp};
use backstay_files::place::Existing;
use backstay_files::restore::Selection;
use backstay_vault::keys::random_bytes;
use backstay_wire::control::{Ask, CaptureReport, Reply, TargetOutcome};
use clap::Args;
use tokio::runtime::Handle;

use super::{Context, capture, choose, restore};
use crate::control::Conversation;
use crate::enrolment::{self, Again, Invited, JoinPlan};
use crate::failure::Failure;
use crate::load;
use crate::node::StateLock;
use crate::terminal::print;

/// Files of the made-up tree.
const FILES: u32 = 2000;

/// How long the daemons get to become ready.
const READY_TIME: Duration = Duration::from_secs(10);

/// The invitation is taken up at once.
const INVITATION_VALID: Duration = Duration::from_secs(60);

/// The node that is invited.
const BETA: &str = "beta";

/// How often it is shown how far behind the flow is.
const LAG_LINES: u32 = 3;

/// And how long it takes from one to the next.
const LAG_EVERY: Duration = Duration::from_millis(700);

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
    print(&format!(
        "protecting {}; everything that the demo makes is under {}",
        source.display(),
        folder.display()
    ));
    let pair = Pair::enrol(folder, &source, io)?;
    print("two nodes, alpha and beta, know each other by their certificates; beta holds a vault for alpha");
    let mut alpha = NodeProcess::start(&pair.alpha_folder, &pair.alpha)?;
    let _beta = NodeProcess::start(&pair.beta_folder, &pair.beta)?;
    captured_by_daemon(&pair.alpha, "first capture")?;
    if arguments.path.is_none() {
        fs::write(source.join("written-after-the-first-capture"), "and captured by the second")?;
    }
    captured_by_daemon(&pair.alpha, "second capture")?;
    let captured = Instant::now();
    for _ in 0..LAG_LINES {
        status(&pair.alpha)?;
        std::thread::sleep(LAG_EVERY);
    }
    alpha.kill();
    print(&format!(
        "alpha is dead: its daemon was killed {:.2} s after the last capture was acknowledged (the recovery point reached)",
        captured.elapsed().as_secs_f64()
    ));
    let lost = match arguments.path {
        None => {
            let lost = folder.join("lost");
            fs::rename(&source, &lost)?;
            print(&format!("so is the source: {} does not exist any more", source.display()));
            lost
        }
        Some(_) => source.clone(),
    };
    let restored = folder.join("restored");
    let start = Instant::now();
    bring_back(&pair.beta, &restored)?;
    print(&format!("restored on beta in {:.2} s (the recovery time)", start.elapsed().as_secs_f64()));
    let compared = compare(&lost, &restored)?;
    print(&format!(
        "compared {compared} entries with the original: names, kinds, modes, times and contents are the same"
    ));
    Ok(())
}

/// Two nodes of a fleet, enrolled with each other.
struct Pair {
    alpha: Context,
    beta: Context,
    alpha_folder: PathBuf,
    beta_folder: PathBuf,
}

/// What the demo prints of an invitation: nothing. It goes to the other node by itself.
struct Handed(Mutex<Option<Sender<String>>>);

impl Invited for Handed {
    fn open(&self, text: &str, _: &str, _: Timestamp) {
        if let Some(to) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Who does not wait any more has told why.
            let _ = to.send(text.to_owned());
        }
    }
}

impl Pair {
    /// Begins a fleet with alpha, and has beta join it, as `init`, `invite` and `join` do.
    fn enrol(folder: &Path, source: &Path, io: &Handle) -> Result<Self, Failure> {
        let [alpha_port, beta_port] = free_ports()?;
        let write = |node: &str, port: u16, more: &str| -> Result<(PathBuf, Context), Failure> {
            let configured = folder.join(node);
            fs::create_dir_all(&configured)?;
            fs::write(configured.join("fleet.toml"), fleet_file(alpha_port, beta_port, source)?)?;
            fs::write(configured.join("node.toml"), node_file(node, port, folder, more)?)?;
            let context = Context::of(load::load(&configured)?, io);
            Ok((configured, context))
        };
        let held = serde_json::to_string(&folder.join("held-by-beta").to_string_lossy())?;
        let (alpha_folder, alpha) = write("alpha", alpha_port, "")?;
        let (beta_folder, beta) =
            write("beta", beta_port, &format!("[hold.alpha]\nvault = {{ path = {held} }}\n"))?;
        {
            let _lock = StateLock::take(&alpha.config.node.state)?;
            let (vaults, _) = alpha.vaults()?;
            enrolment::init(&alpha.config, io, &vaults, None)?;
        }
        let (text, invited) = channel();
        let (config, inviting_io) = (Arc::clone(&alpha.config), io.clone());
        let vaults = Arc::new(alpha.vaults_to_read(None)?);
        let inviting = std::thread::spawn(move || {
            let told = Handed(Mutex::new(Some(text)));
            let beta = BETA.parse()?;
            let access = (&config, &inviting_io, &vaults);
            enrolment::invite(access, (&beta, Again::No), None, None, INVITATION_VALID, Vec::new(), &told)
        });
        let joined = match invited.recv_timeout(READY_TIME) {
            Ok(text) => {
                let (state, listen) = (beta.config.node.state.clone(), beta.config.node.listen);
                let listen = listen.ok_or_else(|| Failure::failed("beta listens nowhere"))?;
                enrolment::join(&text.parse()?, &JoinPlan { state, starter: None, listen }, io).map(drop)
            }
            // Why, the other end tells.
            Err(_) => Ok(()),
        };
        let invited = inviting.join().unwrap_or_else(|_| Err(Failure::failed("the invitation panicked")));
        invited.and(joined)?;
        Ok(Self { alpha, beta, alpha_folder, beta_folder })
    }
}

/// Two UDP ports that are free at this moment.
fn free_ports() -> Result<[u16; 2], Failure> {
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}

fn fleet_file(alpha_port: u16, beta_port: u16, source: &Path) -> Result<String, Failure> {
    Ok(format!(
        "[fleet]\nname = \"demo\"\nnodes = {{ alpha = \"127.0.0.1:{alpha_port}\", beta = \"127.0.0.1:{beta_port}\" }}\n\
         [vault.twin]\nkind = \"peer\"\n[policy.default]\nrpo = \"15s\"\n\
         [service.demo]\nprimary = \"alpha\"\nsecondary = [\"beta\"]\n\
         files = {{ path = {}, watch = false, verify = {{ level = \"structure\" }} }}\n",
        serde_json::to_string(&source.to_string_lossy())?
    ))
}

fn node_file(node: &str, port: u16, folder: &Path, more: &str) -> Result<String, Failure> {
    let state = folder.join(format!("state-of-{node}"));
    Ok(format!(
        "[node]\nname = \"{node}\"\nlisten = \"127.0.0.1:{port}\"\nstate = {}\n{more}",
        serde_json::to_string(&state.to_string_lossy())?
    ))
}

/// The daemon of a node, as a process of its own. It ends with this value.
struct NodeProcess(Child);

impl NodeProcess {
    /// Starts it, and waits until it answers.
    fn start(configured: &Path, context: &Context) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(configured).arg("run");
        // What a daemon says is for the demo's reader only where it asks for it.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut process = Self(child);
        let start = Instant::now();
        while start.elapsed() < READY_TIME {
            if Conversation::ask(&context.config.node.state, Ask::Status)?.is_some() {
                return Ok(process);
            }
            if let Some(ended) = process.0.try_wait()? {
                return Err(Failure::failed(format!(
                    "the daemon of {} has ended ({ended})",
                    context.config.node.name
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::failed(format!("the daemon of {} did not become ready", context.config.node.name)))
    }

    /// As a host dies: without a word.
    fn kill(&mut self) {
        // One that has ended already is as dead.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Captures by the daemon. One that does not reach the other yet is asked again.
fn captured_by_daemon(context: &Context, what: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let conversation =
        Conversation::ask(&context.config.node.state, Ask::Now { sources: Vec::new(), hold: None })?
            .ok_or_else(|| Failure::failed("the demo's daemon is gone"))?;
    for report in capture::follow(conversation)? {
        tell(what, &report, start)?;
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

fn bring_back(context: &Context, destination: &Path) -> Result<(), Failure> {
    let vaults = context.vaults_to_read(None)?;
    let source = context.config.find_source("demo").map_err(Failure::usage)?;
    let held = choose::held(&vaults, source, None)?;
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
