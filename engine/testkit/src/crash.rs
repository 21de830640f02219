//! A store under a process that dies at a chosen request. It keeps two images: *live*, what requests see, and
//! *durable*, what a crash leaves. A put may be seen before it returns; only when it has returned is it
//! durable. What was in flight at the crash has landed, is lost, or lands after the restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Folder, Listed, MemStore, Operation, Store, StoreError, StoreErrorKind, Stretch,
};
use bytes::Bytes;

use crate::random::Random;

/// What becomes of a request that was in flight when the process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// It was done, and nobody got the answer.
    Landed,
    /// It was not done.
    Lost,
    /// It is done later, when the next process is running already.
    Late,
}

impl Landing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Landed, Self::Lost, Self::Late];
}

/// A put or delete that lands after the restart.
#[derive(Debug, Clone)]
pub struct LateChange {
    name: ObjectName,
    /// `None` deletes.
    content: Option<Bytes>,
}

impl LateChange {
    /// Lets it land.
    pub async fn land(self, store: &dyn Store) -> Result<(), StoreError> {
        match self.content {
            Some(content) => store.put(&self.name, content).await,
            None => store.delete(&self.name).await,
        }
    }
}

/// The store.
#[derive(Debug)]
pub struct CrashStore {
    images: Mutex<Images>,
}

#[derive(Debug)]
struct Images {
    live: BTreeMap<String, Bytes>,
    durable: BTreeMap<String, Bytes>,
    in_flight: BTreeMap<u64, LateChange>,
    late: Vec<LateChange>,
    begun: u64,
    /// Whether requests that only read are counted, too.
    counts_reads: bool,
    crash_at: u64,
    landing: Landing,
    crashed: bool,
    random: Random,
}

impl CrashStore {
    /// A store that holds `objects`. The process dies at request number `crash_at` (from 1; 0 never); if that
    /// is a put or delete, `landing` becomes of it. What becomes of others in flight follows from the seed.
    pub fn new(objects: BTreeMap<String, Bytes>, crash_at: u64, landing: Landing, seed: u64) -> Self {
        let images = Images {
            live: objects.clone(),
            durable: objects,
            in_flight: BTreeMap::new(),
            late: Vec::new(),
            begun: 0,
            counts_reads: true,
            crash_at,
            landing,
            crashed: false,
            random: Random::new(seed),
        };
        Self { images: Mutex::new(images) }
    }

    /// The same, counting puts and deletes only: of a process that does one thing after the other, a crash at a read
    /// leaves what one at the next change leaves that is lost.
    pub fn at_change(objects: BTreeMap<String, Bytes>, crash_at: u64, landing: Landing, seed: u64) -> Self {
        let store = Self::new(objects, crash_at, landing, seed);
        store.lock().counts_reads = false;
        store
    }

    /// Whether the process has died.
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// How many requests have begun.
    pub fn requests(&self) -> u64 {
        self.lock().begun
    }

    /// What the crash has left, in a store that works.
    pub fn after_crash(&self) -> MemStore {
        MemStore::with_objects(self.lock().durable.clone())
    }

    /// What will still land, in the order in which it was sent.
    pub fn late_changes(&self) -> Vec<LateChange> {
        self.lock().late.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that only reads.
    fn read<T>(
        &self,
        operation: Operation,
        name: &str,
        look: impl FnOnce(&BTreeMap<String, Bytes>) -> Result<T, (StoreErrorKind, &'static str)>,
    ) -> Result<T, StoreError> {
        let mut images = self.lock();
        let begun = match images.counts_reads {
            true => images.begin().map(drop),
            false => images.alive(),
        };
        let outcome = match begun {
            Ok(()) => look(&images.live),
            Err(Dead) => Err((StoreErrorKind::Permanent, "the process has died")),
        };
        outcome.map_err(|(kind, cause)| error(operation, name, kind, cause))
    }

    async fn change(
        &self,
        operation: Operation,
        name: &ObjectName,
        content: Option<Bytes>,
    ) -> Result<(), StoreError> {
        let died = || error(operation, name.as_str(), StoreErrorKind::Permanent, "the process has died");
        let change = LateChange { name: name.clone(), content };
        let number = self.lock().send(change).map_err(|Dead| died())?;
        // Here other requests begin, and the process may die.
        tokio::task::yield_now().await;
        self.lock().arrive(number).map_err(|Dead| died())
    }
}

/// The process has died.
struct Dead;

impl Images {
    fn alive(&self) -> Result<(), Dead> {
        if self.crashed { Err(Dead) } else { Ok(()) }
    }

    fn begin(&mut self) -> Result<u64, Dead> {
        if self.crashed {
            return Err(Dead);
        }
        self.begun += 1;
        if self.begun != self.crash_at {
            return Ok(self.begun);
        }
        self.crashed = true;
        for (_, change) in std::mem::take(&mut self.in_flight) {
            let landing = self.random.choose(&Landing::ALL);
            self.settle(change, landing);
        }
        Err(Dead)
    }

    fn send(&mut self, change: LateChange) -> Result<u64, Dead> {
        let alive_before = !self.crashed;
        match self.begin() {
            Ok(number) => {
                if self.random.once_in(2) {
                    apply(&mut self.live, &change);
                }
                self.in_flight.insert(number, change);
                Ok(number)
            }
            Err(Dead) => {
                if alive_before {
                    self.settle(change, self.landing);
                }
                Err(Dead)
            }
        }
    }

    fn arrive(&mut self, number: u64) -> Result<(), Dead> {
        let change = self.in_flight.remove(&number).ok_or(Dead)?;
        apply(&mut self.live, &change);
        apply(&mut self.durable, &change);
        Ok(())
    }

    fn settle(&mut self, change: LateChange, landing: Landing) {
        match landing {
            Landing::Landed => apply(&mut self.durable, &change),
            Landing::Lost => {}
            Landing::Late => self.late.push(change),
        }
    }
}

fn apply(image: &mut BTreeMap<String, Bytes>, change: &LateChange) {
    match &change.content {
        Some(content) => image.insert(change.name.to_string(), content.clone()),
        None => image.remove(change.name.as_str()),
    };
}

fn error(operation: Operation, name: &str, kind: StoreErrorKind, cause: &str) -> StoreError {
    StoreError {
        operation,
        object: name.to_owned(),
        place: "crashing store".into(),
        kind,
        cause: cause.into(),
    }
}

const NOT_FOUND: (StoreErrorKind, &str) = (StoreErrorKind::NotFound, "there is no such object");

#[async_trait]
impl Store for CrashStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.change(Operation::Put, name, Some(content)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read(Operation::Get, name.as_str(), |live| live.get(name.as_str()).cloned().ok_or(NOT_FOUND))
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.read(Operation::GetRange, name.as_str(), |live| {
            let content = live.get(name.as_str()).ok_or(NOT_FOUND)?;
            let end = stretch.offset.checked_add(stretch.length).filter(|end| *end <= content.len() as u64);
            let end = end.ok_or((StoreErrorKind::Truncated, "the object is shorter"))?;
            Ok(content.slice(stretch.offset as usize..end as usize))
        })
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.read(Operation::List, folder.as_str(), |live| {
            let below = live.iter().filter(|(name, _)| name.starts_with(folder.as_str()));
            let listed = below.filter_map(|(name, content)| {
                let (name, named) = ObjectName::parse(name)?;
                Some(Listed { name, named, bytes: content.len() as u64 })
            });
            Ok(listed.collect())
        })
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.change(Operation::Delete, name, None).await
    }

    fn place(&self) -> String {
        "crashing store".into()
    }
}
