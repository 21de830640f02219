//! A store of a simulated world for whoever stands outside of it: requests are done at once.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Listed, Store, StoreError, Stretch, Trashed};
use bytes::Bytes;

use super::images::{Change, Page};
use super::store::Request;
use super::world::{Answer, Shared};

#[derive(Debug)]
pub(super) struct DirectStore {
    pub(super) shared: Arc<Shared>,
    pub(super) store: usize,
}

impl DirectStore {
    fn ask(&self, request: &Request) -> Result<Answer, StoreError> {
        let answer = Shared::look(&mut self.shared.lock().images[self.store], request);
        answer.map_err(|(kind, cause)| StoreError {
            operation: request.operation(),
            object: request.object().to_owned(),
            place: self.place(),
            kind,
            cause: cause.into(),
        })
    }
}

#[async_trait]
impl Store for DirectStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let change = Change { name: name.clone(), content: Some(content) };
        self.ask(&Request::Change(change)).map(drop)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.ask(&Request::Get(name.clone())).map(Answer::content)
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.ask(&Request::GetRange(name.clone(), stretch)).map(Answer::content)
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.ask(&Request::List(Page::all(folder))).map(Answer::listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let change = Change { name: name.clone(), content: None };
        self.ask(&Request::Change(change)).map(drop)
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.ask(&Request::Trash).map(Answer::trashed)
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.ask(&Request::BringBack(trashed.clone())).map(drop)
    }

    fn place(&self) -> String {
        format!("simulated store {}", self.store)
    }
}
