//! One request: read, looked at by whom it is from, done, answered.

use std::str::FromStr;
use std::sync::Arc;

use backstay_core::config::{NodeName, ServiceName};
use backstay_core::id::SourceId;
use backstay_wire::peer::{Answer, Reason, Refusal, ReplicaRequest, Request};
use backstay_zfs::replicate::Holder;
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout};

use super::peer::{Peer, denied};
use super::{Granted, fleet};
use crate::frames::{self, MessageError, SILENCE_MAX, plain};
use crate::hold::{Appended, Lost, NotTaken, Offered, Opened, Payload, Rights};
use crate::outgoing::{Outgoing, allowed};
use crate::replica::{self, Performed};

/// With which code a stream is not read further.
const ENOUGH: VarInt = VarInt::from_u32(0);

/// How much of a stream is taken at once, bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Answers one request.
pub(super) async fn answer(peer: Arc<Peer>, connection: Connection, send: SendStream, receive: RecvStream) {
    let mut exchange = Exchange { peer, send: Outgoing::new(send), receive };
    let request = match frames::read(&mut exchange.receive, SILENCE_MAX).await {
        Ok(request) => request,
        Err(error) => return exchange.not_a_request(&connection, &error).await,
    };
    match exchange.perform(request).await {
        Ok(Done::Answered(Answer::Refused(refusal))) => exchange.refuse(refusal).await,
        Ok(Done::Answered(answer @ Answer::RefusedByZfs { .. })) => exchange.refuse_by_zfs(answer).await,
        Ok(Done::Answered(answer)) => exchange.reply(&answer).await,
        Ok(Done::Object(opened)) => exchange.send_object(opened).await,
        Ok(Done::Bytes(bytes)) => exchange.send_bytes(bytes).await,
        Err(NotTaken::Refused(refusal)) => {
            if refusal.reason == Reason::Malformed && exchange.peer.is_too_malformed() {
                exchange.peer.note(&refusal.text);
                return connection.close(VarInt::from_u32(1), b"malformed");
            }
            exchange.refuse(refusal).await;
        }
        // Nobody is there any more to whom it could be said; if there is, the stream that is reset tells.
        Err(NotTaken::Lost(Lost(why))) => {
            tracing::debug!(node = %exchange.peer.node, why, "a request was cut off");
        }
    }
}

struct Exchange {
    peer: Arc<Peer>,
    send: Outgoing,
    receive: RecvStream,
}

enum Done {
    Answered(Answer),
    Object(Opened),
    Bytes(Bytes),
}

impl Exchange {
    async fn perform(&mut self, request: Request) -> Result<Done, NotTaken> {
        Ok(match request {
            Request::Put { space, name, length, hash, renews } => {
                let granted = self.grant(&space).await?;
                let offered = Offered { name, length, hash, renews };
                let mut payload = Incoming::new(&mut self.receive);
                let put = granted.space.put(granted.rights, &granted.writer, offered, &mut payload);
                Done::Answered(put.await?)
            }
            Request::Get { space, name } => {
                self.nothing_follows().await?;
                Done::Object(self.grant(&space).await?.space.open(&name, None).await?)
            }
            Request::GetRange { space, name, offset, length } => {
                self.nothing_follows().await?;
                Done::Object(self.grant(&space).await?.space.open(&name, Some((offset, length))).await?)
            }
            Request::List { space, folder, after } => {
                self.nothing_follows().await?;
                Done::Answered(self.grant(&space).await?.space.list(&folder, after.as_deref()).await?)
            }
            Request::Delete { space, names } => {
                self.nothing_follows().await?;
                let granted = self.grant(&space).await?;
                Done::Answered(granted.space.delete(granted.rights, &granted.writer, &names).await?)
            }
            Request::Room { space } => {
                self.nothing_follows().await?;
                Done::Answered(self.grant(&space).await?.space.tell_room().await?)
            }
            Request::Append { space, name, offset, length, hash } => {
                let granted = self.grant(&space).await?;
                let appended = Appended { name, offset, length, hash };
                let mut payload = Incoming::new(&mut self.receive);
                Done::Answered(granted.space.append(granted.rights, appended, &mut payload).await?)
            }
            Request::Roster => {
                self.nothing_follows().await?;
                self.peer.admitted().await?;
                Done::Bytes(self.peer.roster().bytes().clone())
            }
            Request::OfferRoster { length, hash } => {
                let peer = Arc::clone(&self.peer);
                let mut payload = Incoming::new(&mut self.receive);
                Done::Answered(fleet::take_roster(&peer, &mut payload, length, hash).await?)
            }
            Request::Renew => {
                self.nothing_follows().await?;
                Done::Answered(fleet::renew(&self.peer).await?)
            }
            Request::Standing { space, vault, source } => {
                self.nothing_follows().await?;
                // Whoever may read there may know that.
                self.grant(&space).await?;
                let writer = node_named(&space)?;
                let standing = self.peer.shared.host.standing(&writer, &vault, SourceId::new(source))?;
                Done::Answered(Answer::Standing(standing))
            }
            Request::Replica { space, service, what } => self.replica(&space, &service, what).await?,
            Request::Unknown { what } => {
                let text =
                    format!("request {what} is not known to this version: bring both nodes to the same one");
                return Err(Refusal { reason: Reason::Unknown, text, retry_after: None }.into());
            }
        })
    }

    async fn replica(&mut self, space: &str, service: &str, what: ReplicaRequest) -> Result<Done, NotTaken> {
        let needs = match what {
            ReplicaRequest::List => Rights::Read,
            _ => Rights::Write,
        };
        if let ReplicaRequest::Receive(arriving) = what {
            let holder = self.holder(space, service, needs).await?;
            let turn = self.peer.shared.replica_turns.to_receive(&self.peer.node)?;
            return Ok(Done::Answered(replica::receive(holder, turn, arriving, &mut self.receive).await?));
        }
        self.nothing_follows().await?;
        let holder = self.holder(space, service, needs).await?;
        let turn = self.peer.shared.replica_turns.to_do(&self.peer.node).await?;
        Ok(match replica::perform(holder, turn, what).await? {
            Performed::Answer(answer) => Done::Answered(answer),
            Performed::Listing(bytes) => Done::Bytes(bytes),
        })
    }

    /// Who has the replicas of a service of the node, as roster, certificate and configuration are now.
    async fn holder(&self, space: &str, service: &str, needs: Rights) -> Result<Arc<dyn Holder>, Refusal> {
        let member = self.peer.admitted().await?;
        let identity = self.peer.identity()?;
        if node_named(space)? != identity.node {
            return Err(denied(format!("the replicas of {} are not for {}", plain(space), identity.node)));
        }
        if needs == Rights::Write && identity.expired_since.is_some() {
            let text = "its certificate has expired: it may look at its replicas, and change nothing there";
            return Err(denied(format!("{}: {text}", identity.node)));
        }
        let service = ServiceName::from_str(service).map_err(|error| denied(error.to_string()))?;
        self.peer.shared.host.replicas(&identity, &member, &service)
    }

    /// All but those with a payload consist of their message.
    async fn nothing_follows(&mut self) -> Result<(), NotTaken> {
        frames::end(&mut self.receive, SILENCE_MAX).await.map_err(|error| match error.is_fault_of_peer() {
            true => NotTaken::Refused(malformed(&error)),
            false => NotTaken::Lost(Lost(error.to_string())),
        })
    }

    /// What the node may do in a space, as roster, certificate and configuration are now.
    async fn grant(&self, space: &str) -> Result<Granted, Refusal> {
        let member = self.peer.admitted().await?;
        let identity = self.peer.identity()?;
        let space = node_named(space)?;
        let mut granted = self.peer.shared.host.grant(&identity, &member, &space)?;
        if identity.expired_since.is_some() {
            granted.rights = Rights::Read;
        }
        Ok(granted)
    }

    async fn reply(&mut self, answer: &Answer) {
        // Whoever has given up is not told.
        if frames::write(&mut self.send.stream, answer, SILENCE_MAX).await.is_ok() {
            let _ = self.send.finish(SILENCE_MAX).await;
        }
    }

    async fn refuse(&mut self, refusal: Refusal) {
        if !matches!(refusal.reason, Reason::NotFound | Reason::Truncated | Reason::Busy | Reason::Stale) {
            self.peer.note(&refusal.text);
        }
        // What is still on its way is not read.
        let _ = self.receive.stop(ENOUGH);
        self.reply(&Answer::Refused(refusal)).await;
    }

    async fn refuse_by_zfs(&mut self, answer: Answer) {
        if let Answer::RefusedByZfs { doing, number } = &answer
            && let Some(note) = replica::worth_a_note(doing, *number)
        {
            self.peer.note(&note);
        }
        let _ = self.receive.stop(ENOUGH);
        self.reply(&answer).await;
    }

    async fn not_a_request(&mut self, connection: &Connection, error: &MessageError) {
        if !error.is_fault_of_peer() {
            return;
        }
        if self.peer.is_too_malformed() {
            self.peer.note(&error.to_string());
            return connection.close(VarInt::from_u32(1), b"malformed");
        }
        self.refuse(malformed(error)).await;
    }

    async fn send_object(&mut self, mut opened: Opened) {
        let length = opened.remaining();
        let sent = async {
            let answer = Answer::Object { length };
            if frames::write(&mut self.send.stream, &answer, SILENCE_MAX).await.is_err() {
                return;
            }
            loop {
                match opened.next().await {
                    Ok(Some(piece)) => {
                        if self.send.payload(piece).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return self.peer.note(&error.to_string()),
                }
            }
            let _ = self.send.finish(SILENCE_MAX).await;
        };
        let _ = timeout(allowed(length), sent).await;
    }

    async fn send_bytes(&mut self, bytes: Bytes) {
        let answer = Answer::Object { length: bytes.len() as u64 };
        let written = frames::write(&mut self.send.stream, &answer, SILENCE_MAX).await;
        if written.is_ok() && self.send.payload(bytes).await.is_ok() {
            let _ = self.send.finish(SILENCE_MAX).await;
        }
    }
}

/// The payload of a request, which has until then.
struct Incoming<'s> {
    receive: &'s mut RecvStream,
    until: Instant,
}

impl<'s> Incoming<'s> {
    fn new(receive: &'s mut RecvStream) -> Self {
        Self { receive, until: Instant::now() + SILENCE_MAX }
    }
}

impl Payload for Incoming<'_> {
    fn begin(&mut self, length: u64) {
        self.until = Instant::now() + allowed(length);
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        let within = self.until.saturating_duration_since(Instant::now()).min(SILENCE_MAX);
        match timeout(within, self.receive.read_chunk(PIECE_BYTES, true)).await {
            Ok(Ok(piece)) => Ok(piece.map(|chunk| chunk.bytes)),
            Ok(Err(error)) => Err(Lost(error.to_string())),
            Err(_) => Err(Lost("the payload has stalled".to_owned())),
        }
    }
}

fn node_named(space: &str) -> Result<NodeName, Refusal> {
    NodeName::from_str(space).map_err(|error| denied(format!("no node has this name: {error}")))
}

fn malformed(error: &MessageError) -> Refusal {
    Refusal { reason: Reason::Malformed, text: error.to_string(), retry_after: None }
}
