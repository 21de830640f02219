//! The first configuration of a node that has none: as little as possible, to be gone on with by hand. Nothing that is there is
//! written over.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backstay_core::config::{FleetName, ListenAddress, NodeName};

use crate::failure::Failure;
use crate::node::advice;

/// Where the configuration is, and what it begins with.
#[derive(Debug, Clone)]
pub struct Starter {
    folder: PathBuf,
}

impl Starter {
    /// In this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// The file of the fleet.
    pub fn fleet_file(&self) -> PathBuf {
        self.folder.join("fleet.toml")
    }

    /// The file of the node.
    pub fn node_file(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// Writes `fleet.toml` with one node; whether it was not there.
    pub fn write_fleet(&self, fleet: &FleetName, node: &NodeName, address: &str) -> Result<bool, Failure> {
        let text = format!(
            "# The same on all nodes: what is protected, and where to. `backstay check-config` explains it.\n\
             [fleet]\n\
             name = \"{fleet}\"\n\
             nodes = {{ {node} = \"{address}\" }}\n\
             issuers = [\"{node}\"]\n"
        );
        self.write_if_absent(&self.fleet_file(), text.as_bytes())
    }

    /// Writes `fleet.toml` as another node has it; whether it was not there.
    pub fn write_fleet_of_others(&self, text: &[u8]) -> Result<bool, Failure> {
        self.write_if_absent(&self.fleet_file(), text)
    }

    /// Writes `node.toml`; whether it was not there.
    pub fn write_node(
        &self,
        node: &NodeName,
        listen: ListenAddress,
        state: Option<&Path>,
    ) -> Result<bool, Failure> {
        let state =
            state.map(|state| format!("state = {:?}\n", state.display().to_string())).unwrap_or_default();
        let text = format!(
            "# Who this node is, and what it accepts from others.\n\
             [node]\n\
             name = \"{node}\"\n\
             listen = \"{listen}\"\n\
             {state}"
        );
        self.write_if_absent(&self.node_file(), text.as_bytes())
    }

    fn write_if_absent(&self, path: &Path, text: &[u8]) -> Result<bool, Failure> {
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            let mut file = match opened {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
                opened => opened?,
            };
            file.write_all(text)?;
            file.sync_all()?;
            fs::File::open(&self.folder)?.sync_all()?;
            Ok(true)
        };
        write().map_err(|error: std::io::Error| {
            Failure::failed(format!("cannot write {}: {error}; {}", path.display(), advice(path, &error)))
        })
    }
}
