//! What is said of a vault that is not there, or does not open.

use std::path::Path;
use std::sync::Arc;

use backstay_core::id::VaultId;
use backstay_vault::keys::AgeIdentity;
use backstay_vault::store::Store;

use crate::failure::Failure;
use crate::node::Access;

/// A vault that was there and is not: what was written to it is not lost, and a new one in its place would hide that.
pub fn gone(name: &str, known_as: &str, is_bucket: bool, store: &Arc<dyn Store>) -> Failure {
    let why = match name == known_as {
        true if is_bucket => format!(
            "somebody has emptied the bucket, or `bucket`, `prefix` or `endpoint` in fleet.toml is another one; correct it. No new vault is made in its place; if it is lost for good, remove the line of {name} from vaults.json under node.state"
        ),
        true => "the disk is probably not mounted; mount it. No new vault is made in its place".to_owned(),
        false => format!(
            "its holder has probably not mounted its disk. If the holder has lost it for good, remove the line {known_as:?} from vaults.json under node.state, and a new vault is made there"
        ),
    };
    Failure::failed(format!("vault {name} is not in {} where it was: {why}", store.place()))
        .of_class("no_vault")
}

/// A vault that never was there, where none is to be made.
pub fn absent_vault(name: &str, store: &Arc<dyn Store>) -> Failure {
    Failure::failed(format!(
        "there is no vault in {}: make it with `backstay vault init {name}`, or start with `backstay now`",
        store.place()
    ))
    .of_class("no_vault")
}

/// A vault whose parent folder is missing is not made: most likely a disk is not mounted, and what would be written
/// beside it would fill another one.
pub fn refuse_missing_parent(name: &str, path: &Path) -> Result<(), Failure> {
    let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else { return Ok(()) };
    Err(Failure::failed(format!(
        "there is no vault {name} in {}, because the directory {parent} is not there: most likely the disk of the vault is not mounted; mount it. If {parent} is where new vaults are meant to be, make it with `mkdir -p {parent}`; Backstay makes the vault's own directory only",
        path.display(),
        parent = parent.display()
    ))
    .of_class("no_vault"))
}

/// The key file that was given opens nothing in the store.
pub fn wrong_key_file(store: &Arc<dyn Store>, key: &AgeIdentity) -> Failure {
    Failure::failed(format!(
        "the key file is {} and opens no keys in {}: it is the one of another fleet or vault, or the vault has not got its keys yet; give the file that `backstay vault init VAULT --recovery FILE` has written for this vault",
        key.recipient(),
        store.place()
    ))
    .of_class("key")
}

/// The node's own identity opens nothing in the store.
pub fn no_keys(store: &Arc<dyn Store>, identity: &AgeIdentity, access: Access) -> Failure {
    let advice = match access {
        Access::ReadOnly => {
            "bring back node.state of the node that made the vault, or give its recovery key with --key-file FILE"
        }
        // Reading takes a key; writing takes one that the vault's `trust/` names, and those went with the state.
        Access::Keep => {
            "node.state is not the one of the node that made the vault, and only that one may write to it: bring back node.state from a copy. Without one, the recovery key still restores everything (`backstay restore SOURCE --key-file FILE --to DEST`), and `backstay vault custodian take VAULT --key-file FILE` lets this node go on with the vault"
        }
    };
    Failure::failed(format!(
        "no key in {} opens with the identity {}: {advice}",
        store.place(),
        identity.recipient()
    ))
    .of_class("key")
}

/// Where a vault was, there is another one.
pub fn another_vault(
    name: &str,
    store: &Arc<dyn Store>,
    is_bucket: bool,
    found: VaultId,
    expected: VaultId,
) -> Failure {
    let (why, fix) = match is_bucket {
        true => ("`bucket`, `prefix` or `endpoint` is that of another vault", "correct them in fleet.toml"),
        false => ("another disk is mounted there, or the path is wrong", "mount the right one"),
    };
    Failure::failed(format!(
        "at {} is vault {found}, but {name} was vault {expected}: {why}; {fix}, or remove the line of {name} from vaults.json under node.state if the new one is meant",
        store.place()
    ))
}
