//! Reading many objects that were listed: several are asked for at once, so that a store far away is not waited for once
//! for each of them. What has come is bounded. What this process need not ask for is handed on first, the rest in the order of the listing.

use backstay_core::id::SessionId;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;

use super::Vault;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Listed, Store, StoreError};

/// Objects that are asked for at once.
const AT_ONCE: usize = 16;

/// Objects that are held at once; more than one only while all together have no more than [`BATCH_BYTES_MAX`].
const BATCH_MAX: usize = 256;

/// What is held of them, bytes.
const BATCH_BYTES_MAX: u64 = 32 << 20;

impl Vault {
    /// Reads each of these objects whole and hands it to `take`, or why it could not be read; the first error of `take`
    /// ends it. Those that are kept on local disk come first.
    pub(super) fn get_each<'l>(
        &self,
        listed: impl IntoIterator<Item = &'l Listed>,
        mut take: impl FnMut(&'l Listed, Result<Bytes, StoreError>) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let mut unkept: Vec<&Listed> = Vec::new();
        for listed in listed {
            match self.kept_of(listed) {
                Some(object) => take(listed, Ok(object))?,
                None => unkept.push(listed),
            }
        }
        let mut rest = unkept.as_slice();
        while !rest.is_empty() {
            let objects = self.io().block_on(get_some(&**self.store(), batch(rest)));
            let (read, unread) = rest.split_at(objects.len());
            for (listed, object) in read.iter().zip(objects) {
                if let Ok(object) = &object {
                    self.keep(&listed.named, object);
                }
                take(listed, object)?;
            }
            rest = unread;
        }
        Ok(())
    }

    /// Reads these sessions, those of which it is not known that they are acknowledged, and remembers those that are.
    pub(super) fn learn_acknowledged(
        &self,
        sessions: impl IntoIterator<Item = SessionId>,
    ) -> Result<(), VaultError> {
        let unknown = sessions.into_iter();
        let unknown = unknown.filter(|id| !self.knows_acknowledged(*id) && self.learn_kept(*id).is_none());
        let listed = unknown.map(|id| {
            let named = Named::Session(id);
            Listed { name: named.to_name(), named, bytes: 0 }
        });
        let listed: Vec<Listed> = listed.collect();
        self.get_each(&listed, |listed, object| match listed.named {
            Named::Session(id) => self.judge_session(id, object).map(drop),
            _ => Ok(()),
        })
    }
}

/// The first of these that are held together, one at least.
fn batch<'b>(listed: &'b [&Listed]) -> &'b [&'b Listed] {
    let mut bytes = 0u64;
    let fitting = listed.iter().take(BATCH_MAX).take_while(|listed| {
        bytes = bytes.saturating_add(listed.bytes);
        bytes <= BATCH_BYTES_MAX
    });
    &listed[..fitting.count().max(1)]
}

/// Reads the first of these, one at least: a listing may have said that they are shorter than they are.
async fn get_some(store: &dyn Store, listed: &[&Listed]) -> Vec<Result<Bytes, StoreError>> {
    let mut objects = stream::iter(listed).map(|listed| store.get(&listed.name)).buffered(AT_ONCE);
    let (mut read, mut bytes) = (Vec::with_capacity(listed.len()), 0);
    while let Some(object) = objects.next().await {
        bytes += object.as_ref().map_or(0, |object| object.len() as u64);
        read.push(object);
        if bytes > BATCH_BYTES_MAX {
            break;
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use backstay_core::id::SessionId;

    use super::*;
    use crate::store::MemStore;

    fn listed(n: u8, bytes: u64) -> Listed {
        let named = Named::Session(SessionId::new([n; 16]));
        Listed { name: named.to_name(), named, bytes }
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_in_bytes_and_never_empty() {
        let length = |all: &[Listed]| batch(&all.iter().collect::<Vec<_>>()).len();
        assert_eq!(length(&vec![listed(1, 100); 1000]), BATCH_MAX);
        assert_eq!(length(&vec![listed(1, BATCH_BYTES_MAX / 3); 10]), 3);
        assert_eq!(length(&vec![listed(1, u64::MAX); 10]), 1);
    }

    #[tokio::test]
    async fn objects_come_in_order_and_those_that_are_missing_in_their_places() {
        let store = MemStore::new();
        for n in [0, 1, 3] {
            store.put(&listed(n, 1).name, Bytes::from(vec![n])).await.expect("a put into memory");
        }
        let all: Vec<Listed> = (0..4).map(|n| listed(n, 1)).collect();
        let read = get_some(&store, &all.iter().collect::<Vec<_>>()).await;
        let read: Vec<Option<Vec<u8>>> = read.into_iter().map(|object| object.ok().map(Into::into)).collect();
        assert_eq!(read, [Some(vec![0]), Some(vec![1]), None, Some(vec![3])]);
    }

    #[tokio::test]
    async fn more_bytes_than_were_listed_end_a_batch_early() {
        let store = MemStore::new();
        let all: Vec<Listed> = (0..40).map(|n| listed(n, 1)).collect();
        for listed in &all {
            let large = Bytes::from(vec![0; (BATCH_BYTES_MAX / 4) as usize]);
            store.put(&listed.name, large).await.expect("a put into memory");
        }
        assert_eq!(get_some(&store, &all.iter().collect::<Vec<_>>()).await.len(), 5);
    }
}
