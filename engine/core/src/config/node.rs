//! `node.toml`: who this node is, what it accepts from others, and what it may run. Owns everything that no
//! other node may decide for this one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::units::{ByteSize, Span};

use super::address::ListenAddress;
use super::name::{NodeName, ServiceName};
use super::path::DatasetName;
use super::problem::{ProblemKind, Refusal};
use super::table::Table;
use super::user::UserName;
use super::value::Value;

const STATE_DEFAULT: &str = "/var/lib/backstay";
/// Within the state.
const SCRATCH_DEFAULT: &str = "scratch";
/// What a hook's arguments may contain in braces.
const PLACEHOLDERS: [&str; 2] = ["service", "node"];

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Which node of the fleet it is.
    pub name: NodeName,
    /// The directory for catalogue, caches and identity; `/var/lib/backstay` where nothing is said.
    pub state: PathBuf,
    /// The directory in which points are restored to prove them; `scratch` in `state` where nothing is said.
    pub scratch: PathBuf,
    /// Where other nodes reach it; it takes no connections when absent.
    pub listen: Option<ListenAddress>,
    /// Where metrics and the status page are served; nowhere when absent.
    pub metrics: Option<ListenAddress>,
    /// Whether peers must be known to Tailscale as well.
    pub tailnet: Tailnet,
    /// The socket at which tailscaled is asked; where it is by default, when absent.
    pub tailscaled: Option<PathBuf>,
}

/// Whether peers must also be who tailscaled says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tailnet {
    /// They must; so it is where nothing is said and `listen` is on the tailnet.
    Required,
    /// Certificates alone decide.
    Off,
}

/// What is accepted from one other node, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// A directory vault kept for it.
    pub vault: Option<HeldVault>,
    /// The dataset under which its datasets are received.
    pub zfs: Option<DatasetName>,
    /// The services for which a standby is run.
    pub postgres: Vec<ServiceName>,
    /// The directories under which its trees are mirrored.
    pub files: Vec<PathBuf>,
}

/// A directory vault kept for another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldVault {
    /// The directory.
    pub path: PathBuf,
    /// How large it may become; no limit when absent.
    pub quota: Option<ByteSize>,
    /// How much must stay free on its file system.
    pub floor: Option<ByteSize>,
    /// How much of the quota is left for WAL alone.
    pub wal_reserve: Option<ByteSize>,
    /// How long deleted objects stay in the trash; the store's own default when absent.
    pub undelete: Option<Span>,
    /// How often all of it is read and compared with its names; a default of the daemon's when absent.
    pub scrub: Option<Span>,
}

/// Programs that this node runs at certain moments: program and arguments, in which `{service}` and `{node}`
/// stand for names. Never empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Starts a service.
    pub start: Option<Vec<String>>,
    /// Stops a service.
    pub stop: Option<Vec<String>>,
    /// Points names at the node on which a service is now.
    pub dns: Option<Vec<String>>,
    /// Makes sure that another node is off.
    pub fence: Option<Vec<String>>,
    /// Quiesces a service just before a snapshot.
    pub freeze: Option<Vec<String>>,
    /// Lets it go on just after.
    pub thaw: Option<Vec<String>>,
}

/// What fleet.toml may make this node do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Whether the programs that it names (`command`, `check`) are run here; not where nothing is said.
    pub commands: bool,
    /// The user that they run as; the daemon's own when absent.
    pub command_user: Option<UserName>,
}

/// `[node]` before it is known which nodes there are.
pub(super) struct NodeDraft<'t> {
    /// Where the name stands.
    pub(super) name_place: Option<Value<'t>>,
    pub(super) name: Option<NodeName>,
    state: Option<PathBuf>,
    scratch: Option<PathBuf>,
    listen: Option<ListenAddress>,
    metrics: Option<ListenAddress>,
    tailnet: Tailnet,
    tailscaled: Option<PathBuf>,
}

impl NodeDraft<'_> {
    /// Checks that the node is one of the fleet's.
    pub(super) fn finish(self, nodes: &BTreeSet<NodeName>) -> Option<Node> {
        let place = self.name_place?;
        let name = if self.name.is_some() { place.reference(nodes) } else { None };
        let Self { state, scratch, listen, metrics, tailnet, tailscaled, .. } = self;
        let state = state?;
        let scratch = scratch.unwrap_or_else(|| state.join(SCRATCH_DEFAULT));
        Some(Node { name: name?, state, scratch, listen, metrics, tailnet, tailscaled })
    }
}

pub(super) fn read_node<'t>(value: &Value<'t>) -> Option<NodeDraft<'t>> {
    Table::read(value, |table| {
        let name_place = table.require("name", "name = \"NODE\"");
        let name = name_place.as_ref().and_then(Value::parse);
        let state =
            table.get("state").map_or_else(|| Some(PathBuf::from(STATE_DEFAULT)), |value| value.parse());
        let scratch = table.get("scratch").and_then(|value| value.parse());
        let listen = table.get("listen").and_then(|value| value.parse());
        let metrics = table.get("metrics").and_then(|value| value.parse());
        let tailscaled = table.get("tailscaled").and_then(|value| value.parse());
        let modes = [("required", Tailnet::Required), ("off", Tailnet::Off)];
        let tailnet = table.get("tailnet").and_then(|value| value.choice(&modes)).unwrap_or(match listen {
            Some(ListenAddress::Tailnet { .. }) => Tailnet::Required,
            _ => Tailnet::Off,
        });
        NodeDraft { name_place, name, state, scratch, listen, metrics, tailnet, tailscaled }
    })
}

pub(super) fn read_hold(value: &Value<'_>, services: &BTreeSet<ServiceName>) -> Option<Hold> {
    Table::read(value, |table| {
        let vault = table.get("vault").and_then(|value| read_held_vault(&value));
        let zfs = table.get("zfs").and_then(|value| value.parse());
        let postgres = table.get("postgres").map(|value| value.references(services)).unwrap_or_default();
        let files = table.get("files").map(|value| value.parse_array()).unwrap_or_default();
        Hold { vault, zfs, postgres, files }
    })
}

pub(super) fn read_hooks(value: &Value<'_>) -> Option<Hooks> {
    Table::read(value, |table| {
        let [start, stop, dns, fence, freeze, thaw] = ["start", "stop", "dns", "fence", "freeze", "thaw"]
            .map(|key| table.get(key).and_then(|value| read_hook(&value)));
        Hooks { start, stop, dns, fence, freeze, thaw }
    })
}

pub(super) fn read_allow(value: &Value<'_>) -> Option<Allow> {
    Table::read(value, |table| {
        let commands = table.get("commands").and_then(|value| value.truth()).unwrap_or(false);
        let command_user = table.get("command_user").and_then(|value| value.parse());
        Allow { commands, command_user }
    })
}

fn read_held_vault(value: &Value<'_>) -> Option<HeldVault> {
    Table::read(value, |table| {
        let path = table.require("path", "path = \"/srv/backstay/NODE\"").and_then(|value| value.parse());
        let [quota, floor, wal_reserve] = ["quota", "floor", "wal_reserve"]
            .map(|key| table.get(key).and_then(|value| value.positive_size()));
        let [undelete, scrub] =
            ["undelete", "scrub"].map(|key| table.get(key).and_then(|value| value.positive_span()));
        if let (Some(quota), Some(reserve)) = (quota, wal_reserve)
            && reserve >= quota
        {
            table.problem(ProblemKind::Conflict, || {
                let what = format!("wal_reserve ({reserve}) leaves nothing of quota ({quota})");
                Refusal::new(what, "raise quota or lower wal_reserve")
            });
        }
        Some(HeldVault { path: path?, quota, floor, wal_reserve, undelete, scrub })
    })?
}

fn read_hook(value: &Value<'_>) -> Option<Vec<String>> {
    let argv = value.argv()?;
    for unknown in
        argv.iter().flat_map(|argument| placeholders(argument)).filter(|p| !PLACEHOLDERS.contains(p))
    {
        value.problem(ProblemKind::BadValue, || {
            Refusal::new(
                format!("there is nothing to put in place of {{{unknown}}}"),
                "use {service} or {node}",
            )
        });
    }
    Some(argv)
}

/// The words in braces. Other text in braces, such as JSON, is no placeholder.
fn placeholders(argument: &str) -> impl Iterator<Item = &str> {
    argument.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word).filter(|word| {
        !word.is_empty() && word.len() <= 32 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}
