//! Packs, records and index objects (docs/format.md, sections 5 and 6).

use backstay_core::id::{ChunkId, PackId};
use backstay_vault::index_object::IndexObject;
use backstay_vault::pack::{PackEntry, read_contents, read_pack, salvage};
use backstay_vault::record::{HEADER_BYTES, MARK, RecordHeader, open_record};

use crate::keys::{DATA_KEY, DOMAIN, META_KEY, RING, seal};

/// A whole pack, as a store gives it.
pub fn pack(data: &[u8]) {
    read(data);
}

/// A pack whose table of contents is `data` from the third byte on; its records are filled with the first byte, so many
/// hundreds as the second says.
pub fn sealed_pack(data: &[u8]) {
    let Some(([fill, hundreds], entries)) = data.split_first_chunk() else { return };
    let mut pack = b"BKSPACK\0\0\x01\0\0\0\0\0\0".to_vec();
    pack.extend_from_slice(&[9; 16]);
    let head = pack.clone();
    pack.extend(std::iter::repeat_n(*fill, usize::from(*hundreds) * 100));
    let nonce = [3; 12];
    let sealed = seal(META_KEY, &[b"backstay footer 0\0", &head[16..]], nonce, &[&DOMAIN, &head], entries);
    let foot = [[META_KEY; 16].as_slice(), &nonce, &sealed].concat();
    pack.extend_from_slice(&foot);
    pack.extend_from_slice(&(foot.len() as u32).to_le_bytes());
    pack.extend_from_slice(b"BKSFOOT\0");
    read(&pack);
}

fn read(pack: &[u8]) {
    let id = PackId::new(*blake3::hash(pack).as_bytes());
    if let Ok((_, entries)) = read_contents(&RING, pack) {
        check_places(&entries, pack.len());
    }
    let _ = read_pack(&RING, id, pack.to_vec().into());
    check_found(&salvage(pack), pack.len());
}

/// A length may be what is damaged: what is found may reach into what follows it.
fn check_found(entries: &[PackEntry], length: usize) {
    assert!(entries.windows(2).all(|pair| pair[0].offset < pair[1].offset), "found in order, each once");
    let ends = entries.iter().map(|entry| entry.offset as usize + entry.length as usize);
    assert!(ends.max().is_none_or(|end| end <= length), "a record ends after its pack");
}

fn check_places(entries: &[PackEntry], length: usize) {
    let mut end = 0;
    for entry in entries {
        assert!(entry.offset as usize >= end, "records overlap");
        end = entry.offset as usize + entry.length as usize;
        assert!(end <= length, "a record ends after its pack");
    }
}

/// A record, as it lies in a pack.
pub fn record(data: &[u8]) {
    if let Ok(header) = RecordHeader::decode(data) {
        open(&header.id, data, header.plain_length);
    }
}

/// A record that is well sealed; `data` says its codec, its plain length (u32), and its contents.
pub fn sealed_record(data: &[u8]) {
    let Some((fields, contents)) = data.split_first_chunk::<5>() else { return };
    let chunk = [4; 32];
    let mut record = MARK.to_vec();
    record.extend_from_slice(&((HEADER_BYTES + contents.len() + 16) as u32).to_le_bytes());
    record.extend_from_slice(&[1, fields[0] % 3, 0, 0]);
    record.extend_from_slice(&fields[1..]);
    record.extend_from_slice(&[DATA_KEY; 16]);
    let nonce = [3; 12];
    record.extend_from_slice(&nonce);
    record.extend_from_slice(&chunk);
    let associated: [&[u8]; 3] = [&DOMAIN, &record[12..36], &chunk];
    let sealed = seal(DATA_KEY, &[b"backstay record 0\0", &chunk], nonce, &associated, contents);
    record.extend_from_slice(&sealed);
    open(&ChunkId::new(chunk), &record, u32::from_le_bytes([fields[1], fields[2], fields[3], fields[4]]));
}

fn open(id: &ChunkId, record: &[u8], plain_length: u32) {
    if let Ok(plain) = open_record(&RING, id, record) {
        assert_eq!(plain.len(), plain_length as usize);
    }
}

/// The payload of an index object.
pub fn index(data: &[u8]) {
    if let Ok(object) = IndexObject::decode(data) {
        assert_eq!(IndexObject::decode(&object.encode()), Ok(object));
    }
}
