//! The byte form of rows. One row has one form: keys rise, what is absent is not written.

use std::convert::Infallible;

use minicbor::Encoder;

use super::{
    ATTRIBUTE_REFERENCES_MAX, Attribute, AttributeValue, Attributes, FURTHER_REFERENCES_MAX,
    HEAD_REFERENCES_MAX, HeadRow, Meta, OWNER_NAME_BYTES_MAX, Object, OlderRows, Reference, Restored,
    RowError, RowFacts, RowFault, reference,
};

type Out = Encoder<Vec<u8>>;
type Written = Result<(), minicbor::encode::Error<Infallible>>;

pub(super) fn head(row: &HeadRow) -> Result<Vec<u8>, RowError> {
    check_facts(&row.facts)?;
    let references = reference::encode(&row.facts.references, 0)?;
    let attribute_references = reference::encode(&row.facts.attribute_references, 0)?;
    let mut out = Encoder::new(Vec::with_capacity(160));
    restored(&mut out, &row.restored)
        .and_then(|()| facts(&mut out, &row.facts, &references, &attribute_references))
        .map_err(|_| RowError { field: "row", fault: RowFault::Bounds })?;
    Ok(out.into_writer())
}

/// The value of a further row with these references, of which there is at least one. Its key holds the
/// offset of the first, so the first gap is 0.
pub fn encode_further(references: &[Reference]) -> Result<Vec<u8>, RowError> {
    let error = |fault| RowError { field: "references", fault };
    let first = references.first().ok_or(error(RowFault::Missing))?;
    if references.len() > FURTHER_REFERENCES_MAX {
        return Err(error(RowFault::Bounds));
    }
    let bytes = reference::encode(references, first.offset_bytes)?;
    let mut out = Encoder::new(Vec::with_capacity(bytes.len() + 8));
    let written: Written = (|| out.map(1)?.u8(6)?.bytes(&bytes)?.ok())();
    written.map_err(|_| error(RowFault::Bounds))?;
    Ok(out.into_writer())
}

fn check_facts(facts: &RowFacts) -> Result<(), RowError> {
    let too_long = |name: &Option<String>| name.as_ref().is_some_and(|n| n.len() > OWNER_NAME_BYTES_MAX);
    let bounds = |field| Err(RowError { field, fault: RowFault::Bounds });
    if too_long(&facts.user) || too_long(&facts.group) {
        return bounds("owner name");
    }
    if facts.references.len() > HEAD_REFERENCES_MAX {
        return bounds("references");
    }
    if facts.attribute_references.len() > ATTRIBUTE_REFERENCES_MAX {
        return bounds("references of attributes");
    }
    Ok(())
}

fn restored(out: &mut Out, restored: &Restored) -> Written {
    let (object, meta) = match restored {
        Restored::Link(id) => return out.map(2)?.u8(0)?.u8(7)?.u8(12)?.bytes(id.as_bytes())?.ok(),
        Restored::Object { object, meta } => (object, meta),
    };
    let attributes = u64::from(!meta.attributes.is_empty());
    out.map(COMMON_KEYS + keys_of(object) + attributes)?.u8(0)?.u8(type_of(object))?;
    common(out, meta)?;
    match object {
        Object::File(None) => out.u8(6)?.u8(0)?.ok(),
        Object::File(Some(contents)) => {
            out.u8(6)?.u64(contents.size_bytes())?.u8(7)?.bytes(contents.id().as_bytes())?.ok()
        }
        Object::Symlink(target) => out.u8(8)?.bytes(target.as_bytes())?.ok(),
        Object::CharDevice(number) | Object::BlockDevice(number) => {
            out.u8(9)?.u32(number.major)?.u8(10)?.u32(number.minor)?.ok()
        }
        Object::Directory | Object::Fifo | Object::Socket => Ok(()),
    }?;
    if attributes == 1 { attribute_list(out, &meta.attributes) } else { Ok(()) }
}

/// Type, mode, uid, gid, mtime in two parts.
const COMMON_KEYS: u64 = 6;

fn common(out: &mut Out, meta: &Meta) -> Written {
    out.u8(1)?.u32(meta.mode.bits())?.u8(2)?.u32(meta.uid)?.u8(3)?.u32(meta.gid)?;
    out.u8(4)?.i64(meta.mtime.seconds())?.u8(5)?.u32(meta.mtime.nanos())?.ok()
}

fn type_of(object: &Object) -> u8 {
    match object {
        Object::File(_) => 0,
        Object::Directory => 1,
        Object::Symlink(_) => 2,
        Object::Fifo => 3,
        Object::Socket => 4,
        Object::CharDevice(_) => 5,
        Object::BlockDevice(_) => 6,
    }
}

fn keys_of(object: &Object) -> u64 {
    match object {
        Object::File(None) | Object::Symlink(_) => 1,
        Object::File(Some(_)) | Object::CharDevice(_) | Object::BlockDevice(_) => 2,
        Object::Directory | Object::Fifo | Object::Socket => 0,
    }
}

fn attribute_list(out: &mut Out, attributes: &Attributes) -> Written {
    out.u8(11)?.array(attributes.len() as u64)?;
    for Attribute { name, value } in attributes.iter() {
        match value {
            AttributeValue::Inline(value) => out.array(2)?.bytes(name.as_bytes())?.bytes(value)?,
            AttributeValue::Large { length_bytes, id } => {
                out.array(3)?.bytes(name.as_bytes())?.u32(*length_bytes)?.bytes(id.as_bytes())?
            }
        };
    }
    Ok(())
}

fn facts(out: &mut Out, facts: &RowFacts, references: &[u8], attribute_references: &[u8]) -> Written {
    let keys = [
        facts.user.is_some(),
        facts.group.is_some(),
        !references.is_empty(),
        facts.references_total.is_some(),
        facts.older == OlderRows::Kept,
        facts.marks.bits() != 0,
        !attribute_references.is_empty(),
    ];
    let seen_keys = if facts.seen.is_some() { 4 } else { 0 };
    out.map(seen_keys + keys.iter().filter(|present| **present).count() as u64)?;
    if let Some(seen) = &facts.seen {
        out.u8(0)?.i64(seen.ctime.seconds())?.u8(1)?.u32(seen.ctime.nanos())?;
        out.u8(2)?.u64(seen.identity.device)?.u8(3)?.u64(seen.identity.inode)?;
    }
    if let Some(user) = &facts.user {
        out.u8(4)?.str(user)?;
    }
    if let Some(group) = &facts.group {
        out.u8(5)?.str(group)?;
    }
    if !references.is_empty() {
        out.u8(6)?.bytes(references)?;
    }
    if let Some(total) = facts.references_total {
        out.u8(7)?.u64(total)?;
    }
    if facts.older == OlderRows::Kept {
        out.u8(8)?.u8(1)?;
    }
    if facts.marks.bits() != 0 {
        out.u8(9)?.u64(facts.marks.bits())?;
    }
    if !attribute_references.is_empty() {
        out.u8(10)?.bytes(attribute_references)?;
    }
    Ok(())
}
