//! What a store holds: *live*, what requests see, and *durable*, what a loss of power leaves. A change may be seen before
//! whoever asked for it is told; only then is it durable, or when it is listed.

use std::collections::BTreeMap;

use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Listed, StoreErrorKind, Stretch, Trashed, is_kept};
use bytes::Bytes;

/// A put, or a delete where there is no content.
#[derive(Debug, Clone)]
pub struct Change {
    /// The object.
    pub name: ObjectName,
    /// What it holds from now on.
    pub content: Option<Bytes>,
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// The folder: how its names begin.
    pub(super) below: String,
    /// They come after this one.
    pub(super) after: String,
    /// How many there are at most.
    pub(super) names: usize,
}

impl Page {
    /// All names below a folder.
    pub(super) fn all(folder: &Folder) -> Self {
        Self { below: folder.as_str().to_owned(), after: String::new(), names: usize::MAX }
    }
}

/// Why a request cannot be done.
pub(super) type Refusal = (StoreErrorKind, &'static str);

const NOT_FOUND: Refusal = (StoreErrorKind::NotFound, "there is no such object");

#[derive(Debug, Default)]
pub(super) struct Images {
    live: BTreeMap<String, Bytes>,
    durable: BTreeMap<String, Bytes>,
    /// What was deleted and is worth it.
    trash: BTreeMap<String, Bytes>,
}

impl Images {
    pub(super) fn objects(&self) -> &BTreeMap<String, Bytes> {
        &self.live
    }

    /// Lets a change be seen.
    pub(super) fn show(&mut self, change: &Change) {
        let name = change.name.as_str();
        match &change.content {
            Some(content) => drop(self.live.insert(name.to_owned(), content.clone())),
            None => {
                let is_worth_it = ObjectName::parse(name).is_some_and(|(_, named)| is_kept(&named));
                if let Some(content) = self.live.remove(name).filter(|_| is_worth_it) {
                    self.trash.insert(name.to_owned(), content);
                }
            }
        }
    }

    /// Makes a change durable that was shown.
    pub(super) fn keep(&mut self, change: &Change) {
        match &change.content {
            Some(content) => drop(self.durable.insert(change.name.to_string(), content.clone())),
            None => drop(self.durable.remove(change.name.as_str())),
        }
    }

    /// What was only seen is gone, or there again.
    pub(super) fn lose_power(&mut self) {
        self.live.clone_from(&self.durable);
    }

    pub(super) fn get(&self, name: &ObjectName) -> Result<Bytes, Refusal> {
        self.live.get(name.as_str()).cloned().ok_or(NOT_FOUND)
    }

    pub(super) fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, Refusal> {
        let content = self.get(name)?;
        let end = stretch.offset.checked_add(stretch.length).filter(|end| *end <= content.len() as u64);
        let end = end.ok_or((StoreErrorKind::Truncated, "the object is shorter"))?;
        Ok(content.slice(stretch.offset as usize..end as usize))
    }

    /// What a listing shows is durable from then on: whoever sees it builds on it.
    pub(super) fn list(&mut self, page: &Page) -> Vec<Listed> {
        let first = page.after.as_str().max(page.below.as_str());
        let below = self.live.range(first.to_owned()..).skip_while(|(name, _)| **name <= page.after);
        let below = below.take_while(|(name, _)| name.starts_with(&page.below)).take(page.names);
        below
            .filter_map(|(name, content)| {
                self.durable.insert(name.clone(), content.clone());
                listed(name, content)
            })
            .collect()
    }

    pub(super) fn trash(&self) -> Vec<Trashed> {
        let trashed = self.trash.iter().filter_map(|(name, content)| listed(name, content));
        trashed.map(|object| Trashed { object, batch: 0 }).collect()
    }

    /// Durable at once.
    pub(super) fn bring_back(&mut self, trashed: &Trashed) -> Result<(), Refusal> {
        let name = trashed.object.name.as_str();
        let content = self.trash.remove(name).ok_or(NOT_FOUND)?;
        self.live.entry(name.to_owned()).or_insert(content.clone());
        self.durable.entry(name.to_owned()).or_insert(content);
        Ok(())
    }
}

fn listed(name: &str, content: &Bytes) -> Option<Listed> {
    let (name, named) = ObjectName::parse(name)?;
    Some(Listed { name, named, bytes: content.len() as u64 })
}
