//! `init`, `invite`, `join`, `identity import`: how nodes come to belong to a fleet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::{
    Config, ConfigTexts, FleetName, ListenAddress, NodeName, SourceText, node_name_in,
};
use backstay_core::units::{Timestamp, parse_duration};
use backstay_net::enrol::Invitation;
use backstay_net::tailnet::LocalApi;
use clap::Args;
use tokio::runtime::Handle;

use super::Context;
use crate::enrolment::{self, Again, DEFAULT_STATE, Invited, JoinPlan, Starter};
use crate::failure::Failure;
use crate::load;
use crate::node::StateLock;
use crate::terminal::{print, remark};

/// An invitation is open for no longer.
const INVITATION_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The name of this node.
    node: String,
    /// Write a recovery key to this file, which must not be lost, or use the one that is there: it opens everything, and the
    /// keys by which nodes are invited leave this one.
    #[arg(long, value_name = "FILE", required_unless_present = "no_recovery")]
    recovery: Option<PathBuf>,
    /// Do without a recovery key for now: whoever has this node's state can invite others, and if it is lost, nobody can.
    #[arg(long, conflicts_with = "recovery")]
    no_recovery: bool,
    /// The name of the fleet, where there is no configuration yet.
    #[arg(long, default_value = "home", value_name = "NAME")]
    fleet: String,
    /// Where this node listens, where there is no configuration yet.
    #[arg(long, default_value = "tailnet:7420", value_name = "ADDRESS")]
    listen: String,
    /// Where others reach this node, HOST:PORT, where there is no configuration yet; found out where it is not given.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The directory of its state, where there is no configuration yet.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// The node that is invited; it stands in `nodes` of `[fleet]`.
    node: String,
    /// The recovery key, which has the keys by which nodes are invited; not needed as long as there is none.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
    /// Invite a node that is enrolled already, since it was built anew: the one that is there is cut off then.
    #[arg(long)]
    again: bool,
    /// How long the invitation is open.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    valid: String,
    /// Where the other node reaches this process; where the daemon listens, at another port if it runs.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// What `backstay invite` has printed on the other node; `-` reads it from standard input.
    invitation: String,
    /// Where this node listens, where it has no node.toml yet.
    #[arg(long, default_value = "tailnet:7420", value_name = "ADDRESS")]
    listen: String,
    /// The directory of its state, where it has no node.toml yet.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Begins a fleet.
pub(super) fn init(arguments: &InitArgs, path: &Path, io: &Handle) -> Result<u8, Failure> {
    let node: NodeName = arguments.node.parse().map_err(Failure::usage)?;
    begin_configuration(arguments, &node, path, io)?;
    let context = Context { config: Arc::new(load::load(path)?), io: io.clone(), json: false };
    if context.config.node.name != node {
        return Err(Failure::usage(format!(
            "the configuration in {} is that of node {}, and not of {node}",
            path.display(),
            context.config.node.name
        )));
    }
    let _lock = StateLock::take(&context.config.node.state)?;
    let (vaults, _) = context.vaults()?;
    let begun = enrolment::init(&context.config, io, &vaults, arguments.recovery.as_deref())?;
    let name = &context.config.fleet.name;
    match begun.was_there {
        true => print(&format!("the fleet {name} is there already, and {node} is in it")),
        false => print(&format!("the fleet {name} has begun, with {node} as its first node")),
    }
    match (&arguments.recovery, begun.has_recovery) {
        (Some(file), _) => print(&format!(
            "the recovery key is in {}: copy it to a place that outlives this node, and remove it here; inviting nodes takes it as well",
            file.display()
        )),
        (None, false) => remark(
            "warning: there is no recovery key: if this node is lost, nobody can read its vaults or invite nodes. Run it again with --recovery FILE",
        ),
        (None, true) => {}
    }
    for (vault, failure) in &begun.left {
        remark(&format!(
            "vault {vault} has not got the recovery key: {failure}. `backstay vault init {vault} --recovery FILE` gives it later"
        ));
    }
    Ok(if begun.left.is_empty() { 0 } else { 3 })
}

/// Writes the first configuration where there is none.
fn begin_configuration(
    arguments: &InitArgs,
    node: &NodeName,
    path: &Path,
    io: &Handle,
) -> Result<(), Failure> {
    let starter = Starter::in_folder(path);
    if path.is_file() || starter.fleet_file().exists() || starter.node_file().exists() {
        return Ok(());
    }
    let fleet: FleetName = arguments.fleet.parse().map_err(Failure::usage)?;
    let listen = listen_address(&arguments.listen)?;
    let address = match (&arguments.address, listen) {
        (Some(address), _) => address.clone(),
        (None, ListenAddress::Socket(address)) if !address.ip().is_unspecified() => address.to_string(),
        (None, ListenAddress::Socket(_)) => {
            return Err(Failure::usage("say where others reach this node: --address HOST:PORT"));
        }
        (None, listen @ ListenAddress::Tailnet { .. }) => {
            let addresses = io.block_on(LocalApi::default().listen_on(listen)).map_err(|error| {
                Failure::failed(format!(
                    "{error}. Without Tailscale say where this node listens and is reached: --listen ADDRESS:PORT"
                ))
            })?;
            addresses.first().map(ToString::to_string).unwrap_or_default()
        }
    };
    if starter.write_fleet(&fleet, node, &address)? {
        print(&format!(
            "wrote {}: add the other nodes and what is to be protected",
            starter.fleet_file().display()
        ));
    }
    let state = arguments.state.as_deref().map(std::path::absolute).transpose()?;
    if starter.write_node(node, listen, state.as_deref())? {
        print(&format!("wrote {}", starter.node_file().display()));
    }
    Ok(())
}

/// Tells the operator.
struct Teller<'n>(&'n NodeName);

impl Invited for Teller<'_> {
    fn open(&self, text: &str, address: &str, until: Timestamp) {
        remark(&format!(
            "on {}, run `backstay join` with what follows. It is a secret, good for one node, until {until}; this command waits for it, at {address} (UDP)",
            self.0
        ));
        print(text);
    }
}

/// Invites a node, and waits for it.
pub(super) fn invite(context: &Context, arguments: &InviteArgs, path: &Path) -> Result<u8, Failure> {
    let node: NodeName = arguments.node.parse().map_err(Failure::usage)?;
    let valid = parse_duration(&arguments.valid).map_err(Failure::usage)?;
    if valid.is_zero() || valid > INVITATION_MAX {
        return Err(Failure::usage("an invitation is open for up to 24h"));
    }
    let vaults = Arc::new(context.vaults_to_read(None)?);
    let fleet_file = match path.is_dir() {
        true => std::fs::read(Starter::in_folder(path).fleet_file())?,
        // All tables are in one file, of which others get nothing.
        false => Vec::new(),
    };
    let (config, io) = (&context.config, &context.io);
    let recovery = arguments.recovery.as_deref();
    let again = if arguments.again { Again::Yes } else { Again::No };
    enrolment::invite(
        (config, io, &vaults),
        (&node, again),
        recovery,
        arguments.listen,
        valid,
        fleet_file,
        &Teller(&node),
    )?;
    remark(&format!("{node} belongs to the fleet {} now", config.fleet.name));
    Ok(0)
}

/// Takes up an invitation.
pub(super) fn join(arguments: &JoinArgs, path: &Path, io: &Handle) -> Result<u8, Failure> {
    let text = match arguments.invitation.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::io::Read::take(std::io::stdin(), 4096), &mut text)?;
            text
        }
        text => text.to_owned(),
    };
    let invitation: Invitation = text.parse().map_err(Failure::usage)?;
    let starter = (!path.is_file()).then(|| Starter::in_folder(path));
    let plan = JoinPlan {
        state: state_of(&invitation, path, arguments)?,
        starter,
        listen: listen_address(&arguments.listen)?,
    };
    let written = enrolment::join(&invitation, &plan, io)?;
    let (node, fleet, inviter) = (&invitation.node, &invitation.fleet, &invitation.inviter);
    print(&format!("{node} belongs to the fleet {fleet} now, invited by {inviter}"));
    for file in written.fleet.iter().chain(&written.node) {
        print(&format!("wrote {}", file.display()));
    }
    if written.differs {
        remark(&format!(
            "warning: fleet.toml differs from that of {inviter}: it should be the same on all nodes"
        ));
    }
    if written.node.is_some() {
        remark(&format!(
            "to hold a vault for {inviter}, add to node.toml: [hold.{inviter}] with vault = {{ path = \"/srv/backstay/{inviter}\" }}"
        ));
    }
    Ok(0)
}

/// The state of the node that joins: as its configuration says, as far as there is one.
fn state_of(invitation: &Invitation, path: &Path, arguments: &JoinArgs) -> Result<PathBuf, Failure> {
    let starter = Starter::in_folder(path);
    let (has_fleet, has_node) = (starter.fleet_file().exists(), starter.node_file().exists());
    let own_name = std::fs::read_to_string(starter.node_file()).ok().and_then(|text| node_name_in(&text));
    let config = match (path.is_file() || (has_fleet && has_node), has_node) {
        (true, _) => Some(load::load(path)?),
        (false, true) => match (node_file_alone(invitation, &starter), &arguments.state) {
            (None, _) if own_name.as_deref().is_some_and(|own| own != invitation.node.as_str()) => {
                return Err(Failure::usage(format!(
                    "the invitation is for {}, and this node is {} by {}: correct `name` of [node], or have an invitation made for that name",
                    invitation.node,
                    own_name.unwrap_or_default(),
                    starter.node_file().display()
                )));
            }
            (None, None) => {
                return Err(Failure::usage(format!(
                    "{} cannot be understood without its fleet.toml: say where the state is, with --state DIR",
                    starter.node_file().display()
                )));
            }
            (config, _) => config,
        },
        (false, false) => None,
    };
    if let Some(other) = config.as_ref().filter(|config| config.node.name != invitation.node) {
        return Err(Failure::usage(format!(
            "the invitation is for {}, and this node is {} by its configuration in {}",
            invitation.node,
            other.node.name,
            path.display()
        )));
    }
    let configured = config.map(|config| config.node.state);
    Ok(arguments.state.clone().or(configured).unwrap_or_else(|| PathBuf::from(DEFAULT_STATE)))
}

/// What a node.toml says that lacks its fleet.toml, as far as it can be understood without.
fn node_file_alone(invitation: &Invitation, starter: &Starter) -> Option<Config> {
    let text = std::fs::read_to_string(starter.node_file()).ok()?;
    let (node, inviter) = (&invitation.node, &invitation.inviter);
    let fleet = format!(
        "[fleet]\nname = \"{}\"\nnodes = {{ {node} = \"127.0.0.1:1\", {inviter} = \"127.0.0.1:2\" }}\n",
        invitation.fleet
    );
    let fleet = SourceText { name: "fleet.toml", text: &fleet };
    Config::parse(ConfigTexts::Split { fleet, node: SourceText { name: "node.toml", text: &text } }).ok()
}

fn listen_address(text: &str) -> Result<ListenAddress, Failure> {
    text.parse().map_err(|error: backstay_core::config::ListenError| Failure::usage(error))
}
