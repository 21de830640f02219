//! Vaults in buckets: how they are reached, by the keys that the configuration refers to. One store for each for as long as the
//! process runs, so that its connections and limits are shared.

use std::path::Path;
use std::sync::Arc;

use backstay_core::config::{AccessKey, S3Vault, SecretRef};
use backstay_s3::{Credentials, Place, S3Store};
use backstay_vault::store::{Pace, RequestObserver, RetryPolicy};

use super::{Vaults, lock};
use crate::failure::Failure;

/// Services of this kind fail now and then, and come back: more tries than where a failure means something.
pub const TRIES: RetryPolicy = RetryPolicy::of_service();

impl Vaults {
    pub(super) fn bucket(
        &self,
        name: &str,
        s3: &S3Vault,
        observer: Arc<dyn RequestObserver>,
    ) -> Result<S3Store, Failure> {
        if let Some(known) = lock(&self.buckets).get(name) {
            return Ok(known.clone());
        }
        if s3.object_lock.is_some() {
            return Err(Failure::usage(format!(
                "`object_lock` of vault {name} is not acted on by this version: nothing would be locked. Remove it, until it is"
            )));
        }
        let secret = self.config.secrets.get(name);
        let of_key = |key| keys(name, key).map(|(id, secret)| Credentials::of_key(id, secret));
        let credentials = match secret {
            Some(secret) => of_key(&secret.writer)?,
            None => self.io.block_on(Credentials::of_environment()),
        };
        let custodian = secret.and_then(|secret| secret.custodian.as_ref());
        let custodian = custodian.map(of_key).transpose()?;
        let place = place_of(s3);
        let pace = Arc::new(Pace::new(s3.limit, crate::clock::minute_of_day));
        let store = S3Store::new(place, credentials, pace, observer);
        let store = match custodian {
            Some(custodian) => store.deleting_by(custodian),
            None => store,
        };
        Ok(lock(&self.buckets).entry(name.to_owned()).or_insert(store).clone())
    }
}

/// Where a bucket is.
pub fn place_of(s3: &S3Vault) -> Place {
    Place {
        bucket: s3.bucket.clone(),
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        prefix: s3.prefix.clone(),
    }
}

/// The access key of a vault, by the references in the configuration: identifier and secret.
pub fn keys(name: &str, secret: &AccessKey) -> Result<(String, String), Failure> {
    let read = |reference: &SecretRef| {
        read(reference).map_err(|why| {
            Failure::failed(format!(
                "the access key of vault {name} cannot be read from {reference} ([secret] of node.toml): {why}"
            ))
            .of_class("secret")
        })
    };
    Ok((read(&secret.access)?, read(&secret.secret)?))
}

pub(super) fn read(reference: &SecretRef) -> Result<String, String> {
    let in_file = |path: &Path| {
        let value = backstay_command::launch::read_secret(&path.to_string_lossy())
            .map_err(|error| error.to_string())?;
        String::from_utf8(value.to_vec()).map_err(|_| "it is not text".to_owned())
    };
    let value = match reference {
        SecretRef::Env(variable) => std::env::var(variable)
            .map_err(|_| "it is not set, or is no text, where this process was started".to_owned())?,
        SecretRef::File(path) => in_file(path)?,
        SecretRef::Credential(credential) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(folder) => in_file(&Path::new(&folder).join(credential))?,
            None => {
                return Err("systemd has given this process no credentials: see LoadCredential=".to_owned());
            }
        },
    };
    let value = value.trim();
    match value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        true => Err("there is no key in it: one word is wanted".to_owned()),
        false => Ok(value.to_owned()),
    }
}
