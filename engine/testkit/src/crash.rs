//! A store under a process that dies at a chosen request. It keeps two images: *live*, what requests see, and
//! *durable*, what a crash leaves. A put may be seen before it returns; only when it has returned is it
//! durable. What was in flight at the crash has landed, is lost, or lands after the restart; of a batch of deletes any
//! part may have been done.

mod dying;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Folder, Glance, Listed, MemStore, Operation, Store, StoreError, StoreErrorKind, Stretch, Trashed, is_kept,
};
use bytes::Bytes;

use crate::fixture::VaultFixture;
use crate::random::Random;

pub use dying::DyingStore;
pub use workload::{Death, Mortal, Workload, crash_while_made};

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

/// When what lands late arrives, as the next process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Before that begins.
    Before,
    /// When that has ended.
    After,
}

/// A change that lands after the restart.
#[derive(Debug, Clone)]
pub struct LateChange(Change);

#[derive(Debug, Clone)]
enum Change {
    Put(ObjectName, Bytes),
    Delete(ObjectName),
    BringBack(Trashed),
}

impl LateChange {
    /// Lets it land.
    pub async fn land(self, store: &dyn Store) -> Result<(), StoreError> {
        match self.0 {
            Change::Put(name, content) => store.put(&name, content).await,
            Change::Delete(name) => store.delete(&name).await,
            Change::BringBack(trashed) => match store.bring_back(&trashed).await {
                // Somebody else has done it meanwhile.
                Err(error) if error.is_not_found() => Ok(()),
                outcome => outcome,
            },
        }
    }
}

/// Most requests of a life that is to end at each of them.
const REQUESTS_MAX: u64 = 5000;

/// Lets a process die at its first request, at its second, and so on until it has no more, each time in every way in
/// which that request may land. `make` is the store of one life, `live` that life and all that is looked at afterwards;
/// it is told what happened, in words. Returns how many crashes there were.
///
/// # Panics
/// When the process does not come to an end.
pub fn crash_everywhere(
    make: impl Fn(u64, Landing) -> CrashStore,
    mut live: impl FnMut(&Arc<CrashStore>, &str),
) -> u64 {
    let mut crashes = 0;
    for at in 1..REQUESTS_MAX {
        for landing in Landing::ALL {
            let store = Arc::new(make(at, landing));
            live(&store, &format!("crash at {at}, {landing:?}"));
            if !store.has_crashed() {
                return crashes;
            }
            crashes += 1;
        }
    }
    panic!("the work does not end");
}

/// The store.
#[derive(Debug)]
pub struct CrashStore {
    images: Mutex<Images>,
}

#[derive(Debug)]
struct Images {
    live: Image,
    durable: Image,
    in_flight: BTreeMap<u64, Change>,
    late: Vec<Change>,
    begun: u64,
    /// Whether requests that only read are counted, too.
    counts_reads: bool,
    /// Whether requests are paid for.
    requests_cost: bool,
    crash_at: u64,
    landing: Landing,
    crashed: bool,
    random: Random,
}

#[derive(Debug, Clone)]
struct Image {
    objects: BTreeMap<String, Bytes>,
    /// What was deleted, in a store that keeps it.
    trash: Option<BTreeMap<String, Bytes>>,
}

impl CrashStore {
    /// A store that holds `objects`. The process dies at request number `crash_at` (from 1; 0 never); if that
    /// is a put or delete, `landing` becomes of it. What becomes of others in flight follows from the seed.
    pub fn new(objects: BTreeMap<String, Bytes>, crash_at: u64, landing: Landing, seed: u64) -> Self {
        let image = Image { objects, trash: None };
        let images = Images {
            live: image.clone(),
            durable: image,
            in_flight: BTreeMap::new(),
            late: Vec::new(),
            begun: 0,
            counts_reads: true,
            requests_cost: false,
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

    /// The same, keeping what is deleted, and with this in its trash.
    pub fn with_trash(self, trash: BTreeMap<String, Bytes>) -> Self {
        let mut images = self.lock();
        images.live.trash = Some(trash.clone());
        images.durable.trash = Some(trash);
        drop(images);
        self
    }

    /// The same, whose requests are paid for as those to a bucket are.
    #[must_use]
    pub fn with_costly_requests(self) -> Self {
        self.lock().requests_cost = true;
        self
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
        let (Image { objects, trash }, requests_cost) = {
            let images = self.lock();
            (images.durable.clone(), images.requests_cost)
        };
        let left = match trash {
            Some(trash) => MemStore::with_objects_and_trash(objects, trash),
            None => MemStore::with_objects(objects),
        };
        if requests_cost { left.with_costly_requests() } else { left }
    }

    /// What will still land, in the order in which it was sent.
    pub fn late_changes(&self) -> Vec<LateChange> {
        self.lock().late.iter().cloned().map(LateChange).collect()
    }

    /// Lets all of that land in what the crash has left.
    pub fn land_late(&self, fixture: &VaultFixture, left: &MemStore) {
        for late in self.late_changes() {
            fixture.block_on(late.land(left)).expect("memory takes it");
        }
    }

    /// When it arrives: after every other crash before the next process, after the others when that has ended. `None`
    /// when nothing was under way.
    pub fn late_arrives(&self) -> Option<Arrival> {
        let images = self.lock();
        let arrival = if images.crash_at.is_multiple_of(2) { Arrival::Before } else { Arrival::After };
        (!images.late.is_empty()).then_some(arrival)
    }

    /// Runs the next process, on what the crash has left; what was under way arrives before it or after it.
    pub fn next_process<T>(&self, fixture: &VaultFixture, left: &MemStore, process: impl FnOnce() -> T) -> T {
        let arrives = self.late_arrives();
        if arrives == Some(Arrival::Before) {
            self.land_late(fixture, left);
        }
        let done = process();
        if arrives == Some(Arrival::After) {
            self.land_late(fixture, left);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that only reads.
    fn read<T>(
        &self,
        operation: Operation,
        name: &str,
        look: impl FnOnce(&Image) -> Result<T, (StoreErrorKind, &'static str)>,
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

    /// Changes that are sent at once, and whose order nobody knows.
    async fn change(&self, operation: Operation, changes: Vec<Change>) -> Result<(), StoreError> {
        let first = changes.first().map(Change::name).unwrap_or_default().to_owned();
        let died = || died(operation, &first);
        let numbers = self.lock().send_all(changes).map_err(|Dead| died())?;
        // Here other requests begin, and the process may die.
        tokio::task::yield_now().await;
        let mut images = self.lock();
        numbers.into_iter().try_for_each(|number| images.arrive(number)).map_err(|Dead| died())
    }
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Self::Put(name, _) | Self::Delete(name) => name.as_str(),
            Self::BringBack(trashed) => trashed.object.name.as_str(),
        }
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

    fn send_all(&mut self, mut changes: Vec<Change>) -> Result<Vec<u64>, Dead> {
        self.random.shuffle(&mut changes);
        changes.into_iter().map(|change| self.send(change)).collect()
    }

    fn send(&mut self, change: Change) -> Result<u64, Dead> {
        let alive_before = !self.crashed;
        match self.begin() {
            Ok(number) => {
                if self.random.once_in(2) {
                    self.live.apply(&change);
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
        self.live.apply(&change);
        self.durable.apply(&change);
        Ok(())
    }

    fn settle(&mut self, change: Change, landing: Landing) {
        match landing {
            Landing::Landed => self.durable.apply(&change),
            Landing::Lost => {}
            Landing::Late => self.late.push(change),
        }
    }
}

impl Image {
    /// Does a change; one that was done already changes nothing.
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(name, content) => drop(self.objects.insert(name.to_string(), content.clone())),
            Change::Delete(name) => {
                let deleted = self.objects.remove_entry(name.as_str());
                if let (Some(trash), Some((name, content))) = (&mut self.trash, deleted)
                    && ObjectName::parse(&name).is_some_and(|(_, named)| is_kept(&named))
                {
                    trash.insert(name, content);
                }
            }
            Change::BringBack(trashed) => {
                let name = trashed.object.name.as_str();
                if let Some((name, content)) = self.trash.as_mut().and_then(|trash| trash.remove_entry(name))
                {
                    self.objects.entry(name).or_insert(content);
                }
            }
        }
    }
}

fn listed(name: &str, content: &Bytes) -> Option<Listed> {
    let (name, named) = ObjectName::parse(name)?;
    Some(Listed { name, named, bytes: content.len() as u64 })
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

/// What a request of a process is told that has died.
fn died(operation: Operation, name: &str) -> StoreError {
    error(operation, name, StoreErrorKind::Permanent, "the process has died")
}

const NOT_FOUND: (StoreErrorKind, &str) = (StoreErrorKind::NotFound, "there is no such object");

#[async_trait]
impl Store for CrashStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.change(Operation::Put, vec![Change::Put(name.clone(), content)]).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read(Operation::Get, name.as_str(), |live| {
            live.objects.get(name.as_str()).cloned().ok_or(NOT_FOUND)
        })
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.read(Operation::GetRange, name.as_str(), |live| {
            let content = live.objects.get(name.as_str()).ok_or(NOT_FOUND)?;
            let end = stretch.offset.checked_add(stretch.length).filter(|end| *end <= content.len() as u64);
            let end = end.ok_or((StoreErrorKind::Truncated, "the object is shorter"))?;
            Ok(content.slice(stretch.offset as usize..end as usize))
        })
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.read(Operation::List, folder.as_str(), |live| {
            let below = live.objects.iter().filter(|(name, _)| name.starts_with(folder.as_str()));
            Ok(below.filter_map(|(name, content)| listed(name, content)).collect())
        })
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        let requests_cost = self.requests_cost();
        self.read(Operation::List, "", |live| {
            let all = live.objects.iter().filter_map(|(name, content)| listed(name, content));
            Ok(requests_cost.then(|| Glance::new(all.collect(), None)))
        })
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.change(Operation::Delete, vec![Change::Delete(name.clone())]).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.change(Operation::Delete, names.iter().cloned().map(Change::Delete).collect()).await
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.read(Operation::List, "trash/", |live| {
            let trash = live.trash.iter().flatten();
            let objects = trash.filter_map(|(name, content)| listed(name, content));
            Ok(objects.map(|object| Trashed { object, batch: 0 }).collect())
        })
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        let name = trashed.object.name.as_str();
        let is_there = self.lock().live.trash.as_ref().is_some_and(|trash| trash.contains_key(name));
        if !is_there {
            let (kind, cause) = NOT_FOUND;
            return Err(error(Operation::BringBack, name, kind, cause));
        }
        self.change(Operation::BringBack, vec![Change::BringBack(trashed.clone())]).await
    }

    fn requests_cost(&self) -> bool {
        self.lock().requests_cost
    }

    fn place(&self) -> String {
        "crashing store".into()
    }
}
