//! A repair while points are put: listings come in pages, and are no picture of one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Folder, Listed, MemStore, Store, StoreError};

use crate::repair::{readable, repair};
use crate::sample::{FILES, Sample};

/// A store that has listed a page before a point was put to it, and the next one after another was put that builds on it.
#[derive(Debug)]
struct Straddled {
    memory: Arc<MemStore>,
    /// What the first of these pages does not show.
    late: ObjectName,
    has_begun_anew: AtomicBool,
}

#[async_trait]
impl Overrides for Straddled {
    fn below(&self) -> &dyn Store {
        &*self.memory
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let mut listed = self.memory.list(folder).await?;
        let is_of_all = folder.as_str() == Folder::new(&[&"points"]).as_str();
        if folder.as_str().starts_with("points/") && !is_of_all {
            self.has_begun_anew.store(true, Ordering::SeqCst);
        }
        if !self.has_begun_anew.load(Ordering::SeqCst) {
            listed.retain(|listed| listed.name != self.late);
        }
        Ok(listed)
    }
}

#[test]
fn a_point_is_not_taken_for_lost_since_one_page_of_a_listing_came_before_it() {
    let sample = Sample::of_captures(4);
    let memory = Arc::new(MemStore::with_objects(sample.objects.clone()));
    let before = readable(&sample, &memory);
    let vault = sample.fixture.open(memory.clone()).expect("opens");
    let catalogue = vault.catalogue(sample.fixture.source(FILES)).expect("a catalogue");
    let late = catalogue.points()[2].link;
    let late = Named::Point(catalogue.source, late.point, late.object).to_name();
    let store = Arc::new(Forwarded(Straddled { memory: memory.clone(), late, has_begun_anew: false.into() }));
    let repaired = repair(&sample, store.clone(), &mut sample.notes.clone(), &[]).expect("repairs");
    assert!(store.0.has_begun_anew.load(Ordering::SeqCst), "nothing was listed that way");
    assert_eq!(repaired.points_lost, 0, "{repaired:#?}");
    assert_eq!(readable(&sample, &memory), before);
}
