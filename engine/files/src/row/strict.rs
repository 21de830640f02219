//! Reading of deterministic CBOR (docs/format.md, before section 1): definite lengths, shortest integers,
//! rising integer keys. Refuses every other spelling, so that equal rows are equal bytes.

use super::{RowError, RowFault};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// CBOR of which one item after the other is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strict<'b> {
    rest: &'b [u8],
    /// What is being read, for errors.
    field: &'static str,
}

impl<'b> Strict<'b> {
    pub(super) fn new(bytes: &'b [u8], field: &'static str) -> Self {
        Self { rest: bytes, field }
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Names what is read next.
    pub(super) fn field(&mut self, field: &'static str) -> &mut Self {
        self.field = field;
        self
    }

    pub(super) fn error(&self, fault: RowFault) -> RowError {
        RowError { field: self.field, fault }
    }

    /// A map: `each` is called with every key that rises, and says whether it took the value. Values that it
    /// did not take are skipped.
    pub(super) fn map(
        &mut self,
        mut each: impl FnMut(u64, &mut Self) -> Result<Taken, RowError>,
    ) -> Result<(), RowError> {
        let map = self.field;
        let entries = self.expect(MAP)?;
        let mut before = None;
        for _ in 0..entries {
            self.field = map;
            let key = self.expect(UNSIGNED)?;
            if before.is_some_and(|before| key <= before) {
                return Err(self.error(RowFault::Order));
            }
            before = Some(key);
            match each(key, self)? {
                Taken::Yes => {}
                Taken::No => self.skip()?,
            }
        }
        self.field = map;
        Ok(())
    }

    /// The number of elements of an array that follow, at most `max`.
    pub(super) fn array(&mut self, max: usize) -> Result<usize, RowError> {
        let length = self.expect(ARRAY)?;
        usize::try_from(length).ok().filter(|n| *n <= max).ok_or(self.error(RowFault::Bounds))
    }

    pub(super) fn u64(&mut self) -> Result<u64, RowError> {
        self.expect(UNSIGNED)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RowError> {
        u32::try_from(self.u64()?).map_err(|_| self.error(RowFault::Bounds))
    }

    pub(super) fn i64(&mut self) -> Result<i64, RowError> {
        let (kind, argument) = self.head()?;
        let value = i64::try_from(argument).map_err(|_| self.error(RowFault::Bounds))?;
        match kind {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(-1 - value),
            _ => Err(self.error(RowFault::Type)),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'b [u8], RowError> {
        let length = self.expect(BYTES)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'b str, RowError> {
        let length = self.expect(TEXT)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.error(RowFault::Form))
    }

    /// Passes over one item of any kind.
    pub(super) fn skip(&mut self) -> Result<(), RowError> {
        let mut decoder = minicbor::Decoder::new(self.rest);
        decoder.skip().map_err(|_| self.error(RowFault::Form))?;
        self.rest = &self.rest[decoder.position()..];
        Ok(())
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Result<(), RowError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(RowFault::Long)) }
    }

    fn expect(&mut self, kind: u8) -> Result<u64, RowError> {
        match self.head()? {
            (found, argument) if found == kind => Ok(argument),
            _ => Err(self.error(RowFault::Type)),
        }
    }

    /// The kind of the next item and its argument, in the shortest form.
    fn head(&mut self) -> Result<(u8, u64), RowError> {
        let first = self.take(1)?[0];
        let (length, least) = match first & 0x1f {
            small @ 0..=23 => return Ok((first >> 5, u64::from(small))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(self.error(RowFault::Form)),
        };
        let argument = self.take(length)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if argument < least { Err(self.error(RowFault::Form)) } else { Ok((first >> 5, argument)) }
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], RowError> {
        let taken = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = taken.ok_or(self.error(RowFault::Short))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Whether the value of a key was read.
pub(super) enum Taken {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_a_longer_form_than_needed_are_refused() {
        for bytes in
            [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255], &[0x1b, 0, 0, 0, 0, 1, 2, 3, 4]]
        {
            assert_eq!(Strict::new(bytes, "n").u64(), Err(RowError { field: "n", fault: RowFault::Form }));
        }
        assert_eq!(Strict::new(&[0x18, 24], "n").u64(), Ok(24));
        assert_eq!(Strict::new(&[0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255], "n").i64(), Ok(i64::MIN));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let bytes = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Strict::new(&bytes, "b").bytes(), Err(RowError { field: "b", fault: RowFault::Short }));
    }

    #[test]
    fn keys_must_rise_and_unknown_values_are_passed_over() {
        let mut seen = Vec::new();
        let nested = [0xa2, 1, 0x82, 0xa1, 1, 2, 3, 5, 7];
        let mut strict = Strict::new(&nested, "map");
        strict
            .map(|key, value| match key {
                5 => value.u64().map(|n| seen.push(n)).map(|()| Taken::Yes),
                _ => Ok(Taken::No),
            })
            .unwrap();
        assert_eq!(seen, [7]);
        assert!(strict.end().is_ok());
        let falling = Strict::new(&[0xa2, 5, 7, 1, 2], "map").map(|_, _| Ok(Taken::No));
        assert_eq!(falling, Err(RowError { field: "map", fault: RowFault::Order }));
    }
}
