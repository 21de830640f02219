//! An invitation as text: what the node that is invited must know, and a secret by which it is known.

use std::fmt;
use std::str::FromStr;

use backstay_core::config::{FleetName, NodeName};
use backstay_core::id::{DomainId, SignerKey};
use backstay_core::units::Timestamp;
use backstay_vault::keys::random_bytes;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// How the text begins.
const BEGINS: &str = "backstay-invitation-";

/// The longest text, bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// Most addresses.
pub(super) const ADDRESSES_MAX: usize = 8;

/// What is given to a node that shall join.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The fleet.
    pub fleet: FleetName,
    /// The node that is invited.
    pub node: NodeName,
    /// The node that invites.
    pub inviter: NodeName,
    /// Where it is reached, `HOST:PORT`.
    pub addresses: Vec<String>,
    /// Until when.
    pub until: Timestamp,
    /// BLAKE3-256 of the certificate of the fleet's authority.
    pub authority: [u8; 32],
    /// The key that signs the roster.
    pub admin: SignerKey,
    /// The key domain of the fleet.
    pub domain: DomainId,
    /// Who knows it is the one who was invited.
    pub(super) secret: [u8; 16],
}

/// Without its secret.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({} to {} by {})", self.node, self.fleet, self.inviter)
    }
}

/// Why a text is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Another text.
    #[error(
        "this is no invitation: it begins with {BEGINS} and was printed by `backstay invite`; copy all of it, in one line"
    )]
    Other,
    /// A part of it is missing, or was changed.
    #[error("this invitation is damaged ({0}): copy all of it, in one line")]
    Damaged(String),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Raw {
    #[n(0)]
    version: u64,
    #[n(1)]
    fleet: String,
    #[n(2)]
    node: String,
    #[n(3)]
    inviter: String,
    #[n(4)]
    addresses: Vec<String>,
    #[n(5)]
    until: Timestamp,
    #[n(6)]
    authority: ByteArray<32>,
    #[n(7)]
    admin: SignerKey,
    #[n(8)]
    secret: ByteArray<16>,
    #[n(9)]
    domain: DomainId,
}

impl Invitation {
    /// A new one, with a secret of its own.
    pub fn new(
        (fleet, node, inviter): (FleetName, NodeName, NodeName),
        domain: DomainId,
        addresses: Vec<String>,
        until: Timestamp,
        authority: &[u8],
        admin: SignerKey,
    ) -> Self {
        let authority = *blake3::hash(authority).as_bytes();
        Self { fleet, node, inviter, addresses, until, authority, admin, domain, secret: random_bytes() }
    }

    /// The text, which is the secret itself: whoever has it may join in the place of the node.
    pub fn to_text(&self) -> String {
        let raw = Raw {
            version: 0,
            fleet: self.fleet.to_string(),
            node: self.node.to_string(),
            inviter: self.inviter.to_string(),
            addresses: self.addresses.clone(),
            until: self.until,
            authority: self.authority.into(),
            admin: self.admin,
            secret: self.secret.into(),
            domain: self.domain,
        };
        let mut body = minicbor::to_vec(raw).unwrap_or_default();
        let sum = *blake3::hash(&body).as_bytes();
        body.extend_from_slice(&sum[..4]);
        format!("{BEGINS}{}", BASE64_URL_SAFE_NO_PAD.encode(body))
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let damaged = |why: &dyn fmt::Display| InvitationError::Damaged(why.to_string());
        let encoded = text.trim().strip_prefix(BEGINS).filter(|rest| rest.len() <= TEXT_BYTES_MAX);
        let body = BASE64_URL_SAFE_NO_PAD.decode(encoded.ok_or(InvitationError::Other)?);
        let body = body.map_err(|error| damaged(&error))?;
        let (body, sum) = body.split_last_chunk::<4>().ok_or_else(|| damaged(&"it is too short"))?;
        if blake3::hash(body).as_bytes()[..4] != sum[..] {
            return Err(damaged(&"its sum does not match"));
        }
        let raw: Raw = minicbor::decode(body).map_err(|error| damaged(&error))?;
        if raw.version != 0 {
            return Err(damaged(&format!(
                "it is of version {}, and this backstay reads version 0",
                raw.version
            )));
        }
        if raw.addresses.is_empty() || raw.addresses.len() > ADDRESSES_MAX {
            return Err(damaged(&format!("{} addresses", raw.addresses.len())));
        }
        Ok(Self {
            fleet: raw.fleet.parse().map_err(|error| damaged(&error))?,
            node: raw.node.parse().map_err(|error| damaged(&error))?,
            inviter: raw.inviter.parse().map_err(|error| damaged(&error))?,
            addresses: raw.addresses,
            until: raw.until,
            authority: *raw.authority,
            admin: raw.admin,
            secret: *raw.secret,
            domain: raw.domain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_reads_back_and_a_part_of_it_is_told_to_be_one() {
        let names = ("home".parse().unwrap(), "cobblestone".parse().unwrap(), "nullstone".parse().unwrap());
        let addresses = vec!["100.64.0.2:7420".to_owned()];
        let until = Timestamp::from_seconds(1_800_000_000);
        let (domain, admin) = (DomainId::new([2; 16]), SignerKey::new([3; 32]));
        let invitation = Invitation::new(names, domain, addresses, until, b"certificate", admin);
        let text = invitation.to_text();
        assert!(text.len() < 400, "{} characters", text.len());
        assert_eq!(format!(" {text}\n").parse(), Ok(invitation.clone()));
        for length in 0..text.len() {
            text[..length].parse::<Invitation>().expect_err("a part");
        }
        let mut changed = text.into_bytes();
        let last = changed.len() - 10;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        let error = String::from_utf8(changed).unwrap().parse::<Invitation>().expect_err("was changed");
        assert!(error.to_string().contains("copy all of it"), "{error}");
        assert!(!format!("{invitation:?}").contains("secret"));
    }
}
