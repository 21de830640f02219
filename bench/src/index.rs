//! Measures the index of a vault: building it from decoded index objects, reopening it, asking it.
//!
//! Owns the made-up objects, whose ids follow from a seed and a number, so that none has to be remembered, and the
//! bounds that the index has to keep. Refuses to go around the index: entries come in by the call that a refresh makes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, KeyId, ObjectHash, PackId, SessionId, SignerKey, VaultId};
use backstay_vault::chunk::ChunkClass;
use backstay_vault::collections::Collections;
use backstay_vault::index::{Belief, ChunkIndex, IndexFolder, IndexLimits, IndexOrigin, Standing};
use backstay_vault::index_object::{IndexAuthor, IndexObject, IndexedPack};
use backstay_vault::pack::PackEntry;
use backstay_vault::pack_keys::PackKeys;
use serde_json::{Value, json};

use crate::measure::anonymous_bytes;
use crate::random::Random;

/// What the index of 100 million chunks may take of memory, bytes; of fewer, as much less for each.
const MEMORY_MAX: u64 = 1 << 30;
/// The number of chunks that belongs to it.
const MEMORY_CHUNKS: u64 = 100_000_000;
/// Warm lookups that one machine answers at least, of chunks that are there and of others, with one thread or two.
const LOOKUPS_PER_SECOND_MIN: f64 = 200_000.0;

/// Entries of one object: a capture of a few hundred gigabytes, or a custodian's list.
const OBJECT_ENTRIES: u64 = 1 << 19;
/// Chunks of one pack.
const PACK_CHUNKS: u64 = 128;
const RECORD_BYTES: u32 = 256 << 10;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
const VAULT: VaultId = VaultId::new([7; 16]);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Chunks of the vault.
    #[arg(long, default_value_t = MEMORY_CHUNKS, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    chunks: u64,
    /// The same seed gives the same chunks, on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lookups of each kind.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    lookups: u64,
    /// Where the index lies while it is measured: 60 bytes a chunk, and as much again while it is merged
    /// [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Write every figure to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints, and fails where a bound is not held.
pub(crate) fn run(options: &Options) -> Result<()> {
    let work = options.work.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("backstay-index-").tempdir_in(work)?;
    println!("seed {}, {} chunks, {}", options.seed, options.chunks, folder.path().display());
    let memory = Memory::default();
    let figures = thread::scope(|scope| {
        let sampler = scope.spawn(|| memory.sample());
        let figures = measure(options, folder.path(), &memory);
        memory.is_over.store(true, Ordering::Release);
        sampler.join().expect("sampling does not panic");
        figures
    })?;
    print!("{}", figures.table(options.chunks));
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&figures.json(options))? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match figures.bounds(options.chunks).iter().all(|bound| bound.is_held) {
        true => Ok(()),
        false => bail!("a bound is not held"),
    }
}

#[derive(Debug, Default)]
struct Figures {
    build_seconds: f64,
    reopen_seconds: f64,
    walk_seconds: f64,
    peak_build_bytes: u64,
    peak_bytes: u64,
    reopened_bytes: u64,
    disk_bytes: u64,
    false_positives: f64,
    /// Present and absent, one thread; present and absent, two threads.
    lookups_per_second: [f64; 4],
}

struct Bound {
    says: String,
    is_held: bool,
}

fn measure(options: &Options, folder: &Path, memory: &Memory) -> Result<Figures> {
    let mut figures = Figures::default();
    let chunks = Chunks { seed: Random::new(options.seed, "index").next(), count: options.chunks };
    let before = anonymous_bytes()?;
    let mut index = ChunkIndex::new();
    index.keep_in(folder, VAULT, IndexFolder::Own, IndexLimits::default());
    let mut building = Duration::ZERO;
    for (number, first) in (0u64..).zip((0..chunks.count).step_by(OBJECT_ENTRIES as usize)) {
        let object = chunks.object(first);
        let start = Instant::now();
        index.add(origin(number), &object, Belief::Writers);
        index.tidy();
        building += start.elapsed();
        if number % 16 == 15 {
            eprintln!("{:6.1} s  {} chunks", building.as_secs_f64(), first + OBJECT_ENTRIES);
        }
    }
    let start = Instant::now();
    index.keep_what_is_worth_it();
    index.tidy();
    figures.build_seconds = (building + start.elapsed()).as_secs_f64();
    figures.peak_build_bytes = memory.peak().saturating_sub(before);
    drop(index);

    let start = Instant::now();
    let mut index = ChunkIndex::new();
    index.keep_in(folder, VAULT, IndexFolder::Own, IndexLimits::default());
    let listed: Vec<_> = index
        .objects()
        .into_iter()
        .map(|(object, _)| (object.origin.hash, Standing::Listed(Belief::Writers)))
        .collect();
    index.settle(None, &listed);
    figures.reopen_seconds = start.elapsed().as_secs_f64();
    figures.reopened_bytes = anonymous_bytes()?.saturating_sub(before);
    figures.disk_bytes = warm(folder)?;

    let absent = chunks.count..chunks.count + options.lookups;
    figures.false_positives = absent.map(|number| index.looks_for(&chunks.id(number))).sum::<usize>() as f64
        / options.lookups as f64;
    // The processor's caches as well.
    ask(&index, chunks, options.lookups.div_ceil(10), 1, true)?;
    for (place, threads) in [1, 1, 2, 2].into_iter().enumerate() {
        let is_present = place % 2 == 0;
        figures.lookups_per_second[place] = ask(&index, chunks, options.lookups, threads, is_present)?;
    }
    let start = Instant::now();
    let snapshot = index.snapshot();
    let mut all = snapshot.chunks()?;
    let mut found = 0;
    while all.advance()?.is_some() {
        found += 1;
    }
    figures.walk_seconds = start.elapsed().as_secs_f64();
    if found != chunks.count {
        bail!("{found} chunks were found of {}", chunks.count);
    }
    figures.peak_bytes = memory.peak().saturating_sub(before);
    Ok(figures)
}

/// Looks chunks up in random order; how many a second.
fn ask(index: &ChunkIndex, chunks: Chunks, lookups: u64, threads: u64, is_present: bool) -> Result<f64> {
    let none = Collections::default();
    let start = Instant::now();
    let wrong = thread::scope(|scope| {
        let asker = |thread: u64| {
            let none = &none;
            scope.spawn(move || {
                let mut random = Random::new(thread, "lookups");
                let mut wrong = 0;
                for _ in 0..lookups / threads {
                    let number = random.below(chunks.count) + if is_present { 0 } else { chunks.count };
                    wrong += u64::from(index.writer_has(&chunks.id(number), none) != is_present);
                }
                wrong
            })
        };
        let askers: Vec<_> = (0..threads).map(asker).collect();
        askers.into_iter().map(|asker| asker.join().expect("asking does not panic")).sum::<u64>()
    });
    match wrong {
        0 => Ok((lookups / threads * threads) as f64 / start.elapsed().as_secs_f64()),
        wrong => bail!("{wrong} of {lookups} answers are wrong"),
    }
}

/// Chunks of which nothing is kept but a number.
#[derive(Clone, Copy)]
struct Chunks {
    seed: u64,
    count: u64,
}

impl Chunks {
    fn id(self, number: u64) -> ChunkId {
        let mut id = [0; 32];
        let mut random = Random::of_number(self.seed, number);
        random.fill(&mut id);
        ChunkId::new(id)
    }

    /// The object that begins with this chunk.
    fn object(self, first: u64) -> IndexObject {
        let numbers: Vec<u64> = (first..self.count.min(first + OBJECT_ENTRIES)).collect();
        let packs = numbers.chunks(PACK_CHUNKS as usize).map(|numbers| {
            let pack = *self.id(u64::MAX - numbers[0]).as_bytes();
            let bytes = PACK_CHUNKS as u32 * RECORD_BYTES;
            let keys = PackKeys::of([KeyId::new([1; 16])]).expect("one key");
            let pack = IndexedPack { id: PackId::new(pack), class: ChunkClass::Data, bytes, keys };
            let entry = |(place, number): (u32, &u64)| PackEntry {
                id: self.id(*number),
                offset: place * RECORD_BYTES,
                length: RECORD_BYTES,
                plain_length: 2 * RECORD_BYTES,
            };
            (pack, (0u32..).zip(numbers).map(entry).collect())
        });
        let packs: Vec<_> = packs.collect();
        IndexObject::of_packs(IndexAuthor::Session, CollectionNumber::NONE, &packs)
    }
}

fn origin(number: u64) -> IndexOrigin {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    let (session, signer) = (SessionId::new([1; 16]), SignerKey::new([2; 32]));
    IndexOrigin { hash: ObjectHash::new(hash), session, signer }
}

/// Reads all files once, so that the page cache has what fits; their bytes.
fn warm(folder: &Path) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let mut file = File::open(entry?.path())?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(bytes)
}

/// The greatest anonymous memory of this process so far.
#[derive(Default)]
struct Memory {
    peak: AtomicU64,
    is_over: AtomicBool,
}

impl Memory {
    fn sample(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            self.peak();
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    fn peak(&self) -> u64 {
        let now = anonymous_bytes().unwrap_or_default();
        self.peak.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

impl Figures {
    fn bounds(&self, chunks: u64) -> [Bound; 2] {
        // What does not grow with the chunks, like the table of what is new, is not for fewer of them to be blamed.
        let memory_max = (MEMORY_MAX as f64 * chunks.max(MEMORY_CHUNKS) as f64 / MEMORY_CHUNKS as f64) as u64;
        let [present, absent, present_of_two, absent_of_two] = self.lookups_per_second;
        let slowest = present.max(present_of_two).min(absent.max(absent_of_two));
        [
            Bound {
                says: format!(
                    "anonymous memory {} MiB, at most {} MiB",
                    self.peak_bytes >> 20,
                    memory_max >> 20
                ),
                is_held: self.peak_bytes <= memory_max,
            },
            Bound {
                says: format!(
                    "{slowest:.0} warm lookups/s on this machine, at least {LOOKUPS_PER_SECOND_MIN:.0}"
                ),
                is_held: slowest >= LOOKUPS_PER_SECOND_MIN,
            },
        ]
    }

    fn table(&self, chunks: u64) -> String {
        let a_chunk = |bytes: u64| bytes as f64 / chunks as f64;
        let memory = |name: &str, bytes: u64| {
            format!("{name:42} {:8} MiB, {:.2} bytes a chunk\n", bytes >> 20, a_chunk(bytes))
        };
        let mut text = format!("{:42} {:8.1} s\n", "built from decoded objects", self.build_seconds);
        text += &format!("{:42} {:8.2} s\n", "opened again from disk", self.reopen_seconds);
        text += &format!("{:42} {:8.1} s\n", "gone through in order of id", self.walk_seconds);
        text += &memory("peak anonymous memory while built", self.peak_build_bytes);
        text += &memory("peak anonymous memory of all", self.peak_bytes);
        text += &memory("anonymous memory when opened again", self.reopened_bytes);
        text += &memory("on disk", self.disk_bytes);
        text +=
            &format!("{:42} {:8.2} %\n", "absent chunks looked for in vain", self.false_positives * 100.0);
        let kinds = ["present, 1 thread", "absent, 1 thread", "present, 2 threads", "absent, 2 threads"];
        for (kind, rate) in kinds.into_iter().zip(self.lookups_per_second) {
            text += &format!("{:42} {rate:8.0} lookups/s\n", kind);
        }
        for bound in self.bounds(chunks) {
            text += &format!("{}: {}\n", if bound.is_held { "held" } else { "NOT HELD" }, bound.says);
        }
        text
    }

    fn json(&self, options: &Options) -> Value {
        json!({
            "bench": "index",
            "seed": options.seed,
            "chunks": options.chunks,
            "lookups": options.lookups,
            "build_seconds": self.build_seconds,
            "reopen_seconds": self.reopen_seconds,
            "walk_seconds": self.walk_seconds,
            "peak_build_bytes": self.peak_build_bytes,
            "peak_bytes": self.peak_bytes,
            "reopened_bytes": self.reopened_bytes,
            "disk_bytes": self.disk_bytes,
            "false_positives": self.false_positives,
            "lookups_per_second": self.lookups_per_second,
            "bounds": self.bounds(options.chunks).map(|b| json!({ "says": b.says, "is_held": b.is_held })),
            "machine": crate::machine::describe(options.work.as_deref().unwrap_or("/tmp".as_ref())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_index_is_measured_and_answers_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options { chunks: 200_000, seed: 3, lookups: 2000, work: None, json: None };
        let figures = measure(&options, folder.path(), &Memory::default()).expect("measures");
        assert!(figures.disk_bytes > 200_000 * 48, "{figures:?}");
        assert!(figures.false_positives < 0.02, "{figures:?}");
        assert!(figures.table(200_000).contains("lookups/s"));
    }

    #[test]
    fn a_bound_that_is_not_held_is_named() {
        let figures =
            Figures { peak_bytes: 2 << 30, lookups_per_second: [300_000.0; 4], ..Figures::default() };
        assert_eq!(figures.bounds(MEMORY_CHUNKS).map(|bound| bound.is_held), [false, true]);
        assert!(figures.table(MEMORY_CHUNKS).contains("NOT HELD: anonymous memory 2048 MiB"));
    }
}
