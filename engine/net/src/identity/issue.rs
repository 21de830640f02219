//! The fleet's authority: making it, and certificates by it. A node's certificate names it by a URI
//! (`spiffe://FLEET/node/NAME`, docs/protocol.md, section 7) and is for its own Ed25519 key, which never leaves it.

use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use backstay_core::config::{FleetName, NodeName};
use backstay_core::units::Timestamp;
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

/// A private key for TLS, as PKCS #8.
#[derive(Debug)]
pub(super) struct PrivateKey(pub(super) PrivatePkcs8KeyDer<'static>);

impl PrivateKey {
    /// A new one, and its public half.
    pub(super) fn generate() -> Result<(Self, NodeKey), IssueError> {
        let failed = |_| IssueError("the system gives no random key".to_owned());
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let public = NodeKey(
            pair.public_key()
                .as_ref()
                .try_into()
                .map_err(|_| IssueError("a key of another length".to_owned()))?,
        );
        let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(failed)?;
        Ok((Self(private.as_ref().to_vec().into()), public))
    }
}

/// An authority of the fleet with its private key.
#[derive(Debug)]
pub struct Authority {
    fleet: FleetName,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    key: Vec<u8>,
}

impl Authority {
    /// A new one.
    pub fn generate(fleet: &FleetName, now: Timestamp) -> Result<Self, IssueError> {
        let (key, _) = PrivateKey::generate()?;
        let pair = pair_of(key.0.secret_pkcs8_der())?;
        let params = authority_params(fleet, now);
        let certificate = params.self_signed(&pair).map_err(failed)?.der().clone();
        let key = key.0.secret_pkcs8_der().to_vec();
        Ok(Self { fleet: fleet.clone(), certificate, issuer: Issuer::new(params, pair), key })
    }

    /// The one of this certificate and key (PKCS #8).
    pub fn from_parts(
        fleet: &FleetName,
        certificate: CertificateDer<'static>,
        key: &[u8],
    ) -> Result<Self, IssueError> {
        // Of the parameters only names and key identifiers go into what it issues.
        let issuer = Issuer::new(authority_params(fleet, Timestamp::from_nanos(0)), pair_of(key)?);
        Ok(Self { fleet: fleet.clone(), certificate, issuer, key: key.to_vec() })
    }

    /// Its certificate, by which nodes know what it issued.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its private key, PKCS #8.
    pub fn private_key(&self) -> &[u8] {
        &self.key
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

fn pair_of(key: &[u8]) -> Result<KeyPair, IssueError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ED25519).map_err(failed)
}

fn date(time: Timestamp) -> std::time::SystemTime {
    let since = Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(0));
    std::time::SystemTime::UNIX_EPOCH + since
}

fn failed(error: rcgen::Error) -> IssueError {
    IssueError(error.to_string())
}
