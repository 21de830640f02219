//! What must hold when there is power again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backstay_core::id::PointId;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::power::{Image, NoSync};
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{DirStore, MemStore};
use backstay_vault::vault::{MemoryNotes, Vault};
use tempfile::TempDir;

use crate::workload::{FILES, Known, Note, UNDELETE, VAULT, at, care, with_custodian};

/// How old files are that nobody has finished: more than a day.
const AGE: Duration = Duration::from_secs(2 * 24 * 3600);

/// What was true when the power went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moment {
    is_made: bool,
    points: BTreeMap<PointId, Known>,
    custodian: MemoryNotes,
}

impl Moment {
    pub(crate) fn add(&mut self, note: &Note) {
        match note {
            Note::Made => self.is_made = true,
            Note::Acknowledged(point, known) => drop(self.points.insert(*point, known.clone())),
            Note::Released(point) => drop(self.points.remove(point)),
            Note::Custodian(notes) => self.custodian = notes.clone(),
        }
    }

    /// Starts a node on what is left, and looks whether everything is there and goes on.
    pub(crate) fn holds(&self, fixture: &VaultFixture, image: &Image) -> Result<(), String> {
        let folder = new_folder().map_err(|error| error.to_string())?;
        image.write(folder.path(), SystemTime::now() - AGE).map_err(|error| error.to_string())?;
        let root = folder.path().join(VAULT);
        let store = Arc::new(DirStore::on(Arc::new(NoSync), &root, Some(UNDELETE)));
        let vault = match fixture.open(store.clone()) {
            Err(VaultError::NoVault { .. }) if !self.is_made => fixture.create(store),
            opened => opened,
        };
        let vault = vault.map_err(|error| format!("it does not open: {error}"))?;
        fixture.fence_dead_sessions(&vault, at(50_000)).map_err(|error| format!("fencing: {error}"))?;
        self.find(&in_memory(fixture, &root)?)?;
        let state = State::from([(b"new".to_vec(), vec![7; 3000])]);
        let next = fixture.capture(&vault, FILES, at(50_010), &state);
        let next = next.map_err(|error| format!("the next capture: {error}"))?.link.point;
        let left: Vec<_> = fs::read_dir(root.join("unfinished")).into_iter().flatten().collect();
        if !left.is_empty() {
            return Err(format!("unfinished files stay: {left:?}"));
        }
        let mut moment = self.clone();
        moment.points.insert(next, Known { source: FILES, state: Arc::new(state) });
        let after = || -> Result<(), String> {
            let vault = in_memory(fixture, &root)?;
            moment.find(&vault)?;
            // As many as there are points: nothing is dropped.
            let mut notes = self.custodian.clone();
            with_custodian(fixture, vault.clone(), &mut notes, 50_020, |custodian| care(custodian, 1000))
                .map_err(|error| format!("the next prune: {error}"))?;
            moment.find(&vault)
        };
        after().map_err(|wrong| format!("after a capture and a prune: {wrong}"))
    }

    /// Every point is as it was captured, and nothing is wrong.
    fn find(&self, vault: &Arc<Vault>) -> Result<(), String> {
        let mut counting = BTreeSet::new();
        for source in vault.sources().map_err(|error| error.to_string())? {
            let catalogue = vault.catalogue(source).map_err(|error| error.to_string())?;
            for point in catalogue.points() {
                let read = read_back(vault, &point.common.source_name, point.link.point);
                let read = read.map_err(|error| format!("{} counts, and {error}", point.link.point))?;
                let known = self.points.get(&point.link.point);
                let is_as_known = known.is_none_or(|known| {
                    *known.state == read.state && known.source == point.common.source_name
                });
                if !is_as_known || read.digest != point.common.digest {
                    return Err(format!("{} reads otherwise", point.link.point));
                }
                counting.insert(point.link.point);
            }
        }
        let lost: Vec<_> = self.points.keys().filter(|point| !counting.contains(point)).collect();
        if !lost.is_empty() {
            return Err(format!("acknowledged and lost: {lost:?}"));
        }
        let report = vault.check().map_err(|error| format!("the check: {error}"))?;
        match report.is_good() {
            true => Ok(()),
            false => Err(format!("{report:#?}")),
        }
    }
}

/// The vault as it is now in a folder, in memory, where everything that is looked at costs less.
fn in_memory(fixture: &VaultFixture, root: &Path) -> Result<Arc<Vault>, String> {
    let image = Image::of(root).map_err(|error| error.to_string())?;
    let objects = image.files.into_iter().filter_map(|(path, content)| {
        let (name, _) = ObjectName::parse(path.to_str()?)?;
        Some((name.to_string(), content))
    });
    let vault = fixture.open(Arc::new(MemStore::with_objects(objects.collect())));
    vault.map_err(|error| format!("it does not open: {error}"))
}

/// A folder for a while, in memory where the system has one that is.
pub(crate) fn new_folder() -> io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}
