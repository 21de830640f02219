//! What the steps of the pipeline cost by themselves, one core: `cargo xtask bench steps`. Splitting, naming, sealing
//! and opening count bytes; the state digest counts elements.

use std::sync::LazyLock;

use backstay_core::digest::StateDigest;
use backstay_core::id::{ChunkId, Element};
use backstay_vault::chunk::ChunkClass;
use backstay_vault::keys::{Bundle, KeyRing};
use backstay_vault::record::{RecordOpener, RecordSealer};
use backstay_vault::split::Gear;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::new(&Bundle::generate()));

/// Lengths of chunks: a group of small files, and one of a large file.
const LENGTHS: [usize; 2] = [256 << 10, 1 << 20];

/// The same bytes in every run.
const SEED: u64 = 1;

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&SEED.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Half of it repeats what came before, in pieces of 32 bytes.
fn compressible(length: usize) -> Vec<u8> {
    let mut bytes = noise(length);
    for place in (64..length - 64).step_by(64) {
        let from = (usize::from(bytes[place]) * 31) % place;
        bytes.copy_within(from..from + 32, place);
    }
    bytes
}

fn name(plain: &[u8]) -> ChunkId {
    RING.chunk_id(ChunkClass::Data, plain).expect("a full ring")
}

fn main() {
    divan::main();
}

#[divan::bench]
fn split(bencher: Bencher<'_, '_>) {
    let gear = Gear::new(RING.cut_key().expect("a full ring"));
    let data = noise(16 << 20);
    bencher.counter(BytesCount::of_slice(&data)).bench(|| {
        let mut rest = &data[..];
        while let Some(length) = gear.cut(black_box(rest)) {
            rest = &rest[length..];
        }
        rest.len()
    });
}

#[divan::bench(args = LENGTHS)]
fn name_a_chunk(bencher: Bencher<'_, '_>, length: usize) {
    let plain = noise(length);
    bencher.counter(BytesCount::of_slice(&plain)).bench(|| name(black_box(&plain)));
}

#[divan::bench(args = LENGTHS)]
fn seal_what_is_compressible(bencher: Bencher<'_, '_>, length: usize) {
    seal(bencher, &compressible(length));
}

#[divan::bench(args = LENGTHS)]
fn seal_noise(bencher: Bencher<'_, '_>, length: usize) {
    seal(bencher, &noise(length));
}

fn seal(bencher: Bencher<'_, '_>, plain: &[u8]) {
    let id = name(plain);
    let mut sealer = RecordSealer::new();
    bencher
        .counter(BytesCount::of_slice(plain))
        .bench_local(|| sealer.seal(&RING, ChunkClass::Data, id, black_box(plain)).map(<[u8]>::len));
}

#[divan::bench(args = LENGTHS)]
fn open(bencher: Bencher<'_, '_>, length: usize) {
    let plain = compressible(length);
    let id = name(&plain);
    let record = RecordSealer::new().seal(&RING, ChunkClass::Data, id, &plain).expect("seals").to_vec();
    let mut opener = RecordOpener::new();
    bencher
        .counter(BytesCount::of_slice(&plain))
        .bench_local(|| opener.open(&RING, &id, black_box(&record)).map(<[u8]>::len));
}

#[divan::bench]
fn add_to_the_state_digest(bencher: Bencher<'_, '_>) {
    let elements: Vec<Element> =
        (0..1000u64).map(|n| Element::new(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
    bencher.counter(ItemsCount::new(elements.len())).bench(|| {
        let mut digest = StateDigest::empty();
        elements.iter().for_each(|element| digest.add(black_box(element)));
        digest
    });
}
