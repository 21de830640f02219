//! `check-config`: what the configuration means, with defaults and policies filled in.

use backstay_core::config::{ListenAddress, Source, Target};
use backstay_core::units::format_duration;
use serde::Serialize;

use super::{Context, print_json};
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
    flows: Vec<ExplainedFlow>,
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
    for source in &config.sources {
        let home = &config.services[&source.service].primary;
        print(&format!("source {} ({}), at home on {home}", source.name, source.kind.label()));
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
    let kinds = config.sources.iter().filter(|source| source.kind.label() != "files").map(|source| {
        format!("{}: sources of kind {} are not captured by this version", source.name, source.kind.label())
    });
    let vaults = config.vaults.values().filter(|vault| vault.kind.label() != "dir").map(|vault| {
        format!("vault {}: kind {} cannot be used by this version", vault.name, vault.kind.label())
    });
    let tailnet = matches!(config.node.metrics, Some(ListenAddress::Tailnet { .. }));
    let metrics = tailnet.then(|| {
        "node.metrics: this version cannot listen on the tailnet by name, and serves no metrics; give IP:PORT".to_owned()
    });
    let flows = config.sources.iter().flat_map(|source| source.flows.iter().map(move |flow| (source, flow)));
    let replicas =
        flows.filter(|(_, flow)| !matches!(flow.target, Target::Vault(_))).map(|(source, flow)| {
            format!("{}: this version keeps no {}; its state stays unknown", source.name, flow.target)
        });
    kinds.chain(vaults).chain(metrics).chain(replicas).collect()
}

fn explain(context: &Context, source: &Source) -> ExplainedSource {
    ExplainedSource {
        name: source.name.to_string(),
        kind: source.kind.label().to_owned(),
        home: context.config.services[&source.service].primary.to_string(),
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
