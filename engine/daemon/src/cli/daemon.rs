//! `run`: the daemon, or one cycle of what is due.

use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::config::Source;
use backstay_core::proof::{DueProof, ProofLevel};
use backstay_core::schedule::{SETTLE, due};
use backstay_files::touched::Touched;
use backstay_wire::control::{Ask, CaptureReport};
use clap::Args;

use super::{Context, capture, check_config};
use crate::care::summary;
use crate::clock::SystemClock;
use crate::control::Conversation;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::fleet_source;
use crate::flows::Flows;
use crate::node::StateLock;
use crate::proving::{self, ProofProgress, Wanted};
use crate::rights;
use crate::serve::Daemon;
use crate::terminal::{self, remark, watched};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Do what is due by the clock, then end.
    #[arg(long)]
    once: bool,
    /// With --once: these sources only.
    #[arg(value_name = "SOURCE", requires = "once")]
    sources: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &RunArgs) -> Result<u8, Failure> {
    for warning in check_config::warnings(context) {
        remark(&format!("warning: {warning}"));
    }
    if arguments.once { once(context, &arguments.sources) } else { forever(context) }
}

fn forever(context: &Context) -> Result<u8, Failure> {
    let lock = StateLock::take(&context.config.node.state)?;
    let (vaults, metrics) = context.vaults()?;
    let engine = Arc::new(Engine::new(Arc::clone(&context.config), vaults, Arc::new(SystemClock))?);
    if engine.vaults().lacks_recovery() {
        remark(capture::NO_RECOVERY);
    }
    rights::silent_lack().into_iter().for_each(remark);
    let sources = context.config.sources_at_home_on(&context.config.node.name).count();
    remark(&format!("sources that the daemon protects: {sources}; `backstay status` tells how they are"));
    let daemon = Daemon::new(Arc::clone(&context.config), engine, Arc::new(SystemClock), metrics);
    context.io.block_on(Arc::new(daemon).serve(lock))?;
    Ok(0)
}

/// Captures what is due now, through the daemon where one runs.
fn once(context: &Context, typed: &[String]) -> Result<u8, Failure> {
    let sources = capture::named(context, typed)?;
    let names = sources.iter().map(|source| source.name.to_string()).collect();
    let reports = match Conversation::ask(&context.config.node.state, Ask::Due { sources: names })? {
        Some(conversation) => capture::follow(conversation)?,
        None => alone(context, &sources)?,
    };
    capture::end(context, reports)
}

/// Captures the flows that are due now, one source after the other.
fn alone(context: &Context, sources: &[&Source]) -> Result<Vec<CaptureReport>, Failure> {
    let (engine, lock) = capture::engine(context)?;
    let mut flows = Flows::load(&context.config, engine.vaults());
    let mut reports = Vec::new();
    let now = SystemClock.moment();
    if let Some(own) = context.config.own_fleet_source()
        && let Some(changed) = fleet_source::last_change(&context.config)
        && flows.has_changed_since(own.name.as_str(), changed)
    {
        // This process does not come again: it does not wait until what is changed together has changed.
        let settled = changed.saturating_sub(SETTLE);
        flows.changed(own.name.as_str(), &Touched::Everywhere, settled);
    }
    let mut jobs = due(&flows.scheduled(now), now.wall);
    // What people care for comes first.
    jobs.sort_by_key(|job| job.source.as_fleet_of().is_some());
    for job in jobs {
        if let Some(source) = sources.iter().find(|source| source.name == job.source) {
            reports.push(capture::capture(&engine, source, &job.targets, None));
        }
    }
    prune_due(context, &engine);
    // Proofs take long, and write nothing to the state.
    drop(lock);
    prove_due(context, &engine, sources);
    Ok(reports)
}

/// Retention where it is due by the clock. What becomes of it changes nothing of the captures: it is said.
fn prune_due(context: &Context, engine: &Engine) {
    let care = engine.care();
    let own = context.config.vaults.iter().filter(|(_, vault)| vault.kind.may_be_cared_for());
    for (name, _) in own {
        let pruned = engine
            .vaults()
            .meter(name.as_str())
            .and_then(|meter| watched("pruning", || meter.progress(), || care.prune_if_due(name.as_str())));
        match pruned {
            Ok(Some(report)) => remark(&summary(&report)),
            Ok(None) => {}
            Err(failure) => remark(&format!("warning: vault {name} was not pruned: {failure}")),
        }
    }
}

/// Proofs where they are due. What becomes of them changes nothing of the captures: it is said.
fn prove_due(context: &Context, engine: &Engine, sources: &[&Source]) {
    let prover = match engine.prover() {
        Ok(prover) => prover,
        Err(failure) => return remark(&format!("warning: nothing was proven: {failure}")),
    };
    for source in sources.iter().filter(|source| !fleet_source::is_fleet(source)) {
        let vaults = source.flows.iter().filter_map(|flow| flow.target.vault());
        // What goes on from a hub is proven by the hub.
        for vault in vaults.filter(|vault| engine.vaults().via(vault).is_none()) {
            let made = prover.due(source, vault, ProofLevel::Restore).and_then(|due| {
                let Some((_, Some(DueProof { level, bytes_max }))) = due else { return Ok(()) };
                let scratch = &context.config.node.scratch;
                let wanted = Wanted { source, vault, level, bytes_max, scratch };
                let progress = ProofProgress::default();
                let what = format!("verifying {} in {vault}", source.name);
                let proof =
                    terminal::watched(&what, || progress.told(), || prover.prove(&wanted, &progress))?;
                proving::log(&proof, vault);
                Ok(())
            });
            if let Err(failure) = made {
                remark(&format!("warning: nothing was proven of {} in {vault}: {failure}", source.name));
            }
        }
    }
}
