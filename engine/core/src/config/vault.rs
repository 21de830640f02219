//! `[vault.NAME]`: the vaults of a fleet, by kind. Owns their keys; whether a path or bucket is there is for
//! the daemon to see.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::units::Span;

use super::limit::{RateLimit, read_limit};
use super::name::{NodeName, VaultName};
use super::node::HeldVault;
use super::price::{PriceTable, read_price};
use super::problem::{FromText, ProblemKind, Refusal, excerpt};
use super::table::Table;
use super::value::Value;

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// What sources call it in `to` and `rpo`.
    pub name: VaultName,
    /// Where it is.
    pub kind: VaultKind,
    /// The one node that writes to it; the others capture to their vaults there. Every node writes to it when absent.
    pub hub: Option<NodeName>,
}

/// The kinds of vaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultKind {
    /// A directory on the service's own node.
    Dir(DirVault),
    /// A directory vault that the service's other node holds; follows the role.
    Peer(PeerVault),
    /// A directory vault that this node holds for another one.
    Held(HeldVaultOf),
    /// A bucket.
    S3(S3Vault),
}

impl VaultKind {
    /// The directory of one that is on this node.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Dir(dir) => Some(&dir.path),
            Self::Held(of) => Some(&of.held.path),
            Self::Peer(_) | Self::S3(_) => None,
        }
    }

    /// Whether this node may be the one that cares for it: one at another node is that node's.
    pub fn may_be_cared_for(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }

    /// The word in the configuration.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dir(_) => "dir",
            Self::Peer(_) => "peer",
            Self::Held(_) => "held",
            Self::S3(_) => "s3",
        }
    }
}

/// The keys of a `dir` vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirVault {
    /// The directory.
    pub path: PathBuf,
    /// How long deleted objects stay in the trash; the store's own default when absent.
    pub undelete: Option<Span>,
}

/// The keys of a `peer` vault. Its directory, quota and trash are the holder's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerVault {
    /// The node that holds it; absent where no source of this node goes there.
    pub holder: Option<NodeName>,
    /// The node that may delete in it.
    pub custodian: Option<NodeName>,
    /// How fast it may be used.
    pub limit: Option<RateLimit>,
}

/// A vault that this node holds, from its `[hold.NODE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldVaultOf {
    /// The node whose vault it is.
    pub writer: NodeName,
    /// Where it is, and how much it may have.
    pub held: HeldVault,
}

/// The keys of an `s3` vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Vault {
    /// The bucket.
    pub bucket: String,
    /// The URL of the service; AWS when absent.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// What all keys start with; empty, or with a `/` at its end and none at its start.
    pub prefix: String,
    /// The node that may delete in it.
    pub custodian: Option<NodeName>,
    /// How long every object is locked against deletion.
    pub object_lock: Option<Span>,
    /// How fast it may be used.
    pub limit: Option<RateLimit>,
    /// What its provider takes.
    pub price: Option<PriceTable>,
}

pub(super) fn read_vault(name: &VaultName, value: &Value<'_>, nodes: &BTreeSet<NodeName>) -> Option<Vault> {
    #[derive(Clone, Copy)]
    enum Kind {
        Dir,
        Peer,
        S3,
    }
    let (kind, hub) = Table::read(value, |table| {
        let mut hub = None;
        let written = table.require("kind", "kind = \"dir\", \"peer\" or \"s3\"");
        let kind = match written
            .and_then(|v| v.choice(&[("dir", Kind::Dir), ("peer", Kind::Peer), ("s3", Kind::S3)]))
        {
            Some(Kind::Dir) => {
                hub = table.get("via").and_then(|v| v.reference(nodes));
                read_dir(table).map(VaultKind::Dir)
            }
            Some(Kind::Peer) => Some(VaultKind::Peer(PeerVault {
                holder: None,
                custodian: table.get("custodian").and_then(|v| v.reference(nodes)),
                limit: table.get("limit").and_then(|v| read_limit(&v)),
            })),
            Some(Kind::S3) => {
                hub = table.get("via").and_then(|v| v.reference(nodes));
                read_s3(table, nodes).map(VaultKind::S3)
            }
            None => {
                table.ignore_unknown();
                None
            }
        };
        (kind, hub)
    })?;
    Some(Vault { name: name.clone(), kind: kind?, hub })
}

fn read_dir(table: &mut Table<'_>) -> Option<DirVault> {
    let path = table.require("path", "path = \"/srv/backstay/vault\"").and_then(|v| v.parse());
    let undelete = table.get("undelete").and_then(|v| v.positive_span());
    Some(DirVault { path: path?, undelete })
}

fn read_s3(table: &mut Table<'_>, nodes: &BTreeSet<NodeName>) -> Option<S3Vault> {
    let bucket = table.require("bucket", "bucket = \"NAME\"").and_then(|v| v.parse::<BucketName>());
    let endpoint = table.get("endpoint").and_then(|v| v.parse::<Endpoint>());
    let region = table.get("region").and_then(|v| v.parse::<Region>());
    let prefix = table.get("prefix").and_then(|v| v.parse::<Prefix>());
    let custodian = table.get("custodian").and_then(|v| v.reference(nodes));
    if table.has("custodian") && table.has("via") {
        table.problem(ProblemKind::Conflict, || {
            Refusal::new(
                "\"custodian\" and \"via\" exclude each other: the hub is the custodian",
                "remove one of them",
            )
        });
    }
    let object_lock = table.get("object_lock").and_then(|v| v.positive_span());
    let limit = table.get("limit").and_then(|v| read_limit(&v));
    let price = table.get("price").and_then(|v| read_price(&v));
    Some(S3Vault {
        bucket: bucket?.0,
        endpoint: endpoint.map(|endpoint| endpoint.0),
        region: region.map(|region| region.0),
        prefix: prefix.map(|prefix| prefix.0).unwrap_or_default(),
        custodian,
        object_lock,
        limit,
        price,
    })
}

/// A text that cannot be a part of the address of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {fix}")]
pub struct BucketAddressError {
    what: String,
    fix: String,
}

impl From<Refusal> for BucketAddressError {
    fn from(Refusal { what, fix }: Refusal) -> Self {
        Self { what, fix }
    }
}

impl S3Vault {
    /// A bucket that stands in no configuration, by the rules that hold there.
    ///
    /// # Errors
    /// [`BucketAddressError`] names what is no bucket, prefix, endpoint or region.
    pub fn at(
        bucket: &str,
        prefix: &str,
        endpoint: Option<&str>,
        region: Option<&str>,
    ) -> Result<Self, BucketAddressError> {
        Ok(Self {
            bucket: BucketName::from_text(bucket)?.0,
            endpoint: endpoint.map(Endpoint::from_text).transpose()?.map(|endpoint| endpoint.0),
            region: region.map(Region::from_text).transpose()?.map(|region| region.0),
            prefix: Prefix::from_text(prefix)?.0,
            custodian: None,
            object_lock: None,
            limit: None,
            price: None,
        })
    }
}

struct BucketName(String);

impl FromText for BucketName {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let fits = (3..=63).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            let what = format!("{:?} cannot be the name of a bucket", excerpt(text));
            Refusal::new(what, "use 3 to 63 letters, digits, -, _ and .; a path belongs into \"prefix\"")
        })
    }
}

struct Region(String);

impl FromText for Region {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let fits =
            (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            Refusal::new(
                format!("{:?} cannot be a region", excerpt(text)),
                "write it as the provider does, such as hel1",
            )
        })
    }
}

struct Endpoint(String);

impl FromText for Endpoint {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let plain = |host: &str| {
            let host = host.strip_suffix('/').unwrap_or(host);
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b))
        };
        if text.len() <= 300 && host.is_some_and(plain) {
            return Ok(Self(text.trim_end_matches('/').to_owned()));
        }
        Err(Refusal::new(
            "it is not the URL of an S3 service", // not repeated: it may contain a password
            "write https://HOST or https://HOST:PORT, without bucket or path",
        ))
    }
}

struct Prefix(String);

impl FromText for Prefix {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let segment = |segment: &str| !matches!(segment, "" | "." | "..");
        if text.is_empty() {
            return Ok(Self(String::new()));
        }
        if text.len() <= 512 && text.bytes().all(allowed) && trimmed.split('/').all(segment) {
            return Ok(Self(format!("{trimmed}/")));
        }
        Err(Refusal::new(
            format!("{:?} cannot be a prefix", excerpt(text)),
            "use letters, digits, -, _ and . separated by single slashes, such as home/",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_in_one_slash() {
        let prefix = |text| Prefix::from_text(text).map(|prefix| prefix.0).ok();
        assert_eq!(prefix(""), Some(String::new()));
        assert_eq!(prefix("home"), Some("home/".into()));
        assert_eq!(prefix("home/a/"), Some("home/a/".into()));
        for text in ["/", "/home", "home//", "a/../b", "a b"] {
            assert_eq!(prefix(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_without_path() {
        let endpoint = |text| Endpoint::from_text(text).map(|endpoint| endpoint.0).ok();
        assert_eq!(endpoint("https://s3.example/"), Some("https://s3.example".into()));
        assert_eq!(endpoint("http://127.0.0.1:9000"), Some("http://127.0.0.1:9000".into()));
        for text in ["", "s3.example", "ftp://x", "https://", "https://a/b", "https://user@a"] {
            assert_eq!(endpoint(text), None, "{text:?}");
        }
    }
}
