//! `kit`: prints the page for the worst day, or opens the key of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backstay_core::clock::Clock;
use backstay_core::config::{Vault, VaultAddress, VaultKind};
use backstay_vault::keys::{BucketKey, KeyFile};
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{CONFIG_DEFAULT, Context, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::kit::{Page, Sealed, ShownVault};
use crate::new_file::{Existing, NewFile};
use crate::passphrase;
use crate::terminal::{print, remark};
use crate::vaults::{Vaults, bucket_keys, open_key_file};

/// A shorter passphrase is said to be short.
const PASSPHRASE_CHARACTERS: usize = 16;

#[derive(Debug, Args)]
pub(super) struct KitArgs {
    /// The recovery key that is sealed on the page: the file that `backstay vault init VAULT --recovery FILE` has written.
    #[arg(long, alias = "recovery", value_name = "FILE", required_unless_present = "open")]
    key_file: Option<PathBuf>,
    /// The passphrase is the first line of this file; without it, the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Leave the access keys of buckets out: on the worst day they come from elsewhere then.
    #[arg(long)]
    no_access_keys: bool,
    /// Open a page instead: write the recovery key that is sealed in it to the file of --to.
    #[arg(long, value_name = "PAGE", conflicts_with_all = ["key_file", "no_access_keys"], requires = "to")]
    open: Option<PathBuf>,
    /// The file, which must not exist yet.
    #[arg(long, value_name = "FILE", requires = "open")]
    to: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownKit<'k> {
    fleet: String,
    node: String,
    made: String,
    vaults: &'k [ShownVault],
    nodes: Vec<String>,
    holders: &'k [String],
    recipient: &'k str,
    /// The key with its check letters, line by line.
    key: Vec<String>,
    /// The page, line by line.
    page: Vec<String>,
}

#[derive(Serialize)]
struct ShownOpened {
    recipient: String,
    to: String,
}

/// Whether no configuration is needed.
pub(super) fn is_opening(arguments: &KitArgs) -> bool {
    arguments.open.is_some()
}

/// Writes the key that is sealed in a page to a file.
pub(super) fn open(arguments: &KitArgs, json: bool) -> Result<u8, Failure> {
    let (Some(page), Some(to)) = (&arguments.open, &arguments.to) else {
        return Err(Failure::usage("--open PAGE needs --to FILE"));
    };
    let key = open_key_file(page, arguments.passphrase_file.as_deref())?;
    let recipient = key.identity.recipient();
    write_key(to, &key.to_text(&format!("recovery key, from {}", page.display())))?;
    match json {
        true => print_json(&ShownOpened { recipient, to: to.display().to_string() })?,
        false => print(&format!("the recovery key {recipient} is in {}", to.display())),
    }
    Ok(0)
}

fn write_key(to: &Path, text: &str) -> Result<(), Failure> {
    let mut file = NewFile::create(to, Existing::Refuse)?;
    std::io::Write::write_all(file.writer(), text.as_bytes())?;
    Ok(file.finish()?)
}

/// Prints the page.
pub(super) fn run(context: &Context, arguments: &KitArgs) -> Result<u8, Failure> {
    let config = &context.config;
    let Some(file) = &arguments.key_file else {
        return Err(Failure::usage("give the recovery key with --key-file FILE"));
    };
    // A page may be printed anew from one of before, with the same passphrase.
    let key = open_key_file(file, arguments.passphrase_file.as_deref())?;
    let recipient = key.identity.recipient();
    let vaults = context.vaults_to_read(None)?.with_key(key.identity.clone());
    let mut buckets = Vec::new();
    let mut shown: Vec<ShownVault> = Vec::new();
    let mut holders = BTreeSet::new();
    let mut lacking = Vec::new();
    for (name, vault) in &config.vaults {
        // What is held for others is on the page of these.
        if matches!(vault.kind, VaultKind::Held(_)) {
            continue;
        }
        let bucket = match (&vault.kind, arguments.no_access_keys) {
            (VaultKind::S3(_), false) => bucket_key(context, vault)?,
            _ => None,
        };
        let problem = match tried(&vaults, name.as_str(), &mut holders) {
            Tried::Enough => None,
            Tried::Lacking(why) => {
                lacking.push(why);
                None
            }
            Tried::NotReached(why) => Some(why),
        };
        shown.push(shown_vault(vault, bucket.is_some(), problem));
        buckets.extend(bucket);
    }
    if let Some(refusal) = refused(&shown, &lacking) {
        return Err(refusal);
    }
    shown.extend(config.via.iter().map(|(name, via)| ShownVault {
        name: name.to_string(),
        kind: "via".to_owned(),
        place: format!("only {} writes and reads it: print the page there as well", via.hub),
        problem: None,
        has_access_key: false,
        bucket: None,
        directory: None,
    }));
    let (fleet, node, made) = (config.fleet.name.as_str(), config.node.name.as_str(), SystemClock.now());
    let key = KeyFile { identity: key.identity, buckets };
    let passphrase = passphrase::chosen(arguments.passphrase_file.as_deref(), "the kit")?;
    if passphrase.chars().count() < PASSPHRASE_CHARACTERS {
        remark(&format!(
            "warning: the passphrase is short: whoever finds the page can try many. Take five random words, or {PASSPHRASE_CHARACTERS} characters or more"
        ));
    }
    let sealed = sealed(&key, &format!("Backstay, fleet {fleet}, {made}"), &passphrase)?;
    let holders: Vec<String> = holders.into_iter().collect();
    let nodes: Vec<String> = config.fleet.nodes.keys().map(ToString::to_string).collect();
    let read_from = config.read_from.as_ref().map(|path| path.display().to_string());
    let page = Page {
        fleet,
        node,
        made,
        config: read_from.filter(|path| path != CONFIG_DEFAULT),
        nodes: nodes.clone(),
        vaults: &shown,
        holders: &holders,
        recipient: &recipient,
        sealed: &sealed,
    };
    let lines = page.lines();
    if context.json {
        print_json(&ShownKit {
            fleet: fleet.to_owned(),
            node: node.to_owned(),
            made: made.to_string(),
            vaults: &shown,
            nodes,
            holders: &holders,
            recipient: &recipient,
            key: sealed.lines(),
            page: lines,
        })?;
    } else {
        lines.iter().for_each(|line| print(line));
    }
    let untried: Vec<&str> =
        shown.iter().filter(|vault| vault.problem.is_some()).map(|vault| vault.name.as_str()).collect();
    match untried.is_empty() {
        true => Ok(0),
        false => Err(Failure::partly(format!(
            "the page is printed, but whether its key opens these vaults is not known: {}; it says why. Print it again when they can be reached",
            untried.join(", ")
        ))),
    }
}

/// Seals the key, and reads it again from the lines that are printed, as whoever types them will: what cannot be read would be
/// noticed on the worst day.
fn sealed(key: &KeyFile, title: &str, passphrase: &str) -> Result<Sealed, Failure> {
    let text = key.to_text(title);
    let sealed = Sealed::seal(&text, passphrase)?;
    let what = "what would be printed";
    let printed = Sealed::find(&sealed.lines().join("\n"), what)?;
    let again = printed.map(|printed| printed.open(passphrase, what)).transpose()?;
    let again = again.map(|again| KeyFile::from_text(&again)).transpose()?;
    match again.is_some_and(|again| *again.to_text(title) == *text) {
        true => Ok(sealed),
        false => Err(Failure::failed(
            "no page is printed: what would be sealed on it does not read back as it is. An access key of a bucket with a space in it does that: correct what [secret] refers to, or leave the access keys out with --no-access-keys",
        )),
    }
}

/// What came of trying the key on a vault.
enum Tried {
    /// It brings back everything.
    Enough,
    /// The vault is there, and the key is not enough for it.
    Lacking(String),
    /// It is not known.
    NotReached(String),
}

fn tried(vaults: &Vaults, name: &str, holders: &mut BTreeSet<String>) -> Tried {
    match vaults.lack_of_key_file(name).and_then(|lack| Ok((lack, vaults.key_holders(name)?))) {
        Ok((None, found)) => {
            holders.extend(found);
            Tried::Enough
        }
        Ok((Some(lack), _)) => Tried::Lacking(lack.to_string()),
        Err(failure) if failure.class == "key" => Tried::Lacking(format!(
            "{}; `backstay vault init {name} --recovery FILE` gives the vault the recovery key that the others have",
            failure.message
        )),
        Err(failure) => Tried::NotReached(failure.message),
    }
}

/// Why there is no page: one that does not bring back what a vault has would be found out when it is too late.
fn refused(shown: &[ShownVault], lacking: &[String]) -> Option<Failure> {
    if shown.is_empty() {
        return Some(Failure::usage("there is no vault in the configuration: nothing could be restored"));
    }
    if !lacking.is_empty() {
        return Some(Failure::failed(format!(
            "no page is printed, because its key would not be enough on the worst day: {}",
            lacking.join("; ")
        )));
    }
    let problems: Vec<&str> = shown.iter().filter_map(|vault| vault.problem.as_deref()).collect();
    (problems.len() == shown.len()).then(|| {
        Failure::failed(format!(
            "no page is printed, because no vault can be reached to try the key on: {}",
            problems.join("; ")
        ))
    })
}

fn shown_vault(vault: &Vault, has_access_key: bool, problem: Option<String>) -> ShownVault {
    let (place, bucket, directory) = match &vault.kind {
        VaultKind::S3(s3) => (VaultAddress::S3(s3.clone()).to_string(), Some(s3.clone()), None),
        VaultKind::Dir(dir) => {
            let path = dir.path.display().to_string();
            (path.clone(), None, Some(path))
        }
        VaultKind::Peer(peer) => {
            let holder = peer.holder.as_ref().map_or("another node", |holder| holder.as_str());
            (format!("held by {holder}, in the directory that its node.toml says"), None, None)
        }
        VaultKind::Held(held) => (format!("held for {}", held.writer), None, None),
    };
    ShownVault {
        name: vault.name.to_string(),
        kind: vault.kind.label().to_owned(),
        place,
        problem,
        has_access_key,
        bucket,
        directory,
    }
}

/// The access key of a bucket, where the configuration refers to one.
fn bucket_key(context: &Context, vault: &Vault) -> Result<Option<BucketKey>, Failure> {
    let (VaultKind::S3(bucket), Some(secret)) = (&vault.kind, context.config.secrets.get(&vault.name)) else {
        return Ok(None);
    };
    let keys = bucket_keys(vault.name.as_str(), &secret.writer);
    let (access, secret) = keys.map_err(|failure| Failure {
        message: format!("{}; --no-access-keys leaves it out of the page", failure.message),
        ..failure
    })?;
    Ok(Some(BucketKey { bucket: bucket.clone(), access, secret: Zeroizing::new(secret) }))
}

#[cfg(test)]
mod tests {
    use backstay_core::config::S3Vault;
    use backstay_vault::keys::AgeIdentity;

    use super::*;

    #[test]
    fn a_page_that_would_not_read_back_is_none() {
        let sealed = |access: &str| {
            let bucket = S3Vault::at("backups", "home", None, None).expect("a bucket");
            let secret = Zeroizing::new("secret".to_owned());
            let bucket = BucketKey { bucket, access: access.to_owned(), secret };
            let key = KeyFile { identity: AgeIdentity::generate(), buckets: vec![bucket] };
            super::sealed(&key, "fleet home", "correct horse").map(drop).map_err(|failure| failure.message)
        };
        assert_eq!(sealed("GK1"), Ok(()));
        assert!(sealed("GK1 2").expect_err("three words").contains("no page is printed"));
    }
}
