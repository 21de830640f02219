//! Whoever attacks a daemon over the network: strangers, and a node of the fleet that was taken over and has all that it needs. None
//! of it stops the daemon, makes it use more memory than it should, or gets it to give or change anything.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use backstay_testkit::intruder::{self, Shown};
use backstay_testkit::local_api::{LocalApiStandIn, StandInNode};
use backstay_testkit::random::Random;
use backstay_wire::peer::{Answer, ConnectionKind, PREFIX_BYTES, Request, decode, encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::time::timeout;

use crate::daemon::wait_for;
use crate::judge::assert_same;
use crate::outcome::Running;
use crate::pair::{NODES, Pair};

/// How much more memory a daemon may have had at its worst than when nobody was there, MiB: what `hold` has in memory for the
/// requests of a node, and a part of the windows of its connections.
const MORE_MIB_MAX: u64 = 128;

/// Streams that one connection may have.
const STREAMS_MAX: usize = 64;

/// Connections of one node, of each kind.
const CONNECTIONS_MAX: usize = 8;

/// The most memory that a process has had, MiB.
fn peak_mib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Attacks beta with all that alpha has.
struct Attack {
    address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Attack {
    fn on(pair: &Pair) -> Self {
        let identity = pair.folder.path().join("state-alpha/identity");
        let chain = CertificateDer::pem_file_iter(identity.join("tls.crt")).unwrap();
        let seed = fs::read_to_string(identity.join("tls.key")).unwrap();
        let seed: Vec<u8> =
            (0..32).map(|n| u8::from_str_radix(&seed[2 * n..2 * n + 2], 16).unwrap()).collect();
        // An Ed25519 key of this seed (RFC 8410, section 7).
        let mut key = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        key.extend(seed);
        Self {
            address: (Ipv4Addr::LOCALHOST, pair.ports[1]).into(),
            chain: chain.collect::<Result<_, _>>().unwrap(),
            key: PrivateKeyDer::Pkcs8(key.into()),
        }
    }

    fn shown(&self) -> Shown {
        (self.chain.clone(), self.key.clone_key())
    }

    /// A connection that is let in.
    async fn connect(&self, kind: ConnectionKind) -> quinn::Connection {
        let (connection, _) = intruder::connect(self.address, b"backstay/0", Some(self.shown())).await;
        let answer = intruder::greet(&connection, &intruder::hello_frame("test", "alpha", kind)).await;
        assert!(answer.len() > 30 && connection.close_reason().is_none(), "{answer:?}");
        connection
    }

    /// As many connections as a node may have.
    async fn connect_all(&self) -> Vec<quinn::Connection> {
        let mut connections = Vec::new();
        for kind in [ConnectionKind::Live, ConnectionKind::Bulk] {
            for _ in 0..CONNECTIONS_MAX {
                connections.push(self.connect(kind).await);
            }
        }
        connections
    }

    /// What is answered to a request.
    async fn ask(&self, connection: &quinn::Connection, request: &Request) -> Answer {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&encode(request).unwrap()).await.unwrap();
        send.finish().unwrap();
        let answer = timeout(Duration::from_secs(20), receive.read_to_end(100_000)).await.expect("in time");
        let answer = answer.unwrap();
        let length = u32::from_be_bytes(answer[..PREFIX_BYTES].try_into().unwrap()) as usize;
        decode(&answer[PREFIX_BYTES..PREFIX_BYTES + length]).unwrap()
    }
}

fn text(answer: Answer) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.text,
        other => panic!("{other:?}"),
    }
}

/// Handshakes by whoever has nothing to show, and noise.
async fn strangers(attack: &Attack) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut random = Random::new(11);
    for n in 0..5000 {
        socket.send_to(&random.bytes(1 + n % 1400), attack.address).unwrap();
    }
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let address = attack.address;
        all.spawn(async move {
            // Most are refused before there is a connection.
            match intruder::try_connect(address, b"backstay/0", None).await {
                Ok((connection, _)) => connection.closed().await,
                Err(refused) => refused,
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

/// Puts that are begun and not gone on with, on every stream of every connection.
async fn half_sent(connections: &[quinn::Connection]) -> Vec<quinn::SendStream> {
    let mut streams = Vec::new();
    let garbage = vec![0x5a; 1 << 20];
    for connection in connections {
        for n in 0..STREAMS_MAX {
            let Ok(Ok((mut send, _))) = timeout(Duration::from_millis(50), connection.open_bi()).await else {
                break;
            };
            let id = format!("{n:064x}");
            let name = format!("packs/{}/{id}", &id[..2]);
            let (space, length) = ("alpha".to_owned(), 128 << 20);
            let mut hash = [0; 32];
            hash[31] = n as u8;
            let put = Request::Put { space, name, length, hash, renews: None };
            let write = async {
                send.write_all(&encode(&put).unwrap()).await.ok()?;
                send.write_all(&garbage).await.ok()
            };
            let _ = timeout(Duration::from_millis(50), write).await;
            streams.push(send);
        }
    }
    assert!(streams.len() >= STREAMS_MAX, "{} streams", streams.len());
    streams
}

/// Objects that are asked for and not read, on every stream of every connection.
async fn unread(connections: &[quinn::Connection], name: &str) -> Vec<quinn::RecvStream> {
    let mut streams = Vec::new();
    for connection in connections {
        for _ in 0..STREAMS_MAX {
            let Ok(Ok((mut send, receive))) = timeout(Duration::from_millis(50), connection.open_bi()).await
            else {
                break;
            };
            let get = Request::Get { space: "alpha".to_owned(), name: name.to_owned() };
            let _ = send.write_all(&encode(&get).unwrap()).await;
            let _ = send.finish();
            streams.push(receive);
        }
    }
    // Until the windows are full.
    tokio::time::sleep(Duration::from_secs(3)).await;
    streams
}

/// The name of the largest object that is held.
fn largest(pair: &Pair) -> String {
    let folders = fs::read_dir(pair.held().join("packs")).unwrap();
    let packs = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let largest = packs.map(|pack| pack.unwrap()).max_by_key(|pack| pack.metadata().unwrap().len());
    let largest = largest.unwrap().path();
    largest.strip_prefix(pair.held()).unwrap().to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attack_makes_a_daemon_use_more_memory_than_it_should_or_give_what_it_should_not() {
    let pair = Pair::together();
    fs::write(pair.source().join("large"), Random::new(3).bytes(40 << 20)).unwrap();
    let mut beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let attack = Attack::on(&pair);
    let before = peak_mib(&beta);

    strangers(&attack).await;
    println!("strangers: {} MiB, before {before}", peak_mib(&beta));

    let connections = attack.connect_all().await;
    let streams = half_sent(&connections).await;
    println!("half sent: {} MiB", peak_mib(&beta));
    drop((streams, connections));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let name = largest(&pair);
    let connections = attack.connect_all().await;
    let streams = unread(&connections, &name).await;
    println!("unread: {} MiB", peak_mib(&beta));
    drop((streams, connections));

    let connection = attack.connect(ConnectionKind::Live).await;
    let of_others = Request::Get { space: "beta".to_owned(), name: name.clone() };
    let said = text(attack.ask(&connection, &of_others).await);
    assert!(said.contains("what is held for beta is not for alpha"), "{said}");
    let delete = Request::Delete { space: "alpha".to_owned(), names: vec![name.clone()] };
    let said = text(attack.ask(&connection, &delete).await);
    assert!(said.contains("retention is the holder's"), "{said}");
    for elsewhere in ["../../state-beta/identity/tls.key", "/etc/passwd", "tank/data", "hook/start"] {
        let get = Request::Get { space: "alpha".to_owned(), name: elsewhere.to_owned() };
        // Some of these end a connection.
        let connection = attack.connect(ConnectionKind::Live).await;
        let said = text(attack.ask(&connection, &get).await);
        assert!(said.contains("is no name of an object"), "{said}");
        connection.close(0u32.into(), b"");
    }

    let more = peak_mib(&beta) - before;
    assert!(more <= MORE_MIB_MAX, "{more} MiB more");
    assert!(beta.is_running(), "{}", beta.stderr_so_far());
    // Half-open connections of the attacker may be there still, of those that the node may have.
    let log = beta.stderr_so_far();
    for why in
        ["peer sent no certificates", "what is held for beta is not for alpha", "retention is the holder's"]
    {
        assert!(log.contains(why), "the log says why: {why}\n{log}");
    }
    pair.change(1);
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(1, "afterwards", &[]));
}

#[test]
fn a_good_certificate_from_another_node_of_the_tailnet_is_refused_until_the_node_is_bound_to_that() {
    let mut pair = Pair::apart();
    let api = |node: usize, other: &str| {
        let socket = pair.folder.path().join(format!("tailscaled-{node}"));
        let own = StandInNode::new(["n-alpha", "n-beta"][node], NODES[node], &["100.64.0.1"]);
        let api = LocalApiStandIn::start(&socket, own).unwrap();
        api.know(&[StandInNode::new(other, "other", &["127.0.0.1"])]);
        (api, format!("tailnet = \"required\"\ntailscaled = {}\n", Value::from(socket.to_str().unwrap())))
    };
    let ((_of_alpha, more_of_alpha), (of_beta, more_of_beta)) = (api(0, "n-beta"), api(1, "n-alpha"));
    pair.more_of_nodes = [more_of_alpha, more_of_beta];
    pair.enrol();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    // Somebody has alpha's key and certificate, and is somebody else on the tailnet.
    of_beta.know(&[StandInNode::new("n-other", "other", &["127.0.0.1"])]);
    pair.change(1);
    pair.run(0, ["now"]).refused(1, &["node beta refuses"]);
    let log = beta.stderr_so_far();
    assert!(log.lines().any(|line| line.contains("refused") && line.contains("n-other")), "{log}");
    // A Headscale that was built anew numbers its nodes anew.
    let recovery = pair.recovery();
    let recovery = recovery.to_str().unwrap();
    pair.run(1, ["node", "rebind", "alpha", "--tailnet-id", "n-other", "--recovery", recovery]).good();
    // It takes up what another process has written.
    wait_for("the daemon to go by it", || pair.run(0, ["now"]).code == Some(0));
    assert_same(&pair.source(), &pair.restore(1, "afterwards", &[]));
}
