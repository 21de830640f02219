//! The daemon of a host, and what it says of its requests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use backstay_testkit::ports::free_port;

/// How much of a log is shown when a test fails, in bytes.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// A process that is ended when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(mut command: Command, state: &Path) -> Self {
        let log = state.with_extension("log");
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let daemon = Self { child, log };
        let (socket, start) = (state.join("control.sock"), Instant::now());
        while !socket.exists() {
            assert!(start.elapsed().as_secs() < 20, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
            eprintln!("--- the end of {}\n{}", self.log.display(), String::from_utf8_lossy(tail));
        }
    }
}

/// An address that is free.
pub(crate) fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// The text of `/metrics`.
pub(crate) fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Requests to stores since the daemon began, by operation, whatever became of them.
pub(crate) fn requests(address: SocketAddr) -> BTreeMap<String, u64> {
    let text = metrics(address);
    let mut requests = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("backstay_store_requests_total{")) {
        let operation = line.split("op=\"").nth(1).unwrap().split('"').next().unwrap();
        let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *requests.entry(operation.to_owned()).or_insert(0) += count as u64;
    }
    requests
}

/// The same when none has been made for two seconds.
pub(crate) fn requests_at_rest(metrics: SocketAddr) -> BTreeMap<String, u64> {
    let (mut last, start) = (requests(metrics), Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = requests(metrics);
        if now == last {
            return now;
        }
        assert!(start.elapsed().as_secs() < 60, "the daemon does not come to rest: {now:?}");
        last = now;
    }
}
