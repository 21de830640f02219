//! From bytes that may be anything to rows that can be relied on.

use std::num::NonZeroU64;

use backstay_core::id::{ContentId, LinkId};
use backstay_core::run::VALUE_BYTES_MAX as ROW_BYTES_MAX;

use crate::stat::{FileTime, Identity};

use super::strict::{Strict, Taken};
use super::{
    ATTRIBUTE_REFERENCES_MAX, ATTRIBUTES_MAX, Attribute, AttributeName, AttributeValue, Attributes, Contents,
    DeviceNumber, FURTHER_REFERENCES_MAX, HEAD_REFERENCES_MAX, HeadRow, Marks, Meta, OWNER_NAME_BYTES_MAX,
    Object, OlderRows, Permissions, Reference, Restored, RowError, RowFacts, RowFault, Seen, SymlinkTarget,
    reference,
};

/// The two maps of a head row: what a restore reproduces, and the facts. Looks only at where they end.
pub fn split(value: &[u8]) -> Result<(&[u8], &[u8]), RowError> {
    let mut strict = Strict::new(value, "row");
    if value.len() > ROW_BYTES_MAX {
        return Err(strict.error(RowFault::Bounds));
    }
    strict.skip()?;
    Ok(value.split_at(value.len() - strict.rest().len()))
}

/// Whether the value of a head row says that older further rows stay. Looks at nothing else.
pub fn keeps_contents(value: &[u8]) -> Result<OlderRows, RowError> {
    let (_, facts) = split(value)?;
    let mut older = OlderRows::Hidden;
    Strict::new(facts, "facts").map(|key, value| match key {
        8 => older_rows(value).map(|found| older = found).map(|()| Taken::Yes),
        _ => Ok(Taken::No),
    })?;
    Ok(older)
}

pub(super) fn head(value: &[u8]) -> Result<HeadRow, RowError> {
    let (first, second) = split(value)?;
    let row = HeadRow { restored: RestoredFields::read(first)?.into_restored()?, facts: facts(second)? };
    check_agreement(&row)?;
    Ok(row)
}

/// The references of a further row whose key gives `first_offset_bytes`: at least one, in order.
pub fn decode_further(first_offset_bytes: u64, value: &[u8]) -> Result<Vec<Reference>, RowError> {
    let missing = RowError { field: "references", fault: RowFault::Missing };
    let mut bytes = None;
    let mut strict = Strict::new(value, "further row");
    strict.map(|key, value| match key {
        6 => value.field("references").bytes().map(|found| bytes = Some(found)).map(|()| Taken::Yes),
        _ => Ok(Taken::No),
    })?;
    strict.end()?;
    let references = reference::decode(bytes.ok_or(missing)?, first_offset_bytes, FURTHER_REFERENCES_MAX)?;
    match references.first() {
        None => Err(missing),
        Some(first) if first.offset_bytes != first_offset_bytes => {
            Err(RowError { field: "references", fault: RowFault::Form })
        }
        Some(_) => Ok(references),
    }
}

/// The first map as it stands, before it is known which fields belong to the type.
#[derive(Default)]
struct RestoredFields<'b> {
    kind: Option<u64>,
    mode: Option<Permissions>,
    uid: Option<u32>,
    gid: Option<u32>,
    seconds: Option<i64>,
    nanos: Option<u32>,
    size: Option<u64>,
    content: Option<ContentId>,
    target: Option<&'b [u8]>,
    major: Option<u32>,
    minor: Option<u32>,
    attributes: Option<Attributes>,
    link: Option<LinkId>,
}

impl<'b> RestoredFields<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, RowError> {
        let mut fields = Self::default();
        let mut strict = Strict::new(bytes, "row");
        strict.map(|key, value| fields.field(key, value))?;
        strict.end()?;
        Ok(fields)
    }

    fn field(&mut self, key: u64, value: &mut Strict<'b>) -> Result<Taken, RowError> {
        match key {
            0 => self.kind = Some(value.field("type").u64()?),
            1 => {
                let bits = value.field("mode").u32()?;
                self.mode = Some(Permissions::new(bits).ok_or(value.error(RowFault::Bounds))?);
            }
            2 => self.uid = Some(value.field("uid").u32()?),
            3 => self.gid = Some(value.field("gid").u32()?),
            4 => self.seconds = Some(value.field("mtime").i64()?),
            5 => self.nanos = Some(value.field("mtime").u32()?),
            6 => self.size = Some(value.field("size").u64()?),
            7 => {
                let id = ContentId::from_slice(value.field("content id").bytes()?);
                self.content = Some(id.ok_or(value.error(RowFault::Bounds))?);
            }
            8 => self.target = Some(value.field("target of the symbolic link").bytes()?),
            9 => self.major = Some(value.field("major number").u32()?),
            10 => self.minor = Some(value.field("minor number").u32()?),
            11 => self.attributes = Some(attributes(value.field("extended attributes"))?),
            12 => {
                let id = LinkId::from_slice(value.field("link id").bytes()?);
                self.link = Some(id.ok_or(value.error(RowFault::Bounds))?);
            }
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    }

    /// Sorts the fields by type. What is left over does not belong to the type.
    fn into_restored(mut self) -> Result<Restored, RowError> {
        let restored = match required("type", &mut self.kind)? {
            7 => Restored::Link(required("link id", &mut self.link)?),
            kind => Restored::Object { object: self.object(kind)?, meta: self.meta()? },
        };
        let left_over = [
            ("mode", self.mode.is_some()),
            ("uid", self.uid.is_some()),
            ("gid", self.gid.is_some()),
            ("mtime", self.seconds.is_some() || self.nanos.is_some()),
            ("size", self.size.is_some()),
            ("content id", self.content.is_some()),
            ("target of the symbolic link", self.target.is_some()),
            ("device number", self.major.is_some() || self.minor.is_some()),
            ("extended attributes", self.attributes.is_some()),
            ("link id", self.link.is_some()),
        ];
        match left_over.iter().find(|(_, present)| *present) {
            Some((field, _)) => Err(RowError { field, fault: RowFault::Misplaced }),
            None => Ok(restored),
        }
    }

    fn object(&mut self, kind: u64) -> Result<Object, RowError> {
        Ok(match kind {
            0 => Object::File(self.contents()?),
            1 => Object::Directory,
            2 => {
                let field = "target of the symbolic link";
                let target = SymlinkTarget::new(required(field, &mut self.target)?);
                Object::Symlink(target.ok_or(RowError { field, fault: RowFault::Bounds })?)
            }
            3 => Object::Fifo,
            4 => Object::Socket,
            5 => Object::CharDevice(self.device_number()?),
            6 => Object::BlockDevice(self.device_number()?),
            _ => return Err(RowError { field: "type", fault: RowFault::Bounds }),
        })
    }

    fn contents(&mut self) -> Result<Option<Contents>, RowError> {
        let size = required("size", &mut self.size)?;
        NonZeroU64::new(size)
            .map(|size| {
                let id = required("content id", &mut self.content)?;
                Contents::new(size, id).ok_or(RowError { field: "size", fault: RowFault::Bounds })
            })
            .transpose()
    }

    fn device_number(&mut self) -> Result<DeviceNumber, RowError> {
        Ok(DeviceNumber {
            major: required("major number", &mut self.major)?,
            minor: required("minor number", &mut self.minor)?,
        })
    }

    fn meta(&mut self) -> Result<Meta, RowError> {
        let (seconds, nanos) = (required("mtime", &mut self.seconds)?, required("mtime", &mut self.nanos)?);
        Ok(Meta {
            mode: required("mode", &mut self.mode)?,
            uid: required("uid", &mut self.uid)?,
            gid: required("gid", &mut self.gid)?,
            mtime: time("mtime", seconds, nanos)?,
            attributes: self.attributes.take().unwrap_or_default(),
        })
    }
}

fn required<T>(field: &'static str, value: &mut Option<T>) -> Result<T, RowError> {
    value.take().ok_or(RowError { field, fault: RowFault::Missing })
}

fn time(field: &'static str, seconds: i64, nanos: u32) -> Result<FileTime, RowError> {
    FileTime::new(seconds, nanos).ok_or(RowError { field, fault: RowFault::Bounds })
}

fn attributes(value: &mut Strict<'_>) -> Result<Attributes, RowError> {
    let count = value.array(ATTRIBUTES_MAX)?;
    // An empty list has one form only: no key.
    if count == 0 {
        return Err(value.error(RowFault::Form));
    }
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        let parts = value.array(3)?;
        let name = AttributeName::new(value.bytes()?).ok_or(value.error(RowFault::Bounds))?;
        let value = match parts {
            2 => AttributeValue::Inline(value.bytes()?.into()),
            3 => AttributeValue::Large {
                length_bytes: value.u32()?,
                id: ContentId::from_slice(value.bytes()?).ok_or(value.error(RowFault::Bounds))?,
            },
            _ => return Err(value.error(RowFault::Form)),
        };
        list.push(Attribute { name, value });
    }
    Attributes::from_sorted(list)
}

fn facts(bytes: &[u8]) -> Result<RowFacts, RowError> {
    let mut facts = RowFacts::default();
    let (mut seconds, mut nanos, mut device, mut inode) = (None, None, None, None);
    let mut strict = Strict::new(bytes, "facts");
    strict.map(|key, value| {
        match key {
            0 => seconds = Some(value.field("ctime").i64()?),
            1 => nanos = Some(value.field("ctime").u32()?),
            2 => device = Some(value.field("device").u64()?),
            3 => inode = Some(value.field("inode").u64()?),
            4 => facts.user = Some(owner_name(value.field("user name"))?),
            5 => facts.group = Some(owner_name(value.field("group name"))?),
            6 => {
                let bytes = value.field("references").bytes()?;
                facts.references = reference::decode(bytes, 0, HEAD_REFERENCES_MAX)?;
            }
            7 => facts.references_total = Some(value.field("number of references").u64()?),
            8 => facts.older = older_rows(value.field("kept"))?,
            9 => facts.marks = Marks::from_bits(value.field("marks").u64()?),
            10 => {
                let bytes = value.field("references of attributes").bytes()?;
                facts.attribute_references = reference::decode(bytes, 0, ATTRIBUTE_REFERENCES_MAX)?;
            }
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    strict.end()?;
    facts.seen = match (seconds, nanos, device, inode) {
        (None, None, None, None) => None,
        (Some(seconds), Some(nanos), Some(device), Some(inode)) => {
            Some(Seen { ctime: time("ctime", seconds, nanos)?, identity: Identity { device, inode } })
        }
        _ => return Err(RowError { field: "ctime, device or inode", fault: RowFault::Missing }),
    };
    Ok(facts)
}

fn owner_name(value: &mut Strict<'_>) -> Result<String, RowError> {
    let name = value.text()?;
    if name.len() > OWNER_NAME_BYTES_MAX { Err(value.error(RowFault::Bounds)) } else { Ok(name.to_owned()) }
}

fn older_rows(value: &mut Strict<'_>) -> Result<OlderRows, RowError> {
    if value.u64()? == 1 { Ok(OlderRows::Kept) } else { Err(value.error(RowFault::Bounds)) }
}

/// That the facts are about the object: references lie within it, and large attributes are all there.
fn check_agreement(row: &HeadRow) -> Result<(), RowError> {
    let facts = &row.facts;
    let nothing = Attributes::default();
    let (size, attributes) = match &row.restored {
        Restored::Object { object, meta } => (object.size_bytes(), &meta.attributes),
        Restored::Link(_) => (0, &nothing),
    };
    let error = |field, fault| Err(RowError { field, fault });
    if facts.references.last().is_some_and(|last| last.end_bytes() > size) {
        return error("references", RowFault::Bounds);
    }
    match facts.references_total {
        Some(_) if facts.references.len() < HEAD_REFERENCES_MAX => {
            return error("references", RowFault::Missing);
        }
        Some(total) if total <= HEAD_REFERENCES_MAX as u64 || total > size => {
            return error("number of references", RowFault::Bounds);
        }
        _ => {}
    }
    // One reference for each, without gaps: both count the same bytes from 0 on.
    let stored = facts.attribute_references.iter().map(|r| (r.offset_bytes, r.length_bytes));
    if !stored.eq(attributes.large_spans()) {
        return error("references of attributes", RowFault::Bounds);
    }
    Ok(())
}
