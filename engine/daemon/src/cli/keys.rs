//! `vault keys list|add|remove|rotate|export`: who can read vaults.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backstay_vault::keys::{wrap_bundle, wrap_bundle_to_passphrase};
use backstay_wire::upkeep::{KeyRecipient, KeyRole, OldKeys, Upkeep, UpkeepReport};
use clap::{Subcommand, ValueEnum};

use super::{Context, print_json, secret_key, upkeep};
use crate::control::unasked;
use crate::failure::Failure;
use crate::terminal::{print, remark};

/// Longest passphrase that is read, bytes.
const PASSPHRASE_BYTES_MAX: usize = 4096;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// To whom the keys are wrapped in a vault.
    #[command(after_help = "Example: backstay vault keys list local")]
    List {
        /// The vault's name in the configuration.
        vault: String,
    },
    /// Wrap the keys to one more holder.
    #[command(after_help = "Example: backstay vault keys add local anna --recipient age1… --role custodian")]
    Add {
        /// The vault's name in the configuration.
        vault: String,
        /// Name of the holder.
        holder: String,
        /// Its public age key, `age1…`.
        #[arg(long, value_name = "AGE1…")]
        recipient: String,
        /// What it can do: a custodian cares for the vault and cannot read contents of files.
        #[arg(long, value_enum, default_value_t = HolderRole::Full)]
        role: HolderRole,
    },
    /// Take the keys of a holder away.
    #[command(after_help = "Example: backstay vault keys remove local anna")]
    Remove {
        /// The vault's name in the configuration.
        vault: String,
        /// Name of the holder.
        holder: String,
    },
    /// Seal with new keys from now on, in all vaults; what was sealed before stays readable with the old ones.
    #[command(
        after_help = "Example: backstay vault keys rotate --recovery /media/stick/backstay-recovery.key --recipient anna=age1…"
    )]
    Rotate {
        /// The recovery key, where one was made.
        #[arg(long, value_name = "FILE")]
        recovery: Option<PathBuf>,
        /// The public key of a holder who is no node.
        #[arg(long, value_name = "HOLDER=AGE1…")]
        recipient: Vec<String>,
        /// The same for one who is to be a custodian.
        #[arg(long, value_name = "HOLDER=AGE1…")]
        custodian: Vec<String>,
        /// Somebody else may have the keys of before: take nothing over that they have sealed. The next capture of each
        /// source reads and stores everything again, which takes its time and up to as much room as the vault has. Points of
        /// before stay readable, for whoever has the old keys as well, until retention drops them.
        #[arg(long)]
        compromised: bool,
    },
    /// Write the keys to a file that `age -d` opens, with a passphrase or with an age identity.
    #[command(
        after_help = "Example: backstay vault keys export local --to keys.age --passphrase-file /root/passphrase"
    )]
    Export {
        /// The vault's name in the configuration.
        vault: String,
        /// The file, which must not be there.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// A public age key, `age1…`.
        #[arg(long, value_name = "AGE1…", conflicts_with = "passphrase_file")]
        recipient: Option<String>,
        /// A file whose first line is the passphrase.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HolderRole {
    Full,
    Custodian,
}

impl From<HolderRole> for KeyRole {
    fn from(role: HolderRole) -> Self {
        match role {
            HolderRole::Full => Self::Full,
            HolderRole::Custodian => Self::Custodian,
        }
    }
}

pub(super) fn run(context: &Context, command: &KeysCommand) -> Result<u8, Failure> {
    match command {
        KeysCommand::List { vault } => {
            let holders = context.vaults_to_read(None)?.key_holders(vault)?;
            match context.json {
                true => print_json(&holders)?,
                false => holders.iter().for_each(|holder| print(holder)),
            }
        }
        KeysCommand::Add { vault, holder, recipient, role } => {
            let to = KeyRecipient { recipient: recipient.clone(), role: (*role).into() };
            let job = Upkeep::AddKey { vault: vault.clone(), holder: holder.clone(), to };
            upkeep::done(context, "adding keys", &job)?;
            print(&format!("{holder} has keys of vault {vault} now"));
        }
        KeysCommand::Remove { vault, holder } => {
            let job = Upkeep::RemoveKey { vault: vault.clone(), holder: holder.clone() };
            upkeep::done(context, "removing keys", &job)?;
            print(&format!("{holder} has no keys in vault {vault} any more"));
            remark(
                "note: whoever has opened them knows them still; `backstay vault keys rotate` seals with others from now on",
            );
        }
        KeysCommand::Rotate { recovery, recipient, custodian, compromised } => {
            let recovery = recovery.as_deref().map(secret_key).transpose()?;
            let mut recipients = BTreeMap::new();
            for (typed, role) in [(recipient, KeyRole::Full), (custodian, KeyRole::Custodian)] {
                for typed in typed {
                    let (holder, recipient) = named_recipient(typed)?;
                    recipients.insert(holder, KeyRecipient { recipient, role });
                }
            }
            let old = if *compromised { OldKeys::Compromised } else { OldKeys::Trusted };
            let job = Upkeep::RotateKeys { recovery, recipients, old };
            let UpkeepReport::KeysRotated { vaults } = upkeep::done(context, "rotating keys", &job)? else {
                return Err(unasked());
            };
            print(&format!("what is sealed from now on has new keys, in {vaults} vaults"));
            if *compromised {
                print(
                    "the keys of before count as compromised: the next capture of each source stores all of it again, under the new keys",
                );
                remark(
                    "note: points of before stay, and whoever has the old keys and a copy of the vault can read them; they go when retention drops them (`backstay vault prune`)",
                );
            }
        }
        KeysCommand::Export { vault, to, recipient, passphrase_file } => {
            // Only reads: the passphrase stays in this process.
            let bundle = context.vaults_to_read(None)?.bundle_of(vault)?;
            let wrapped = match (recipient, passphrase_file) {
                (Some(recipient), _) => wrap_bundle(&bundle, recipient),
                (None, Some(file)) => wrap_bundle_to_passphrase(&bundle, &passphrase(file)?),
                (None, None) => return Err(Failure::usage("give --recipient or --passphrase-file")),
            };
            let wrapped = wrapped.map_err(|error| Failure::usage(error.to_string()))?;
            write_new(to, &wrapped)?;
            print(&format!("keys written to {}; `age -d` opens it", to.display()));
        }
    }
    Ok(0)
}

fn named_recipient(typed: &str) -> Result<(String, String), Failure> {
    let named =
        typed.split_once('=').filter(|(holder, recipient)| !holder.is_empty() && !recipient.is_empty());
    let (holder, recipient) =
        named.ok_or_else(|| Failure::usage(format!("{typed:?}: write HOLDER=age1…")))?;
    Ok((holder.to_owned(), recipient.to_owned()))
}

fn passphrase(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let line = text.lines().next().unwrap_or_default();
    match (1..=PASSPHRASE_BYTES_MAX).contains(&line.len()) {
        true => Ok(line.to_owned()),
        false => Err(Failure::usage(format!(
            "the first line of {} has to be a passphrase of 1 to {PASSPHRASE_BYTES_MAX} bytes",
            file.display()
        ))),
    }
}

fn write_new(file: &Path, content: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(content)?;
        out.sync_all()
    };
    write()
        .map_err(|error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", file.display())))
}
