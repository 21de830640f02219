//! What goes between two nodes beside objects: rosters, so that both have the newest, and certificates.

use backstay_vault::store::Pace;
use backstay_wire::peer::{Answer, ConnectionKind, ROSTER_BYTES_MAX, Request};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use tokio::task::spawn_blocking;

use super::ask::AskError;
use super::{Inner, Link, Open};

impl Link {
    /// A new certificate for this node's key, with those above it, if that node issues any.
    pub async fn renew(&self) -> Result<Vec<CertificateDer<'static>>, FleetAskError> {
        let pace = Pace::unlimited();
        let answer = self.ask(ConnectionKind::Live, &Request::Renew, Bytes::new(), &pace).await;
        match answer {
            Ok(Answer::Certificate { chain }) => Ok(chain.into_iter().map(CertificateDer::from).collect()),
            Ok(other) => Err(FleetAskError(format!("{other:?} where a certificate was asked for"))),
            Err(error) => Err(FleetAskError(error.to_string())),
        }
    }
}

impl Link {
    /// Offers this node's roster to that one, which takes it if it is newer than its own.
    pub async fn offer_roster(&self) -> Result<(), FleetAskError> {
        let bytes = self.inner.endpoint.roster().borrow().bytes().clone();
        let request = offer(&bytes);
        let offered = self.ask(ConnectionKind::Live, &request, bytes, &Pace::unlimited()).await;
        offered.map(|_| ()).map_err(|error| FleetAskError(error.to_string()))
    }
}

fn offer(bytes: &Bytes) -> Request {
    Request::OfferRoster { length: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
}

/// Why there is no new certificate, or a roster was not taken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FleetAskError(String);

/// Sees to it that both nodes have the newer one of both rosters. A connection is of use without that: the other node may be one
/// that cannot write it down.
pub(super) async fn level(inner: &Inner, open: &Open) {
    let ours = std::sync::Arc::clone(&inner.endpoint.roster().borrow());
    let theirs = open.known.roster;
    let pace = Pace::unlimited();
    let leveled = if theirs > ours.number {
        match open.ask_object(&Request::Roster, ROSTER_BYTES_MAX, &pace).await {
            Ok(bytes) => take(inner, bytes).await,
            Err(error) => Err(error),
        }
    } else if theirs < ours.number {
        let bytes = ours.bytes().clone();
        let request = offer(&bytes);
        open.ask(&request, bytes, &pace).await.map(|_| ())
    } else {
        Ok(())
    };
    if let Err(error) = leveled {
        tracing::warn!(node = %inner.node, %error, "the rosters of both nodes differ, and stay so");
    }
}

async fn take(inner: &Inner, bytes: Bytes) -> Result<(), AskError> {
    let endpoint = inner.endpoint.clone();
    let taken = spawn_blocking(move || endpoint.rosters().offer(bytes)).await;
    match taken {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(AskError::Answer(error.to_string())),
        Err(_) => Err(AskError::Lost("this node is stopping".to_owned())),
    }
}
