//! A vault in a bucket: what its provider does, and what keeps the history in it from an intruder who has the keys of this node.
//! Judges what a probe has found out; pure.

use backstay_core::config::{NodeName, S3Vault, ViaVault};
use backstay_core::units::Timestamp;
use backstay_s3::{Listing, Permission, Provider, Versioning};

use super::finding::Finding;
use super::words::Words;
use crate::failure::Failure;
use crate::node::Probed;
use crate::protection::{Protection, summary};

/// A vault in a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its table.
    pub s3: &'a S3Vault,
    /// Whether this node alone writes to it, for all.
    pub is_hub: bool,
    /// Whether this node is its custodian, where that could be told.
    pub is_custodian: Option<bool>,
    /// Another node of the fleet, if there is one, that could write for this one.
    pub other: Option<&'a NodeName>,
    /// The words for lines.
    pub words: &'a Words,
}

impl Bucket<'_> {
    /// Judges what was found out, if anything was.
    pub fn judge(&self, probed: Result<Option<&Probed>, &Failure>) -> Vec<Finding> {
        let subject = format!("vault {}", self.name);
        let probed = match probed {
            Ok(Some(probed)) => probed,
            Ok(None) => {
                return vec![
                    Finding::note(&subject, "provider", "nobody has found out yet what its provider does")
                        .because("the daemon does so when it begins, by some ten small requests")
                        .run(self.words.backstay("doctor --probe")),
                ];
            }
            Err(failure) => {
                return vec![Finding::told(
                    super::Level::Warning,
                    &subject,
                    "provider",
                    &format!("what its provider does cannot be found out: {failure}"),
                )];
            }
        };
        let provider = &probed.provider;
        let when = Timestamp::from_seconds(probed.seconds);
        let mut findings = vec![self.provider(&subject, provider, when)];
        findings.push(self.protection(&subject, provider));
        findings.extend(self.keys(&subject, provider));
        findings
    }

    fn provider(&self, subject: &str, provider: &Provider, when: Timestamp) -> Finding {
        let what = format!("its provider, as of {when}: {}", summary(provider));
        match provider.listing {
            Listing::Stale => Finding::problem(subject, "provider", what)
                .because("a custodian would delete by such listings what was committed since, and writers count on what is gone: both stop when they notice")
                .advise("ask the provider for listings that show what was just put, or take another one; a cache before the bucket has to go"),
            _ => Finding::ok(subject, "provider", what),
        }
    }

    fn protection(&self, subject: &str, provider: &Provider) -> Finding {
        const CHECK: &str = "history";
        let hint = |finding: Finding| match self.is_hub {
            true => finding,
            false => self.hub(finding, provider),
        };
        let who = if self.is_hub { " The other nodes have no key of it" } else { "" };
        match Protection::of(provider) {
            Protection::Versions => Finding::ok(
                subject,
                CHECK,
                format!("what this node's keys replace or delete stays as a version, which they cannot delete: an intruder here cannot destroy the history.{who}"),
            ),
            Protection::Lock { days } => hint(
                Finding::warning(subject, CHECK, format!("what was put within {days} days an intruder here cannot destroy; what is older he can"))
                    .because(format!("versions are locked from when they are put; of those whose time is over, on which newer points build as well, it cannot be tried whether a key of this node may delete them.{who}")),
            ),
            Protection::DeletableVersions => hint(
                Finding::warning(subject, CHECK, "nothing keeps the history in the bucket from an intruder here: versions are kept, and a key of this node may delete them for good")
                    .because(format!("one who has this node has its keys.{who}")),
            ),
            Protection::Overwritten => hint(
                Finding::warning(subject, CHECK, "nothing keeps the history in the bucket from an intruder here: no key of this node may delete, and each may put something else over what is there")
                    .because(format!("without versions what is replaced is gone.{who}")),
            ),
            Protection::Nothing => hint(
                Finding::warning(subject, CHECK, "nothing keeps the history in the bucket from an intruder here: a key of this node may delete all of it")
                    .because(format!("the service keeps no versions and locks nothing.{who}")),
            ),
            Protection::Unknown => Finding::note(subject, CHECK, "whether anything keeps the history in the bucket from an intruder here could not be found out")
                .because("the keys of this node may not ask whether versions are kept, or could not try")
                .advise(format!("see at the provider whether versions are kept, and that the keys of this node may not delete them: {}", self.versions(provider))),
        }
    }

    /// What to do where nothing protects, or not all.
    fn hub(&self, finding: Finding, provider: &Provider) -> Finding {
        let versions = self.versions(provider);
        match self.other {
            None => finding.advise(format!(
                "{versions}. Where the service has no versions (Garage has none), have another vault beside it that an intruder here cannot reach, such as one at another node"
            )),
            Some(other) => finding.advise(format!(
                "{versions}. Where the service has no versions (Garage has none), let one node alone have the key, to which the others write: `via = \"{other}\"` in {}, and give the bucket a new key, on {other} alone",
                self.words.place_of_vault(self.name)
            )),
        }
    }

    /// How versions are kept that the keys of this node cannot delete.
    fn versions(&self, provider: &Provider) -> String {
        let S3Vault { bucket, endpoint, .. } = self.s3;
        let endpoint = endpoint.as_ref().map_or_else(String::new, |url| format!(" --endpoint-url {url}"));
        let turn_on = match provider.versions {
            Versioning::On => String::new(),
            _ => format!(
                "keep versions (`aws s3api put-bucket-versioning{endpoint} --bucket {bucket} --versioning-configuration Status=Enabled`, with the key of the bucket's owner, and a lifecycle rule that deletes those that are not current after some months), and "
            ),
        };
        format!(
            "{turn_on}give this node keys that may not do `s3:DeleteObjectVersion`, `s3:PutBucketVersioning`, `s3:PutLifecycleConfiguration`, `s3:PutBucketPolicy` and `s3:BypassGovernanceRetention`"
        )
    }

    /// Whether the keys of this node may do what it needs, and no more where there are two.
    fn keys(&self, subject: &str, provider: &Provider) -> Vec<Finding> {
        const CHECK: &str = "access";
        let set = format!(
            "{} = {{ access = …, secret = …, custodian = {{ access = \"file:/etc/backstay/s3-custodian-id\", secret = \"file:/etc/backstay/s3-custodian-key\" }} }}",
            self.name
        );
        let place = format!("{}, in [secret]", self.words.node_file.display());
        let mut findings = Vec::new();
        if provider.puts == Permission::Denied {
            findings.push(
                Finding::problem(subject, CHECK, "its key may not put: nothing can be captured to it")
                    .advise(
                        "give the key the right to put objects (`s3:PutObject`), or another key to this node",
                    ),
            );
        }
        findings.extend(match (provider.deletes, provider.custodian_deletes) {
            (_, Some(Permission::Denied)) => Some(
                Finding::problem(subject, CHECK, "the custodian's key may not delete: nothing is pruned")
                    .because("`custodian` of [secret] is the key by which this node deletes")
                    .advise("give that key the right to delete objects (`s3:DeleteObject`), or remove it where this node is not the custodian"),
            ),
            (Permission::Allowed, Some(Permission::Allowed)) => Some(
                Finding::warning(subject, CHECK, "the key by which is written may delete as well as the custodian's")
                    .because("two keys of the same rights are no better than one")
                    .advise("take the right to delete (`s3:DeleteObject`) from the key by which is written"),
            ),
            (Permission::Denied, Some(Permission::Allowed)) => Some(Finding::ok(
                subject,
                CHECK,
                "the key by which is written may not delete, and the custodian's may",
            )),
            (Permission::Denied, None) if self.is_custodian == Some(true) => Some(
                Finding::warning(subject, CHECK, "this node is the custodian, and its key may not delete: nothing is pruned")
                    .because("captures go on, and what `keep` does not want stays and takes room")
                    .set(place, set),
            ),
            (Permission::Denied, None) => Some(Finding::ok(
                subject,
                CHECK,
                "its key may not delete, which this node does not need: it is not the custodian",
            )),
            _ => None,
        });
        findings
    }
}

/// What to say of a vault that another node writes to for this one.
pub fn judge_via(name: &str, via: &ViaVault) -> Finding {
    let hub = &via.hub;
    let what = match via.is_directory {
        true => format!("only {hub} can write to it: an intruder here cannot destroy the history in it"),
        false => {
            format!("only {hub} has a key of the bucket: an intruder here cannot destroy the history in it")
        }
    };
    Finding::ok(&format!("vault {name}"), "history", what)
}

#[cfg(test)]
mod tests {
    use backstay_s3::{Checksums, ConditionalPut, ObjectLock};

    use super::super::finding::{Fix, Level};
    use super::*;

    const GARAGE: Provider = Provider {
        conditional_put: ConditionalPut::Ignored,
        versions: Versioning::Off,
        object_lock: ObjectLock::Off,
        checksums: Checksums::Verified,
        listing: Listing::AtOnce,
        puts: Permission::Allowed,
        deletes: Permission::Allowed,
        version_deletes: Permission::Unknown,
        custodian_deletes: None,
        custodian_version_deletes: None,
        left: 0,
        requests: 8,
    };

    fn judged(provider: Provider, other: Option<&NodeName>, is_custodian: bool) -> Vec<Finding> {
        let s3 = S3Vault {
            bucket: "backups".into(),
            endpoint: Some("https://s3.example".into()),
            region: None,
            prefix: "home/".into(),
            custodian: None,
            object_lock: None,
            limit: None,
            price: None,
        };
        let words = Words::of_tests(0);
        let bucket = Bucket {
            name: "offsite",
            s3: &s3,
            is_hub: false,
            is_custodian: Some(is_custodian),
            other,
            words: &words,
        };
        bucket.judge(Ok(Some(&Probed { seconds: 0, put_seconds: 0, of: String::new(), provider })))
    }

    fn of<'f>(findings: &'f [Finding], check: &str) -> Option<&'f Finding> {
        findings.iter().find(|finding| finding.check == check)
    }

    #[test]
    fn a_bucket_without_versions_protects_nothing_and_the_fix_is_the_one_that_can_be_done() {
        let alone = judged(GARAGE, None, true);
        let history = of(&alone, "history").expect("is judged");
        assert_eq!(history.level, Level::Warning);
        let fix = history.fix.as_ref().map(Fix::text).expect("a fix");
        assert!(
            fix.contains("put-bucket-versioning --endpoint-url https://s3.example --bucket backups"),
            "{fix}"
        );
        assert!(!fix.contains("via ="), "there is no other node: {fix}");
        let node: NodeName = "cobble".parse().expect("a name");
        let beside = judged(GARAGE, Some(&node), true);
        let fix = of(&beside, "history").and_then(|finding| finding.fix.as_ref()).expect("a fix");
        assert!(fix.text().contains("via = \"cobble\""), "{fix:?}");
        assert_eq!(of(&alone, "provider").map(|finding| finding.level), Some(Level::Ok));
    }

    #[test]
    fn versions_that_no_key_here_can_delete_are_all_right() {
        let kept = Provider { versions: Versioning::On, version_deletes: Permission::Denied, ..GARAGE };
        assert!(judged(kept, None, true).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn two_keys_have_to_differ_and_a_custodian_has_to_be_able_to_delete() {
        use Permission::{Allowed, Denied};
        let level = |deletes, custodian_deletes, is_custodian| {
            let found = judged(Provider { deletes, custodian_deletes, ..GARAGE }, None, is_custodian);
            of(&found, "access").map(|finding| finding.level)
        };
        assert_eq!(level(Denied, Some(Allowed), true), Some(Level::Ok));
        assert_eq!(level(Allowed, Some(Allowed), true), Some(Level::Warning));
        assert_eq!(level(Denied, Some(Denied), true), Some(Level::Problem));
        assert_eq!(level(Denied, None, true), Some(Level::Warning));
        assert_eq!(level(Denied, None, false), Some(Level::Ok));
        assert_eq!(level(Allowed, None, true), None);
    }

    #[test]
    fn listings_of_the_past_are_a_problem_and_what_nobody_has_asked_is_found_out_by_a_line() {
        let stale = judged(Provider { listing: Listing::Stale, ..GARAGE }, None, true);
        assert_eq!(of(&stale, "provider").map(|finding| finding.level), Some(Level::Problem));
    }
}
