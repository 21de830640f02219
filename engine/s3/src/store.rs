//! The store: its operations as requests to the service.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client as S3;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials as Keys, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::byte_stream::ByteStream;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Folder, LISTING_MAX, Listed, OBJECT_BYTES_MAX, Operation, Pace, RequestObserver, RetryPolicy, Store,
    StoreError, StoreErrorKind, Stretch, Way,
};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connector::Client;
use crate::error::Fault;
use crate::limiter::{Ended, Limiter};
use crate::transfer::read;

/// A request of which nothing moves for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);

/// What is longer is sent in parts, bytes: a pack is not.
const PARTS_FROM: usize = 48 << 20;

/// How long a part is, and a stretch of what is read, bytes. Parts have 5 MiB at least ("Amazon S3 multipart upload limits").
const PART_BYTES: usize = 32 << 20;

/// Objects of one request to delete ("DeleteObjects").
const DELETE_MAX: usize = 1000;

/// The region where none is configured: that of AWS which any service understands.
const REGION_DEFAULT: &str = "us-east-1";

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub bucket: String,
    /// URL of the service; AWS when absent.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// What all keys begin with: empty, or with a `/` at its end.
    pub prefix: String,
}

/// By what the service knows who asks.
#[derive(Debug, Clone)]
pub struct Credentials(SharedCredentialsProvider);

impl Credentials {
    /// An access key: its identifier and its secret.
    pub fn of_key(id: String, secret: String) -> Self {
        Self(SharedCredentialsProvider::new(Keys::new(id, secret, None, None, "backstay")))
    }

    /// What the environment has: variables, a profile, the metadata of a virtual machine. What there is, is found when it is
    /// needed, and renewed by itself.
    pub async fn of_environment() -> Self {
        let http = Client::new(Arc::new(Pace::unlimited()), STALL_MAX);
        let loaded = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
        let none = || SharedCredentialsProvider::new(Keys::new("", "", None, None, "none"));
        Self(loaded.credentials_provider().unwrap_or_else(none))
    }
}

/// A store in a bucket. Clones share their connections and limits.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: S3,
    place: Place,
    pace: Arc<Pace>,
    limiter: Arc<Limiter>,
    observer: Arc<dyn RequestObserver>,
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
        let region = Region::new(place.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned()));
        let config = Builder::new()
            .credentials_provider(credentials.0)
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .http_client(Client::new(Arc::clone(&pace), stall))
            // Tries, their pauses and their budget are the store's.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(place.endpoint.is_some());
        let config = match &place.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint),
            None => config,
        };
        let client = S3::from_conf(config.build());
        Self { client, place, pace, limiter: Limiter::new(), observer }
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
        let permit = self.limiter.permit().await;
        let start = Instant::now();
        let answer = send.await.map_err(|error| Fault::from_sdk(&error));
        let took = start.elapsed();
        match &answer {
            Ok(_) => {
                permit.end(Ended::Answered);
                self.observer.observe(operation, None, took, bytes);
            }
            Err(fault) => {
                permit.end(fault.ended);
                let error = self.failed(operation, object, fault.clone());
                self.observer.observe(operation, Some(&error), took, 0);
            }
        }
        answer
    }

    async fn put_whole(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let length = content.len() as u64;
        let put = self.client.put_object().bucket(&self.place.bucket).key(key);
        let put = put.content_length(length as i64).body(ByteStream::from(content));
        self.request(Operation::Put, key, length, put.send()).await.map(drop)
    }

    /// In parts, several at once. What was sent of one that fails is taken back.
    async fn put_in_parts(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let begin = || self.client.create_multipart_upload().bucket(&self.place.bucket).key(key).send();
        let begun = again(|| self.request(Operation::Put, key, 0, begin())).await?;
        let id = begun.upload_id().ok_or_else(|| Fault::passing("an upload without an id"))?.to_owned();
        match self.put_parts(key, &id, content).await {
            Ok(()) => Ok(()),
            Err(fault) => {
                let abort = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(key);
                let aborted = self.request(Operation::Delete, key, 0, abort.upload_id(&id).send()).await;
                if let Err(fault) = aborted {
                    tracing::warn!(key, why = fault.text, "parts of an upload that has failed stay for now");
                }
                Err(fault)
            }
        }
    }

    async fn put_parts(&self, key: &str, id: &str, mut content: Bytes) -> Result<(), Fault> {
        let mut sent = JoinSet::new();
        let mut number = 0;
        while !content.is_empty() {
            number += 1;
            let part = content.split_to(content.len().min(PART_BYTES));
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            sent.spawn(async move {
                let (store, key, id) = (&store, &key, &id);
                again(|| store.put_part(key, id, number, part.clone())).await
            });
        }
        let mut parts = Vec::with_capacity(sent.len());
        while let Some(part) = sent.join_next().await {
            parts.push(part.map_err(|error| Fault::passing(error.to_string()))??);
        }
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let end = self.client.complete_multipart_upload().bucket(&self.place.bucket).key(key);
        let end = end.upload_id(id).multipart_upload(parts);
        self.request(Operation::Put, key, 0, end.send()).await.map(drop)
    }

    async fn put_part(&self, key: &str, id: &str, number: i32, part: Bytes) -> Result<CompletedPart, Fault> {
        let length = part.len() as u64;
        let put = self.client.upload_part().bucket(&self.place.bucket).key(key).upload_id(id);
        let put = put.part_number(number).content_length(length as i64).body(ByteStream::from(part));
        let put = self.request(Operation::Put, key, length, put.send()).await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(put.e_tag).build())
    }

    /// A stretch of an object, and how long that is in all.
    async fn read_stretch(
        &self,
        operation: Operation,
        key: &str,
        stretch: Stretch,
        etag: Option<&str>,
    ) -> Result<(Bytes, u64, Option<String>), Fault> {
        let end = stretch.offset.checked_add(stretch.length);
        let too_far = || Fault::of(StoreErrorKind::Truncated, "no object is so long");
        let last = end.and_then(|end| end.checked_sub(1)).ok_or_else(too_far)?;
        let get = self.client.get_object().bucket(&self.place.bucket).key(key);
        let get = get.range(format!("bytes={}-{last}", stretch.offset)).set_if_match(etag.map(str::to_owned));
        let _turn = self.pace.turn(Way::Down).await;
        let answer = self.request(operation, key, 0, get.send()).await?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let length = length.ok_or_else(|| Fault::passing("an answer without a length"))?;
        if length > stretch.length {
            return Err(Fault::passing(format!(
                "{length} bytes, where {} were asked for: something between does not know ranges",
                stretch.length
            )));
        }
        let total = answer.content_range().and_then(total_of).unwrap_or(stretch.offset + length);
        let etag = answer.e_tag().map(str::to_owned);
        let content = read(answer.body, length, &self.pace).await?;
        Ok((content, total, etag))
    }

    async fn get_whole(&self, key: &str) -> Result<Bytes, Fault> {
        let first = Stretch { offset: 0, length: PART_BYTES as u64 };
        let (content, total, etag) = match self.read_stretch(Operation::Get, key, first, None).await {
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
        let mut reads = JoinSet::new();
        for offset in (PART_BYTES as u64..total).step_by(PART_BYTES) {
            let stretch = Stretch { offset, length: (PART_BYTES as u64).min(total - offset) };
            let (store, key, etag) = (self.clone(), key.to_owned(), etag.clone());
            reads.spawn(async move {
                let (store, key, etag) = (&store, &key, etag.as_deref());
                let read = again(|| store.read_stretch(Operation::Get, key, stretch, etag));
                read.await.map(|(content, ..)| (offset, content))
            });
        }
        let mut whole = BytesMut::zeroed(usize::try_from(total).unwrap_or(usize::MAX));
        whole[..content.len()].copy_from_slice(&content);
        while let Some(read) = reads.join_next().await {
            let (offset, content) = read.map_err(|error| Fault::passing(error.to_string()))??;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start + content.len();
            if end as u64 != total.min(offset + PART_BYTES as u64) {
                return Err(Fault::passing("an answer that is shorter than what was asked for"));
            }
            whole[start..end].copy_from_slice(&content);
        }
        Ok(whole.freeze())
    }

    async fn get_empty(&self, key: &str) -> Result<Bytes, Fault> {
        let get = self.client.get_object().bucket(&self.place.bucket).key(key);
        let answer = self.request(Operation::Get, key, 0, get.send()).await?;
        match answer.content_length() {
            Some(0) => Ok(Bytes::new()),
            length => Err(Fault::passing(format!("{length:?} bytes, of which no stretch can be read"))),
        }
    }

    async fn list_all(&self, folder: &Folder) -> Result<Vec<Listed>, Fault> {
        let prefix = format!("{}{}", self.place.prefix, folder.as_str());
        let (mut all, mut token) = (Vec::new(), None::<String>);
        loop {
            let list = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&prefix);
            let list = list.set_continuation_token(token.take());
            let page = self.request(Operation::List, folder.as_str(), 0, list.send()).await?;
            for object in page.contents() {
                let key = object.key().and_then(|key| key.strip_prefix(&self.place.prefix));
                let bytes = object.size().and_then(|size| u64::try_from(size).ok());
                // What is not ours is left out.
                if let (Some((name, named)), Some(bytes)) = (key.and_then(ObjectName::parse), bytes) {
                    all.push(Listed { name, named, bytes });
                }
            }
            if all.len() > LISTING_MAX {
                let text = format!("more than {LISTING_MAX} objects");
                return Err(Fault::of(StoreErrorKind::TooLarge, text));
            }
            match (page.is_truncated(), page.next_continuation_token) {
                (Some(true), Some(next)) => token = Some(next),
                (Some(true), None) => return Err(Fault::passing("a page of a listing without the next one")),
                _ => break,
            }
        }
        // Services of others may order otherwise.
        all.sort_by(|a: &Listed, b: &Listed| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn delete_some(&self, names: &[ObjectName]) -> Result<(), (usize, Fault)> {
        if let [one] = names {
            return self.delete_one(one).await.map_err(|fault| (0, fault));
        }
        let key = |name| ObjectIdentifier::builder().key(self.key(name)).build();
        let keys: Result<Vec<_>, _> = names.iter().map(key).collect();
        let delete = keys.and_then(|keys| Delete::builder().set_objects(Some(keys)).quiet(true).build());
        let delete = delete.map_err(|error| (0, Fault::of(StoreErrorKind::Permanent, error.to_string())))?;
        let send = self.client.delete_objects().bucket(&self.place.bucket).delete(delete).send();
        let answer = self.request(Operation::Delete, names[0].as_str(), 0, send).await;
        let answer = match answer {
            // Not every service has it.
            Err(fault) if fault.code == "NotImplemented" || fault.code == "MissingContentMD5" => {
                for (place, name) in names.iter().enumerate() {
                    self.delete_one(name).await.map_err(|fault| (place, fault))?;
                }
                return Ok(());
            }
            answer => answer.map_err(|fault| (0, fault))?,
        };
        let missing = |code: &str| matches!(code, "NoSuchKey" | "NotFound");
        match answer.errors().iter().find(|error| !error.code().is_some_and(missing)) {
            None => Ok(()),
            Some(error) => {
                let key = error.key().unwrap_or_default();
                let place = names.iter().position(|name| self.key(name) == key).unwrap_or(0);
                let text =
                    [error.code(), error.message()].into_iter().flatten().collect::<Vec<_>>().join(": ");
                let kind = match error.code() {
                    Some("AccessDenied") => StoreErrorKind::Refused,
                    _ => StoreErrorKind::Transient,
                };
                Err((place, Fault::of(kind, text)))
            }
        }
    }

    /// Ends uploads in parts that began before that, and that nobody goes on with.
    async fn abandon_uploads(&self, before: SystemTime) -> Result<u64, Fault> {
        let (mut count, mut after) = (0, (None, None));
        loop {
            let list = self.client.list_multipart_uploads().bucket(&self.place.bucket);
            let list = list.prefix(&self.place.prefix).set_key_marker(after.0).set_upload_id_marker(after.1);
            let page = self.request(Operation::List, "unfinished uploads", 0, list.send()).await?;
            for upload in page.uploads() {
                let begun = upload.initiated().and_then(|time| SystemTime::try_from(*time).ok());
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                // What is not ours is somebody else's.
                let name = key.strip_prefix(&self.place.prefix).and_then(ObjectName::parse);
                if name.is_none() || begun.is_none_or(|begun| begun >= before) {
                    continue;
                }
                let abort = self.client.abort_multipart_upload().bucket(&self.place.bucket);
                let abort = abort.key(key).upload_id(id);
                match self.request(Operation::Delete, key, 0, abort.send()).await {
                    Ok(_) => count += 1,
                    // Another one was faster.
                    Err(fault) if fault.code == "NoSuchUpload" => {}
                    Err(fault) => return Err(fault),
                }
            }
            after = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || after.0.is_none() {
                return Ok(count);
            }
        }
    }

    async fn delete_one(&self, name: &ObjectName) -> Result<(), Fault> {
        let delete = self.client.delete_object().bucket(&self.place.bucket).key(self.key(name));
        match self.request(Operation::Delete, name.as_str(), 0, delete.send()).await {
            Err(fault) if fault.kind == StoreErrorKind::NotFound => Ok(()),
            answer => answer.map(drop),
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
            // The service knows none of that length, and may have the object or not.
            let whole = self.client.head_object().bucket(&self.place.bucket).key(&key).send();
            let head = self.request(Operation::GetRange, name.as_str(), 0, whole).await.map_err(failed)?;
            let length = head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
            return match stretch.offset <= length {
                true => Ok(Bytes::new()),
                false => Err(failed(Fault::of(StoreErrorKind::Truncated, format!("it has {length} bytes")))),
            };
        }
        let (content, ..) =
            self.read_stretch(Operation::GetRange, &key, stretch, None).await.map_err(failed)?;
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

    fn place(&self) -> String {
        let Place { bucket, endpoint, prefix, .. } = &self.place;
        let endpoint = endpoint.as_deref().unwrap_or("AWS");
        format!("s3://{bucket}/{prefix} at {endpoint}")
    }
}

/// Tries a part of something larger again, so that one that fails does not cost all the others.
async fn again<T, F: Future<Output = Result<T, Fault>>>(mut attempt: impl FnMut() -> F) -> Result<T, Fault> {
    let RetryPolicy { tries, first_pause, longest_pause } = RetryPolicy::of_service();
    let mut pause = first_pause;
    for _ in 1..tries {
        match attempt().await {
            Err(fault) if fault.kind == StoreErrorKind::Transient => {
                sleep(pause).await;
                pause = (pause * 2).min(longest_pause);
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

/// The length of the whole object, of a `Content-Range` (RFC 9110, section 14.4).
fn total_of(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}
