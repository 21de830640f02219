//! Finding out what the provider of a bucket does, by some ten small requests below a prefix of their own. What this key may not
//! ask is unknown, and no error.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client as S3;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockEnabled, ObjectLockRetentionMode,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::byte_stream::ByteStream;
use backstay_vault::store::{Operation, RetryPolicy, StoreError, StoreErrorKind};
use tokio::time::sleep;

use super::{S3Store, TRIES_OF_PART};
use crate::error::Fault;
use crate::provider::{
    Checksums, ConditionalPut, Listing, LockMode, ObjectLock, Permission, Provider, Versioning,
};

/// Below this, in the prefix of the vault, lies what a probe puts. No name of an object of a vault begins so.
const FOLDER: &str = "probe/";

/// What is put: of different lengths, so that a listing tells them apart, and one of them from what an earlier probe has left.
const CONTENTS: [Content; 3] = [
    Content { bytes: b"backstay probe, 1", sha256: "XHdw2GAxDoSCkb6AWL8woyS5fOUqHqpc5l4FFqrsaoc=" },
    Content { bytes: b"backstay probe, the second", sha256: "4dNDhUTFl0D5mlSkbitlPmhQU58EemHZ4J/7n6KZqNI=" },
    Content {
        bytes: b"backstay probe, of three the third",
        sha256: "37yGp5nV8EiwLFpsnObcEwW6Zvt0PwKCo1IGnhJl4oM=",
    },
];

/// A checksum that nothing has.
const NO_SHA256: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// What earlier probes have left is taken away after so long, if this key may: one that is under way is left alone.
const LEFT_FOR: Duration = Duration::from_secs(24 * 3600);

/// And no more of it than this by one probe.
const LEFTOVERS_MAX: usize = 20;

/// And no more than this of the versions that earlier ones have left of the same object.
const OLD_VERSIONS_MAX: usize = 20;

/// By which a service says that it cannot even tell who asks, or for what.
const NOBODY: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "RequestTimeTooSkewed",
    "AuthorizationHeaderMalformed",
    "NoSuchBucket",
];

/// What an object can have in it.
#[derive(Clone, Copy)]
struct Content {
    bytes: &'static [u8],
    /// As headers have it.
    sha256: &'static str,
}

impl Content {
    fn length(self) -> i64 {
        self.bytes.len() as i64
    }
}

/// What a listing shows of the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// There is none, or not one that shows it.
    Untold,
    /// Not that it is there.
    Absent,
    /// That it is, with so many bytes.
    Bytes(i64),
}

impl S3Store {
    /// Finds out what the provider does, with an object of this name: the same one each time, so that what cannot be taken away again
    /// is there once for each `name`. No two probes of one name go at the same time. Takes away what it has put, where its key may.
    ///
    /// # Errors
    /// When the service does not answer, or its answers make no sense.
    pub async fn probe(&self, name: [u8; 16]) -> Result<Provider, StoreError> {
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut probe = Probe::of(self, &name);
        let found = probe.find_out().await;
        found.map_err(|fault| self.failed(Operation::Put, &probe.shown, fault))
    }

    /// Whether versions and locks are as they were, as far as this key may ask: two requests, and nothing is put.
    ///
    /// # Errors
    /// When the service does not answer, or its answers make no sense.
    pub async fn is_still(&self, known: &Provider) -> Result<bool, StoreError> {
        let mut probe = Probe::of(self, "");
        let found = async { Ok((probe.versioning().await?, probe.object_lock().await?)) }.await;
        let (versions, lock) = found.map_err(|fault| self.failed(Operation::Get, &probe.shown, fault))?;
        let are_versions = versions == known.versions || versions == Versioning::Unknown;
        Ok(are_versions && (lock == known.object_lock || lock == ObjectLock::Unknown))
    }
}

/// One probe.
struct Probe<'s> {
    store: &'s S3Store,
    /// Of the object that it puts.
    key: String,
    /// The same for messages.
    shown: String,
    /// How long what was put last is, where that is known.
    length: Option<i64>,
    requests: u32,
    /// Ids of versions that it has made.
    versions: Vec<String>,
}

impl<'s> Probe<'s> {
    fn of(store: &'s S3Store, name: &str) -> Self {
        let key = format!("{}{FOLDER}{name}", store.place.prefix);
        let shown = format!("{FOLDER}{name}");
        Self { store, key, shown, length: None, requests: 0, versions: Vec::new() }
    }

    async fn find_out(&mut self) -> Result<Provider, Fault> {
        let (versioning, object_lock) = (self.versioning().await?, self.object_lock().await?);
        let mut found = Provider {
            conditional_put: ConditionalPut::Unknown,
            versions: versioning,
            object_lock,
            checksums: Checksums::Unknown,
            listing: Listing::Unknown,
            puts: Permission::Denied,
            deletes: Permission::Unknown,
            version_deletes: Permission::Unknown,
            custodian_deletes: None,
            custodian_version_deletes: self.store.custodian.as_ref().map(|_| Permission::Unknown),
            left: 0,
            requests: 0,
        };
        let before = self.look().await?.0;
        if self.put_first(before, &mut found).await? {
            found.puts = Permission::Allowed;
            let put_listed = match self.look().await?.0 {
                Seen::Untold => None,
                Seen::Absent => Some(false),
                Seen::Bytes(bytes) => self.length.map(|length| length == bytes),
            };
            found.checksums = match found.checksums {
                Checksums::Refused => Checksums::Refused,
                _ => self.put_wrong_checksum().await?,
            };
            let is_gone = self.delete(&mut found).await?;
            let deletion_listed = match is_gone {
                true => self.look_after_deletion(&mut found).await?,
                false => None,
            };
            found.listing = match [put_listed, deletion_listed] {
                [Some(false), _] | [_, Some(false)] => Listing::Stale,
                [Some(true), _] => Listing::AtOnce,
                [None, _] => Listing::Unknown,
            };
            let stays = self.delete_versions(&mut found).await?;
            found.left += stays.max(u32::from(!is_gone));
        }
        found.requests = self.requests;
        Ok(found)
    }

    /// Puts the object, and another one in its place, both only if nothing is there. Whether this key may put.
    async fn put_first(&mut self, before: Seen, found: &mut Provider) -> Result<bool, Fault> {
        // What is put now is not to be taken for what an earlier probe has left.
        let [one, other] = match before {
            Seen::Bytes(bytes) if bytes == CONTENTS[0].length() => [CONTENTS[1], CONTENTS[2]],
            Seen::Bytes(bytes) if bytes == CONTENTS[1].length() => [CONTENTS[0], CONTENTS[2]],
            _ => [CONTENTS[0], CONTENTS[1]],
        };
        self.length = Some(one.length());
        // From the put that asks for most to the one that asks for nothing.
        match self.put(one.bytes, Some("*"), Some(one.sha256)).await {
            Ok(_) => {}
            Err(fault) if fault.status == 412 => match before {
                // An answer was lost, and this is the second try.
                Seen::Absent => {}
                // One or the other.
                Seen::Untold => self.length = None,
                // An earlier probe could not take it away.
                Seen::Bytes(_) => match self.put(one.bytes, None, Some(one.sha256)).await {
                    Err(fault) if is_refused(&fault) => self.length = None,
                    put => drop(put?),
                },
            },
            Err(fault) if is_denied(&fault) => return Ok(false),
            Err(fault) if is_refused(&fault) => {
                found.conditional_put = ConditionalPut::Refused;
                match self.put(one.bytes, None, Some(one.sha256)).await {
                    Err(fault) if is_refused(&fault) => {
                        (found.conditional_put, found.checksums) =
                            (ConditionalPut::Unknown, Checksums::Refused);
                        self.put(one.bytes, None, None).await?;
                    }
                    put => drop(put?),
                }
                return Ok(true);
            }
            Err(fault) => return Err(fault),
        }
        found.conditional_put = match self.put(other.bytes, Some("*"), Some(other.sha256)).await {
            Ok(_) => {
                self.length = Some(other.length());
                ConditionalPut::Ignored
            }
            Err(fault) if fault.status == 412 => ConditionalPut::Honoured,
            Err(fault) if is_refused(&fault) => ConditionalPut::Refused,
            Err(fault) => return Err(fault),
        };
        Ok(true)
    }

    async fn put_wrong_checksum(&mut self) -> Result<Checksums, Fault> {
        match self.put(CONTENTS[1].bytes, None, Some(NO_SHA256)).await {
            Ok(answer) if answer.checksum_sha256().is_some() => Ok(Checksums::Kept),
            Ok(_) => Ok(Checksums::Ignored),
            // The right one was taken.
            Err(fault) if is_refused(&fault) => Ok(Checksums::Verified),
            Err(fault) => Err(fault),
        }
    }

    /// Deletes the object, by each key that there is; whether it is gone.
    async fn delete(&mut self, found: &mut Provider) -> Result<bool, Fault> {
        let store = self.store;
        found.deletes = self.delete_by(&store.client).await?;
        let mut is_gone = found.deletes == Permission::Allowed;
        if let Some(custodian) = &store.custodian {
            // Also of what is gone already: who may not is refused all the same.
            let may = self.delete_by(custodian).await?;
            is_gone |= may == Permission::Allowed;
            found.custodian_deletes = Some(may);
        }
        Ok(is_gone)
    }

    async fn delete_by(&mut self, client: &S3) -> Result<Permission, Fault> {
        let key = self.key.clone();
        let bucket = self.store.place.bucket.clone();
        let send = || client.delete_object().bucket(&bucket).key(&key).send();
        match self.ask(Operation::Delete, send).await {
            Ok(answer) => {
                self.versions.extend(version_of(answer.version_id()));
                Ok(Permission::Allowed)
            }
            Err(fault) if fault.status == 404 => Ok(Permission::Allowed),
            Err(fault) if is_refused(&fault) => Ok(Permission::Denied),
            Err(fault) => Err(fault),
        }
    }

    /// What a listing shows of the object, and the first page of that.
    async fn look(&mut self) -> Result<(Seen, Option<ListObjectsV2Output>), Fault> {
        let store = self.store;
        let prefix = format!("{}{FOLDER}", store.place.prefix);
        let list = || store.client.list_objects_v2().bucket(&store.place.bucket).prefix(&prefix).send();
        let page = match self.ask(Operation::List, list).await {
            Err(fault) if is_refused(&fault) => return Ok((Seen::Untold, None)),
            page => page?,
        };
        let it = page.contents().iter().find(|object| object.key() == Some(self.key.as_str()));
        let seen = match it {
            Some(object) => object.size().map_or(Seen::Untold, Seen::Bytes),
            None if page.is_truncated() == Some(true) => Seen::Untold,
            None => Seen::Absent,
        };
        Ok((seen, Some(page)))
    }

    /// Whether it is listed no more. What earlier probes have left goes meanwhile.
    async fn look_after_deletion(&mut self, found: &mut Provider) -> Result<Option<bool>, Fault> {
        let (seen, Some(page)) = self.look().await? else { return Ok(None) };
        let store = self.store;
        let prefix = format!("{}{FOLDER}", store.place.prefix);
        let before = SystemTime::now().checked_sub(LEFT_FOR).unwrap_or(SystemTime::UNIX_EPOCH);
        let old = page.contents().iter().filter(|object| {
            let time = object.last_modified().and_then(|time| SystemTime::try_from(*time).ok());
            time.is_some_and(|time| time < before)
        });
        // What is not ours is somebody else's: the prefix of another vault, or of another program, may begin like this.
        let is_ours = |key: &&str| key.strip_prefix(prefix.as_str()).is_some_and(is_name_of_probe);
        for key in old.filter_map(|object| object.key()).filter(is_ours).take(LEFTOVERS_MAX) {
            let send = || store.deleter().delete_object().bucket(&store.place.bucket).key(key).send();
            match self.ask(Operation::Delete, send).await {
                Err(fault) if is_refused(&fault) => found.left += 1,
                deleted => drop(deleted?),
            }
        }
        Ok(Some(!matches!(seen, Seen::Bytes(_))))
    }

    /// Takes away the versions that there are of the object, and finds out on the way who may. How many stay.
    async fn delete_versions(&mut self, found: &mut Provider) -> Result<u32, Fault> {
        if found.versions == Versioning::Unknown && !self.versions.is_empty() {
            found.versions = Versioning::On;
        }
        if !matches!(found.versions, Versioning::On | Versioning::Suspended) {
            return Ok(0);
        }
        let store = self.store;
        let own = std::mem::take(&mut self.versions);
        let key = self.key.clone();
        let list = || store.deleter().list_object_versions().bucket(&store.place.bucket).prefix(&key).send();
        let listed = match self.ask(Operation::List, list).await {
            Ok(page) => {
                let listed = page.versions().iter().filter_map(|version| version.version_id());
                let marks = page.delete_markers().iter().filter_map(|mark| mark.version_id());
                listed.chain(marks).map(str::to_owned).collect()
            }
            // What is known is tried.
            Err(fault) if is_refused(&fault) => Vec::new(),
            Err(fault) => return Err(fault),
        };
        let older: Vec<String> = listed.into_iter().filter(|id| !own.contains(id)).collect();
        let mut stay = own.len() + older.len();
        for id in &own {
            stay -= usize::from(self.delete_version(id, found).await?);
        }
        // Others have been there before, or an answer was lost.
        for id in older.iter().take(OLD_VERSIONS_MAX) {
            let may = [Some(found.version_deletes), found.custodian_version_deletes];
            if may.into_iter().flatten().all(|may| may == Permission::Denied) {
                break;
            }
            stay -= usize::from(self.delete_version(id, found).await?);
        }
        Ok(u32::try_from(stay).unwrap_or(u32::MAX))
    }

    /// Deletes a version by the first key that may; whether it is gone.
    async fn delete_version(&mut self, id: &str, found: &mut Provider) -> Result<bool, Fault> {
        let (store, key) = (self.store, self.key.clone());
        let mut clients = vec![&store.client];
        clients.extend(store.custodian.as_ref());
        for (place, client) in clients.into_iter().enumerate() {
            let delete =
                || client.delete_object().bucket(&store.place.bucket).key(&key).version_id(id).send();
            let may = match self.ask(Operation::Delete, delete).await {
                Ok(_) => Permission::Allowed,
                Err(fault) if fault.status == 404 => Permission::Allowed,
                Err(fault) if is_refused(&fault) => Permission::Denied,
                Err(fault) => return Err(fault),
            };
            // Where one version can be deleted, others can: only some are locked.
            let told = match (place, &mut found.custodian_version_deletes) {
                (1.., Some(of_custodian)) => of_custodian,
                _ => &mut found.version_deletes,
            };
            if *told != Permission::Allowed {
                *told = may;
            }
            if may == Permission::Allowed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn versioning(&mut self) -> Result<Versioning, Fault> {
        let store = self.store;
        let send = || store.client.get_bucket_versioning().bucket(&store.place.bucket).send();
        match self.ask(Operation::Get, send).await {
            Ok(answer) => Ok(match answer.status() {
                Some(BucketVersioningStatus::Enabled) => Versioning::On,
                Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                _ => Versioning::Off,
            }),
            Err(fault) if is_denied(&fault) => Ok(Versioning::Unknown),
            Err(fault) if is_missing(&fault) => Ok(Versioning::Off),
            Err(fault) => Err(fault),
        }
    }

    async fn object_lock(&mut self) -> Result<ObjectLock, Fault> {
        let store = self.store;
        let send = || store.client.get_object_lock_configuration().bucket(&store.place.bucket).send();
        let answer = match self.ask(Operation::Get, send).await {
            Ok(answer) => answer,
            Err(fault) if is_denied(&fault) => return Ok(ObjectLock::Unknown),
            Err(fault) if is_missing(&fault) => return Ok(ObjectLock::Off),
            Err(fault) => return Err(fault),
        };
        let Some(lock) = answer.object_lock_configuration() else { return Ok(ObjectLock::Off) };
        let default = lock.rule().and_then(|rule| rule.default_retention());
        Ok(match (lock.object_lock_enabled(), default.and_then(lock_by_default)) {
            (_, Some(lock)) => lock,
            (Some(ObjectLockEnabled::Enabled), None) => ObjectLock::WithoutDefault,
            _ => ObjectLock::Off,
        })
    }

    async fn put(
        &mut self,
        content: &'static [u8],
        if_none_match: Option<&str>,
        sha256: Option<&str>,
    ) -> Result<PutObjectOutput, Fault> {
        let (store, key) = (self.store, self.key.clone());
        let put = || {
            let put = store.client.put_object().bucket(&store.place.bucket).key(&key);
            let put = put.set_if_none_match(if_none_match.map(str::to_owned));
            let put = put.set_checksum_sha256(sha256.map(str::to_owned));
            put.content_length(content.len() as i64).body(ByteStream::from_static(content)).send()
        };
        let answer = self.ask(Operation::Put, put).await?;
        self.versions.extend(version_of(answer.version_id()));
        Ok(answer)
    }

    /// One request, tried again for reasons that may pass. That there is no such thing is none of them, whatever it is elsewhere.
    async fn ask<T, E, F>(&mut self, operation: Operation, send: impl Fn() -> F) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut pause = RetryPolicy::of_service().first_pause;
        for _ in 1..TRIES_OF_PART {
            self.requests += 1;
            match self.store.request(operation, &self.shown, 0, send()).await {
                Err(fault) if may_pass(&fault) => {
                    sleep(pause).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
        self.requests += 1;
        self.store.request(operation, &self.shown, 0, send()).await
    }
}

fn may_pass(fault: &Fault) -> bool {
    match fault.status {
        // There was no answer, for a reason that may pass.
        0 => fault.kind == StoreErrorKind::Transient,
        status => matches!(status, 408 | 429 | 500 | 502..=504 | 506..=599),
    }
}

/// What this key may not do, if it is one.
fn is_denied(fault: &Fault) -> bool {
    matches!(fault.status, 401 | 403) && !NOBODY.contains(&fault.code.as_str())
}

/// What the service does not do, or not for this key.
fn is_refused(fault: &Fault) -> bool {
    matches!(fault.status, 400..=499 | 501 | 505)
        && !may_pass(fault)
        && !NOBODY.contains(&fault.code.as_str())
}

/// What the service does not know.
fn is_missing(fault: &Fault) -> bool {
    is_refused(fault) && !is_denied(fault)
}

/// The id of a version where there are any: `null` is what a bucket has that never had some.
fn version_of(id: Option<&str>) -> Option<String> {
    id.filter(|id| *id != "null" && !id.is_empty()).map(str::to_owned)
}

fn lock_by_default(default: &DefaultRetention) -> Option<ObjectLock> {
    let mode = match default.mode()? {
        ObjectLockRetentionMode::Compliance => LockMode::Compliance,
        _ => LockMode::Governance,
    };
    let days = default.days().map(i64::from).or_else(|| default.years().map(|years| i64::from(years) * 365));
    let days = days.and_then(|days| u32::try_from(days).ok()).filter(|days| *days > 0)?;
    Some(ObjectLock::ByDefault { days, mode })
}

/// As probes name their objects: 32 hex digits.
fn is_name_of_probe(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
