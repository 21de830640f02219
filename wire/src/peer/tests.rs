//! The bytes of each message, and what becomes of those that are not as they should be.

use std::time::Duration;

use minicbor::Encoder;
use proptest::prelude::*;

use super::*;

mod replica;

fn hello() -> Hello {
    Hello {
        major: MAJOR,
        minor: MINOR,
        software: "0.1.0".into(),
        kind: ConnectionKind::Bulk,
        fleet: "home".into(),
        node: "alpha".into(),
        capabilities: vec!["a".into(), "b".into()],
        time_nanos: -1,
        roster: 3,
        fleet_file: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message from a map that is written by hand.
fn map(entries: u64, write: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut body = Vec::new();
    let mut out = Encoder::new(&mut body);
    out.map(entries).unwrap();
    write(&mut out);
    body
}

#[test]
fn each_message_has_the_bytes_of_the_specification() {
    let space = || "alpha".to_owned();
    let requests = [
        (
            Request::Put { space: space(), name: "a/b".into(), length: 9, hash: [7; 32], renews: None },
            "a5000101656 16c7068610263612f6203090458200707070707070707070707070707070707070707070707070707070707070707",
        ),
        (Request::Get { space: space(), name: "a/b".into() }, "a300020165616c7068610263612f62"),
        (
            Request::GetRange { space: space(), name: "a/b".into(), offset: 256, length: 9 },
            "a500030165616c7068610263612f62030905190100",
        ),
        (
            Request::List { space: space(), folder: "a/".into(), after: Some("a/b".into()) },
            "a400040165616c7068610662612f0763612f62",
        ),
        (Request::Delete { space: space(), names: vec!["a/b".into()] }, "a300050165616c706861088163612f62"),
        (Request::Room { space: space() }, "a200060165616c706861"),
        (
            Request::Append { space: space(), name: "a/b".into(), offset: 256, length: 9, hash: [7; 32] },
            "a6000701 65616c706861 0263612f62 0309 045820 0707070707070707070707070707070707070707070707070707070707070707 05190100",
        ),
        (Request::Roster, "a10008"),
        (
            Request::OfferRoster { length: 9, hash: [7; 32] },
            "a300090309045820 0707070707070707070707070707070707070707070707070707070707070707",
        ),
        (Request::Renew, "a1000a"),
        (
            Request::Standing { space: space(), vault: "nas".into(), source: [7; 16] },
            "a4000b0165616c7068610a636e61730b50 07070707070707070707070707070707",
        ),
    ];
    for (request, bytes) in requests {
        let frame = encode(&request).unwrap();
        assert_eq!(hex(&frame[PREFIX_BYTES..]), bytes.replace(' ', ""), "{request:?}");
        assert_eq!(frame[..PREFIX_BYTES], (frame.len() as u32 - 4).to_be_bytes());
    }
    let listed = Listed { name: "a/b".into(), bytes: 9 };
    let refusal =
        Refusal { reason: Reason::Busy, text: "later".into(), retry_after: Some(Duration::from_nanos(5)) };
    let proof = ProofThere { level: 2, end_nanos: 30, took_nanos: 5, failures: 0 };
    let standing = Standing {
        until_nanos: Some(42),
        newest: Some(NewestThere { id: [7; 16].into(), time_nanos: 7, number: 8 }),
        proofs: vec![proof],
        problem: Some("full".into()),
    };
    let answers = [
        (Answer::Done, "a10000"),
        (Answer::Object { length: 9 }, "a200010309"),
        (Answer::Page { entries: vec![listed.clone()], has_more: false }, "a20002098182 63612f6209"),
        (Answer::Page { entries: vec![listed], has_more: true }, "a30002098182 63612f62090af5"),
        (Answer::Room { free_bytes: 1, used_bytes: 2 }, "a300030b010c02"),
        (Answer::Certificate { chain: vec![vec![1, 2]] }, "a2000410 81420102"),
        (Answer::Standing(Standing::default()), "a10005"),
        (
            Answer::Standing(standing),
            "a50005 0e64 66756c6c 11182a 12835007070707070707070707070707070707 0708 1381840218 1e0500",
        ),
        (Answer::Refused(refusal), "a400100d0c0e656c617465720f05"),
    ];
    for (answer, bytes) in answers {
        assert_eq!(hex(&encode(&answer).unwrap()[PREFIX_BYTES..]), bytes.replace(' ', ""), "{answer:?}");
    }
    let bytes =
        "a9000001010265302e312e3003010464686f6d650565616c70686106826161616207 200803".replace(' ', "");
    assert_eq!(hex(&encode(&hello()).unwrap()[PREFIX_BYTES..]), bytes);
    let with_file = Hello { fleet_file: Some([7; 32]), ..hello() };
    let frame = encode(&with_file).unwrap();
    assert_eq!(hex(&frame[PREFIX_BYTES..]), format!("aa{}095820{}", &bytes[2..], "07".repeat(32)));
    assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(with_file));
}

#[test]
fn what_enrols_a_node_has_the_bytes_of_the_specification() {
    let request = JoinRequest {
        node: "alpha".into(),
        tls_key: [1; 32],
        signing_key: [2; 32],
        recipient: "age1x".into(),
        authority: vec![3],
        proof: [4; 32],
    };
    let key = |byte: &str| format!("5820{}", byte.repeat(32));
    let bytes = format!(
        "a70000 0165616c706861 02{} 03{} 04 65 6167653178 05 4103 06{}",
        key("01"),
        key("02"),
        key("04")
    );
    let frame = encode(&request).unwrap();
    assert_eq!(hex(&frame[PREFIX_BYTES..]), bytes.replace(' ', ""));
    assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(request));
    let welcome = Welcome { chain: vec![vec![1]], bundle: vec![2], roster_length: 3, fleet_file_length: 4 };
    let refusal = Refusal { reason: Reason::Denied, text: "over".into(), retry_after: None };
    for (answer, bytes) in [
        (JoinAnswer::Welcome(welcome), "a5000001814101024102 03030404"),
        (JoinAnswer::Refused(refusal), "a300100d040e646f766572"),
    ] {
        let frame = encode(&answer).unwrap();
        assert_eq!(hex(&frame[PREFIX_BYTES..]), bytes.replace(' ', ""), "{answer:?}");
        assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(answer));
    }
}

#[test]
fn keys_that_are_not_known_are_skipped_and_requests_that_are_not_known_are_told() {
    let later = map(4, |out| {
        out.u8(0).unwrap().u8(2).unwrap().u8(1).unwrap().str("alpha").unwrap();
        out.u8(2).unwrap().str("a/b").unwrap();
        out.u64(900).unwrap().array(1).unwrap().str("of a later version").unwrap();
    });
    let get = Request::Get { space: "alpha".into(), name: "a/b".into() };
    assert_eq!(decode(&later), Ok(get));
    // Also where a key that is known means something else there.
    let unknown = map(2, |out| {
        out.u8(0).unwrap().u8(77).unwrap().u8(1).unwrap().bool(true).unwrap();
    });
    assert_eq!(decode(&unknown), Ok(Request::Unknown { what: 77 }));
    let refused = map(2, |out| {
        out.u8(0).unwrap().u8(16).unwrap().u8(13).unwrap().u8(200).unwrap();
    });
    let Ok(Answer::Refused(refusal)) = decode(&refused) else { panic!("{refused:?}") };
    assert_eq!(refusal.reason, Reason::Fault);
}

#[test]
fn of_another_major_version_nothing_else_is_read() {
    let other = map(3, |out| {
        out.u8(0).unwrap().u8(7).unwrap().u8(3).unwrap().str("not a kind").unwrap();
        out.u8(5).unwrap().u8(1).unwrap();
    });
    assert_eq!(decode::<Hello>(&other).map(|hello| hello.major), Ok(7));
    let newer = Hello { minor: 9, ..hello() };
    assert_eq!(decode(&encode(&newer).unwrap()[PREFIX_BYTES..]), Ok(newer));
}

#[test]
fn a_refusal_in_the_place_of_a_hello_is_one() {
    let refusal = Refusal {
        reason: Reason::Denied,
        text: "not held".into(),
        retry_after: Some(Duration::from_secs(5)),
    };
    for greeting in [Greeting::Hello(hello()), Greeting::Refused(refusal)] {
        let frame = encode(&greeting).unwrap();
        assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(greeting));
    }
    let done = encode(&Answer::Done).unwrap();
    assert!(decode::<Greeting>(&done[PREFIX_BYTES..]).is_err());
}

#[test]
fn what_breaks_the_rules_is_refused_with_the_reason() {
    let put = |length: u64| Request::Put {
        space: "a".into(),
        name: "b".into(),
        length,
        hash: [0; 32],
        renews: None,
    };
    let of = |frame: Vec<u8>| frame[PREFIX_BYTES..].to_vec();
    let request = |body: &[u8]| decode::<Request>(body).unwrap_err().to_string();
    assert!(request(&of(encode(&put(PAYLOAD_BYTES_MAX + 1)).unwrap())).contains("are more than"));
    let names = vec!["a".to_owned(); DELETE_NAMES_MAX + 1];
    let delete = Request::Delete { space: "a".into(), names };
    assert!(request(&of(encode(&delete).unwrap())).contains("names"));
    let space = Request::Room { space: "x".repeat(65) };
    assert!(request(&of(encode(&space).unwrap())).contains("its space is empty or too long"));
    let mut longer = of(encode(&put(1)).unwrap());
    longer.push(0);
    assert!(request(&longer).contains("something follows it"));
    let append =
        |length| Request::Append { space: "a".into(), name: "b".into(), offset: 0, length, hash: [0; 32] };
    assert!(decode::<Request>(&of(encode(&append(APPEND_BYTES_MAX)).unwrap())).is_ok());
    assert!(request(&of(encode(&append(APPEND_BYTES_MAX + 1)).unwrap())).contains("to append at once"));
    assert!(request(&map(0, |_| {})).contains("does not begin with what it asks for"));
    let falling = Answer::Page {
        entries: ["b", "a"].map(|name| Listed { name: name.into(), bytes: 1 }).to_vec(),
        has_more: false,
    };
    let body = of(encode(&falling).unwrap());
    assert!(decode::<Answer>(&body).unwrap_err().to_string().contains("do not rise"));
    let endless = of(encode(&Answer::Page { entries: Vec::new(), has_more: true }).unwrap());
    assert!(decode::<Answer>(&endless).unwrap_err().to_string().contains("not the last"));
    let many = Hello { capabilities: (0..65).map(|n| format!("c{n:02}")).collect(), ..hello() };
    let body = of(encode(&many).unwrap());
    assert!(decode::<Hello>(&body).unwrap_err().to_string().contains("65 capabilities"));
}

#[test]
fn a_length_is_judged_before_anything_is_read() {
    assert_eq!(body_length([0, 0, 0, 1]), Ok(1));
    assert_eq!(body_length((MESSAGE_BYTES_MAX as u32).to_be_bytes()), Ok(MESSAGE_BYTES_MAX));
    for length in [0, MESSAGE_BYTES_MAX as u32 + 1, u32::MAX] {
        assert_eq!(body_length(length.to_be_bytes()), Err(FrameError::Length(length as usize)));
    }
    let names = vec!["x".repeat(1000); 100];
    assert!(matches!(encode(&Request::Delete { space: "a".into(), names }), Err(FrameError::Length(_))));
}

#[test]
fn a_refusal_of_any_length_can_be_sent() {
    let refusal = Refusal {
        reason: Reason::Fault,
        text: "ä".repeat(2000),
        retry_after: Some(Duration::from_secs(1 << 40)),
    };
    let body = encode(&Answer::Refused(refusal)).unwrap();
    let Ok(Answer::Refused(read)) = decode(&body[PREFIX_BYTES..]) else { panic!("{body:?}") };
    assert_eq!((read.text.len(), read.retry_after), (1024, Some(WAIT_MAX)));
}

#[test]
fn numbers_of_reasons_are_those_of_the_specification() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.number(), place as u64 + 1);
        assert_eq!(Reason::of_number(reason.number()), reason);
    }
    assert_eq!(Reason::of_number(0), Reason::Fault);
    assert_eq!(Reason::of_number(u64::MAX), Reason::Fault);
    assert_eq!((Reason::Denied.number(), Reason::Fault.number()), (4, 13));
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9/]{1,60}"
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (name(), name(), 0..=PAYLOAD_BYTES_MAX, any::<[u8; 32]>(), any::<Option<[u8; 32]>>()).prop_map(
            |(space, name, length, hash, renews)| Request::Put { space, name, length, hash, renews }
        ),
        (name(), name()).prop_map(|(space, name)| Request::Get { space, name }),
        (name(), name(), any::<u64>(), 0..=PAYLOAD_BYTES_MAX)
            .prop_map(|(space, name, offset, length)| Request::GetRange { space, name, offset, length }),
        (name(), name(), proptest::option::of(name())).prop_map(|(space, folder, after)| Request::List {
            space,
            folder,
            after
        }),
        (name(), proptest::collection::vec(name(), 1..20))
            .prop_map(|(space, names)| Request::Delete { space, names }),
        name().prop_map(|space| Request::Room { space }),
        (name(), name(), any::<u64>(), 0..=APPEND_BYTES_MAX, any::<[u8; 32]>()).prop_map(
            |(space, name, offset, length, hash)| Request::Append { space, name, offset, length, hash }
        ),
    ]
}

proptest! {
    #[test]
    fn a_request_that_is_sent_is_the_one_that_is_read(request in request()) {
        let frame = encode(&request).unwrap();
        prop_assert_eq!(decode(&frame[PREFIX_BYTES..]), Ok(request));
    }

    #[test]
    fn bytes_of_any_kind_break_nothing(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<Hello>(&body);
        let _ = decode::<Request>(&body);
        let _ = decode::<Answer>(&body);
    }
}
