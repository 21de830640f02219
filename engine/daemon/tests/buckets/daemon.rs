//! The daemon of a host, and what it says of its requests.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstay_testkit::ports::free_port;

/// A process that is ended when this is dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(mut command: Command, state: &Path) -> Self {
        let daemon = Self(command.stderr(Stdio::null()).spawn().unwrap());
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
        let _ = self.0.kill();
        let _ = self.0.wait();
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
