//! Making one connection: finding the address, the handshake, the hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_wire::peer::{
    CAPABILITY_APPEND, CAPABILITY_REPLICA, ConnectionKind, Greeting, Hello, MAJOR, MINOR, Reason, Refusal,
};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::net::lookup_host;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Inner, Known, LinkError, Open};
use crate::frames::{self, HELLO_WAIT_MAX, plain};
use crate::tls::words;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What the other side's alert means that it sends when it does not believe a certificate, by its number (RFC 8446, section 6).
const ALERTS: [(u8, &str); 5] = [
    (42, "it does not take this node's certificate (bad_certificate)"),
    (45, "it takes this node's certificate for expired"),
    (46, "it does not believe this node's certificate: its log says why"),
    (48, "it does not know the authority that has issued this node's certificate"),
    (116, "it wants a certificate, and this node has shown none"),
];

pub(super) async fn dial(inner: &Inner, kind: ConnectionKind) -> Result<Open, LinkError> {
    let unreachable = |why: String| LinkError::Unreachable {
        node: inner.node.clone(),
        address: inner.address.clone(),
        why,
    };
    let mut last = "its name has no address".to_owned();
    for address in addresses(inner).await.map_err(unreachable)? {
        match connect(inner, kind, address).await {
            Ok(connection) => return greet(inner, kind, connection).await,
            Err(why) => last = why,
        }
    }
    Err(unreachable(last))
}

async fn addresses(inner: &Inner) -> Result<Vec<SocketAddr>, String> {
    let host = (inner.address.host.as_str(), inner.address.port);
    match timeout(HELLO_WAIT_MAX, lookup_host(host)).await {
        Ok(Ok(found)) => Ok(found.take(ADDRESSES_MAX).collect()),
        Ok(Err(error)) => Err(format!("its name cannot be resolved: {error}")),
        Err(_) => Err("its name is not resolved: the server of names does not answer".to_owned()),
    }
}

async fn connect(inner: &Inner, kind: ConnectionKind, address: SocketAddr) -> Result<Connection, String> {
    if let Some(voucher) = inner.endpoint.voucher() {
        let roster = Arc::clone(&inner.endpoint.roster().borrow());
        let member = roster.members.get(&inner.node);
        let member =
            member.ok_or_else(|| format!("{} is no node of the fleet {}", inner.node, roster.fleet))?;
        voucher.vouch(&inner.node, member, address).await.map_err(|error| error.to_string())?;
    }
    let connecting = inner.endpoint.connect(&inner.node, address, kind).map_err(|error| error.to_string())?;
    match timeout(HELLO_WAIT_MAX, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(worded(&error)),
        Err(_) => {
            Err("nothing answers there: see whether the daemon runs on it, and whether UDP gets through"
                .to_owned())
        }
    }
}

/// A failed connection in words.
pub(super) fn worded(error: &ConnectionError) -> String {
    match error {
        // CONNECTION_REFUSED (RFC 9000, section 20.1).
        ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 2 => {
            "it takes no connection now: its daemon is just stopping, or too many connect to it at once"
                .to_owned()
        }
        ConnectionError::ConnectionClosed(close) => {
            // 0x100 and the alert (RFC 9001, section 4.8).
            let alert =
                u64::from(close.error_code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
            let known = ALERTS.iter().find(|(number, _)| alert == Some(*number));
            known.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
        }
        ConnectionError::TimedOut => {
            "it does not answer any more: see whether the daemon runs on it, and whether UDP gets through"
                .to_owned()
        }
        other => words(&other.to_string()).to_owned(),
    }
}

async fn greet(inner: &Inner, kind: ConnectionKind, connection: Connection) -> Result<Open, LinkError> {
    let unreachable = |why: String| LinkError::Unreachable {
        node: inner.node.clone(),
        address: inner.address.clone(),
        why,
    };
    let roster = Arc::clone(&inner.endpoint.roster().borrow());
    let began = Instant::now();
    let sent_at = inner.endpoint.clock().now();
    let hello = Hello {
        major: MAJOR,
        minor: MINOR,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        kind,
        fleet: roster.fleet.to_string(),
        node: inner.own.to_string(),
        // It understands what it asks for, and is asked for nothing.
        capabilities: Vec::new(),
        time_nanos: sent_at.as_nanos(),
        roster: roster.number,
        fleet_file: None,
    };
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| worded(&error))?;
        let write = frames::write(&mut send, &Greeting::Hello(hello), HELLO_WAIT_MAX).await;
        write.map_err(|error| error.to_string())?;
        let _ = send.finish();
        let read = frames::read::<Greeting>(&mut receive, HELLO_WAIT_MAX).await;
        read.map_err(|error| {
            connection.close_reason().map_or_else(|| error.to_string(), |closed| worded(&closed))
        })
    };
    let refused = |refusal: Refusal| {
        let refusal = Refusal { text: plain(&refusal.text), ..refusal };
        LinkError::Refused { node: inner.node.clone(), refusal }
    };
    let chain = inner.endpoint.shown(&connection);
    let identity = inner.endpoint.judge(&chain);
    let identity = identity.map_err(|fault| unreachable(fault.to_string()))?;
    let greeted =
        timeout(HELLO_WAIT_MAX, exchange).await.unwrap_or_else(|_| Err("it sends no hello".to_owned()));
    match greeted {
        Ok(Greeting::Hello(hello))
            if hello.major == MAJOR
                && (hello.kind != kind
                    || hello.node != inner.node.as_str()
                    || hello.fleet != roster.fleet.as_str()) =>
        {
            connection.close(VarInt::from_u32(1), b"hello");
            Err(unreachable("its hello is not the one of that node".to_owned()))
        }
        Ok(Greeting::Hello(hello)) if hello.major == MAJOR => {
            let round_trip = began.elapsed();
            let known = Known {
                software: plain(&hello.software),
                clock_ahead_nanos: ahead(hello.time_nanos, sent_at.as_nanos(), round_trip),
                round_trip,
                can_append: hello.capabilities.iter().any(|known| known == CAPABILITY_APPEND),
                can_replicate: hello.capabilities.iter().any(|known| known == CAPABILITY_REPLICA),
                roster: hello.roster,
                fleet_file: hello.fleet_file,
                certificate_until: inner.endpoint.valid_until(&chain),
            };
            let (leveled, used) = (OnceCell::new(), std::sync::Mutex::new(began));
            let bound = roster.members.get(&inner.node).and_then(|member| member.tailnet_id.clone());
            Ok(Open { connection, identity, bound, known, leveled, used })
        }
        Ok(Greeting::Hello(hello)) => {
            connection.close(VarInt::from_u32(1), b"version");
            let text = format!(
                "it speaks version {} of the protocol and this node version {MAJOR}: bring both to versions of Backstay that have one in common",
                hello.major
            );
            Err(refused(Refusal { reason: Reason::Version, text, retry_after: None }))
        }
        Ok(Greeting::Refused(refusal)) => {
            connection.close(VarInt::from_u32(0), b"refused");
            Err(refused(refusal))
        }
        Err(why) => {
            connection.close(VarInt::from_u32(1), b"no hello");
            Err(unreachable(why))
        }
    }
}

/// By how much a clock is ahead that showed this when half of the round trip was over.
fn ahead(theirs: i64, sent: i64, round_trip: Duration) -> i64 {
    let half = i64::try_from(round_trip.as_nanos() / 2).unwrap_or(i64::MAX);
    theirs.saturating_sub(sent.saturating_add(half))
}
