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
    /// The dataset of this name; `None` of what cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_text(text).ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pool in which it is.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The dataset above it; `None` of the root of a pool.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The dataset of this name, one or more components, below it; `None` where that would be too long, or cannot be a name.
    pub fn join(&self, below: &str) -> Option<Self> {
        Self::parse(&format!("{}/{below}", self.0))
    }

    /// What its name adds to that of `root`: nothing for `root` itself. `None` of what is not below it.
    pub fn below(&self, root: &Self) -> Option<&str> {
        match self.0.strip_prefix(root.as_str())? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
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

    #[test]
    fn datasets_know_what_is_above_and_below() {
        let name = |text| DatasetName::parse(text).expect("a name");
        assert_eq!((name("tank/a/b").pool(), name("tank").pool()), ("tank", "tank"));
        assert_eq!((name("tank/a/b").parent(), name("tank").parent()), (Some(name("tank/a")), None));
        assert_eq!(name("tank/a").join("b/c"), Some(name("tank/a/b/c")));
        assert_eq!(name("tank/a").join("../b"), None);
        assert_eq!(name("tank/a/b").below(&name("tank/a")), Some("b"));
        assert_eq!(name("tank/a").below(&name("tank/a")), Some(""));
        assert_eq!(name("tank/ab").below(&name("tank/a")), None);
    }
}
