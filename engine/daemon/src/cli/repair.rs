//! `vault repair`: mends what can be mended, and names what is lost.

use backstay_wire::upkeep::{LossReport, RepairReport, Upkeep, UpkeepReport};
use clap::Args;

use super::{Context, print_json, upkeep};
use crate::control::unasked;
use crate::failure::Failure;
use crate::terminal::{print, remark};

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
    /// Drop the points that lack contents which neither this vault nor one of --from has. The newest of each source, and
    /// what is held, stays.
    #[arg(long)]
    drop_damaged: bool,
}

pub(super) fn run(context: &Context, arguments: &RepairArgs) -> Result<u8, Failure> {
    if arguments.from.contains(&arguments.vault) {
        return Err(Failure::usage(format!(
            "--from {}: give another vault than the one to mend",
            arguments.vault
        )));
    }
    let job = Upkeep::Repair {
        vault: arguments.vault.clone(),
        reads_all: arguments.read_data,
        from: arguments.from.clone(),
        drops_damaged: arguments.drop_damaged,
    };
    match upkeep::done(context, "mending", &job)? {
        UpkeepReport::Repaired(report) => tell(context, &report),
        _ => Err(unasked()),
    }
}

fn tell(context: &Context, report: &RepairReport) -> Result<u8, Failure> {
    let vault = &report.vault;
    if context.json {
        print_json(report)?;
    } else {
        report.mended.iter().for_each(|line| print(line));
        report.losses.iter().for_each(tell_loss);
        print(&format!(
            "vault {vault}: mended: {}; records salvaged: {}, chunks from other vaults: {}; lost: {} points, {} chunks",
            report.mended.len() as u64 + report.more_mended,
            report.records_salvaged,
            report.chunks_fetched,
            report.points_lost,
            report.chunks_lost
        ));
    }
    let lost = report.losses.len() as u64 + report.more_losses;
    if lost == 0 && report.chunks_lost == 0 {
        return Ok(0);
    }
    if !context.json {
        remark("note: what the sources still have is stored again by the next `backstay now`");
    }
    Err(Failure::partly(format!(
        "{lost} things are lost in vault {vault}; give another vault that has them with --from, or capture again"
    )))
}

fn tell_loss(loss: &LossReport) {
    let point = loss.point.as_ref().map(|point| format!(" {point}")).unwrap_or_default();
    let path = loss.path.as_ref().map(|path| format!(" {}", path.escape_debug())).unwrap_or_default();
    print(&format!("lost: {}{point}{path}: {}", loss.source, loss.why));
}
