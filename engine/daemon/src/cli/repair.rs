//! `vault repair`: mends what can be mended, and names what is lost.

use backstay_vault::vault::{Loss, RepairMeans, Repaired};
use clap::Args;
use serde::Serialize;

use super::capture::engine;
use super::{Context, print_json};
use crate::failure::Failure;
use crate::terminal::{ProgressLine, print, remark};
use crate::vaults::Absent;

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The vault's name in the configuration.
    vault: String,
    /// Read every pack whole, and not only those that are suspect.
    #[arg(long)]
    read_data: bool,
    /// Take what is missing from this vault; may be given several times.
    #[arg(long, value_name = "VAULT")]
    from: Vec<String>,
}

#[derive(Serialize)]
struct ShownRepair {
    vault: String,
    mended: Vec<String>,
    more_mended: u64,
    losses: Vec<ShownLoss>,
    more_losses: u64,
    chunks_fetched: u64,
    records_salvaged: u64,
    chunks_lost: u64,
    points_lost: u64,
}

#[derive(Serialize)]
struct ShownLoss {
    source: String,
    point: Option<String>,
    path: Option<String>,
    why: String,
}

impl From<Loss> for ShownLoss {
    fn from(loss: Loss) -> Self {
        let point = loss.point.map(|point| point.to_string());
        Self { source: loss.source_name, point, path: loss.path, why: loss.why }
    }
}

pub(super) fn run(context: &Context, arguments: &RepairArgs) -> Result<u8, Failure> {
    if arguments.from.contains(&arguments.vault) {
        return Err(Failure::usage(format!(
            "--from {}: give another vault than the one to mend",
            arguments.vault
        )));
    }
    let (engine, _lock) = engine(context)?;
    let vaults = engine.vaults();
    let others = arguments.from.iter().map(|name| vaults.open(name, Absent::Refuse));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    vaults.open(&arguments.vault, Absent::Refuse)?;
    let bundle = vaults.bundle();
    let means = RepairMeans { reads_all: arguments.read_data, others: &others, bundle: bundle.as_ref() };
    let line = ProgressLine::start("mending");
    let repaired = engine.care().with_custodian(&arguments.vault, |custodian| Ok(custodian.repair(&means)?));
    line.end();
    tell(context, &arguments.vault, repaired?)
}

fn tell(context: &Context, vault: &str, repaired: Repaired) -> Result<u8, Failure> {
    let shown = ShownRepair {
        vault: vault.to_owned(),
        mended: repaired.mended,
        more_mended: repaired.more_mended,
        losses: repaired.losses.into_iter().map(ShownLoss::from).collect(),
        more_losses: repaired.more_losses,
        chunks_fetched: repaired.chunks_fetched,
        records_salvaged: repaired.records_salvaged,
        chunks_lost: repaired.chunks_lost,
        points_lost: repaired.points_lost,
    };
    if context.json {
        print_json(&shown)?;
    } else {
        shown.mended.iter().for_each(|line| print(line));
        shown.losses.iter().for_each(tell_loss);
        print(&format!(
            "vault {vault}: mended: {}; records salvaged: {}, chunks from other vaults: {}; lost: {} points, {} chunks",
            shown.mended.len() as u64 + shown.more_mended,
            shown.records_salvaged,
            shown.chunks_fetched,
            shown.points_lost,
            shown.chunks_lost
        ));
    }
    let lost = shown.losses.len() as u64 + shown.more_losses;
    if lost == 0 && shown.chunks_lost == 0 {
        return Ok(0);
    }
    if !context.json {
        remark("note: what the sources still have is stored again by the next `backstay now`");
    }
    Err(Failure::partly(format!(
        "{lost} things are lost in vault {vault}; give another vault that has them with --from, or capture again"
    )))
}

fn tell_loss(loss: &ShownLoss) {
    let point = loss.point.as_ref().map(|point| format!(" {point}")).unwrap_or_default();
    let path = loss.path.as_ref().map(|path| format!(" {}", path.escape_debug())).unwrap_or_default();
    print(&format!("lost: {}{point}{path}: {}", loss.source, loss.why));
}
