use backstay_core::id::{ChunkId, ContentId, LinkId};
use proptest::prelude::*;

use super::*;

fn meta() -> impl Strategy<Value = Meta> {
    let attribute = ("[a-z]{1,9}", prop_oneof![Just(0usize), 1..50usize, 4090..4110usize, Just(65536)]);
    let attributes = proptest::collection::btree_map(attribute.0, attribute.1, 0..4).prop_map(|map| {
        let list = map.into_iter().map(|(name, length)| Attribute {
            name: AttributeName::new(name.as_bytes()).unwrap(),
            value: match u32::try_from(length) {
                Ok(length_bytes) if length > INLINE_VALUE_BYTES_MAX => {
                    AttributeValue::Large { length_bytes, id: ContentId::new([5; 32]) }
                }
                _ => AttributeValue::Inline(vec![3; length].into()),
            },
        });
        Attributes::new(list.collect()).unwrap()
    });
    (0..=0o7777u32, any::<u32>(), any::<u32>(), any::<i64>(), 0..FileTime::NANOS_END, attributes).prop_map(
        |(mode, uid, gid, seconds, nanos, attributes)| Meta {
            mode: Permissions::new(mode).unwrap(),
            uid,
            gid,
            mtime: FileTime::new(seconds, nanos).unwrap(),
            attributes,
        },
    )
}

fn object() -> impl Strategy<Value = Object> {
    let number = (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| DeviceNumber { major, minor });
    prop_oneof![
        Just(Object::File(None)),
        (1..=SIZE_BYTES_MAX, any::<[u8; 32]>())
            .prop_map(|(size, id)| Object::file(size, ContentId::new(id)).unwrap()),
        Just(Object::Directory),
        proptest::collection::vec(1..=255u8, 1..40)
            .prop_map(|target| Object::Symlink(SymlinkTarget::new(&target).unwrap())),
        Just(Object::Fifo),
        Just(Object::Socket),
        number.clone().prop_map(Object::CharDevice),
        number.prop_map(Object::BlockDevice),
    ]
}

fn restored() -> impl Strategy<Value = Restored> {
    prop_oneof![
        1 => any::<[u8; 16]>().prop_map(|id| Restored::Link(LinkId::new(id))),
        9 => (object(), meta()).prop_map(|(object, meta)| Restored::Object { object, meta }),
    ]
}

fn seen() -> impl Strategy<Value = Seen> {
    (any::<i64>(), 0..FileTime::NANOS_END, any::<u64>(), any::<u64>()).prop_map(
        |(seconds, nanos, device, inode)| Seen {
            ctime: FileTime::new(seconds, nanos).unwrap(),
            identity: Identity { device, inode },
        },
    )
}

/// References with gaps, from the start of a file.
fn references(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Reference>> {
    let one = (0..3u64, any::<[u8; 32]>(), 0..1000u32, 1..100_000u32);
    proptest::collection::vec(one, count).prop_map(|list| {
        let mut end = 0;
        list.into_iter()
            .map(|(gap, chunk, chunk_offset_bytes, length_bytes)| {
                let chunk = ChunkId::new(chunk);
                let offset_bytes = end + gap * 4096;
                let reference = Reference { offset_bytes, chunk, chunk_offset_bytes, length_bytes };
                end = reference.end_bytes();
                reference
            })
            .collect()
    })
}

fn row() -> impl Strategy<Value = HeadRow> {
    let name = proptest::option::of("[a-z]{1,20}");
    (restored(), proptest::option::of(seen()), name.clone(), name, references(0..17), any::<(bool, u64)>())
        .prop_map(|(restored, seen, user, group, references, (kept, marks))| {
            let mut row = HeadRow { restored, facts: RowFacts { seen, user, group, ..RowFacts::default() } };
            row.facts.marks = Marks::from_bits(marks);
            row.facts.older = if kept { OlderRows::Kept } else { OlderRows::Hidden };
            if let Restored::Object { object, meta } = &row.restored {
                let size = object.size_bytes();
                row.facts.references = references.into_iter().filter(|r| r.end_bytes() <= size).collect();
                row.facts.attribute_references = stored(&meta.attributes);
            }
            row
        })
}

fn stored(attributes: &Attributes) -> Vec<Reference> {
    let chunk = ChunkId::new([8; 32]);
    let reference =
        |(offset_bytes, length_bytes)| Reference { offset_bytes, chunk, chunk_offset_bytes: 0, length_bytes };
    attributes.large_spans().map(reference).collect()
}

fn plain_file(size: u64) -> HeadRow {
    let meta = Meta {
        mode: Permissions::new(0o644).unwrap(),
        uid: 1,
        gid: 2,
        mtime: FileTime::new(3, 4).unwrap(),
        attributes: Attributes::default(),
    };
    let object = Object::file(size, ContentId::new([6; 32])).unwrap();
    HeadRow { restored: Restored::Object { object, meta }, facts: RowFacts::default() }
}

/// CBOR for the first map of an empty file with `extra` at its end.
fn with_extra(extra: &[u8], keys: u8) -> Vec<u8> {
    let mut value = vec![0xa0 + 7 + keys, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0];
    value.extend_from_slice(extra);
    value.push(0xa0);
    value
}

#[test]
fn the_byte_form_is_the_one_of_the_format() {
    let expected = [
        &[0xa8, 0, 0, 1, 0x19, 0x01, 0xa4, 2, 1, 3, 2, 4, 3, 5, 4, 6, 10, 7, 0x58, 32][..],
        &[6; 32],
        &[0xa1, 6, 0x58, 35, 2],
        &[7; 32],
        &[5, 8],
    ]
    .concat();
    let mut row = plain_file(10);
    let chunk = ChunkId::new([7; 32]);
    row.facts.references = vec![Reference { offset_bytes: 2, chunk, chunk_offset_bytes: 5, length_bytes: 8 }];
    assert_eq!(row.encode().unwrap(), expected);
    assert_eq!(HeadRow::decode(&expected), Ok(row));
}

#[test]
fn unknown_keys_are_passed_over_and_belong_to_the_element() {
    let known = with_extra(&[], 0);
    let more = with_extra(&[0x18, 40, 0x82, 1, 0x41, 9], 1);
    assert_eq!(HeadRow::decode(&more), HeadRow::decode(&known));
    assert!(HeadRow::decode(&more).is_ok());
    assert_ne!(element(b"\x01a", &more), element(b"\x01a", &known));
    assert_ne!(element(b"\x01a", &known), element(b"\x01b", &known));
}

#[test]
fn facts_do_not_change_the_element() {
    let row = plain_file(10);
    let mut seen_later = row.clone();
    seen_later.facts.user = Some("backstay".into());
    assert_ne!(row.encode(), seen_later.encode());
    assert_eq!(element(b"\x01a", &row.encode().unwrap()), element(b"\x01a", &seen_later.encode().unwrap()));
}

#[test]
fn hostile_rows_are_refused_by_field() {
    let refused: &[(&[u8], u8, &str, RowFault)] = &[
        (&[8, 0x41, b'x'], 1, "target of the symbolic link", RowFault::Misplaced),
        (&[9, 1], 1, "device number", RowFault::Misplaced),
        (&[12, 0x50, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 1, "link id", RowFault::Misplaced),
        (&[12, 0x41, 1], 1, "link id", RowFault::Bounds),
        (&[11, 0x80], 1, "extended attributes", RowFault::Form),
        (&[11, 0x81, 0x82, 0x40, 0x40], 1, "extended attributes", RowFault::Bounds),
        (&[11, 0x81, 0x82, 0x41, 0, 0x40], 1, "extended attributes", RowFault::Bounds),
        (&[11, 0x82, 0x82, 0x41, 2, 0x40, 0x82, 0x41, 1, 0x40], 1, "extended attributes", RowFault::Order),
        (&[11, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255], 1, "extended attributes", RowFault::Bounds),
    ];
    for (extra, keys, field, fault) in refused {
        let value = with_extra(extra, *keys);
        // A length beyond the end is already found where the two maps are told apart.
        let found = HeadRow::decode(&value).unwrap_err();
        let cut_short = RowError { field: "row", fault: RowFault::Form };
        assert!([RowError { field, fault: *fault }, cut_short].contains(&found), "{extra:?}: {found}");
    }
    let bad_fields: &[(usize, &[u8], &str)] = &[
        (2, &[8], "type"),
        (4, &[0x19, 0x10, 0x00], "mode"),
        (12, &[0x1a, 0x3b, 0x9a, 0xca, 0x00], "mtime"),
    ];
    for (at, replacement, field) in bad_fields {
        let mut value = with_extra(&[], 0);
        value.splice(*at..at + 1, replacement.iter().copied());
        let expected = RowError { field, fault: RowFault::Bounds };
        assert_eq!(HeadRow::decode(&value), Err(expected));
    }
}

#[test]
fn a_file_needs_size_and_content_id() {
    let too_large = [
        &[0xa8, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0, 7, 0x58, 32][..],
        &[6; 32],
        &[0xa0],
    ]
    .concat();
    assert_eq!(HeadRow::decode(&too_large).unwrap_err(), RowError { field: "size", fault: RowFault::Bounds });
    let without_id = [0xa7, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 9, 0xa0];
    let missing = RowError { field: "content id", fault: RowFault::Missing };
    assert_eq!(HeadRow::decode(&without_id).unwrap_err(), missing);
}

#[test]
fn references_beyond_the_file_or_the_chunk_are_refused() {
    let chunk = ChunkId::new([7; 32]);
    let mut row = plain_file(10);
    row.facts.references = vec![Reference { offset_bytes: 3, chunk, chunk_offset_bytes: 0, length_bytes: 8 }];
    assert_eq!(HeadRow::decode(&row.encode().unwrap()).unwrap_err().fault, RowFault::Bounds);
    for (chunk_offset_bytes, length_bytes) in [(0, 0), (16 << 20, 1), (u32::MAX, u32::MAX)] {
        let unsound = Reference { offset_bytes: 0, chunk, chunk_offset_bytes, length_bytes };
        row.facts.references = vec![unsound];
        assert_eq!(row.encode().unwrap_err().fault, RowFault::Bounds);
        let mut bytes = vec![0];
        bytes.extend([7; 32]);
        varint::put(&mut bytes, chunk_offset_bytes.into());
        varint::put(&mut bytes, length_bytes.into());
        assert_eq!(reference::decode(&bytes, 0, 1).unwrap_err().fault, RowFault::Bounds);
    }
    let mut overflow = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    overflow.extend([7; 32]);
    overflow.extend([0, 1]);
    assert_eq!(reference::decode(&overflow, 1, 1).unwrap_err().fault, RowFault::Bounds);
}

#[test]
fn the_largest_row_fits_into_an_entry_of_a_run() {
    let name = |n: usize| AttributeName::new(format!("user.{n:>250}").as_bytes()).unwrap();
    let weight = Attribute::weight(&name(0), INLINE_VALUE_BYTES_MAX + 1);
    let large = (0..ATTRIBUTES_BYTES_MAX / weight).map(|n| Attribute {
        name: name(n),
        value: AttributeValue::Large { length_bytes: 65536, id: ContentId::new([1; 32]) },
    });
    let mut row = plain_file(SIZE_BYTES_MAX);
    let Restored::Object { meta, .. } = &mut row.restored else { unreachable!("a file") };
    meta.attributes = Attributes::new(large.collect()).unwrap();
    row.facts.attribute_references = stored(&meta.attributes);
    row.facts.user = Some("u".repeat(OWNER_NAME_BYTES_MAX));
    let chunk = ChunkId::new([7; 32]);
    let far = SIZE_BYTES_MAX / 20;
    row.facts.references = (0..HEAD_REFERENCES_MAX as u64)
        .map(|n| Reference {
            offset_bytes: n * far,
            chunk,
            chunk_offset_bytes: 1 << 23,
            length_bytes: 1 << 23,
        })
        .collect();
    let value = row.encode().unwrap();
    assert!(value.len() <= backstay_core::run::VALUE_BYTES_MAX, "{}", value.len());
    assert_eq!(HeadRow::decode(&value), Ok(row));
}

#[test]
fn each_large_attribute_has_one_reference_of_its_length() {
    let large = |name: &str| Attribute {
        name: AttributeName::new(name.as_bytes()).unwrap(),
        value: AttributeValue::Large { length_bytes: 5000, id: ContentId::new([1; 32]) },
    };
    let mut row = plain_file(0);
    let Restored::Object { meta, .. } = &mut row.restored else { unreachable!("a file") };
    meta.attributes = Attributes::new(vec![large("a"), large("b")]).unwrap();
    row.facts.attribute_references = stored(&meta.attributes);
    assert_eq!(HeadRow::decode(&row.encode().unwrap()), Ok(row.clone()));
    let refused = Err(RowError { field: "references of attributes", fault: RowFault::Bounds });
    let mut one_for_both = row.clone();
    one_for_both.facts.attribute_references.truncate(1);
    one_for_both.facts.attribute_references[0].length_bytes = 10_000;
    assert_eq!(HeadRow::decode(&one_for_both.encode().unwrap()), refused);
    row.facts.attribute_references.clear();
    assert_eq!(HeadRow::decode(&row.encode().unwrap()), refused);
}

/// Spreads `references` over rows and reads them back as a restore would.
fn through_rows(references: &[Reference]) -> Vec<Reference> {
    let head_key = b"\x01file";
    let mut rows = ReferenceRows::new(head_key);
    let mut further = Vec::new();
    for reference in references {
        further.extend(rows.push(*reference).unwrap());
    }
    let written = rows.finish().unwrap();
    further.extend(written.last_row);
    assert!(further.is_sorted());

    let facts = RowFacts { references: written.head, references_total: written.total, ..RowFacts::default() };
    let mut check = ReferenceCheck::new(SIZE_BYTES_MAX, &facts).unwrap();
    let mut read = facts.references;
    for (key, value) in further {
        let (head, offset) = crate::keys::split_further(&key);
        assert_eq!(head, head_key);
        let row = decode_further(offset.expect("a further row"), &value).unwrap();
        check.row(&row).unwrap();
        read.extend(row);
    }
    check.finish().unwrap();
    read
}

#[test]
fn missing_or_doubled_further_rows_are_noticed() {
    let chunk = ChunkId::new([7; 32]);
    let all: Vec<_> = (0..17u64)
        .map(|n| Reference { offset_bytes: n * 10, chunk, chunk_offset_bytes: 0, length_bytes: 10 })
        .collect();
    let facts =
        RowFacts { references: all[..16].to_vec(), references_total: Some(17), ..RowFacts::default() };
    let check = || ReferenceCheck::new(170, &facts).unwrap();
    assert_eq!(check().finish().unwrap_err().fault, RowFault::Missing);
    assert_eq!(check().row(&all[15..]).unwrap_err().fault, RowFault::Order);
    let mut short_file = ReferenceCheck::new(169, &facts).unwrap();
    assert_eq!(short_file.row(&all[16..]).unwrap_err().fault, RowFault::Bounds);
    let mut complete = check();
    complete.row(&all[16..]).unwrap();
    assert_eq!(complete.finish(), Ok(()));
}

proptest! {
    #[test]
    fn rows_read_back(row in row()) {
        let value = row.encode().unwrap();
        prop_assert_eq!(HeadRow::decode(&value).unwrap(), row.clone());
        prop_assert_eq!(keeps_contents(&value).unwrap(), row.facts.older);
    }

    #[test]
    fn references_of_any_number_read_back(references in references(0..700)) {
        prop_assert_eq!(through_rows(&references), references);
    }

    #[test]
    fn a_row_with_a_flipped_bit_is_refused_or_is_another_sound_row(
        row in row(), at in any::<proptest::sample::Index>(), bit in 0..8u32,
    ) {
        let mut value = row.encode().unwrap();
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        if let Ok(other) = HeadRow::decode(&value) {
            prop_assert_eq!(HeadRow::decode(&other.encode().unwrap()), Ok(other));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = HeadRow::decode(&value);
        let _ = decode_further(5, &value);
        let _ = keeps_contents(&value);
    }
}
