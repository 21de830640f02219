//! Putting an object into a space: permitted, with room, whole, durable, and then under its name. What was acknowledged is there
//! after a loss of power; what was cut off has left nothing.

use std::sync::Arc;

use backstay_core::id::ObjectHash;
use backstay_vault::clear::{ClearKind, FormatObject, TrustObject};
use backstay_vault::envelope;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::Store;
use backstay_wire::peer::{Answer, Reason, Refusal};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::objects::hash_of;
use super::receive::{NotTaken, Payload, Received, SMALL_BYTES_MAX, blocking, receive};
use super::rules::{self, Change, Condition, Rights};
use super::space::{SMALL_BYTES_AT_ONCE, Space, Writer, denied, fault, parse, purpose, refusal_of};

/// An object that somebody wants to put.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    /// Its name.
    pub(crate) name: String,
    /// Its length, bytes.
    pub(crate) length: u64,
    /// BLAKE3-256 of it.
    pub(crate) hash: [u8; 32],
    /// BLAKE3-256 of the object that it takes the place of.
    pub(crate) renews: Option<[u8; 32]>,
}

impl Space {
    /// Puts an object.
    pub(crate) async fn put(
        &self,
        rights: Rights,
        writer: &Writer,
        offered: &Offered,
        payload: &mut impl Payload,
    ) -> Result<Answer, NotTaken> {
        let (name, named) = parse(&offered.name)?;
        let change = if offered.renews.is_some() { Change::Renew } else { Change::Create };
        let condition = rules::judge(rights, &named, change).map_err(|why| denied(&name, why))?;
        if rights == Rights::Write {
            refuse_other_hash(&name, &named, offered)?;
        }
        let is_small = offered.length <= SMALL_BYTES_MAX;
        if condition != Condition::Free && !is_small {
            let text = format!("{name} can have {SMALL_BYTES_MAX} bytes and not {}", offered.length);
            return Err(Refusal { reason: Reason::TooLarge, text, retry_after: None }.into());
        }
        let promise = self.promise(&named, offered.length).await?;
        let bytes = if is_small { offered.length as u32 } else { 0 };
        let _in_memory = self.small.acquire_many(bytes.min(SMALL_BYTES_AT_ONCE as u32)).await;
        let received = receive(&self.store, &self.pool, &name, offered.length, offered.hash, payload).await?;
        if let Received::Small(content) = &received {
            self.check_condition(condition, writer, &name, Some(content)).await?;
        }
        let _turn = self.turn(&name).await;
        let found = hash_of(&self.store, &name).await?;
        if found == Some(offered.hash) {
            // Whoever has put it may have died before its name was durable.
            self.store.make_durable(&name).await.map_err(refusal_of)?;
            return Ok(Answer::Done);
        }
        refuse_conflict(&name, &named, found, offered.renews)?;
        match received {
            Received::Small(content) => self.store.put(&name, content).await.map_err(refusal_of)?,
            Received::Large(arriving) => blocking(move || arriving.place()).await?,
        }
        promise.kept();
        Ok(Answer::Done)
    }

    async fn promise(&self, named: &Named, length: u64) -> Result<super::room::Promise, Refusal> {
        self.count_once().await?;
        let (room, purpose) = (Arc::clone(&self.room), purpose(named));
        match spawn_blocking(move || room.promise(length, purpose)).await {
            Ok(promised) => promised,
            Err(_) => Err(fault("the holder is stopping".to_owned())),
        }
    }

    /// Whether what is put, and what it takes the place of, is of whoever may do that.
    pub(super) async fn check_condition(
        &self,
        condition: Condition,
        writer: &Writer,
        name: &ObjectName,
        put: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        match condition {
            Condition::Free => Ok(()),
            Condition::SignedByAdmin(kind) => {
                let put = put.map(|content| &content[..]).unwrap_or_default();
                let signer = match kind {
                    ClearKind::Format => {
                        backstay_vault::clear::read::<FormatObject>(kind, put).map(|(_, signer)| signer)
                    }
                    ClearKind::Trust => {
                        backstay_vault::clear::read::<TrustObject>(kind, put).map(|(_, signer)| signer)
                    }
                };
                match signer {
                    Ok(signer) if signer == writer.admin => Ok(()),
                    _ => Err(not_signed(name, "the admin of the fleet")),
                }
            }
            Condition::SignedByNode(kind) => {
                let before = match self.store.get(name).await {
                    Ok(before) => Some(before),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(refusal_of(error)),
                };
                for content in put.into_iter().chain(before.as_ref()) {
                    match envelope::check_signature(writer.domain, kind, name.stem(), content) {
                        Ok(signer) if signer == writer.signer => {}
                        _ => return Err(not_signed(name, "the node that asks")),
                    }
                }
                Ok(())
            }
        }
    }
}

/// A name that ends with a hash is that of one content.
fn refuse_other_hash(name: &ObjectName, named: &Named, offered: &Offered) -> Result<(), Refusal> {
    match hash_in(named) {
        Some(hash) if hash != offered.hash => {
            let text = format!("{name} is not the name of what was announced: the hash in it is another one");
            Err(Refusal { reason: Reason::Mismatch, text, retry_after: None })
        }
        _ => Ok(()),
    }
}

/// The hash of the content that a name has.
fn hash_in(named: &Named) -> Option<[u8; 32]> {
    let of = |hash: &ObjectHash| Some(*hash.as_bytes());
    match named {
        Named::Pack(id) => Some(*id.as_bytes()),
        Named::Index(_, hash)
        | Named::Point(_, _, hash)
        | Named::Layout(_, _, hash)
        | Named::Head(_, _, hash)
        | Named::Gc(_, hash)
        | Named::Bad(_, hash)
        | Named::Proof(_, _, hash) => of(hash),
        Named::Format(_) | Named::Trust(_) | Named::Key(_) | Named::Session(_) | Named::Fence(_) => None,
    }
}

/// Whether what is there may be replaced: what is to be renewed, and what is damaged, since its name says what it should be.
fn refuse_conflict(
    name: &ObjectName,
    named: &Named,
    found: Option<[u8; 32]>,
    renews: Option<[u8; 32]>,
) -> Result<(), Refusal> {
    match (found, renews) {
        (None, None) => Ok(()),
        (Some(found), Some(renews)) if found == renews => Ok(()),
        (Some(_), None) if hash_in(named).is_some() => {
            tracing::warn!(%name, "what is held was damaged, and is replaced by what its writer has sent again");
            Ok(())
        }
        _ => {
            let text = format!(
                "{name} is not, or not any more, what this would take the place of; what is there stays"
            );
            Err(Refusal { reason: Reason::Exists, text, retry_after: None })
        }
    }
}

fn not_signed(name: &ObjectName, who: &str) -> Refusal {
    let text = format!("{name}: only what {who} has signed can be put or take the place of another one");
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
