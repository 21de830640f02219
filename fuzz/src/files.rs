//! Rows and keys of directory trees (docs/format.md, section 11).

use backstay_files::keys::{RowKey, split_further};
use backstay_files::row::{HeadRow, decode_further, element, encode_further, keeps_contents, split};

/// The value of a head row.
pub fn files_row(data: &[u8]) {
    let _ = keeps_contents(data);
    let _ = element(b"\x01key", data);
    let Ok(row) = HeadRow::decode(data) else { return };
    let (restored, _) = split(data).expect("what decodes can be taken apart");
    assert!(restored.len() < data.len());
    let again = row.encode().expect("what was decoded is within the bounds");
    assert_eq!(HeadRow::decode(&again), Ok(row));
}

/// The value of a further row, after the offset that its key gives (u64).
pub fn files_further_row(data: &[u8]) {
    let Some((offset, value)) = data.split_first_chunk() else { return };
    let Ok(references) = decode_further(u64::from_le_bytes(*offset), value) else { return };
    let overlap = references.windows(2).any(|pair| pair[0].end_bytes() > pair[1].offset_bytes);
    assert!(!overlap, "{references:?}");
    let again = encode_further(&references).expect("what was decoded is within the bounds");
    assert_eq!(decode_further(u64::from_le_bytes(*offset), &again), Ok(references));
}

/// The key of a row.
pub fn files_key(data: &[u8]) {
    let (head, further) = split_further(data);
    assert!(data.starts_with(head) && further.is_some() == (head.len() < data.len()));
    match RowKey::parse(data) {
        Ok(RowKey::Head(key)) => assert_eq!(key.to_bytes(), data),
        Ok(RowKey::Further { head: key, first_offset_bytes }) => {
            assert_eq!((key.to_bytes().as_slice(), Some(first_offset_bytes)), (head, further));
        }
        Err(_) => {}
    }
}
