//! What a node answers (docs/protocol.md, section 5).

use std::time::Duration;

use minicbor::bytes::ByteVec;
use minicbor::decode::Error;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::request::PAYLOAD_BYTES_MAX;
use super::standing::{NewestThere, ProofThere, STANDING_PROOFS_MAX, Standing};

/// Longest text of a refusal, bytes; more of it is cut off when it is sent.
const TEXT_BYTES_MAX: usize = 1024;

/// Most certificates of a chain.
pub const CHAIN_LENGTH_MAX: usize = 8;

/// No answer makes anybody wait for longer.
pub const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, durably.
    Done,
    /// The payload follows.
    Object {
        /// Of the payload, bytes.
        length: u64,
    },
    /// A part of a folder.
    Page {
        /// In order of name.
        entries: Vec<Listed>,
        /// Whether more follow.
        has_more: bool,
    },
    /// How much room there is.
    Room {
        /// Bytes that may be put still.
        free_bytes: u64,
        /// Bytes that are there.
        used_bytes: u64,
    },
    /// A certificate, with those above it.
    Certificate {
        /// The node's own first, DER; at most [`CHAIN_LENGTH_MAX`].
        chain: Vec<Vec<u8>>,
    },
    /// How far something was copied on.
    Standing(Standing),
    /// ZFS refuses it: not done either.
    RefusedByZfs {
        /// What was to be done.
        doing: String,
        /// By the number of its error.
        number: i32,
    },
    /// It is not done.
    Refused(Refusal),
}

/// An object in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Listed {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its length, bytes.
    #[n(1)]
    pub bytes: u64,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: what, why and what to do.
    pub text: String,
    /// After which it may be tried again, where that is of use; at most [`WAIT_MAX`].
    pub retry_after: Option<Duration>,
}

/// Reasons by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another major version.
    Version,
    /// Not a message of this protocol.
    Malformed,
    /// A request that this version does not know.
    Unknown,
    /// The holder does not permit it.
    Denied,
    /// There is no such object.
    NotFound,
    /// The object is shorter than the stretch.
    Truncated,
    /// There is another object of this name.
    Exists,
    /// The payload is not what its hash says.
    Mismatch,
    /// Above a limit.
    TooLarge,
    /// More than the holder gives.
    Quota,
    /// The disk of the holder is at the floor that it keeps free.
    Full,
    /// Too much at once.
    Busy,
    /// The medium or the system of the holder has failed.
    Fault,
    /// Something there is not as it was when this was planned.
    Stale,
    /// It stays so until somebody has done something there.
    Lasting,
}

impl Reason {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Version,
        Self::Malformed,
        Self::Unknown,
        Self::Denied,
        Self::NotFound,
        Self::Truncated,
        Self::Exists,
        Self::Mismatch,
        Self::TooLarge,
        Self::Quota,
        Self::Full,
        Self::Busy,
        Self::Fault,
        Self::Stale,
        Self::Lasting,
    ];

    /// Its number, from 1.
    pub fn number(self) -> u64 {
        self as u64 + 1
    }

    /// That of a number; one that is not known counts as a fault.
    pub fn of_number(number: u64) -> Self {
        let place = number.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| Self::ALL.get(place)).copied().unwrap_or(Self::Fault)
    }
}

/// All keys that an answer can have.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
struct Raw {
    #[n(0)]
    outcome: u64,
    #[n(3)]
    length: Option<u64>,
    #[n(9)]
    entries: Option<Vec<Listed>>,
    #[n(10)]
    has_more: Option<bool>,
    #[n(11)]
    free_bytes: Option<u64>,
    #[n(12)]
    used_bytes: Option<u64>,
    #[n(13)]
    reason: Option<u64>,
    #[n(14)]
    text: Option<String>,
    #[n(15)]
    retry_nanos: Option<u64>,
    #[n(16)]
    chain: Option<Vec<ByteVec>>,
    #[n(17)]
    until_nanos: Option<i64>,
    #[n(18)]
    newest: Option<NewestThere>,
    #[n(19)]
    proofs: Option<Vec<ProofThere>>,
    #[n(20)]
    number: Option<i32>,
}

impl<C> Encode<C> for Answer {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let raw = match self.clone() {
            Self::Done => Raw::default(),
            Self::Object { length } => Raw { outcome: 1, length: Some(length), ..Raw::default() },
            Self::Page { entries, has_more } => Raw {
                outcome: 2,
                entries: Some(entries),
                has_more: has_more.then_some(true),
                ..Raw::default()
            },
            Self::Room { free_bytes, used_bytes } => Raw {
                outcome: 3,
                free_bytes: Some(free_bytes),
                used_bytes: Some(used_bytes),
                ..Raw::default()
            },
            Self::Certificate { chain } => Raw {
                outcome: 4,
                chain: Some(chain.into_iter().map(ByteVec::from).collect()),
                ..Raw::default()
            },
            Self::Standing(Standing { until_nanos, newest, mut proofs, mut problem }) => {
                problem.iter_mut().for_each(shorten);
                proofs.truncate(STANDING_PROOFS_MAX);
                Raw {
                    outcome: 5,
                    text: problem,
                    until_nanos,
                    newest,
                    proofs: (!proofs.is_empty()).then_some(proofs),
                    ..Raw::default()
                }
            }
            Self::RefusedByZfs { mut doing, number } => {
                shorten(&mut doing);
                Raw { outcome: 6, text: Some(doing), number: Some(number), ..Raw::default() }
            }
            Self::Refused(Refusal { reason, mut text, retry_after }) => {
                shorten(&mut text);
                // Not more than an hour: it fits.
                let nanos = retry_after.map(|wait| wait.min(WAIT_MAX).as_nanos() as u64);
                Raw {
                    outcome: 16,
                    reason: Some(reason.number()),
                    text: Some(text),
                    retry_nanos: nanos,
                    ..Raw::default()
                }
            }
        };
        raw.encode(out, context)
    }
}

impl<'b, C> Decode<'b, C> for Answer {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, Error> {
        let raw = Raw::decode(decoder, context)?;
        let missing = |what: &str| Error::message(format!("it has no {what}"));
        Ok(match raw.outcome {
            0 => Self::Done,
            1 => match raw.length {
                Some(length) if length <= PAYLOAD_BYTES_MAX => Self::Object { length },
                Some(length) => {
                    return Err(Error::message(format!("{length} bytes are more than {PAYLOAD_BYTES_MAX}")));
                }
                None => return Err(missing("length")),
            },
            2 => {
                let entries = raw.entries.ok_or_else(|| missing("entries"))?;
                if !entries.is_sorted_by(|a, b| a.name < b.name) {
                    return Err(Error::message("entries that do not rise"));
                }
                let has_more = raw.has_more.unwrap_or(false);
                if has_more && entries.is_empty() {
                    return Err(Error::message("a page without entries that is not the last"));
                }
                Self::Page { entries, has_more }
            }
            3 => Self::Room {
                free_bytes: raw.free_bytes.ok_or_else(|| missing("room"))?,
                used_bytes: raw.used_bytes.ok_or_else(|| missing("room"))?,
            },
            4 => {
                let chain = raw.chain.ok_or_else(|| missing("certificate"))?;
                if !(1..=CHAIN_LENGTH_MAX).contains(&chain.len()) {
                    return Err(Error::message(format!("{} certificates", chain.len())));
                }
                Self::Certificate { chain: chain.into_iter().map(Vec::from).collect() }
            }
            5 => {
                let (mut problem, proofs) = (raw.text, raw.proofs.unwrap_or_default());
                problem.iter_mut().for_each(shorten);
                if proofs.len() > STANDING_PROOFS_MAX {
                    return Err(Error::message(format!("{} proofs", proofs.len())));
                }
                let (until_nanos, newest) = (raw.until_nanos, raw.newest);
                Self::Standing(Standing { until_nanos, newest, proofs, problem })
            }
            6 => {
                let mut doing = raw.text.unwrap_or_default();
                shorten(&mut doing);
                Self::RefusedByZfs { doing, number: raw.number.ok_or_else(|| missing("number"))? }
            }
            16 => {
                let mut text = raw.text.unwrap_or_default();
                shorten(&mut text);
                Self::Refused(Refusal {
                    reason: Reason::of_number(raw.reason.ok_or_else(|| missing("reason"))?),
                    text,
                    retry_after: raw.retry_nanos.map(|nanos| Duration::from_nanos(nanos).min(WAIT_MAX)),
                })
            }
            other => return Err(Error::message(format!("{other} is no outcome"))),
        })
    }
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}
