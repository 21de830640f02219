//! Changing what a space holds: permitted, with room, whole, durable, and then under its name. What was acknowledged is there
//! after a loss of power; what was cut off has left nothing. A change that has begun is done to its end, also when whoever asked
//! for it is gone: half of it would be done by nobody, and out of its turn.

use std::sync::Arc;

use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Store, is_kept};
use backstay_wire::peer::{Answer, Reason, Refusal};
use tokio::task::spawn_blocking;

use super::objects::{There, look_at};
use super::receive::{NotTaken, Payload, Received, SMALL_BYTES_MAX, blocking, receive};
use super::room::Promise;
use super::rules::{self, Change, Condition, Rights};
use super::space::{Space, Writer, busy, denied, fault, parse, purpose, refusal_of};

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

/// An object that is here whole, and is to get its name.
struct Arrived {
    name: ObjectName,
    named: Named,
    offered: Offered,
    received: Received,
    condition: Condition,
    writer: Writer,
    promise: Promise,
}

impl Space {
    /// Puts an object.
    pub(crate) async fn put(
        self: &Arc<Self>,
        rights: Rights,
        writer: &Writer,
        offered: Offered,
        payload: &mut impl Payload,
    ) -> Result<Answer, NotTaken> {
        let (name, named) = parse(&offered.name)?;
        let change = if offered.renews.is_some() { Change::Renew } else { Change::Create };
        let condition = rules::judge(rights, &named, change).map_err(|why| denied(&name, why))?;
        refuse_other_hash(&name, &named, &offered)?;
        let is_small = offered.length <= SMALL_BYTES_MAX;
        if rules::is_small(&named) && !is_small {
            let text = format!("{name} can have {SMALL_BYTES_MAX} bytes and not {}", offered.length);
            return Err(Refusal { reason: Reason::TooLarge, text, retry_after: None }.into());
        }
        let promise = self.promise(&name, &named, offered.length).await?;
        // What has to be looked into comes into memory; anything else does where there is some.
        let memory = if is_small { self.memory_for(offered.length) } else { None };
        let in_memory = memory.is_some();
        if condition != Condition::Free && !in_memory {
            return Err(busy("too much is put at once").into());
        }
        let _place = match in_memory {
            true => None,
            false => {
                Some(self.large.try_acquire().map_err(|_| busy("too many large objects are put at once"))?)
            }
        };
        payload.begin(offered.length);
        let received = receive(&self.store, &self.pool, &name, &offered, in_memory, payload).await?;
        let arrived = Arrived { name, named, offered, received, condition, writer: *writer, promise };
        let space = Arc::clone(self);
        match tokio::spawn(async move { space.settle(arrived).await }).await {
            Ok(settled) => Ok(settled?),
            Err(_) => Err(fault("the holder is stopping".to_owned()).into()),
        }
    }

    /// Gives an object its name.
    async fn settle(&self, arrived: Arrived) -> Result<Answer, Refusal> {
        let Arrived { name, named, offered, received, condition, writer, promise } = arrived;
        let _turn = self.turn(&name).await;
        if let Received::Small(content) = &received {
            self.check_condition(condition, &writer, (&name, &named), Some(content)).await?;
        }
        let there = look_at(&self.store, &name, hash_in(&named).is_some()).await?;
        if there.hash() == Some(offered.hash) {
            // Whoever has put it may have died before its name was durable.
            self.store.make_durable(&name).await.map_err(refusal_of)?;
            return Ok(Answer::Done);
        }
        refuse_conflict(&name, &named, &there, &offered)?;
        match received {
            Received::Small(content) => self.store.put(&name, content).await.map_err(refusal_of)?,
            Received::Large(arriving) => blocking(move || arriving.place()).await?,
        }
        promise.kept();
        if matches!(named, Named::Point(..) | Named::Head(..)) {
            self.commits.send_modify(|commits| *commits += 1);
        }
        Ok(Answer::Done)
    }

    /// Deletes objects; none if one of them may not be.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        rights: Rights,
        writer: &Writer,
        names: &[String],
    ) -> Result<Answer, Refusal> {
        let mut parsed = Vec::new();
        for name in names {
            let (name, named) = parse(name)?;
            let condition = rules::judge(rights, &named, Change::Delete).map_err(|why| denied(&name, why))?;
            self.check_condition(condition, writer, (&name, &named), None).await?;
            parsed.push((name, named, condition));
        }
        let (space, writer) = (Arc::clone(self), *writer);
        let deleted = tokio::spawn(async move {
            for (name, named, condition) in parsed {
                space.delete_one(&writer, &name, &named, condition).await?;
            }
            Ok(Answer::Done)
        });
        deleted.await.unwrap_or_else(|_| Err(fault("the holder is stopping".to_owned())))
    }

    async fn delete_one(
        &self,
        writer: &Writer,
        name: &ObjectName,
        named: &Named,
        condition: Condition,
    ) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        // Again: it may have been renewed since.
        self.check_condition(condition, writer, (name, named), None).await?;
        let length = match self.store.length(name).await {
            Ok(length) => Some(length),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(refusal_of(error)),
        };
        // Also where it is not there any more: that may not be durable.
        self.store.delete(name).await.map_err(refusal_of)?;
        // What a trash keeps takes its room still.
        if let Some(length) = length.filter(|_| !is_kept(named)) {
            self.room.forget(length);
        }
        Ok(())
    }

    /// Keeps room for an object: for what it is longer than the one that is there.
    async fn promise(&self, name: &ObjectName, named: &Named, length: u64) -> Result<Promise, Refusal> {
        self.count_once().await?;
        let before = match self.store.length(name).await {
            Ok(before) => Some(before),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(refusal_of(error)),
        };
        let (room, purpose) = (Arc::clone(&self.room), purpose(named));
        match spawn_blocking(move || room.promise(length, before, purpose)).await {
            Ok(promised) => promised,
            Err(_) => Err(fault("the holder is stopping".to_owned())),
        }
    }
}

/// A name that ends with a hash is that of one content.
fn refuse_other_hash(name: &ObjectName, named: &Named, offered: &Offered) -> Result<(), Refusal> {
    match hash_in(named) {
        Some(hash) if hash != offered.hash => {
            let text = format!("{name} is not the name of what was announced: the hash in it is another one");
            Err(Refusal { reason: Reason::Denied, text, retry_after: None })
        }
        _ => Ok(()),
    }
}

/// The hash of the content that a name has.
pub(super) fn hash_in(named: &Named) -> Option<[u8; 32]> {
    match named {
        Named::Pack(id) => Some(*id.as_bytes()),
        other => other.content_hash().map(|hash| *hash.as_bytes()),
    }
}

/// Whether what is there may be replaced: what is to be renewed, and what is damaged, since its name says what it should be.
fn refuse_conflict(
    name: &ObjectName,
    named: &Named,
    there: &There,
    offered: &Offered,
) -> Result<(), Refusal> {
    match (there, offered.renews) {
        (There::Nothing, None) => Ok(()),
        (There::Hash(found), Some(renews)) if *found == renews => Ok(()),
        (There::Hash(_) | There::Unreadable, None) if hash_in(named) == Some(offered.hash) => {
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
