//! The roster in bytes (docs/protocol.md, section 7): CBOR within a signed clear text.

use std::collections::BTreeMap;

use backstay_core::id::{DomainId, SignerKey};
use backstay_core::units::Timestamp;
use bytes::Bytes;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use super::judge::TlsKeyHash;
use super::roster::{AUTHORITIES_MAX, Charter, MEMBERS_MAX, Member, Roster};

/// Longest certificate of an authority, bytes.
const AUTHORITY_BYTES_MAX: usize = 4096;

/// Longest name of a node at Tailscale or Headscale, bytes.
const TAILNET_ID_BYTES_MAX: usize = 64;

/// Longest recipient, bytes.
const RECIPIENT_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct RosterObject {
    #[n(0)]
    fleet: String,
    #[n(1)]
    number: u64,
    #[n(2)]
    domain: DomainId,
    #[n(3)]
    made: Timestamp,
    #[n(4)]
    authorities: Vec<ByteVec>,
    #[n(5)]
    members: Vec<MemberObject>,
    #[n(6)]
    charters: Option<Vec<CharterObject>>,
    #[n(7)]
    recovery: Option<ByteVec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct MemberObject {
    #[n(0)]
    name: String,
    #[n(1)]
    signer: SignerKey,
    #[n(2)]
    recipient: String,
    #[n(3)]
    tls_key: ByteArray<32>,
    #[n(4)]
    tailnet_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct CharterObject {
    #[n(0)]
    holder: String,
    #[n(1)]
    writer: String,
    #[n(2)]
    format: ByteVec,
    #[n(3)]
    trust: ByteVec,
}

impl From<&Roster> for RosterObject {
    fn from(roster: &Roster) -> Self {
        let member = |(name, member): (&backstay_core::config::NodeName, &Member)| MemberObject {
            name: name.to_string(),
            signer: member.signer,
            recipient: member.recipient.clone(),
            tls_key: member.tls_key.0.into(),
            tailnet_id: member.tailnet_id.clone(),
        };
        let charter = |charter: &Charter| CharterObject {
            holder: charter.holder.to_string(),
            writer: charter.writer.to_string(),
            format: charter.format.to_vec().into(),
            trust: charter.trust.to_vec().into(),
        };
        let charters: Vec<_> = roster.charters.iter().map(charter).collect();
        Self {
            fleet: roster.fleet.to_string(),
            number: roster.number,
            domain: roster.domain,
            made: roster.made,
            authorities: roster.authorities.iter().map(|der| der.to_vec().into()).collect(),
            members: roster.members.iter().map(member).collect(),
            charters: (!charters.is_empty()).then_some(charters),
            recovery: roster.recovery.as_ref().map(|sealed| sealed.to_vec().into()),
        }
    }
}

impl RosterObject {
    /// With its rules.
    pub(super) fn into_roster(self) -> Result<Roster, String> {
        if self.authorities.len() > AUTHORITIES_MAX || self.members.len() > MEMBERS_MAX {
            return Err(format!("{} nodes and {} authorities", self.members.len(), self.authorities.len()));
        }
        if self.authorities.iter().any(|authority| authority.len() > AUTHORITY_BYTES_MAX) {
            return Err("a certificate of an authority that is too long".to_owned());
        }
        if !self.members.is_sorted_by(|a, b| a.name < b.name) {
            return Err("nodes that do not rise".to_owned());
        }
        let mut members = BTreeMap::new();
        for member in self.members {
            let name = member.name.parse().map_err(|error| format!("{error}"))?;
            let too_long = member.recipient.len() > RECIPIENT_BYTES_MAX
                || member.tailnet_id.as_ref().is_some_and(|id| id.len() > TAILNET_ID_BYTES_MAX);
            if too_long {
                return Err(format!("a text of {name} that is too long"));
            }
            let MemberObject { signer, recipient, tls_key, tailnet_id, .. } = member;
            members.insert(name, Member { signer, recipient, tls_key: TlsKeyHash(*tls_key), tailnet_id });
        }
        let mut charters = Vec::new();
        for charter in self.charters.unwrap_or_default() {
            charters.push(Charter {
                holder: charter.holder.parse().map_err(|error| format!("{error}"))?,
                writer: charter.writer.parse().map_err(|error| format!("{error}"))?,
                format: Bytes::from(Vec::from(charter.format)),
                trust: Bytes::from(Vec::from(charter.trust)),
            });
        }
        Ok(Roster {
            fleet: self.fleet.parse().map_err(|error| format!("{error}"))?,
            number: self.number,
            domain: self.domain,
            made: self.made,
            authorities: self.authorities.into_iter().map(|der| Vec::from(der).into()).collect(),
            members,
            charters,
            recovery: self.recovery.map(|sealed| Bytes::from(Vec::from(sealed))),
        })
    }
}
