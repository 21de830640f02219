//! Splitting of sparse groups: a run takes the place of another only if it leads to the same bytes.

use std::sync::{Arc, Mutex};

use backstay_core::fold::{FoldRule, NewestStands};
use backstay_core::id::{ChunkId, Element, PointId};
use backstay_core::kind::{ChunkRange, KindRules, Kinds, UnreadableRow};
use backstay_testkit::capture::{State, Style, read_back, rows_of};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::kind::MadeUp;
use backstay_testkit::random::Random;
use backstay_testkit::rows::{RowKind, Rows, row_of_groups};
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::read::ChunkReader;
use backstay_vault::store::{Operation, Store};
use backstay_vault::vault::{Reading, Vault};

use crate::scene::{SOURCE, Scene, last};

const KEYS: u8 = 40;

pub(crate) fn in_groups() -> Style {
    Style { kind: RowKind::Groups, part_entries: 15, ..Style::default() }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.below(30 << 10);
    random.bytes(length)
}

/// Two captures, between which four of every five values were written anew: of the first groups little is needed.
pub(crate) fn rewritten(seed: u64, keys: u8) -> (Scene, State) {
    let (mut scene, mut random) = (Scene::new(), Random::new(seed));
    let mut state: State = (0..keys).map(|key| (vec![key], value(&mut random))).collect();
    scene.capture_in_style(SOURCE, 1000, &state, &in_groups());
    rewrite(&mut state, &mut random);
    scene.capture_in_style(SOURCE, 1010, &state, &in_groups());
    (scene, state)
}

fn rewrite(state: &mut State, random: &mut Random) {
    for (_, value_of_it) in state.iter_mut().filter(|(key, _)| key[0] % 5 > 0) {
        *value_of_it = value(random);
    }
}

/// The point that there is, and its rows.
fn rows(scene: &Scene) -> Rows {
    let points: Vec<PointId> = scene.states.keys().map(|(_, point)| *point).collect();
    let [point] = points[..] else { panic!("one point is left of {points:?}") };
    let vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    rows_of(&vault, SOURCE, point).expect("reads").1
}

#[test]
fn what_is_needed_of_sparse_groups_is_written_anew_and_reads_as_before() {
    let (mut scene, _) = rewritten(1, KEYS);
    scene.collect();
    let before = scene.pack_bytes();
    assert!(scene.thin(&last(1)).groups_split > 0);
    scene.verify();
    while !scene.is_idle() {}
    scene.verify();
    assert!(scene.pack_bytes() < before * 2 / 3, "{} of {before} bytes are left", scene.pack_bytes());
}

/// What whoever writes the equal run gets wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// A reference leads to other bytes.
    Elsewhere,
    /// A reference is shorter.
    Shorter,
    /// What elements do not cover is another.
    Uncovered,
    /// The chunk is left out of the tables of what the run refers to.
    Untold,
}

#[derive(Debug)]
struct WrongOnce {
    rules: MadeUp,
    wrong: Mutex<Option<Wrong>>,
    untold: Mutex<bool>,
}

impl KindRules for WrongOnce {
    fn fold_rule(&self) -> Box<dyn FoldRule + Send> {
        self.rules.fold_rule()
    }

    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow> {
        self.rules.element(key, value)
    }

    fn path(&self, key: &[u8]) -> String {
        self.rules.path(key)
    }

    fn references(
        &self,
        key: &[u8],
        value: &[u8],
        tell: &mut dyn FnMut(ChunkRange),
    ) -> Result<(), UnreadableRow> {
        match std::mem::take(&mut *self.untold.lock().expect("no panic")) {
            true => Ok(()),
            false => self.rules.references(key, value, tell),
        }
    }

    fn with_references(
        &self,
        key: &[u8],
        value: &[u8],
        moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Result<Option<Vec<u8>>, UnreadableRow> {
        let Some(mut row) = self.rules.with_references(key, value, moved)? else { return Ok(None) };
        let end = row.len();
        match self.wrong.lock().expect("no panic").take() {
            None => {}
            Some(Wrong::Elsewhere) => row[end - 8] ^= 1,
            Some(Wrong::Shorter) => row[end - 4] ^= 1,
            Some(Wrong::Uncovered) => row.push(0),
            Some(Wrong::Untold) => *self.untold.lock().expect("no panic") = true,
        }
        Ok(Some(row))
    }
}

fn wrong_once(wrong: Wrong) -> Arc<Kinds> {
    let rules = WrongOnce {
        rules: MadeUp(RowKind::Groups),
        wrong: Mutex::new(Some(wrong)),
        untold: Mutex::default(),
    };
    Arc::new(Kinds::from([(RowKind::Groups.name(), Arc::new(rules) as Arc<dyn KindRules>)]))
}

#[test]
fn a_run_that_does_not_stand_for_the_same_takes_no_place() {
    for wrong in [Wrong::Elsewhere, Wrong::Shorter, Wrong::Uncovered, Wrong::Untold] {
        let (mut scene, mut state) = rewritten(2, KEYS);
        scene.collect();
        let outcome =
            scene.with_custodian_who_knows(wrong_once(wrong), |custodian| custodian.thin(&|_| Some(last(1))));
        assert!(matches!(outcome, Err(VaultError::Unequal { .. })), "{wrong:?}: {outcome:?}");
        assert_eq!(scene.names("layout/").len(), 2, "{wrong:?}: of the pass, and of the merge");
        let counting = scene.counting();
        scene.states.retain(|(_, point), _| counting.contains(point));
        scene.verify();
        let before = rows(&scene);
        while !scene.is_idle() {}
        assert_eq!(rows(&scene), before, "{wrong:?}: the run stays");
        scene.verify();
        rewrite(&mut state, &mut Random::new(3));
        scene.capture_in_style(SOURCE, 1020, &state, &in_groups());
        scene.collect();
        assert!(scene.thin(&last(1)).groups_split > 0, "{wrong:?}: the next merge splits them");
        while !scene.is_idle() {}
        scene.verify();
    }
}

#[test]
fn a_run_whose_new_groups_cannot_be_opened_takes_no_place() {
    let (mut scene, _) = rewritten(4, KEYS);
    scene.collect();
    let faulty = Arc::new(FaultStore::new(scene.memory.clone()));
    let (fixture, memory) = (scene.fixture.clone(), scene.memory.clone());
    let seen = Mutex::new(scene.names("packs/"));
    let rot = move || {
        let (mut seen, is_of_data) = (seen.lock().expect("no panic"), |content: &[u8]| content[9] == 1);
        for (name, content) in memory.objects() {
            if name.starts_with("packs/") && !seen.contains(&name) && is_of_data(&content) {
                seen.push(name.clone());
                let mut content = content.to_vec();
                // In the first record.
                content[200] ^= 1;
                let (name, _) = ObjectName::parse(&name).expect("a name");
                fixture.block_on(memory.put(&name, content.into())).expect("puts");
            }
        }
    };
    faulty.then(Trigger::on(Operation::Put).below("packs/").always(), rot);
    let whole = std::mem::replace(&mut scene.vault, scene.fixture.open(faulty).expect("opens"));
    let outcome = scene.with_custodian(|custodian| custodian.thin(&|_| Some(last(1))));
    assert!(matches!(outcome, Err(VaultError::Chunk { .. })), "{outcome:?}");
    assert_eq!(scene.names("layout/").len(), 2, "of the pass, and of the merge");
    scene.vault = whole;
    let counting = scene.counting();
    scene.states.retain(|(_, point), _| counting.contains(point));
    let vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    for ((source, point), state) in &scene.states {
        assert!(read_back(&vault, source, *point).expect("reads").state == *state);
    }
}

#[test]
fn a_row_that_refers_beyond_the_end_of_its_group_stays_as_it_is_and_the_others_are_moved() {
    let (mut scene, mut random) = (Scene::new(), Random::new(5));
    let mut state: State = (0..KEYS).map(|key| (vec![key], random.bytes(2000))).collect();
    let first = scene.capture_in_style(SOURCE, 1000, &state, &in_groups());
    let (_, written) = rows_of(&scene.vault, SOURCE, first).expect("reads");
    let last_range = |row: &Vec<u8>| RowKind::Groups.references(row).pop().expect("a reference");
    // All of them are in one group, in order of key.
    let end = last_range(&written[&vec![KEYS - 1]]);
    let beyond = ChunkRange { offset: end.offset + end.length, length: 100, ..end };
    let hand_made = (vec![KEYS, 1], row_of_groups([7; 32], &[beyond]));
    // Of what was at the end the last is needed, so that it is what comes before the row that is wrong.
    for key in (0..KEYS).filter(|key| key % 5 < 4) {
        state.insert(vec![key], random.bytes(2000));
    }
    let style = Style { by_hand: Rows::from([hand_made.clone()]), ..in_groups() };
    let point = scene.capture_in_style(SOURCE, 1010, &state, &style);
    scene.collect();
    let keep_of = |_: &str| Some(last(1));
    let thinned = scene.with_custodian(|custodian| custodian.thin(&keep_of)).expect("thins");
    assert_eq!(thinned.groups_split, 1);
    while !scene.is_idle() {}
    let vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    let (_, now) = rows_of(&vault, SOURCE, point).expect("reads");
    assert_eq!(now[&hand_made.0], hand_made.1, "it is led to nobody else's bytes");
    let moved = last_range(&now[&vec![KEYS - 1]]);
    assert_ne!(moved.chunk, end.chunk);
    // Without that row the state is read as it was captured.
    let last = scene.capture_in_style(SOURCE, 1020, &state, &in_groups());
    scene.states.retain(|(_, of), _| *of == last);
    scene.verify();
}

#[test]
fn contents_stay_where_a_reader_has_seen_them_for_as_long_as_it_pins_the_point() {
    for is_accepted in [true, false] {
        contents_stay(is_accepted);
    }
}

/// Whether a pass has accepted the point that is read.
fn contents_stay(is_accepted: bool) {
    let (mut scene, mut state) = rewritten(6, KEYS);
    scene.collect();
    if !is_accepted {
        state.insert(vec![KEYS], b"the newest".to_vec());
        scene.capture_in_style(SOURCE, 1500, &state, &in_groups());
    }
    let vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let newest = catalogue.newest().expect("a point").link;
    let reader = Some(scene.fixture.writer());
    let reading = Reading::begin(&vault, &catalogue, newest, reader, &scene.clock).expect("begins");
    let mut fold = reading.fold::<NewestStands>(b"");
    let mut seen = Vec::new();
    while let Some((_, row)) = fold.next().expect("reads") {
        seen.extend(RowKind::Groups.references(row).into_iter().map(|range| range.chunk));
    }
    assert!(scene.thin(&last(1)).groups_split > 0);
    while !scene.is_idle() {}
    let lost = |vault: &Arc<Vault>| {
        let chunks = ChunkReader::new(vault.clone());
        seen.iter().filter(|chunk| chunks.fetch(**chunk).is_err()).count()
    };
    assert_eq!(lost(&vault), 0, "to the reader, which knows no other places");
    drop((fold, reading));
    while !scene.is_idle() {}
    assert!(lost(&vault) > 0, "nobody has seen them there any more");
    let layout = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue").layout;
    assert_eq!(layout.expect("a layout").replaced, []);
    scene.verify();
}
