//! How a node that nobody knows yet is enrolled (docs/protocol.md, section 8): one message each way, on a connection of its own.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::decode::Error;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::answer::{Answer, CHAIN_LENGTH_MAX, Refusal};
use super::request::ROSTER_BYTES_MAX;
use super::text::NAME_BYTES_MAX;

/// Longest `fleet.toml`, bytes.
pub const FLEET_FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest age recipient, bytes.
const RECIPIENT_BYTES_MAX: usize = 200;

/// Longest certificate of an authority, bytes.
const AUTHORITY_BYTES_MAX: usize = 4096;

/// Longest bundle, sealed with age, bytes.
const BUNDLE_BYTES_MAX: usize = 32 << 10;

/// What a node that was invited shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its name.
    pub node: String,
    /// Its key for TLS, Ed25519.
    pub tls_key: [u8; 32],
    /// The key by which it signs objects, Ed25519.
    pub signing_key: [u8; 32],
    /// To whom its keys are wrapped, `age1…`.
    pub recipient: String,
    /// The certificate (DER) of the authority by which it would renew certificates of others.
    pub authority: Vec<u8>,
    /// That it has the invitation.
    pub proof: [u8; 32],
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// It belongs to the fleet now.
    Welcome(Welcome),
    /// It does not.
    Refused(Refusal),
}

/// What a node of the fleet needs. The roster and then the file of the fleet follow the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Its certificate with those above it, DER.
    pub chain: Vec<Vec<u8>>,
    /// The keys of the domain, sealed with age to its recipient.
    pub bundle: Vec<u8>,
    /// Length of the roster, bytes.
    pub roster_length: u64,
    /// Length of `fleet.toml`, bytes.
    pub fleet_file_length: u64,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct RawRequest {
    #[n(0)]
    version: u64,
    #[n(1)]
    node: String,
    #[n(2)]
    tls_key: ByteArray<32>,
    #[n(3)]
    signing_key: ByteArray<32>,
    #[n(4)]
    recipient: String,
    #[n(5)]
    authority: ByteVec,
    #[n(6)]
    proof: ByteArray<32>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct RawWelcome {
    #[n(0)]
    outcome: u64,
    #[n(1)]
    chain: Vec<ByteVec>,
    #[n(2)]
    bundle: ByteVec,
    #[n(3)]
    roster_length: u64,
    #[n(4)]
    fleet_file_length: u64,
}

impl<C> Encode<C> for JoinRequest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let raw = RawRequest {
            version: super::MAJOR,
            node: self.node.clone(),
            tls_key: self.tls_key.into(),
            signing_key: self.signing_key.into(),
            recipient: self.recipient.clone(),
            authority: self.authority.clone().into(),
            proof: self.proof.into(),
        };
        raw.encode(out, context)
    }
}

impl<'b, C> Decode<'b, C> for JoinRequest {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, Error> {
        let raw = RawRequest::decode(decoder, context)?;
        if raw.version != super::MAJOR {
            let ours = super::MAJOR;
            return Err(Error::message(format!("version {} of the protocol and not {ours}", raw.version)));
        }
        let texts = [(&raw.node, NAME_BYTES_MAX), (&raw.recipient, RECIPIENT_BYTES_MAX)];
        let is_good = texts.iter().all(|(text, most)| (1..=*most).contains(&text.len()));
        if !is_good || raw.authority.len() > AUTHORITY_BYTES_MAX {
            return Err(Error::message("a name, recipient or certificate that is empty or too long"));
        }
        Ok(Self {
            node: raw.node,
            tls_key: *raw.tls_key,
            signing_key: *raw.signing_key,
            recipient: raw.recipient,
            authority: raw.authority.into(),
            proof: *raw.proof,
        })
    }
}

impl<C> Encode<C> for JoinAnswer {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Welcome(welcome) => RawWelcome {
                outcome: 0,
                chain: welcome.chain.iter().cloned().map(ByteVec::from).collect(),
                bundle: welcome.bundle.clone().into(),
                roster_length: welcome.roster_length,
                fleet_file_length: welcome.fleet_file_length,
            }
            .encode(out, context),
            Self::Refused(refusal) => Answer::Refused(refusal.clone()).encode(out, context),
        }
    }
}

impl<'b, C> Decode<'b, C> for JoinAnswer {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, Error> {
        let mut begin = decoder.clone();
        let is_welcome =
            begin.map()?.is_some_and(|entries| entries > 0) && begin.u64()? == 0 && begin.u64()? == 0;
        if !is_welcome {
            return match Answer::decode(decoder, context)? {
                Answer::Refused(refusal) => Ok(Self::Refused(refusal)),
                other => Err(Error::message(format!("{other:?} to a node that joins"))),
            };
        }
        let raw = RawWelcome::decode(decoder, context)?;
        let is_good = (1..=CHAIN_LENGTH_MAX).contains(&raw.chain.len())
            && raw.bundle.len() <= BUNDLE_BYTES_MAX
            && raw.roster_length <= ROSTER_BYTES_MAX
            && raw.fleet_file_length <= FLEET_FILE_BYTES_MAX;
        if !is_good {
            return Err(Error::message("a chain, bundle, roster or file that is too long"));
        }
        Ok(Self::Welcome(Welcome {
            chain: raw.chain.into_iter().map(Vec::from).collect(),
            bundle: raw.bundle.into(),
            roster_length: raw.roster_length,
            fleet_file_length: raw.fleet_file_length,
        }))
    }
}
