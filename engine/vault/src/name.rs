//! Names of objects: the only place where they are made and taken apart (docs/format.md, section 1).
//! Refuses every text that is not the name of an object of this format, so that no store ever sees
//! `..`, an absolute path or a foreign file.

use std::fmt;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{BranchId, JournalId, ObjectHash, PackId, PointId, SessionId, SourceId};

/// Numbers of objects are below this.
pub(crate) const NUMBER_END: u64 = CollectionNumber::END;

/// The name of an object in a vault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// `format/<n>`.
    Format(u64),
    /// `trust/<n>`.
    Trust(u64),
    /// `keys/<name>.age`.
    Key(String),
    /// `packs/<2 hex>/<id>`.
    Pack(PackId),
    /// `index/<session>-<hash>`.
    Index(SessionId, ObjectHash),
    /// `points/<source>/<point>-<hash>`.
    Point(SourceId, PointId, ObjectHash),
    /// `layout/<source>/<generation>-<hash>`.
    Layout(SourceId, u64, ObjectHash),
    /// `heads/<source>/<sequence>-<hash>`.
    Head(SourceId, u64, ObjectHash),
    /// `ledger/sessions/<session>`.
    Session(SessionId),
    /// `fences/<session>`.
    Fence(SessionId),
    /// `ledger/gc/<n>-<hash>`.
    Gc(CollectionNumber, ObjectHash),
    /// `bad/<n>-<hash>`.
    Bad(u64, ObjectHash),
    /// `proofs/<source>/<time>-<hash>`; nanoseconds since 1970.
    Proof(SourceId, u64, ObjectHash),
    /// `journal/<source>/<branch>/<start>-<id>.open`.
    Journal(SourceId, BranchId, u64, JournalId),
}

impl Named {
    /// The hash of the content, where the name ends with it. The id of a pack is such a hash as well, and of a type of its own.
    pub fn content_hash(&self) -> Option<ObjectHash> {
        match self {
            Self::Index(_, hash)
            | Self::Point(_, _, hash)
            | Self::Layout(_, _, hash)
            | Self::Head(_, _, hash)
            | Self::Gc(_, hash)
            | Self::Bad(_, hash)
            | Self::Proof(_, _, hash) => Some(*hash),
            Self::Format(_)
            | Self::Trust(_)
            | Self::Key(_)
            | Self::Pack(_)
            | Self::Session(_)
            | Self::Fence(_)
            | Self::Journal(..) => None,
        }
    }

    /// The name that says this.
    pub fn to_name(&self) -> ObjectName {
        ObjectName(match self {
            Self::Format(n) => format!("format/{n:016x}"),
            Self::Trust(n) => format!("trust/{n:016x}"),
            Self::Key(name) => format!("keys/{name}.age"),
            Self::Pack(id) => {
                let id = id.to_string();
                format!("packs/{}/{id}", &id[..2])
            }
            Self::Index(session, hash) => format!("index/{session}-{hash}"),
            Self::Point(source, point, hash) => format!("points/{source}/{point}-{hash}"),
            Self::Layout(source, generation, hash) => format!("layout/{source}/{generation:016x}-{hash}"),
            Self::Head(source, sequence, hash) => format!("heads/{source}/{sequence:016x}-{hash}"),
            Self::Session(session) => format!("ledger/sessions/{session}"),
            Self::Fence(session) => format!("fences/{session}"),
            Self::Gc(n, hash) => format!("ledger/gc/{:016x}-{hash}", n.get()),
            Self::Bad(n, hash) => format!("bad/{n:016x}-{hash}"),
            Self::Proof(source, time, hash) => format!("proofs/{source}/{time:016x}-{hash}"),
            Self::Journal(source, branch, start, id) => {
                format!("journal/{source}/{branch}/{start:016x}-{id}.open")
            }
        })
    }
}

impl ObjectName {
    /// Takes a name apart; `None` when it is not one of this format.
    pub fn parse(text: &str) -> Option<(Self, Named)> {
        let mut parts = text.split('/');
        let named = match (parts.next()?, parts.next()?, parts.next()) {
            ("journal", source, Some(branch)) => {
                let (start, id) = parts.next()?.strip_suffix(".open")?.split_once('-')?;
                Named::Journal(source.parse().ok()?, branch.parse().ok()?, number(start)?, id.parse().ok()?)
            }
            ("format", n, None) => Named::Format(number(n)?),
            ("trust", n, None) => Named::Trust(number(n)?),
            ("keys", file, None) => Named::Key(key_name(file.strip_suffix(".age")?)?),
            ("packs", _, Some(id)) => Named::Pack(id.parse().ok()?),
            ("index", rest, None) => {
                let (session, hash) = rest.split_once('-')?;
                Named::Index(session.parse().ok()?, hash.parse().ok()?)
            }
            ("points", source, Some(rest)) => {
                let (point, hash) = rest.split_once('-')?;
                Named::Point(source.parse().ok()?, point.parse().ok()?, hash.parse().ok()?)
            }
            ("layout", source, Some(rest)) => {
                let (generation, hash) = rest.split_once('-')?;
                Named::Layout(source.parse().ok()?, number(generation)?, hash.parse().ok()?)
            }
            ("heads", source, Some(rest)) => {
                let (sequence, hash) = rest.split_once('-')?;
                Named::Head(source.parse().ok()?, number(sequence)?, hash.parse().ok()?)
            }
            ("ledger", "sessions", Some(session)) => Named::Session(session.parse().ok()?),
            ("fences", session, None) => Named::Fence(session.parse().ok()?),
            ("ledger", "gc", Some(rest)) => {
                let (n, hash) = rest.split_once('-')?;
                Named::Gc(CollectionNumber::new(number(n)?), hash.parse().ok()?)
            }
            ("bad", rest, None) => {
                let (n, hash) = rest.split_once('-')?;
                Named::Bad(number(n)?, hash.parse().ok()?)
            }
            ("proofs", source, Some(rest)) => {
                let (time, hash) = rest.split_once('-')?;
                Named::Proof(source.parse().ok()?, number(time)?, hash.parse().ok()?)
            }
            _ => return None,
        };
        // One spelling only: what does not print as it was read is not a name.
        let name = named.to_name();
        (name.as_str() == text).then_some((name, named))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without a trailing `-<hash>`: what an envelope is bound to (docs/format.md, section 4).
    pub fn stem(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(stem, _)| stem)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// No vault comes near the end: whoever counts on from what a name says never overflows.
fn number(text: &str) -> Option<u64> {
    let number = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    number.filter(|number| *number < NUMBER_END)
}

fn key_name(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    (!text.is_empty() && text.len() <= 63 && text.bytes().all(good)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_name_reads_back() {
        let source = SourceId::new([1; 16]);
        let hash = ObjectHash::new([2; 32]);
        let session = SessionId::new([3; 16]);
        for named in [
            Named::Format(1),
            Named::Trust(255),
            Named::Key("nullstone".into()),
            Named::Pack(PackId::new([0xab; 32])),
            Named::Index(session, hash),
            Named::Point(source, PointId::new([4; 16]), hash),
            Named::Layout(source, 9, hash),
            Named::Head(source, NUMBER_END - 1, hash),
            Named::Session(session),
            Named::Fence(session),
            Named::Gc(CollectionNumber::new(7), hash),
            Named::Bad(7, hash),
            Named::Proof(source, 7, hash),
            Named::Journal(source, BranchId::new([5; 16]), 7, JournalId::new([6; 16])),
        ] {
            let name = named.to_name();
            assert_eq!(ObjectName::parse(name.as_str()), Some((name, named)));
        }
    }

    #[test]
    fn a_stem_lacks_the_hash() {
        let hash = ObjectHash::new([2; 32]);
        let name = Named::Index(SessionId::new([3; 16]), hash).to_name();
        assert_eq!(name.stem(), format!("index/{}", SessionId::new([3; 16])));
        assert_eq!(Named::Gc(CollectionNumber::new(7), hash).to_name().stem(), "ledger/gc/0000000000000007");
        let session = Named::Session(SessionId::new([3; 16])).to_name();
        assert_eq!(session.stem(), session.as_str());
    }

    #[test]
    fn foreign_names_are_refused() {
        let pack = "ab".repeat(32);
        let wrong_folder = format!("packs/cd/{pack}");
        let closed = format!("journal/{0}/{0}/{1}-{0}", "ab".repeat(16), "0".repeat(16));
        let signed_number = format!("ledger/gc/+000000000000001-{pack}");
        let no_number = format!("ledger/gc/4000000000000000-{pack}");
        for text in [
            "",
            "/",
            "packs/../x",
            "/etc/passwd",
            "format/1",
            "format/000000000000000G",
            "lost+found",
            "keys/.age",
            "keys/A.age",
            "keys/a/b.age",
            "ledger/gc/0000000000000007",
            "ledger/0000000000000007",
            closed.as_str(),
            wrong_folder.as_str(),
            signed_number.as_str(),
            no_number.as_str(),
        ] {
            assert_eq!(ObjectName::parse(text), None, "{text:?}");
        }
    }
}
