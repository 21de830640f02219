//! Appending to objects of journals, within the room that a space has.

use std::sync::Arc;

use backstay_vault::store::{Store, StoreErrorKind};
use backstay_wire::peer::{Answer, Refusal};
use tokio::task::spawn_blocking;

use super::receive::{NotTaken, Payload, receive_small};
use super::rules::{self, Change, Rights};
use super::space::{Space, busy, denied, fault, parse, refusal_of};

/// What somebody wants to append.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    /// The name of the object.
    pub(crate) name: String,
    /// Where it begins in the object, bytes.
    pub(crate) offset: u64,
    /// Its length, bytes.
    pub(crate) length: u64,
    /// BLAKE3-256 of it.
    pub(crate) hash: [u8; 32],
}

impl Space {
    /// Appends to an object.
    pub(crate) async fn append(
        self: &Arc<Self>,
        rights: Rights,
        appended: Appended,
        payload: &mut impl Payload,
    ) -> Result<Answer, NotTaken> {
        let Appended { name, offset, length, hash } = appended;
        let (name, named) = parse(&name)?;
        rules::judge(rights, &named, Change::Append).map_err(|why| denied(&name, why))?;
        self.count_once().await?;
        let end = offset.saturating_add(length);
        let from = match self.store.length(&name).await {
            // What is sent again takes no room again.
            Ok(there) => there.clamp(offset, end),
            Err(error) if error.is_not_found() => offset,
            Err(error) => return Err(refusal_of(error).into()),
        };
        let room = Arc::clone(self.room());
        let promise = spawn_blocking(move || room.promise_growth(from, end));
        let promise = promise.await.map_err(|_| stopping())??;
        let memory = self.memory_for(length).ok_or_else(|| busy("too much is appended at once"))?;
        payload.begin(length);
        let content = receive_small(&name, length, hash, payload).await?;
        let space = Arc::clone(self);
        // To its end, also when whoever asked for it is gone: what is written is counted.
        let appended = tokio::spawn(async move {
            let appended = space.store.append(&name, offset, content).await;
            drop(memory);
            appended.map(|()| promise.kept())
        });
        match appended.await.map_err(|_| stopping())? {
            Ok(()) => Ok(Answer::Done),
            Err(error) if error.kind == StoreErrorKind::Transient => {
                Err(busy("too much is appended to it at once").into())
            }
            Err(error) => Err(refusal_of(error).into()),
        }
    }
}

fn stopping() -> Refusal {
    fault("the holder is stopping".to_owned())
}
