//! Two nodes of a fleet on loopback, made as a user makes them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How long the daemon may take to answer.
const READY: Duration = Duration::from_secs(30);

/// Alpha has the tree, beta holds its vault and runs.
pub(super) struct Pair {
    program: PathBuf,
    folder: PathBuf,
    holder: Child,
}

impl Pair {
    pub(super) fn start(program: &Path, tree: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let ports = free_ports()?;
        for (node, port) in ["alpha", "beta"].into_iter().zip(ports) {
            let configured = folder.join(node);
            fs::create_dir(&configured)?;
            fs::write(configured.join("fleet.toml"), fleet_file(ports, tree))?;
            fs::write(configured.join("node.toml"), node_file(node, port, folder))?;
        }
        let run = |node: &str, arguments: &[&str]| -> Result<()> {
            let ended = command(program, folder, node, arguments).stdout(Stdio::null()).status();
            let ended = ended.with_context(|| format!("cannot start {}", program.display()))?;
            if !ended.success() {
                bail!("{arguments:?} on {node}: {ended}");
            }
            Ok(())
        };
        run("alpha", &["init", "alpha", "--no-recovery"])?;
        let mut inviting =
            command(program, folder, "alpha", &["invite", "beta"]).stdout(Stdio::piped()).spawn()?;
        let mut text = String::new();
        BufReader::new(inviting.stdout.take().context("no output")?).read_line(&mut text)?;
        run("beta", &["join", text.trim()])?;
        if !inviting.wait()?.success() {
            bail!("the invitation failed");
        }
        let log = File::create(folder.join("beta.log"))?;
        let holder = command(program, folder, "beta", &["run"]).stdout(Stdio::null()).stderr(log).spawn()?;
        let pair = Self { program: program.to_path_buf(), folder: folder.to_path_buf(), holder };
        let start = Instant::now();
        while start.elapsed() < READY {
            if fs::read_to_string(folder.join("beta.log"))?.contains("listening for other nodes") {
                return Ok(pair);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the holder does not answer: {}", fs::read_to_string(folder.join("beta.log"))?)
    }

    /// A capture of the tree to the holder.
    pub(super) fn capture(&self) -> Command {
        command(&self.program, &self.folder, "alpha", &["now"])
    }

    /// What was captured is whole at the holder.
    pub(super) fn check(&self) -> Result<()> {
        let arguments = ["vault", "check", "held.alpha", "--read-data", "1/1"];
        let ended =
            command(&self.program, &self.folder, "beta", &arguments).stdout(Stdio::null()).status()?;
        match ended.success() {
            true => Ok(()),
            false => bail!("what the holder has is not whole: {ended}"),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // One that has ended already is ended.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Two that nobody has; both were bound at once, so that they differ, and are let go.
fn free_ports() -> Result<[u16; 2]> {
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}

fn command(program: &Path, folder: &Path, node: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(folder.join(node)).args(arguments).env("BACKSTAY_LOG", "info");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn fleet_file([alpha, beta]: [u16; 2], tree: &Path) -> String {
    format!(
        "[fleet]\nname = \"bench\"\nnodes = {{ alpha = \"127.0.0.1:{alpha}\", beta = \"127.0.0.1:{beta}\" }}\n\
         [vault.twin]\nkind = \"peer\"\n[service.data]\nprimary = \"alpha\"\nsecondary = [\"beta\"]\n\
         files = {{ path = {}, watch = false }}\n",
        Value::from(tree.to_string_lossy())
    )
}

fn node_file(node: &str, port: u16, folder: &Path) -> String {
    let state = folder.join(format!("state-{node}"));
    let hold = match node {
        "beta" => {
            let path = folder.join("held");
            format!("[hold.alpha]\nvault = {{ path = {} }}\n", Value::from(path.to_string_lossy()))
        }
        _ => String::new(),
    };
    format!(
        "[node]\nname = \"{node}\"\nlisten = \"127.0.0.1:{port}\"\nstate = {}\n{hold}",
        Value::from(state.to_string_lossy())
    )
}
