//! The handle of one life of a process: every request waits until the schedule grants it.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Folder, Glance, Listed, Operation, Store, StoreError, StoreErrorKind, Stretch, Trashed,
};
use bytes::Bytes;

use super::images::{Change, Page};
use super::world::{Answer, Ask, Shared};

/// A store as one life of a process sees it.
#[derive(Debug)]
pub struct SimStore {
    pub(super) shared: Arc<Shared>,
    pub(super) process: usize,
    pub(super) life: u64,
    pub(super) store: usize,
}

/// What is asked of a store.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Get(ObjectName),
    GetRange(ObjectName, Stretch),
    List(Page),
    Change(Change),
    Trash,
    BringBack(Trashed),
}

impl Request {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Get(_) => Operation::Get,
            Self::GetRange(..) => Operation::GetRange,
            Self::List(_) | Self::Trash => Operation::List,
            Self::Change(change) if change.content.is_some() => Operation::Put,
            Self::Change(_) => Operation::Delete,
            Self::BringBack(_) => Operation::BringBack,
        }
    }

    pub(super) fn object(&self) -> &str {
        match self {
            Self::Get(name) | Self::GetRange(name, _) | Self::Change(Change { name, .. }) => name.as_str(),
            Self::List(page) => &page.below,
            Self::Trash => "trash/",
            Self::BringBack(trashed) => trashed.object.name.as_str(),
        }
    }

    /// The top folder.
    pub(super) fn folder(&self) -> &str {
        let object = self.object();
        object.find('/').map_or(object, |end| &object[..=end])
    }
}

impl SimStore {
    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let (operation, object) = (request.operation(), request.object().to_owned());
        let waiting = self.shared.park(self.process, self.life, Ask::Request(self.store, request));
        let told = match waiting {
            Some(answer) => answer.await.unwrap_or(Err(DEAD)),
            None => Err(DEAD),
        };
        told.map_err(|why| self.failed(operation, object, why))
    }

    fn failed(
        &self,
        operation: Operation,
        object: String,
        (kind, cause): (StoreErrorKind, &str),
    ) -> StoreError {
        StoreError { operation, object, place: self.place(), kind, cause: cause.into() }
    }

    /// A listing page by page: the later ones are read at a later moment, as services do it.
    async fn list_paged(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let names = self.shared.lock().page_names;
        let mut all = Vec::<Listed>::new();
        loop {
            let after = all.last().map_or_else(String::new, |last| last.name.to_string());
            let page = Page { after, names, ..Page::all(folder) };
            let page = self.ask(Request::List(page)).await.map(Answer::listed)?;
            let is_last = page.len() < names;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// Top folders in the order of names. Nobody appends to a journal.
const GLANCED: [&str; 12] = [
    "bad", "fences", "format", "heads", "index", "keys", "layout", "ledger", "packs", "points", "proofs",
    "trust",
];

const DEAD: (StoreErrorKind, &str) = (StoreErrorKind::Permanent, "the process has died");

#[async_trait]
impl Store for SimStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.ask(Request::Change(Change { name: name.clone(), content: Some(content) })).await.map(drop)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.ask(Request::Get(name.clone())).await.map(Answer::content)
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.ask(Request::GetRange(name.clone(), stretch)).await.map(Answer::content)
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.list_paged(folder).await
    }

    /// One folder after the other, in the order of their names, until enough is shown: others go on meanwhile, as a service may let
    /// them.
    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        if !self.requests_cost() {
            return Ok(None);
        }
        let most = self.shared.lock().glance_names;
        let mut all = Vec::new();
        for folder in GLANCED {
            let folder = Folder::new(&[&folder]);
            all.extend(self.list_paged(&folder).await?);
            if all.len() > most {
                all.truncate(most);
                let last = all.last().map(|last| last.name.to_string());
                return Ok(Some(Glance::new(all, last)));
            }
        }
        Ok(Some(Glance::new(all, None)))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.ask(Request::Change(Change { name: name.clone(), content: None })).await.map(drop)
    }

    /// All at once, as a directory does it: whoever dies meanwhile leaves any part of it done, and so does a fault.
    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        let ask = |name: &ObjectName| {
            Ask::Request(self.store, Request::Change(Change { name: name.clone(), content: None }))
        };
        let waiting = self.shared.park_all(self.process, self.life, names.iter().map(ask).collect());
        let mut outcome = match waiting.len() == names.len() {
            true => Ok(()),
            false => Err(self.failed(Operation::Delete, names[0].to_string(), DEAD)),
        };
        for (name, answer) in names.iter().zip(waiting) {
            let told = answer.await.unwrap_or(Err(DEAD));
            let told = told.map_err(|why| self.failed(Operation::Delete, name.to_string(), why));
            outcome = outcome.and(told.map(drop));
        }
        outcome
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.ask(Request::Trash).await.map(Answer::trashed)
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.ask(Request::BringBack(trashed.clone())).await.map(drop)
    }

    fn requests_cost(&self) -> bool {
        self.shared.lock().requests_cost
    }

    fn place(&self) -> String {
        format!("simulated store {}", self.store)
    }
}
