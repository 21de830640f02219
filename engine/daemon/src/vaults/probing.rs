//! Finding out what the providers of buckets do, and when that is to be done again.

use std::time::Duration;

use backstay_core::config::{S3Vault, VaultKind};
use backstay_s3::{S3Store, Versioning};

use super::Vaults;
use super::bucket::read;
use crate::failure::Failure;
use crate::node::{Probed, ProbedBucket};

/// How often it is found out anew what a provider does.
pub const PROBE_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often something is put for that where versions stay of it: each time a few more. In between it is asked whether
/// versions and locks are as they were.
const PUT_EVERY: Duration = Duration::from_secs(90 * 24 * 3600);

/// What the names of a probe's objects are derived by.
const NAMES: &str = "backstay 2026-12-01 object of a probe";

/// Who finds something out. Each has an object of its own, since they may do so at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prober {
    /// The daemon, when it is due.
    Daemon,
    /// A command that somebody has entered.
    Command,
}

impl Vaults {
    /// Finds out anew what the provider of a bucket does; nothing where the vault is in none. What is found is not kept.
    pub fn probe(&self, name: &str) -> Result<Option<Probed>, Failure> {
        self.probe_by(name, Prober::Command)
    }

    /// The same for the daemon, which puts nothing where that would stay and it has put something not long ago.
    pub fn probe_sparingly(&self, name: &str) -> Result<Option<Probed>, Failure> {
        let now = self.seconds();
        if let (Some(s3), Some(known)) = (self.s3(name), self.probed(name))
            && is_sparing(&known, now)
            && self.io.block_on(self.bucket_to_probe(name, s3)?.is_still(&known.provider))?
        {
            return Ok(Some(Probed { seconds: now, ..known }));
        }
        self.probe_by(name, Prober::Daemon)
    }

    fn probe_by(&self, name: &str, prober: Prober) -> Result<Option<Probed>, Failure> {
        let Some(s3) = self.s3(name) else { return Ok(None) };
        let object = object_of(self.config.fleet.name.as_str(), self.config.node.name.as_str(), prober);
        let provider = self.io.block_on(self.bucket_to_probe(name, s3)?.probe(object))?;
        let seconds = self.seconds();
        Ok(Some(Probed { seconds, put_seconds: seconds, of: self.probed_by(name, s3), provider }))
    }

    fn bucket_to_probe(&self, name: &str, s3: &S3Vault) -> Result<S3Store, Failure> {
        self.bucket(name, s3, self.answers_of(name)?.with(self.observer.of_vault(name)))
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

/// The object of a probe: one for each node, so that no more are left where none can be deleted. Whoever reads the bucket, and not
/// this file, does not learn the name of the node from it unless he guesses it.
fn object_of(fleet: &str, node: &str, prober: Prober) -> [u8; 16] {
    let prober = match prober {
        Prober::Daemon => "daemon",
        Prober::Command => "command",
    };
    let mut hash = blake3::Hasher::new_derive_key(NAMES);
    for part in [fleet, node, prober] {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut object = [0; 16];
    hash.finalize_xof().fill(&mut object);
    object
}

/// A clock that was set back is no reason to wait for long.
fn is_due(known: Option<i64>, now: i64) -> bool {
    known.is_none_or(|known| is_past(known, PROBE_EVERY, now))
}

/// Whether what a probe puts would stay as versions, and one has put something not long ago.
fn is_sparing(known: &Probed, now: i64) -> bool {
    let stays = known.provider.left > 0 && known.provider.versions == Versioning::On;
    stays && !is_past(known.put_seconds, PUT_EVERY, now)
}

/// Whether that was so long ago; or in a time to come, which nobody can tell anything by.
fn is_past(then: i64, period: Duration, now: i64) -> bool {
    then > now || now.saturating_sub(then).unsigned_abs() >= period.as_secs()
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

    #[test]
    fn where_versions_stay_something_is_put_quarterly_and_not_weekly() {
        use backstay_s3::{Checksums, ConditionalPut, Listing, ObjectLock, Permission, Provider};
        let provider = Provider {
            conditional_put: ConditionalPut::Honoured,
            versions: Versioning::On,
            object_lock: ObjectLock::Off,
            checksums: Checksums::Verified,
            listing: Listing::AtOnce,
            puts: Permission::Allowed,
            deletes: Permission::Allowed,
            version_deletes: Permission::Denied,
            custodian_deletes: None,
            custodian_version_deletes: None,
            left: 2,
            requests: 12,
        };
        let known = |provider: &Provider| Probed {
            seconds: 5,
            put_seconds: 5,
            of: String::new(),
            provider: provider.clone(),
        };
        let quarter = PUT_EVERY.as_secs() as i64;
        assert!(is_sparing(&known(&provider), 4 + quarter));
        assert!(!is_sparing(&known(&provider), 5 + quarter) && !is_sparing(&known(&provider), 4));
        // Later looks that put nothing do not count.
        assert!(!is_sparing(&Probed { seconds: quarter, ..known(&provider) }, 5 + quarter));
        let taken_away = Provider { left: 0, ..provider.clone() };
        let replaced = Provider { versions: Versioning::Off, left: 1, ..provider };
        assert!(!is_sparing(&known(&taken_away), 6) && !is_sparing(&known(&replaced), 6));
    }

    #[test]
    fn each_node_and_prober_has_one_object() {
        let all =
            [("home", "a", Prober::Daemon), ("home", "a", Prober::Command), ("home", "b", Prober::Daemon)];
        let all: Vec<_> = all.iter().map(|(fleet, node, by)| object_of(fleet, node, *by)).collect();
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        assert_eq!(object_of("home", "a", Prober::Daemon), all[0]);
        assert_ne!(object_of("ho", "mea", Prober::Daemon), all[0]);
    }
}
