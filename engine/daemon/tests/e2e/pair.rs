//! Two nodes of a fleet on loopback: alpha has what is protected, beta holds. Made as a user makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use backstay_testkit::ports::free_ports;
use backstay_testkit::random::Random;
use serde_json::Value;

use crate::daemon::{get, wait_for};
use crate::outcome::{Outcome, Running, run};
use crate::tree;

/// Two nodes of a fleet: alpha has what is protected, beta holds.
pub(crate) struct Pair {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ports: [u16; 2],
    pub(crate) metrics: [u16; 2],
    pub(crate) more_of_beta: String,
    pub(crate) more_of_fleet: String,
    /// Further lines of [node], of each.
    pub(crate) more_of_nodes: [String; 2],
    /// Whether beta's node.toml names nobody.
    pub(crate) holds_nothing: bool,
    pub(crate) policy: &'static str,
}

pub(crate) const NODES: [&str; 2] = ["alpha", "beta"];

impl Pair {
    /// Two nodes that know of each other and are not enrolled.
    pub(crate) fn apart() -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-peers-").tempdir().unwrap();
        let [ports, metrics] = [free_ports(), free_ports()];
        let (more_of_beta, more_of_fleet, more_of_nodes) = (String::new(), String::new(), Default::default());
        let pair = Self {
            folder,
            ports,
            metrics,
            more_of_beta,
            more_of_fleet,
            more_of_nodes,
            holds_nothing: false,
            policy: "",
        };
        fs::create_dir(pair.source()).unwrap();
        tree::make_plain(&pair.source(), 60, 30_000, &mut Random::new(31));
        pair
    }

    /// Two nodes of a fleet.
    pub(crate) fn together() -> Self {
        let pair = Self::apart();
        pair.enrol();
        pair
    }

    /// Makes them a fleet.
    pub(crate) fn enrol(&self) {
        self.run(0, ["init", "alpha", "--recovery", self.recovery().to_str().unwrap()]).good();
        self.invite_beta();
    }

    pub(crate) fn invite_beta(&self) {
        let (inviting, text) = self.open_invitation();
        self.run(1, ["join", &text]).good();
        inviting.wait().good();
    }

    /// An invitation of beta, while it is open.
    pub(crate) fn open_invitation(&self) -> (Running, String) {
        let recovery = self.recovery();
        let inviting = self.start(0, ["invite", "beta", "--recovery", recovery.to_str().unwrap()]);
        wait_for("the invitation", || inviting.stdout_so_far().contains('\n'));
        let text = inviting.stdout_so_far().trim().to_owned();
        (inviting, text)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    pub(crate) fn held(&self) -> PathBuf {
        self.folder.path().join("held")
    }

    pub(crate) fn recovery(&self) -> PathBuf {
        self.folder.path().join("recovery.key")
    }

    pub(crate) fn command<'a>(&self, node: usize, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let folder = self.folder.path().join(NODES[node]);
        fs::create_dir_all(&folder).unwrap();
        let [alpha, beta] = self.ports;
        let quoted = |path: &Path| Value::from(path.to_str().unwrap()).to_string();
        let fleet = format!(
            "[fleet]\nname = \"test\"\nnodes = {{ alpha = \"127.0.0.1:{alpha}\", beta = \"127.0.0.1:{beta}\" }}\n\
             issuers = [\"alpha\"]\n[vault.twin]\nkind = \"peer\"\n{}[policy.default]\n{}\n\
             [service.data]\nprimary = \"alpha\"\nsecondary = [\"beta\"]\nfiles = {{ path = {}, watch = false }}\n",
            self.more_of_fleet,
            self.policy,
            quoted(&self.source()),
        );
        let hold = match node {
            0 => String::new(),
            _ if self.holds_nothing => String::new(),
            _ => {
                format!("[hold.alpha]\nvault = {{ path = {}{} }}\n", quoted(&self.held()), self.more_of_beta)
            }
        };
        let own = format!(
            "[node]\nname = \"{}\"\nlisten = \"127.0.0.1:{}\"\nmetrics = \"127.0.0.1:{}\"\nstate = {}\n{}{hold}",
            NODES[node],
            self.ports[node],
            self.metrics[node],
            quoted(&self.folder.path().join(format!("state-{}", NODES[node]))),
            self.more_of_nodes[node],
        );
        fs::write(folder.join("fleet.toml"), fleet).unwrap();
        fs::write(folder.join("node.toml"), own).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(folder).args(arguments).env("BACKSTAY_LOG", "info");
        command
    }

    pub(crate) fn run<'a>(&self, node: usize, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        run(self.command(node, arguments))
    }

    pub(crate) fn start<'a>(&self, node: usize, arguments: impl IntoIterator<Item = &'a str>) -> Running {
        Running::start(self.command(node, arguments))
    }

    /// A daemon that answers.
    pub(crate) fn daemon(&self, node: usize) -> Running {
        let mut running = self.start(node, ["run"]);
        wait_for("the daemon's answer", || {
            assert!(running.is_running(), "the daemon has ended: {}", running.stderr_so_far());
            get(self.metrics[node], "/healthz").is_some()
        });
        wait_for("the other nodes' port", || running.stderr_so_far().contains("listening for other nodes"));
        running
    }

    pub(crate) fn restore(&self, node: usize, name: &str, more: &[&str]) -> PathBuf {
        let destination = self.folder.path().join(name);
        let arguments = ["restore", "data", "--to", destination.to_str().unwrap()];
        self.run(node, arguments.into_iter().chain(more.iter().copied())).good();
        destination
    }

    /// A series of a node's metrics by the beginning of its line; none while it is NaN.
    pub(crate) fn figure(&self, node: usize, series: &str) -> Option<f64> {
        let page = get(self.metrics[node], "/metrics")?;
        let line = page.lines().find(|line| line.starts_with(series))?;
        let value: f64 = line.rsplit(' ').next()?.parse().expect("a number");
        (!value.is_nan()).then_some(value)
    }

    pub(crate) fn change(&self, n: u32) {
        fs::write(self.source().join(format!("file {n}")), format!("contents {n}\n").repeat(3000)).unwrap();
    }
}
