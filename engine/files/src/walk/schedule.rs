//! Who reads what next. Tasks wait in the order of their keys, which is the order in which the consumer
//! will want them; threads take the first as long as not too much is held. The consumer never waits for
//! something that nobody has begun: it does that itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::Scope;
use super::directory::Root;
use super::segment::{Listed, Rest, Segment, list_entry, list_root};
use crate::keys::PathKey;

/// How many names may be held that the consumer has not come to. One task more may be begun just below it.
pub(super) const NAMES_AHEAD_MAX: usize = 64 * 1024;

/// Sleeping threads are woken only when this few are held, so that they do not wake for every directory.
const NAMES_AHEAD_LOW: usize = NAMES_AHEAD_MAX / 2;

/// Names a task. Sorts as the consumer comes along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskKey {
    order: Vec<u8>,
    work: Work,
}

/// A stretch of names is described before the first of them is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Work {
    Describe,
    List,
}

impl TaskKey {
    /// Listing of the directory at `key`.
    pub(super) fn list(key: &PathKey) -> Self {
        Self { order: key.as_bytes().to_vec(), work: Work::List }
    }

    /// Describing the next of `rest`.
    pub(super) fn describe(rest: &Rest) -> Self {
        Self { order: rest.order(), work: Work::Describe }
    }
}

#[derive(Debug)]
enum Task {
    ListRoot,
    ListEntry {
        segment: Arc<Segment>,
        place: usize,
    },
    /// Of an entry that is in no queue: nothing follows it.
    ListPassed {
        segment: Arc<Segment>,
        place: usize,
    },
    Describe(Rest),
}

/// What a task found.
#[derive(Debug)]
pub(super) enum Output {
    Segment(Arc<Segment>),
    Nothing,
    Failed(Errno),
}

#[derive(Debug)]
enum Progress {
    Running,
    /// The output, and how many names it holds.
    Finished(Output, usize),
}

#[derive(Debug)]
struct State {
    waiting: BTreeMap<TaskKey, Task>,
    begun: HashMap<TaskKey, Progress>,
    names_ahead: usize,
    threads_asleep: usize,
    consumer_asleep: bool,
    stopping: bool,
}

/// Shared by the consumer and the threads of one walk.
#[derive(Debug)]
pub(super) struct Schedule {
    root: Arc<Root>,
    scope: Scope,
    state: Mutex<State>,
    /// There may be something to do for a thread.
    work: Condvar,
    /// Something has finished.
    finished: Condvar,
}

impl Schedule {
    /// One task waits: listing the root.
    pub(super) fn new(root: Arc<Root>, scope: Scope) -> Self {
        let state = State {
            waiting: BTreeMap::from([(TaskKey::list(&PathKey::root()), Task::ListRoot)]),
            begun: HashMap::new(),
            names_ahead: 0,
            threads_asleep: 0,
            consumer_asleep: false,
            stopping: false,
        };
        Self { root, scope, state: Mutex::new(state), work: Condvar::new(), finished: Condvar::new() }
    }

    /// What a thread does until the walk ends.
    pub(super) fn read_ahead(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let task = if state.names_ahead < NAMES_AHEAD_MAX { state.waiting.pop_first() } else { None };
            let Some((key, task)) = task else {
                state.threads_asleep += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.threads_asleep -= 1;
                continue;
            };
            state.begin(key.clone(), &task);
            drop(state);
            let (output, names) = self.run(task);
            state = self.lock();
            state.follow_up(&output);
            state.names_ahead += names;
            state.begun.insert(key, Progress::Finished(output, names));
            if state.consumer_asleep {
                self.finished.notify_one();
            }
            self.wake_thread(&state);
        }
    }

    /// The output of a task, for the consumer, who takes them in the order of their keys.
    pub(super) fn take(&self, key: &TaskKey) -> Output {
        let mut state = self.lock();
        loop {
            match state.begun.remove(key) {
                Some(Progress::Finished(output, names)) => {
                    state.names_ahead -= names;
                    self.wake_thread(&state);
                    return output;
                }
                Some(Progress::Running) => {
                    state.begun.insert(key.clone(), Progress::Running);
                    state.consumer_asleep = true;
                    state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.consumer_asleep = false;
                }
                None => return self.run_for_consumer(state, key),
            }
        }
    }

    /// Has the directory listed that the entry of `segment` at `place` stands for, which was not to be.
    pub(super) fn add(&self, key: &PathKey, segment: &Arc<Segment>, place: usize) {
        let task = Task::ListPassed { segment: Arc::clone(segment), place };
        self.lock().waiting.insert(TaskKey::list(key), task);
    }

    /// How many tasks wait or were not taken, and names are held.
    #[cfg(test)]
    pub(super) fn left_over(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.begun.len(), state.names_ahead)
    }

    /// Ends the threads after what they are doing.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_all();
    }

    fn run_for_consumer(&self, mut state: MutexGuard<'_, State>, key: &TaskKey) -> Output {
        let task = state.waiting.remove(key).expect("a task waits until somebody begins it");
        state.queue_successor(&task);
        self.wake_thread(&state);
        drop(state);
        let (output, _) = self.run(task);
        let mut state = self.lock();
        state.follow_up(&output);
        self.wake_thread(&state);
        output
    }

    fn run(&self, task: Task) -> (Output, usize) {
        let listed = match task {
            Task::ListRoot => list_root(&self.root, &self.scope),
            Task::ListEntry { segment, place } | Task::ListPassed { segment, place } => {
                list_entry(&self.root, &segment, place, &self.scope)
            }
            Task::Describe(rest) => {
                let segment = rest.describe(&self.scope);
                let names = segment.entries.len();
                return (Output::Segment(Arc::new(segment)), names);
            }
        };
        match listed {
            Listed::Segment(segment) => {
                let names = segment.names_in_directory();
                (Output::Segment(Arc::new(segment)), names)
            }
            Listed::Nothing => (Output::Nothing, 0),
            Listed::Failed(error) => (Output::Failed(error), 0),
        }
    }

    fn wake_thread(&self, state: &State) {
        let worth_it = state.names_ahead < NAMES_AHEAD_LOW && !state.waiting.is_empty();
        if worth_it && state.threads_asleep > 0 {
            self.work.notify_one();
        }
    }

    /// Nothing here can be left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, key: TaskKey, task: &Task) {
        self.queue_successor(task);
        self.begun.insert(key, Progress::Running);
    }

    /// Of the tasks that a segment or a directory gives rise to only the next is queued at a time: there may
    /// be millions.
    fn queue_successor(&mut self, task: &Task) {
        match task {
            Task::ListRoot | Task::ListPassed { .. } => {}
            Task::ListEntry { segment, place } => self.queue_descent(segment, place + 1),
            Task::Describe(rest) => self.queue_rest(rest.after()),
        }
    }

    /// Queues what a new segment gives rise to. What follows a segment that was described later is queued
    /// already.
    fn follow_up(&mut self, output: &Output) {
        if let Output::Segment(segment) = output {
            self.queue_descent(segment, 0);
            if segment.is_first() {
                self.queue_rest(segment.rest());
            }
        }
    }

    fn queue_descent(&mut self, segment: &Arc<Segment>, from: usize) {
        let Some(place) = segment.next_descent(from) else { return };
        // An entry into which the walk goes has a key: it is not too long.
        if let Ok(key) = segment.key(&segment.entries[place]) {
            let task = Task::ListEntry { segment: Arc::clone(segment), place };
            self.waiting.insert(TaskKey::list(&key), task);
        }
    }

    fn queue_rest(&mut self, rest: Option<Rest>) {
        if let Some(rest) = rest {
            self.waiting.insert(TaskKey::describe(&rest), Task::Describe(rest));
        }
    }
}
