//! A vault that is opened without any configuration or state: by its address and a key file. Nothing is written anywhere.

use std::sync::Arc;

use backstay_core::config::{S3Vault, VaultAddress};
use backstay_s3::{Credentials, S3Store};
use backstay_vault::keys::{KeyFile, KeyRing};
use backstay_vault::store::{Counted, DirStore, Pace, RequestCounts, Retried, RetryPolicy, Store};
use backstay_vault::vault::{Vault, VaultKeys};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::node::UNDELETE;
use crate::vaults::{TRIES, place_of, wrong_key_file};

/// The vault at this address; the access key of a bucket comes from the key file, or from the environment.
pub fn open(address: &VaultAddress, key: &KeyFile, io: &Handle) -> Result<Arc<Vault>, Failure> {
    let store = store(address, key, io);
    if Vault::peek(&store, io)?.is_none() {
        return Err(no_vault(address, &store.place()));
    }
    let bundle = VaultKeys::recover(&store, io, &key.identity)?;
    let bundle = bundle.ok_or_else(|| wrong_key_file(&store, &key.identity))?;
    let vault = Vault::open(store, io.clone(), Arc::new(KeyRing::new(&bundle)))?;
    vault.refresh_index(None)?;
    Ok(Arc::new(vault))
}

/// That a directory is there, before anybody is asked for a passphrase.
pub fn refuse_missing(address: &VaultAddress) -> Result<(), Failure> {
    match address {
        VaultAddress::Dir(path) if matches!(path.try_exists(), Ok(false)) => {
            Err(no_vault(address, &path.display().to_string()))
        }
        VaultAddress::Dir(_) | VaultAddress::S3(_) => Ok(()),
    }
}

/// The address as far as it was given, with what the key file says of the same bucket beside it.
pub fn completed(address: VaultAddress, key: &KeyFile) -> VaultAddress {
    match address {
        VaultAddress::S3(given) => {
            let known = key.key_of(&given).map(|known| &known.bucket);
            let of_known =
                |part: fn(&S3Vault) -> &Option<String>| known.and_then(|known| part(known).clone());
            let endpoint = given.endpoint.clone().or_else(|| of_known(|known| &known.endpoint));
            let region = given.region.clone().or_else(|| of_known(|known| &known.region));
            VaultAddress::S3(S3Vault { endpoint, region, ..given })
        }
        directory @ VaultAddress::Dir(_) => directory,
    }
}

fn store(address: &VaultAddress, key: &KeyFile, io: &Handle) -> Arc<dyn Store> {
    let observer = Arc::new(RequestCounts::default());
    match address {
        VaultAddress::Dir(path) => {
            let store = DirStore::with_trash(path, UNDELETE);
            Arc::new(Retried::new(Counted::new(store, observer), RetryPolicy::default()))
        }
        VaultAddress::S3(s3) => {
            let credentials = match key.key_of(s3) {
                Some(key) => Credentials::of_key(key.access.clone(), key.secret.to_string()),
                None => io.block_on(Credentials::of_environment()),
            };
            let pace = Arc::new(Pace::unlimited());
            Arc::new(Retried::new(S3Store::new(place_of(s3), credentials, pace, observer), TRIES))
        }
    }
}

fn no_vault(address: &VaultAddress, place: &str) -> Failure {
    let advice = match address {
        VaultAddress::Dir(_) => {
            "see whether its disk is mounted, and whether it is the directory that has `format` and `keys` in it"
        }
        VaultAddress::S3(_) => {
            "compare bucket, prefix and endpoint with the page of the kit, or with [vault.NAME] of fleet.toml"
        }
    };
    Failure::failed(format!("there is no vault in {place}: {advice}")).of_class("no_vault")
}
