//! The configuration: from texts to a typed model in which every reference holds and every default is filled
//! in, or to all that is wrong with them.
//!
//! Owns the keys, their meaning and their inheritance. Reads no file, resolves no secret, and does not look
//! at the machine: whether a path, a program or a glob is usable is for the daemon to find out.

mod address;
mod declared;
mod fleet;
mod fleet_source;
mod flow;
mod hub;
mod keep;
mod limit;
mod lookup;
mod name;
mod nearest;
mod node;
mod order;
mod path;
mod peers;
mod policy;
mod price;
mod problem;
mod read;
mod secret;
mod service;
mod source;
mod table;
mod user;
mod value;
mod variable;
mod vault;
mod vault_address;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use address::{ListenAddress, ListenError, NodeAddress};
pub use fleet::Fleet;
pub use fleet_source::FLEET_RPO;
pub use flow::Flow;
pub use hub::{Relay, ViaVault};
pub use keep::{Keep, KeepRules};
pub use limit::{DailyWindow, MINUTES_PER_DAY, RateLimit};
pub use lookup::SourceLookupError;
pub use name::{
    CommandName, FleetName, NAME_BYTES_MAX, NameError, NodeName, PolicyName, ServiceName, SourceName,
    VaultName,
};
pub use node::{Allow, HeldVault, Hold, Hooks, Node, Tailnet};
pub use path::DatasetName;
pub use policy::{RPO_DEFAULT, SyncMode, Target, VERIFY_EVERY_DEFAULT, Verify, VerifyLevel};
pub use price::{BILLION, Price, PriceTable};
pub use problem::{ConfigErrors, PROBLEMS_MAX, Problem, ProblemKind};
pub use secret::{AccessKey, SecretRef, VaultSecret};
pub use service::Service;
pub use source::{
    COMMAND_TIMEOUT_DEFAULT, COMMAND_TIMEOUT_MAX, CommandSource, FilesSource, PostgresSource, SnapshotKind,
    Source, SourceKind, ZfsSource,
};
pub use user::{UserName, UserNameError};
pub use variable::{VARIABLE_BYTES_MAX, VariableName};
pub use vault::{BucketAddressError, DirVault, HeldVaultOf, PeerVault, S3Vault, Vault, VaultKind};
pub use vault_address::{VaultAddress, VaultAddressError, bucket_and_prefix};

/// How long a text of the configuration may be, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// How many vaults there may be.
pub const VAULTS_MAX: usize = 64;
/// How many sources there may be over all services.
pub const SOURCES_MAX: usize = 4096;

/// A text with the name under which problems in it are reported, usually its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceText<'t> {
    /// The name.
    pub name: &'t str,
    /// The TOML.
    pub text: &'t str,
}

/// The texts of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigTexts<'t> {
    /// One text with all tables.
    Single(SourceText<'t>),
    /// A directory's two files.
    Split {
        /// `fleet.toml`: the same on all nodes.
        fleet: SourceText<'t>,
        /// `node.toml`: this node's own.
        node: SourceText<'t>,
    },
}

/// A configuration without faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Who belongs together.
    pub fleet: Fleet,
    /// Where sources go.
    pub vaults: BTreeMap<VaultName, Vault>,
    /// What is protected, by what must move together.
    pub services: BTreeMap<ServiceName, Service>,
    /// What is protected, in the order of names, with policies applied.
    pub sources: Vec<Source>,
    /// What each node keeps of the fleet's configuration in its vaults, as a source of its own; of nodes that capture anything.
    pub fleet_sources: BTreeMap<NodeName, Source>,
    /// Who this node is.
    pub node: Node,
    /// The access keys of S3 vaults.
    pub secrets: BTreeMap<VaultName, VaultSecret>,
    /// What this node accepts from which other.
    pub holds: BTreeMap<NodeName, Hold>,
    /// Nodes whose sources go to vaults at others, each with the node that holds them.
    pub peer_pairs: BTreeSet<(NodeName, NodeName)>,
    /// Vaults that another node writes to for this one.
    pub via: BTreeMap<VaultName, ViaVault>,
    /// What this node copies for others, as the hub of its vaults.
    pub relays: Vec<Relay>,
    /// What this node runs, and when.
    pub hooks: Hooks,
    /// What fleet.toml may make this node do.
    pub allow: Allow,
    /// A hash of fleet.toml, where it is a file of its own: it should be the same on all nodes. Of whoever has read the file.
    pub fleet_file: Option<[u8; 32]>,
    /// The directory or file that it was read from. Of whoever has read it.
    pub read_from: Option<PathBuf>,
}

/// The name that the text of a node.toml gives, whatever else stands there; none where it is no TOML, or has none.
pub fn node_name_in(text: &str) -> Option<String> {
    let tables: toml::Table = text.parse().ok()?;
    Some(tables.get("node")?.get("name")?.as_str()?.to_owned())
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigErrors`]: all that is wrong, at most [`PROBLEMS_MAX`] problems with their places. Where a
    /// text is no TOML at all, only that.
    pub fn parse(texts: ConfigTexts<'_>) -> Result<Self, ConfigErrors> {
        read::read(texts)
    }

    /// The sources whose service has its home on a node, in the order of names. Where a service has been
    /// promoted its term decides, not this.
    pub fn sources_at_home_on(&self, node: &NodeName) -> impl Iterator<Item = &Source> {
        let is_home =
            move |source: &&Source| self.services.get(&source.service).is_some_and(|s| s.primary == *node);
        self.sources.iter().filter(is_home)
    }
}
