//! What the index does as a whole: in memory, on disk, and with a disk that is old, another's, full or damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId, VaultId};

use super::head::{BLOCK_BYTES, PARTITION_BLOCKS};
use super::rows::tests::origin;
use super::*;
use crate::commit_object::GcRecord;
use crate::index_object::{IndexAuthor, IndexObject, IndexedPack};
use crate::pack::PackEntry;

const VAULT: VaultId = VaultId::new([7; 16]);

fn object(pack: u8, chunks: &[u8]) -> IndexObject {
    object_of(pack, chunks.iter().map(|n| ChunkId::new([*n; 32])))
}

fn object_of(pack: u8, chunks: impl Iterator<Item = ChunkId>) -> IndexObject {
    let entry = |id| (0, PackEntry { id, offset: 32, length: 100, plain_length: 10 });
    IndexObject {
        author: IndexAuthor::Session,
        collection: CollectionNumber::NONE,
        packs: vec![IndexedPack {
            id: PackId::new([pack; 32]),
            class: ChunkClass::Data,
            bytes: 4096,
            keys: PackKeys::of([KeyId::new([pack; 16])]).expect("one"),
        }],
        entries: chunks.map(entry).collect(),
    }
}

fn chunk(n: u8) -> ChunkId {
    ChunkId::new([n; 32])
}

fn hash(n: u8) -> ObjectHash {
    ObjectHash::new([n; 32])
}

fn collections(number: u64, doomed: &[u8], vouched: &[u8]) -> Collections {
    let mut collections = Collections::default();
    collections.add(GcRecord {
        number: CollectionNumber::new(number),
        term: 1,
        packs: doomed.iter().map(|n| PackId::new([*n; 32])).collect(),
        index: vouched.iter().map(|n| hash(*n)).collect(),
        bad: None,
    });
    collections
}

fn places(index: &ChunkIndex, n: u8) -> usize {
    index.places(&chunk(n)).expect("no damage").len()
}

/// An index in this folder, as a process has it that has just started.
fn opened(folder: &Path) -> ChunkIndex {
    let mut index = ChunkIndex::new();
    index.keep_in(folder, VAULT, IndexFolder::Own, IndexLimits::default());
    index
}

/// Says that these objects are listed and all others are not.
fn list(index: &mut ChunkIndex, listed: &[u8]) {
    let all = index.objects().into_iter().map(|(object, _)| {
        let hash = object.origin.hash;
        let is_listed = listed.iter().any(|n| hash == ObjectHash::new([*n; 32]));
        let standing = if is_listed { Standing::Listed(Belief::ReadersOnly) } else { Standing::Gone };
        (hash, standing)
    });
    let all: Vec<_> = all.collect();
    index.settle(None, &all);
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect()
}

/// A folder with one segment: object 1 with chunks 5 and 6 in pack 1, object 2 with chunk 6 in pack 2.
fn kept() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    index.add(origin(1), &object(1, &[5, 6]), Belief::Writers);
    index.add(origin(2), &object(2, &[6]), Belief::Writers);
    index.write_out();
    assert_eq!((segments(folder.path()).len(), places(&index, 6)), (1, 2));
    folder
}

#[test]
fn a_writer_believes_less_than_a_reader() {
    let mut index = ChunkIndex::new();
    index.add(origin(1), &object(1, &[5, 6]), Belief::ReadersOnly);
    index.add(origin(2), &object(2, &[6]), Belief::Writers);
    let none = Collections::default();
    assert_eq!((places(&index, 5), places(&index, 6)), (1, 2));
    assert!(!index.writer_has(&chunk(5), &none) && index.writer_has(&chunk(6), &none));
    assert!(!index.writer_has(&chunk(6), &collections(1, &[2], &[])), "its pack is about to go");
}

#[test]
fn what_compromised_keys_have_sealed_is_there_for_readers_and_copiers_and_not_for_writers() {
    for is_on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut index = ChunkIndex::with_compromised(HashSet::from([KeyId::new([1; 16])]));
        index.keep_in(folder.path(), VAULT, IndexFolder::Own, IndexLimits::default());
        assert!(!index.has_compromised());
        for n in [1, 2] {
            index.add(origin(n), &object(n, if n == 1 { &[5, 6] } else { &[6] }), Belief::Writers);
            if is_on_disk {
                index.write_out();
            }
        }
        let none = Collections::default();
        assert!(index.has_compromised());
        assert!(!index.writer_has(&chunk(5), &none) && index.copier_has(&chunk(5), &none));
        assert!(index.writer_has(&chunk(6), &none));
        let doomed = collections(1, &[2], &[]);
        assert!(!index.writer_has(&chunk(6), &doomed) && index.copier_has(&chunk(6), &doomed));
        let sealing = |n| index.sealing(&chunk(n)).expect("reads");
        assert_eq!([5, 6, 7].map(sealing), [Sealing::Compromised, Sealing::Trusted, Sealing::Nowhere]);
        // The good copy comes first.
        assert_eq!((places(&index, 5), places(&index, 6)), (1, 2));
        assert_eq!(index.places(&chunk(6)).expect("reads")[0].pack, PackId::new([2; 32]));
        let snapshot = index.snapshot();
        let marks =
            snapshot.packs().iter().zip(0..).map(|((pack, ..), n)| (*pack, snapshot.is_compromised(n)));
        let mut marks: Vec<_> = marks.collect();
        marks.sort_unstable();
        assert_eq!(marks, [(PackId::new([1; 32]), true), (PackId::new([2; 32]), false)]);
    }
}

#[test]
fn a_segment_of_an_older_version_is_thrown_away() {
    let folder = kept();
    let file = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&file).expect("reads");
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    fs::write(&file, bytes).expect("writes");
    assert!(opened(folder.path()).objects().is_empty());
    assert!(segments(folder.path()).is_empty(), "and made anew of what a listing has");
}

#[test]
fn what_was_read_before_its_session_was_acknowledged_is_believed_afterwards() {
    for is_on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut index = opened(folder.path());
        for (belief, believed) in [(Belief::ReadersOnly, false), (Belief::Writers, true)] {
            index.add(origin(1), &object(1, &[5]), belief);
            if is_on_disk {
                index.write_out();
            }
            assert_eq!(index.writer_has(&chunk(5), &Collections::default()), believed);
        }
        index.add(origin(1), &object(1, &[5]), Belief::ReadersOnly);
        assert!(index.writer_has(&chunk(5), &Collections::default()), "an acknowledgement is final");
    }
}

#[test]
fn what_a_writer_believes_of_a_custodian_changes_with_the_collections() {
    for is_on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut index = opened(folder.path());
        let written = CollectionNumber::new(1);
        index.add(origin(1), &object(1, &[5]), Belief::IfVouchedFor { written });
        if is_on_disk {
            index.write_out();
        }
        let has = |number, doomed: &[u8], vouched: &[u8]| {
            index.writer_has(&chunk(5), &collections(number, doomed, vouched))
        };
        assert_eq!(places(&index, 5), 1);
        assert!(has(1, &[], &[]));
        assert!(!has(2, &[], &[]), "the next one does not know it");
        assert!(has(2, &[], &[1]));
        assert!(!has(2, &[1], &[1]));
    }
}

#[test]
fn a_place_that_two_objects_list_is_told_once_by_a_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    for (hash, pack) in [(1, 1), (2, 1), (3, 2)] {
        index.add(origin(hash), &object(pack, &[5, 6]), Belief::ReadersOnly);
        if hash == 2 {
            index.write_out();
        }
    }
    let snapshot = index.snapshot();
    let mut chunks = snapshot.chunks().expect("reads");
    let mut told = Vec::new();
    while let Some(id) = chunks.advance().expect("reads") {
        told.extend(chunks.places().iter().map(|place| (id, snapshot.location(place).pack)));
    }
    told.sort_unstable();
    let place = |n, pack| (chunk(n), PackId::new([pack; 32]));
    assert_eq!(told, [place(5, 1), place(5, 2), place(6, 1), place(6, 2)]);
}

#[test]
fn marks_are_told_in_order_and_once_for_each_chunk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    for n in 1..=5 {
        let ids = (0..1000u16).map(|id| id * 10 + u16::from(n)).chain([3]);
        index.add(origin(n), &object_of(n, ids.map(numbered)), Belief::ReadersOnly);
        if n != 5 {
            index.write_out();
        }
    }
    let entries = index.entries();
    let mut marks = entries.no_marks();
    let wanted = [3u16, 5, 994, 1001, 9995];
    for id in wanted.iter().rev() {
        assert!(entries.mark(&numbered(*id), &mut marks).expect("reads"));
    }
    assert!(!entries.mark(&numbered(6), &mut marks).expect("reads"));
    let mut marked = entries.marked(&marks).expect("reads");
    let told: Vec<_> = std::iter::from_fn(|| marked.advance().expect("reads")).collect();
    assert_eq!(told, wanted.map(numbered));
}

/// Ids that sort like their numbers.
fn numbered(n: u16) -> ChunkId {
    let mut id = [9; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    ChunkId::new(id)
}

#[test]
fn what_was_kept_counts_only_when_a_listing_has_its_object_and_for_whom_it_was_judged_then() {
    let folder = kept();
    let mut index = opened(folder.path());
    assert_eq!((places(&index, 6), index.objects().len()), (0, 2), "nobody has looked yet");
    assert!(!index.writer_has(&chunk(6), &Collections::default()));
    assert_eq!(index.totals(), IndexTotals::default());
    list(&mut index, &[1]);
    assert_eq!((places(&index, 5), places(&index, 6)), (1, 1), "object 2 has gone");
    assert!(!index.writer_has(&chunk(6), &Collections::default()), "beliefs are not kept in files");
    index.settle(None, &[(hash(1), Standing::Listed(Belief::Writers))]);
    assert!(index.writer_has(&chunk(6), &Collections::default()));
    list(&mut index, &[]);
    assert_eq!((places(&index, 5), segments(folder.path()).len()), (0, 0));
}

#[test]
fn a_cache_that_is_older_than_the_vault_lacks_what_came_since_and_no_more() {
    let folder = kept();
    let old: Vec<_> = segments(folder.path()).into_iter().map(|path| (fs::read(&path), path)).collect();
    let mut index = opened(folder.path());
    list(&mut index, &[2]);
    index.add(origin(3), &object(3, &[7]), Belief::ReadersOnly);
    index.write_out();
    index.tidy();
    drop(index);
    segments(folder.path()).iter().for_each(|path| fs::remove_file(path).expect("removes"));
    old.into_iter().for_each(|(bytes, path)| fs::write(path, bytes.expect("read")).expect("writes"));
    let mut index = opened(folder.path());
    assert!(!index.knows(&hash(3)), "so it is read");
    list(&mut index, &[2, 3]);
    assert_eq!([5, 6, 7].map(|n| places(&index, n)), [0, 1, 0]);
}

#[test]
fn a_cache_of_another_vault_is_thrown_away() {
    let folder = kept();
    let mut index = ChunkIndex::new();
    index.keep_in(folder.path(), VaultId::new([8; 16]), IndexFolder::Own, IndexLimits::default());
    assert!(index.objects().is_empty() && segments(folder.path()).is_empty());
}

#[test]
fn a_damaged_byte_anywhere_in_a_segment_is_noticed_and_never_answered_from() {
    let folder = kept();
    let path = segments(folder.path()).remove(0);
    let whole = fs::read(&path).expect("reads");
    let used: Vec<usize> = (0..200)
        .chain(BLOCK_BYTES - 40..BLOCK_BYTES + 3 * 48 + 16)
        .chain(2 * BLOCK_BYTES - 20..whole.len())
        .collect();
    for place in used {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&path, &bytes).expect("writes");
        let mut index = opened(folder.path());
        list(&mut index, &[1, 2]);
        for n in [5, 6] {
            match index.places(&chunk(n)) {
                Ok(places) if index.objects().is_empty() => assert!(places.is_empty(), "byte {place}"),
                Ok(places) => assert_eq!(places.len(), usize::from(n) - 4, "byte {place}"),
                Err(_) => assert!(!index.writer_has(&chunk(n), &Collections::default()), "byte {place}"),
            }
        }
        index.drop_damaged();
        assert!(index.objects().is_empty(), "byte {place} was not noticed");
        assert!(segments(folder.path()).is_empty(), "byte {place}: the file is thrown away");
    }
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).expect("writes");
        assert!(opened(folder.path()).objects().is_empty(), "{length} bytes");
    }
}

#[test]
fn a_disk_that_damages_again_and_again_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    for n in 1..=DAMAGES_MAX as u8 + 1 {
        index.add(origin(n), &object(n, &[n]), Belief::ReadersOnly);
        index.write_out();
        for path in segments(folder.path()) {
            let mut bytes = fs::read(&path).expect("reads");
            bytes[BLOCK_BYTES + 1] ^= 1;
            fs::write(path, bytes).expect("writes");
        }
        let is_given_up = n > DAMAGES_MAX as u8;
        assert_eq!(index.places(&chunk(n)).is_ok(), is_given_up, "in memory there is nothing to damage");
        index.drop_damaged();
    }
    assert_eq!(index.objects().len(), 1);
}

#[test]
fn what_a_crash_left_unfinished_is_removed_and_what_it_left_twice_counts_once() {
    let folder = kept();
    let unfinished = folder.path().join("0000000000000000.new");
    fs::write(&unfinished, b"half a segment").expect("writes");
    // A merge died after its segment was whole and before those went that it was made of.
    let twice = folder.path().join("ffffffffffffffff.segment");
    fs::copy(segments(folder.path()).remove(0), &twice).expect("copies");
    let mut index = opened(folder.path());
    assert!(!unfinished.exists());
    list(&mut index, &[1, 2]);
    assert_eq!((places(&index, 5), places(&index, 6)), (1, 2));
    assert_eq!((segments(folder.path()).len(), twice.exists()), (1, false));
}

#[test]
fn a_full_disk_costs_memory_and_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    fs::remove_dir_all(folder.path()).expect("removes");
    for n in 1..=3 {
        index.add(origin(n), &object(n, &[n]), Belief::ReadersOnly);
        index.write_out();
        assert_eq!(places(&index, n), 1);
    }
    assert!(index.table_max > index.limits.table_entries_max, "it is not tried for each entry");
    fs::create_dir(folder.path()).expect("makes");
    index.write_out();
    assert_eq!([1, 2, 3].map(|n| places(&index, n)), [1, 1, 1]);
    assert_eq!((segments(folder.path()).len(), index.table.entries), (1, 0));
}

#[test]
fn who_does_not_get_the_folder_reads_it_and_leaves_nothing_there() {
    let folder = kept();
    let mut owner = opened(folder.path());
    list(&mut owner, &[1, 2]);
    for wanted in [IndexFolder::Own, IndexFolder::Borrow] {
        let mut other = ChunkIndex::new();
        other.keep_in(folder.path(), VAULT, wanted, IndexLimits::default());
        list(&mut other, &[1]);
        other.add(origin(3), &object(3, &[7]), Belief::ReadersOnly);
        other.write_out();
        other.tidy();
        assert_eq!([5, 6, 7].map(|n| places(&other, n)), [1, 1, 1]);
        let sizes: Vec<u64> = other.shelved.iter().map(|shelved| shelved.segment.entries()).collect();
        assert_eq!(sizes, [3, 1], "what is borrowed is not written anew, though a third of it has gone");
        list(&mut other, &[]);
        assert_eq!(segments(folder.path()).len(), 1);
    }
    assert_eq!((places(&owner, 5), places(&owner, 6)), (1, 2));
}

#[test]
fn merging_loses_no_place_and_leaves_out_what_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    let mut model: BTreeMap<ChunkId, Vec<u8>> = BTreeMap::new();
    for n in 1..=40u8 {
        let ids: Vec<_> =
            (0..300u16).map(|id| numbered(id.wrapping_mul(u16::from(n)).wrapping_mul(13))).collect();
        ids.iter().for_each(|id| model.entry(*id).or_default().push(n));
        index.add(origin(n), &object_of(n, ids.into_iter()), Belief::ReadersOnly);
        index.write_out();
        if n == 37 {
            let listed: Vec<u8> = (1..=37).filter(|n| n % 3 != 0).collect();
            list(&mut index, &listed);
            model.values_mut().for_each(|packs| packs.retain(|n| n % 3 != 0));
        }
        index.tidy();
        assert!(index.shelved.len() < 12);
    }
    for index in [index, {
        let mut index = opened(folder.path());
        let listed: Vec<u8> = (1..=40).filter(|n| *n > 37 || n % 3 != 0).collect();
        list(&mut index, &listed);
        index
    }] {
        for (id, packs) in &model {
            let mut found: Vec<u8> =
                index.places(id).expect("no damage").iter().map(|at| at.pack.as_bytes()[0]).collect();
            found.sort_unstable();
            let mut packs = packs.clone();
            packs.sort_unstable();
            assert_eq!(found, packs, "{id}");
        }
        assert!(
            index.places(&numbered(1)).expect("no damage").is_empty() || model.contains_key(&numbered(1))
        );
    }
}

#[test]
fn entries_of_one_chunk_are_found_across_blocks_and_partitions() {
    // One chunk fills more than a partition; others lie before and behind.
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = opened(folder.path());
    let same = PARTITION_BLOCKS * head::BLOCK_ENTRIES + 1000;
    index.table_max = u64::MAX;
    for n in 0..10u8 {
        let share = same / 10 + 1;
        let ids = std::iter::repeat_n(numbered(500), share).chain([numbered(499), numbered(501)]);
        index.add(origin(n), &object_of(n, ids), Belief::ReadersOnly);
    }
    index.write_out();
    let count = |n| index.places(&numbered(n)).expect("no damage").len();
    assert_eq!([498, 499, 500, 501, 502].map(count), [0, 10, (same / 10 + 1) * 10, 10, 0]);
}
