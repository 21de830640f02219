//! The roster: which nodes belong to the fleet, by which keys they are known, and which authorities their certificates are of. It
//! is looked up for each connection and each request, so that who is removed is gone at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::config::{FleetName, NodeName};
use backstay_core::id::{DomainId, SignerKey};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use tokio::sync::watch;

use super::judge::{PeerIdentity, TlsKeyHash};

/// Who belongs to the fleet.
#[derive(Debug, Clone)]
pub struct Roster {
    /// The fleet.
    pub fleet: FleetName,
    /// The key domain of its vaults.
    pub domain: DomainId,
    /// The key that signs `format/`, `trust/` and the roster.
    pub admin: SignerKey,
    /// Certificates of the authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The nodes.
    pub members: BTreeMap<NodeName, Member>,
}

/// A node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key by which it signs objects.
    pub signer: SignerKey,
    /// The key that it has for TLS.
    pub tls_key: TlsKeyHash,
    /// What Tailscale calls it, where that was known when it was enrolled.
    pub tailnet_id: Option<String>,
}

/// Why whoever has a good certificate is not let in all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMember {
    /// It was removed, or never there.
    #[error(
        "{node} is not, or not any more, a node of the fleet {fleet}: enrol it (`backstay invite {node}`), or compare the names of node and fleet on both sides"
    )]
    Unknown {
        /// The node.
        node: NodeName,
        /// The fleet.
        fleet: FleetName,
    },
    /// Its certificate is for another key than the one that it was enrolled with.
    #[error(
        "{node} is known by another key ({expected}) than that of its certificate ({shown}): if it was built anew, enrol it again (`backstay invite {node}`)"
    )]
    OtherKey {
        /// The node.
        node: NodeName,
        /// The key that it was enrolled with.
        expected: TlsKeyHash,
        /// The one that it has shown.
        shown: TlsKeyHash,
    },
}

impl Roster {
    /// The member that somebody is.
    pub fn member(&self, peer: &PeerIdentity) -> Result<&Member, NotAMember> {
        let unknown = || NotAMember::Unknown { node: peer.node.clone(), fleet: self.fleet.clone() };
        let member = self.members.get(&peer.node).ok_or_else(unknown)?;
        if member.tls_key != peer.key {
            let (expected, shown) = (member.tls_key, peer.key);
            return Err(NotAMember::OtherKey { node: peer.node.clone(), expected, shown });
        }
        Ok(member)
    }

    /// By what certificates are judged. An authority whose certificate cannot be read vouches for nobody.
    pub fn anchors(&self) -> Vec<TrustAnchor<'_>> {
        self.authorities
            .iter()
            .filter_map(|authority| webpki::anchor_from_trusted_cert(authority).ok())
            .collect()
    }
}

/// The roster as it is now, and word of changes.
pub type RosterWatch = watch::Receiver<Arc<Roster>>;
