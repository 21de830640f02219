//! One connection of a node: who it is, its hello, then its requests. It ends when the node is not of the fleet any more, and when
//! it breaks the rules of the protocol too often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backstay_wire::peer::{
    CAPABILITY_APPEND, CAPABILITY_REPLICA, ConnectionKind, Greeting, Hello, MAJOR, MINOR, Reason, Refusal,
};
use quinn::{Connecting, Connection, RecvStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::limits::{Handshake, Place};
use super::peer::{Peer, denied};
use super::request;
use crate::endpoint;
use crate::frames::{self, HELLO_WAIT_MAX, MessageError};
use crate::outgoing::{NotWritten, Outgoing};
use crate::tls::words;

/// A connection that asks for nothing for so long is ended.
const UNUSED_MAX: Duration = Duration::from_secs(300);

/// How long whoever is refused has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a node is let in.
enum Entry {
    /// As a member.
    Member(Place),
    /// It may be one by a roster that it knows and this node does not: it may offer that, and nothing else.
    Stranger,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    connecting: Connecting,
    from: SocketAddr,
    handshake: Handshake,
) {
    let connection = match timeout(HELLO_WAIT_MAX, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return shared.refusals.note(from, None, words(&error.to_string())),
        Err(_) => return shared.refusals.note(from, None, "the handshake did not come to its end in time"),
    };
    let peer = match Peer::of(Arc::clone(&shared), &connection, from) {
        Ok(peer) => Arc::new(peer),
        Err(fault) => {
            shared.refusals.note(from, None, &fault.to_string());
            return connection.close(VarInt::from_u32(1), b"certificate");
        }
    };
    // It counts among those that are being made until it is let in.
    if let Some(place) = let_in(&peer, &connection).await {
        drop(handshake);
        if place.kind() == ConnectionKind::Bulk {
            endpoint::widen(&connection);
        }
        requests(&peer, &connection, &place).await;
        drop(place);
    }
}

/// The hello. None where the node was not let in.
async fn let_in(peer: &Arc<Peer>, connection: &Connection) -> Option<Place> {
    let accepted = timeout(HELLO_WAIT_MAX, connection.accept_bi()).await;
    let Ok(Ok((send, mut receive))) = accepted else {
        peer.note("it has sent no hello");
        connection.close(VarInt::from_u32(1), b"no hello");
        return None;
    };
    let mut send = Outgoing::new(send);
    let (hello, entry) = match greet(peer, connection, &mut receive).await {
        Ok(greeted) => greeted,
        Err(refusal) => {
            peer.note(&refusal.text);
            refuse(connection, send, refusal).await;
            return None;
        }
    };
    let sent =
        frames::write(&mut send.stream, &Greeting::Hello(answer(peer, &hello, &entry)), HELLO_WAIT_MAX).await;
    // Whoever has read it may not wait for the end of the stream.
    if sent.is_err() || matches!(send.finish(HELLO_WAIT_MAX).await, Err(NotWritten::Lost(_))) {
        connection.close(VarInt::from_u32(1), b"no hello");
        return None;
    }
    match entry {
        Entry::Member(place) => Some(place),
        Entry::Stranger => introduce(peer, connection, &hello).await,
    }
}

/// Takes the roster of a node that is only a member by it. None where it is not one by that either.
async fn introduce(peer: &Arc<Peer>, connection: &Connection, hello: &Hello) -> Option<Place> {
    if let Ok(Ok((send, receive))) = timeout(HELLO_WAIT_MAX, connection.accept_bi()).await {
        let answered = request::answer(Arc::clone(peer), connection.clone(), send, receive);
        let _ = timeout(HELLO_WAIT_MAX, answered).await;
    }
    let entered = match peer.admitted().await {
        Ok(_) => enter(peer, connection, hello),
        Err(refusal) => Err(refusal),
    };
    entered
        .inspect_err(|refusal| {
            peer.note(&refusal.text);
            connection.close(VarInt::from_u32(1), b"not a member of the fleet");
        })
        .ok()
}

/// Looks at the hello of a node: how it is let in, or why not.
async fn greet(
    peer: &Arc<Peer>,
    connection: &Connection,
    receive: &mut RecvStream,
) -> Result<(Hello, Entry), Refusal> {
    let hello: Hello = frames::read(receive, HELLO_WAIT_MAX).await.map_err(|error| not_a_hello(&error))?;
    if hello.major != MAJOR {
        let text = format!(
            "it speaks version {} of the protocol and this node version {MAJOR}: bring both to versions of Backstay that have one in common",
            hello.major
        );
        return Err(Refusal { reason: Reason::Version, text, retry_after: None });
    }
    frames::end(receive, HELLO_WAIT_MAX).await.map_err(|error| not_a_hello(&error))?;
    let (roster, identity) = (peer.roster(), peer.identity()?);
    if hello.fleet != roster.fleet.as_str() || hello.node != identity.node.as_str() {
        let text = format!(
            "it says that it is {} of {}, and its certificate is that of {} of {}",
            hello.node, hello.fleet, identity.node, roster.fleet
        );
        return Err(denied(text));
    }
    let entry = match peer.admitted().await {
        Ok(_) => Entry::Member(enter(peer, connection, &hello)?),
        Err(_) if peer.member().is_err() && hello.roster > roster.number => Entry::Stranger,
        Err(refusal) => return Err(refusal),
    };
    Ok((hello, entry))
}

/// One that never came may come at the next try.
fn not_a_hello(error: &MessageError) -> Refusal {
    let reason = if error.is_fault_of_peer() { Reason::Malformed } else { Reason::Busy };
    Refusal { reason, text: format!("no hello of this protocol: {error}"), retry_after: None }
}

fn enter(peer: &Peer, connection: &Connection, hello: &Hello) -> Result<Place, Refusal> {
    peer.shared.connections.enter(&peer.node, hello.kind, connection).ok_or_else(|| Refusal {
        reason: Reason::Busy,
        text: "this node has as many connections here as it may have".to_owned(),
        retry_after: Some(Duration::from_secs(30)),
    })
}

fn answer(peer: &Peer, hello: &Hello, entry: &Entry) -> Hello {
    let roster = peer.roster();
    Hello {
        major: MAJOR,
        minor: MINOR,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        kind: hello.kind,
        fleet: roster.fleet.to_string(),
        node: peer.shared.host.name().to_string(),
        capabilities: [CAPABILITY_APPEND, CAPABILITY_REPLICA].map(ToOwned::to_owned).to_vec(),
        time_nanos: peer.shared.endpoint.clock().now().as_nanos(),
        roster: roster.number,
        // None of the business of whoever is no member.
        fleet_file: match entry {
            Entry::Member(_) => peer.shared.host.fleet_file(),
            Entry::Stranger => None,
        },
    }
}

/// Answers requests until the connection ends.
async fn requests(peer: &Arc<Peer>, connection: &Connection, place: &Place) {
    let mut roster = peer.shared.endpoint.roster().clone();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = timeout(UNUSED_MAX, connection.accept_bi()) => match accepted {
                Ok(Ok((send, receive))) => {
                    while open.try_join_next().is_some() {}
                    let (busy, answered) =
                        (place.busy(), request::answer(Arc::clone(peer), connection.clone(), send, receive));
                    open.spawn(async move {
                        answered.await;
                        drop(busy);
                    });
                }
                Ok(Err(_)) => break,
                Err(_) if open.is_empty() => {
                    connection.close(VarInt::from_u32(0), b"unused");
                    break;
                }
                Err(_) => while open.try_join_next().is_some() {},
            },
            changed = roster.changed() => {
                if changed.is_err() {
                    break;
                }
                if let Err(refusal) = peer.member() {
                    peer.note(&refusal.text);
                    connection.close(VarInt::from_u32(1), b"not a member of the fleet any more");
                    break;
                }
            }
        }
    }
    // What is under way for whoever is gone is given up, but for changes that have begun.
    open.shutdown().await;
}

async fn refuse(connection: &Connection, mut send: Outgoing, refusal: Refusal) {
    let sent = frames::write(&mut send.stream, &Greeting::Refused(refusal), HELLO_WAIT_MAX).await;
    if sent.is_ok() && send.finish(FAREWELL).await.is_ok() {
        // It closes when it has read that, or else is closed.
        let _ = timeout(FAREWELL, connection.closed()).await;
    }
    connection.close(VarInt::from_u32(1), b"refused");
}
