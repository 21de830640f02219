//! Headers of a tar archive in the form of POSIX.1-2001 ("pax", IEEE Std 1003.1, pax, "pax Interchange Format"), with
//! what GNU tar and libarchive have agreed on for extended attributes (`SCHILY.xattr.`) and sparse files
//! (`GNU.sparse`, version 1.0).

use tar::{EntryType, Header};

use crate::row::{Meta, Object, Reference};
use crate::stat::FileTime;

/// Greatest length of a name in the header itself, bytes.
const NAME_BYTES_MAX: usize = 100;

/// Greatest number in the octal digits that a header has for owners.
const OWNER_MAX: u64 = 0o7_777_777;

/// The same for sizes and times.
const NUMBER_MAX: u64 = 0o77_777_777_777;

/// The size of a block of an archive, bytes.
pub(super) const BLOCK_BYTES: u64 = 512;

/// What an entry is.
#[derive(Debug)]
pub(super) enum Entry<'e> {
    /// An object. Sockets are for the caller to leave out.
    Object(&'e Object),
    /// Another name of a file that came before, under this one.
    Link(&'e [u8]),
}

/// One entry without its contents.
#[derive(Debug)]
pub(super) struct Described<'e> {
    /// Path with slashes.
    pub(super) path: &'e [u8],
    pub(super) entry: Entry<'e>,
    pub(super) meta: &'e Meta,
    pub(super) user: Option<&'e str>,
    pub(super) group: Option<&'e str>,
    /// Names and whole values.
    pub(super) attributes: &'e [(Vec<u8>, Vec<u8>)],
    /// The map of a file with holes that is stored without them.
    pub(super) sparse: Option<&'e SparseMap>,
}

/// Which stretches of a file are stored: its own text before the contents, padded to whole blocks.
#[derive(Debug)]
pub(super) struct SparseMap {
    pub(super) text: Vec<u8>,
    /// Bytes of all stretches together.
    pub(super) data_bytes: u64,
}

impl SparseMap {
    /// Of a file that has enough holes to be worth it; neighbouring stretches are one.
    pub(super) fn worth_it(references: &[Reference], size_bytes: u64) -> Option<Self> {
        let data_bytes: u64 = references.iter().map(|reference| u64::from(reference.length_bytes)).sum();
        if size_bytes - data_bytes < HOLES_LEAST_BYTES {
            return None;
        }
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for reference in references {
            match stretches.last_mut() {
                Some((begins, length)) if *begins + *length == reference.offset_bytes => {
                    *length += u64::from(reference.length_bytes);
                }
                _ => stretches.push((reference.offset_bytes, reference.length_bytes.into())),
            }
        }
        // A hole at the end is a stretch of no length there.
        if stretches.last().is_none_or(|(begins, length)| begins + length < size_bytes) {
            stretches.push((size_bytes, 0));
        }
        let lines = stretches.iter().map(|(begins, length)| format!("{begins}\n{length}\n"));
        let mut text = format!("{}\n{}", stretches.len(), lines.collect::<String>()).into_bytes();
        text.resize(text.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        Some(Self { text, data_bytes })
    }
}

/// Fewer bytes of holes are stored as zeros: simpler readers understand the file then.
const HOLES_LEAST_BYTES: u64 = 64 << 10;

impl Described<'_> {
    /// The header, with one before it for what does not fit in.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut records = Records::default();
        let mut header = Header::new_ustar();
        header.set_entry_type(self.entry_type());
        header.set_mode(self.meta.mode.bits());
        name(&mut header.as_old_mut().name, "path", self.path, &mut records);
        if let Some(target) = self.target() {
            name(&mut header.as_old_mut().linkname, "linkpath", target, &mut records);
        }
        header.set_uid(number("uid", self.meta.uid.into(), OWNER_MAX, &mut records));
        header.set_gid(number("gid", self.meta.gid.into(), OWNER_MAX, &mut records));
        time(&mut header, self.meta.mtime, &mut records);
        owner("uname", self.user, &mut records, |name| header.set_username(name).is_ok());
        owner("gname", self.group, &mut records, |name| header.set_groupname(name).is_ok());
        if let Entry::Object(Object::CharDevice(device) | Object::BlockDevice(device)) = self.entry {
            // They always fit: Linux has 12 and 20 bits for them, the header 21.
            let fits = header.set_device_major(device.major).and(header.set_device_minor(device.minor));
            debug_assert!(fits.is_ok(), "a ustar header has them");
        }
        if let Some(SparseMap { text, .. }) = self.sparse {
            records.push("GNU.sparse.major", b"1");
            records.push("GNU.sparse.minor", b"0");
            records.push("GNU.sparse.name", self.path);
            records.push("GNU.sparse.realsize", self.size_bytes().to_string().as_bytes());
            debug_assert!((text.len() as u64).is_multiple_of(BLOCK_BYTES), "the map is padded");
        }
        header.set_size(number("size", self.stored_bytes(), NUMBER_MAX, &mut records));
        for (name, value) in self.attributes {
            records.push_bytes(&[b"SCHILY.xattr.", escaped(name).as_slice()].concat(), value);
        }
        header.set_cksum();
        let mut bytes = records.into_entry(self.path);
        bytes.extend_from_slice(header.as_bytes());
        bytes
    }

    /// Bytes of contents as they are stored, a map among them.
    pub(super) fn stored_bytes(&self) -> u64 {
        match self.sparse {
            Some(map) => map.text.len() as u64 + map.data_bytes,
            None => self.size_bytes(),
        }
    }

    fn size_bytes(&self) -> u64 {
        match self.entry {
            Entry::Object(object) => object.size_bytes(),
            Entry::Link(_) => 0,
        }
    }

    fn target(&self) -> Option<&[u8]> {
        match self.entry {
            Entry::Link(first) => Some(first),
            Entry::Object(Object::Symlink(target)) => Some(target.as_bytes()),
            Entry::Object(_) => None,
        }
    }

    fn entry_type(&self) -> EntryType {
        match self.entry {
            Entry::Link(_) => EntryType::Link,
            Entry::Object(object) => match object {
                Object::Directory => EntryType::Directory,
                Object::Symlink(_) => EntryType::Symlink,
                Object::Fifo => EntryType::Fifo,
                Object::CharDevice(_) => EntryType::Char,
                Object::BlockDevice(_) => EntryType::Block,
                Object::File(_) | Object::Socket => EntryType::Regular,
            },
        }
    }
}

/// A name of an attribute as GNU tar writes it: a record ends its key at the first `=`.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => escaped.extend_from_slice(b"%3D"),
            b'%' => escaped.extend_from_slice(b"%25"),
            byte => escaped.push(*byte),
        }
    }
    escaped
}

/// Writes a name into its field, and into a record what does not fit.
fn name(field: &mut [u8; NAME_BYTES_MAX], key: &str, value: &[u8], records: &mut Records) {
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
    if value.len() > field.len() || !value.is_ascii() {
        records.push(key, value);
    }
}

fn number(key: &str, value: u64, greatest: u64, records: &mut Records) -> u64 {
    if value <= greatest {
        return value;
    }
    records.push(key, value.to_string().as_bytes());
    0
}

/// Whole seconds go into the header, everything else into a record: before 1970 and parts of a second.
fn time(header: &mut Header, mtime: FileTime, records: &mut Records) {
    let (seconds, nanos) = (mtime.seconds(), mtime.nanos());
    let plain = u64::try_from(seconds).ok().filter(|seconds| *seconds <= NUMBER_MAX);
    header.set_mtime(plain.unwrap_or(0));
    if nanos != 0 || plain.is_none() {
        records.push("mtime", decimal(seconds, nanos).as_bytes());
    }
}

/// Seconds with their parts as a decimal number: those before 1970 count backwards.
fn decimal(seconds: i64, nanos: u32) -> String {
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}

fn owner(key: &str, name: Option<&str>, records: &mut Records, set: impl FnOnce(&str) -> bool) {
    if let Some(name) = name
        && !(name.is_ascii() && set(name))
    {
        records.push(key, name.as_bytes());
    }
}

/// Records of an extended header.
#[derive(Debug, Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, key: &str, value: &[u8]) {
        self.push_bytes(key.as_bytes(), value);
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    fn push_bytes(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// The records as an entry of their own; nothing when there are none.
    fn into_entry(self, of: &[u8]) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        let last = of.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let called = [b"./PaxHeaders/", &last[..last.len().min(60)]].concat();
        header.as_old_mut().name[..called.len()].copy_from_slice(&called);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.0.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.0);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for value in [0, 1, 2, 80, 85, 86, 87, 88, 89, 90, 91, 980, 985, 986, 987, 988, 990, 9990] {
            let mut records = Records::default();
            records.push("path", &vec![b'x'; value]);
            let text = String::from_utf8(records.0).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len(), "a value of {value} bytes");
        }
    }

    #[test]
    fn times_before_1970_are_written_as_negative_numbers() {
        assert_eq!(decimal(5, 0), "5");
        assert_eq!(decimal(5, 1_000), "5.000001000");
        assert_eq!(decimal(-1, 500_000_000), "-0.500000000");
        assert_eq!(decimal(-2, 250_000_000), "-1.750000000");
        assert_eq!(decimal(-7, 0), "-7");
    }
}
