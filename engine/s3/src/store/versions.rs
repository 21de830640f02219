//! What an object was before, where the bucket keeps versions.

use backstay_vault::name::ObjectName;
use backstay_vault::store::{OBJECT_BYTES_MAX, Operation, StoreErrorKind, Stretch, VERSIONS_MAX, Version};
use bytes::Bytes;

use super::{Read, S3Store, Which};
use crate::error::Fault;

impl S3Store {
    /// Newest first; marks of deletion are none.
    pub(super) async fn older_versions(&self, name: &ObjectName) -> Result<Vec<Version>, Fault> {
        let key = self.key(name);
        let list = self.client.list_object_versions().bucket(&self.place.bucket).prefix(&key);
        // One more for what is there now, which is no older one.
        let list = list.max_keys(VERSIONS_MAX as i32 + 1);
        let page = self.request(Operation::List, name.as_str(), 0, list.send()).await?;
        let older = page
            .versions()
            .iter()
            .filter(|version| version.key() == Some(key.as_str()) && version.is_latest() != Some(true));
        let version = |version: &aws_sdk_s3::types::ObjectVersion| {
            let bytes = version.size().and_then(|size| u64::try_from(size).ok())?;
            Some(Version { id: version.version_id()?.to_owned(), bytes })
        };
        Ok(older.filter_map(version).take(VERSIONS_MAX).collect())
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
