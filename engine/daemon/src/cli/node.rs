//! `node list|remove|rebind` and `identity import`: the nodes of the fleet, as they are and as they shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName, Source, ViaVault};
use backstay_core::units::format_duration;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::task::JoinSet;

use super::status::show_table;
use super::{Context, print_json};
use crate::clock::SystemClock;
use crate::enrolment;
use crate::failure::Failure;
use crate::fleet::{FleetMember, Told};
use crate::terminal::{print, remark};

/// A clock that is off by more is said to be.
const CLOCK_NOTED_MILLIS: i64 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// All nodes: whether they are reached, their versions, certificates and clocks.
    #[command(after_help = "Example: sudo backstay node list")]
    List,
    /// Take a node out of the fleet: it is refused everywhere from then on.
    #[command(after_help = "Example: sudo backstay node remove cobblestone --dry-run")]
    Remove(RemoveArgs),
    /// Bind a node to another node of the tailnet: after that was made anew, or Headscale was rebuilt.
    #[command(
        after_help = "Example: sudo backstay node rebind cobblestone --recovery /root/backstay-recovery.key"
    )]
    Rebind(RebindArgs),
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The node.
    node: String,
    /// Say what would lose a copy, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// The recovery key, which has the admin's key; not needed as long as there is none.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RebindArgs {
    /// The node.
    node: String,
    /// The stable id of its tailnet node; the one that is at its address now, where it is not given.
    #[arg(long, value_name = "ID")]
    tailnet_id: Option<String>,
    /// The recovery key, which has the admin's key; not needed as long as there is none.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum IdentityCommand {
    /// Go by a certificate of another authority, such as step-ca. It has the URI spiffe://FLEET/node/NODE and may be a client.
    #[command(
        after_help = "Example: sudo backstay identity import node.crt node.key --ca root_ca.crt --recovery /root/backstay-recovery.key"
    )]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The certificate and those above it, PEM.
    certificate: PathBuf,
    /// Its private key, PEM.
    key: PathBuf,
    /// The certificate of the authority, PEM, where the fleet does not know it yet.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The recovery key, which has the admin's key; needed for a new key or authority.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownNode {
    node: String,
    address: Option<String>,
    is_enrolled: bool,
    is_this: bool,
    version: Option<String>,
    certificate_valid_until: Option<String>,
    clock_ahead_millis: Option<i64>,
    round_trip_millis: Option<f64>,
    tailnet_id: Option<String>,
    /// Why it was not reached.
    unreachable: Option<String>,
}

/// What a removal would do.
#[derive(Serialize)]
struct ShownRemoval {
    node: String,
    /// What sources lose by it, in words.
    lost: Vec<String>,
}

pub(super) fn run(context: &Context, command: &NodeCommand) -> Result<u8, Failure> {
    match command {
        NodeCommand::List => list(context),
        NodeCommand::Remove(arguments) => remove(context, arguments),
        NodeCommand::Rebind(arguments) => rebind(context, arguments),
    }
}

fn list(context: &Context) -> Result<u8, Failure> {
    let vaults = context.vaults_to_read(None)?;
    let member = vaults.fleet().cloned();
    let nodes = context.io.block_on(look(&context.config, member.as_deref()));
    if context.json {
        print_json(&nodes)?;
    } else {
        let heads = ["NODE", "ADDRESS", "STATE", "VERSION", "CERTIFICATE UNTIL", "CLOCK"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(heads).chain(nodes.iter().map(row)).collect();
        show_table(&rows);
        for node in &nodes {
            if let Some(why) = &node.unreachable {
                print(&format!("{}: {why}", node.node));
            }
        }
    }
    let all_well = nodes.iter().all(|node| node.is_enrolled && node.unreachable.is_none());
    Ok(if all_well { 0 } else { 3 })
}

fn row(node: &ShownNode) -> [String; 6] {
    let state = match (node.is_enrolled, &node.unreachable) {
        (false, _) => "not enrolled",
        (true, None) if node.is_this => "this node",
        (true, None) => "reached",
        (true, Some(_)) => "not reached",
    };
    let clock = match node.clock_ahead_millis {
        Some(ahead) if ahead.abs() >= CLOCK_NOTED_MILLIS => {
            let by = format_duration(std::time::Duration::from_millis(ahead.unsigned_abs()));
            format!("{by} {}", if ahead > 0 { "ahead" } else { "behind" })
        }
        Some(_) => "same".to_owned(),
        None => "-".to_owned(),
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        node.node.clone(),
        or_dash(&node.address),
        state.to_owned(),
        or_dash(&node.version),
        or_dash(&node.certificate_valid_until),
        clock,
    ]
}

/// Asks all nodes at once.
async fn look(config: &Config, member: Option<&FleetMember>) -> Vec<ShownNode> {
    let roster = member.map(FleetMember::roster);
    let enrolled = roster.iter().flat_map(|roster| roster.members.keys());
    let names: BTreeSet<NodeName> = config.fleet.nodes.keys().chain(enrolled).cloned().collect();
    let mut shown: BTreeMap<NodeName, ShownNode> = BTreeMap::new();
    let mut greetings = JoinSet::new();
    for name in names {
        let of_roster = roster.as_ref().and_then(|roster| roster.members.get(&name));
        let is_this = name == config.node.name;
        let mut node = ShownNode {
            node: name.to_string(),
            address: config.fleet.nodes.get(&name).cloned().flatten().map(|address| address.to_string()),
            is_enrolled: of_roster.is_some(),
            is_this,
            version: is_this.then(|| env!("CARGO_PKG_VERSION").to_owned()),
            certificate_valid_until: None,
            clock_ahead_millis: is_this.then_some(0),
            round_trip_millis: None,
            tailnet_id: of_roster.and_then(|member| member.tailnet_id.clone()),
            unreachable: None,
        };
        match member {
            Some(member) if is_this => {
                let until = member.certificate_until(SystemClock.now());
                node.certificate_valid_until = until.map(|until| until.to_string());
            }
            Some(member) if node.is_enrolled => match member.link(&name) {
                Ok(link) => {
                    let name = name.clone();
                    greetings.spawn(async move { (name, link.greet().await) });
                }
                Err(failure) => node.unreachable = Some(failure.message),
            },
            _ => {}
        }
        shown.insert(name, node);
    }
    while let Some(Ok((name, greeted))) = greetings.join_next().await {
        let Some(node) = shown.get_mut(&name) else { continue };
        match greeted {
            Ok(known) => {
                node.version = Some(known.software);
                node.certificate_valid_until = known.certificate_until.map(|until| until.to_string());
                node.clock_ahead_millis = Some(known.clock_ahead_nanos / 1_000_000);
                node.round_trip_millis = Some(known.round_trip.as_secs_f64() * 1000.0);
            }
            Err(error) => node.unreachable = Some(error.to_string()),
        }
    }
    shown.into_values().collect()
}

fn remove(context: &Context, arguments: &RemoveArgs) -> Result<u8, Failure> {
    let node: NodeName = arguments.node.parse().map_err(Failure::usage)?;
    let vaults = context.vaults_to_read(None)?;
    if let Some(fleet) = vaults.fleet() {
        enrolment::refuse_unknown(&fleet.roster(), &node)?;
    }
    let lost = what_is_lost(&context.config, &node);
    if arguments.dry_run && context.json {
        print_json(&ShownRemoval { node: node.to_string(), lost })?;
        return Ok(0);
    }
    lost.iter().for_each(|line| remark(line));
    if arguments.dry_run {
        print(&format!(
            "{node} would be taken out of the fleet {}; nothing was changed",
            context.config.fleet.name
        ));
        return Ok(0);
    }
    let told =
        enrolment::remove((&context.config, &context.io, &vaults), &node, arguments.recovery.as_deref())?;
    print(&format!("{node} belongs to the fleet {} no more", context.config.fleet.name));
    tell(&told);
    if context.config.fleet.nodes.contains_key(&node) {
        remark(&format!(
            "take {node} out of fleet.toml as well, and its [hold.{node}] out of node.toml, on all nodes"
        ));
    }
    remark(&format!(
        "{node} has the keys of the domain still: if it is in other hands, `backstay vault keys rotate --compromised` makes new ones"
    ));
    Ok(0)
}

fn rebind(context: &Context, arguments: &RebindArgs) -> Result<u8, Failure> {
    let node: NodeName = arguments.node.parse().map_err(Failure::usage)?;
    let vaults = context.vaults_to_read(None)?;
    let access = (&*context.config, &context.io, &vaults);
    let (id, told) =
        enrolment::rebind(access, &node, arguments.tailnet_id.clone(), arguments.recovery.as_deref())?;
    print(&format!("{node} is bound to the tailnet node {id} now"));
    tell(&told);
    Ok(0)
}

pub(super) fn identity(context: &Context, command: &IdentityCommand) -> Result<u8, Failure> {
    let IdentityCommand::Import(arguments) = command;
    let vaults = context.vaults_to_read(None)?;
    let has_changed = enrolment::import(
        (&context.config, &context.io, &vaults),
        &arguments.certificate,
        &arguments.key,
        arguments.ca.as_deref(),
        arguments.recovery.as_deref(),
    )?;
    print(&format!(
        "{} shows the certificate in {} from now on",
        context.config.node.name,
        arguments.certificate.display()
    ));
    if has_changed {
        remark("the other nodes know its key and authority as soon as they have the new roster");
    }
    remark(
        "restart the daemon (`systemctl restart backstay`): it shows the new certificate then. Import it again when it was renewed",
    );
    Ok(0)
}

fn tell(told: &Told) {
    let names = |nodes: &[NodeName]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !told.nodes.is_empty() {
        remark(&format!("known by now to: {}", names(&told.nodes)));
    }
    if !told.later.is_empty() {
        remark(&format!("not reached, told when they are next connected: {}", names(&told.later)));
    }
}

/// What a node is needed for, by the configuration.
fn what_is_lost(config: &Config, node: &NodeName) -> Vec<String> {
    let mut lines = Vec::new();
    for source in &config.sources {
        let Some(service) = config.services.get(&source.service) else { continue };
        if service.primary == *node {
            lines.push(format!(
                "{}: it is at home on {node}, and is captured by nobody without it",
                source.name
            ));
        } else if service.secondary.first() == Some(node)
            && config.peer_pairs.contains(&(service.primary.clone(), node.clone()))
        {
            lines.push(lost_copy(config, source, node));
        }
        let vaults = source.flows.iter().filter_map(|flow| flow.target.vault());
        for vault in vaults.filter(|vault| config.via.get(*vault).is_some_and(|via| via.hub == *node)) {
            lines.push(format!("{}: {node} alone writes to {vault}: nothing more comes there", source.name));
        }
    }
    lines
}

fn lost_copy(config: &Config, source: &Source, node: &NodeName) -> String {
    let is_elsewhere = |name: &str| {
        let vault = config.vaults.iter().find(|(known, _)| known.as_str() == name).map(|(_, vault)| vault);
        let stays = |via: &ViaVault| via.hub != *node || !via.is_directory;
        vault.is_some_and(|vault| vault.kind.directory().is_some() || vault.kind.label() == "s3")
            || config.via.get(name).is_some_and(stays)
    };
    let others: Vec<&str> = source
        .flows
        .iter()
        .filter_map(|flow| flow.target.vault())
        .filter(|name| is_elsewhere(name))
        .collect();
    match others.as_slice() {
        [] => format!("{}: its only copy is at {node}: it would have none", source.name),
        others => {
            format!("{}: it loses its copy at {node}; what is left: {}", source.name, others.join(", "))
        }
    }
}
