//! What a vault has to restore, without a configuration that says what there should be: every source, with the point that is asked
//! for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::config::SourceName;
use backstay_core::id::SourceId;
use backstay_vault::vault::{PointObject, Vault};

use super::plan::SourceFacts;
use super::record::Done;
use crate::cli::choose::{Asked, Held, find, warn_of_uncounted};
use crate::failure::Failure;
use crate::terminal::remark;

/// All that there is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sources: Vec<FoundSource>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
}

/// A source and its point.
#[derive(Debug)]
pub(super) struct FoundSource {
    pub(super) name: SourceName,
    pub(super) held: Held,
    pub(super) point: Arc<PointObject>,
}

impl Found {
    /// Looks at all sources of a vault.
    pub(super) fn in_vault(vault: &Arc<Vault>, place: &str, asked: &Asked) -> Result<Self, Failure> {
        let mut found = Self { sources: Vec::new(), problems: Vec::new() };
        for id in vault.sources()? {
            match of_source(vault, place, id, asked) {
                Ok(source) => found.sources.push(source),
                Err(failure) => found.problems.push(failure.message),
            }
        }
        // After the points, whose chunks may be in newer objects.
        vault.refresh_index(None)?;
        Ok(found)
    }

    /// The nodes whose sources these are.
    pub(super) fn nodes(&self) -> BTreeSet<String> {
        self.sources.iter().map(|source| source.node().to_owned()).collect()
    }
}

fn of_source(vault: &Arc<Vault>, place: &str, id: SourceId, asked: &Asked) -> Result<FoundSource, Failure> {
    let failed = |why: String| Failure::failed(format!("a source of the vault ({id}): {why}"));
    let catalogue = vault.catalogue(id).map_err(|error| failed(error.to_string()))?;
    for left_out in &catalogue.left_out {
        remark(&format!("warning: {left_out}"));
    }
    warn_of_uncounted(&vault.uncounted(&catalogue)?, place);
    let Some(point) = find(&catalogue, asked)? else {
        let newest = catalogue.newest().map(|point| &point.common);
        return Err(match newest {
            Some(newest) => Failure::failed(format!(
                "{} has no point that was asked for; its newest is of {}",
                newest.source_name, newest.capture_start
            )),
            None => failed("it has no point that counts; `backstay vault check` says why".to_owned()),
        });
    };
    // It becomes the name of a directory.
    let name = point.common.source_name.parse().map_err(|error| failed(format!("{error}")))?;
    Ok(FoundSource {
        name,
        held: Held { name: place.to_owned(), vault: Arc::clone(vault), catalogue },
        point,
    })
}

impl FoundSource {
    /// The node that has captured it.
    pub(super) fn node(&self) -> &str {
        &self.point.common.node
    }

    /// What decides where it goes.
    pub(super) fn facts(&self) -> SourceFacts {
        let root = self.point.common.facts.root_path.as_deref();
        SourceFacts {
            name: self.name.clone(),
            kind: self.point.common.kind.clone(),
            root: root.map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))),
        }
    }

    /// What is noted when it is restored to this place.
    pub(super) fn done_at(&self, to: &Path) -> Done {
        Done {
            vault: self.held.vault.id().to_string(),
            source: self.name.to_string(),
            point: self.point.common.id.to_string(),
            to: to.as_os_str().as_bytes().to_vec(),
        }
    }
}
