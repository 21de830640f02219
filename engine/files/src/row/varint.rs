//! LEB128 in its shortest form, as in docs/format.md.

use super::{RowError, RowFault};

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one off the front of `rest`.
pub(super) fn take(rest: &mut &[u8], field: &'static str) -> Result<u64, RowError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(RowError { field, fault: RowFault::Short })?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(RowError { field, fault: RowFault::Form })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_reads_as_a_varint_is_its_only_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = &bytes[..];
            if let Ok(value) = take(&mut rest, "varint") {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &again[..]);
            }
        }

        #[test]
        fn varints_read_back(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(take(&mut &bytes[..], "varint"), Ok(value));
        }
    }
}
