//! A node of its own for one test: source, vault, state and configuration in a temporary directory, and the
//! commands of the binary.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use backstay_testkit::ports::free_port;
use backstay_testkit::random::{self, Random};
use serde_json::Value;

use crate::outcome::{Outcome, Running, run};

/// A node.
#[derive(Debug)]
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    /// The tree that is protected, as `data.files`.
    pub(crate) source: PathBuf,
    /// The vault `local`.
    pub(crate) vault: PathBuf,
    /// `node.state`.
    pub(crate) state: PathBuf,
    /// `node.name`.
    pub(crate) node_name: &'static str,
    /// The vaults of the policy, as the configuration writes them.
    pub(crate) targets: &'static str,
    /// What the table of the source has after `path`.
    pub(crate) source_lines: &'static str,
    /// Whether the daemon watches the source for changes.
    pub(crate) watch: bool,
    /// RPO of the flow.
    pub(crate) rpo: &'static str,
    /// Lines for the table `[node]`.
    pub(crate) node_lines: String,
    /// Tables after those that every configuration here has.
    pub(crate) more: String,
}

/// What became of a capture, as `now --json` shows it.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The new point, or the one since which nothing has changed.
    pub(crate) point: String,
    pub(crate) is_new: bool,
    pub(crate) read_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) entries: u64,
}

impl Sandbox {
    /// A node with an empty source.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-e2e-").tempdir().unwrap();
        // Other users must be able to reach what is theirs.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self {
            source: folder.path().join("source"),
            vault: folder.path().join("vault"),
            state: folder.path().join("state"),
            node_name: "alpha",
            targets: r#"["local"]"#,
            source_lines: "",
            watch: false,
            rpo: "15m",
            node_lines: String::new(),
            more: String::new(),
            folder,
        };
        fs::create_dir(&sandbox.source).unwrap();
        sandbox
    }

    /// A path in the sandbox.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line of the binary; the configuration is written anew.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(self.write_config()).args(arguments);
        command.env("BACKSTAY_LOG", "warn").env_remove("BACKSTAY_PART_BYTES");
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(self.command(arguments))
    }

    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        Running::start(self.command(arguments))
    }

    /// Captures, which must be wholly good.
    #[track_caller]
    pub(crate) fn capture(&self) -> Capture {
        Capture::of(&self.run(["now", "--json"]).good())
    }

    /// Restores the newest point to a new directory of this name, which must be wholly good.
    #[track_caller]
    pub(crate) fn restore(&self, name: &str) -> PathBuf {
        self.restore_with(name, &[])
    }

    /// As [`Self::restore`], with more arguments.
    #[track_caller]
    pub(crate) fn restore_with(&self, name: &str, more: &[&str]) -> PathBuf {
        let destination = self.path(name);
        let mut arguments: Vec<&OsStr> = ["restore", "data", "--to"].map(OsStr::new).to_vec();
        arguments.push(destination.as_os_str());
        arguments.extend(more.iter().map(OsStr::new));
        self.run(arguments).good();
        destination
    }

    /// The vault must be whole.
    #[track_caller]
    pub(crate) fn check_vault(&self) {
        let checked = self.run(["vault", "check", "local", "--json"]).good().json();
        assert_eq!(checked["good"], true, "{checked:#}");
        assert_eq!(checked["bad_points"], 0, "{checked:#}");
    }

    /// Ids of the points, the oldest first.
    #[track_caller]
    pub(crate) fn points(&self) -> Vec<String> {
        let points = self.run(["points", "data", "--json"]).good().json();
        points.as_array().unwrap().iter().map(|point| text(&point["point"])).collect()
    }

    /// Writes the configuration: one file with all tables.
    pub(crate) fn write_config(&self) -> PathBuf {
        let quote = |path: &Path| Value::from(path.to_str().unwrap()).to_string();
        let config = format!(
            "[fleet]\nname = \"test\"\n\
             [node]\nname = \"{}\"\nstate = {}\n{}\n\
             [vault.local]\nkind = \"dir\"\npath = {}\n\
             [policy.default]\nto = {}\nrpo = \"{}\"\n\
             [service.data]\nfiles = {{ path = {}, watch = {}{} }}\n{}",
            self.node_name,
            quote(&self.state),
            self.node_lines,
            quote(&self.vault),
            self.targets,
            self.rpo,
            quote(&self.source),
            self.watch,
            self.source_lines,
            self.more,
        );
        let path = self.path("backstay.toml");
        // A command that was just started may be reading it.
        if fs::read_to_string(&path).is_ok_and(|written| written == config) {
            return path;
        }
        fs::write(&path, config).unwrap();
        path
    }
}

impl Capture {
    /// Reads what `now --json` printed of its only source and target.
    #[track_caller]
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let reports = outcome.json();
        let report = &reports[0];
        let outcome = &report["targets"][0]["outcome"];
        let is_new = !outcome["point"].is_null();
        let point = if is_new { &outcome["point"]["point"] } else { &outcome["unchanged"]["point"] };
        assert!(point.is_string(), "no point: {reports:#}");
        Self {
            point: text(point),
            is_new,
            read_bytes: report["read_bytes"].as_u64().unwrap(),
            stored_bytes: report["stored_bytes"].as_u64().unwrap(),
            entries: report["entries"].as_u64().unwrap(),
        }
    }
}

/// A string of a JSON document.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}

/// Numbers that differ from run to run. The seed is shown when the test fails, and can be given again.
pub(crate) fn seeded() -> Random {
    let seed = random::seed();
    println!("seed: BACKSTAY_TEST_SEED={seed}");
    Random::new(seed)
}
