//! The store: its operations as requests to the service.

mod delete;
mod list;
mod probe;
mod put;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client as S3;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use backstay_vault::name::ObjectName;
use backstay_vault::pack::PACK_BYTES_MAX;
use backstay_vault::store::{
    Folder, Glance, Listed, OBJECT_BYTES_MAX, Operation, Pace, RequestObserver, RetryPolicy, Store,
    StoreError, StoreErrorKind, Stretch, Version, Way,
};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::access::{Credentials, Place, STALL_MAX, client};
use crate::error::Fault;
use crate::limiter::{Ended, Limiter};
use crate::transfer::read;
use delete::DELETE_MAX;

/// What is as long is sent in parts, bytes: no pack is, also one that took what was on its way while others went up. Parts would be
/// four requests for one.
const PARTS_FROM: usize = PACK_BYTES_MAX + 1;

/// How long a part is, and a stretch of what is read, bytes. Parts have 5 MiB at least ("Amazon S3 multipart upload limits").
const PART_BYTES: usize = 32 << 20;

/// How often a part of something larger is tried.
const TRIES_OF_PART: u32 = 4;

/// What comes of a part again and again: what it is a part of is begun anew.
const IN_VAIN: [&str; 3] = ["PreconditionFailed", "InvalidPart", "NoSuchUpload"];

/// A store in a bucket. Clones share their connections and limits.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: S3,
    /// By another key, which may delete where that of the others may not.
    custodian: Option<S3>,
    place: Place,
    pace: Arc<Pace>,
    limiter: Arc<Limiter>,
    observer: Arc<dyn RequestObserver>,
    /// Whether the service cannot delete several objects at once.
    no_batches: Arc<AtomicBool>,
    /// Whether the bucket takes nothing without a checksum.
    wants_checksums: Arc<AtomicBool>,
}

/// Which content of an object is read.
#[derive(Clone, Copy)]
enum Which<'w> {
    /// That which is there.
    Newest,
    /// The same, if it has this ETag still.
    OfTag(&'w str),
    /// One that was there, by the service's id of it.
    Version(&'w str),
}

/// What was read.
struct Read {
    content: Bytes,
    /// How long the object is.
    total: u64,
    etag: Option<String>,
}

impl S3Store {
    /// The store in a bucket. Nothing is asked of the service yet.
    pub fn new(
        place: Place,
        credentials: Credentials,
        pace: Arc<Pace>,
        observer: Arc<dyn RequestObserver>,
    ) -> Self {
        Self::with_stall(place, credentials, pace, observer, STALL_MAX)
    }

    /// The same, with another time after which a request is given up of which nothing moves.
    pub fn with_stall(
        place: Place,
        credentials: Credentials,
        pace: Arc<Pace>,
        observer: Arc<dyn RequestObserver>,
        stall: Duration,
    ) -> Self {
        let client = client(&place, credentials, &pace, stall);
        let limiter = Limiter::new();
        let (no_batches, wants_checksums) = (Arc::default(), Arc::default());
        Self { client, custodian: None, place, pace, limiter, observer, no_batches, wants_checksums }
    }

    /// The same, which deletes by another key.
    #[must_use]
    pub fn deleting_by(self, custodian: Credentials) -> Self {
        let custodian = Some(client(&self.place, custodian, &self.pace, STALL_MAX));
        Self { custodian, ..self }
    }

    /// By whose key is deleted.
    fn deleter(&self) -> &S3 {
        self.custodian.as_ref().unwrap_or(&self.client)
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.place.prefix)
    }

    fn failed(&self, operation: Operation, object: impl ToString, fault: Fault) -> StoreError {
        StoreError {
            operation,
            object: object.to_string(),
            place: self.place(),
            kind: fault.kind,
            cause: fault.text,
        }
    }

    /// One request, under the limit, told to the observer.
    async fn request<T, E>(
        &self,
        operation: Operation,
        object: &str,
        bytes: u64,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let sent = async { send.await.map_err(|error| Fault::from_sdk(&error)) };
        self.measured(operation, object, sent, |_| bytes).await
    }

    /// The same for one whose answer is read to its end as a part of it.
    async fn measured<T>(
        &self,
        operation: Operation,
        object: &str,
        send: impl Future<Output = Result<T, Fault>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, Fault> {
        let permit = self.limiter.permit().await;
        let start = Instant::now();
        let answer = send.await;
        let took = start.elapsed();
        match &answer {
            Ok(answer) => {
                permit.end(Ended::Answered);
                self.observer.observe(operation, None, took, bytes(answer));
            }
            Err(fault) => {
                permit.end(fault.ended);
                let error = self.failed(operation, object, fault.clone());
                self.observer.observe(operation, Some(&error), took, 0);
            }
        }
        answer
    }

    /// A stretch of an object, as much of it as there is, with how long the object is in all, and its ETag.
    async fn read_stretch(
        &self,
        operation: Operation,
        key: &str,
        stretch: Stretch,
        which: Which<'_>,
    ) -> Result<Read, Fault> {
        let end = stretch.offset.checked_add(stretch.length);
        let too_far = || Fault::of(StoreErrorKind::Truncated, "no object is so long");
        let last = end.and_then(|end| end.checked_sub(1)).ok_or_else(too_far)?;
        let get = self.client.get_object().bucket(&self.place.bucket).key(key);
        let get = get.range(format!("bytes={}-{last}", stretch.offset));
        let get = match which {
            Which::Newest => get,
            Which::OfTag(etag) => get.if_match(etag),
            Which::Version(id) => get.version_id(id),
        };
        let _turn = self.pace.turn(Way::Down).await;
        let whole = async {
            let answer = get.send().await.map_err(|error| Fault::from_sdk(&error))?;
            let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
            let length = length.ok_or_else(|| Fault::passing("an answer without a length"))?;
            let total = match answer.content_range() {
                Some(range) => total_of(range, stretch.offset, length),
                // All of it, since it is no longer.
                None => Some(length).filter(|_| stretch.offset == 0),
            };
            let total = total.filter(|total| length == stretch.length.min(total - stretch.offset));
            let total = total.ok_or_else(|| {
                let range = answer.content_range().unwrap_or("no range");
                Fault::passing(format!(
                    "another stretch than the one that was asked for ({length} bytes, {range}): something between may not know ranges"
                ))
            })?;
            let etag = answer.e_tag().map(str::to_owned);
            let content = read(answer.body, length).await?;
            Ok(Read { content, total, etag })
        };
        self.measured(operation, key, whole, |read| read.content.len() as u64).await
    }

    async fn get_whole(&self, key: &str) -> Result<Bytes, Fault> {
        let first = Stretch { offset: 0, length: PART_BYTES as u64 };
        let Read { content, total, etag } =
            match self.read_stretch(Operation::Get, key, first, Which::Newest).await {
                // Of what is empty there is no stretch.
                Err(fault) if fault.kind == StoreErrorKind::Truncated => return self.get_empty(key).await,
                answer => answer?,
            };
        if total > OBJECT_BYTES_MAX {
            return Err(Fault::of(StoreErrorKind::TooLarge, format!("it has {total} bytes")));
        }
        if content.len() as u64 == total {
            return Ok(content);
        }
        let etag =
            etag.ok_or_else(|| Fault::passing("an object without an ETag, which may change meanwhile"))?;
        let mut reads = JoinSet::new();
        for offset in (PART_BYTES as u64..total).step_by(PART_BYTES) {
            let stretch = Stretch { offset, length: (PART_BYTES as u64).min(total - offset) };
            let (store, key, etag) = (self.clone(), key.to_owned(), etag.clone());
            reads.spawn(async move {
                let (store, key) = (&store, &key);
                let read =
                    again(|| store.read_stretch(Operation::Get, key, stretch, Which::OfTag(&etag))).await?;
                match (read.total, read.etag.as_deref()) == (total, Some(etag.as_str())) {
                    true => Ok((offset, read.content)),
                    false => Err(Fault::passing("it was replaced while it was read")),
                }
            });
        }
        let mut pieces = BTreeMap::from([(0, content)]);
        while let Some(read) = reads.join_next().await {
            let (offset, content) = read.map_err(|error| Fault::passing(error.to_string()))??;
            pieces.insert(offset, content);
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(total).unwrap_or(0));
        pieces.values().for_each(|piece| whole.extend_from_slice(piece));
        match whole.len() as u64 == total {
            true => Ok(whole.freeze()),
            false => Err(Fault::passing(format!("{} of {total} bytes", whole.len()))),
        }
    }

    async fn get_empty(&self, key: &str) -> Result<Bytes, Fault> {
        let get = self.client.get_object().bucket(&self.place.bucket).key(key);
        let answer = self.request(Operation::Get, key, 0, get.send()).await?;
        match answer.content_length() {
            Some(0) => Ok(Bytes::new()),
            length => Err(Fault::passing(format!("{length:?} bytes, of which no stretch can be read"))),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let key = self.key(name);
        let _turn = self.pace.turn(Way::Up).await;
        let put = match content.len() {
            0..PARTS_FROM => self.put_whole(&key, content).await,
            _ => self.put_in_parts(&key, content).await,
        };
        put.map_err(|fault| self.failed(Operation::Put, name, fault))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.get_whole(&self.key(name)).await.map_err(|fault| self.failed(Operation::Get, name, fault))
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        let failed = |fault| self.failed(Operation::GetRange, name, fault);
        let key = self.key(name);
        if stretch.length == 0 {
            // The service knows none of that length; a byte tells how long the object is.
            let first = Stretch { offset: 0, length: 1 };
            let length = match self.read_stretch(Operation::GetRange, &key, first, Which::Newest).await {
                Err(fault) if fault.kind == StoreErrorKind::Truncated => 0,
                read => read.map_err(failed)?.total,
            };
            return match stretch.offset <= length {
                true => Ok(Bytes::new()),
                false => Err(failed(Fault::of(StoreErrorKind::Truncated, format!("it has {length} bytes")))),
            };
        }
        let Read { content, .. } =
            self.read_stretch(Operation::GetRange, &key, stretch, Which::Newest).await.map_err(failed)?;
        match content.len() as u64 == stretch.length {
            true => Ok(content),
            false => {
                let text = format!("it ends {} bytes after {}", content.len(), stretch.offset);
                Err(failed(Fault::of(StoreErrorKind::Truncated, text)))
            }
        }
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.list_all(folder).await.map_err(|fault| self.failed(Operation::List, folder.as_str(), fault))
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.glance_at_all().await.map_err(|fault| self.failed(Operation::List, "", fault))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.delete_one(name).await.map_err(|fault| self.failed(Operation::Delete, name, fault))
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        for some in names.chunks(DELETE_MAX) {
            let deleted = self.delete_some(some).await;
            deleted.map_err(|(place, fault)| self.failed(Operation::Delete, &some[place], fault))?;
        }
        Ok(())
    }

    async fn clear_unfinished(&self, age: Duration) -> Result<u64, StoreError> {
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let cleared = self.abandon_uploads(before).await;
        cleared.map_err(|fault| self.failed(Operation::Delete, "unfinished uploads", fault))
    }

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        self.older_versions(name).await.map_err(|fault| self.failed(Operation::List, name, fault))
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        self.read_version(name, version, stretch)
            .await
            .map_err(|fault| self.failed(Operation::GetRange, name, fault))
    }

    fn requests_cost(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        let Place { bucket, endpoint, prefix, .. } = &self.place;
        let endpoint = endpoint.as_deref().unwrap_or("AWS");
        format!("s3://{bucket}/{prefix} at {endpoint}")
    }
}

/// Tries a part of something larger again, so that one that fails does not cost all the others.
async fn again<T, F: Future<Output = Result<T, Fault>>>(mut attempt: impl FnMut() -> F) -> Result<T, Fault> {
    let mut pause = RetryPolicy::of_service().first_pause;
    for _ in 1..TRIES_OF_PART {
        match attempt().await {
            Err(fault)
                if fault.kind == StoreErrorKind::Transient && !IN_VAIN.contains(&fault.code.as_str()) =>
            {
                sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

/// The length of the whole object, of a `Content-Range` (RFC 9110, section 14.4) that begins there and has so many bytes.
fn total_of(range: &str, offset: u64, length: u64) -> Option<u64> {
    let (stretch, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = stretch.split_once('-')?;
    let (start, last, total): (u64, u64, u64) =
        (start.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    let is_it = start == offset && last.checked_sub(start)?.checked_add(1)? == length && last < total;
    is_it.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_the_one_that_was_asked_for_or_none() {
        assert_eq!(total_of("bytes 5-9/20", 5, 5), Some(20));
        for range in
            ["bytes 0-4/20", "bytes 5-8/20", "bytes 5-9/*", "bytes 5-9/9", "bytes */20", "5-9/20", ""]
        {
            assert_eq!(total_of(range, 5, 5), None, "{range}");
        }
    }
}
