//! The server that restic is measured with: `rclone serve restic` over HTTP on loopback, on the same disk.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long it may take to answer.
const READY: Duration = Duration::from_secs(30);

pub(super) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["serve", "restic", "--addr", &format!("127.0.0.1:{port}")]).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().with_context(|| format!("cannot start {}: install rclone", program.display()))?;
        let server = Self { process, port };
        let start = Instant::now();
        while start.elapsed() < READY {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("rclone does not answer")
    }

    pub(super) fn url(&self) -> String {
        format!("rest:http://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
