//! Listings, page by page, and a glance: the first page of all.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, GLANCE_MAX, Glance, LISTING_MAX, Listed, Operation, StoreErrorKind};

use super::S3Store;
use crate::error::Fault;

impl S3Store {
    pub(super) async fn list_all(&self, folder: &Folder) -> Result<Vec<Listed>, Fault> {
        let prefix = format!("{}{}", self.place.prefix, folder.as_str());
        let (mut all, mut token, mut last) = (Vec::new(), None::<String>, None::<String>);
        loop {
            let list = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&prefix);
            let list = list.set_continuation_token(token.take());
            let page = self.request(Operation::List, folder.as_str(), 0, list.send()).await?;
            all.extend(self.ours(&page));
            if all.len() > LISTING_MAX {
                let text = format!("more than {LISTING_MAX} objects");
                return Err(Fault::of(StoreErrorKind::TooLarge, text));
            }
            match (page.is_truncated(), page.next_continuation_token) {
                (Some(true), Some(next)) if last.as_ref() != Some(&next) => {
                    last = Some(next.clone());
                    token = Some(next);
                }
                (Some(true), _) => return Err(Fault::passing("a page of a listing without the next one")),
                _ => break,
            }
        }
        // Services of others may order otherwise.
        all.sort_by(|a: &Listed, b: &Listed| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        Ok(all)
    }

    /// The first page of all names. Of one that is not the last it is known what it has told only if names come in their order.
    pub(super) async fn glance_at_all(&self) -> Result<Option<Glance>, Fault> {
        let list = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&self.place.prefix);
        let list = list.max_keys(i32::try_from(GLANCE_MAX).unwrap_or(i32::MAX));
        let page = self.request(Operation::List, "", 0, list.send()).await?;
        let listed = self.ours(&page).collect();
        if page.is_truncated() != Some(true) {
            return Ok(Some(Glance::new(listed, None)));
        }
        let last = last_in_order(page.contents()).and_then(|last| last.strip_prefix(&self.place.prefix));
        Ok(last.map(|last| Glance::new(listed, Some(last.to_owned()))))
    }

    /// What is ours of a page; the rest is left out.
    fn ours<'p>(&'p self, page: &'p ListObjectsV2Output) -> impl Iterator<Item = Listed> + 'p {
        page.contents().iter().filter_map(move |object| {
            let key = object.key()?.strip_prefix(&self.place.prefix)?;
            let bytes = object.size().and_then(|size| u64::try_from(size).ok())?;
            let (name, named) = ObjectName::parse(key)?;
            Some(Listed { name, named, bytes })
        })
    }
}

/// The last key of a page, if all rise.
fn last_in_order(page: &[Object]) -> Option<&str> {
    let mut last = None;
    for key in page.iter().map(Object::key) {
        if key.is_none() || last.is_some() && key <= last {
            return None;
        }
        last = key;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_counts_where_all_rise() {
        let last = |keys: &[&str]| {
            let page: Vec<Object> = keys.iter().map(|key| Object::builder().key(*key).build()).collect();
            last_in_order(&page).map(str::to_owned)
        };
        assert_eq!(last(&["a", "b", "c/1"]).as_deref(), Some("c/1"));
        assert_eq!(last(&["a", "c", "b", "d"]), None);
        assert_eq!(last(&["a", "a"]), None);
        assert_eq!(last(&[]), None);
        assert_eq!(last_in_order(&[Object::builder().build()]), None);
    }
}
