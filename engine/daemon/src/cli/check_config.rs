//! `check-config`: what the configuration means, with defaults and policies filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_core::config::{Source, SourceKind, Target};
use backstay_core::units::format_duration;
use serde::Serialize;

use super::{Context, print_json};
use crate::engine::commands::refusal;
use crate::failure::Failure;
use crate::terminal::print;

#[derive(Serialize)]
struct Explained {
    fleet: String,
    node: String,
    state: String,
    vaults: Vec<ExplainedVault>,
    sources: Vec<ExplainedSource>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ExplainedVault {
    name: String,
    kind: String,
}

#[derive(Serialize)]
struct ExplainedSource {
    name: String,
    kind: String,
    home: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<ExplainedCommand>,
    flows: Vec<ExplainedFlow>,
}

#[derive(Serialize)]
struct ExplainedCommand {
    run: Vec<String>,
    /// Whether this node runs it.
    allowed: bool,
    /// As whom; as the daemon itself when absent.
    user: Option<String>,
    timeout_seconds: f64,
    /// Names alone: what is in them may be for nobody else.
    env: Vec<String>,
    /// The same, with where their values are.
    secrets: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ExplainedFlow {
    target: String,
    rpo_seconds: f64,
}

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let config = &context.config;
    let explained = Explained {
        fleet: config.fleet.name.to_string(),
        node: config.node.name.to_string(),
        state: config.node.state.display().to_string(),
        vaults: config
            .vaults
            .values()
            .map(|vault| ExplainedVault { name: vault.name.to_string(), kind: vault.kind.label().to_owned() })
            .chain(config.via.iter().map(|(name, via)| ExplainedVault {
                name: name.to_string(),
                kind: format!("via {}", via.hub),
            }))
            .collect(),
        sources: config.sources.iter().map(|source| explain(context, source)).collect(),
        warnings: warnings(context),
    };
    if context.json {
        print_json(&explained)?;
        return Ok(0);
    }
    print(&format!("fleet {}, node {}, state in {}", explained.fleet, explained.node, explained.state));
    for vault in &explained.vaults {
        print(&format!("vault {} ({})", vault.name, vault.kind));
    }
    for relay in &config.relays {
        let sources: Vec<&str> = relay.sources.iter().map(|source| source.as_str()).collect();
        print(&format!("copied on from {} to {}: {}", relay.from, relay.to, sources.join(", ")));
    }
    for source in &config.sources {
        let home = &config.services[&source.service].primary;
        print(&format!("source {} ({}), at home on {home}", source.name, source.kind.label()));
        command(context, source).iter().for_each(tell_command);
        for flow in &source.flows {
            print(&format!("  to {} within {}", flow.target, format_duration(flow.rpo)));
        }
    }
    for warning in &explained.warnings {
        print(&format!("warning: {warning}"));
    }
    Ok(0)
}

/// What is accepted and not yet acted on.
pub(super) fn warnings(context: &Context) -> Vec<String> {
    let config = &context.config;
    let is_captured = |source: &&Source| matches!(source.kind, SourceKind::Files(_) | SourceKind::Command(_));
    let kinds = config.sources.iter().filter(|source| !is_captured(source)).map(|source| {
        format!("{}: sources of kind {} are not captured by this version", source.name, source.kind.label())
    });
    let own = config.sources_at_home_on(&config.node.name);
    let own = own.filter(|source| matches!(source.kind, SourceKind::Command(_)));
    let refused = own.filter_map(|source| refusal(config, source));
    let flows = config.sources.iter().flat_map(|source| source.flows.iter().map(move |flow| (source, flow)));
    let replicas =
        flows.filter(|(_, flow)| !matches!(flow.target, Target::Vault(_))).map(|(source, flow)| {
            format!("{}: this version keeps no {}; its state stays unknown", source.name, flow.target)
        });
    kinds.chain(refused).chain(replicas).collect()
}

fn explain(context: &Context, source: &Source) -> ExplainedSource {
    ExplainedSource {
        name: source.name.to_string(),
        kind: source.kind.label().to_owned(),
        home: context.config.services[&source.service].primary.to_string(),
        command: command(context, source),
        flows: source
            .flows
            .iter()
            .map(|flow| ExplainedFlow {
                target: flow.target.to_string(),
                rpo_seconds: flow.rpo.as_secs_f64(),
            })
            .collect(),
    }
}

fn command(context: &Context, source: &Source) -> Option<ExplainedCommand> {
    let SourceKind::Command(command) = &source.kind else { return None };
    let allow = &context.config.allow;
    let secrets = command.secrets.iter();
    Some(ExplainedCommand {
        run: command.run.clone(),
        allowed: allow.commands,
        user: allow.command_user.as_ref().map(ToString::to_string),
        timeout_seconds: command.timeout.as_duration().as_secs_f64(),
        env: command.env.keys().map(ToString::to_string).collect(),
        secrets: secrets.map(|(name, reference)| (name.to_string(), reference.to_string())).collect(),
    })
}

fn tell_command(command: &ExplainedCommand) {
    let user =
        command.user.as_deref().map_or("as the daemon's own user".to_owned(), |user| format!("as {user}"));
    let whether =
        if command.allowed { user } else { "not on this node: [allow] commands is not true".to_owned() };
    let words: Vec<String> = command.run.iter().map(|word| format!("{word:?}")).collect();
    print(&format!("  runs {}, {whether}", words.join(" ")));
    let timeout = format_duration(Duration::from_secs_f64(command.timeout_seconds));
    let secrets = command.secrets.iter().map(|(name, reference)| format!("{name} ({reference})"));
    let variables: Vec<String> = command.env.iter().cloned().chain(secrets).collect();
    let variables =
        if variables.is_empty() { String::new() } else { format!("; sets {}", variables.join(", ")) };
    print(&format!("  ends it after {timeout}{variables}"));
}
