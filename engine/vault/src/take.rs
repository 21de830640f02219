//! Reading of fixed and variable fields from bytes that may be anything.

use crate::malformed::Malformed;

/// Version of the frame of signed objects.
const FRAME_VERSION: u8 = 0;

/// Bytes of which one field after the other is taken.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::Short)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian u32.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian u64.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// The eight bytes with which signed objects begin.
    pub fn frame(&mut self, magic: [u8; 4], kind: u8) -> Result<(), Malformed> {
        if self.array()? != magic {
            return Err(Malformed::Field("magic"));
        }
        match self.array()? {
            [FRAME_VERSION, found, 0, 0] if found == kind => Ok(()),
            [FRAME_VERSION, ..] => Err(Malformed::Field("kind")),
            [found, ..] => Err(Malformed::Newer { found, known: FRAME_VERSION }),
        }
    }

    /// LEB128, shortest form, at most 10 bytes.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(Malformed::Field("varint"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Field("varint"))
    }

    /// A varint that is a length of at most `max`.
    pub fn length(&mut self, max: usize) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).ok().filter(|n| *n <= max).ok_or(Malformed::Field("length"))
    }
}

/// The eight bytes with which a signed object begins: magic, version, kind, two zero bytes.
pub fn frame([a, b, c, d]: [u8; 4], kind: u8) -> [u8; 8] {
    [a, b, c, d, FRAME_VERSION, kind, 0, 0]
}

/// Appends LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_every_other_is_refused_by_its_reason() {
        let good = frame(*b"BKSE", 5);
        let read = |bytes: &[u8]| Take::new(bytes).frame(*b"BKSE", 5);
        assert_eq!(read(&good), Ok(()));
        for (place, expected) in [
            (0, Malformed::Field("magic")),
            (4, Malformed::Newer { found: 1, known: 0 }),
            (5, Malformed::Field("kind")),
            (6, Malformed::Field("kind")),
            (7, Malformed::Field("kind")),
        ] {
            let mut other = good;
            other[place] ^= 1;
            assert_eq!(read(&other), Err(expected), "byte {place}");
        }
        assert_eq!(read(&good[..7]), Err(Malformed::Short));
    }

    proptest! {
        #[test]
        fn varints_read_back(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut take = Take::new(&bytes);
            prop_assert_eq!(take.varint(), Ok(value));
            prop_assert!(take.is_empty());
        }

        #[test]
        fn what_reads_as_a_varint_is_its_only_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut take = Take::new(&bytes);
            if let Ok(value) = take.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&bytes[..bytes.len() - take.rest().len()], &again[..]);
            }
        }
    }
}
