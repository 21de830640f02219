//! A store that fails where a test says so, or in which others write meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Folder, Glance, Listed, Operation, Store, StoreError, StoreErrorKind, Stretch, Trashed,
};
use bytes::Bytes;

use crate::forge::Object;

/// Which requests something happens to. Requests are counted as they begin.
#[derive(Debug, Clone)]
pub struct Trigger {
    operation: Operation,
    prefix: String,
    skip: u64,
    times: u64,
}

impl Trigger {
    /// The first request of this kind.
    pub fn on(operation: Operation) -> Self {
        Self { operation, prefix: String::new(), skip: 0, times: 1 }
    }

    /// Only those whose name begins with `prefix`.
    pub fn below(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// After this many that are let through.
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// This many times.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// From there on every time.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Whether it is this request's turn.
    fn pull(&mut self, operation: Operation, name: &str) -> bool {
        if operation != self.operation || !name.starts_with(&self.prefix) || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// What happens to a request.
#[derive(Debug, Clone)]
enum Event {
    /// It fails without having done anything.
    Fails(StoreErrorKind),
    /// It is done, and then reported as failed.
    DoneAndFails(StoreErrorKind),
    /// Before it is done, others put these objects.
    OthersPut(Vec<Object>),
    /// When it is done, and before its answer is there, this is called.
    Then(Call),
}

#[derive(Clone)]
struct Call(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

/// A store that wraps another and fails as planned.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    plan: Mutex<Vec<(Trigger, Event)>>,
}

impl<S: Store> FaultStore<S> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Requests that fail without having done anything.
    pub fn fail(&self, trigger: Trigger, kind: StoreErrorKind) {
        self.add(trigger, Event::Fails(kind));
    }

    /// Requests that fail after they were done: the answer is lost.
    pub fn lose_answer(&self, trigger: Trigger, kind: StoreErrorKind) {
        self.add(trigger, Event::DoneAndFails(kind));
    }

    /// Objects that others put just before a request.
    pub fn meanwhile(&self, trigger: Trigger, objects: Vec<Object>) {
        self.add(trigger, Event::OthersPut(objects));
    }

    /// What others do after a request and before its answer is there, on a thread of their own.
    pub fn then(&self, trigger: Trigger, call: impl Fn() + Send + Sync + 'static) {
        self.add(trigger, Event::Then(Call(Arc::new(call))));
    }

    /// Forgets what was planned.
    pub fn heal(&self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, trigger: Trigger, event: Event) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).push((trigger, event));
    }

    fn pulled(&self, operation: Operation, name: &str) -> Option<Event> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.iter_mut().find_map(|(trigger, event)| trigger.pull(operation, name).then(|| event.clone()))
    }

    async fn request<T>(
        &self,
        operation: Operation,
        name: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let failure = |kind| {
            let (object, cause) = (name.to_owned(), "the test wants it so".to_owned());
            StoreError { operation, object, place: self.place(), kind, cause }
        };
        match self.pulled(operation, name) {
            None => request.await,
            Some(Event::Fails(kind)) => Err(failure(kind)),
            Some(Event::DoneAndFails(kind)) => request.await.and(Err(failure(kind))),
            Some(Event::Then(Call(call))) => {
                let answer = request.await;
                std::thread::scope(|scope| {
                    scope.spawn(|| call()).join().expect("what others do succeeds");
                });
                answer
            }
            Some(Event::OthersPut(objects)) => {
                for object in objects {
                    self.inner.put(&object.name, object.content).await?;
                }
                request.await
            }
        }
    }
}

#[async_trait]
impl<S: Store> Store for FaultStore<S> {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.request(Operation::Put, name.as_str(), self.inner.put(name, content)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.request(Operation::Get, name.as_str(), self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.request(Operation::GetRange, name.as_str(), self.inner.get_range(name, stretch)).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.request(Operation::List, folder.as_str(), self.inner.list(folder)).await
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.request(Operation::List, "", self.inner.glance()).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.request(Operation::Delete, name.as_str(), self.inner.delete(name)).await
    }

    /// A batch of one request: where it fails for one object, that one stays, and others may be gone that come after it.
    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        let (mut goes, mut outcome) = (Vec::new(), Ok(()));
        for name in names {
            let told = self.request(Operation::Delete, name.as_str(), async {
                goes.push(name.clone());
                Ok(())
            });
            outcome = outcome.and(told.await);
        }
        self.inner.delete_all(&goes).await?;
        outcome
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.request(Operation::List, "trash", self.inner.trash()).await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        let name = trashed.object.name.as_str();
        self.request(Operation::BringBack, name, self.inner.bring_back(trashed)).await
    }

    fn requests_cost(&self) -> bool {
        self.inner.requests_cost()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}
