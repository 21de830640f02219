//! Keeping an invitation open: waits for the node that was invited, and enrols it. One at a time, and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::units::Timestamp;
use backstay_wire::peer::{JoinAnswer, JoinRequest, Reason, Refusal, Welcome};
use bytes::Bytes;
use quinn::{Connection, Incoming, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::invitation::Invitation;
use super::{proof, tls};
use crate::endpoint::bare_server;
use crate::frames::{self, HELLO_WAIT_MAX, SILENCE_MAX};
use crate::identity::{Certificate, OwnCertificate};
use crate::{EndpointError, tls::words};

/// With which code a node closes the connection that has made everything durable. Not 0, which an end without a word has as well.
pub(super) const JOINED: VarInt = VarInt::from_u32(7);

/// Those who are spoken with at once.
const AT_ONCE_MAX: usize = 16;

/// How often it is looked whether the invitation is over.
const LOOK: Duration = Duration::from_secs(1);

/// What a node gets that was enrolled.
#[derive(Debug)]
pub struct Admitted {
    /// Its certificate with those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The keys of the domain, sealed with age to it.
    pub bundle: Vec<u8>,
    /// The roster with it.
    pub roster: Bytes,
    /// The file of the fleet.
    pub fleet_file: Bytes,
}

/// Whoever can enrol a node: writes down that it belongs to the fleet, durably, before this returns. May block.
pub trait Enroller: Send + Sync {
    /// Enrols the node that shows this, from that address.
    fn enrol(&self, request: &JoinRequest, from: SocketAddr) -> Result<Admitted, Refusal>;

    /// Somebody was refused.
    fn refused(&self, from: SocketAddr, why: &str);
}

/// Why nobody was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// It cannot be listened.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody came in time.
    #[error("nobody took up the invitation in time; give a new one")]
    Over,
    /// The node was enrolled, and has probably not got the answer.
    #[error(
        "the node was enrolled, but the answer was cut off ({0}): invite it again, and have it join again"
    )]
    CutOff(String),
}

impl InviteError {
    /// Whether somebody else has the port.
    pub fn is_in_use(&self) -> bool {
        let Self::Endpoint(EndpointError::Bind { cause, .. }) = self else { return false };
        cause.kind() == std::io::ErrorKind::AddrInUse
    }
}

/// An invitation that is open.
#[derive(Debug)]
pub struct Inviting {
    endpoint: quinn::Endpoint,
}

impl Inviting {
    /// Listens at this address with this certificate, whose chain ends with the authority's own; within a runtime.
    pub fn open(address: SocketAddr, certificate: Certificate) -> Result<Self, InviteError> {
        let own = OwnCertificate::new(certificate).map_err(EndpointError::Tls)?;
        let config = tls::server(own).map_err(EndpointError::Tls)?;
        Ok(Self { endpoint: bare_server(address, config)? })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for the node, enrols it, and is over.
    pub async fn wait(
        self,
        invitation: &Invitation,
        enroller: Arc<dyn Enroller>,
        clock: Arc<dyn Clock>,
    ) -> Result<(), InviteError> {
        let open =
            Arc::new(Open { invitation: invitation.clone(), enroller, clock, is_used: Mutex::new(false) });
        let mut met = JoinSet::new();
        let outcome = loop {
            if open.clock.now() >= invitation.until {
                // Whoever was let in before is told so first; nobody else is, and each step has its limit.
                match met.join_next().await {
                    Some(Ok(Some(outcome))) => break outcome,
                    Some(_) => continue,
                    None => break Err(InviteError::Over),
                }
            }
            // Side by side, so that whoever connects and says nothing keeps nobody out.
            tokio::select! {
                accepted = timeout(LOOK, self.endpoint.accept()), if met.len() < AT_ONCE_MAX => match accepted {
                    Ok(Some(incoming)) => _ = met.spawn(meet(Arc::clone(&open), incoming)),
                    Ok(None) => break Err(InviteError::Over),
                    Err(_) => {}
                },
                Some(ended) = met.join_next() => if let Ok(Some(outcome)) = ended {
                    break outcome;
                },
            }
        };
        self.endpoint.close(VarInt::from_u32(0), b"the invitation is over");
        let _ = timeout(LOOK, self.endpoint.wait_idle()).await;
        outcome
    }
}

/// An invitation, for all who come meanwhile.
struct Open {
    invitation: Invitation,
    enroller: Arc<dyn Enroller>,
    clock: Arc<dyn Clock>,
    /// Whether a node was enrolled by it. Held while one is.
    is_used: Mutex<bool>,
}

/// One who comes. None where it was not the node that was invited.
async fn meet(open: Arc<Open>, incoming: Incoming) -> Option<Result<(), InviteError>> {
    let from = incoming.remote_address();
    let tell = |why: String| {
        open.enroller.refused(from, &why);
        None
    };
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return tell(error.to_string()),
    };
    let connection = match timeout(HELLO_WAIT_MAX, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tell(words(&error.to_string()).to_owned()),
        Err(_) => return tell("the handshake did not come to its end in time".to_owned()),
    };
    let exchange = async {
        let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
        let request = frames::read::<JoinRequest>(&mut receive, HELLO_WAIT_MAX).await;
        Ok::<_, String>((send, request.map_err(|error| error.to_string())?))
    };
    let (mut send, request) = match timeout(HELLO_WAIT_MAX, exchange).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(why)) => return tell(why),
        Err(_) => return tell("it asked for nothing".to_owned()),
    };
    match enrol(&open, &connection, request, from).await {
        Ok(admitted) => Some(welcome(&connection, send, admitted).await.map_err(InviteError::CutOff)),
        Err(refusal) => {
            open.enroller.refused(from, &refusal.text);
            if frames::write(&mut send, &JoinAnswer::Refused(refusal), HELLO_WAIT_MAX).await.is_ok() {
                let _ = send.finish();
                let _ = timeout(HELLO_WAIT_MAX, connection.closed()).await;
            }
            None
        }
    }
}

/// Enrols the node if it is the one that was invited; the first one alone.
async fn enrol(
    open: &Arc<Open>,
    connection: &Connection,
    request: JoinRequest,
    from: SocketAddr,
) -> Result<Admitted, Refusal> {
    check(connection, &open.invitation, &request, open.clock.now())?;
    let mut is_used = open.is_used.lock().await;
    if *is_used {
        return Err(refusal("the invitation was used already".to_owned()));
    }
    let enroller = Arc::clone(&open.enroller);
    let admitted = match tokio::task::spawn_blocking(move || enroller.enrol(&request, from)).await {
        Ok(admitted) => admitted?,
        Err(_) => return Err(refusal("enrolling panicked, which is an error in Backstay".to_owned())),
    };
    *is_used = true;
    Ok(admitted)
}

/// Whether it is the node that was invited, in time.
fn check(
    connection: &Connection,
    invitation: &Invitation,
    request: &JoinRequest,
    now: Timestamp,
) -> Result<(), Refusal> {
    if now >= invitation.until {
        return Err(refusal("the invitation is over; ask for a new one".to_owned()));
    }
    let binding = proof::binding(connection).map_err(refusal)?;
    let expected = proof::proof(&invitation.secret, &binding, &invitation.authority, request);
    // Compared in constant time.
    if blake3::Hash::from_bytes(expected) != blake3::Hash::from_bytes(request.proof) {
        return Err(refusal(
            "this is not the invitation that is open here: it was used, replaced, or is for another node"
                .to_owned(),
        ));
    }
    if request.node != invitation.node.as_str() {
        return Err(refusal(format!("{} was invited, and not {}", invitation.node, request.node)));
    }
    Ok(())
}

async fn welcome(connection: &Connection, mut send: SendStream, admitted: Admitted) -> Result<(), String> {
    let welcome = Welcome {
        chain: admitted.chain.iter().map(|der| der.to_vec()).collect(),
        bundle: admitted.bundle,
        roster_length: admitted.roster.len() as u64,
        fleet_file_length: admitted.fleet_file.len() as u64,
    };
    let written = frames::write(&mut send, &JoinAnswer::Welcome(welcome), SILENCE_MAX).await;
    written.map_err(|error| error.to_string())?;
    for payload in [admitted.roster, admitted.fleet_file] {
        match timeout(SILENCE_MAX, send.write_chunk(payload)).await {
            Ok(written) => written.map_err(|error| error.to_string())?,
            Err(_) => return Err("nothing more is taken".to_owned()),
        }
    }
    let _ = send.finish();
    // It closes when it has written all of that down.
    match timeout(SILENCE_MAX, connection.closed()).await {
        Ok(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == JOINED => Ok(()),
        Ok(error) => Err(error.to_string()),
        Err(_) => Err("it does not say that it has everything".to_owned()),
    }
}

fn refusal(text: String) -> Refusal {
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
