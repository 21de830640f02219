//! Whoever is not of the fleet, or breaks its rules: each is refused, the log says why, and those who keep the rules go on.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use backstay_core::id::PackId;
use backstay_net::Accepting;
use backstay_net::hold::Rights;
use backstay_net::identity::{Authority, Certificate, NodeKey, OwnCertificate};
use backstay_net::link::{Link, LinkError};
use backstay_testkit::intruder::{self, Shown};
use backstay_vault::keys::Secret;
use backstay_vault::name::Named;
use backstay_vault::store::{Store, StoreErrorKind};
use backstay_wire::peer::{
    Answer, ConnectionKind, PREFIX_BYTES, Reason, ReplicaRequest, Request, decode, encode,
};
use bytes::Bytes;
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::fleet::{Caller, Fleet, Holder, NOW, VALID, node};

/// What stands in the log of this process, of all tests.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Lines).finish();
        tracing::subscriber::set_global_default(subscriber).expect("the first");
        Mutex::default()
    })
}

struct Lines;

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits until a line of the log has all of these words.
async fn logged(words: &[&str]) {
    let is_there = || {
        let text = String::from_utf8_lossy(&log().lock().expect("no panic")).into_owned();
        text.lines().any(|line| words.iter().all(|word| line.contains(word)))
    };
    for _ in 0..200 {
        if is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no line of the log has {words:?}");
}

struct Held {
    fleet: Fleet,
    holder: Holder,
    _folder: TempDir,
}

fn held() -> Held {
    log();
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    for name in ["nullstone", "millstone"] {
        holder.hold(name, &folder.path().join(name), Rights::Write);
    }
    Held { fleet, holder, _folder: folder }
}

/// Those who keep the rules go on.
async fn an_honest_node_is_served(held: &Held) {
    let caller = held.fleet.caller("millstone");
    let content = Bytes::from_static(b"honest");
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    let store = caller.store(&held.holder);
    store.put(&name, content.clone()).await.expect("put");
    assert_eq!(store.get(&name).await.expect("get"), content);
}

async fn refused(link: Link) -> String {
    let error =
        timeout(Duration::from_secs(20), link.greet()).await.expect("in time").expect_err("is refused");
    error.to_string()
}

fn caller_with(held: &Held, name: &str, own: OwnCertificate) -> Caller {
    Caller { name: node(name), endpoint: held.fleet.endpoint(own, Accepting::No) }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_certificate_is_refused() {
    let held = held();
    let (connection, from) = intruder::connect(held.holder.address, b"backstay/0", None).await;
    let port = format!("from={from} ");
    let ended = timeout(Duration::from_secs(10), connection.closed()).await.expect("in time");
    assert!(ended.to_string().contains("aborted by peer"), "{ended}");
    logged(&["refused", "certificate", &port]).await;
    an_honest_node_is_served(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused() {
    let held = held();
    // Of the same name, which is not what it is known by.
    let other = Authority::generate(&held.fleet.name, &Secret::random(), NOW).expect("an authority");
    let seed = Secret::random();
    let public = NodeKey::of_seed(&seed);
    let certificate = other.issue(&node("nullstone"), &public, NOW, VALID).expect("a certificate");
    let own = OwnCertificate::new(Certificate::from_seed(vec![certificate], &seed)).expect("a certificate");
    let why = refused(caller_with(&held, "nullstone", own).link(&held.holder)).await;
    assert!(why.contains("does not believe this node's certificate"), "{why}");
    logged(&["refused", "was not issued by an authority of the fleet home"]).await;
    an_honest_node_is_served(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_for_another_key_than_the_enrolled_one_is_refused() {
    let held = held();
    // As an issuer could make it that was taken over.
    let stolen = held.fleet.enrol("nullstone");
    held.fleet.enrol("nullstone");
    let why = refused(caller_with(&held, "nullstone", stolen).link(&held.holder)).await;
    assert!(why.contains("is known by another key"), "{why}");
    logged(&["refused", "node=\"nullstone\"", "is known by another key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_is_cut_off_at_once_and_not_let_in_again() {
    let held = held();
    let caller = held.fleet.caller("nullstone");
    let link = caller.link(&held.holder);
    link.greet().await.expect("it is a member");
    let store = caller.store(&held.holder);
    let content = Bytes::from_static(b"before");
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    store.put(&name, content).await.expect("put");
    held.fleet.remove("nullstone");
    logged(&["refused", "node=\"nullstone\"", "not any more, a node of the fleet home"]).await;
    let error = store.get(&name).await.expect_err("it is no member any more");
    assert!(matches!(error.kind, StoreErrorKind::Refused | StoreErrorKind::Transient), "{error}");
    let error = timeout(Duration::from_secs(20), async {
        loop {
            match caller.link(&held.holder).greet().await {
                Err(refused @ LinkError::Refused { .. }) => break refused,
                other => drop(other),
            }
        }
    });
    assert!(error.await.expect("in time").to_string().contains("backstay invite nullstone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_reads_and_does_not_write() {
    let held = held();
    let own = held.fleet.enrol_for("nullstone", Duration::from_secs(3600));
    let caller = caller_with(&held, "nullstone", own);
    let store = caller.store(&held.holder);
    let content = Bytes::from_static(b"while it was valid");
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    store.put(&name, content.clone()).await.expect("put");
    held.fleet.clock.advance(Duration::from_secs(7200));
    // Connections that were made before count by the certificate of then, until they end.
    let link = caller.link(&held.holder);
    link.greet().await.expect("it may read");
    let store = caller.store(&held.holder);
    assert_eq!(store.get(&name).await.expect("it may read"), content);
    let other = Bytes::from_static(b"when it is not any more");
    let name = Named::Pack(PackId::new(*blake3::hash(&other).as_bytes())).to_name();
    let error = store.put(&name, other).await.expect_err("it may not write");
    assert!(error.to_string().contains("its certificate is expired"), "{error}");
    logged(&["refused", "node=\"nullstone\"", "its certificate is expired"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_for_which_nothing_is_held_is_told_so() {
    let held = held();
    let why = refused(held.fleet.caller("whetstone").link(&held.holder)).await;
    assert!(why.contains("there is no [hold.whetstone]"), "{why}");
    logged(&["refused", "node=\"whetstone\"", "nothing is held"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_in_the_place_of_another_node_is_not_believed() {
    let held = held();
    let caller = held.fleet.caller("nullstone");
    held.fleet.enrol("whetstone");
    let address = backstay_core::config::NodeAddress {
        host: held.holder.address.ip().to_string(),
        port: held.holder.address.port(),
    };
    let link = Link::new(caller.endpoint.clone(), caller.name.clone(), node("whetstone"), address);
    let why = refused(link).await;
    assert!(why.contains("the node that answers is cobblestone and not whetstone"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_over_long_frame_and_other_nonsense_end_a_connection_and_nothing_else() {
    let held = held();
    for nonsense in [
        // A frame of 4 GiB, and one of nothing.
        &[0xff, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 0],
        // Of a good length, and no message.
        &[0, 0, 0, 2, 0xff, 0xff],
    ] {
        let connection = bare(&held, "nullstone").await;
        hello(&connection).await;
        for _ in 0..3 {
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            // Whoever is cut off may not get rid of it.
            let _ = send.write_all(nonsense).await;
            let _ = send.finish();
            let _ = timeout(Duration::from_secs(10), receive.read_to_end(1000)).await.expect("in time");
        }
        let ended = timeout(Duration::from_secs(10), connection.closed()).await.expect("in time");
        assert!(ended.to_string().contains("malformed"), "{ended}");
    }
    an_honest_node_is_served(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hello_and_a_hello_of_another_version_are_refused() {
    let held = held();
    let connection = bare(&held, "nullstone").await;
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    // A map of one key: major version 9.
    send.write_all(&[0, 0, 0, 3, 0xa1, 0, 9]).await.expect("writes");
    let answer =
        timeout(Duration::from_secs(10), receive.read_to_end(2000)).await.expect("in time").expect("reads");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("it speaks version 9 of the protocol and this node version 0"), "{text}");
    let silent = bare(&held, "nullstone").await;
    let ended = timeout(Duration::from_secs(20), silent.closed()).await.expect("in time");
    assert!(ended.to_string().contains("no hello"), "{ended}");
    an_honest_node_is_served(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_and_of_connections_is_bounded_and_others_are_served_meanwhile() {
    let held = held();
    let member = Enrolled::of(&held, "nullstone");
    let mut connections = Vec::new();
    // Idle ones give way to others.
    for _ in 0..12 {
        let connection = connect_as(&held, &member).await;
        hello(&connection).await;
        connections.push(connection);
    }
    let last = connections.split_off(4);
    for connection in &connections {
        let ended = timeout(Duration::from_secs(10), connection.closed()).await.expect("in time");
        assert!(ended.to_string().contains("another connection takes its place"), "{ended}");
    }
    // Streams that are begun and not gone on with: no more than are permitted, and nobody else is held up.
    let mut streams = Vec::new();
    for connection in &last {
        while let Ok(Ok((mut send, receive))) =
            timeout(Duration::from_millis(100), connection.open_bi()).await
        {
            send.write_all(&[0]).await.expect("writes");
            streams.push((send, receive));
        }
    }
    assert!(streams.len() <= 64 * last.len(), "{} streams", streams.len());
    assert!(streams.len() >= 60 * last.len(), "{} streams: it was a flood", streams.len());
    // Those that are used do not give way.
    let more = connect_as(&held, &member).await;
    assert!(is_busy(&try_hello(&more).await));
    an_honest_node_is_served(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unidirectional_streams_and_datagrams_are_not_taken() {
    let held = held();
    let connection = bare(&held, "nullstone").await;
    hello(&connection).await;
    assert!(timeout(Duration::from_millis(300), connection.open_uni()).await.is_err(), "none may be opened");
    assert!(connection.send_datagram(Bytes::from_static(b"x")).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_of_another_node_are_not_told() {
    let held = held();
    let connection = bare(&held, "nullstone").await;
    hello(&connection).await;
    let (space, service) = ("millstone".to_owned(), "m".to_owned());
    let request = Request::Replica { space, service, what: ReplicaRequest::List };
    let answer = intruder::greet(&connection, &encode(&request).expect("short")).await;
    let Ok(Answer::Refused(refusal)) = decode(&answer[PREFIX_BYTES..]) else { panic!("{answer:?}") };
    assert_eq!(refusal.reason, Reason::Denied);
    assert_eq!(refusal.text, "the replicas of millstone are not for nullstone");
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_socket_changes_nothing() {
    let held = held();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let mut random = backstay_testkit::random::Random::new(11);
    for n in 0..2000 {
        socket.send_to(&random.bytes(1 + n % 1400), held.holder.address).expect("sends");
    }
    an_honest_node_is_served(&held).await;
}

/// A member with one certificate for all its connections.
struct Enrolled {
    certificate: CertificateDer<'static>,
    seed: Secret,
}

impl Enrolled {
    fn of(held: &Held, name: &str) -> Self {
        let seed = Secret::random();
        Self { certificate: held.fleet.enrol_key(name, &NodeKey::of_seed(&seed)), seed }
    }

    fn shown(&self) -> Shown {
        let own = Certificate::from_seed(vec![self.certificate.clone()], &self.seed);
        (own.chain, own.key)
    }
}

/// A connection by hand, without anything that keeps the rules.
async fn bare(held: &Held, name: &str) -> Connection {
    connect_as(held, &Enrolled::of(held, name)).await
}

async fn connect_as(held: &Held, member: &Enrolled) -> Connection {
    intruder::connect(held.holder.address, b"backstay/0", Some(member.shown())).await.0
}

fn is_busy(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer).contains("as many connections here as it may have")
}

async fn try_hello(connection: &Connection) -> Vec<u8> {
    intruder::greet(connection, &intruder::hello_frame("home", "nullstone", ConnectionKind::Bulk)).await
}

async fn hello(connection: &Connection) {
    let answer = try_hello(connection).await;
    assert!(answer.len() > 30, "a hello and no refusal: {answer:?}");
}
