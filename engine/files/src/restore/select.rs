//! Which rows of a point are restored: all, or some paths with all below them and the directories above.

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::id::LinkId;
use backstay_vault::vault::Reading;

use super::RestoreError;
use crate::keys::{HeadKey, PathKey, link_key};
use crate::point_rows::rows_of;
use crate::row::{HeadRow, Restored};

/// A selection of rows.
#[derive(Debug, Clone)]
pub struct Selection(Option<Vec<PathKey>>);

/// Files with several names that a selection needs; `None` is all.
#[derive(Debug)]
pub(super) struct Links(Option<HashSet<LinkId>>);

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self(None)
    }

    /// These paths, relative to the root; everything when there are none.
    pub fn paths(paths: Vec<PathKey>) -> Self {
        Self((!paths.is_empty()).then_some(paths))
    }

    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// What the marker of a restore says of it: a restore of something else does not go on from this one. Nothing for
    /// everything.
    pub(super) fn marker_line(&self) -> String {
        let Some(paths) = &self.0 else { return String::new() };
        let mut keys: Vec<&[u8]> = paths.iter().map(PathKey::as_bytes).collect();
        keys.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        keys.iter().for_each(|key| {
            hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
        });
        format!("paths {}\n", hasher.finalize().to_hex())
    }

    /// The files with several names that are needed; fails on a path that is not in the point.
    pub(super) fn links(&self, reading: &Arc<Reading>) -> Result<Links, RestoreError> {
        let Some(paths) = &self.0 else { return Ok(Links(None)) };
        let mut links = HashSet::new();
        for path in paths {
            let mut rows = rows_of(reading, path.as_bytes());
            let mut found = false;
            while let Some(row) = rows.next()? {
                if !PathKey::parse(&row.key).is_ok_and(|key| key.is_within(path)) {
                    break;
                }
                found = true;
                if let Restored::Link(link) = HeadRow::decode(&row.value)?.restored {
                    links.insert(link);
                }
            }
            if !found {
                return Err(RestoreError::NotThere { path: path.to_string() });
            }
        }
        Ok(Links(Some(links)))
    }

    /// Keys at which wanted rows may begin that are not next to each other, in order; `None` when all are wanted.
    pub(super) fn leaps(&self, links: &Links) -> Option<Vec<Vec<u8>>> {
        let (paths, links) = (self.0.as_ref()?, links.0.as_ref()?);
        let mut keys: Vec<Vec<u8>> = links.iter().map(link_key).collect();
        for path in paths {
            let mut at = Some(path.clone());
            while let Some(path) = at {
                keys.push(path.as_bytes().to_vec());
                at = path.parent();
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Some(keys)
    }

    /// Whether the row of this key is restored.
    pub(super) fn wants(&self, key: &HeadKey, links: &Links) -> bool {
        match (&self.0, key) {
            (None, _) => true,
            (Some(_), HeadKey::Link(link)) => links.0.as_ref().is_none_or(|links| links.contains(link)),
            (Some(paths), HeadKey::Path(path)) => {
                paths.iter().any(|wanted| path.is_within(wanted) || wanted.is_within(path))
            }
        }
    }
}
