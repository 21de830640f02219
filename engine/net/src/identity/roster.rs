//! The roster: which nodes belong to the fleet, by which keys they are known, and which authorities their certificates are of
//! (docs/protocol.md, section 7). It is looked up for each connection and each request, so that who is removed is gone at once.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use backstay_core::config::{FleetName, NodeName};
use backstay_core::id::{DomainId, SignerKey};
use backstay_core::units::Timestamp;
use backstay_vault::clear::{self, ClearKind};
use backstay_vault::keys::Signer;
use backstay_vault::malformed::Malformed;
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use tokio::sync::watch;

use super::judge::{PeerIdentity, TlsKeyHash};
use super::roster_object::RosterObject;

/// Most nodes of a fleet.
pub const MEMBERS_MAX: usize = 1000;

/// Most authorities of a fleet.
pub(super) const AUTHORITIES_MAX: usize = 64;

/// Who belongs to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The fleet.
    pub fleet: FleetName,
    /// Rises with each change; the greatest one that the admin has signed is in force.
    pub number: u64,
    /// The key domain of its vaults.
    pub domain: DomainId,
    /// When it was signed.
    pub made: Timestamp,
    /// Certificates of the authorities, DER.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The nodes.
    pub members: BTreeMap<NodeName, Member>,
    /// What the admin has signed for vaults that nodes are to make at others.
    pub charters: Vec<Charter>,
    /// The keys of the domain with those of the admin, sealed with age to the recovery key, where there is one.
    pub recovery: Option<Bytes>,
}

/// A node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key by which it signs objects.
    pub signer: SignerKey,
    /// To whom its keys are wrapped, `age1…`.
    pub recipient: String,
    /// The key that it has for TLS.
    pub tls_key: TlsKeyHash,
    /// What Tailscale calls it, where that was known when it was enrolled.
    pub tailnet_id: Option<String>,
}

/// What a vault of one node at another one begins with: only the admin can sign that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// The node that holds it.
    pub holder: NodeName,
    /// The node whose vault it is.
    pub writer: NodeName,
    /// `format/1`.
    pub format: Bytes,
    /// `trust/1`.
    pub trust: Bytes,
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
        self.authorities.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect()
    }

    /// What was signed for the vault of a node at another one.
    pub fn charter(&self, writer: &NodeName, holder: &NodeName) -> Option<&Charter> {
        self.charters.iter().find(|charter| charter.writer == *writer && charter.holder == *holder)
    }

    /// Has the admin sign it.
    pub fn sign(self, admin: &Signer) -> SignedRoster {
        let bytes = clear::sign(admin, ClearKind::Roster, &RosterObject::from(&self));
        SignedRoster { roster: self, admin: admin.public(), bytes }
    }
}

/// A roster that the admin has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoster {
    roster: Roster,
    admin: SignerKey,
    bytes: Bytes,
}

/// Why something is no roster of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterFault {
    /// It is not as it should be.
    #[error("it is no roster: {0}")]
    Malformed(#[from] Malformed),
    /// What stands in it breaks a rule.
    #[error("it is no roster: {0}")]
    Content(String),
    /// Somebody else has signed it.
    #[error("it was signed by {signer} and not by the admin of the fleet, {admin}")]
    Signer {
        /// Who has.
        signer: SignerKey,
        /// Who should have.
        admin: SignerKey,
    },
}

impl SignedRoster {
    /// Reads one that was signed by this admin; by whomever, where the admin is not known.
    pub fn read(bytes: Bytes, admin: Option<SignerKey>) -> Result<Self, RosterFault> {
        let (object, signer) = clear::read::<RosterObject>(ClearKind::Roster, &bytes)?;
        if let Some(admin) = admin.filter(|admin| *admin != signer) {
            return Err(RosterFault::Signer { signer, admin });
        }
        Ok(Self { roster: object.into_roster().map_err(RosterFault::Content)?, admin: signer, bytes })
    }

    /// The key that has signed it.
    pub fn admin(&self) -> SignerKey {
        self.admin
    }

    /// As it was signed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Deref for SignedRoster {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.roster
    }
}

/// The roster as it is now, and word of changes.
pub type RosterWatch = watch::Receiver<Arc<SignedRoster>>;

/// Makes a roster durable.
type Keep = dyn Fn(&SignedRoster) -> std::io::Result<()> + Send + Sync;

/// Keeps the newest roster: what it takes is durable before anybody goes by it.
pub struct RosterKeeper {
    newest: watch::Sender<Arc<SignedRoster>>,
    keep: Box<Keep>,
    keeping: Mutex<()>,
}

impl std::fmt::Debug for RosterKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RosterKeeper(number {})", self.newest.borrow().number)
    }
}

/// Why an offered roster was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It is none of this fleet.
    #[error("the roster is not taken: {0}")]
    Fault(#[from] RosterFault),
    /// It is of another fleet or domain.
    #[error("the roster is not taken: it is that of the fleet {0}")]
    OtherFleet(FleetName),
    /// Another one of the same number is there.
    #[error(
        "the roster is not taken: there is another one of number {0}, so that it was changed on two nodes at the same time; do the change again"
    )]
    Forked(u64),
    /// It cannot be written down.
    #[error("the roster cannot be kept: {0}")]
    Io(#[from] std::io::Error),
}

impl RosterKeeper {
    /// Begins with this one; `keep` makes one durable.
    pub fn new(
        roster: SignedRoster,
        keep: impl Fn(&SignedRoster) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (newest, _) = watch::channel(Arc::new(roster));
        Self { newest, keep: Box::new(keep), keeping: Mutex::new(()) }
    }

    /// The newest, and word of changes.
    pub fn watch(&self) -> RosterWatch {
        self.newest.subscribe()
    }

    /// Takes a roster if it is newer than the newest one; whether it is. Blocks until it is durable.
    pub fn offer(&self, bytes: Bytes) -> Result<bool, NotKept> {
        let current = Arc::clone(&self.newest.borrow());
        let offered = SignedRoster::read(bytes, Some(current.admin()))?;
        if offered.fleet != current.fleet || offered.domain != current.domain {
            return Err(NotKept::OtherFleet(offered.fleet.clone()));
        }
        // Nobody who looks at the newest one waits for the disk.
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let newest = self.newest.borrow();
            if offered.number == newest.number && offered.bytes() != newest.bytes() {
                return Err(NotKept::Forked(offered.number));
            }
            if offered.number <= newest.number {
                return Ok(false);
            }
        }
        (self.keep)(&offered)?;
        self.newest.send_replace(Arc::new(offered));
        Ok(true)
    }
}
