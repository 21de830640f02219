//! What nodes say to one another, and what their fleets are made of.

use backstay_core::config::{FleetName, NodeName};
use backstay_core::id::{DomainId, SignerKey};
use backstay_core::units::Timestamp;
use backstay_fuzz::keys::{DOMAIN, FIXTURE};
use backstay_net::enrol::Invitation;
use backstay_net::identity::{Charter, Member, Roster, TlsKeyHash};
use backstay_wire::peer::{
    Answer, ConnectionKind, Hello, JoinAnswer, JoinRequest, Listed, ListedBookmark, ListedDataset,
    ListedEncryption, ListedSnapshot, MAJOR, MINOR, NewestThere, ProofThere, Reason, Refusal,
    ReplicaArriving, ReplicaChange, ReplicaKind, ReplicaListing, ReplicaMakes, ReplicaRequest, Request,
    Standing, StreamForm, Welcome, encode,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::Seeds;

/// One of each kind.
pub(super) fn messages(seeds: &mut Seeds) {
    let hello = Hello {
        major: MAJOR,
        minor: MINOR,
        software: "0.1.0".into(),
        kind: ConnectionKind::Live,
        fleet: "home".into(),
        node: "alpha".into(),
        capabilities: vec!["append".into()],
        time_nanos: 1_700_000_000_000_000_000,
        roster: 3,
        fleet_file: Some([4; 32]),
    };
    seeds.push(("peer_message", "hello", encode(&hello).expect("short")));
    let (space, name) = ("alpha".to_owned(), "format/0000000000000000".to_owned());
    let put = Request::Put {
        space: space.clone(),
        name: name.clone(),
        length: 5,
        hash: [9; 32],
        renews: Some([8; 32]),
    };
    let delete = Request::Delete { space: space.clone(), names: vec![name.clone()] };
    let append =
        Request::Append { space: space.clone(), name: name.clone(), offset: 9, length: 5, hash: [9; 32] };
    let standing = Request::Standing { space: space.clone(), vault: "nas".into(), source: [7; 16] };
    let list = Request::List { space, folder: "format/".into(), after: Some(name.clone()) };
    for (what, request) in
        [("put", put), ("delete", delete), ("append", append), ("list", list), ("standing", standing)]
    {
        seeds.push(("peer_message", what, encode(&request).expect("short")));
    }
    let page = Answer::Page { entries: vec![Listed { name, bytes: 5 }], has_more: true };
    let refusal = Refusal { reason: Reason::Quota, text: "no".into(), retry_after: None };
    let certificate = Answer::Certificate { chain: vec![vec![1; 40], vec![2; 40]] };
    let stands = Answer::Standing(Standing {
        until_nanos: Some(42),
        newest: Some(NewestThere { id: [7; 16].into(), time_nanos: 7, number: 8 }),
        proofs: vec![ProofThere { level: 2, end_nanos: 30, took_nanos: 5, failures: 0 }],
        problem: Some("full".into()),
    });
    for (what, answer) in [
        ("page", page),
        ("refused", Answer::Refused(refusal)),
        ("certificate", certificate),
        ("stands", stands),
    ] {
        seeds.push(("peer_message", what, encode(&answer).expect("short")));
    }
    let makes = ReplicaMakes { kind: ReplicaKind::Filesystem, origin: Some("p/b@s".into()) };
    let arriving = ReplicaArriving {
        member: 7,
        replica: "p/a".into(),
        mark: "s".into(),
        guid: 9,
        form: StreamForm::Raw,
        makes: Some(makes),
    };
    let rename = ReplicaChange::Rename { from: "p/a".into(), to: "p/b".into() };
    for (name, what) in [
        ("replica_list", ReplicaRequest::List),
        ("replica_change", ReplicaRequest::Change(rename)),
        ("replica_receive", ReplicaRequest::Receive(arriving)),
        ("replica_settle", ReplicaRequest::Settle { replica: "p/a".into(), guid: 9, flow: 5 }),
        ("replica_complete", ReplicaRequest::Complete { set: "s".into() }),
    ] {
        let request = Request::Replica { space: "alpha".into(), service: "web".into(), what };
        seeds.push(("peer_message", name, encode(&request).expect("short")));
    }
    let by_zfs = Answer::RefusedByZfs { doing: "x".into(), number: 28 };
    seeds.push(("peer_message", "refused_by_zfs", encode(&by_zfs).expect("short")));
    let roster = Request::OfferRoster { length: 900, hash: [7; 32] };
    seeds.push(("peer_message", "offer_roster", encode(&roster).expect("short")));
    let join = JoinRequest {
        node: "alpha".into(),
        tls_key: [1; 32],
        signing_key: [2; 32],
        recipient: "age1x".into(),
        authority: vec![3; 40],
        proof: [4; 32],
    };
    seeds.push(("peer_message", "join", encode(&join).expect("short")));
    let welcome =
        Welcome { chain: vec![vec![1; 40]], bundle: vec![2; 40], roster_length: 3, fleet_file_length: 4 };
    seeds.push(("peer_message", "welcome", encode(&JoinAnswer::Welcome(welcome)).expect("short")));
}

/// What stands of one replica.
pub(super) fn listings(seeds: &mut Seeds) {
    let dataset = ListedDataset {
        name: "p/a".into(),
        guid: 1,
        kind: ReplicaKind::Volume,
        encryption: Some(ListedEncryption { root: "p".into(), is_loaded: true }),
        origin: Some("p/b@s".into()),
        written_bytes: 2,
        used_bytes: 3,
        referenced_bytes: 4,
        is_mounted: false,
        mountpoint: Some("none".into()),
        resume_token: Some("1-2".into()),
        properties: vec![("gone".into(), String::new())],
        snapshots: vec![ListedSnapshot {
            mark: "s".into(),
            guid: 5,
            txg: 6,
            time_nanos: -1,
            written_bytes: 7,
            holds: 8,
        }],
        bookmarks: vec![ListedBookmark { mark: "s".into(), guid: 5, txg: 6, time_nanos: -1 }],
    };
    let listing = ReplicaListing { place: "p/a".into(), datasets: vec![dataset] };
    seeds.push(("replica_listing", "one", listing.to_payload().expect("short")));
}

/// A roster and an invitation, without what the targets put around them.
pub(super) fn fleets(seeds: &mut Seeds) {
    let home: FleetName = "home".parse().expect("a name");
    let [alpha, beta]: [NodeName; 2] = ["alpha", "beta"].map(|name| name.parse().expect("a name"));
    let (domain, admin) = (DomainId::new(DOMAIN), FIXTURE.admin());
    let member = |byte: u8| Member {
        signer: SignerKey::new([byte; 32]),
        recipient: "age1x".into(),
        tls_key: TlsKeyHash([byte; 32]),
        tailnet_id: (byte == 1).then(|| "nVHrZ".into()),
    };
    let charter = Charter {
        holder: beta.clone(),
        writer: alpha.clone(),
        format: Bytes::from_static(b"format"),
        trust: Bytes::from_static(b"trust"),
    };
    let roster = Roster {
        fleet: home.clone(),
        number: 3,
        domain,
        made: Timestamp::from_seconds(1_700_000_000),
        authorities: vec![vec![0x30; 40].into()],
        members: [(alpha.clone(), member(1)), (beta.clone(), member(2))].into(),
        charters: vec![charter],
        recovery: Some(Bytes::from_static(b"sealed")),
    };
    let signed = roster.sign(admin);
    seeds.push(("sealed_roster", "two-nodes", signed.bytes()[12..signed.bytes().len() - 96].to_vec()));
    let addresses = vec!["100.64.0.2:7420".to_owned()];
    let until = Timestamp::from_seconds(1_800_000_000);
    let invitation =
        Invitation::new((home, beta, alpha), domain, addresses, until, b"certificate", admin.public());
    let text = invitation.to_text();
    let encoded = text.strip_prefix("backstay-invitation-").expect("how it begins");
    let body = BASE64_URL_SAFE_NO_PAD.decode(encoded).expect("base64");
    seeds.push(("invitation", "body", body[..body.len() - 4].to_vec()));
    seeds.push(("invitation", "text", text.into_bytes()));
}
