//! One connection of a node: who it is, its hello, then its requests. It ends when the node is not of the fleet any more, and when
//! it breaks the rules of the protocol too often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay_wire::peer::{Greeting, Hello, MAJOR, MINOR, Reason, Refusal};
use quinn::{Connecting, Connection, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::limits::Handshake;
use super::request;
use crate::frames::{self, HELLO_WAIT_MAX};
use crate::identity::{Member, PeerIdentity};
use crate::tls::words;

/// Malformed streams of one connection, after which it is ended (docs/protocol.md, section 6).
const MALFORMED_MAX: u32 = 3;

/// A connection that asks for nothing for so long is ended.
const UNUSED_MAX: Duration = Duration::from_secs(300);

/// How long whoever is refused has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection with its hello done.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: PeerIdentity,
    pub(super) from: SocketAddr,
    malformed: AtomicU32,
}

impl Peer {
    /// The member that it is, as the roster is now.
    pub(super) fn member(&self) -> Result<Member, Refusal> {
        let roster = Arc::clone(&self.shared.endpoint.roster().borrow());
        roster.member(&self.identity).cloned().map_err(|stranger| denied(stranger.to_string()))
    }

    /// Something was refused.
    pub(super) fn note(&self, why: &str) {
        self.shared.refusals.note(self.from, Some(&self.identity.node), why);
    }

    /// A stream broke the rules. True if that was too often.
    pub(super) fn is_too_malformed(&self) -> bool {
        self.malformed.fetch_add(1, Ordering::Relaxed) + 1 >= MALFORMED_MAX
    }
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
    let identity = match shared.endpoint.identity(&connection) {
        Ok(identity) => identity,
        Err(fault) => {
            shared.refusals.note(from, None, &fault.to_string());
            return connection.close(VarInt::from_u32(1), b"certificate");
        }
    };
    let peer = Arc::new(Peer { shared, identity, from, malformed: AtomicU32::new(0) });
    let accepted = timeout(HELLO_WAIT_MAX, connection.accept_bi()).await;
    let Ok(Ok((mut send, mut receive))) = accepted else {
        peer.note("it has sent no hello");
        return connection.close(VarInt::from_u32(1), b"no hello");
    };
    let greeted = greet(&peer, &mut receive).await;
    // From here on it is one of those that are known.
    drop(handshake);
    match greeted {
        Ok((answer, place)) => {
            let sent = frames::write(&mut send, &Greeting::Hello(answer), HELLO_WAIT_MAX).await;
            if sent.is_err() || send.finish().is_err() {
                return connection.close(VarInt::from_u32(1), b"no hello");
            }
            requests(&peer, &connection).await;
            drop(place);
        }
        Err(refusal) => {
            peer.note(&refusal.text);
            refuse(&connection, send, refusal).await;
        }
    }
}

/// Looks at the hello of a node. Its own, or why it is not let in.
async fn greet(peer: &Arc<Peer>, receive: &mut RecvStream) -> Result<(Hello, super::limits::Place), Refusal> {
    let hello: Hello = frames::read(receive, HELLO_WAIT_MAX).await.map_err(|error| Refusal {
        reason: Reason::Malformed,
        text: format!("no hello of this protocol: {error}"),
        retry_after: None,
    })?;
    if hello.major != MAJOR {
        let text = format!(
            "it speaks version {} of the protocol and this node version {MAJOR}: bring both to versions of Backstay that have one in common",
            hello.major
        );
        return Err(Refusal { reason: Reason::Version, text, retry_after: None });
    }
    let roster = Arc::clone(&peer.shared.endpoint.roster().borrow());
    if hello.fleet != roster.fleet.as_str() || hello.node != peer.identity.node.as_str() {
        let text = format!(
            "it says that it is {} of {}, and its certificate is that of {} of {}",
            hello.node, hello.fleet, peer.identity.node, roster.fleet
        );
        return Err(denied(text));
    }
    let member = peer.member()?;
    peer.shared.host.admit(&peer.identity, &member, peer.from).await?;
    let place = peer.shared.connections.enter(&peer.identity.node, hello.kind).ok_or_else(|| Refusal {
        reason: Reason::Busy,
        text: "this node has as many connections here as it may have".to_owned(),
        retry_after: Some(Duration::from_secs(30)),
    })?;
    let answer = Hello {
        major: MAJOR,
        minor: MINOR,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        kind: hello.kind,
        fleet: hello.fleet,
        node: peer.shared.host.name().to_string(),
        capabilities: Vec::new(),
        time_nanos: peer.shared.endpoint.clock().now().as_nanos(),
    };
    Ok((answer, place))
}

/// Answers requests until the connection ends.
async fn requests(peer: &Arc<Peer>, connection: &Connection) {
    let mut roster = peer.shared.endpoint.roster().clone();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = timeout(UNUSED_MAX, connection.accept_bi()) => match accepted {
                Ok(Ok((send, receive))) => {
                    while open.try_join_next().is_some() {}
                    open.spawn(request::answer(Arc::clone(peer), connection.clone(), send, receive));
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
    // What is under way for whoever is gone is given up.
    open.shutdown().await;
}

async fn refuse(connection: &Connection, mut send: SendStream, refusal: Refusal) {
    let sent = frames::write(&mut send, &Greeting::Refused(refusal), HELLO_WAIT_MAX).await;
    if sent.is_ok() && send.finish().is_ok() {
        // It closes when it has read that, or else is closed.
        let _ = timeout(FAREWELL, connection.closed()).await;
    }
    connection.close(VarInt::from_u32(1), b"refused");
}

pub(super) fn denied(text: String) -> Refusal {
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
