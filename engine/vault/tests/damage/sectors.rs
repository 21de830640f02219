//! A sector of a pack that the disk does not give any more: what lies on the others is had, before a repair and after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use backstay_core::id::PointId;
use backstay_testkit::capture::read_back;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Operation, Store, StoreError, StoreErrorKind, Stretch};
use bytes::Bytes;

use crate::repair::repair;
use crate::sample::Sample;

const SECTOR_BYTES: u64 = 4096;

#[derive(Debug)]
struct BadSector {
    below: MemStore,
    object: String,
    begins: u64,
}

impl BadSector {
    fn error(&self, operation: Operation) -> StoreError {
        let (object, place) = (self.object.clone(), self.below.place());
        StoreError {
            operation,
            object,
            place,
            kind: StoreErrorKind::Permanent,
            cause: "input/output error".into(),
        }
    }
}

#[async_trait]
impl Overrides for BadSector {
    fn below(&self) -> &dyn Store {
        &self.below
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        match name.as_str() == self.object {
            true => Err(self.error(Operation::Get)),
            false => self.below.get(name).await,
        }
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        let is_on_it =
            self.begins < stretch.offset + stretch.length && stretch.offset < self.begins + SECTOR_BYTES;
        match name.as_str() == self.object && is_on_it {
            true => Err(self.error(Operation::GetRange)),
            false => self.below.get_range(name, stretch).await,
        }
    }
}

fn readable(sample: &Sample, store: &Arc<Forwarded<BadSector>>) -> BTreeSet<PointId> {
    let vault = sample.fixture.open(store.clone()).expect("opens");
    let points = sample.points.iter().filter(|(point, (source, state))| {
        read_back(&vault, source, **point).is_ok_and(|read| read.state == *state)
    });
    points.map(|(point, _)| *point).collect()
}

#[test]
fn a_repair_keeps_what_lies_beside_a_bad_sector() {
    let sample = Sample::new();
    let mut read = [0; 2];
    for (name, content) in sample.objects.iter().filter(|(name, _)| name.starts_with("packs/")) {
        for begins in (0..content.len() as u64).step_by(SECTOR_BYTES as usize) {
            let below = MemStore::with_objects(sample.objects.clone());
            let store = Arc::new(Forwarded(BadSector { below, object: name.clone(), begins }));
            let before = readable(&sample, &store);
            let repaired = repair(&sample, store.clone(), &mut sample.notes.clone(), &[]);
            let after = readable(&sample, &store);
            let story = format!("{name} at {begins}: {repaired:?}");
            assert!(before.is_subset(&after), "{story}");
            repaired.unwrap_or_else(|error| panic!("{name} at {begins}: {error}"));
            assert!(!store.0.below.objects().contains_key(name), "{story}");
            read[usize::from(before.len() == sample.points.len())] += 1;
        }
    }
    let [some, all] = read;
    assert!(some > 0 && all > 0, "{some} sectors with something that is needed, {all} without");
}
