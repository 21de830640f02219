//! Appending to objects of journals, within the room that a space has.

use std::sync::Arc;

use backstay_vault::store::Store;
use backstay_wire::peer::Answer;
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
        let room = Arc::clone(self.room());
        let promise = spawn_blocking(move || room.promise_growth(offset, offset.saturating_add(length)));
        let promise = promise.await.map_err(|_| fault("the holder is stopping".to_owned()))??;
        let _memory = self.memory_for(length).ok_or_else(|| busy("too much is appended at once"))?;
        payload.begin(length);
        let content = receive_small(&name, length, hash, payload).await?;
        self.store.append(&name, offset, content).await.map_err(refusal_of)?;
        // What was there already counts twice until it is counted again.
        promise.kept();
        Ok(Answer::Done)
    }
}
