//! Finding out what the providers of buckets do, and when that is to be done again.

use std::time::Duration;

use backstay_core::config::{S3Vault, VaultKind};

use super::Vaults;
use super::bucket::read;
use crate::failure::Failure;
use crate::node::{Probed, ProbedBucket};

/// How often it is found out anew what a provider does.
pub const PROBE_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

impl Vaults {
    /// Finds out anew what the provider of a bucket does; nothing where the vault is in none. What is found is not kept.
    pub fn probe(&self, name: &str) -> Result<Option<Probed>, Failure> {
        let Some(s3) = self.s3(name) else { return Ok(None) };
        let observer = self.answers_of(name)?.with(self.observer.of_vault(name));
        let provider = self.io.block_on(self.bucket(name, s3, observer)?.probe())?;
        Ok(Some(Probed { seconds: self.seconds(), of: self.probed_by(name, s3), provider }))
    }

    /// What was found out of the provider of a bucket, if it is the bucket and the keys that are configured now.
    pub fn probed(&self, name: &str) -> Option<Probed> {
        let s3 = self.s3(name)?;
        let known = ProbedBucket::of(&self.config.node.state, name).load()?;
        (known.of == self.probed_by(name, s3)).then_some(known)
    }

    /// Remembers what was found out.
    pub fn keep_probed(&self, name: &str, probed: &Probed) -> Result<(), Failure> {
        ProbedBucket::of(&self.config.node.state, name).save(probed)
    }

    /// Whether it is to be found out now.
    pub fn is_probe_due(&self, name: &str) -> bool {
        self.s3(name).is_some() && is_due(self.probed(name).map(|known| known.seconds), self.seconds())
    }

    fn s3(&self, name: &str) -> Option<&S3Vault> {
        match &self.config.vaults.get(name)?.kind {
            VaultKind::S3(s3) => Some(s3),
            _ => None,
        }
    }

    /// Seconds since 1970 UTC.
    fn seconds(&self) -> i64 {
        self.clock.now().as_nanos().div_euclid(1_000_000_000)
    }

    /// What changes with the bucket and the keys by which it is reached. A key that cannot be read is another one than any.
    fn probed_by(&self, name: &str, s3: &S3Vault) -> String {
        let secret = self.config.secrets.get(name);
        let keys = secret.into_iter().flat_map(|secret| [Some(&secret.writer), secret.custodian.as_ref()]);
        let ids = keys.map(|key| key.map(|key| read(&key.access).unwrap_or_default()).unwrap_or_default());
        let place = [Some(&s3.bucket), s3.endpoint.as_ref(), s3.region.as_ref(), Some(&s3.prefix)];
        let place = place.map(|part| part.cloned().unwrap_or_default());
        let mut hash = blake3::Hasher::new();
        for part in place.into_iter().chain(ids) {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hash.finalize().to_hex()[..32].to_owned()
    }
}

/// A clock that was set back is no reason to wait for long.
fn is_due(known: Option<i64>, now: i64) -> bool {
    known.is_none_or(|known| known > now || now.saturating_sub(known).unsigned_abs() >= PROBE_EVERY.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_at_first_after_a_week_and_when_the_clock_was_set_back() {
        let week = PROBE_EVERY.as_secs() as i64;
        assert!(is_due(None, 5));
        assert!(!is_due(Some(5), 5) && !is_due(Some(5), 4 + week));
        assert!(is_due(Some(5), 5 + week) && is_due(Some(6), 5));
    }
}
