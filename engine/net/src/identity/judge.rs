//! What a certificate says, and whether it can be believed. Pure: the time is an argument.

use std::fmt;
use std::str::FromStr;

use backstay_core::config::{FleetName, NodeName};
use backstay_core::units::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::issue::NodeKey;

/// Most certificates that one side shows.
const CHAIN_LENGTH_MAX: usize = 8;

/// How many certificates of a chain can be expired; each is looked past once.
const EXPIRED_MAX: usize = 3;

/// BLAKE3-256 of a TLS public key (its SubjectPublicKeyInfo): by that a key is known, whatever certificate is around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsKeyHash(pub [u8; 32]);

impl fmt::Debug for TlsKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for TlsKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex()[..16])
    }
}

/// Who a certificate is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node.
    pub node: NodeName,
    /// Its key.
    pub key: TlsKeyHash,
    /// The key itself where it is of the kind that this fleet's authorities issue certificates for.
    pub ed25519: Option<NodeKey>,
    /// Since when a certificate of the chain is expired. Whoever believes it all the same lets it read and renew, and no more.
    pub expired_since: Option<Timestamp>,
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// None was shown, or too many.
    #[error("{0} certificates were shown where there can be 1 to {CHAIN_LENGTH_MAX}")]
    Count(usize),
    /// It is not of an authority of this fleet, or not in order.
    #[error("its certificate was not issued by an authority of the fleet {fleet}: {why}")]
    Chain {
        /// This fleet.
        fleet: FleetName,
        /// What webpki says.
        why: String,
    },
    /// It is not valid yet.
    #[error(
        "its certificate is valid from {from} on: the clock of one of both nodes is wrong; set it (`timedatectl`)"
    )]
    NotYet {
        /// From when on it is.
        from: Timestamp,
    },
    /// It names no node of this fleet, or several.
    #[error(
        "its certificate does not name one node of the fleet {fleet} (a URI spiffe://{fleet}/node/NAME), but {found}"
    )]
    Name {
        /// This fleet.
        fleet: FleetName,
        /// What stands there instead.
        found: String,
    },
}

/// Judges a chain of certificates, the node's own first, by the authorities of a fleet. One that is expired passes, and that is
/// said: whether that is enough is for whoever asks.
pub fn judge(
    chain: &[CertificateDer<'_>],
    authorities: &[TrustAnchor<'_>],
    fleet: &FleetName,
    now: Timestamp,
) -> Result<PeerIdentity, CertificateFault> {
    let (own, above) = match chain {
        [own, above @ ..] if chain.len() <= CHAIN_LENGTH_MAX => (own, above),
        _ => return Err(CertificateFault::Count(chain.len())),
    };
    let fault = |why: webpki::Error| CertificateFault::Chain { fleet: fleet.clone(), why: why.to_string() };
    let certificate = EndEntityCert::try_from(own).map_err(fault)?;
    let mut at = unix_time(now);
    let mut expired: Vec<UnixTime> = Vec::new();
    loop {
        let usage = KeyUsage::client_auth();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        // A node is client and server with one certificate. That it may be a client is what public authorities do not grant.
        match certificate.verify_for_usage(algorithms, authorities, above, at, usage, None, None) {
            Ok(_) => break,
            // Looked at again as it was when it was still valid.
            Err(webpki::Error::CertExpired { not_after, .. }) if expired.len() < EXPIRED_MAX => {
                expired.push(not_after);
                at = not_after;
            }
            Err(webpki::Error::CertNotValidYet { not_before, .. }) if expired.is_empty() => {
                return Err(CertificateFault::NotYet { from: timestamp(not_before) });
            }
            Err(error) => return Err(fault(error)),
        }
    }
    let key = certificate.subject_public_key_info();
    Ok(PeerIdentity {
        node: node_of(&certificate, fleet)?,
        key: TlsKeyHash(*blake3::hash(key.as_ref()).as_bytes()),
        ed25519: NodeKey::of_info(key.as_ref()),
        expired_since: expired.last().copied().map(timestamp),
    })
}

/// Until when a chain is valid; none where it never can be believed.
pub fn valid_until(
    chain: &[CertificateDer<'_>],
    authorities: &[TrustAnchor<'_>],
    fleet: &FleetName,
) -> Option<Timestamp> {
    // At the end of time everything is expired, and since when is what is asked.
    judge(chain, authorities, fleet, Timestamp::MAX).ok()?.expired_since
}

/// The one node that a certificate names.
fn node_of(certificate: &EndEntityCert<'_>, fleet: &FleetName) -> Result<NodeName, CertificateFault> {
    let prefix = format!("spiffe://{fleet}/node/");
    let names: Vec<&str> = certificate.valid_uri_names().take(CHAIN_LENGTH_MAX).collect();
    let mut nodes = names.iter().filter_map(|name| NodeName::from_str(name.strip_prefix(&prefix)?).ok());
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => {
            let found = if names.is_empty() { "no URI".to_owned() } else { format!("{names:?}") };
            Err(CertificateFault::Name { fleet: fleet.clone(), found })
        }
    }
}

fn unix_time(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn timestamp(time: UnixTime) -> Timestamp {
    let nanos = i64::try_from(time.as_secs()).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
    Timestamp::from_nanos(nanos.unwrap_or(i64::MAX))
}
