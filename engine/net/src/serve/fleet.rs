//! Requests that are about the fleet and not about objects: the roster, and certificates.

use std::sync::Arc;

use backstay_wire::peer::{Answer, Reason, Refusal};
use bytes::BytesMut;
use tokio::task::spawn_blocking;

use super::peer::{Peer, denied};
use crate::hold::{NotTaken, Payload};

/// Takes a roster that is offered, if the admin has signed it and it is newer. Whoever offers it may be a node that only becomes a
/// member by it: what counts is the signature.
pub(super) async fn take_roster(
    peer: &Arc<Peer>,
    payload: &mut impl Payload,
    length: u64,
    hash: [u8; 32],
) -> Result<Answer, NotTaken> {
    payload.begin(length);
    let mut bytes = BytesMut::new();
    while let Some(piece) = payload.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > length {
            break;
        }
    }
    if bytes.len() as u64 != length || *blake3::hash(&bytes).as_bytes() != hash {
        let text = "what came is not the roster that was announced".to_owned();
        return Err(Refusal { reason: Reason::Mismatch, text, retry_after: None }.into());
    }
    let (asked, bytes) = (Arc::clone(peer), bytes.freeze());
    let offer = bytes.clone();
    let offered = spawn_blocking(move || asked.shared.endpoint.rosters().offer(offer)).await;
    match offered {
        Ok(Ok(true)) => {
            tracing::info!(number = peer.roster().number, from = %peer.node, "a newer roster of the fleet");
            Ok(Answer::Done)
        }
        // The same one is done; of an older one it is said that it is.
        Ok(Ok(false)) if peer.roster().bytes()[..] == bytes[..] => Ok(Answer::Done),
        Ok(Ok(false)) => {
            let text = format!("there is a newer roster here, of number {}", peer.roster().number);
            Err(Refusal { reason: Reason::Exists, text, retry_after: None }.into())
        }
        Ok(Err(error)) => Err(denied(error.to_string()).into()),
        Err(_) => {
            Err(Refusal { reason: Reason::Fault, text: "the node is stopping".to_owned(), retry_after: None }
                .into())
        }
    }
}

/// A new certificate, for the key that the connection was made with.
pub(super) async fn renew(peer: &Arc<Peer>) -> Result<Answer, Refusal> {
    peer.admitted().await?;
    let (asked, identity) = (Arc::clone(peer), peer.identity()?);
    let issued = spawn_blocking(move || asked.shared.host.renew(&identity)).await;
    let chain = issued.unwrap_or_else(|_| Err(denied("the node is stopping".to_owned())))?;
    tracing::info!(node = %peer.node, "issued a new certificate");
    Ok(Answer::Certificate { chain: chain.into_iter().map(|der| der.to_vec()).collect() })
}
