//! The custodian: thins, marks, announces in `gc/` what it will delete, waits for the sessions that may not
//! know, decides, rescues, deletes. It may crash anywhere, forgets all but a few facts, and resumes where
//! sessions are listed. This file owns the order of its steps, and what it lists; what it computes stands
//! in `thinning`, `mark`, `decide`, `renew`, `delete`, `undelete`,
//! `repair`.

use crate::rules::{Breach, World};
use crate::sets::{Pack, Set};
use crate::state::{Custodian, Duty, Late, State};
use crate::step::{Actor, Steps, What};
use crate::store::{IndexObject, Layout, Store};
use crate::{announce, decide, delete, mark, renew, repair, thinning, undelete, wait};

/// One custodian in one state.
pub(crate) struct Keeper<'w> {
    pub(crate) world: &'w World,
    pub(crate) state: &'w State,
    pub(crate) number: usize,
    pub(crate) me: Custodian,
}

pub(crate) fn steps(world: &World, state: &State, number: usize, out: &mut Steps) {
    let keeper = Keeper::new(world, state, number);
    keeper.step(out);
    keeper.crash(out);
}

impl<'w> Keeper<'w> {
    pub(crate) fn new(world: &'w World, state: &'w State, number: usize) -> Self {
        Keeper { world, state, number, me: state.custodians[number] }
    }
}

impl Keeper<'_> {
    fn step(&self, out: &mut Steps) {
        match self.me.at {
            Duty::None => {}
            Duty::Idle => self.reading_layouts().begin(out),
            Duty::ThinPack => thinning::put_pack(self, out),
            Duty::ThinIndex => self.put_copy_index(Duty::ThinLayout, out),
            Duty::ThinLayout => thinning::put_layout(self, out),
            Duty::CopyPack => self.put_copy(Duty::CopyIndex, out),
            Duty::CopyIndex => self.put_copy_index(Duty::PutGc, out),
            Duty::PutGc => announce::put_gc(self, out),
            Duty::BringPacks => undelete::bring_packs(self, out),
            Duty::BringIndex => undelete::put_index(self, out),
            Duty::Prove => undelete::prove(self, out),
            Duty::AcceptAgain => undelete::put_layout(self, out),
            Duty::MendGc => repair::put_new_gc(self, out),
            Duty::DeleteDamagedGc => repair::delete_damaged_gc(self, out),
            Duty::MendIndex => repair::put_index(self, out),
            Duty::AnnounceMended => repair::announce_mended(self, out),
            Duty::DeleteMended => repair::delete_index(self, out),
            Duty::LookForLost => repair::look_for_lost(self, out),
            Duty::PutLost => repair::put_lost(self, out),
            Duty::AnnounceLost => repair::announce_lost(self, out),
            Duty::DeleteOldGc => announce::delete_old_gc(self, out),
            Duty::ListSessions => wait::list_sessions(self, out),
            Duty::Wait => wait::wait(self, out),
            Duty::ListFences => wait::list_fences(self, out),
            Duty::ListPoints => wait::list_points(self, out),
            Duty::DecideFirst => decide::put_layout(self, 0, out),
            Duty::DecideSecond => decide::put_layout(self, 1, out),
            Duty::Rescue => renew::rescue(self, out),
            Duty::PutIndex => renew::put_index(self, out),
            Duty::AnnounceVoid => renew::announce_void(self, out),
            Duty::TrustBeforeIndex => delete::read_trust(self, Duty::DeleteIndex, out),
            Duty::DeleteIndex => delete::index(self, out),
            Duty::TrustBeforePacks => delete::read_trust(self, Duty::DeletePacks, out),
            Duty::DeletePacks => delete::packs(self, out),
            Duty::DeletePoints => delete::points(self, out),
            Duty::DeleteSessions => delete::sessions(self, out),
            Duty::DeleteGc => delete::gc(self, out),
        }
    }

    /// There was nothing to do here: straight on to the next duty, for nobody could tell the difference.
    pub(crate) fn straight_on(&self, next: &State, out: &mut Steps) {
        Keeper::new(self.world, next, self.number).step(out);
    }

    pub(crate) fn then(&self, at: Duty) -> State {
        self.remembering(Custodian { at, ..self.me })
    }

    pub(crate) fn remembering(&self, me: Custodian) -> State {
        let mut next = *self.state;
        next.custodians[self.number] = me;
        next
    }

    /// At rest, knowing what survives a crash.
    pub(crate) fn resting(&self, round: u8) -> Custodian {
        let Custodian { crashes, finished, records, .. } = self.me;
        Custodian { at: Duty::Idle, round, crashes, finished, records, ..Custodian::default() }
    }

    pub(crate) fn push(&self, does: &'static str, what: What, next: State, out: &mut Steps) {
        out.push(Actor::Custodian(self.number), does, what, next);
    }

    pub(crate) fn breaks(&self, breach: Breach) -> bool {
        self.world.breaks(breach)
    }

    /// Where that rule is broken: the same custodian, acting as if the next thinning were in force.
    pub(crate) fn planning(&self) -> Self {
        Keeper { me: Custodian { planned: true, ..self.me }, ..*self }
    }

    /// The store as this custodian knows it: it does not go by a layout that landed behind its back.
    pub(crate) fn known(&self) -> Store {
        let mut store = self.state.store;
        if self.world.scene.late_custodian {
            store.layouts = self.me.layouts;
        }
        store
    }

    /// What it reads before anything else.
    fn reading_layouts(&self) -> Self {
        let late = self.world.scene.late_custodian;
        let layouts = if late { self.state.store.layouts } else { Default::default() };
        Keeper { me: Custodian { layouts, ..self.me }, ..*self }
    }

    /// The layout with its place in the order of layouts.
    fn numbered(&self, source: usize, layout: Layout) -> Layout {
        if !self.world.scene.late_custodian {
            return layout;
        }
        let next = self.me.layouts[source].generation + 1;
        let first_of_term = self.number as u8 * Layout::TERM;
        let generation =
            if self.breaks(Breach::TermNotAboveGeneration) { next } else { next.max(first_of_term) };
        Layout { generation, ..layout }
    }

    pub(crate) fn publish(&self, next: &mut State, source: usize, layout: Layout) {
        let layout = self.numbered(source, layout);
        let newest = &mut next.store.layouts[source];
        if layout.generation >= newest.generation {
            *newest = layout;
        }
        if self.world.scene.late_custodian {
            next.custodians[self.number].layouts[source] = layout;
        }
    }

    fn begin(&self, out: &mut Steps) {
        let store = &self.state.store;
        let listed = store.listed_gcs();
        let several = listed.iter().count() > 1;
        let unfinished = !self.world.scene.is_numbered() || !self.me.finished || several;
        repair::begin(self, out);
        if store.has_damaged_gc() {
            return;
        }
        let is_unfinished = !listed.is_empty() && unfinished;
        if !is_unfinished || self.breaks(Breach::UndeletedDuringPass) {
            undelete::begin(self, out);
        }
        if is_unfinished && !announce::may_resume(self) {
            announce::begin_anew(self, out);
        } else if is_unfinished {
            let me = Custodian {
                at: Duty::ListSessions,
                batch: listed,
                collection: store.newest_collection(),
                victims: store.doomed(),
                finished: false,
                ..self.me
            };
            self.push("finds a gc record, resumes at the sessions", What::Nothing, self.remembering(me), out);
        } else if self.me.round < self.world.scene.rounds {
            mark::mark(self, out);
            thinning::begin(self, out);
        }
    }

    /// PUTs what is to be copied as a new pack.
    pub(crate) fn put_copy(&self, at: Duty, out: &mut Steps) {
        let name = self.state.free_pack();
        let copied = Set::of(&[name]);
        let mut next = self.remembering(Custodian { at, copying: Set::EMPTY, copied, ..self.me });
        next.store.put_pack(name, self.me.copying);
        self.push("PUTs into a new pack", What::Chunks(self.me.copying), next, out);
    }

    fn put_copy_index(&self, at: Duty, out: &mut Steps) {
        let mut next = self.remembering(Custodian { at, copied: Set::EMPTY, ..self.me });
        next.store.put_custodian_index(self.index_object(self.me.copied));
        self.push("PUTs an index object of", What::Packs(self.me.copied), next, out);
    }

    pub(crate) fn index_object(&self, packs: Set<Pack>) -> IndexObject {
        IndexObject { packs, collection: self.state.store.newest_collection() }
    }

    fn crash(&self, out: &mut Steps) {
        if self.me.crashes == 0 || matches!(self.me.at, Duty::None | Duty::Idle) {
            return;
        }
        let resting = self.resting(self.me.round);
        let mut next = self.remembering(Custodian { crashes: resting.crashes - 1, ..resting });
        self.push("crashes, and is back", What::Nothing, next, out);
        // A layout's bytes are written down before its PUT, and after a crash that PUT is done again before
        // anything else. So for everybody else the crash came after the PUT, which is walked; the request
        // of the dead may land, and changes nothing.
        let forgetful = self.breaks(Breach::LayoutNotPutAgain);
        let layout = layout_under_way(self).filter(|_| forgetful);
        if let Some(late) = under_way(self).or(layout)
            && next.leave_behind(late)
        {
            self.push("crashes with its PUT under way, and is back", What::Nothing, next, out);
        }
    }
}

/// The PUT of a custodian that may land after its end.
pub(crate) fn under_way(keeper: &Keeper<'_>) -> Option<Late> {
    if !keeper.world.scene.late_custodian {
        return None;
    }
    match keeper.me.at {
        Duty::ThinIndex | Duty::CopyIndex => {
            Some(Late::CustodianIndex(keeper.index_object(keeper.me.copied)))
        }
        Duty::BringPacks => undelete::pack_under_way(keeper),
        Duty::BringIndex => {
            let packs = undelete::strays(keeper);
            (!packs.is_empty()).then(|| Late::CustodianIndex(keeper.index_object(packs)))
        }
        Duty::MendGc | Duty::AnnounceMended | Duty::AnnounceLost | Duty::AnnounceVoid => {
            Some(Late::Gc(repair::new_gc(keeper)))
        }
        Duty::MendIndex => {
            let packs = repair::new_index(keeper);
            (!packs.is_empty()).then(|| Late::CustodianIndex(keeper.index_object(packs)))
        }
        Duty::PutGc => Some(Late::Gc(announce::gc_record(keeper, keeper.me.batch))),
        Duty::Wait => {
            let pending = (keeper.me.waiting & keeper.state.store.open) - keeper.state.store.fences;
            pending.first().map(Late::Fence)
        }
        Duty::Rescue | Duty::PutIndex if !renew::must_rescue(keeper) => {
            let packs = renew::new_index(keeper);
            (!packs.is_empty()).then(|| Late::CustodianIndex(keeper.index_object(packs)))
        }
        _ => None,
    }
}

pub(crate) fn layout_under_way(keeper: &Keeper<'_>) -> Option<Late> {
    if !keeper.world.scene.late_custodian {
        return None;
    }
    let (source, layout) = match keeper.me.at {
        Duty::ThinLayout => thinning::new_layout(keeper)?,
        Duty::AcceptAgain => undelete::new_layout(keeper)?,
        Duty::DecideFirst => (0, decide::new_layout(keeper, 0)?),
        Duty::DecideSecond => (1, decide::new_layout(keeper, 1)?),
        _ => return None,
    };
    Some(Late::Layout(source as u8, keeper.numbered(source, layout)))
}
