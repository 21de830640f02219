//! `vault init|stat|check` and the rest of `vault`, which have files of their own: care of vaults.

use std::path::PathBuf;

use backstay_core::units::ByteSize;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::vault_cost::ShownMonth;
use super::{Context, check, copy, custodian, keys, print_json, prune, repair, undelete};
use crate::failure::Failure;
use crate::node::StateLock;
use crate::terminal::{print, remark};
use crate::vaults::{Absent, Recovery};

#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Make a vault, or add a recovery key to one.
    #[command(after_help = "Example: backstay vault init local --recovery /root/backstay-recovery.key")]
    Init {
        /// Its name in the configuration.
        vault: String,
        /// Write a recovery key to this file, which must not be lost; or use the one that is there.
        #[arg(long, value_name = "FILE")]
        recovery: Option<PathBuf>,
        /// Make it without one also in a bucket, which nothing opens then when this node is gone.
        #[arg(long, conflicts_with = "recovery")]
        no_recovery: bool,
    },
    /// Sizes and numbers.
    #[command(after_help = "Example: backstay vault stat local")]
    Stat(LookArgs),
    /// Whether everything is there that the points need. Reads metadata; payload with --read-data.
    #[command(after_help = "Example: backstay vault check local --read-data next/7")]
    Check(check::CheckArgs),
    /// Mend what is damaged, and name what is lost.
    #[command(after_help = "Example: backstay vault repair local --read-data --from usb")]
    Repair(repair::RepairArgs),
    /// Copy points into another vault of the domain; sealed records move as they are.
    #[command(after_help = "Example: backstay vault copy local usb --source static")]
    Copy(copy::CopyArgs),
    /// Bring a vault to the newest version of the format that this program writes.
    #[command(after_help = "Example: backstay vault upgrade local")]
    Upgrade {
        /// Its name in the configuration.
        vault: String,
    },
    /// Drop the points that `keep` does not want, and delete what nothing needs any more.
    #[command(after_help = "Example: backstay vault prune local --dry-run")]
    Prune(prune::PruneArgs),
    /// Who can read vaults.
    #[command(subcommand, after_help = "Example: backstay vault keys list local")]
    Keys(keys::KeysCommand),
    /// Who thins and deletes.
    #[command(subcommand, after_help = "Example: backstay vault custodian take local")]
    Custodian(custodian::CustodianCommand),
    /// Bring back points that were dropped, for as long as the vault's trash has them.
    #[command(after_help = "Example: backstay vault undelete local --source static")]
    Undelete(undelete::UndeleteArgs),
    /// Take the holds off points: from now on `keep` judges them.
    #[command(after_help = "Example: backstay vault release local 4f2a77c1")]
    Release(undelete::ReleaseArgs),
}

/// A vault that is looked into.
#[derive(Debug, Args)]
pub(super) struct LookArgs {
    /// Its name in the configuration.
    pub(super) vault: String,
    /// Read with this recovery key instead of the node's own identity: for a new machine on the worst day.
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownStat {
    vault: String,
    id: String,
    domain: String,
    place: String,
    custodian: String,
    sources: usize,
    points: usize,
    chunks: u64,
    plain_bytes: u64,
    packs: u64,
    data_pack_bytes: u64,
    meta_pack_bytes: u64,
    /// What was deleted and can be brought back.
    trash_bytes: u64,
    /// What a month has, of a vault in a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    month: Option<ShownMonth>,
}

pub(super) fn run(context: &Context, command: &VaultCommand) -> Result<u8, Failure> {
    match command {
        VaultCommand::Init { vault, recovery, no_recovery } => {
            init(context, vault, recovery.clone(), *no_recovery)
        }
        VaultCommand::Stat(look) => stat(context, look),
        VaultCommand::Check(arguments) => check::run(context, arguments),
        VaultCommand::Repair(arguments) => repair::run(context, arguments),
        VaultCommand::Copy(arguments) => copy::run(context, arguments),
        VaultCommand::Upgrade { vault } => upgrade(context, vault),
        VaultCommand::Prune(arguments) => prune::run(context, arguments),
        VaultCommand::Keys(command) => keys::run(context, command),
        VaultCommand::Custodian(command) => custodian::run(context, command),
        VaultCommand::Undelete(arguments) => undelete::run(context, arguments),
        VaultCommand::Release(arguments) => undelete::release(context, arguments),
    }
}

fn init(context: &Context, name: &str, recovery: Option<PathBuf>, no_recovery: bool) -> Result<u8, Failure> {
    let _lock = StateLock::take(&context.config.node.state)?;
    let (vaults, _) = context.vaults()?;
    let none = if no_recovery { Recovery::Declined } else { Recovery::None };
    let recovery = recovery.map_or(none, Recovery::File);
    let done = vaults.init(name, &recovery)?;
    if let Some(vault) = &done.made {
        print(&format!("vault {name} made in {}, id {}", vault.place(), vault.id()));
    }
    let Recovery::File(file) = &recovery else {
        remark(
            "warning: there is no recovery key yet: if this node is lost, its vaults cannot be read. Add one with --recovery FILE",
        );
        return Ok(0);
    };
    for opened in &done.opened {
        print(&format!("a recovery key was added to vault {opened}"));
    }
    if done.knows_again {
        print(&format!("vault {name} knows {} again, which was built anew", context.config.node.name));
    } else if done.made.is_none() && done.opened.is_empty() {
        print(&format!("vault {name} opens with this recovery key already"));
    }
    print(&format!(
        "recovery key in {}: print it or keep it on another machine. With it and a vault alone everything can be read",
        file.display()
    ));
    for (left, failure) in &done.left {
        remark(&format!("warning: vault {left} has not got the recovery key: {failure}"));
    }
    match done.left.first() {
        None => Ok(0),
        Some((left, _)) => Err(Failure::partly(format!(
            "some vaults have not got the recovery key; when they can be reached, run `backstay vault init {left} --recovery {}`",
            file.display()
        ))),
    }
}

fn stat(context: &Context, look: &LookArgs) -> Result<u8, Failure> {
    let name = look.vault.as_str();
    let vaults = context.vaults_to_read(look.key_file.as_deref())?;
    let vault = vaults.open(name, Absent::Refuse)?;
    let totals = vault.totals();
    let sources = vault.sources()?;
    let mut points = 0;
    for source in &sources {
        points += vault.catalogue(*source)?.points().len();
    }
    let shown = ShownStat {
        vault: name.to_owned(),
        id: vault.id().to_string(),
        domain: vault.format().domain.to_string(),
        place: vault.place(),
        custodian: vault.trust().custodian.node.clone(),
        sources: sources.len(),
        points,
        chunks: totals.chunks,
        plain_bytes: totals.plain_bytes,
        packs: totals.packs,
        data_pack_bytes: totals.data_pack_bytes,
        meta_pack_bytes: totals.meta_pack_bytes,
        trash_bytes: vault.trash()?.iter().map(|trashed| trashed.object.bytes).sum(),
        month: ShownMonth::of(
            &context.config,
            name,
            ByteSize(totals.data_pack_bytes.saturating_add(totals.meta_pack_bytes)),
        ),
    };
    if context.json {
        print_json(&shown)?;
        return Ok(0);
    }
    print(&format!("vault {} ({}) in {}, custodian {}", shown.vault, shown.id, shown.place, shown.custodian));
    print(&format!("{} sources, {} points", shown.sources, shown.points));
    print(&format!(
        "{} chunks with {} of contents, in {} packs: {} of data and {} of metadata",
        shown.chunks,
        ByteSize(shown.plain_bytes),
        shown.packs,
        ByteSize(shown.data_pack_bytes),
        ByteSize(shown.meta_pack_bytes)
    ));
    print(&format!("{} in the trash", ByteSize(shown.trash_bytes)));
    shown.month.iter().flat_map(ShownMonth::lines).for_each(|line| print(&line));
    Ok(0)
}

#[derive(Serialize)]
struct ShownUpgrade {
    vault: String,
    version: u32,
    upgraded: bool,
}

/// There is one version so far: what is older than this program is nothing, and what is newer was refused when it was
/// opened.
fn upgrade(context: &Context, name: &str) -> Result<u8, Failure> {
    let vault = context.vaults_to_read(None)?.open(name, Absent::Refuse)?;
    let shown = ShownUpgrade { vault: name.to_owned(), version: vault.format().writer, upgraded: false };
    match context.json {
        true => print_json(&shown)?,
        false => {
            print(&format!("vault {name} has version {} of the format, which is the newest", shown.version))
        }
    }
    Ok(0)
}
