//! A tailnet: a control server and two nodes. Owns the order in which its parts come and go.

use std::path::PathBuf;

use backstay_testkit::network::Network;

use crate::headscale::Headscale;
use crate::node::Node;

/// Where `cargo xtask test tailnet` has built the programs.
const PROGRAMS_VARIABLE: &str = "BACKSTAY_TAILNET_PROGRAMS";

/// A tailnet. Its fields are dropped in this order: programs, then namespaces, then their files.
pub(crate) struct Rig {
    pub(crate) null: Node,
    pub(crate) cobble: Node,
    pub(crate) headscale: Headscale,
    _network: Network,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// Makes the network and starts everything. No node has logged in.
    pub(crate) fn start() -> Self {
        let programs = std::env::var_os(PROGRAMS_VARIABLE).map(PathBuf::from);
        let programs = programs.expect("this wants real parts: run `cargo xtask test tailnet`");
        let folder = tempfile::Builder::new().prefix("tailnet-").tempdir().expect("a folder");
        let name = folder.path().file_name().expect("a name").to_string_lossy();
        let suffix = name.trim_start_matches("tailnet-");
        let mut network = Network::new(suffix);
        let headscale = Headscale::start(&programs, folder.path(), &network);
        let mut node = |name| Node::start(&programs, folder.path(), &mut network, name);
        let (null, cobble) = (node("null"), node("cobble"));
        Self { null, cobble, headscale, _network: network, _folder: folder }
    }
}
