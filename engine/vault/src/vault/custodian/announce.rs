//! The beginning of a pass: what is needed, which packs are to go, and the record in `gc/` that says so before anybody
//! is looked for who may not know (docs/collection.md, rules 1, 2, 11 and 12).

use std::collections::HashSet;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId};
use backstay_core::run::Run;

use super::super::gc::newest_of;
use super::choose::{Known, Limits, NotChosen, choose};
use super::decide::Deciding;
use super::inspection::Inventory;
use super::needs::Needs;
use super::wait::{Fences, Sessions};
use super::{Collected, Custodian};
use crate::commit_object::GcRecord;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index_object::IndexAuthor;
use crate::malformed::encode_cbor;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// What one pass moves at most, bytes.
const MOVED_BYTES_MAX: u64 = 2 << 30;

/// Copies that one pass compares with others before they go, at most.
const DOUBTFUL_MAX: u64 = 1 << 19;

/// How often one pass is announced anew: each time a record of somebody else has come.
const ANNOUNCED_ANEW_MAX: usize = 4;

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What was committed is decided.
    Decisions,
    /// Also what nothing needs any more goes.
    All,
}

/// What is seen before a pass is announced.
struct Seen {
    sessions: Sessions,
    fences: Fences,
    /// Runs of what counts now, whether its commit has ended or not, and of what is read.
    runs: Vec<Run>,
    /// What is listed in `gc/`.
    records: Vec<Listed>,
    /// Whether there is anything to decide.
    is_undecided: bool,
}

/// A pass that has been announced.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) number: CollectionNumber,
    /// Its own record.
    pub(super) record: ObjectHash,
    pub(super) doomed: HashSet<PackId>,
    /// What was marked before it was announced; nothing of one that another process has announced.
    pub(super) needs: Needs,
    /// Packs of which it was seen then that each needed record lies whole in another pack too. Others may have been
    /// doomed before, and brought back since.
    pub(super) looked_at: HashSet<PackId>,
}

/// What `gc/` says of a pass that may be under way.
enum Found {
    /// There is none.
    Nothing,
    Pass(Box<Announced>),
    /// There is one by a record that not everybody has seen in time.
    Unsafe,
}

impl Custodian<'_> {
    /// A pass that was announced and not worked off. One that goes on by a record which this custodian has not put since it
    /// thinned last is announced anew: writers that have read before the thinning may have seen that record. So is one beside
    /// whose records there is another: it has landed late, and who had begun before that has not seen what it dooms.
    pub(super) fn unfinished(&mut self) -> Result<Option<Announced>, VaultError> {
        for _ in 0..ANNOUNCED_ANEW_MAX {
            match self.found()? {
                Found::Nothing => return Ok(None),
                Found::Pass(pass) => return Ok(Some(*pass)),
                Found::Unsafe => self.put_next_record(Vec::new())?,
            }
        }
        Err(self.look.refused("gc/ does not list what was just put there, or somebody else writes to it"))
    }

    fn found(&self) -> Result<Found, VaultError> {
        let listed = self.vault.list_records()?;
        let Some(collections) = self.vault.collections_in(&listed)? else {
            return Err(self
                .look
                .refused("a record in gc/ has gone while it was read: look for a second custodian"));
        };
        let number = collections.newest();
        let of_newest = |listed: &Listed| match listed.named {
            Named::Gc(of, hash) => (of == number).then_some(hash),
            _ => None,
        };
        let Some(record) = listed.iter().find_map(of_newest) else { return Ok(Found::Nothing) };
        if listed.len() == 1 && self.notes.finished >= number {
            return Ok(Found::Nothing);
        }
        // A pass waits only for those who began below its number.
        let is_known = hashes(&listed).all(|hash| self.notes.records.contains(&hash));
        if self.notes.announced != number || !is_known {
            return Ok(Found::Unsafe);
        }
        let doomed = collections.into_doomed();
        let (needs, looked_at) = (Needs::default(), HashSet::new());
        Ok(Found::Pass(Box::new(Announced { number, record, doomed, needs, looked_at })))
    }

    /// Announces a pass. `None` when there is nothing to do.
    pub(super) fn announce(
        &mut self,
        scope: Scope,
        done: &mut Collected,
    ) -> Result<Option<Announced>, VaultError> {
        let seen = self.look_around()?;
        match scope {
            Scope::Decisions if seen.is_undecided => {
                self.put_next_record(Vec::new())?;
                self.unfinished()
            }
            Scope::Decisions => {
                self.watch(&seen.sessions, &seen.fences)?;
                Ok(None)
            }
            Scope::All => self.announce_all(seen, done),
        }
    }

    /// Looks for what is to be decided.
    fn look_around(&self) -> Result<Seen, VaultError> {
        let sessions = self.look.list_sessions()?;
        let fences = self.look.list_fences()?;
        let catalogues = self.look.survey()?;
        let pins = sessions.pins(&fences);
        let records = self.vault.list_records()?;
        // After the points that were just seen: what they need shall be in the index in which they are marked.
        self.vault.refresh_index(Some(&self.identity.node))?;
        let mut is_undecided = sessions.have_something_to_decide() || !fences.known.is_empty();
        let mut runs = Vec::new();
        for catalogue in &catalogues {
            let custodian = Some(self.identity.signer.public());
            let deciding =
                Deciding { catalogue, sessions: &sessions, fences: &fences, pins: &pins, custodian };
            is_undecided |= deciding.has_something_to_decide();
            let layout = deciding.layout(self.term, newest_of(&records), self.look.now())?;
            runs.extend(layout.needed_runs().cloned());
        }
        let objects = self.vault.index().objects_with_packs();
        is_undecided |= objects.iter().any(|(object, _)| object.author == IndexAuthor::Session);
        tracing::debug!(runs = runs.len(), is_undecided, "looked around");
        Ok(Seen { sessions, fences, runs, records, is_undecided })
    }

    /// Marks, chooses, moves what is needed out of the packs that go, and announces.
    fn announce_all(&mut self, seen: Seen, done: &mut Collected) -> Result<Option<Announced>, VaultError> {
        let Seen { sessions, fences, runs, records, is_undecided } = seen;
        let is_quiet = sessions.writing(&fences) == 0;
        let seen_before: HashSet<PackId> = self.notes.unindexed.iter().copied().collect();
        let may_go_as_stray = |pack: &PackId| is_quiet || seen_before.contains(pack);
        let list = self.vault.bad_list()?;
        let mut unread = HashSet::new();
        if list.is_some() {
            // What was lost may have come back, as a pack that somebody has found: a repair has taken it out of the index.
            for stray in self.strays()?.into_iter().filter(may_go_as_stray) {
                if let Err(error) = self.index_packs([stray]) {
                    tracing::warn!(%error, "left as it is");
                    unread.insert(stray);
                }
            }
            self.vault.refresh_index(Some(&self.identity.node))?;
        }
        let may_go = |pack: &PackId| may_go_as_stray(pack) && !unread.contains(pack);
        let mut needs = Needs::over(self.vault.index().entries());
        runs.iter().try_for_each(|run| needs.add(&self.reader, run))?;
        tracing::debug!("marked");
        let mut inventory = self.look.inventory()?;
        let lost: HashSet<ChunkId> = list.iter().flat_map(|list| &list.lost).copied().collect();
        let index = self.vault.index().snapshot();
        self.notes.not_whole.retain(|(pack, _)| inventory.contains_key(pack));
        let bad: HashSet<(PackId, u32)> = self.notes.not_whole.iter().copied().collect();
        let known = Known { inventory: &inventory, needs: &needs, lost: &lost, bad: &bad };
        let limits = Limits { moved_bytes: MOVED_BYTES_MAX, doubtful: DOUBTFUL_MAX };
        let choice = choose(&index, known, limits, may_go);
        let choice = choice.map_err(|error| match error {
            NotChosen::Index(error) => error.into(),
            lost => self.look.refused(&lost.to_string()),
        })?;
        tracing::debug!(packs = choice.doomed.len(), chunks = choice.moved.len(), "chosen");
        drop(index);
        if list.is_some() && !choice.lacks_lost {
            self.remove_bad_lists()?;
        }
        self.notes.unindexed = choice.unindexed;
        done.is_cut = choice.is_cut;
        if choice.doomed.is_empty() && !is_undecided {
            self.watch(&sessions, &fences)?;
            return Ok(None);
        }
        let mut moved = choice.moved;
        moved.extend(self.not_whole(choice.doubtful)?);
        let moved = self.repack(moved, done)?;
        tracing::debug!(packs = moved.len(), "moved");
        inventory.extend(moved.iter().map(|(pack, _)| (pack.id, u64::from(pack.bytes))));
        self.put_index(newest_of(&records), moved)?;
        let looked_at: HashSet<PackId> = choice.doomed.iter().copied().collect();
        self.put_record(&records, choice.doomed, &inventory)?;
        Ok(self.unfinished()?.map(|pass| Announced { needs, looked_at, ..pass }))
    }

    /// Nothing that is lost is needed any more.
    fn remove_bad_lists(&self) -> Result<(), VaultError> {
        self.check_office()?;
        let listed = self.vault.list(&Folder::new(&[&"bad"]))?;
        listed.iter().try_for_each(|listed| self.remove(&listed.name))
    }

    /// A record behind the newest, which dooms only these packs.
    pub(super) fn put_next_record(&mut self, doomed: Vec<PackId>) -> Result<(), VaultError> {
        self.put_record(&self.vault.list_records()?, doomed, &self.look.inventory()?)
    }

    fn number_after(&self, newest: CollectionNumber) -> Result<CollectionNumber, VaultError> {
        let none = || {
            self.look.refused(
                "gc/ has a record with the greatest number there is, which somebody has made up: copy what counts to a new vault",
            )
        };
        newest.next().ok_or_else(none)
    }

    /// Puts the record of a pass, behind those that were listed before. They go at the end of the pass, so that nothing falls
    /// between.
    fn put_record(
        &mut self,
        before: &[Listed],
        doomed: Vec<PackId>,
        inventory: &Inventory,
    ) -> Result<(), VaultError> {
        let number = self.number_after(newest_of(before))?;
        let bad = self.vault.bad_list()?.filter(|list| !list.lost.is_empty()).map(|list| list.number);
        let index = self.vouched(inventory)?;
        let record = GcRecord { number, term: self.term, packs: doomed, index, bad };
        let signer = &self.identity.signer;
        let own = self
            .vault
            .put_hashed(signer, EnvelopeKind::Gc, &encode_cbor(&record), |hash| Named::Gc(number, hash))?;
        self.vault.forget();
        self.notes.announced = number;
        self.notes.records = hashes(before).chain([own]).collect();
        self.note()
    }

    /// The record of a pass stays until that of the next is there. With the older ones go any that have landed meanwhile: by
    /// what they doom nothing was deleted.
    pub(super) fn delete_other_records(&mut self, pass: &Announced) -> Result<(), VaultError> {
        let mut listed = self.vault.list_records()?;
        let goes = |number, hash| number <= pass.number && hash != pass.record;
        listed.retain(|listed| matches!(listed.named, Named::Gc(number, hash) if goes(number, hash)));
        self.check_office()?;
        listed.iter().try_for_each(|listed| self.remove(&listed.name))?;
        // A put of one of them may be tried once more, and land.
        self.notes.records.retain(|record| hashes(&listed).all(|gone| gone != *record));
        Ok(())
    }

    /// Index objects of custodians whose packs are all there: one that landed late may name some that are not.
    fn vouched(&self, inventory: &Inventory) -> Result<Vec<ObjectHash>, VaultError> {
        let index = self.vault.index();
        let custodians = index.objects_with_packs().into_iter().filter(|(object, packs)| {
            let is_custodians = matches!(object.author, IndexAuthor::Custodian { .. });
            is_custodians && packs.iter().all(|pack| inventory.contains_key(pack))
        });
        let mut vouched: Vec<ObjectHash> = custodians.map(|(object, _)| object.origin.hash).collect();
        vouched.sort_unstable();
        Ok(vouched)
    }
}

fn hashes(records: &[Listed]) -> impl Iterator<Item = ObjectHash> {
    records.iter().filter_map(|listed| listed.named.content_hash())
}
