//! Stretches of packs that are in memory, or on their way to it: they stay while there is room, since a pack has more that is
//! wanted soon.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_vault::error::VaultError;
use backstay_vault::index::Location;
use backstay_vault::read::PackRead;
use bytes::Bytes;

use super::piece::Piece;
use super::under_way::Counted;

/// Stretches that stay: short ones must not be so many that it takes long to look for one.
const STRETCHES_MAX: usize = 64;

/// So much of a stretch is hardly anything.
const HARDLY_PER_MILLE: u64 = 50;

/// How much of a stretch may be wanted later that is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Hardly anything.
    Hardly,
    /// Whatever.
    Ever,
}

/// What was read, or why it could not be.
pub(super) type Arrived = Arc<Result<Bytes, VaultError>>;

/// Records of a stretch that are wanted.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) read: PackRead,
    /// For each record, the pieces that need it.
    pub(super) pieces: Vec<Vec<Piece>>,
    /// That it is under way.
    pub(super) counted: Counted,
}

/// One stretch.
#[derive(Debug)]
pub(super) struct Kept {
    read: PackRead,
    /// The records in it that are wanted later, as far as that is known: where each begins, and its length. Many small files lie in
    /// one record, and want it once.
    wanted: Mutex<HashMap<u32, u32>>,
    state: Mutex<State>,
    /// Its memory.
    _weighed: Counted,
}

#[derive(Debug)]
enum State {
    /// Who waits for it.
    Coming(Vec<Job>),
    There(Arrived),
}

impl Kept {
    /// One that will be read.
    pub(super) fn coming(read: &PackRead, first: Job, weighed: Counted) -> Arc<Self> {
        let offset = |begins: u32| read.offset.saturating_add(begins);
        let mut wanted: HashMap<u32, u32> =
            read.records.iter().map(|(_, begins, length)| (offset(*begins), *length)).collect();
        for (_, begins, _) in &first.read.records {
            wanted.remove(&offset(*begins));
        }
        Arc::new(Self {
            read: PackRead { records: Vec::new(), ..*read },
            wanted: Mutex::new(wanted),
            state: Mutex::new(State::Coming(vec![first])),
            _weighed: weighed,
        })
    }

    /// Where it is; of no records.
    pub(super) fn as_read(&self) -> &PackRead {
        &self.read
    }

    /// Gives a job back that can be done now, with what was read. It is done later by who reads the stretch otherwise.
    pub(super) fn hand(&self, job: Job) -> Option<(Job, Arrived)> {
        match &mut *self.state() {
            State::Coming(jobs) => {
                jobs.push(job);
                None
            }
            State::There(arrived) => Some((job, Arc::clone(arrived))),
        }
    }

    /// It has come. What waits for it.
    pub(super) fn arrive(&self, arrived: &Arrived) -> Vec<Job> {
        match std::mem::replace(&mut *self.state(), State::There(Arc::clone(arrived))) {
            State::Coming(jobs) => jobs,
            State::There(_) => Vec::new(),
        }
    }

    /// It will not come, unless it has: lets go of what waits for it.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        if let State::Coming(_) = *state {
            let waited = std::mem::replace(&mut *state, State::There(Arc::new(Err(VaultError::GivenUp))));
            drop(state);
            drop(waited);
        }
    }

    fn wanted_per_mille(&self) -> u64 {
        let wanted_bytes: u64 = self.wanted().values().map(|length| u64::from(*length)).sum();
        wanted_bytes.saturating_mul(1000) / u64::from(self.read.length.max(1))
    }

    fn is_coming(&self) -> bool {
        matches!(*self.state(), State::Coming(_))
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.state(), State::There(arrived) if arrived.is_err())
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<u32, u32>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that stay, the one that was used last at the end.
#[derive(Debug, Default)]
pub(super) struct Shelf(VecDeque<Arc<Kept>>);

impl Shelf {
    /// The stretch that has this record, which is wanted now, if it has come or will come.
    pub(super) fn find(&mut self, place: &Location) -> Option<Arc<Kept>> {
        let at = self.place_of(place)?;
        let found = self.0.remove(at)?;
        self.0.push_back(Arc::clone(&found));
        found.wanted().remove(&place.offset);
        Some(found)
    }

    /// Whether there is such a stretch; if so, its record is wanted later.
    pub(super) fn expects(&self, place: &Location) -> bool {
        match self.place_of(place) {
            Some(at) => {
                self.0[at].wanted().insert(place.offset, place.length);
                true
            }
            None => false,
        }
    }

    fn place_of(&self, place: &Location) -> Option<usize> {
        self.0.iter().rposition(|kept| kept.read.has(place) && !kept.has_failed())
    }

    /// Keeps one more.
    pub(super) fn keep(&mut self, kept: Arc<Kept>) {
        if self.0.len() < STRETCHES_MAX || self.let_go(Wanted::Ever) {
            self.0.push_back(kept);
        }
    }

    /// Lets go of the one of which the smallest part is wanted later, of several the one that was not used for longest; `false`
    /// where all are on their way, or more of each is wanted than that.
    pub(super) fn let_go(&mut self, wanted: Wanted) -> bool {
        let there = self.0.iter().enumerate().filter(|(_, kept)| !kept.is_coming());
        let least = there.map(|(at, kept)| (kept.wanted_per_mille(), at)).min();
        let least = least.filter(|(per_mille, _)| wanted == Wanted::Ever || *per_mille <= HARDLY_PER_MILLE);
        least.is_some_and(|(_, least)| self.0.remove(least).is_some())
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::id::{ChunkId, PackId};

    use super::super::report::{Collected, RestoreProgress};
    use super::super::under_way::{Counter, Shared};
    use super::*;

    const READS: Counter = |under_way| &mut under_way.reads;

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(Arc::new(Collected::default()), Arc::new(RestoreProgress::default())))
    }

    fn read(offset: u32, length: u32) -> PackRead {
        PackRead { pack: PackId::new([1; 32]), pack_bytes: 1 << 20, offset, length, records: Vec::new() }
    }

    fn place(offset: u32, length: u32) -> Location {
        Location { pack: PackId::new([1; 32]), pack_bytes: 1 << 20, offset, length, plain_length: length }
    }

    fn job(shared: &Arc<Shared>, offset: u32) -> Job {
        let read = PackRead { records: vec![(ChunkId::new([2; 32]), 0, 1)], ..read(offset, 1) };
        Job { read, pieces: Vec::new(), counted: Counted::begin(shared, READS, usize::MAX) }
    }

    fn coming(shared: &Arc<Shared>, offset: u32, length: u32) -> Arc<Kept> {
        let weighed = Counted::begin(shared, |under_way| &mut under_way.stretch_bytes, usize::MAX);
        Kept::coming(&read(offset, length), job(shared, offset), weighed)
    }

    fn has(shelf: &Shelf, place: &Location) -> bool {
        shelf.place_of(place).is_some()
    }

    fn here() -> Arrived {
        Arc::new(Ok(Bytes::from_static(b"stretch")))
    }

    #[test]
    fn who_comes_before_a_stretch_has_waits_for_it_and_who_comes_after_does_not() {
        let shared = shared();
        let kept = coming(&shared, 0, 100);
        assert!(kept.hand(job(&shared, 7)).is_none());
        let offsets = |jobs: &[Job]| jobs.iter().map(|job| job.read.offset).collect::<Vec<_>>();
        assert_eq!(offsets(&kept.arrive(&here())), [0, 7]);
        let (job, arrived) = kept.hand(job(&shared, 9)).expect("at once");
        assert_eq!((job.read.offset, arrived.as_ref().as_ref().expect("whole").len()), (9, 7));
        kept.give_up();
        assert!(!kept.has_failed(), "it has come");
    }

    #[test]
    fn what_waits_for_a_stretch_that_never_comes_is_let_go() {
        let shared = shared();
        let kept = coming(&shared, 0, 100);
        assert!(kept.hand(job(&shared, 7)).is_none());
        kept.give_up();
        // It would be waited for for ever.
        shared.wait(|under_way| under_way.reads == 0);
        assert!(kept.has_failed());
        let mut shelf = Shelf::default();
        shelf.keep(kept);
        assert!(shelf.find(&place(0, 10)).is_none() && !shelf.expects(&place(0, 10)), "it is asked for anew");
    }

    #[test]
    fn the_stretch_that_was_not_used_for_longest_makes_room_unless_it_is_on_its_way() {
        let (shared, mut shelf) = (shared(), Shelf::default());
        let all: Vec<Arc<Kept>> = [0, 100, 200].map(|offset| coming(&shared, offset, 100)).into();
        all.iter().for_each(|kept| shelf.keep(Arc::clone(kept)));
        assert!(!shelf.let_go(Wanted::Ever), "all are on their way");
        all[..2].iter().for_each(|kept| drop(kept.arrive(&here())));
        assert!(shelf.find(&place(0, 100)).is_some() && shelf.find(&place(50, 100)).is_none());
        assert!(shelf.let_go(Wanted::Ever));
        assert!(
            has(&shelf, &place(0, 100)) && !has(&shelf, &place(100, 100)) && has(&shelf, &place(250, 50))
        );
        assert!(shelf.let_go(Wanted::Ever) && !shelf.let_go(Wanted::Ever));
        assert!(has(&shelf, &place(250, 50)));
    }

    #[test]
    fn a_stretch_of_which_much_is_wanted_later_stays_longer_than_one_that_is_used_up() {
        let (shared, mut shelf) = (shared(), Shelf::default());
        for offset in [0, 100, 200] {
            let kept = coming(&shared, offset, 100);
            drop(kept.arrive(&here()));
            shelf.keep(kept);
        }
        // Of the first, which was used least lately, the most is wanted.
        assert!(
            shelf.expects(&place(0, 60)) && shelf.expects(&place(100, 30)) && shelf.expects(&place(200, 50))
        );
        assert!(!shelf.expects(&place(300, 1)));
        assert!(!shelf.let_go(Wanted::Hardly), "much is wanted of each");
        assert!(shelf.find(&place(200, 50)).is_some(), "it is wanted no more");
        let mut all = Shelf(shelf.0.clone());
        assert!(all.let_go(Wanted::Hardly) && !all.let_go(Wanted::Hardly));
        let mut stay = Vec::new();
        while shelf.let_go(Wanted::Ever) {
            stay.push([0, 100, 200].map(|offset| has(&shelf, &place(offset, 1))));
        }
        assert_eq!(stay, [[true, true, false], [true, false, false], [false; 3]]);
    }

    #[test]
    fn a_record_that_many_files_want_counts_once() {
        let (shared, mut shelf) = (shared(), Shelf::default());
        let kept = coming(&shared, 0, 100);
        drop(kept.arrive(&here()));
        shelf.keep(kept);
        // Small files in a row, in one record.
        assert!((0..60).all(|_| shelf.expects(&place(10, 40))));
        assert!(!shelf.let_go(Wanted::Hardly));
        assert!(shelf.find(&place(10, 40)).is_some());
        assert!(shelf.let_go(Wanted::Hardly), "all of them have it by one window");
    }

    #[test]
    fn so_many_stretches_stay_at_most() {
        let (shared, mut shelf) = (shared(), Shelf::default());
        for n in 0..2 * STRETCHES_MAX as u32 {
            let kept = coming(&shared, n * 100, 100);
            drop(kept.arrive(&here()));
            shelf.keep(kept);
        }
        assert_eq!(shelf.0.len(), STRETCHES_MAX);
        assert!(has(&shelf, &place((2 * STRETCHES_MAX as u32 - 1) * 100, 100)));
        shelf.0.clear();
        (0..2 * STRETCHES_MAX as u32).for_each(|n| shelf.keep(coming(&shared, n * 100, 100)));
        assert_eq!(shelf.0.len(), STRETCHES_MAX, "those on their way do not make room");
    }
}
