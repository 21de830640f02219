//! The schedule: one process at a time goes on to its next request, and what befalls it there follows from the seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;
use std::time::Duration;

use backstay_core::units::Timestamp;
use backstay_vault::store::{Operation, StoreErrorKind};

use super::images::Change;
use super::mishaps::{Fate, fate, rolls, skew};
use super::process::Process;
use super::store::Request;
use super::world::{Answer, Ask, Core, Effect, Late, Limits, Parked, Shared, World};
use crate::crash::Landing;

/// What a process does, from its first start to the end of the world.
pub type Actor<'a> = (&'a Process, Box<dyn FnOnce(&Process) + Send + 'a>);

/// Most real time that a process takes to its next request.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most time from one step to the next while somebody has something to do, milliseconds.
const STEP_MILLIS_MAX: u64 = 400;

/// One change in so many is seen before its sender is told.
const SHOWN_ONCE_IN: usize = 5;

/// Whoever watches: every change that is seen. An error ends the run.
pub(super) type Watch<'w> = dyn FnMut(&Effect<'_>) -> Result<(), String> + 'w;

impl World {
    /// Runs these processes up to a limit, and then lets all of them die.
    ///
    /// # Errors
    /// What `watch` has seen, or the panic of a process.
    pub fn run(&self, actors: Vec<Actor<'_>>, limits: Limits, watch: &mut Watch<'_>) -> Result<(), String> {
        self.shared.lock().limits = Some(limits);
        std::thread::scope(|scope| {
            for (process, actor) in actors {
                let shared = &self.shared;
                scope.spawn(move || {
                    let outcome = catch_unwind(AssertUnwindSafe(|| actor(process)));
                    shared.end(process.number, outcome.err().map(|panic| told(&*panic)));
                });
            }
            let outcome = self.watch(watch);
            self.shared.stop();
            outcome
        })?;
        self.shared.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Watches, while the processes drive each other on.
    fn watch(&self, watch: &mut Watch<'_>) -> Result<(), String> {
        loop {
            let (core, is_so) = self.shared.wait_until(self.shared.lock(), PATIENCE, |core| {
                core.seen.is_some() || core.has_come_to_an_end()
            });
            let Some(seen) = core.seen.clone() else {
                return match is_so {
                    true => Ok(()),
                    false => Err("a process does not come back: does its client wait for a lock?".into()),
                };
            };
            let (time, process) = (core.now, core.processes[seen.process].name);
            drop(core);
            watch(&Effect { time, process, store: seen.store, change: &seen.change })?;
            // Only now does anything go on.
            let mut core = self.shared.lock();
            core.seen = None;
            self.shared.drive(&mut core);
        }
    }
}

fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a process has panicked").to_owned()
}

/// A change that has just been seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    process: usize,
    store: usize,
    change: Change,
}

impl Shared {
    /// Goes on as long as every process waits. Called by whoever has begun to wait, so that a process that is granted what
    /// it has just asked for needs no other thread.
    pub(super) fn drive(&self, core: &mut Core) {
        while core.seen.is_none() && core.all_wait() && !core.has_come_to_an_end() {
            core.steps += 1;
            let power_loss = core.limits.map_or(0, |limits| limits.power_loss);
            match rolls(&mut core.random, power_loss) {
                true => core.lose_power(),
                false => core.seen = core.step(),
            }
        }
        if core.seen.is_some() || core.has_come_to_an_end() {
            self.notify();
        }
    }

    /// Lets every process die, and waits until none is left.
    fn stop(&self) {
        let mut core = self.lock();
        core.is_over = true;
        (0..core.processes.len()).for_each(|process| core.kill(process));
        let patience = Duration::from_secs(3600);
        let all_ended = |core: &Core| core.processes.iter().all(|process| process.has_ended);
        let _: (MutexGuard<'_, Core>, bool) = self.wait_until(core, patience, all_ended);
    }
}

impl Core {
    /// Whether every process waits for something, so that nothing happens by itself.
    fn all_wait(&self) -> bool {
        let waits = |number| self.parked.iter().any(|parked| parked.process == number);
        self.processes.iter().enumerate().all(|(number, process)| process.has_ended || waits(number))
    }

    /// Whether the run is over: by its limits, because everybody has ended, or because of a panic.
    pub(super) fn has_come_to_an_end(&self) -> bool {
        let Some(limits) = self.limits else { return true };
        let is_late = self.steps >= limits.steps || self.now.duration_since(self.start) > limits.time;
        self.is_over || self.failure.is_some() || (self.all_wait() && (is_late || self.parked.is_empty()))
    }

    /// Grants one request, or lets time pass until one can be granted; what was seen for the first time by that.
    fn step(&mut self) -> Option<Seen> {
        if let Some(late) = self.land_one() {
            return Some(Seen { process: late.process, store: late.store, change: late.change });
        }
        let Some(place) = self.choose() else {
            self.wait();
            return None;
        };
        self.now = self.now.saturating_add(Duration::from_millis(1 + self.random.number() % STEP_MILLIS_MAX));
        let process = self.parked[place].process;
        self.last = Some(process);
        let mishaps = self.processes[process].mishaps;
        if rolls(&mut self.random, mishaps.clock) {
            self.processes[process].skew = skew(&mut self.random);
            let minutes = self.processes[process].skew / 60_000_000_000;
            self.tell(process, "its clock is set", format!("{minutes} minutes off"));
        }
        if rolls(&mut self.random, mishaps.crash) {
            self.kill(process);
            return None;
        }
        if matches!(self.parked[place].ask, Ask::Request(..)) {
            self.requests += 1;
            if let Some((at, landing)) = self.limits.and_then(|limits| limits.crash)
                && at == self.requests
            {
                self.kill_with(process, Some(landing));
                return None;
            }
        }
        if let Ask::Request(_, request) = &self.parked[place].ask {
            let (operation, folder) = (request.operation(), request.folder().to_owned());
            if let Some(nap) = mishaps.sleep_at(operation, &folder, &mut self.random) {
                self.parked[place].not_before = self.now.saturating_add(nap);
                let what = format!("sleeps at {} {folder}", operation.as_str());
                self.tell(process, what, format!("for {} s", nap.as_secs()));
                return None;
            }
        }
        self.grant(place)
    }

    /// The next request: any of those that can be granted, or where the world sticks mostly that of the same process.
    fn choose(&mut self) -> Option<usize> {
        let mut ready: Vec<(usize, usize)> = self
            .parked
            .iter()
            .enumerate()
            .filter(|(_, parked)| parked.not_before <= self.now)
            .map(|(place, parked)| (parked.process, place))
            .collect();
        ready.sort_unstable();
        if self.sticks && !self.random.once_in(12) {
            let again = ready.iter().find(|(process, _)| Some(*process) == self.last);
            if let Some((_, place)) = again {
                return Some(*place);
            }
        }
        (!ready.is_empty()).then(|| ready[self.random.below(ready.len())].1)
    }

    /// Lets time pass until something can be done, or lands.
    fn wait(&mut self) {
        let asks = self.parked.iter().map(|parked| parked.not_before);
        let next: Option<Timestamp> = asks.chain(self.late.iter().map(|late| late.due)).min();
        self.now = next.map_or(self.now, |next| next.max(self.now));
    }

    fn grant(&mut self, place: usize) -> Option<Seen> {
        let parked = self.parked.swap_remove(place);
        let process = parked.process;
        let (store, request) = match &parked.ask {
            Ask::Sleep(_) => {
                let _ = parked.answer.send(Ok(Answer::Done));
                return None;
            }
            Ask::Request(store, request) => (*store, request.clone()),
        };
        let what = format!("{} {}", request.operation().as_str(), request.folder());
        let object = request.object().to_owned();
        match request {
            Request::Change(change) => self.grant_change(parked, store, change, what),
            request => {
                let answer = match self.fault(process, request.operation()) {
                    Some(kind) => Err((kind, "the simulation wants it so")),
                    None => Shared::look(&mut self.images[store], &request),
                };
                let detail = match &answer {
                    Ok(Answer::Listed(listed)) => format!("{object} ({})", listed.len()),
                    Ok(_) => object,
                    Err((kind, _)) => format!("{object}: {kind:?}"),
                };
                self.tell(process, what, detail);
                let _ = parked.answer.send(answer);
                None
            }
        }
    }

    /// A change may be seen before its sender is told, and be done although it is told otherwise.
    fn grant_change(
        &mut self,
        mut parked: Parked,
        store: usize,
        change: Change,
        what: String,
    ) -> Option<Seen> {
        let process = parked.process;
        if !parked.is_shown {
            let fault = self.fault(process, Operation::Put);
            if let Some(kind) = fault {
                let is_done = self.random.once_in(2);
                let how = if is_done { "done, and told as failed" } else { "failed" };
                self.tell(process, what, format!("{}: {how}", change.name.as_str()));
                if is_done {
                    self.images[store].show(&change);
                    self.images[store].keep(&change);
                }
                let _ = parked.answer.send(Err((kind, "the simulation wants it so")));
                return is_done.then_some(Seen { process, store, change });
            }
            self.images[store].show(&change);
            if self.random.once_in(SHOWN_ONCE_IN) {
                parked.is_shown = true;
                self.tell(process, what, format!("{} (not told yet)", change.name.as_str()));
                self.parked.push(parked);
                return Some(Seen { process, store, change });
            }
        }
        self.images[store].keep(&change);
        self.tell(process, what, change.name.as_str());
        let _ = parked.answer.send(Ok(Answer::Done));
        (!parked.is_shown).then_some(Seen { process, store, change })
    }

    fn fault(&mut self, process: usize, operation: Operation) -> Option<StoreErrorKind> {
        let mishaps = self.processes[process].mishaps;
        let is_get = matches!(operation, Operation::Get | Operation::GetRange);
        let kind = if rolls(&mut self.random, mishaps.fault) {
            StoreErrorKind::Transient
        } else if is_get && rolls(&mut self.random, mishaps.unreadable) {
            StoreErrorKind::Permanent
        } else {
            return None;
        };
        self.processes[process].faults += 1;
        Some(kind)
    }

    /// Ends a life. What was seen stays; what was sent has landed, is lost or comes later.
    fn kill(&mut self, process: usize) {
        self.kill_with(process, None);
    }

    fn kill_with(&mut self, process: usize, landing: Option<Landing>) {
        if !self.processes[process].is_alive {
            return;
        }
        self.processes[process].is_alive = false;
        self.tell(process, "dies", "");
        let (own, others): (Vec<Parked>, Vec<Parked>) =
            std::mem::take(&mut self.parked).into_iter().partition(|parked| parked.process == process);
        self.parked = others;
        for parked in own {
            let Ask::Request(store, Request::Change(change)) = parked.ask else { continue };
            let fate = match landing {
                _ if parked.is_shown => Fate::Landed,
                Some(landing) => Fate::from(landing),
                None => fate(&mut self.random),
            };
            self.tell(process, format!("in flight: {}", word(fate)), change.name.as_str());
            match fate {
                Fate::Lost => {}
                // At once, by the way of what is late: whoever watches is told.
                Fate::Landed => self.late.push(Late { due: self.now, process, store, change }),
                Fate::Late(after) => {
                    let due = self.now.saturating_add(after);
                    self.late.push(Late { due, process, store, change });
                }
            }
        }
    }

    /// Everybody dies; what was seen and not told is lost, but for what lands after all.
    fn lose_power(&mut self) {
        self.images.iter_mut().for_each(super::images::Images::lose_power);
        for parked in &mut self.parked {
            parked.is_shown = false;
        }
        (0..self.processes.len()).for_each(|process| self.kill(process));
    }
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Landed => "landed",
        Fate::Lost => "lost",
        Fate::Late(_) => "late",
    }
}
