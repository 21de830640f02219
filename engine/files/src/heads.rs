//! Rows in groups: each head row together with its further rows, from whatever gives single rows in order.

use crate::keys::is_further;

/// Key and value of one row.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A head row with its further rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// Key of its head row.
    pub key: Vec<u8>,
    /// Value of its head row.
    pub value: Vec<u8>,
    /// Keys and values of its further rows.
    pub further: Vec<KeyValue>,
}

/// Gives single rows in order of key.
pub(crate) trait SingleRows {
    /// Why a row could not be had.
    type Error;

    /// The next row; `None` at the end, and from then on.
    fn read(&mut self) -> Result<Option<KeyValue>, Self::Error>;
}

/// Gives single rows, and can pass over many without reading them.
pub(crate) trait LeapingRows: SingleRows {
    /// Passes over all rows below `key`, which is that of a head row.
    fn seek(&mut self, key: &[u8]) -> Result<(), Self::Error>;
}

/// Puts single rows together.
#[derive(Debug)]
pub(crate) struct HeadRows<R> {
    rows: R,
    next: Option<KeyValue>,
}

impl<R: SingleRows> HeadRows<R> {
    /// Reads from `rows`, of which the first is a head row.
    pub(crate) fn new(rows: R) -> Self {
        Self { rows, next: None }
    }

    /// The row of this key, if there is one. Keys that are asked for rise.
    pub(crate) fn find(&mut self, key: &[u8]) -> Result<Option<FoundRow>, R::Error>
    where
        R: LeapingRows,
    {
        self.seek(key)?;
        match &self.next {
            Some((next, _)) if next == key => self.next(),
            _ => Ok(None),
        }
    }

    /// Passes over the rows below `key`. Keys that are asked for rise.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<(), R::Error>
    where
        R: LeapingRows,
    {
        if self.next.as_ref().is_none_or(|(next, _)| next.as_slice() < key) {
            self.rows.seek(key)?;
            self.next = self.rows.read()?;
        }
        Ok(())
    }

    /// The next head row with its further rows; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<FoundRow>, R::Error> {
        let first = match self.next.take() {
            Some(row) => Some(row),
            None => self.rows.read()?,
        };
        let Some((key, value)) = first else { return Ok(None) };
        let mut row = FoundRow { key, value, further: Vec::new() };
        while let Some(next) = self.rows.read()? {
            if is_further(&next.0) {
                row.further.push(next);
            } else {
                self.next = Some(next);
                break;
            }
        }
        Ok(Some(row))
    }
}
