//! Two nodes of a fleet, each on its own host: alpha has what is protected, beta holds. Owns the order in which parts come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_testkit::network::Network;
use backstay_testkit::process::{Running, wait_for, word};
use backstay_testkit::udp_relay::Weather;

use crate::filter::{Counts, Filter};
use crate::node::{Node, quoted};
use crate::relay::Relay;

/// The objective of the only flow.
pub(crate) const RPO: Duration = Duration::from_secs(5);

/// The nodes, which belong to a fleet. Its fields are dropped in this order: what runs, then namespaces, then their files.
pub(crate) struct Rig {
    /// Where there is one, alpha reaches beta by it.
    pub(crate) relay: Option<Relay>,
    /// Before alpha and before beta.
    pub(crate) filters: [Filter; 2],
    pub(crate) alpha: Arc<Node>,
    pub(crate) beta: Arc<Node>,
    _network: Network,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Two hosts that reach each other, and no daemon yet.
    pub(crate) fn new(relayed: Option<Weather>, seed: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-network-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let mut network = Network::new(name.trim_start_matches("backstay-network-"));
        let alpha = Node::new(&mut network, folder.path(), "alpha");
        let beta = Node::new(&mut network, folder.path(), "beta");
        let filters = [&alpha, &beta].map(|node| Filter::new(&node.namespace));
        let relay = relayed.map(|weather| Relay::start(&network, beta.address(), weather, seed));
        let [source, held] = ["source", "held"].map(|name| quoted(&folder.path().join(name)));
        let fleet = |beta| {
            format!(
                "[fleet]\nname = \"test\"\nnodes = {{ alpha = \"{}\", beta = \"{beta}\" }}\nissuers = [\"alpha\"]\n\
                 [vault.twin]\nkind = \"peer\"\n[policy.default]\nrpo = \"{}s\"\n\
                 [service.data]\nprimary = \"alpha\"\nsecondary = [\"beta\"]\nfiles = {{ path = {source}, watch = false }}\n",
                alpha.address(),
                RPO.as_secs(),
            )
        };
        alpha.configure(&fleet(relay.as_ref().map_or(beta.address(), Relay::address)), "");
        beta.configure(&fleet(beta.address()), &format!("[hold.alpha]\nvault = {{ path = {held} }}\n"));
        enrol(&alpha, &beta, &folder.path().join("recovery.key"));
        Self { relay, filters, alpha: Arc::new(alpha), beta: Arc::new(beta), _network: network, folder }
    }

    /// The daemons of alpha and of beta. They are to be dropped before this.
    pub(crate) fn daemons(&self) -> [Running; 2] {
        [self.alpha.daemon(), self.beta.daemon()]
    }

    /// What both hosts were sent so far, and what of it was lost before them.
    pub(crate) fn counts(&self) -> [Counts; 2] {
        self.filters.each_ref().map(Filter::counts)
    }

    /// A path beside what belongs to the nodes; `source` is what is protected.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn enrol(alpha: &Node, beta: &Node, recovery: &Path) {
    alpha.run(&["init", "alpha", "--recovery", word(recovery)]);
    let mut inviting = alpha.start(&["invite", "beta", "--recovery", word(recovery)]);
    let said = || inviting.said().split_once('\n').map(|(line, _)| line.to_owned()).ok_or("nothing was said");
    let text = wait_for("the invitation", said);
    beta.run(&["join", &text]);
    inviting.wait();
}
