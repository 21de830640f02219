//! What one node asks of another (docs/protocol.md, section 4). Names are texts here: whether they are names of objects is for
//! whoever has objects.

use minicbor::bytes::ByteArray;
use minicbor::decode::Error;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::replica::ReplicaRequest;
use super::text::NAME_BYTES_MAX;

/// Longest payload, bytes.
pub const PAYLOAD_BYTES_MAX: u64 = 128 << 20;

/// Most names of one request to delete.
pub const DELETE_NAMES_MAX: usize = 256;

/// Most that is appended by one request, bytes.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;

/// Longest roster, bytes.
pub const ROSTER_BYTES_MAX: u64 = 4 << 20;

/// The numbers of requests that this version knows.
const KNOWN: std::ops::RangeInclusive<u64> = 1..=16;

/// What is asked: of the objects of the node `space`, or of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Put an object: the payload follows.
    Put {
        /// Whose.
        space: String,
        /// Of which name.
        name: String,
        /// Of the payload, bytes.
        length: u64,
        /// BLAKE3-256 of it.
        hash: [u8; 32],
        /// BLAKE3-256 of the object that is replaced; none where none is there.
        renews: Option<[u8; 32]>,
    },
    /// Get an object whole.
    Get {
        /// Whose.
        space: String,
        /// Of which name.
        name: String,
    },
    /// Get a stretch of an object.
    GetRange {
        /// Whose.
        space: String,
        /// Of which name.
        name: String,
        /// Where it begins, bytes.
        offset: u64,
        /// How long it is, bytes.
        length: u64,
    },
    /// List a folder.
    List {
        /// Whose.
        space: String,
        /// With a `/` at its end.
        folder: String,
        /// Behind this name; from the first one when absent.
        after: Option<String>,
    },
    /// Delete objects.
    Delete {
        /// Whose.
        space: String,
        /// At most [`DELETE_NAMES_MAX`].
        names: Vec<String>,
    },
    /// Ask how much room there is.
    Room {
        /// Whose.
        space: String,
    },
    /// Append to an object of a journal: the payload follows, up to [`APPEND_BYTES_MAX`].
    Append {
        /// Whose.
        space: String,
        /// Of which name.
        name: String,
        /// Where the payload begins in the object, bytes.
        offset: u64,
        /// Of the payload, bytes.
        length: u64,
        /// BLAKE3-256 of it.
        hash: [u8; 32],
    },
    /// Ask for the newest roster.
    Roster,
    /// Offer a newer one: the payload follows.
    OfferRoster {
        /// Of the payload, bytes.
        length: u64,
        /// BLAKE3-256 of it.
        hash: [u8; 32],
    },
    /// Ask for a new certificate for the key of the one that the connection was made with.
    Renew,
    /// Ask how far what was captured here was copied on.
    Standing {
        /// Whose.
        space: String,
        /// To the vault of this name.
        vault: String,
        /// The id of the source.
        source: [u8; 16],
    },
    /// Ask something about the live replicas of a service.
    Replica {
        /// Whose.
        space: String,
        /// The service.
        service: String,
        /// What.
        what: ReplicaRequest,
    },
    /// Something that this version does not know.
    Unknown {
        /// Its number.
        what: u64,
    },
}

/// All keys that a request can have.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct Raw {
    #[n(0)]
    pub(super) what: u64,
    #[n(1)]
    pub(super) space: Option<String>,
    #[n(2)]
    pub(super) name: Option<String>,
    #[n(3)]
    pub(super) length: Option<u64>,
    #[n(4)]
    pub(super) hash: Option<ByteArray<32>>,
    #[n(5)]
    pub(super) offset: Option<u64>,
    #[n(6)]
    pub(super) folder: Option<String>,
    #[n(7)]
    pub(super) after: Option<String>,
    #[n(8)]
    pub(super) names: Option<Vec<String>>,
    #[n(9)]
    pub(super) renews: Option<ByteArray<32>>,
    #[n(10)]
    pub(super) vault: Option<String>,
    #[n(11)]
    pub(super) source: Option<ByteArray<16>>,
    #[n(12)]
    pub(super) service: Option<String>,
    #[n(13)]
    pub(super) replica: Option<String>,
    #[n(14)]
    pub(super) to: Option<String>,
    #[n(15)]
    pub(super) member: Option<u64>,
    #[n(16)]
    pub(super) mark: Option<String>,
    #[n(17)]
    pub(super) guid: Option<u64>,
    #[n(18)]
    pub(super) form: Option<u64>,
    #[n(19)]
    pub(super) kind: Option<u64>,
    #[n(20)]
    pub(super) change: Option<u64>,
    #[n(21)]
    pub(super) origin: Option<String>,
    #[n(22)]
    pub(super) flow: Option<u64>,
    #[n(23)]
    pub(super) set: Option<String>,
}

impl<C> Encode<C> for Request {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let raw = match self.clone() {
            Self::Put { space, name, length, hash, renews } => Raw {
                what: 1,
                space: Some(space),
                name: Some(name),
                length: Some(length),
                hash: Some(hash.into()),
                renews: renews.map(Into::into),
                ..Raw::default()
            },
            Self::Get { space, name } => {
                Raw { what: 2, space: Some(space), name: Some(name), ..Raw::default() }
            }
            Self::GetRange { space, name, offset, length } => Raw {
                what: 3,
                space: Some(space),
                name: Some(name),
                offset: Some(offset),
                length: Some(length),
                ..Raw::default()
            },
            Self::List { space, folder, after } => {
                Raw { what: 4, space: Some(space), folder: Some(folder), after, ..Raw::default() }
            }
            Self::Delete { space, names } => {
                Raw { what: 5, space: Some(space), names: Some(names), ..Raw::default() }
            }
            Self::Room { space } => Raw { what: 6, space: Some(space), ..Raw::default() },
            Self::Append { space, name, offset, length, hash } => Raw {
                what: 7,
                space: Some(space),
                name: Some(name),
                offset: Some(offset),
                length: Some(length),
                hash: Some(hash.into()),
                ..Raw::default()
            },
            Self::Roster => Raw { what: 8, ..Raw::default() },
            Self::OfferRoster { length, hash } => {
                Raw { what: 9, length: Some(length), hash: Some(hash.into()), ..Raw::default() }
            }
            Self::Renew => Raw { what: 10, ..Raw::default() },
            Self::Standing { space, vault, source } => Raw {
                what: 11,
                space: Some(space),
                vault: Some(vault),
                source: Some(source.into()),
                ..Raw::default()
            },
            Self::Replica { space, service, what } => what.into_raw(space, service),
            Self::Unknown { what } => Raw { what, ..Raw::default() },
        };
        raw.encode(out, context)
    }
}

impl<'b, C> Decode<'b, C> for Request {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, Error> {
        // What it is comes first: the keys of what is not known may mean something else.
        let mut begin = decoder.clone();
        if begin.map()?.is_none_or(|entries| entries == 0) || begin.u64()? != 0 {
            return Err(Error::message("it does not begin with what it asks for"));
        }
        let what = begin.u64()?;
        if !KNOWN.contains(&what) {
            decoder.skip()?;
            return Ok(Self::Unknown { what });
        }
        let raw = Raw::decode(decoder, context)?;
        let space = |space| named(space, "space", NAME_BYTES_MAX);
        let name = |name| named(name, "name", usize::MAX);
        let length = |length: Option<u64>| match length {
            Some(length) if length <= PAYLOAD_BYTES_MAX => Ok(length),
            Some(length) => Err(Error::message(format!("{length} bytes are more than {PAYLOAD_BYTES_MAX}"))),
            None => Err(Error::message("it has no length")),
        };
        let offset = |offset: Option<u64>| offset.ok_or_else(|| Error::message("it has no offset"));
        let hash = |hash: Option<ByteArray<32>>| {
            hash.map(|hash| *hash).ok_or_else(|| Error::message("it has no hash"))
        };
        Ok(match what {
            1 => Self::Put {
                space: space(raw.space)?,
                name: name(raw.name)?,
                length: length(raw.length)?,
                hash: hash(raw.hash)?,
                renews: raw.renews.map(|renews| *renews),
            },
            2 => Self::Get { space: space(raw.space)?, name: name(raw.name)? },
            3 => Self::GetRange {
                space: space(raw.space)?,
                name: name(raw.name)?,
                offset: offset(raw.offset)?,
                length: length(raw.length)?,
            },
            4 => Self::List {
                space: space(raw.space)?,
                folder: named(raw.folder, "folder", usize::MAX)?,
                after: raw.after,
            },
            5 => {
                let names = raw.names.unwrap_or_default();
                if !(1..=DELETE_NAMES_MAX).contains(&names.len()) {
                    return Err(Error::message(format!(
                        "{} names: 1 to {DELETE_NAMES_MAX} can be",
                        names.len()
                    )));
                }
                Self::Delete { space: space(raw.space)?, names }
            }
            6 => Self::Room { space: space(raw.space)? },
            7 => match length(raw.length)? {
                length if length <= APPEND_BYTES_MAX => Self::Append {
                    space: space(raw.space)?,
                    name: name(raw.name)?,
                    offset: offset(raw.offset)?,
                    length,
                    hash: hash(raw.hash)?,
                },
                length => return Err(Error::message(format!("{length} bytes to append at once"))),
            },
            8 => Self::Roster,
            9 => match length(raw.length)? {
                length if length <= ROSTER_BYTES_MAX => Self::OfferRoster { length, hash: hash(raw.hash)? },
                length => return Err(Error::message(format!("a roster of {length} bytes"))),
            },
            10 => Self::Renew,
            11 => Self::Standing {
                space: space(raw.space)?,
                vault: named(raw.vault, "vault", NAME_BYTES_MAX)?,
                source: raw.source.map(|source| *source).ok_or_else(|| Error::message("it has no source"))?,
            },
            _ => {
                let mut raw = raw;
                let space = space(raw.space.take())?;
                let service = named(raw.service.take(), "service", NAME_BYTES_MAX)?;
                match ReplicaRequest::of_raw(raw)? {
                    Some(what) => Self::Replica { space, service, what },
                    None => Self::Unknown { what },
                }
            }
        })
    }
}

pub(super) fn named(text: Option<String>, what: &str, bytes_max: usize) -> Result<String, Error> {
    match text {
        Some(text) if (1..=bytes_max).contains(&text.len()) => Ok(text),
        Some(_) => Err(Error::message(format!("its {what} is empty or too long"))),
        None => Err(Error::message(format!("it has no {what}"))),
    }
}
