//! The first message on a connection, each way (docs/protocol.md, section 3).

use minicbor::decode::Error;
use minicbor::{Decode, Decoder, Encode};

use super::answer::{Answer, Refusal};
use super::text::{NAME_BYTES_MAX, bounded};

/// Major version of the protocol. Another one is refused.
pub const MAJOR: u64 = 0;

/// Major versions are below this: what has more there is no hello, but an answer.
const MAJOR_END: u64 = 16;

/// Minor version. The smaller of both sides' is spoken.
pub const MINOR: u64 = 1;

/// The capability to append to journals.
pub const CAPABILITY_APPEND: &str = "append";

/// Most capabilities that one side has.
pub const CAPABILITIES_MAX: usize = 64;

/// Longest name of a capability, bytes.
const CAPABILITY_BYTES_MAX: usize = 32;

/// Longest version of a software, bytes.
const SOFTWARE_BYTES_MAX: usize = 64;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// Control, logs and small captures.
    Live,
    /// Everything else.
    Bulk,
}

/// What comes first from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// It goes on.
    Hello(Hello),
    /// It does not.
    Refused(Refusal),
}

impl<C> Encode<C> for Greeting {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Hello(hello) => hello.encode(out, context),
            Self::Refused(refusal) => Answer::Refused(refusal.clone()).encode(out, context),
        }
    }
}

impl<'b, C> Decode<'b, C> for Greeting {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, Error> {
        let mut begin = decoder.clone();
        let is_answer =
            begin.map()?.is_some_and(|entries| entries > 0) && begin.u64()? == 0 && begin.u64()? >= MAJOR_END;
        if !is_answer {
            return Hello::decode(decoder, context).map(Self::Hello);
        }
        match Answer::decode(decoder, context)? {
            Answer::Refused(refusal) => Ok(Self::Refused(refusal)),
            other => Err(Error::message(format!("{other:?} in the place of a hello"))),
        }
    }
}

/// Who speaks, and what it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Major version of the protocol.
    pub major: u64,
    /// Minor version.
    pub minor: u64,
    /// Version of the software, for people.
    pub software: String,
    /// What the connection is for.
    pub kind: ConnectionKind,
    /// The fleet.
    pub fleet: String,
    /// The node. What its certificate says counts.
    pub node: String,
    /// What else it understands; rising.
    pub capabilities: Vec<String>,
    /// Its clock, nanoseconds since 1970 UTC.
    pub time_nanos: i64,
    /// Number of the newest roster that it has.
    pub roster: u64,
    /// BLAKE3-256 of its fleet.toml, where it has one and says so.
    pub fleet_file: Option<[u8; 32]>,
}

impl<C> Encode<C> for Hello {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let kind = match self.kind {
            ConnectionKind::Live => 0u8,
            ConnectionKind::Bulk => 1,
        };
        out.map(9 + u64::from(self.fleet_file.is_some()))?
            .u8(0)?
            .u64(self.major)?
            .u8(1)?
            .u64(self.minor)?
            .u8(2)?
            .str(&self.software)?;
        out.u8(3)?.u8(kind)?.u8(4)?.str(&self.fleet)?.u8(5)?.str(&self.node)?;
        out.u8(6)?.array(self.capabilities.len() as u64)?;
        for capability in &self.capabilities {
            out.str(capability)?;
        }
        out.u8(7)?.i64(self.time_nanos)?.u8(8)?.u64(self.roster)?;
        if let Some(hash) = &self.fleet_file {
            out.u8(9)?.bytes(hash)?;
        }
        Ok(())
    }
}

/// Of another major version only that is read: the rest may mean something else there.
impl<'b, C> Decode<'b, C> for Hello {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        let (mut major, mut minor, mut kind, mut time_nanos, mut roster) = (None, None, None, None, 0);
        let (mut software, mut fleet, mut node) = (None, None, None);
        let (mut capabilities, mut fleet_file) = (Vec::new(), None);
        let entries = decoder.map()?.ok_or_else(|| Error::message("a map of an unknown length"))?;
        for _ in 0..entries {
            let key = decoder.u64()?;
            let is_ours = major.is_none_or(|major| major == MAJOR);
            match key {
                0 if major.is_none() => major = Some(decoder.u64()?),
                _ if major.is_none() => return Err(Error::message("it does not begin with its version")),
                1 if is_ours => minor = Some(decoder.u64()?),
                2 if is_ours => software = Some(bounded(decoder, SOFTWARE_BYTES_MAX)?.to_owned()),
                3 if is_ours => {
                    kind = Some(match decoder.u64()? {
                        0 => ConnectionKind::Live,
                        1 => ConnectionKind::Bulk,
                        other => return Err(Error::message(format!("{other} is no kind of connection"))),
                    });
                }
                4 if is_ours => fleet = Some(bounded(decoder, NAME_BYTES_MAX)?.to_owned()),
                5 if is_ours => node = Some(bounded(decoder, NAME_BYTES_MAX)?.to_owned()),
                6 if is_ours => capabilities = read_capabilities(decoder)?,
                7 if is_ours => time_nanos = Some(decoder.i64()?),
                8 if is_ours => roster = decoder.u64()?,
                9 if is_ours => {
                    let hash = <[u8; 32]>::try_from(decoder.bytes()?);
                    fleet_file = Some(hash.map_err(|_| Error::message("a hash of another length"))?);
                }
                _ => decoder.skip()?,
            }
        }
        let major = major.ok_or_else(|| Error::message("it has no version"))?;
        if major >= MAJOR_END {
            return Err(Error::message(format!("{major} is no version")));
        }
        if major != MAJOR {
            let (software, fleet, node) = (String::new(), String::new(), String::new());
            let (minor, kind) = (0, ConnectionKind::Live);
            return Ok(Self {
                major,
                minor,
                software,
                kind,
                fleet,
                node,
                capabilities: Vec::new(),
                time_nanos: 0,
                roster: 0,
                fleet_file: None,
            });
        }
        let missing = |what| move || Error::message(format!("it has no {what}"));
        Ok(Self {
            major,
            minor: minor.ok_or_else(missing("minor version"))?,
            software: software.ok_or_else(missing("version of a software"))?,
            kind: kind.ok_or_else(missing("kind of connection"))?,
            fleet: fleet.ok_or_else(missing("fleet"))?,
            node: node.ok_or_else(missing("node"))?,
            capabilities,
            time_nanos: time_nanos.ok_or_else(missing("time"))?,
            roster,
            fleet_file,
        })
    }
}

fn read_capabilities(decoder: &mut Decoder<'_>) -> Result<Vec<String>, Error> {
    let count = decoder.array()?.ok_or_else(|| Error::message("an array of an unknown length"))?;
    if count > CAPABILITIES_MAX as u64 {
        return Err(Error::message(format!("{count} capabilities where there can be {CAPABILITIES_MAX}")));
    }
    let mut capabilities: Vec<String> = Vec::new();
    for _ in 0..count {
        let capability = bounded(decoder, CAPABILITY_BYTES_MAX)?;
        if capabilities.last().is_some_and(|last| last.as_str() >= capability) {
            return Err(Error::message("capabilities that do not rise"));
        }
        capabilities.push(capability.to_owned());
    }
    Ok(capabilities)
}
