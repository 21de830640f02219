//! A node on a host of its own. Owns its configuration, its daemon, and how it is asked from outside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backstay_testkit::network::{Network, within};
use backstay_testkit::process::{PATIENCE, Running, run_within, wait_within, word};
use serde_json::Value;

/// Where nodes reach each other.
const PORT: u16 = 7420;

const METRICS_PORT: u16 = 9420;

/// No command of a test takes longer, unless it hangs, however busy the machine is.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(120);

/// A node.
pub(crate) struct Node {
    name: &'static str,
    /// Its host.
    pub(crate) namespace: String,
    address: Ipv4Addr,
    folder: PathBuf,
}

impl Node {
    /// A node on a new host. It has no configuration yet.
    pub(crate) fn new(network: &mut Network, folder: &Path, name: &'static str) -> Self {
        let (namespace, address) = network.host(name);
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        Self { name, namespace, address, folder }
    }

    /// Where other nodes reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), PORT)
    }

    /// Writes its configuration: what the fleet is to it, and more tables of its own.
    pub(crate) fn configure(&self, fleet: &str, more: &str) {
        let own = format!(
            "[node]\nname = \"{}\"\nlisten = \"{}\"\nmetrics = \"{}:{METRICS_PORT}\"\nstate = {}\n{more}",
            self.name,
            self.address(),
            self.address,
            quoted(&self.folder.join("state")),
        );
        std::fs::write(self.folder.join("fleet.toml"), fleet).unwrap();
        std::fs::write(self.folder.join("node.toml"), own).unwrap();
    }

    /// What a command that succeeds prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).expect("it succeeds")
    }

    /// What a command prints, or how it failed.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let program = env!("CARGO_BIN_EXE_backstay");
        let fixed = ["ip", "netns", "exec", &self.namespace, program, "--config", word(&self.folder)];
        run_within(COMMAND_TIME_MAX, &[&fixed, arguments].concat())
    }

    /// Starts a command whose standard output is all that is wanted of it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 2>/dev/null", "sh"]);
        command.args([env!("CARGO_BIN_EXE_backstay"), "--config", word(&self.folder)]).args(arguments);
        Running::start(&self.namespace, &mut command, self.folder.join(arguments[0]))
    }

    /// A daemon that answers.
    pub(crate) fn daemon(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(["--config", word(&self.folder), "run"]).env("BACKSTAY_LOG", "info");
        let running = Running::start(&self.namespace, &mut command, self.folder.join("log"));
        wait_within(COMMAND_TIME_MAX, "the daemon's answer", || self.get("/healthz"));
        running
    }

    /// A page of its daemon, which answers.
    pub(crate) fn page(&self, path: &str) -> String {
        self.get(path).expect("the daemon answers")
    }

    /// Restores from what is here, into a new folder.
    pub(crate) fn restore(&self, to: &Path, more: &[&str]) {
        let fixed = ["restore", "data", "--to", word(to)];
        self.run(&[&fixed, more].concat());
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let to = SocketAddr::new(self.address.into(), METRICS_PORT);
        let answer = within(&self.namespace, || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        })?;
        let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 "));
        body.map(|(_, body)| body.to_owned()).ok_or_else(|| std::io::Error::other(answer))
    }
}

/// The only series of a metric on a page; none while it is not there, or NaN.
pub(crate) fn figure(page: &str, name: &str) -> Option<f64> {
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let mut series = page.lines().filter(is_it);
    let value: f64 = series.next()?.rsplit(' ').next()?.parse().expect("a number");
    assert_eq!(series.next(), None, "there is one flow");
    (!value.is_nan()).then_some(value)
}

/// The path as a text of TOML.
pub(crate) fn quoted(path: &Path) -> String {
    Value::from(word(path)).to_string()
}
