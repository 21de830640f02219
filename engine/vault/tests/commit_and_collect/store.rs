//! The objects in the store, and what listing them tells. What they mean for points stands in `view`.

use crate::sets::{Chunk, GcSlot, Id, IndexSlot, Pack, Point, Run, Session, Set};

pub(crate) const PACKS: usize = 12;
pub(crate) const SESSIONS: usize = 6;
pub(crate) const SOURCES: usize = 2;
pub(crate) const INDEX_SLOTS: usize = 6;
pub(crate) const GC_SLOTS: usize = 6;

/// Everything that is listed now. An index object is the set of packs that it lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Store {
    pub(crate) packs: Set<Pack>,
    /// What a pack holds; kept for packs that are gone while anything still names them.
    pub(crate) contents: [Set<Chunk>; PACKS],
    pub(crate) custodian_index: [IndexObject; INDEX_SLOTS],
    pub(crate) session_index: [Set<Pack>; SESSIONS],
    pub(crate) open: Set<Session>,
    pub(crate) ended: Set<Session>,
    pub(crate) fences: Set<Session>,
    /// Which of its capture's choices (parent, chunks) the session took: written in the session and in its
    /// points.
    pub(crate) choice: [u8; SESSIONS],
    /// The newest collection when the session opened: written in the session, in its points and in its
    /// fence.
    pub(crate) opened_in: [u8; SESSIONS],
    pub(crate) points: Set<Point>,
    /// The newest layout of each source.
    pub(crate) layouts: [Layout; SOURCES],
    pub(crate) gcs: [Gc; GC_SLOTS],
    pub(crate) trash: Trash,
    /// The list in `bad/` that is in force.
    pub(crate) bad: Set<Chunk>,
}

/// What a store keeps of what was deleted. Empty where nobody will bring anything back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Trash {
    pub(crate) packs: Set<Pack>,
    pub(crate) points: Set<Point>,
    /// Runs of all layouts that there were.
    pub(crate) runs: Set<Run>,
}

/// An index object signed by a custodian. Absent when it lists nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct IndexObject {
    pub(crate) packs: Set<Pack>,
    /// The newest collection when it was written.
    pub(crate) collection: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Layout {
    pub(crate) exists: bool,
    /// Of several layouts of a source that of the highest generation is the newest; a later term begins
    /// above an earlier one. Counted only in scenes where a layout may land late.
    pub(crate) generation: u8,
    pub(crate) accepted: Set<Point>,
    pub(crate) decided: Set<Session>,
    /// Sessions that opened in an earlier collection than this are decided, too.
    pub(crate) decided_below: u8,
    /// Accepted once, given up by retention. Forgotten when its object is gone: that its session is decided is
    /// enough then.
    pub(crate) dropped: Set<Point>,
    pub(crate) runs: Set<Run>,
}

/// The intent log of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Gc {
    pub(crate) exists: bool,
    pub(crate) collection: u8,
    pub(crate) doomed: Set<Pack>,
    /// The custodian's index objects that it vouches for.
    pub(crate) index: Set<IndexSlot>,
    /// Whether it says that there is a list in `bad/`.
    pub(crate) names_lost: bool,
    /// It cannot be read; its number stands in its name.
    pub(crate) damaged: bool,
}

impl Layout {
    /// Generations of one term.
    pub(crate) const TERM: u8 = 100;

    pub(crate) fn term(&self) -> u8 {
        self.generation / Self::TERM
    }
}

impl Store {
    /// Packs that no writer may count on, by all gc records listed now.
    pub(crate) fn doomed(&self) -> Set<Pack> {
        self.doomed_by(self.listed_gcs())
    }

    pub(crate) fn doomed_by(&self, records: Set<GcSlot>) -> Set<Pack> {
        records.iter().fold(Set::EMPTY, |all, slot| all | self.gcs[slot.number()].doomed)
    }

    pub(crate) fn newest_collection(&self) -> u8 {
        self.newest_of(self.listed_gcs())
    }

    pub(crate) fn newest_of(&self, records: Set<GcSlot>) -> u8 {
        records.iter().map(|slot| self.gcs[slot.number()].collection).max().unwrap_or(0)
    }

    /// How many gc records have the number of the newest.
    pub(crate) fn newest_gcs(&self) -> usize {
        let newest = self.newest_collection();
        self.gcs.iter().filter(|gc| gc.exists && gc.collection == newest).count()
    }

    /// The index objects for which the newest gc records vouch.
    pub(crate) fn vouched(&self) -> Set<IndexSlot> {
        let newest = self.newest_collection();
        let records = self.gcs.iter().filter(|gc| gc.exists && gc.collection == newest);
        records.fold(Set::EMPTY, |all, gc| all | gc.index)
    }

    pub(crate) fn names_lost(&self) -> bool {
        let newest = self.newest_collection();
        self.gcs.iter().any(|gc| gc.exists && gc.collection == newest && gc.names_lost)
    }

    pub(crate) fn has_damaged_gc(&self) -> bool {
        self.gcs.iter().any(|gc| gc.damaged)
    }

    pub(crate) fn listed_gcs(&self) -> Set<GcSlot> {
        numbers(&self.gcs, |gc| gc.exists)
    }

    pub(crate) fn listed_custodian_index(&self) -> Set<IndexSlot> {
        numbers(&self.custodian_index, |index| !index.packs.is_empty())
    }

    pub(crate) fn free_gc(&self) -> GcSlot {
        numbers(&self.gcs, |gc| !gc.exists).first().expect("no scene has more gc records at a time")
    }

    pub(crate) fn free_index(&self) -> IndexSlot {
        let free = numbers(&self.custodian_index, |index| index.packs.is_empty());
        free.first().expect("no scene has more index objects of custodians at a time")
    }

    /// Packs that any index object names: what a reader finds that rebuilds its index.
    pub(crate) fn indexed(&self) -> Set<Pack> {
        let custodian = self.custodian_index.iter().fold(Set::EMPTY, |all, index| all | index.packs);
        self.session_index.iter().fold(custodian, |all, packs| all | *packs)
    }

    pub(crate) fn chunks_in(&self, packs: Set<Pack>) -> Set<Chunk> {
        packs.iter().fold(Set::EMPTY, |all, pack| all | self.contents[pack.number()])
    }

    /// Chunks that a reader can fetch now.
    pub(crate) fn available(&self) -> Set<Chunk> {
        self.chunks_in(self.indexed() & self.packs)
    }

    pub(crate) fn put_pack(&mut self, name: Pack, contents: Set<Chunk>) {
        self.packs = self.packs.with(name);
        self.contents[name.number()] = contents;
    }

    pub(crate) fn put_custodian_index(&mut self, index: IndexObject) -> IndexSlot {
        let slot = self.free_index();
        self.custodian_index[slot.number()] = index;
        slot
    }

    pub(crate) fn mark_ended(&mut self, session: Session) {
        self.open = self.open.without(session);
        self.ended = self.ended.with(session);
    }
}

/// The places that hold an object that is wanted.
fn numbers<T, I: Id>(objects: &[T], wanted: impl Fn(&T) -> bool) -> Set<I> {
    let places = objects.iter().enumerate().filter(|(_, object)| wanted(object));
    places.fold(Set::EMPTY, |found, (number, _)| found.with(I::nth(number)))
}
