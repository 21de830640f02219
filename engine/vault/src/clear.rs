//! Signed clear text: what must be readable before any key is at hand (docs/format.md, section 3).

use backstay_core::config::SourceName;
use backstay_core::id::{DomainId, ObjectHash, SignerKey, VaultId};
use backstay_core::units::Timestamp;
use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::keys::{BadSignature, Role, Signer, verify};
use crate::malformed::{Malformed, decode_cbor, encode_cbor};
use crate::take::{Take, frame};

const MAGIC: [u8; 4] = *b"BKSC";
const SIGNATURE_PURPOSE: &[u8] = b"backstay clear 0\0";
const CLEAR_BYTES_MAX: u32 = 4 << 20;

/// The version of the format that this code reads and writes.
pub const FORMAT_VERSION: u32 = 0;

/// Which clear object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearKind {
    /// `format/<n>`.
    Format = 1,
    /// `trust/<n>`.
    Trust = 2,
    /// The roster of a fleet: in no vault (docs/protocol.md, section 7).
    Roster = 3,
}

/// `format/<n>`: what a reader and a writer must know.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FormatObject {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The key domain.
    #[n(1)]
    pub domain: DomainId,
    /// Least version that a reader must know.
    #[n(2)]
    pub reader: u32,
    /// Least version that a writer must know.
    #[n(3)]
    pub writer: u32,
    /// Features without which nothing can be read.
    #[n(4)]
    pub features: Vec<String>,
    /// When the vault was made.
    #[n(5)]
    pub created: Timestamp,
}

/// `trust/<n>`: who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TrustObject {
    /// Its number.
    #[n(0)]
    pub n: u64,
    /// Hash of the one before; `None` for the first.
    #[n(1)]
    pub previous: Option<ObjectHash>,
    /// All nodes.
    #[n(2)]
    pub nodes: Vec<TrustedNode>,
    /// Who may delete.
    #[n(3)]
    pub custodian: Custodian,
}

/// One node that may write.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TrustedNode {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// The key by which it signs objects.
    #[n(1)]
    pub signer: SignerKey,
    /// To whom its bundle is wrapped, `age1…`.
    #[n(2)]
    pub recipient: String,
    /// Names of the sources that it may write; `*` is all.
    #[n(3)]
    pub writes: Vec<String>,
    /// Which keys are wrapped to it when they are rotated; all where it is not said.
    #[n(4)]
    pub role: Option<Role>,
}

/// The node that may delete, and since which term.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Custodian {
    /// Its name.
    #[n(0)]
    pub node: String,
    /// Rises with each change of custodian.
    #[n(1)]
    pub term: u64,
    /// The key by which it signs; any of the node's where none is given. A node that was built anew may be known by
    /// its old one still.
    #[n(2)]
    pub signer: Option<SignerKey>,
}

impl Custodian {
    /// The first custodian of a vault.
    pub fn first(node: &TrustedNode) -> Self {
        Self { node: node.name.clone(), term: 1, signer: Some(node.signer) }
    }
}

impl TrustObject {
    /// The node that signs with this key.
    pub fn node(&self, signer: &SignerKey) -> Option<&TrustedNode> {
        self.nodes.iter().find(|node| node.signer == *signer)
    }

    /// The key by which the custodian signs; `None` when the chain of trust does not list it.
    pub fn custodian_key(&self) -> Option<SignerKey> {
        let named = || self.nodes.iter().rev().find(|node| node.name == self.custodian.node);
        self.custodian.signer.or_else(|| named().map(|node| node.signer))
    }
}

impl TrustedNode {
    /// Whether points of this source may be the node's own: what a node keeps of the fleet's configuration is written by that
    /// node alone, whatever `writes` says, since a bare machine goes by it. Who copies such a point is another question.
    pub fn may_author(&self, source_name: &str) -> bool {
        let of_fleet = source_name.split_once('.').filter(|(service, _)| *service == SourceName::FLEET);
        self.may_write(source_name) && of_fleet.is_none_or(|(_, node)| node == self.name)
    }

    /// Whether the node may write this source.
    pub fn may_write(&self, source_name: &str) -> bool {
        self.writes.iter().any(|allowed| allowed == "*" || allowed == source_name)
    }
}

/// Signs a clear object.
pub fn sign<T: Encode<()>>(admin: &Signer, kind: ClearKind, value: &T) -> Bytes {
    let cbor = encode_cbor(value);
    let mut object = Vec::with_capacity(cbor.len() + 108);
    object.extend_from_slice(&frame(MAGIC, kind as u8));
    object.extend_from_slice(&(cbor.len() as u32).to_le_bytes());
    object.extend_from_slice(&cbor);
    object.extend_from_slice(admin.public().as_bytes());
    let signature = admin.sign(&[SIGNATURE_PURPOSE, &object].concat());
    object.extend_from_slice(&signature);
    object.into()
}

/// Reads a clear object and checks its signature. The signer it names is returned: only the caller
/// knows the admin key, if any is at hand.
pub fn read<T: for<'b> Decode<'b, ()>>(kind: ClearKind, object: &[u8]) -> Result<(T, SignerKey), Malformed> {
    let mut take = Take::new(object);
    take.frame(MAGIC, kind as u8)?;
    let length = take.u32()?;
    if length > CLEAR_BYTES_MAX {
        return Err(Malformed::Field("length"));
    }
    let cbor = take.bytes(length as usize)?;
    let signer = SignerKey::new(take.array()?);
    let signed = object.len() - take.rest().len();
    let signature: [u8; 64] = take.array()?;
    if !take.is_empty() {
        return Err(Malformed::Signature(BadSignature));
    }
    verify(&signer, &[SIGNATURE_PURPOSE, &object[..signed]].concat(), &signature)?;
    Ok((decode_cbor(cbor)?, signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Secret;

    #[test]
    fn a_clear_object_reads_back_and_any_change_is_noticed() {
        let admin = Signer::from_seed(&Secret::random());
        let format = FormatObject {
            vault: VaultId::new([1; 16]),
            domain: DomainId::new([2; 16]),
            reader: 0,
            writer: 0,
            features: vec!["zfs".into()],
            created: Timestamp::from_nanos(5),
        };
        let object = sign(&admin, ClearKind::Format, &format);
        assert_eq!(read(ClearKind::Format, &object), Ok((format, admin.public())));
        for place in 0..object.len() {
            let mut damaged = object.to_vec();
            damaged[place] ^= 1;
            assert!(read::<FormatObject>(ClearKind::Format, &damaged).is_err(), "byte {place}");
        }
        assert!(read::<FormatObject>(ClearKind::Trust, &object).is_err());
    }
}
