//! What an object was before, where the bucket keeps versions.

use aws_sdk_s3::types::ObjectVersion;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{OBJECT_BYTES_MAX, Operation, StoreErrorKind, Stretch, VERSIONS_MAX, Version};
use bytes::Bytes;

use super::{Read, S3Store, Which};
use crate::error::Fault;

/// Pages of a listing that are asked for: services give a thousand versions in one, marks of deletion among them.
const PAGES_MAX: usize = 10;

fn version(version: &ObjectVersion) -> Option<Version> {
    let bytes = version.size().and_then(|size| u64::try_from(size).ok())?;
    Some(Version { id: version.version_id()?.to_owned(), bytes })
}

impl S3Store {
    /// Newest first; marks of deletion are none.
    pub(super) async fn older_versions(&self, name: &ObjectName) -> Result<Vec<Version>, Fault> {
        let key = self.key(name);
        let mut older: Vec<Version> = Vec::new();
        let mut after: Option<(String, String)> = None;
        for _ in 0..PAGES_MAX {
            let list = self.client.list_object_versions().bucket(&self.place.bucket).prefix(&key);
            let list = match after.take() {
                Some((key, version)) => list.key_marker(key).version_id_marker(version),
                None => list,
            };
            let page = self.request(Operation::List, name.as_str(), 0, list.send()).await?;
            let of_it = page.versions().iter().filter(|version| version.key() == Some(key.as_str()));
            older.extend(of_it.filter(|version| version.is_latest() != Some(true)).filter_map(version));
            let (next_key, next_version) = (page.next_key_marker(), page.next_version_id_marker());
            match (page.is_truncated(), next_key, next_version) {
                // Versions of one key follow one another.
                (Some(true), Some(next), Some(version)) if next == key && older.len() < VERSIONS_MAX => {
                    after = Some((next.to_owned(), version.to_owned()));
                }
                _ => break,
            }
        }
        older.truncate(VERSIONS_MAX);
        Ok(older)
    }

    pub(super) async fn read_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, Fault> {
        let end = stretch.offset.checked_add(stretch.length);
        if end.is_none_or(|end| end > version.bytes) {
            return Err(Fault::of(StoreErrorKind::Truncated, format!("it has {} bytes", version.bytes)));
        }
        if stretch.length > OBJECT_BYTES_MAX {
            return Err(Fault::of(StoreErrorKind::TooLarge, format!("{} bytes", stretch.length)));
        }
        if stretch.length == 0 {
            return Ok(Bytes::new());
        }
        let which = Which::Version(&version.id);
        let Read { content, .. } =
            self.read_stretch(Operation::GetRange, &self.key(name), stretch, which).await?;
        match content.len() as u64 == stretch.length {
            true => Ok(content),
            false => Err(Fault::passing(format!("{} of {} bytes", content.len(), stretch.length))),
        }
    }
}
