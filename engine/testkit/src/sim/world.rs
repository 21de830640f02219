//! The world itself: what there is of stores, processes, time and requests. Which of them is granted next is `schedule`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_core::units::Timestamp;
use backstay_vault::store::{GLANCE_MAX, Listed, Store, StoreErrorKind, Trashed};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::direct::DirectStore;
use super::history::{Event, History};
use super::images::{Change, Images, Refusal};
use super::mishaps::{Mishaps, shifted, skew};
use super::process::Process;
use super::schedule::Seen;
use super::store::Request;
use crate::crash::Landing;
use crate::random::Random;

/// Names of a page of a listing, in one world or another.
const PAGE_NAMES: [usize; 3] = [1000, 4, 20];

/// Names that a glance shows: all, or those that come before the packs, more or less.
const GLANCE_NAMES: [usize; 2] = [GLANCE_MAX, 40];

/// How long a run goes on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests and naps that are granted.
    pub steps: u64,
    /// Simulated time.
    pub time: Duration,
    /// One in so many steps all processes die at once, and what was only seen is lost; 0 is never.
    pub power_loss: usize,
    /// At this request, counted from 1, whoever has asked for it dies, and that becomes of the request.
    pub crash: Option<(u64, Landing)>,
}

/// A change that has just been seen in a store for the first time.
#[derive(Debug)]
pub struct Effect<'e> {
    /// When.
    pub time: Timestamp,
    /// Who asked for it.
    pub process: &'static str,
    /// In which store.
    pub store: usize,
    /// What.
    pub change: &'e Change,
}

/// A simulated world.
#[derive(Debug)]
pub struct World {
    pub(super) shared: Arc<Shared>,
    seed: u64,
}

impl World {
    /// A world with this many empty stores, at a time that the seed chooses.
    pub fn new(seed: u64, stores: usize) -> Self {
        let mut random = Random::new(seed);
        let start = Timestamp::from_seconds(1_700_000_000 + (random.number() % 100_000_000) as i64);
        let core = Core {
            now: start,
            start,
            sticks: random.once_in(2),
            requests_cost: seed % 2 == 1,
            page_names: PAGE_NAMES[(seed / 2 % 3) as usize],
            glance_names: GLANCE_NAMES[(seed / 6 % 2) as usize],
            last: None,
            random,
            images: (0..stores).map(|_| Images::default()).collect(),
            processes: Vec::new(),
            parked: Vec::new(),
            late: Vec::new(),
            history: History::default(),
            limits: None,
            steps: 0,
            requests: 0,
            seen: None,
            is_over: false,
            failure: None,
        };
        Self { shared: Arc::new(Shared { core: Mutex::new(core), turn: Condvar::new() }), seed }
    }

    /// Adds a process.
    pub fn process(&self, name: &'static str, mishaps: Mishaps) -> Process {
        let mut core = self.shared.lock();
        let skew = if mishaps.clock > 0 { skew(&mut core.random) } else { 0 };
        let number = core.processes.len();
        core.processes.push(Proc {
            name,
            mishaps,
            skew,
            life: 0,
            is_alive: false,
            has_ended: false,
            faults: 0,
        });
        Process { shared: Arc::clone(&self.shared), number, seed: self.seed }
    }

    /// A store as nobody's process sees it: requests are done at once, and are no part of the history.
    pub fn direct(&self, store: usize) -> Arc<dyn Store> {
        Arc::new(DirectStore { shared: Arc::clone(&self.shared), store })
    }

    /// What a store holds.
    pub fn objects(&self, store: usize) -> BTreeMap<String, Bytes> {
        self.shared.lock().images[store].objects().clone()
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.shared.lock().now
    }

    /// A clock that is right.
    pub fn clock(&self) -> WorldClock {
        WorldClock(Arc::clone(&self.shared))
    }

    /// Lets time pass; what is late and due by then has landed.
    pub fn pass(&self, time: Duration) {
        let mut core = self.shared.lock();
        core.now = core.now.saturating_add(time);
        while core.land_one().is_some() {}
    }

    /// Lets land whatever is under way.
    pub fn land_all(&self) {
        let mut core = self.shared.lock();
        let last = core.late.iter().map(|late| late.due).max();
        core.now = last.map_or(core.now, |last| last.max(core.now));
        while core.land_one().is_some() {}
    }

    /// What has happened.
    pub fn history(&self) -> History {
        self.shared.lock().history.clone()
    }
}

/// The clock of a world.
#[derive(Debug, Clone)]
pub struct WorldClock(Arc<Shared>);

impl backstay_core::clock::Clock for WorldClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }
}

/// What a process waits for.
#[derive(Debug)]
pub(super) enum Ask {
    Sleep(Duration),
    Request(usize, Request),
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Content(Bytes),
    Listed(Vec<Listed>),
    Trashed(Vec<Trashed>),
}

impl Answer {
    pub(super) fn content(self) -> Bytes {
        match self {
            Self::Content(content) => content,
            other => unreachable!("{other:?} answers no get"),
        }
    }

    pub(super) fn listed(self) -> Vec<Listed> {
        match self {
            Self::Listed(listed) => listed,
            other => unreachable!("{other:?} answers no list"),
        }
    }

    pub(super) fn trashed(self) -> Vec<Trashed> {
        match self {
            Self::Trashed(trashed) => trashed,
            other => unreachable!("{other:?} answers no question for the trash"),
        }
    }
}

type Told = Result<Answer, (StoreErrorKind, &'static str)>;

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) process: usize,
    pub(super) ask: Ask,
    pub(super) not_before: Timestamp,
    /// A change that was seen, and of which its sender has not been told.
    pub(super) is_shown: bool,
    pub(super) answer: oneshot::Sender<Told>,
}

#[derive(Debug)]
pub(super) struct Proc {
    pub(super) name: &'static str,
    pub(super) mishaps: Mishaps,
    pub(super) skew: i64,
    pub(super) life: u64,
    pub(super) is_alive: bool,
    pub(super) has_ended: bool,
    pub(super) faults: u64,
}

#[derive(Debug)]
pub(super) struct Late {
    pub(super) due: Timestamp,
    pub(super) process: usize,
    pub(super) store: usize,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) now: Timestamp,
    pub(super) start: Timestamp,
    pub(super) random: Random,
    /// Whether one process mostly goes on for a while before another does.
    pub(super) sticks: bool,
    /// Whether requests to the stores are paid for, so that writers read first: with every other seed.
    pub(super) requests_cost: bool,
    /// How many names a page of a listing has. Others go on between two pages.
    pub(super) page_names: usize,
    /// How many names a glance shows.
    pub(super) glance_names: usize,
    pub(super) last: Option<usize>,
    pub(super) images: Vec<Images>,
    pub(super) processes: Vec<Proc>,
    pub(super) parked: Vec<Parked>,
    pub(super) late: Vec<Late>,
    pub(super) history: History,
    /// Of the run that goes on.
    pub(super) limits: Option<Limits>,
    pub(super) steps: u64,
    /// Requests that were granted, or would have been.
    pub(super) requests: u64,
    /// What nobody has watched yet.
    pub(super) seen: Option<Seen>,
    pub(super) is_over: bool,
    pub(super) failure: Option<String>,
}

impl Core {
    pub(super) fn tell(&mut self, process: usize, what: impl Into<String>, detail: impl Into<String>) {
        let (time, process) = (self.now, self.processes[process].name);
        self.history.add(Event { time, process, what: what.into(), detail: detail.into() });
    }

    /// Lets the next change land that is due.
    pub(super) fn land_one(&mut self) -> Option<Late> {
        let due = self.late.iter().enumerate().filter(|(_, late)| late.due <= self.now);
        let (place, _) = due.min_by_key(|(place, late)| (late.due, *place))?;
        let late = self.late.remove(place);
        let images = &mut self.images[late.store];
        images.show(&late.change);
        images.keep(&late.change);
        self.tell(late.process, "a late change lands", late.change.name.as_str());
        Some(late)
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    /// That a process waits or has ended.
    turn: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.turn.notify_all();
    }

    /// Waits for what `is_so` says, some real seconds at most; whether it came.
    pub(super) fn wait_until<'c>(
        &'c self,
        core: MutexGuard<'c, Core>,
        patience: Duration,
        is_so: impl Fn(&Core) -> bool,
    ) -> (MutexGuard<'c, Core>, bool) {
        let waited = self.turn.wait_timeout_while(core, patience, |core| !is_so(core));
        let (core, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        (core, !waited.timed_out())
    }

    /// Waits in the queue; `None` when this life is over.
    pub(super) fn park(&self, process: usize, life: u64, ask: Ask) -> Option<oneshot::Receiver<Told>> {
        self.park_all(process, life, vec![ask]).pop()
    }

    /// Waits with several things at once, which are granted in any order; nothing to wait for when this life is over.
    pub(super) fn park_all(&self, process: usize, life: u64, asks: Vec<Ask>) -> Vec<oneshot::Receiver<Told>> {
        let mut core = self.lock();
        let known = &core.processes[process];
        if !known.is_alive || known.life != life {
            return Vec::new();
        }
        let mut waiting = Vec::new();
        for ask in asks {
            let (answer, told) = oneshot::channel();
            let not_before = match &ask {
                Ask::Sleep(time) => core.now.saturating_add(*time),
                Ask::Request(..) => core.now,
            };
            core.parked.push(Parked { process, ask, not_before, is_shown: false, answer });
            waiting.push(told);
        }
        self.drive(&mut core);
        waiting
    }

    pub(super) fn begin_life(&self, process: usize) -> Option<u64> {
        let mut core = self.lock();
        if core.is_over {
            return None;
        }
        let known = &mut core.processes[process];
        known.life += 1;
        known.is_alive = true;
        Some(known.life)
    }

    pub(super) fn end(&self, process: usize, failure: Option<String>) {
        let mut core = self.lock();
        core.processes[process].has_ended = true;
        core.processes[process].is_alive = false;
        if let Some(failure) = failure {
            core.failure.get_or_insert(failure);
        }
        self.drive(&mut core);
        self.notify();
    }

    pub(super) fn is_alive(&self, process: usize, life: u64) -> bool {
        let core = self.lock();
        core.processes[process].is_alive && core.processes[process].life == life
    }

    pub(super) fn faults(&self, process: usize) -> u64 {
        self.lock().processes[process].faults
    }

    pub(super) fn name_of(&self, process: usize) -> &'static str {
        self.lock().processes[process].name
    }

    pub(super) fn now_of(&self, process: usize) -> Timestamp {
        let core = self.lock();
        shifted(core.now, core.processes[process].skew)
    }

    pub(super) fn note(&self, process: usize, what: &str, detail: String) {
        self.lock().tell(process, what, detail);
    }

    /// Does what a request asks for, but for a change.
    pub(super) fn look(images: &mut Images, request: &Request) -> Result<Answer, Refusal> {
        match request {
            Request::Get(name) => images.get(name).map(Answer::Content),
            Request::GetRange(name, stretch) => images.get_range(name, *stretch).map(Answer::Content),
            Request::List(page) => Ok(Answer::Listed(images.list(page))),
            Request::Trash => Ok(Answer::Trashed(images.trash())),
            Request::BringBack(trashed) => images.bring_back(trashed).map(|()| Answer::Done),
            Request::Change(change) => {
                images.show(change);
                images.keep(change);
                Ok(Answer::Done)
            }
        }
    }
}
