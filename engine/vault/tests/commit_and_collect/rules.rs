//! The rules of the protocol that can be broken one by one, so that the model shows what each of them is
//! for.

use crate::scene::Scene;

/// A scene, and the rules that its processes keep.
pub(crate) struct World {
    pub(crate) scene: Scene,
    broken: Option<Breach>,
}

impl World {
    pub(crate) fn keeping_all_rules(scene: Scene) -> Self {
        Self { scene, broken: None }
    }
    pub(crate) fn breaking(scene: Scene, breach: Breach) -> Self {
        Self { scene, broken: Some(breach) }
    }
    pub(crate) fn breaks(&self, breach: Breach) -> bool {
        self.broken == Some(breach)
    }
}

/// One rule, broken. The names say what is done instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Breach {
    // Writers.
    /// A writer lists `index/` and only then `gc/`.
    IndexListedBeforeGc,
    /// A writer counts on index objects of other writers.
    ForeignIndexTrusted,
    /// A writer counts on index objects of its own sessions that were never acknowledged.
    UnacknowledgedIndexTrusted,
    /// A writer acknowledges without looking for its fence.
    FenceNotChecked,
    /// A writer does not read the layout again after its pin is durable.
    LayoutNotReadAgain,
    /// A writer takes any point that counts at the moment as parent, and a reader pins one.
    UnsettledPointPinned,
    /// After a crash a node marks its unfinished session as ended instead of fencing it.
    CrashedSessionEnded,
    /// After a crash a node leaves its unfinished session to expire.
    CrashedSessionLeftOpen,
    /// A writer goes on although a collection began while it opened its session.
    CollectionNotCheckedAtStart,
    /// A writer does not list `gc/` again before it acknowledges.
    CollectionNotCheckedAtEnd,
    /// A writer goes by what it has read before its session was there, whichever collection is the newest since.
    ReadFirstNotChecked,
    /// A writer counts on every index object of a custodian, whenever it landed.
    AnyCustodianIndexTrusted,

    // Copies.
    /// A point counts as copied that is there and may yet be decided against.
    UnsettledCopyPassedOver,

    // Readers.
    ReaderDoesNotPin,

    // The custodian: thinning.
    /// A point is dropped, and its runs go, in the layout that decides, when sessions have been listed
    /// already.
    DroppedWhileDeciding,
    /// Runs leave the layout as soon as their point is dropped, before sessions are listed.
    RunsLeaveWithTheirPoint,
    /// A collection goes on by a record that was there before the last thinning, or that has landed late.
    AnyRecordWorkedOff,
    /// It goes on beside a record that has landed late, of a number below its own.
    LateRecordWorkedOff,
    /// What a thinning frees is deleted before the layout that says so is durable.
    ThinnedBeforeLayout,

    // The custodian: bringing back.
    /// Points are brought back though a collection has begun and not ended.
    UndeletedDuringPass,
    /// A point that was brought back is accepted whatever has become of its chunks.
    UndeletedUnproved,
    /// It is proved by what index objects name, whether the packs are there or not.
    UndeletedProvedByIndex,
    /// It is proved by the packs that are there, whether an index object names them or not.
    UndeletedNotListed,
    /// The next collection dooms what it has chosen itself and not what the record before it has doomed.
    UndeletedNotMoved,
    /// A point is accepted that no layout had accepted, but one had decided against.
    RefusedBroughtBack,

    // Repair.
    /// A repair leaves index objects that name packs which are not there.
    VoidIndexKept,
    /// It lets those of writers stay.
    VoidWritersIndexKept,
    /// It does not list anew what those have named that is there.
    VoidIndexNotTakenOver,
    /// It deletes them before what is there is listed anew.
    VoidIndexDeletedFirst,
    /// It takes them away without a gc record.
    VoidIndexGoesUnannounced,
    /// A collection does.
    VoidIndexCollectedUnannounced,
    /// It puts the list of what is lost, and no gc record that says so.
    LostNotAnnounced,
    /// It takes a list that is there for announced.
    LostListTakenForAnnounced,
    /// A collection's record does not say that there is such a list.
    LostNotSaidAgain,
    /// A writer does not look at the list.
    LostIgnored,
    /// A damaged gc record is deleted before another takes its place.
    DamagedGcDeletedFirst,

    // The custodian: waiting and deciding.
    /// Sessions are listed before the gc record is written.
    SessionsListedBeforeGc,
    SessionsNotWaitedFor,
    /// Pins of readers are not roots.
    PinsIgnored,
    /// Fences are listed after points.
    FencesListedAfterPoints,
    /// Only sessions whose point is seen are decided.
    FencedNotDecided,
    /// A point of a fenced session is not accepted, though it is seen.
    FencedRefused,
    /// The layouts of sources that have no point yet are not written.
    UnseenSourcesNotDecided,
    /// A later layout accepts points of sessions that an earlier one decided without them.
    DecisionNotFinal,
    /// Decided sessions are forgotten, and no floor takes their place.
    DecidedForgotten,
    /// The floor is the newest collection listed when the layout is written, not when the pass began.
    FloorTooHigh,
    /// After a crash in the PUT of a layout the custodian goes by what it can list, instead of doing that
    /// PUT again.
    LayoutNotPutAgain,
    /// The first layout of a new term has the next generation, not one above all of the former term.
    TermNotAboveGeneration,

    // The custodian: deleting.
    /// What became live after the first mark is not rescued.
    NotMarkedAgain,
    /// The new index leaves out packs that stay but that nothing needs at the moment.
    UnneededEntriesLeftOut,
    /// The packs that are there are listed before the index objects that name them.
    PacksListedBeforeIndex,
    /// Entries of others are not taken over when their index objects go.
    EntriesNotTakenOver,
    /// Old index objects are deleted before the new one is durable.
    IndexDeletedBeforeNew,
    /// Writers' index objects that name doomed packs stay.
    WritersIndexKept,
    PacksDeletedBeforeIndex,
    /// The gc record goes before the index objects that name its packs.
    GcDeletedBeforeIndex,
    /// A new gc record overwrites another of the same number.
    GcOverwritten,
    /// A gc record vouches for index objects that name packs which are gone.
    IndexVouchedUnseen,
    /// Fences go as soon as their session is decided.
    FenceDeletedAtOnce,
    /// The custodian does not read `trust/` again before it deletes.
    TrustNotReread,
}
