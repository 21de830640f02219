//! Writes one or more valid inputs for every target into `corpus/`, made by the writers of the formats: what
//! mutations begin with. To be run when a format has changed; inputs that were added by hand stay.

mod kit;
mod peers;

use std::fs;
use std::path::Path;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{
    BranchId, ChunkId, ContentId, JournalId, KeyId, LinkId, ObjectHash, PackId, PointId, SessionId,
};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::proof::{Place, Proof, ProofLevel, Round, Share, Summary};
use backstay_core::run::{Change, Entry, PartRef};
use backstay_core::units::Timestamp;
use backstay_files::keys::{PathKey, further_key, link_key};
use backstay_files::row::{
    Attribute, AttributeName, AttributeValue, Attributes, HeadRow, Meta, Object, Permissions, Reference,
    Restored, RowFacts, Seen, SymlinkTarget, encode_further,
};
use backstay_files::stat::{FileTime, Identity};
use backstay_fuzz::keys::{FIXTURE, RING, bundle};
use backstay_fuzz::{SEALED_SEGMENT_HEAD_BYTES, SEGMENT_VAULT, SOURCE, TARGETS, sample_vault};
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::buffer::BufferPool;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::commit_object::{BadList, GcRecord, SessionObject};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::index::{IndexOrigin, write_segment};
use backstay_vault::index_object::{IndexAuthor, IndexObject, IndexedPack};
use backstay_vault::malformed::encode_cbor;
use backstay_vault::name::Named;
use backstay_vault::pack::{Pack, PackBuilder, PackEntry};
use backstay_vault::pack_keys::PackKeys;
use backstay_vault::record::{RecordHeader, RecordSealer};
use backstay_vault::table::{BlockBuilder, MetaSink, PartWriter};
use backstay_wire::control::{Ask, Request, VERSION};
use backstay_wire::secret::SecretText;
use backstay_wire::upkeep::{KeyRecipient, KeyRole, OldKeys, Upkeep};

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut seeds = Vec::new();
    records_and_packs(&mut seeds);
    segments(&mut seeds);
    tables(&mut seeds);
    envelopes(&mut seeds);
    clear_text(&mut seeds);
    peers::messages(&mut seeds);
    peers::listings(&mut seeds);
    peers::fleets(&mut seeds);
    rows(&mut seeds);
    kit::typed(&mut seeds);
    for target in TARGETS {
        assert!(seeds.iter().any(|(name, ..)| *name == target.name), "{} has no seed", target.name);
    }
    for (target, name, bytes) in seeds {
        assert!(TARGETS.iter().any(|known| known.name == target), "{target} is no target");
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("the corpus can be written");
        fs::write(folder.join(name), bytes).expect("the corpus can be written");
    }
}

/// Target, name of the input, input.
type Seeds = Vec<(&'static str, &'static str, Vec<u8>)>;

fn sample_pack() -> Pack {
    let mut builder = PackBuilder::new(ChunkClass::Data);
    for plain in [b"stored".to_vec(), b"compressed ".repeat(20)] {
        let id = RING.chunk_id(ChunkClass::Data, &plain).expect("a full ring");
        let mut sealer = RecordSealer::new();
        let record = sealer.seal(&RING, ChunkClass::Data, id, &plain).expect("seals");
        builder.add(&RecordHeader::decode(record).expect("sealed"), record);
    }
    builder.close(&RING, &BufferPool::new(1)).name()
}

fn records_and_packs(seeds: &mut Seeds) {
    let pack = sample_pack();
    for (name, entry) in ["one", "other"].into_iter().zip(&pack.entries) {
        let record = &pack.content[entry.offset as usize..][..entry.length as usize];
        seeds.push(("record", name, record.to_vec()));
    }
    seeds.push(("pack", "two-records", pack.content.to_vec()));
    let entries = |places: &[(u32, u32)]| -> Vec<u8> {
        let entry = |(offset, length): &(u32, u32)| {
            [[7; 32].as_slice(), &offset.to_le_bytes(), &length.to_le_bytes(), &100u32.to_le_bytes()].concat()
        };
        [vec![0, 4], places.iter().flat_map(entry).collect()].concat()
    };
    seeds.push(("sealed_pack", "two-records", entries(&[(32, 200), (232, 200)])));
    seeds.push(("sealed_pack", "overlapping", entries(&[(32, 200), (231, 200)])));
    seeds.push(("sealed_pack", "beyond", entries(&[(32, u32::MAX)])));
    let contents = |codec: u8, plain_length: u32, contents: &[u8]| {
        [&[codec], plain_length.to_le_bytes().as_slice(), contents].concat()
    };
    // RFC 8878: a frame of one segment with one block, stored or of one repeated byte.
    let frame = |size: u8, block: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size], block].concat();
    seeds.push(("sealed_record", "stored", contents(0, 5, b"hello")));
    seeds.push(("sealed_record", "compressed", contents(1, 15, &frame(5, b"\x29\0\0hello"))));
    seeds.push(("sealed_record", "repeated", contents(1, 200, &frame(200, &[0x43, 6, 0, b'x']))));
    seeds.push(("sealed_record", "promises-less", contents(1, 20, &frame(200, &[0x43, 6, 0, b'x']))));
    let (bytes, keys) = (pack.content.len() as u32, pack.keys);
    let indexed = IndexedPack { id: pack.id, class: pack.class, bytes, keys };
    for (name, author) in
        [("session", IndexAuthor::Session), ("custodian", IndexAuthor::Custodian { term: 1 })]
    {
        let object =
            IndexObject::of_packs(author, CollectionNumber::new(1), &[(indexed, pack.entries.clone())]);
        seeds.push(("index", name, object.encode()));
        seeds.push(("sealed_index", name, object.encode()));
    }
}

/// Segments of two index objects: of one block, and of three, also with the fences of the first and the last changed.
fn segments(seeds: &mut Seeds) {
    for (name, count) in [("one-block", 3u8), ("three-blocks", 100)] {
        let keys = PackKeys::of([KeyId::new([7; 16])]).expect("one key");
        let pack =
            |n: u8| IndexedPack { id: PackId::new([n; 32]), class: ChunkClass::Data, bytes: 1 << 20, keys };
        let entry = |n: u8| PackEntry {
            id: ChunkId::new(*blake3::hash(&[n]).as_bytes()),
            offset: 32 + 200 * u32::from(n),
            length: 200,
            plain_length: 104,
        };
        let object = |n: u8| {
            let origin = IndexOrigin {
                hash: ObjectHash::new([n; 32]),
                session: SessionId::new([n; 16]),
                signer: FIXTURE.signer().public(),
            };
            let packs = [(pack(n), (n..count).map(entry).collect())];
            let author = if n == 0 { IndexAuthor::Session } else { IndexAuthor::Custodian { term: 1 } };
            (origin, IndexObject::of_packs(author, CollectionNumber::new(1), &packs))
        };
        let objects = [object(0), object(1)];
        let bytes = write_segment(&objects, SEGMENT_VAULT).expect("memory takes it");
        let entries: usize = objects.iter().map(|(_, object)| object.entries.len()).sum();
        let parts = parts_of_segment(&bytes, entries, objects.len());
        if entries > 2 * 85 {
            let mut fall = parts.clone();
            // Behind the rows of objects and of packs, and the one of keys.
            let first = SEALED_SEGMENT_HEAD_BYTES + entries * 48 + objects.len() * (105 + 45) + 129;
            let (one, other) = fall[first..first + 24].split_at_mut(16);
            one[..8].swap_with_slice(other);
            seeds.push(("sealed_segment", "fences-fall", fall));
        }
        seeds.push(("sealed_segment", name, parts));
        seeds.push(("segment", name, bytes));
    }
}

/// What the target `sealed_segment` puts together to a file again. Each object has one pack, all sealed by one key.
fn parts_of_segment(bytes: &[u8], entries: usize, objects: usize) -> Vec<u8> {
    let (head, blocks) = bytes.split_at(4096);
    assert_eq!(head[56..64], (entries as u64).to_le_bytes(), "the head is another than it was");
    let count = entries.div_ceil(85);
    let held: Vec<u8> =
        blocks.chunks(4096).take(count).flat_map(|block| &block[..85 * 48]).copied().collect();
    let held = &held[..entries * 48];
    let mut parts = (entries as u64).to_le_bytes().to_vec();
    parts.extend_from_slice(&(objects as u32).to_le_bytes().repeat(2));
    parts.extend_from_slice(&1u32.to_le_bytes());
    parts.extend_from_slice(&(held.len() as u16).to_le_bytes());
    assert_eq!(parts.len(), SEALED_SEGMENT_HEAD_BYTES);
    [&parts, held, &blocks[count * 4096..]].concat()
}

/// Names chunks by their places, as the target `table` does. Place 0 is kept for the root.
struct Places(Vec<Vec<u8>>);

impl MetaSink for Places {
    type Error = ();

    fn put_meta(&mut self, plain: Vec<u8>) -> Result<ChunkId, ()> {
        self.0.push(plain);
        Ok(ChunkId::new([self.0.len() as u8; 32]))
    }
}

fn sample_table(entries: u32) -> (Vec<Vec<u8>>, PartRef) {
    let mut places = Places(Vec::new());
    let mut part = PartWriter::new();
    for n in 0..entries {
        let (key, value) = (format!("k{n:06}"), n.to_le_bytes());
        let change = if n % 7 == 3 { Change::Tombstone } else { Change::Put(&value) };
        let replaced = (n % 5 == 1).then(|| backstay_core::id::Element::new([n as u8; 32]));
        part.push(&RING, &mut places, &Entry { key: key.as_bytes(), change, replaced }).expect("takes all");
        part.refer(ChunkId::new([n as u8; 32]), 10);
    }
    let part = part.finish(&mut places).expect("takes all").expect("not empty");
    let root = places.0.pop().expect("the root is last");
    places.0.insert(0, root);
    (places.0, part)
}

fn tables(seeds: &mut Seeds) {
    for (name, entries) in [("one-block", 5), ("blocks", 2800)] {
        let (chunks, _) = sample_table(entries);
        let framed =
            chunks.iter().flat_map(|chunk| [(chunk.len() as u16).to_le_bytes().as_slice(), chunk].concat());
        seeds.push(("table", name, b"\0\0\0".iter().copied().chain(framed).collect()));
        seeds.push(("part_root", name, chunks[0].clone()));
        seeds.push(("index_block", name, chunks[chunks.len() - 2].clone()));
        seeds.push(("live_table", name, chunks[chunks.len() - 1].clone()));
    }
    let mut block = BlockBuilder::default();
    block.push(&Entry { key: b"", change: Change::Put(b"root"), replaced: None });
    block.push(&Entry { key: b"path", change: Change::Tombstone, replaced: None });
    block.push(&Entry { key: b"path/below", change: Change::Put(&[1; 200]), replaced: None });
    seeds.push(("block", "three", block.take()));
}

fn envelopes(seeds: &mut Seeds) {
    let vault = sample_vault();
    let source = RING.source_id(SOURCE);
    let catalogue = vault.catalogue(source).expect("the sample is whole");
    let point = &catalogue.points()[0];
    let common = encode_cbor(&point.common);
    let framed =
        [(common.len() as u16).to_le_bytes().as_slice(), &common, &encode_cbor(&point.vault_part)].concat();
    seeds.push(("sealed_point", "base", framed));
    let layout = Layout {
        generation: 1,
        term: 1,
        accepted: vec![Accepted {
            link: point.link,
            retention_time: Timestamp::EPOCH,
            holds: vec!["hold".into()],
        }],
        runs: vec![point.own_run()],
        decided: vec![point.vault_part.session],
        dropped: vec![],
        decided_below: CollectionNumber::new(1),
        collection: CollectionNumber::new(2),
        ..Layout::default()
    };
    seeds.push(("sealed_layout", "accepts", encode_cbor(&layout)));
    let layout = Layout { accepted: vec![], dropped: vec![point.link], ..layout };
    seeds.push(("sealed_layout", "drops", encode_cbor(&layout)));
    let (_, head) = catalogue.head.as_ref().expect("a capture writes a head");
    seeds.push(("sealed_head", "of-the-point", encode_cbor(head)));
    let share = Share {
        round: Round { start: Timestamp::EPOCH, end: Timestamp::EPOCH, bytes: 1, failures: 0 },
        next: Some(Place { part: ChunkId::new([5; 32]), key: b"key".to_vec() }),
        before: None,
    };
    let proof = Proof {
        source,
        source_name: "static.files".into(),
        level: ProofLevel::Data,
        node: "alpha".into(),
        start: Timestamp::EPOCH,
        end: Timestamp::from_nanos(9),
        point: Some(point.link),
        entries: 1,
        bytes: 1,
        failures: 1,
        told: vec!["what".into()],
        unproven: vec!["owners".into()],
        share: Some(share),
        others: vec![Summary {
            level: ProofLevel::Restore,
            start: Timestamp::EPOCH,
            end: Timestamp::EPOCH,
            failures: 2,
        }],
    };
    seeds.push(("sealed_proof", "share", encode_cbor(&proof)));
    let session = SessionId::new([1; 16]);
    let open_session = SessionObject {
        pins: vec![point.link.point],
        ..forge::open_session(session, &vault.trust().nodes[0].name, vec![source])
    };
    let record =
        GcRecord { index: vec![ObjectHash::new([4; 32])], ..forge::gc_record(1, vec![PackId::new([3; 32])]) };
    let lost =
        BadList { number: 1, term: 1, time: Timestamp::from_seconds(3), lost: vec![ChunkId::new([5; 32])] };
    let objects = [
        ("session", EnvelopeKind::Session, forge::session(&RING, FIXTURE.signer(), &open_session)),
        ("fence", EnvelopeKind::Fence, forge::fence(&RING, FIXTURE.signer(), session)),
        ("gc", EnvelopeKind::Gc, forge::gc(&RING, FIXTURE.signer(), &record)),
        ("bad", EnvelopeKind::Bad, forge::bad(&RING, FIXTURE.signer(), &lost)),
    ];
    for (which, (name, kind, object)) in (0u8..).zip(objects) {
        let payload = forge::payload_of(&RING, kind, &object);
        seeds.push(("sealed_commit", name, [&[which], payload.as_slice()].concat()));
        seeds.push(("envelope", name, [object.name.as_str().as_bytes(), &[0], &object.content].concat()));
    }
}

fn clear_text(seeds: &mut Seeds) {
    let vault = sample_vault();
    for (format, trust, name) in [
        (encode_cbor(vault.format()), encode_cbor(vault.trust()), ("format-cbor", "trust-cbor")),
        (
            forge::format(FIXTURE.admin(), 1, vault.format()).content.to_vec(),
            forge::trust(FIXTURE.admin(), vault.trust()).content.to_vec(),
            ("format", "trust"),
        ),
    ] {
        seeds.push(("clear", name.0, format));
        seeds.push(("clear", name.1, trust));
    }
    seeds.push(("bundle", "full", bundle().to_json().to_vec()));
    seeds.push(("bundle", "identity", FIXTURE.identity().to_file().into_bytes()));
    let (session, source, hash) = (SessionId::new([1; 16]), RING.source_id(SOURCE), ObjectHash::new([2; 32]));
    for (name, named) in [
        ("format", Named::Format(0)),
        ("trust", Named::Trust(3)),
        ("key", Named::Key("recovery-1".into())),
        ("pack", Named::Pack(PackId::new([0xab; 32]))),
        ("index", Named::Index(session, hash)),
        ("point", Named::Point(source, PointId::new([3; 16]), hash)),
        ("layout", Named::Layout(source, 2, hash)),
        ("head", Named::Head(source, 5, hash)),
        ("session", Named::Session(session)),
        ("fence", Named::Fence(session)),
        ("gc", Named::Gc(CollectionNumber::new(5), hash)),
        ("bad", Named::Bad(1, hash)),
        ("proof", Named::Proof(source, 1_750_000_000_000_000_000, hash)),
        ("journal", Named::Journal(source, BranchId::new([4; 16]), 6, JournalId::new([5; 16]))),
    ] {
        seeds.push(("name", name, named.to_name().to_string().into_bytes()));
    }
    seeds.push(("config", "single", [FLEET, NODE].concat().into_bytes()));
    seeds.push(("config", "split", [FLEET, "\0", NODE].concat().into_bytes()));
    let frame =
        |ask| backstay_wire::frame::encode(&Request { version: VERSION, ask }).expect("short").to_vec();
    seeds.push(("frame", "status", frame(Ask::Status)));
    seeds.push(("frame", "now", frame(Ask::Now { sources: vec!["static.files".into()], hold: None })));
    let to = KeyRecipient { recipient: "age1x".into(), role: KeyRole::Custodian };
    let rotate = Upkeep::RotateKeys {
        recovery: Some(SecretText::new("AGE-SECRET-KEY-1X".into())),
        recipients: [("anna".to_owned(), to)].into(),
        old: OldKeys::Compromised,
    };
    seeds.push(("frame", "rotate_keys", frame(Ask::Upkeep(rotate))));
    let undelete = Upkeep::Undelete {
        vault: "local".into(),
        points: vec!["4f2a77c1".into()],
        source: None,
        hold: Some("undeleted".into()),
    };
    seeds.push(("frame", "undelete", frame(Ask::Upkeep(undelete))));
}

const FLEET: &str = r#"[fleet]
name = "home"
nodes = { nullstone = "100.64.0.2:7420" }
[vault.local]
kind = "dir"
path = "/srv/backstay/vault"
[policy.default]
to = ["local"]
rpo = "15m"
keep = { all = "1h", daily = 30 }
[service.static]
primary = "nullstone"
files = { path = "/srv/static", exclude = ["**/.cache/**"] }
"#;

const NODE: &str = r#"[node]
name = "nullstone"
state = "/var/lib/backstay"
metrics = "127.0.0.1:9420"
"#;

fn rows(seeds: &mut Seeds) {
    let time = FileTime::new(1_700_000_000, 5).expect("in range");
    let attribute = |name: &[u8], value| Attribute { name: AttributeName::new(name).expect("a name"), value };
    let attributes = vec![
        attribute(b"user.large", AttributeValue::Large { length_bytes: 5000, id: ContentId::new([5; 32]) }),
        attribute(b"user.small", AttributeValue::Inline(vec![1, 2, 3].into())),
    ];
    let meta = Meta {
        mode: Permissions::new(0o755).expect("in range"),
        uid: 1000,
        gid: 1000,
        mtime: time,
        attributes: Attributes::new(attributes).expect("in order"),
    };
    let reference = |offset_bytes, length_bytes| Reference {
        offset_bytes,
        chunk: ChunkId::new(Random::new(offset_bytes).bytes(32).try_into().expect("32")),
        chunk_offset_bytes: 7,
        length_bytes,
    };
    let facts = RowFacts {
        seen: Some(Seen { ctime: time, identity: Identity { device: 1, inode: 2 } }),
        user: Some("owner".into()),
        references: vec![reference(0, 100), reference(4096, 1000)],
        attribute_references: vec![reference(0, 5000)],
        ..RowFacts::default()
    };
    let file = Object::file(5096, ContentId::new([6; 32])).expect("in range");
    let symlink = Object::Symlink(SymlinkTarget::new(b"../target").expect("a target"));
    let unreferenced = RowFacts { references: vec![], ..facts.clone() };
    let rows = [
        ("file", Restored::Object { object: file, meta: meta.clone() }, facts),
        (
            "directory",
            Restored::Object { object: Object::Directory, meta: meta.clone() },
            unreferenced.clone(),
        ),
        ("symlink", Restored::Object { object: symlink, meta }, unreferenced),
        ("link", Restored::Link(LinkId::new([9; 16])), RowFacts::default()),
    ];
    for (name, restored, facts) in rows {
        let value = HeadRow { restored, facts }.encode().expect("within the bounds");
        seeds.push(("files_row", name, value));
    }
    let further = encode_further(&[reference(1 << 20, 4096), reference(1 << 21, 10)]).expect("in order");
    seeds.push(("files_further_row", "two", [(1u64 << 20).to_le_bytes().as_slice(), &further].concat()));
    let path = PathKey::from_components([b"directory".as_slice(), b"file"]).expect("a path");
    seeds.push(("files_key", "path", path.as_bytes().to_vec()));
    seeds.push(("files_key", "further", further_key(path.as_bytes(), 1 << 20)));
    seeds.push(("files_key", "link", link_key(&LinkId::new([9; 16]))));
}
