//! The CBOR of objects as docs/format.md describes it, written out by hand: keys, order, and how what is absent looks.

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId, PointId, SessionId, SourceId, VaultId};
use backstay_core::layout::{Accepted, Layout, PlacedRun, ReplacedRun};
use backstay_core::point::{PointLink, VaultPart};
use backstay_core::run::{PartRef, Run};
use backstay_core::units::Timestamp;
use backstay_vault::commit_object::{
    BadList, FenceObject, GcRecord, SessionKind, SessionObject, SessionState,
};
use backstay_vault::malformed::{decode_cbor, encode_cbor};

/// `50` and 16 bytes.
fn short(byte: u8) -> Vec<u8> {
    [&[0x50], &[byte; 16][..]].concat()
}

/// `58 20` and 32 bytes.
fn long(byte: u8) -> Vec<u8> {
    [&[0x58, 0x20], &[byte; 32][..]].concat()
}

fn link(point: u8, object: u8) -> PointLink {
    PointLink { point: PointId::new([point; 16]), object: ObjectHash::new([object; 32]) }
}

/// Array of two.
fn link_bytes(point: u8, object: u8) -> Vec<u8> {
    [&[0x82][..], &short(point), &long(object)].concat()
}

fn part() -> PartRef {
    PartRef {
        root: ChunkId::new([0xaa; 32]),
        root_length: 9,
        first_key: b"a".to_vec(),
        last_key: b"b".to_vec(),
        entries: 7,
    }
}

/// Array of five.
fn part_bytes() -> Vec<u8> {
    [&[0x85][..], &long(0xaa), &[9, 0x41, b'a', 0x41, b'b', 7]].concat()
}

/// The value has these bytes, and these bytes are the value.
fn is<T>(value: &T, bytes: &[&[u8]])
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    assert_eq!(encode_cbor(value), bytes.concat());
    assert_eq!(decode_cbor::<T>(&bytes.concat()).as_ref(), Ok(value));
}

#[test]
fn a_session() {
    let session = SessionObject {
        session: SessionId::new([1; 16]),
        node: "n".into(),
        counter: 2,
        state: SessionState::Acknowledged,
        start: Timestamp::from_nanos(3),
        pins: vec![PointId::new([4; 16])],
        sources: vec![SourceId::new([5; 16])],
        kind: SessionKind::Reader,
        collection: CollectionNumber::new(6),
    };
    is(
        &session,
        &[
            &[0xa9, 0],
            &short(1),
            &[1, 0x61, b'n', 2, 2, 3, 1, 4, 3, 5, 0x81],
            &short(4),
            &[6, 0x81],
            &short(5),
            &[7, 2, 8, 6],
        ],
    );
    let writer = SessionObject { kind: SessionKind::Writer, state: SessionState::GivenUp, ..session };
    let bytes = encode_cbor(&writer);
    assert!(bytes.ends_with(&[7, 1, 8, 6]) && bytes[22..].starts_with(&[2, 2, 3, 2]), "{bytes:x?}");
}

#[test]
fn a_fence() {
    let fence = FenceObject {
        session: SessionId::new([1; 16]),
        time: Timestamp::from_nanos(2),
        reason: "r".into(),
        collection: CollectionNumber::new(3),
        sources: vec![SourceId::new([4; 16]), SourceId::new([5; 16])],
    };
    is(&fence, &[&[0xa5, 0], &short(1), &[1, 2, 2, 0x61, b'r', 3, 3, 4, 0x82], &short(4), &short(5)]);
}

#[test]
fn a_gc_record() {
    let record = GcRecord {
        number: CollectionNumber::new(1),
        term: 2,
        packs: vec![PackId::new([3; 32])],
        index: vec![ObjectHash::new([4; 32])],
        bad: None,
    };
    is(&record, &[&[0xa4, 0, 1, 1, 2, 2, 0x81], &long(3), &[3, 0x81], &long(4)]);
    let record = GcRecord { bad: Some(5), ..record };
    is(&record, &[&[0xa5, 0, 1, 1, 2, 2, 0x81], &long(3), &[3, 0x81], &long(4), &[4, 5]]);
}

#[test]
fn a_list_of_what_is_lost() {
    let list =
        BadList { number: 1, term: 2, time: Timestamp::from_nanos(3), lost: vec![ChunkId::new([4; 32])] };
    is(&list, &[&[0xa4, 0, 1, 1, 2, 2, 3, 3, 0x81], &long(4)]);
}

#[test]
fn a_layout() {
    let accepted =
        Accepted { link: link(1, 2), retention_time: Timestamp::from_nanos(3), holds: vec!["h".into()] };
    let run = Run { parts: vec![part()] };
    let layout = Layout {
        generation: 4,
        previous: Some(ObjectHash::new([5; 32])),
        term: 6,
        accepted: vec![accepted],
        runs: vec![
            PlacedRun { from: None, to: link(1, 2), run: Run::default() },
            PlacedRun { from: Some(link(1, 2)), to: link(7, 8), run },
        ],
        decided: vec![SessionId::new([9; 16])],
        dropped: vec![link(7, 8)],
        decided_below: CollectionNumber::new(10),
        collection: CollectionNumber::new(11),
        replaced: Vec::new(),
    };
    is(
        &layout,
        &[
            &[0xa9, 0, 4, 1],
            &long(5),
            &[2, 6, 3, 0x81, 0x83],
            &link_bytes(1, 2),
            &[3, 0x81, 0x61, b'h'],
            &[4, 0x82, 0x83, 0xf6],
            &link_bytes(1, 2),
            &[0x80],
            &[0x83],
            &link_bytes(1, 2),
            &link_bytes(7, 8),
            &[0x81],
            &part_bytes(),
            &[5, 0x81],
            &short(9),
            &[6, 0x81],
            &link_bytes(7, 8),
            &[7, 10, 8, 11],
        ],
    );
}

#[test]
fn a_layout_with_a_run_that_was_replaced() {
    let replaced = ReplacedRun { run: Run { parts: vec![part()] }, collection: CollectionNumber::new(12) };
    let layout = Layout { replaced: vec![replaced], ..Layout::default() };
    let empty = [0, 0, 2, 0, 3, 0x80, 4, 0x80, 5, 0x80, 6, 0x80, 7, 0, 8, 0];
    is(&layout, &[&[0xa9], &empty, &[9, 0x81, 0x82, 0x81], &part_bytes(), &[12]]);
}

#[test]
fn the_vault_part_of_a_point() {
    let part = VaultPart {
        retention_time: None,
        vault: VaultId::new([1; 16]),
        parent: Some(link(2, 3)),
        run: vec![part()],
        previous_head: None,
        session: SessionId::new([4; 16]),
        partial: None,
        collection: CollectionNumber::new(5),
    };
    is(
        &part,
        &[
            &[0xa5, 0],
            &short(1),
            &[1],
            &link_bytes(2, 3),
            &[2, 0x81],
            &part_bytes(),
            &[4],
            &short(4),
            &[6, 5],
        ],
    );
}
