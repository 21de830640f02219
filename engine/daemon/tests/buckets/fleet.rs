//! Two nodes of a fleet that write to one bucket: alpha is its custodian.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backstay_testkit::garage::{Garage, REGION};
use backstay_testkit::ports::free_ports;

use crate::daemon::Daemon;
use crate::host::{Said, said};

pub(crate) const NODES: [&str; 2] = ["alpha", "beta"];

pub(crate) struct Fleet {
    pub(crate) garage: Garage,
    folder: tempfile::TempDir,
    ports: [u16; 2],
    /// Further lines of the vault and of the policy.
    pub(crate) vault: String,
    pub(crate) policy: String,
    /// Further lines of each node.toml.
    pub(crate) nodes: [String; 2],
}

impl Fleet {
    /// Two hosts that are no fleet yet.
    pub(crate) fn apart() -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-fleet-").tempdir().unwrap();
        let path = folder.path().join("garage");
        fs::create_dir(&path).unwrap();
        let garage = Garage::start(&path);
        for (file, text) in [("s3-id", &garage.key().id), ("s3-key", &garage.key().secret)] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let ports = free_ports();
        let fleet = Self {
            garage,
            folder,
            ports,
            vault: String::new(),
            policy: String::new(),
            nodes: Default::default(),
        };
        NODES.iter().for_each(|node| fs::create_dir(fleet.source(node)).unwrap());
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is protected of a node.
    pub(crate) fn source(&self, node: &str) -> PathBuf {
        self.path(&format!("source of {node}"))
    }

    pub(crate) fn recovery(&self) -> String {
        self.path("recovery.key").to_str().unwrap().to_owned()
    }

    /// Has beta join.
    pub(crate) fn join(&self) {
        let recovery = self.recovery();
        let mut inviting = self.command(0, &["invite", "beta", "--recovery", &recovery]);
        let mut inviting = inviting.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        BufReader::new(inviting.stdout.as_mut().unwrap()).read_line(&mut text).unwrap();
        self.run(1, &["join", text.trim()]).good();
        assert!(inviting.wait().unwrap().success());
    }

    pub(crate) fn run(&self, node: usize, arguments: &[&str]) -> Said {
        said(self.command(node, arguments))
    }

    pub(crate) fn daemon(&self, node: usize) -> Daemon {
        Daemon::start(self.command(node, &["run"]), &self.path(&format!("state-{}", NODES[node])))
    }

    fn command(&self, node: usize, arguments: &[&str]) -> Command {
        let folder = self.path(NODES[node]);
        fs::create_dir_all(&folder).unwrap();
        let [alpha, beta] = self.ports;
        let service = |node: &str| {
            format!(
                "[service.{node}]\nprimary = \"{node}\"\nfiles = {{ path = \"{}\", watch = false }}\n",
                self.source(node).display()
            )
        };
        let fleet = format!(
            "[fleet]\nname = \"home\"\nnodes = {{ alpha = \"127.0.0.1:{alpha}\", beta = \"127.0.0.1:{beta}\" }}\n\
             [vault.offsite]\nkind = \"s3\"\nbucket = \"{}\"\nendpoint = \"{}\"\nregion = \"{REGION}\"\n{}\n\
             [policy.default]\n{}\n{}{}",
            self.garage.bucket(),
            self.garage.endpoint(),
            self.vault,
            self.policy,
            service("alpha"),
            service("beta"),
        );
        let own = format!(
            "[node]\nname = \"{}\"\nlisten = \"127.0.0.1:{}\"\nstate = \"{}\"\n{}",
            NODES[node],
            self.ports[node],
            self.path(&format!("state-{}", NODES[node])).display(),
            self.nodes[node],
        );
        for (name, text) in [("fleet.toml", fleet), ("node.toml", own)] {
            // Another command may be reading it.
            if fs::read_to_string(folder.join(name)).ok().as_ref() != Some(&text) {
                fs::write(folder.join(name), text).unwrap();
            }
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(folder).args(arguments);
        command
    }

    /// The lines by which a node has the key of the bucket.
    pub(crate) fn secret(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "[secret]\noffsite = {{ access = \"file:{folder}/s3-id\", secret = \"file:{folder}/s3-key\" }}\n"
        )
    }
}

/// Both trees have the same files.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let read = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    assert!(read(one) == read(other), "{} differs from {}", one.display(), other.display());
}
