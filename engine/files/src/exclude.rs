//! Exclusion: which paths below the root are left out of a source. Owns the meaning of the patterns: they
//! are matched against the whole path relative to the root, so `cache/*` is anchored there and `**/cache`
//! is not; `*` and `?` never match a slash. A pattern that matches a directory leaves out all below it.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Greatest number of patterns of one source.
pub const PATTERNS_MAX: usize = 1024;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the exclusion {pattern:?} cannot be used: {fault}; write patterns like \"cache/*.tmp\" or \"**/.cache\""
)]
pub struct PatternError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub fault: PatternFault,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Nothing, or only slashes.
    #[error("it matches nothing below the root")]
    Empty,
    /// `.` or `..` as a component.
    #[error("paths have no components \".\" and \"..\"")]
    Dots,
    /// It is not a glob.
    #[error("{0}")]
    Glob(String),
    /// There are more than [`PATTERNS_MAX`].
    #[error("there are more than {PATTERNS_MAX} of them")]
    TooMany,
}

/// The patterns of one source.
#[derive(Debug, Clone)]
pub struct Exclude {
    globs: GlobSet,
    hash: [u8; 32],
}

impl Exclude {
    /// Leaves out nothing.
    pub fn nothing() -> Self {
        Self { globs: GlobSet::empty(), hash: *blake3::hash(b"").as_bytes() }
    }

    /// Leaves out what any of `patterns` matches. A slash at either end of a pattern makes no difference.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, PatternError> {
        let mut globs = GlobSetBuilder::new();
        let mut hasher = blake3::Hasher::new();
        let mut last = "";
        for (place, pattern) in patterns.iter().enumerate() {
            last = pattern.as_ref();
            let fault = |fault| PatternError { pattern: last.to_owned(), fault };
            if place == PATTERNS_MAX {
                return Err(fault(PatternFault::TooMany));
            }
            globs.add(glob(last).map_err(fault)?);
            hasher.update(&(last.len() as u64).to_le_bytes()).update(last.as_bytes());
        }
        let set = globs.build().map_err(|error| PatternError {
            pattern: last.to_owned(),
            fault: PatternFault::Glob(error.kind().to_string()),
        })?;
        Ok(Self { globs: set, hash: *hasher.finalize().as_bytes() })
    }

    /// Whether the object at `relative_path` (components separated by `/`, not empty) is left out. That its
    /// directory is not is for the caller to know.
    pub fn matches(&self, relative_path: &[u8]) -> bool {
        !self.globs.is_empty() && self.globs.is_match_candidate(&Candidate::from_bytes(relative_path))
    }

    /// A hash of the patterns as they were given.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }
}

fn glob(pattern: &str) -> Result<Glob, PatternFault> {
    let trimmed = pattern.trim_matches('/');
    if trimmed.is_empty() {
        return Err(PatternFault::Empty);
    }
    if trimmed.split('/').any(|component| component == "." || component == "..") {
        return Err(PatternFault::Dots);
    }
    let glob = GlobBuilder::new(trimmed).literal_separator(true).backslash_escape(true).build();
    glob.map_err(|error| PatternFault::Glob(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(pattern: &str, path: &str) -> bool {
        Exclude::new(&[pattern]).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn patterns_are_anchored_unless_they_begin_with_two_stars() {
        assert!(excluded("cache", "cache") && excluded("/cache/", "cache"));
        assert!(!excluded("cache", "home/cache") && excluded("**/cache", "home/cache"));
        assert!(excluded("**/cache", "cache"));
        assert!(excluded("home/*/tmp", "home/a/tmp") && !excluded("home/*/tmp", "home/a/b/tmp"));
    }

    #[test]
    fn a_star_does_not_match_a_slash_and_two_stars_leave_the_directory_itself() {
        assert!(excluded("*.tmp", "a.tmp") && !excluded("*.tmp", "a/b.tmp"));
        assert!(excluded("**/.cache/**", "home/.cache/x") && !excluded("**/.cache/**", "home/.cache"));
        assert!(excluded("{a,b}/?", "b/x") && excluded("[a-c]", "b") && excluded("\\*", "*"));
    }

    #[test]
    fn names_need_not_be_text() {
        let exclude = Exclude::new(&["*.tmp"]).unwrap();
        assert!(exclude.matches(b"\xff\xfe.tmp") && !exclude.matches(b"\xff\xfe"));
        assert!(exclude.matches(b"line\nfeed.tmp"));
    }

    #[test]
    fn a_bad_pattern_is_named_with_the_reason() {
        for (pattern, fault) in
            [("", PatternFault::Empty), ("//", PatternFault::Empty), ("a/../b", PatternFault::Dots)]
        {
            assert_eq!(Exclude::new(&[pattern]).unwrap_err().fault, fault);
        }
        let error = Exclude::new(&["fine", "broken["]).unwrap_err();
        assert_eq!(error.pattern, "broken[");
        assert!(error.to_string().contains("cannot be used"), "{error}");
        let many = vec!["x"; PATTERNS_MAX + 1];
        assert_eq!(Exclude::new(&many).unwrap_err().fault, PatternFault::TooMany);
    }

    #[test]
    fn no_pattern_leaves_out_nothing() {
        assert!(Exclude::nothing().is_empty() && !Exclude::nothing().matches(b"a"));
    }
}
