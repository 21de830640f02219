//! Absolute paths and dataset names as they stand in the configuration. Owns their form only: whether they
//! exist is for the daemon to see.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::problem::{FromText, Refusal, excerpt};

/// Linux refuses longer paths.
const PATH_BYTES_MAX: usize = 4095;
/// OpenZFS refuses longer dataset names.
const DATASET_BYTES_MAX: usize = 255;

/// Reads an absolute path without `..`; doubled and trailing slashes and `.` are dropped.
impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refusal = |why: &str| {
            Refusal::new(format!("{:?} {why}", excerpt(text)), "write an absolute path, such as /srv/static")
        };
        if !text.starts_with('/') {
            return Err(refusal("is not an absolute path"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(refusal("is longer than 4095 bytes"));
        }
        if text.contains('\0') {
            return Err(refusal("contains a NUL character"));
        }
        let path = Path::new(text);
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(refusal("contains \"..\""));
        }
        Ok(path.components().collect())
    }
}

/// The name of a ZFS dataset, such as `tank/docker/matrix`; no snapshot, no bookmark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName(String);

impl DatasetName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromText for DatasetName {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let component = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.: ".contains(c);
            !part.is_empty() && part != "." && part != ".." && part.chars().all(allowed)
        };
        if text.len() <= DATASET_BYTES_MAX && text.split('/').all(component) && !text.starts_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            format!("{:?} cannot be the name of a dataset", excerpt(text)),
            "write it as `zfs list` shows it, such as tank/docker/matrix, without snapshot or bookmark",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(PathBuf::from_text("/srv//static/./a/").unwrap().as_os_str(), "/srv/static/a");
        for text in ["", "srv", "/srv/../etc", "/a\0b", &format!("/{}", "x".repeat(4095))] {
            assert!(PathBuf::from_text(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn datasets_are_named_without_snapshot() {
        assert_eq!(DatasetName::from_text("tank/docker/matrix").unwrap().as_str(), "tank/docker/matrix");
        for text in ["", "/tank", "tank/", "tank//a", "tank@now", "tank#mark", "tank/../a", "-tank"] {
            assert!(DatasetName::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
