//! Taking up an invitation.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::id::SignerKey;
use backstay_wire::peer::{JoinAnswer, JoinRequest};
use bytes::Bytes;
use quinn::{ClientConfig, Connection, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::accept::JOINED;
use super::invitation::{ADDRESSES_MAX, Invitation};
use super::{proof, tls};
use crate::frames::{self, HELLO_WAIT_MAX, SILENCE_MAX};
use crate::identity::{NodeKey, RosterFault, SignedRoster};
use crate::tls::words;

/// What the joining node shows of itself.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Its key for TLS.
    pub tls_key: NodeKey,
    /// The key by which it signs objects.
    pub signer: SignerKey,
    /// To whom its keys are wrapped, `age1…`.
    pub recipient: String,
    /// The certificate of the authority by which it would renew those of others.
    pub authority: CertificateDer<'static>,
}

/// What it has got.
#[derive(Debug)]
pub struct Joined {
    /// Its certificate with those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The keys of the domain, sealed with age.
    pub bundle: Vec<u8>,
    /// The roster, signed by the admin that the invitation names.
    pub roster: SignedRoster,
    /// The file of the fleet.
    pub fleet_file: Bytes,
    connection: Connection,
    endpoint: quinn::Endpoint,
}

/// Why it has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The inviting node was not reached.
    #[error("cannot reach {inviter}: {why}")]
    Unreachable {
        /// The node that invited.
        inviter: String,
        /// What happened.
        why: String,
    },
    /// It was reached, and refuses.
    #[error("{inviter} refuses: {why}")]
    Refused {
        /// The node that invited.
        inviter: String,
        /// What it says.
        why: String,
    },
    /// What it sent is not what a node needs.
    #[error("what {inviter} has sent cannot be used: {why}")]
    Answer {
        /// The node that invited.
        inviter: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Joined {
    /// Everything is written down: tells the inviting node.
    pub async fn done(self) {
        self.connection.close(JOINED, b"joined");
        let _ = timeout(HELLO_WAIT_MAX, self.endpoint.wait_idle()).await;
    }
}

/// Takes up an invitation; within a runtime. What comes has to be written down before [`Joined::done`].
pub async fn join(
    invitation: &Invitation,
    joining: &Joining,
    clock: Arc<dyn Clock>,
) -> Result<Joined, JoinError> {
    let inviter = invitation.inviter.to_string();
    let unreachable = |why: String| JoinError::Unreachable { inviter: inviter.clone(), why };
    let (endpoint, connection) = connect(invitation, Arc::clone(&clock)).await.map_err(|why| {
        let is_over = clock.now() >= invitation.until;
        let over =
            if is_over { "; by this node's clock the invitation is over: ask for a new one" } else { "" };
        unreachable(format!("{why}{over}"))
    })?;
    let answer = |why: String| JoinError::Answer { inviter: inviter.clone(), why };
    let binding = proof::binding(&connection).map_err(answer)?;
    let mut request = JoinRequest {
        node: invitation.node.to_string(),
        tls_key: *joining.tls_key.as_bytes(),
        signing_key: *joining.signer.as_bytes(),
        recipient: joining.recipient.clone(),
        authority: joining.authority.to_vec(),
        proof: [0; 32],
    };
    request.proof = proof::proof(&invitation.secret, &binding, &invitation.authority, &request);
    let (mut send, mut receive) = match timeout(HELLO_WAIT_MAX, connection.open_bi()).await {
        Ok(opened) => opened.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable("it takes no request".to_owned())),
    };
    let written = frames::write(&mut send, &request, HELLO_WAIT_MAX).await;
    written.map_err(|error| unreachable(error.to_string()))?;
    let _ = send.finish();
    let read = frames::read::<JoinAnswer>(&mut receive, SILENCE_MAX).await;
    let welcome = match read.map_err(|error| unreachable(error.to_string()))? {
        JoinAnswer::Welcome(welcome) => welcome,
        JoinAnswer::Refused(refusal) => {
            connection.close(VarInt::from_u32(1), b"refused");
            return Err(JoinError::Refused { inviter, why: refusal.text });
        }
    };
    let roster = payload(&mut receive, welcome.roster_length).await.map_err(unreachable)?;
    let fleet_file = payload(&mut receive, welcome.fleet_file_length).await.map_err(unreachable)?;
    let roster = SignedRoster::read(roster, Some(invitation.admin))
        .map_err(|fault: RosterFault| answer(fault.to_string()))?;
    if roster.fleet != invitation.fleet || !roster.members.contains_key(&invitation.node) {
        return Err(answer(format!(
            "its roster is not that of {} with {}",
            invitation.fleet, invitation.node
        )));
    }
    Ok(Joined {
        chain: welcome.chain.into_iter().map(CertificateDer::from).collect(),
        bundle: welcome.bundle,
        roster,
        fleet_file,
        connection,
        endpoint,
    })
}

async fn connect(
    invitation: &Invitation,
    clock: Arc<dyn Clock>,
) -> Result<(quinn::Endpoint, Connection), String> {
    let crypto = tls::client(invitation, clock).map_err(|error| error.to_string())?;
    let config = ClientConfig::new(Arc::new(crypto));
    let mut last = "its addresses cannot be resolved".to_owned();
    for text in &invitation.addresses {
        let found = match timeout(HELLO_WAIT_MAX, lookup_host(text)).await {
            Ok(Ok(found)) => found.take(ADDRESSES_MAX).collect::<Vec<_>>(),
            Ok(Err(error)) => {
                last = format!("{text}: {error}");
                continue;
            }
            Err(_) => continue,
        };
        for address in found {
            match connect_to(config.clone(), address).await {
                Ok(connected) => return Ok(connected),
                Err(why) => last = format!("{address}: {why}"),
            }
        }
    }
    Err(last)
}

async fn connect_to(
    config: ClientConfig,
    address: SocketAddr,
) -> Result<(quinn::Endpoint, Connection), String> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(|error| error.to_string())?;
    let connecting = endpoint.connect_with(config, address, "backstay.invalid");
    match timeout(HELLO_WAIT_MAX, connecting.map_err(|error| error.to_string())?).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(error)) => Err(words(&error.to_string()).to_owned()),
        Err(_) => {
            Err("nothing answers there: see that `backstay invite` still waits, and that UDP gets through"
                .to_owned())
        }
    }
}

/// A payload of a length that was bounded before.
async fn payload(receive: &mut RecvStream, length: u64) -> Result<Bytes, String> {
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    match timeout(SILENCE_MAX, receive.read_exact(&mut content)).await {
        Ok(Ok(())) => Ok(content.into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("nothing more comes".to_owned()),
    }
}
