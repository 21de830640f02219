//! The names in one directory, sorted, packed closely: of a huge directory this is all that is held.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

/// Greatest sum of the lengths of the names in one directory, bytes.
pub(crate) const NAMES_BYTES_MAX: usize = 1 << 30;

/// Bytes asked of the kernel at a time.
const BUFFER_BYTES: usize = 32 * 1024;

/// Sorted names.
#[derive(Debug)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    length: u8,
}

impl Names {
    /// The names in `directory` for which `wanted` says yes, without `.` and `..`.
    pub(crate) fn read(directory: impl AsFd, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Self, Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut names = Self { bytes: Vec::new(), spans: Vec::new() };
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && wanted(name) {
                names.push(name)?;
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, place: usize) -> &[u8] {
        self.spans[place].of(&self.bytes)
    }

    fn push(&mut self, name: &[u8]) -> Result<(), Errno> {
        if self.bytes.len() + name.len() > NAMES_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        let start = u32::try_from(self.bytes.len()).map_err(|_| Errno::FBIG)?;
        let length = u8::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.bytes.extend_from_slice(name);
        self.spans.push(Span { start, length });
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| a.of(bytes).cmp(b.of(bytes)));
        // Some file systems list a name twice when the directory changes meanwhile.
        self.spans.dedup_by(|a, b| a.of(bytes) == b.of(bytes));
        self.bytes.shrink_to_fit();
        self.spans.shrink_to_fit();
    }
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_that_is_listed_twice_comes_once() {
        let mut names = Names { bytes: Vec::new(), spans: Vec::new() };
        for name in [&b"b"[..], b"a", b"b", b"a", b"ab"] {
            names.push(name).unwrap();
        }
        names.sort();
        let list: Vec<&[u8]> = (0..names.len()).map(|place| names.get(place)).collect();
        assert_eq!(list, [&b"a"[..], b"ab", b"b"]);
    }

    #[test]
    fn names_come_sorted_by_their_bytes_and_unwanted_ones_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a!", "a", "é", "Z", "leave out"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = Names::read(fs::File::open(dir.path()).unwrap(), |name| name != b"leave out").unwrap();
        let list: Vec<&[u8]> = (0..names.len()).map(|place| names.get(place)).collect();
        assert_eq!(list, [&b"Z"[..], b"a", b"a!", b"b", "é".as_bytes()]);
    }
}
