//! Deleting objects, and what uploads have left that were broken off.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Operation, StoreErrorKind};
use tokio::task::JoinSet;

use super::S3Store;
use crate::error::Fault;

/// Objects of one request to delete ("DeleteObjects").
pub(super) const DELETE_MAX: usize = 1000;

/// By which a service says that it does not delete several objects at once, or not as the SDK asks for it.
const NO_BATCHES: [&str; 5] =
    ["NotImplemented", "MissingContentMD5", "InvalidRequest", "MethodNotAllowed", "MissingContentLength"];

impl S3Store {
    pub(super) async fn delete_some(&self, names: &[ObjectName]) -> Result<(), (usize, Fault)> {
        if names.len() == 1 || self.no_batches.load(Ordering::Relaxed) {
            return self.delete_each(names).await;
        }
        let key = |name| ObjectIdentifier::builder().key(self.key(name)).build();
        let keys: Result<Vec<_>, _> = names.iter().map(key).collect();
        let delete = keys.and_then(|keys| Delete::builder().set_objects(Some(keys)).quiet(true).build());
        let delete = delete.map_err(|error| (0, Fault::of(StoreErrorKind::Permanent, error.to_string())))?;
        let send = self.deleter().delete_objects().bucket(&self.place.bucket).delete(delete).send();
        let answer = self.request(Operation::Delete, names[0].as_str(), 0, send).await;
        let answer = match answer {
            // Not every service has it, and some want a header for it that the SDK does not send.
            Err(fault) if NO_BATCHES.contains(&fault.code.as_str()) => {
                self.no_batches.store(true, Ordering::Relaxed);
                return self.delete_each(names).await;
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

    /// Each by a request of its own.
    async fn delete_each(&self, names: &[ObjectName]) -> Result<(), (usize, Fault)> {
        let mut deletes = JoinSet::new();
        for (place, name) in names.iter().enumerate() {
            let (store, name) = (self.clone(), name.clone());
            deletes.spawn(async move { store.delete_one(&name).await.map_err(|fault| (place, fault)) });
        }
        while let Some(deleted) = deletes.join_next().await {
            deleted.map_err(|error| (0, Fault::passing(error.to_string())))??;
        }
        Ok(())
    }

    /// Ends uploads in parts that began before that, and that nobody goes on with.
    pub(super) async fn abandon_uploads(&self, before: SystemTime) -> Result<u64, Fault> {
        let (mut count, mut after, mut last) = (0, (None, None), (None, None));
        loop {
            let list = self.deleter().list_multipart_uploads().bucket(&self.place.bucket);
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
                let abort = self.deleter().abort_multipart_upload().bucket(&self.place.bucket);
                let abort = abort.key(key).upload_id(id);
                match self.request(Operation::Delete, key, 0, abort.send()).await {
                    Ok(_) => count += 1,
                    // Another one was faster.
                    Err(fault) if fault.code == "NoSuchUpload" => {}
                    Err(fault) => return Err(fault),
                }
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || next.0.is_none() || next == last {
                return Ok(count);
            }
            (after, last) = (next.clone(), next);
        }
    }

    pub(super) async fn delete_one(&self, name: &ObjectName) -> Result<(), Fault> {
        let delete = self.deleter().delete_object().bucket(&self.place.bucket).key(self.key(name));
        match self.request(Operation::Delete, name.as_str(), 0, delete.send()).await {
            Err(fault) if fault.kind == StoreErrorKind::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    }
}
