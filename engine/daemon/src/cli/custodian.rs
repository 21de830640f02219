//! `vault custodian take`: the office passes to this node.

use std::path::PathBuf;

use backstay_wire::upkeep::{Upkeep, UpkeepReport};
use clap::Subcommand;
use serde::Serialize;

use super::{Context, print_json, secret_key, upkeep};
use crate::control::unasked;
use crate::failure::Failure;
use crate::terminal::print;

#[derive(Debug, Subcommand)]
pub(super) enum CustodianCommand {
    /// Make this node the one that thins and deletes, and let it write. First see to it that the former custodian cannot
    /// reach the vault any more: one that runs on would delete what it does not know to be in use.
    #[command(
        after_help = "Example: backstay vault custodian take local --key-file /media/stick/backstay-recovery.key"
    )]
    Take {
        /// The vault's name in the configuration.
        vault: String,
        /// The recovery key, where one was made.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct ShownTake {
    vault: String,
    custodian: String,
    term: u64,
}

pub(super) fn run(context: &Context, command: &CustodianCommand) -> Result<u8, Failure> {
    let CustodianCommand::Take { vault, key_file } = command;
    let recovery = key_file.as_deref().map(secret_key).transpose()?;
    let job = Upkeep::TakeCustody { vault: vault.clone(), recovery };
    let UpkeepReport::CustodyTaken { term } = upkeep::done(context, "taking over", &job)? else {
        return Err(unasked());
    };
    let shown = ShownTake { vault: vault.clone(), custodian: context.config.node.name.to_string(), term };
    match context.json {
        true => print_json(&shown)?,
        false => print(&format!("{} is custodian of vault {vault} now, in term {term}", shown.custodian)),
    }
    Ok(0)
}
