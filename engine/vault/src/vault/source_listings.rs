//! The folders of all sources, listed at once: as many requests for many sources as for one.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::id::SourceId;

use super::{Catalogue, Vault};
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, Listed, StoreError};

/// What is read of a source, in this order: a point that is accepted is there, unless it was dropped since.
const FOLDERS: [&str; 3] = ["layout", "points", "heads"];

/// The folders of each source of which any object speaks, as they were listed. Of each it tells once.
#[derive(Debug)]
pub(super) struct SourceListings {
    sources: BTreeSet<SourceId>,
    /// By the folder's name.
    folders: BTreeMap<String, Vec<Listed>>,
}

impl SourceListings {
    /// The sources of which any object speaks: all points of one may be lost.
    pub(super) fn sources(&self) -> Vec<SourceId> {
        self.sources.iter().copied().collect()
    }

    /// What was listed in a folder of a source, if it has not told of it.
    pub(super) fn below(&self, folder: &str, source: SourceId) -> Vec<Listed> {
        self.folders.get(Folder::new(&[&folder, &source]).as_str()).cloned().unwrap_or_default()
    }

    fn take(&mut self, folder: &Folder, source: SourceId) -> Option<Vec<Listed>> {
        let listed = self.folders.remove(folder.as_str());
        if listed.is_none() {
            // A layout has gone that was listed: the points that the next one accepts are listed after it.
            FOLDERS.iter().for_each(|top| drop(self.folders.remove(Folder::new(&[top, &source]).as_str())));
        }
        listed
    }
}

impl Vault {
    /// Lists the layouts, points and heads of all sources.
    pub(super) fn list_sources(&self) -> Result<SourceListings, StoreError> {
        let (mut sources, mut folders) = (BTreeSet::new(), BTreeMap::<String, Vec<Listed>>::new());
        for top in FOLDERS {
            for listed in self.list(&Folder::new(&[&top]))? {
                if let Named::Point(source, ..) | Named::Head(source, ..) | Named::Layout(source, ..) =
                    listed.named
                {
                    sources.insert(source);
                    folders
                        .entry(Folder::new(&[&top, &source]).as_str().to_owned())
                        .or_default()
                        .push(listed);
                }
            }
        }
        for source in &sources {
            FOLDERS.iter().for_each(|top| {
                folders.entry(Folder::new(&[top, source]).as_str().to_owned()).or_default();
            });
        }
        Ok(SourceListings { sources, folders })
    }

    /// What the vault holds of a source, by what was listed.
    pub(super) fn catalogue_listed(
        &self,
        source: SourceId,
        listings: &mut SourceListings,
    ) -> Result<Catalogue, VaultError> {
        let mut list = |folder: &Folder| match listings.take(folder, source) {
            Some(listed) => Ok(listed),
            None => self.list(folder),
        };
        let (parts, left_out) = self.read_catalogue(source, &mut list)?;
        Ok(self.catalogue_of(source, parts, left_out))
    }

    /// What the vault holds of every source.
    pub(super) fn catalogues(&self) -> Result<Vec<Catalogue>, VaultError> {
        let mut listings = self.list_sources()?;
        listings.sources().into_iter().map(|source| self.catalogue_listed(source, &mut listings)).collect()
    }
}
