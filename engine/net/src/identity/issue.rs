//! The fleet's authority: making it, and certificates by it. A node's certificate names it by a URI
//! (`spiffe://FLEET/node/NAME`, docs/protocol.md, section 7) and is for its own Ed25519 key, which never leaves it.

use std::time::Duration;

use backstay_core::config::{FleetName, NodeName};
use backstay_core::units::Timestamp;
use backstay_vault::keys::{Secret, Signer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::judge::TlsKeyHash;

/// How long an authority is valid. Its key is kept offline; it is replaced by naming another one in the roster.
const AUTHORITY_VALID: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Certificates begin so long before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// What comes before the 32 bytes of an Ed25519 public key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What comes before the 32 bytes of an Ed25519 private key in PKCS #8, version 1.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why a certificate cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a certificate or its key: {0}")]
pub struct IssueError(String);

/// The public key of a node for TLS, Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKey([u8; 32]);

impl NodeKey {
    /// From its 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public half of a private key.
    pub fn of_seed(seed: &Secret) -> Self {
        Self(*Signer::from_seed(seed).public().as_bytes())
    }

    /// From a SubjectPublicKeyInfo; none where that is of another kind of key.
    pub(super) fn of_info(info: &[u8]) -> Option<Self> {
        info.strip_prefix(&ED25519_PREFIX).and_then(|key| key.try_into().ok()).map(Self)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By what it is known in the roster.
    pub fn hash(&self) -> TlsKeyHash {
        TlsKeyHash(*blake3::hash(&[&ED25519_PREFIX[..], &self.0].concat()).as_bytes())
    }
}

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// A private key in PKCS #8, version 1 (RFC 8410, section 7).
pub(super) fn pkcs8(seed: &Secret) -> PrivatePkcs8KeyDer<'static> {
    [&PKCS8_PREFIX[..], seed.as_bytes()].concat().into()
}

/// An authority of the fleet with its private key.
pub struct Authority {
    fleet: FleetName,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.fleet)
    }
}

impl Authority {
    /// A new one with this key.
    pub fn generate(fleet: &FleetName, seed: &Secret, now: Timestamp) -> Result<Self, IssueError> {
        let pair = pair_of(seed)?;
        let params = authority_params(fleet, now);
        let certificate = params.self_signed(&pair).map_err(failed)?.der().clone();
        Ok(Self { fleet: fleet.clone(), certificate, issuer: Issuer::new(params, pair) })
    }

    /// The one of this certificate and key.
    pub fn from_parts(
        fleet: &FleetName,
        certificate: CertificateDer<'static>,
        seed: &Secret,
    ) -> Result<Self, IssueError> {
        // Of the parameters only names and key identifiers go into what it issues.
        let issuer = Issuer::new(authority_params(fleet, Timestamp::from_nanos(0)), pair_of(seed)?);
        Ok(Self { fleet: fleet.clone(), certificate, issuer })
    }

    /// Its certificate, by which nodes know what it issued.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for a node, valid from now on for so long.
    pub fn issue(
        &self,
        node: &NodeName,
        key: &NodeKey,
        now: Timestamp,
        valid: Duration,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let name = format!("spiffe://{}/node/{node}", self.fleet);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(node.as_str());
        params.subject_alt_names = vec![SanType::URI(name.try_into().map_err(failed)?)];
        params.not_before = date(now.saturating_sub(BACKDATED)).into();
        params.not_after = date(now.saturating_add(valid)).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer).map_err(failed)?.der().clone())
    }
}

fn authority_params(fleet: &FleetName, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("backstay fleet {fleet}"));
    params.not_before = date(now.saturating_sub(BACKDATED)).into();
    params.not_after = date(now.saturating_add(AUTHORITY_VALID)).into();
    // It signs nodes' certificates, and no other authority's.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn pair_of(seed: &Secret) -> Result<KeyPair, IssueError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(seed), &PKCS_ED25519).map_err(failed)
}

fn date(time: Timestamp) -> std::time::SystemTime {
    let since = Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(0));
    std::time::SystemTime::UNIX_EPOCH + since
}

fn failed(error: rcgen::Error) -> IssueError {
    IssueError(error.to_string())
}
