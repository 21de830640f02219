//! One state of the world: the store, what each process remembers, and which PUTs are still under way.
//! Owns the shapes only; who may do what stands with the processes.

use crate::sets::{Chunk, GcSlot, Id, IndexSlot, Pack, Point, Session, Set};
use crate::store::{Gc, IndexObject, Layout, PACKS, SOURCES, Store, Trash};

pub(crate) const NODES: usize = 2;
pub(crate) const CUSTODIANS: usize = 2;
pub(crate) const LATE: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) nodes: [Node; NODES],
    pub(crate) reader: Reader,
    pub(crate) custodians: [Custodian; CUSTODIANS],
    /// PUTs whose sender died: each may land at any later moment, or never.
    pub(crate) late: [Late; LATE],
    /// The custodian that `trust/` names.
    pub(crate) term: u8,
    /// Sessions that were acknowledged to whoever asked for the capture. A node knows it of its own.
    pub(crate) acknowledged: Set<Session>,
    /// Points that retention gave up and nobody has brought back, by the newest layouts that spoke of them.
    pub(crate) given_up: Set<Point>,
    /// How often the operator may still want given up points back.
    pub(crate) undeletes: u8,
    /// Points of which a copier has said that they are there.
    pub(crate) found: Set<Point>,
    pub(crate) damage: Damage,
}

/// What the disk has done to the vault, and what was done against it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Damage {
    /// Packs and gc records that may still go bad.
    pub(crate) to_come: u8,
    /// Chunks that went with packs and are in no other that stays, nor have come back. That one goes which a
    /// collection had meant to stay, just when the other copy goes, is nobody's fault.
    pub(crate) lost: Set<Chunk>,
    /// A repair has ended since.
    pub(crate) mended: bool,
    /// The sessions that began after that.
    pub(crate) since: Set<Session>,
}

/// A node that writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Node {
    pub(crate) at: NodeAt,
    pub(crate) capture: u8,
    pub(crate) attempt: u8,
    /// Crashes that may still happen to it.
    pub(crate) crashes: u8,
    /// Choices found impossible, as bits.
    pub(crate) tried: u8,
    /// What its first listing told: doomed packs (or trusted ones, where `index/` comes first).
    pub(crate) listed: Set<Pack>,
    /// The index objects of custodians for which the newest gc records vouched in that listing.
    pub(crate) vouched: Set<IndexSlot>,
    /// Whether the newest gc records said that chunks are lost.
    pub(crate) names_lost: bool,
    pub(crate) missing: Set<Chunk>,
    pub(crate) uploaded: Set<Pack>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum NodeAt {
    LookForCopy,
    ReadCollection,
    /// It may read all first, and open its session last.
    ReadLayoutFirst,
    ListIndexFirst,
    OpenLast,
    ListGcLast,
    Open,
    ReadLayout,
    ListGc,
    ListIndex,
    PutPack,
    PutIndex,
    PutPoint,
    PutSecondPoint,
    GetFence,
    ListGcAgain,
    End,
    /// Down, or just back; as far as it knows its session was not acknowledged.
    Restart,
    #[default]
    Done,
}

impl NodeAt {
    /// Reading, while nothing of the attempt is in the store: a crash is like none.
    pub(crate) fn is_before_session(self) -> bool {
        matches!(self, Self::ReadLayoutFirst | Self::ListIndexFirst)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    pub(crate) at: ReaderAt,
    pub(crate) todo: Set<Chunk>,
    pub(crate) read: Set<Chunk>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum ReaderAt {
    Open,
    ReadLayout,
    Reading,
    Reload,
    End,
    /// Its pin held, nobody gave it up, and it cannot go on.
    Failed,
    #[default]
    Done,
}

/// A custodian; all but `round`, `crashes`, `finished` and `records` is lost in a crash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Custodian {
    pub(crate) at: Duty,
    pub(crate) round: u8,
    /// Crashes that may still happen to it.
    pub(crate) crashes: u8,
    /// The newest collection is known to be complete.
    pub(crate) finished: bool,
    /// The record that it has put last, and those that were listed before that. None when it has thinned since.
    pub(crate) records: Set<GcSlot>,
    /// Where that rule is broken: a thinning counts as done before its layout is there.
    pub(crate) planned: bool,
    /// The gc records that this pass works off, and the number of the newest of them.
    pub(crate) batch: Set<GcSlot>,
    pub(crate) collection: u8,
    /// The packs that this pass deletes.
    pub(crate) victims: Set<Pack>,
    /// What goes into the next new pack, and that pack until it is indexed.
    pub(crate) copying: Set<Chunk>,
    pub(crate) copied: Set<Pack>,
    pub(crate) waiting: Set<Session>,
    pub(crate) fenced: Set<Session>,
    pub(crate) seen: Set<Point>,
    pub(crate) pinned: Set<Point>,
    /// The new index object, and what it lists.
    pub(crate) index: Set<IndexSlot>,
    pub(crate) listed: Set<Pack>,
    /// Where that rule is broken: the packs that were there when points were listed.
    pub(crate) inventory: Set<Pack>,
    /// The layouts as it last read or wrote them. Kept only where a layout may land behind its back.
    pub(crate) layouts: [Layout; SOURCES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Duty {
    /// Not custodian: not yet, or no longer.
    #[default]
    None,
    Idle,
    ThinPack,
    ThinIndex,
    ThinLayout,
    CopyPack,
    CopyIndex,
    PutGc,
    BringPacks,
    BringIndex,
    Prove,
    AcceptAgain,
    MendGc,
    DeleteDamagedGc,
    MendIndex,
    AnnounceMended,
    DeleteMended,
    LookForLost,
    PutLost,
    AnnounceLost,
    DeleteOldGc,
    ListSessions,
    Wait,
    ListFences,
    ListPoints,
    DecideFirst,
    DecideSecond,
    Rescue,
    PutIndex,
    AnnounceVoid,
    TrustBeforeIndex,
    DeleteIndex,
    TrustBeforePacks,
    DeletePacks,
    DeletePoints,
    DeleteSessions,
    DeleteGc,
}

impl Duty {
    pub(crate) fn is_undeleting(self) -> bool {
        matches!(self, Self::BringPacks | Self::BringIndex | Self::Prove | Self::AcceptAgain)
    }
}

/// A PUT under way without its sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Late {
    #[default]
    Nothing,
    Open(Session),
    Ended(Session),
    Pack(Set<Pack>),
    SessionIndex(Session, Set<Pack>),
    Points(Set<Point>),
    Fence(Session),
    Gc(Gc),

    CustodianIndex(IndexObject),
    /// Of the numbered source.
    Layout(u8, Layout),
}

impl State {
    /// A pack id that was never used, as far as anything can tell.
    pub(crate) fn free_pack(&self) -> Pack {
        (0..PACKS)
            .map(Pack::nth)
            .find(|pack| !self.store.packs.has(*pack) && self.store.contents[pack.number()].is_empty())
            .expect("no scene has more packs at a time")
    }

    /// The name is gone for ever: nothing may take a later object for it.
    pub(crate) fn delete_custodian_index(&mut self, slot: IndexSlot) {
        self.store.custodian_index[slot.number()] = IndexObject::default();
        let late = self.late.iter_mut().filter_map(|late| match late {
            Late::Gc(gc) => Some(gc),
            _ => None,
        });
        for gc in self.store.gcs.iter_mut().chain(late) {
            gc.index = gc.index.without(slot);
        }
        for custodian in &mut self.custodians {
            custodian.index = custodian.index.without(slot);
        }
        for node in &mut self.nodes {
            node.vouched = node.vouched.without(slot);
        }
    }

    /// As with index objects: the name is gone for ever.
    pub(crate) fn delete_gc(&mut self, slot: GcSlot) {
        self.store.gcs[slot.number()] = Gc::default();
        for custodian in &mut self.custodians {
            custodian.batch = custodian.batch.without(slot);
            custodian.records = custodian.records.without(slot);
        }
    }

    /// Leaves a PUT under way; false when there is no room for another.
    pub(crate) fn leave_behind(&mut self, put: Late) -> bool {
        let place = self.late.iter_mut().find(|late| **late == Late::Nothing);
        place.map(|place| *place = put).is_some()
    }

    /// Every set of packs that anything holds or remembers, in a fixed order.
    pub(crate) fn for_each_pack_set(&mut self, mut visit: impl FnMut(&mut Set<Pack>)) {
        visit(&mut self.store.packs);
        visit(&mut self.store.trash.packs);
        self.store.custodian_index.iter_mut().for_each(|index| visit(&mut index.packs));
        self.store.session_index.iter_mut().for_each(&mut visit);
        self.store.gcs.iter_mut().for_each(|gc| visit(&mut gc.doomed));
        for node in &mut self.nodes {
            visit(&mut node.listed);
            visit(&mut node.uploaded);
        }
        for custodian in &mut self.custodians {
            visit(&mut custodian.victims);
            visit(&mut custodian.copied);
            visit(&mut custodian.listed);
            visit(&mut custodian.inventory);
        }
        for late in &mut self.late {
            match late {
                Late::Pack(packs) | Late::SessionIndex(_, packs) => visit(packs),
                Late::Gc(gc) => visit(&mut gc.doomed),
                Late::CustodianIndex(index) => visit(&mut index.packs),
                _ => visit(&mut Set::default()),
            }
        }
    }

    /// After each step: what follows from it for whoever keeps account, and for what can be forgotten.
    pub(crate) fn keep_account(&mut self) {
        for layout in &self.store.layouts {
            self.given_up = (self.given_up | layout.dropped) - (layout.accepted - layout.dropped);
        }
        if !self.damage.lost.is_empty() {
            let staying = (self.store.indexed() & self.store.packs) - self.store.doomed();
            self.damage.lost -= self.store.chunks_in(staying);
        }
        match self.undeletes > 0 || self.custodians.iter().any(|custodian| custodian.at.is_undeleting()) {
            true => self.store.layouts.iter().for_each(|layout| self.store.trash.runs |= layout.runs),
            false => self.store.trash = Trash::default(),
        }
        self.forget_lost_packs();
    }

    /// Forgets packs that are gone and that nothing names, so that their numbers serve again.
    fn forget_lost_packs(&mut self) {
        let mut named = Set::EMPTY;
        self.for_each_pack_set(|packs| named |= *packs);
        for number in 0..PACKS {
            if !named.has(Pack::nth(number)) {
                self.store.contents[number] = Set::EMPTY;
            }
        }
    }
}
