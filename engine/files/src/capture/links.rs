//! Objects with several names: each is read once, when its first name comes by, and its row waits here until the
//! end, because rows of links sort before all paths. Bounded memory: rows spill to disk.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use backstay_core::id::LinkId;
use backstay_core::run::{Change, Entry, PartRef};
use backstay_vault::keys::KeyRing;
use backstay_vault::table::PartWriter;
use backstay_vault::write::ChunkWriter;

use super::problem::CaptureError;
use super::rows;
use super::sink::{NewRow, RowSink};
use crate::heads::{FoundRow, HeadRows, KeyValue};
use crate::keys::{HeadKey, is_further, link_key, split_further};
use crate::row::{HeadRow, Restored, decode_further, element};
use crate::spill::{HELD_BYTES_DEFAULT, Sorted, Spill};
use crate::stat::{FileStat, FileTime, Identity};
use crate::state::State;

/// A generation of a row: its further rows carry the same, so that those of a row that was pushed
/// before count for nothing.
type Generation = u32;

/// What was spilled for one file.
#[derive(Debug)]
enum Spilled {
    /// The old row stays.
    Kept,
    /// It has this row.
    Put { value: Vec<u8>, further: Vec<KeyValue> },
}

/// Which of its names one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// The object is to be read now.
    First,
    /// It was.
    Further,
}

/// Why an object has no row of this scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It was gone under the names that came by; another may still lead to it.
    Vanished,
    /// It cannot be read, under any name.
    Refused,
}

/// An object of which a name was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    id: LinkId,
    /// Another one has another object that got the inode meanwhile, or the object changed.
    ctime: FileTime,
}

/// Objects with several names that the walk has seen.
#[derive(Debug)]
pub(super) struct LinkRows {
    spill: Spill,
    generation: Generation,
    /// Also those all of whose names were seen: another object may get the inode before the scan has ended.
    seen: HashMap<Identity, Seen>,
    unread: HashMap<LinkId, Unread>,
}

/// Follows a link's key in the record which says that a name keeps it: sorts behind its rows, and hides none of them.
const NAMED_MARK: u8 = 0xff;

impl LinkRows {
    pub(super) fn new(folder: &Path) -> Self {
        let spill = Spill::new(folder, HELD_BYTES_DEFAULT);
        Self { spill, generation: 0, seen: HashMap::new(), unread: HashMap::new() }
    }

    /// Whose name this is, and which. An object that changes between two of its names is read again for those that
    /// follow, under another id: it may be another one that was given the inode. The next scan finds them together.
    pub(super) fn name(&mut self, stat: &FileStat, ring: &KeyRing) -> (LinkId, Name) {
        let Some(seen) = self.seen.get_mut(&stat.identity) else {
            let id = rows::link_id(ring, stat.identity, None);
            self.seen.insert(stat.identity, Seen { id, ctime: stat.ctime });
            return (id, Name::First);
        };
        if seen.ctime != stat.ctime {
            let id = rows::link_id(ring, stat.identity, Some(stat.ctime));
            *seen = Seen { id, ctime: stat.ctime };
            return (id, Name::First);
        }
        (seen.id, Name::Further)
    }

    /// Objects of the state before to which names lead that an interrupted capture has kept: what has their inodes by now
    /// is not taken for them.
    pub(super) fn keep_known(
        &mut self,
        previous: &State,
        kept: &HashSet<LinkId>,
    ) -> Result<(), CaptureError> {
        let mut rows = HeadRows::new(previous.links()?);
        while let Some(row) = rows.next()? {
            let seen = HeadRow::decode(&row.value)?.facts.seen;
            if let (Some(seen), HeadKey::Link(id)) = (seen, HeadKey::parse(&row.key)?)
                && kept.contains(&id)
            {
                self.seen.entry(seen.identity).or_insert(Seen { id, ctime: seen.ctime });
            }
        }
        Ok(())
    }

    /// The object is as it was.
    pub(super) fn keep(&mut self, id: &LinkId) -> Result<(), CaptureError> {
        Ok(self.spill.push(&link_key(id), &[])?)
    }

    /// An old name stays without having been looked at: its object stays, unless it is seen elsewhere.
    pub(super) fn still_named(&mut self, name: &FoundRow) -> Result<(), CaptureError> {
        match HeadRow::decode(&name.value)?.restored {
            Restored::Link(id) => {
                let mut key = link_key(&id);
                key.push(NAMED_MARK);
                Ok(self.spill.push(&key, &[])?)
            }
            Restored::Object { .. } => Ok(()),
        }
    }

    /// The file has a new row.
    pub(super) fn put(&mut self, id: &LinkId, new: NewRow) -> Result<(), CaptureError> {
        self.unread.remove(id);
        let further = if new.further.is_empty() { new.kept_further } else { new.further };
        self.put_rows(&new.key, &new.row.encode()?, &further)
    }

    /// The file has this row in a partial point from which the capture goes on.
    pub(super) fn take_over(&mut self, row: &FoundRow) -> Result<(), CaptureError> {
        let seen = HeadRow::decode(&row.value)?.facts.seen;
        if let (Some(seen), HeadKey::Link(id)) = (seen, HeadKey::parse(&row.key)?) {
            self.seen.insert(seen.identity, Seen { id, ctime: seen.ctime });
        }
        self.put_rows(&row.key, &row.value, &row.further)
    }

    pub(super) fn set_unread(&mut self, id: LinkId, why: Unread) {
        self.unread.insert(id, why);
    }

    /// Why the object has no row of this scan; `None` when it has one, or will.
    pub(super) fn unread(&self, id: &LinkId) -> Option<Unread> {
        self.unread.get(id).copied()
    }

    /// The part of the run with what was put so far, for a partial point.
    pub(super) fn part_so_far(
        &mut self,
        previous: Option<&State>,
        ring: &KeyRing,
        chunks: &mut ChunkWriter,
    ) -> Result<Option<PartRef>, CaptureError> {
        let mut part = PartWriter::new();
        self.for_each(previous, |key, old, spilled| {
            if let Some(Spilled::Put { value, further }) = spilled {
                push_part(&mut part, ring, chunks, &key, &value, &further, old.as_ref())?;
            }
            Ok(())
        })?;
        Ok(part.finish(chunks)?)
    }

    /// The part of the run with all changes; the sink learns of them.
    pub(super) fn finish(
        &mut self,
        previous: Option<&State>,
        ring: &KeyRing,
        sink: &mut RowSink<'_>,
        chunks: &mut ChunkWriter,
    ) -> Result<Option<PartRef>, CaptureError> {
        let mut changed = false;
        self.for_each(previous, |_, old, spilled| {
            changed |= differs(old.as_ref(), spilled.as_ref());
            Ok(())
        })?;
        if changed {
            sink.begin_change(None)?;
        }
        let mut part = PartWriter::new();
        self.for_each(previous, |key, old, spilled| match (old, spilled) {
            (Some(old), Some(Spilled::Kept)) => sink.state_link(&old),
            // A name that was kept, of a file that no point has: nothing can be said of it.
            (None, Some(Spilled::Kept) | None) => Ok(()),
            (old, Some(Spilled::Put { value, further })) => {
                let row = FoundRow { key, value, further };
                if old.as_ref() != Some(&row) {
                    let replaced = old.as_ref().map(|old| element(&old.key, &old.value)).transpose()?;
                    sink.exchange(replaced, Some(element(&row.key, &row.value)?));
                    push_part(&mut part, ring, chunks, &row.key, &row.value, &row.further, old.as_ref())?;
                }
                sink.state_link(&row)
            }
            (Some(old), None) => {
                let replaced = Some(element(&old.key, &old.value)?);
                sink.exchange(replaced, None);
                part.push(ring, chunks, &Entry { key: &old.key, change: Change::Tombstone, replaced })?;
                Ok(())
            }
        })?;
        Ok(part.finish(chunks)?)
    }

    fn put_rows(&mut self, key: &[u8], value: &[u8], further: &[KeyValue]) -> Result<(), CaptureError> {
        self.generation += 1;
        let generation = self.generation.to_le_bytes();
        self.spill.push(key, &[&generation, value].concat())?;
        for (key, value) in further {
            self.spill.push(key, &[&generation, value.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Goes through all files of the state before and of this scan, in order.
    fn for_each(
        &mut self,
        previous: Option<&State>,
        mut each: impl FnMut(Vec<u8>, Option<FoundRow>, Option<Spilled>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let mut old = previous.map(State::links).transpose()?.map(HeadRows::new);
        let mut next_old = || old.as_mut().map_or(Ok(None), HeadRows::next);
        let mut new = NewLinks { rows: self.spill.sorted()?, next: None };
        let (mut from_old, mut from_new) = (next_old()?, new.next()?);
        loop {
            let order = match (&from_old, &from_new) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some((key, _))) => old.key.cmp(key),
            };
            let old_row = if order.is_le() { from_old.take() } else { None };
            let new_row = if order.is_ge() { from_new.take() } else { None };
            if order.is_le() {
                from_old = next_old()?;
            }
            if order.is_ge() {
                from_new = new.next()?;
            }
            let key = old_row.as_ref().map(|row| row.key.clone());
            let (new_key, spilled) = new_row.unzip();
            if let Some(key) = key.or(new_key) {
                each(key, old_row, spilled)?;
            }
        }
    }
}

fn differs(old: Option<&FoundRow>, spilled: Option<&Spilled>) -> bool {
    match (old, spilled) {
        (_, Some(Spilled::Kept)) | (None, None) => false,
        (Some(old), Some(Spilled::Put { value, further })) => old.value != *value || old.further != *further,
        (None, Some(Spilled::Put { .. })) | (Some(_), None) => true,
    }
}

fn push_part(
    part: &mut PartWriter,
    ring: &KeyRing,
    chunks: &mut ChunkWriter,
    key: &[u8],
    value: &[u8],
    further: &[KeyValue],
    old: Option<&FoundRow>,
) -> Result<(), CaptureError> {
    let replaced = old.map(|old| element(&old.key, &old.value)).transpose()?;
    let row = HeadRow::decode(value)?;
    part.push(ring, chunks, &Entry { key, change: Change::Put(value), replaced })?;
    let mut references = row.facts.references;
    references.extend(row.facts.attribute_references);
    for (key, value) in further {
        part.push(ring, chunks, &Entry { key, change: Change::Put(value), replaced: None })?;
        let (_, first) = split_further(key);
        references.extend(decode_further(first.unwrap_or_default(), value)?);
    }
    for reference in references {
        part.refer(reference.chunk, u64::from(reference.length_bytes));
    }
    Ok(())
}

/// What was spilled, file by file.
struct NewLinks<'s> {
    rows: Sorted<'s>,
    next: Option<KeyValue>,
}

impl NewLinks<'_> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Spilled)>, CaptureError> {
        let (key, tagged) = loop {
            match self.next.take().map_or_else(|| self.read(), |row| Ok(Some(row)))? {
                None => return Ok(None),
                // A further row whose head says "kept" was pushed before that.
                Some((key, _)) if is_further(&key) => {}
                Some(head) => break head,
            }
        };
        if let Some(key) = named_by(&key) {
            // Only a name speaks of it.
            return Ok(Some((key.to_vec(), Spilled::Kept)));
        }
        let mut spilled = match tagged.split_at_checked(4) {
            None => Spilled::Kept,
            Some((_, value)) => Spilled::Put { value: value.to_vec(), further: Vec::new() },
        };
        while let Some((next_key, next_tagged)) = self.read()? {
            match (&mut spilled, next_tagged.strip_prefix(tagged.get(..4).unwrap_or_default())) {
                _ if named_by(&next_key) == Some(&key) => {}
                _ if !is_further(&next_key) => {
                    self.next = Some((next_key, next_tagged));
                    break;
                }
                (Spilled::Put { further, .. }, Some(value)) => further.push((next_key, value.to_vec())),
                _ => {}
            }
        }
        Ok(Some((key, spilled)))
    }

    fn read(&mut self) -> Result<Option<KeyValue>, CaptureError> {
        Ok(self.rows.next()?.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}

/// The key of the link that a name keeps by this record.
fn named_by(key: &[u8]) -> Option<&[u8]> {
    let (mark, link) = key.split_last()?;
    (*mark == NAMED_MARK && matches!(HeadKey::parse(link), Ok(HeadKey::Link(_)))).then_some(link)
}

#[cfg(test)]
mod tests {
    use backstay_vault::keys::Bundle;

    use super::*;
    use crate::row::RowFacts;
    use crate::stat::FileKind;

    fn stat(inode: u64, ctime: i64, links: u64) -> FileStat {
        let time = FileTime::new(ctime, 5).unwrap();
        FileStat {
            identity: Identity { device: 1, inode },
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size_bytes: 1,
            mtime: time,
            ctime: time,
            links,
            represents: (0, 0),
            blocks: 8,
        }
    }

    fn name_of(id: LinkId) -> FoundRow {
        let row = HeadRow { restored: Restored::Link(id), facts: RowFacts::default() };
        FoundRow { key: b"\x01name".to_vec(), value: row.encode().unwrap(), further: Vec::new() }
    }

    /// Links by their ids, with the value of those that have a new row.
    fn all(links: &mut LinkRows) -> Vec<(LinkId, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        links
            .for_each(None, |key, _, spilled| {
                let Ok(HeadKey::Link(id)) = HeadKey::parse(&key) else { panic!("{key:?}") };
                match spilled.expect("nothing was there before") {
                    Spilled::Kept => all.push((id, None)),
                    Spilled::Put { value, .. } => all.push((id, Some(value))),
                }
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn an_object_is_read_at_its_first_name_and_again_where_another_may_have_its_inode() {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyRing::new(&Bundle::generate());
        let mut links = LinkRows::new(folder.path());
        let (id, first) = links.name(&stat(7, 1, 3), &ring);
        assert_eq!(first, Name::First);
        assert_eq!(links.name(&stat(7, 1, 3), &ring), (id, Name::Further));
        assert_eq!(links.name(&stat(7, 1, 3), &ring), (id, Name::Further));
        // All its names were seen. It may be gone by now.
        let (other, again) = links.name(&stat(7, 2, 2), &ring);
        assert_eq!(again, Name::First);
        assert_ne!(id, other, "what was read stays that of the names before");
        assert_eq!(links.name(&stat(7, 2, 2), &ring), (other, Name::Further));
        assert_ne!(links.name(&stat(8, 2, 2), &ring).0, other);
    }

    #[test]
    fn a_name_that_nobody_can_look_at_keeps_an_object_and_hides_no_news_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut links = LinkRows::new(folder.path());
        let [seen, unseen, kept] = [1, 2, 3].map(|n| LinkId::new([n; 16]));
        links.put_rows(&link_key(&seen), b"news", &[]).unwrap();
        links.keep(&kept).unwrap();
        for id in [seen, unseen, kept] {
            links.still_named(&name_of(id)).unwrap();
        }
        assert_eq!(all(&mut links), [(seen, Some(b"news".to_vec())), (unseen, None), (kept, None)]);
    }
}
