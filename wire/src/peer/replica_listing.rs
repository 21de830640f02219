//! What stands of the replicas of a service (docs/protocol.md, section 9): a payload, and no message. How much there may be in it is
//! counted while it is read, so that a short text makes nobody allocate much.

use minicbor::encode::{self, Write};
use minicbor::{Decode, Decoder, Encode, Encoder, decode::Error};

use super::frame::FrameError;
use super::replica::{REPLICA_NAME_BYTES_MAX, ReplicaKind};
use super::text::bounded;

/// Longest listing, bytes.
pub const REPLICA_LISTING_BYTES_MAX: u64 = 16 << 20;

/// Most datasets of one listing.
pub const REPLICA_DATASETS_MAX: usize = 16_384;

/// Most snapshots and bookmarks of one listing, in all.
pub const REPLICA_MARKS_MAX: usize = 262_144;

/// Most properties of a dataset.
pub const REPLICA_PROPERTIES_MAX: usize = 64;

/// Longest text that is no name, bytes: OpenZFS has no longer values.
pub const REPLICA_TEXT_BYTES_MAX: usize = 16 << 10;

/// What stands at the place of a service, and below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaListing {
    /// The name of the place, whether there is something or not.
    pub place: String,
    /// Parents before children.
    pub datasets: Vec<ListedDataset>,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDataset {
    /// Its name.
    pub name: String,
    /// Its GUID.
    pub guid: u64,
    /// What it is.
    pub kind: ReplicaKind,
    /// Its encryption, if it has any.
    pub encryption: Option<ListedEncryption>,
    /// The snapshot of which it is a clone.
    pub origin: Option<String>,
    /// Bytes written since its newest snapshot.
    pub written_bytes: u64,
    /// Bytes that it and its snapshots take.
    pub used_bytes: u64,
    /// Bytes that it refers to.
    pub referenced_bytes: u64,
    /// Whether it is mounted.
    pub is_mounted: bool,
    /// Where it would be.
    pub mountpoint: Option<String>,
    /// By which a receive is resumed.
    pub resume_token: Option<String>,
    /// Backstay's own properties with their values, in rising order.
    pub properties: Vec<(String, String)>,
    /// Oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Oldest first.
    pub bookmarks: Vec<ListedBookmark>,
}

/// An encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEncryption {
    /// The dataset whose key it has.
    pub root: String,
    /// Whether that is loaded.
    pub is_loaded: bool,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSnapshot {
    /// Its name, without its dataset.
    pub mark: String,
    /// Its GUID.
    pub guid: u64,
    /// The transaction group in which it was taken.
    pub txg: u64,
    /// When it was taken, nanoseconds since 1970.
    pub time_nanos: i64,
    /// Bytes written between the one before it and this one.
    pub written_bytes: u64,
    /// How many holds it has.
    pub holds: u64,
}

/// A bookmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBookmark {
    /// Its name, without its dataset.
    pub mark: String,
    /// The GUID of its snapshot.
    pub guid: u64,
    /// The transaction group of that.
    pub txg: u64,
    /// When that was taken, nanoseconds since 1970.
    pub time_nanos: i64,
}

impl ReplicaListing {
    /// As payload; refused with what there is too much of.
    pub fn to_payload(&self) -> Result<Vec<u8>, FrameError> {
        let mut payload = Vec::new();
        minicbor::encode(self, &mut payload).map_err(|error| FrameError::Malformed(error.to_string()))?;
        // By the same eyes as at the other side: what is sent is never refused there.
        Self::of_payload(&payload)?;
        Ok(payload)
    }

    /// From a payload, of which nothing may be left over.
    pub fn of_payload(payload: &[u8]) -> Result<Self, FrameError> {
        if payload.len() as u64 > REPLICA_LISTING_BYTES_MAX {
            let bytes = payload.len();
            let text = format!("{bytes} bytes, where there can be {REPLICA_LISTING_BYTES_MAX}");
            return Err(FrameError::Malformed(text));
        }
        let mut decoder = Decoder::new(payload);
        let listing = decoder.decode().map_err(|error: Error| FrameError::Malformed(error.to_string()))?;
        match decoder.position() == payload.len() {
            true => Ok(listing),
            false => Err(FrameError::Malformed("something follows it".to_owned())),
        }
    }
}

impl<C> Encode<C> for ReplicaListing {
    fn encode<W: Write>(&self, out: &mut Encoder<W>, context: &mut C) -> Result<(), encode::Error<W::Error>> {
        out.map(2)?.u8(0)?.str(&self.place)?.u8(1)?.array(self.datasets.len() as u64)?;
        self.datasets.iter().try_for_each(|dataset| dataset.encode(out, context))
    }
}

impl<C> Encode<C> for ListedDataset {
    fn encode<W: Write>(&self, out: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let there = [
            self.encryption.is_some(),
            self.origin.is_some(),
            self.mountpoint.is_some(),
            self.resume_token.is_some(),
        ];
        out.map(10 + there.into_iter().filter(|is_there| *is_there).count() as u64)?;
        out.u8(0)?.str(&self.name)?.u8(1)?.u64(self.guid)?.u8(2)?.u64(self.kind.number())?;
        if let Some(encryption) = &self.encryption {
            out.u8(3)?.array(2)?.str(&encryption.root)?.bool(encryption.is_loaded)?;
        }
        if let Some(origin) = &self.origin {
            out.u8(4)?.str(origin)?;
        }
        out.u8(5)?.u64(self.written_bytes)?.u8(6)?.u64(self.used_bytes)?;
        out.u8(7)?.u64(self.referenced_bytes)?.u8(8)?.bool(self.is_mounted)?;
        if let Some(mountpoint) = &self.mountpoint {
            out.u8(9)?.str(mountpoint)?;
        }
        if let Some(token) = &self.resume_token {
            out.u8(10)?.str(token)?;
        }
        out.u8(11)?.array(self.properties.len() as u64)?;
        for (name, value) in &self.properties {
            out.array(2)?.str(name)?.str(value)?;
        }
        out.u8(12)?.array(self.snapshots.len() as u64)?;
        for snapshot in &self.snapshots {
            out.array(6)?.str(&snapshot.mark)?.u64(snapshot.guid)?.u64(snapshot.txg)?;
            out.i64(snapshot.time_nanos)?.u64(snapshot.written_bytes)?.u64(snapshot.holds)?;
        }
        out.u8(13)?.array(self.bookmarks.len() as u64)?;
        for bookmark in &self.bookmarks {
            out.array(4)?.str(&bookmark.mark)?.u64(bookmark.guid)?.u64(bookmark.txg)?;
            out.i64(bookmark.time_nanos)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for ReplicaListing {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        let (mut place, mut datasets) = (None, Vec::new());
        let mut marks_left = REPLICA_MARKS_MAX;
        for _ in 0..entries(decoder.map()?)? {
            match decoder.u64()? {
                0 => place = Some(name(decoder)?),
                1 => {
                    let count = counted(decoder, REPLICA_DATASETS_MAX, "datasets")?;
                    datasets.clear();
                    for _ in 0..count {
                        datasets.push(dataset(decoder, &mut marks_left)?);
                    }
                }
                _ => decoder.skip()?,
            }
        }
        Ok(Self { place: place.ok_or_else(|| missing("place"))?, datasets })
    }
}

fn dataset(decoder: &mut Decoder<'_>, marks_left: &mut usize) -> Result<ListedDataset, Error> {
    let (mut named, mut guid, mut kind, mut encryption, mut origin) = (None, None, None, None, None);
    let mut bytes = [None; 3];
    let (mut is_mounted, mut mountpoint, mut resume_token) = (false, None, None);
    let (mut properties, mut snapshots, mut bookmarks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..entries(decoder.map()?)? {
        match decoder.u64()? {
            0 => named = Some(name(decoder)?),
            1 => guid = Some(decoder.u64()?),
            2 => kind = Some(ReplicaKind::of_number(decoder.u64()?)?),
            3 => {
                tuple(decoder, 2)?;
                encryption = Some(ListedEncryption { root: name(decoder)?, is_loaded: decoder.bool()? });
            }
            4 => origin = Some(name(decoder)?),
            key @ 5..=7 => bytes[key as usize - 5] = Some(decoder.u64()?),
            8 => is_mounted = decoder.bool()?,
            9 => mountpoint = Some(text(decoder)?),
            10 => resume_token = Some(text(decoder)?),
            11 => properties = read_properties(decoder)?,
            12 => snapshots = marks(decoder, marks_left, snapshot)?,
            13 => bookmarks = marks(decoder, marks_left, bookmark)?,
            _ => decoder.skip()?,
        }
    }
    let [written_bytes, used_bytes, referenced_bytes] = bytes;
    Ok(ListedDataset {
        name: named.ok_or_else(|| missing("name"))?,
        guid: guid.ok_or_else(|| missing("GUID"))?,
        kind: kind.ok_or_else(|| missing("kind"))?,
        encryption,
        origin,
        written_bytes: written_bytes.ok_or_else(|| missing("bytes written"))?,
        used_bytes: used_bytes.ok_or_else(|| missing("bytes used"))?,
        referenced_bytes: referenced_bytes.ok_or_else(|| missing("bytes referred to"))?,
        is_mounted,
        mountpoint,
        resume_token,
        properties,
        snapshots,
        bookmarks,
    })
}

/// Snapshots, or bookmarks, of those that there may be still.
fn marks<'b, T>(
    decoder: &mut Decoder<'b>,
    left: &mut usize,
    read: fn(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = counted(decoder, *left, "snapshots and bookmarks more")?;
    *left -= count;
    (0..count).map(|_| read(decoder)).collect()
}

fn snapshot(decoder: &mut Decoder<'_>) -> Result<ListedSnapshot, Error> {
    tuple(decoder, 6)?;
    Ok(ListedSnapshot {
        mark: name(decoder)?,
        guid: decoder.u64()?,
        txg: decoder.u64()?,
        time_nanos: decoder.i64()?,
        written_bytes: decoder.u64()?,
        holds: decoder.u64()?,
    })
}

fn bookmark(decoder: &mut Decoder<'_>) -> Result<ListedBookmark, Error> {
    tuple(decoder, 4)?;
    Ok(ListedBookmark {
        mark: name(decoder)?,
        guid: decoder.u64()?,
        txg: decoder.u64()?,
        time_nanos: decoder.i64()?,
    })
}

fn read_properties(decoder: &mut Decoder<'_>) -> Result<Vec<(String, String)>, Error> {
    let count = counted(decoder, REPLICA_PROPERTIES_MAX, "properties")?;
    let mut properties: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        tuple(decoder, 2)?;
        let (name, value) = (name(decoder)?, text(decoder)?);
        if properties.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Error::message("properties that do not rise"));
        }
        properties.push((name, value));
    }
    Ok(properties)
}

fn name(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    Ok(bounded(decoder, REPLICA_NAME_BYTES_MAX)?.to_owned())
}

/// A text that may be empty.
fn text(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    let text = decoder.str()?;
    match text.len() <= REPLICA_TEXT_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(Error::message(format!("a text of {} bytes", text.len()))),
    }
}

fn entries(count: Option<u64>) -> Result<u64, Error> {
    count.ok_or_else(|| Error::message("a map of an unknown length"))
}

fn tuple(decoder: &mut Decoder<'_>, length: u64) -> Result<(), Error> {
    match decoder.array()? {
        Some(found) if found == length => Ok(()),
        _ => Err(Error::message(format!("an array that has not {length} entries"))),
    }
}

fn counted(decoder: &mut Decoder<'_>, most: usize, what: &str) -> Result<usize, Error> {
    let count = decoder.array()?.ok_or_else(|| Error::message("an array of an unknown length"))?;
    match usize::try_from(count) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(Error::message(format!("{count} {what}, where there can be {most}"))),
    }
}

fn missing(what: &str) -> Error {
    Error::message(format!("it has no {what}"))
}
