//! Messages about live replicas, and their listing.

use minicbor::Encoder;
use proptest::prelude::*;

use super::{hex, map};
use crate::peer::*;

fn of(what: ReplicaRequest) -> Request {
    Request::Replica { space: "alpha".into(), service: "web".into(), what }
}

fn arriving(makes: Option<ReplicaMakes>) -> ReplicaArriving {
    let (replica, mark) = ("p/a".to_owned(), "s".to_owned());
    ReplicaArriving { member: 7, replica, mark, guid: 9, form: StreamForm::Raw, makes }
}

#[test]
fn each_message_has_the_bytes_of_the_specification() {
    let replica = || "p/a".to_owned();
    let makes = ReplicaMakes { kind: ReplicaKind::Filesystem, origin: Some("p/b@s".into()) };
    let changes = [
        (ReplicaChange::Rename { from: replica(), to: "p/b".into() }, "a6", "0e63702f62 1401"),
        (ReplicaChange::SetAside { replica: replica() }, "a5", "1402"),
        (ReplicaChange::Adopt { replica: replica(), member: 7 }, "a6", "0f07 1403"),
        (ReplicaChange::Abort { replica: replica() }, "a5", "1404"),
        (ReplicaChange::MarkGone { replica: replica() }, "a5", "1405"),
        (ReplicaChange::MarkThere { replica: replica() }, "a5", "1406"),
    ];
    let changes = changes
        .map(|(change, map, rest)| (ReplicaRequest::Change(change), map, 13, format!("0d63702f61 {rest}")));
    let settle = ReplicaRequest::Settle { replica: replica(), guid: 9, flow: 5 };
    let others = [
        (ReplicaRequest::List, "a3", 12, String::new()),
        (ReplicaRequest::Receive(arriving(None)), "a8", 14, "0d63702f61 0f07 106173 1109 1201".to_owned()),
        (
            ReplicaRequest::Receive(arriving(Some(makes))),
            "aa",
            14,
            "0d63702f61 0f07 106173 1109 1201 1300 1565702f624073".to_owned(),
        ),
        (settle, "a6", 15, "0d63702f61 1109 1605".to_owned()),
        (ReplicaRequest::Complete { set: "s".into() }, "a4", 16, "176173".to_owned()),
    ];
    for (what, map, number, rest) in changes.into_iter().chain(others) {
        let bytes = format!("{map} 00{number:02x} 0165616c706861 0c63776562 {rest}");
        let frame = encode(&of(what.clone())).unwrap();
        assert_eq!(hex(&frame[PREFIX_BYTES..]), bytes.replace(' ', ""), "{what:?}");
        assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(of(what)));
    }
    let refused = Answer::RefusedByZfs { doing: "x".into(), number: 28 };
    let frame = encode(&refused).unwrap();
    assert_eq!(hex(&frame[PREFIX_BYTES..]), "a300060e617814181c");
    assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(refused));
}

#[test]
fn a_change_of_a_later_version_is_not_known_and_is_told_so() {
    let change = |number: u8| {
        map(5, |out| {
            out.u8(0).unwrap().u8(13).unwrap().u8(1).unwrap().str("alpha").unwrap();
            out.u8(12).unwrap().str("web").unwrap().u8(13).unwrap().str("p/a").unwrap();
            out.u8(20).unwrap().u8(number).unwrap();
        })
    };
    let gone = ReplicaRequest::Change(ReplicaChange::MarkGone { replica: "p/a".into() });
    assert_eq!(decode(&change(5)), Ok(of(gone)));
    assert_eq!(decode(&change(7)), Ok(Request::Unknown { what: 13 }));
}

#[test]
fn what_breaks_the_rules_is_refused_with_the_reason() {
    let refused = |what: ReplicaRequest| {
        let frame = encode(&of(what)).unwrap();
        decode::<Request>(&frame[PREFIX_BYTES..]).unwrap_err().to_string()
    };
    let long = "x".repeat(REPLICA_NAME_BYTES_MAX + 1);
    let abort = ReplicaChange::Abort { replica: long.clone() };
    assert!(refused(ReplicaRequest::Change(abort)).contains("its replica is empty or too long"));
    let unmarked = ReplicaArriving { mark: String::new(), ..arriving(None) };
    assert!(refused(ReplicaRequest::Receive(unmarked)).contains("its name of a snapshot"));
    let makes = ReplicaMakes { kind: ReplicaKind::Volume, origin: Some(long) };
    assert!(refused(ReplicaRequest::Receive(arriving(Some(makes)))).contains("its origin"));
    let unnamed =
        Request::Replica { space: "alpha".into(), service: String::new(), what: ReplicaRequest::List };
    let frame = encode(&unnamed).unwrap();
    assert!(decode::<Request>(&frame[PREFIX_BYTES..]).unwrap_err().to_string().contains("its service"));
    let incomplete = map(4, |out| {
        out.u8(0).unwrap().u8(15).unwrap().u8(1).unwrap().str("alpha").unwrap();
        out.u8(12).unwrap().str("web").unwrap().u8(13).unwrap().str("p/a").unwrap();
    });
    assert!(decode::<Request>(&incomplete).unwrap_err().to_string().contains("it has no GUID"));
}

fn dataset() -> ListedDataset {
    let encryption = ListedEncryption { root: "p".into(), is_loaded: true };
    let (mark, time_nanos) = ("s".to_owned(), -1);
    ListedDataset {
        name: "p/a".into(),
        guid: 1,
        kind: ReplicaKind::Volume,
        encryption: Some(encryption),
        origin: Some("p/b@s".into()),
        written_bytes: 2,
        used_bytes: 3,
        referenced_bytes: 4,
        is_mounted: false,
        mountpoint: Some("none".into()),
        resume_token: Some("1-2".into()),
        properties: vec![("gone".into(), String::new())],
        snapshots: vec![ListedSnapshot {
            mark: mark.clone(),
            guid: 5,
            txg: 6,
            time_nanos,
            written_bytes: 7,
            holds: 8,
        }],
        bookmarks: vec![ListedBookmark { mark, guid: 5, txg: 6, time_nanos }],
    }
}

fn listing(datasets: Vec<ListedDataset>) -> ReplicaListing {
    ReplicaListing { place: "p/a".into(), datasets }
}

fn bare() -> ListedDataset {
    ListedDataset {
        encryption: None,
        origin: None,
        mountpoint: None,
        resume_token: None,
        properties: Vec::new(),
        snapshots: Vec::new(),
        bookmarks: Vec::new(),
        ..dataset()
    }
}

#[test]
fn a_listing_has_the_bytes_of_the_specification() {
    let whole = "a2 00 63702f61 01 81 ae 00 63702f61 01 01 02 01 03 82 6170 f5 04 65702f624073 05 02 06 03 07 04 08 f4
        09 646e6f6e65 0a 63312d32 0b 81 82 64676f6e65 60 0c 81 86 6173 05 06 20 07 08 0d 81 84 6173 05 06 20";
    let little = "a2 00 63702f61 01 81 aa 00 63702f61 01 01 02 01 05 02 06 03 07 04 08 f4 0b 80 0c 80 0d 80";
    for (datasets, bytes) in
        [(vec![dataset()], whole), (vec![bare()], little), (Vec::new(), "a2 00 63702f61 01 80")]
    {
        let payload = listing(datasets.clone()).to_payload().unwrap();
        assert_eq!(hex(&payload), bytes.replace([' ', '\n'], ""));
        assert_eq!(ReplicaListing::of_payload(&payload), Ok(listing(datasets)));
    }
}

#[test]
fn a_listing_of_too_much_is_neither_sent_nor_read() {
    let mark = || ListedBookmark { mark: "s".into(), guid: 5, txg: 6, time_nanos: 0 };
    let half = ListedDataset { bookmarks: vec![mark(); REPLICA_MARKS_MAX / 2], ..bare() };
    assert!(listing(vec![half.clone(), half.clone()]).to_payload().is_ok());
    let text = |count: usize| "x".repeat(count);
    let too_much = [
        (listing(vec![half.clone(), half, dataset()]), "snapshots and bookmarks"),
        (listing(vec![bare(); REPLICA_DATASETS_MAX + 1]), "datasets"),
        (
            listing(vec![ListedDataset { name: text(REPLICA_NAME_BYTES_MAX + 1), ..bare() }]),
            "a text of 257 bytes",
        ),
        (
            listing(vec![ListedDataset { resume_token: Some(text(REPLICA_TEXT_BYTES_MAX + 1)), ..bare() }]),
            "a text of 16385 bytes",
        ),
        (
            listing(vec![ListedDataset { mountpoint: Some(text(REPLICA_TEXT_BYTES_MAX)), ..bare() }; 1024]),
            "where there can be 16777216",
        ),
        (
            listing(vec![ListedDataset {
                properties: (0..=REPLICA_PROPERTIES_MAX).map(|n| (format!("{n:03}"), text(1))).collect(),
                ..bare()
            }]),
            "properties",
        ),
        (
            listing(vec![ListedDataset {
                properties: ["b", "a"].map(|name| (name.to_owned(), text(1))).to_vec(),
                ..bare()
            }]),
            "do not rise",
        ),
    ];
    for (listing, why) in too_much {
        let error = listing.to_payload().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_short_text_that_announces_much_makes_nobody_allocate_it() {
    let announced = map(2, |out| {
        out.u8(0).unwrap().str("p").unwrap().u8(1).unwrap().array(16_384).unwrap();
    });
    assert!(ReplicaListing::of_payload(&announced).is_err());
    for keys in [11, 12, 13] {
        let mut body = Vec::new();
        let mut out = Encoder::new(&mut body);
        out.map(2).unwrap().u8(0).unwrap().str("p").unwrap().u8(1).unwrap().array(1).unwrap();
        out.map(1).unwrap().u8(keys).unwrap().array(u64::MAX).unwrap();
        let error = ReplicaListing::of_payload(&body).unwrap_err().to_string();
        assert!(error.contains("where there can be"), "{error}");
    }
    let mut longer = listing(Vec::new()).to_payload().unwrap();
    longer.push(0);
    assert!(ReplicaListing::of_payload(&longer).unwrap_err().to_string().contains("something follows it"));
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9/]{1,60}"
}

fn change() -> impl Strategy<Value = ReplicaChange> {
    prop_oneof![
        (name(), name()).prop_map(|(from, to)| ReplicaChange::Rename { from, to }),
        name().prop_map(|replica| ReplicaChange::SetAside { replica }),
        (name(), any::<u64>()).prop_map(|(replica, member)| ReplicaChange::Adopt { replica, member }),
        name().prop_map(|replica| ReplicaChange::Abort { replica }),
        name().prop_map(|replica| ReplicaChange::MarkGone { replica }),
        name().prop_map(|replica| ReplicaChange::MarkThere { replica }),
    ]
}

fn any_arriving() -> impl Strategy<Value = ReplicaArriving> {
    let kind = || prop_oneof![Just(ReplicaKind::Filesystem), Just(ReplicaKind::Volume)];
    let form = prop_oneof![Just(StreamForm::Plain), Just(StreamForm::Raw)];
    let makes =
        (kind(), proptest::option::of(name())).prop_map(|(kind, origin)| ReplicaMakes { kind, origin });
    (any::<u64>(), name(), name(), any::<u64>(), form, proptest::option::of(makes)).prop_map(
        |(member, replica, mark, guid, form, makes)| ReplicaArriving {
            member,
            replica,
            mark,
            guid,
            form,
            makes,
        },
    )
}

fn what() -> impl Strategy<Value = ReplicaRequest> {
    prop_oneof![
        Just(ReplicaRequest::List),
        change().prop_map(ReplicaRequest::Change),
        any_arriving().prop_map(ReplicaRequest::Receive),
        (name(), any::<u64>(), any::<u64>()).prop_map(|(replica, guid, flow)| ReplicaRequest::Settle {
            replica,
            guid,
            flow
        }),
        name().prop_map(|set| ReplicaRequest::Complete { set }),
    ]
}

proptest! {
    #[test]
    fn a_request_that_is_sent_is_the_one_that_is_read(what in what()) {
        let frame = encode(&of(what.clone())).unwrap();
        prop_assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(of(what)));
    }

    #[test]
    fn bytes_of_any_kind_break_nothing(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ReplicaListing::of_payload(&body);
    }

    #[test]
    fn a_listing_that_is_damaged_breaks_nothing(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = listing(vec![dataset(), bare()]).to_payload().unwrap();
        let at = at.index(payload.len());
        payload[at] = byte;
        if let Ok(read) = ReplicaListing::of_payload(&payload) {
            prop_assert_eq!(ReplicaListing::of_payload(&read.to_payload().unwrap()), Ok(read));
        }
    }
}
