//! Patterns of paths that are looked for. Owns their meaning: without a slash, a pattern is that of a name in any
//! directory; with one, of a whole path relative to the root, in which `**` is any number of directories. `*` and `?`
//! never match a slash.

use globset::{Candidate, GlobBuilder, GlobMatcher};

use crate::keys::PathKey;

/// Greatest number of components of a pattern.
pub(super) const COMPONENTS_MAX: usize = 60;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {why}; write one like \"*.jpg\" or \"www/**/index.html\"")]
pub struct PatternError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// Whether capital letters differ from small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// They do.
    Exact,
    /// They do not.
    AnyCase,
}

/// A pattern.
#[derive(Debug)]
pub struct Pattern(Vec<Component>);

#[derive(Debug)]
enum Component {
    /// Any number of directories.
    Directories,
    /// Nothing but this name.
    Literal(Vec<u8>),
    /// Names like these.
    Glob(GlobMatcher),
}

/// Which components of a pattern may be that of the next name: bit `n` for component `n`. The bit behind the last says that
/// the path up to here matches as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached(u64);

impl Pattern {
    /// Reads one.
    pub fn new(pattern: &str, letters: Letters) -> Result<Self, PatternError> {
        let fault = |why: &str| PatternError { pattern: pattern.to_owned(), why: why.to_owned() };
        let trimmed = pattern.trim_start_matches("./").trim_matches('/');
        let mut components = Vec::new();
        if !pattern.trim_end_matches('/').contains('/') {
            components.push(Component::Directories);
        }
        for part in trimmed.split('/').filter(|part| !part.is_empty()) {
            let is_repeated = part == "**" && matches!(components.last(), Some(Component::Directories));
            match part {
                "." | ".." => return Err(fault("paths have no components \".\" and \"..\"")),
                "**" if is_repeated => {}
                "**" => components.push(Component::Directories),
                part => components.push(component(part, letters).map_err(|why| fault(&why))?),
            }
        }
        match components.iter().any(|component| !matches!(component, Component::Directories)) {
            _ if components.len() > COMPONENTS_MAX => Err(fault("it has too many components")),
            // All below a directory, as a listing tells it.
            false if trimmed != "**" => Err(fault("it matches nothing")),
            _ => Ok(Self(components)),
        }
    }

    /// The directory at and below which all that matches lies.
    pub(super) fn place(&self) -> PathKey {
        let names = self.0.iter().map_while(|component| match component {
            Component::Literal(name) => Some(name.as_slice()),
            _ => None,
        });
        PathKey::from_components(names).unwrap_or_else(|_| PathKey::root())
    }

    /// Before the first name.
    pub(super) fn begin(&self) -> Reached {
        self.with_skipped(1)
    }

    /// After another name.
    pub(super) fn step(&self, reached: Reached, name: &[u8]) -> Reached {
        let mut next = 0;
        let mut candidate = None;
        for (at, component) in self.0.iter().enumerate() {
            if reached.0 & (1 << at) == 0 {
                continue;
            }
            next |= match component {
                Component::Directories => 1 << at,
                Component::Literal(literal) => u64::from(literal == name) << (at + 1),
                Component::Glob(glob) => {
                    let candidate = candidate.get_or_insert_with(|| Candidate::from_bytes(name));
                    u64::from(glob.is_match_candidate(candidate)) << (at + 1)
                }
            };
        }
        // A path that ends with `**` is that of all below, and not of the directory itself.
        let ends_open =
            matches!(self.0.last(), Some(Component::Directories)) && reached.is_at(self.0.len() - 1);
        Reached(self.with_skipped(next).0 | u64::from(ends_open) << self.0.len())
    }

    /// Whether a path that has come so far matches.
    pub(super) fn is_match(&self, reached: Reached) -> bool {
        reached.is_at(self.0.len())
    }

    /// Whether something below a path that has come so far may match.
    pub(super) fn may_go_on(&self, reached: Reached) -> bool {
        reached.0 & ((1 << self.0.len()) - 1) != 0
    }

    /// With the components behind `**`, which may be no directory.
    fn with_skipped(&self, mut bits: u64) -> Reached {
        for (at, component) in self.0.iter().enumerate() {
            let is_last = at + 1 == self.0.len();
            if matches!(component, Component::Directories) && !is_last && bits & (1 << at) != 0 {
                bits |= 1 << (at + 1);
            }
        }
        Reached(bits)
    }
}

impl Reached {
    fn is_at(self, component: usize) -> bool {
        self.0 & (1 << component) != 0
    }
}

fn component(part: &str, letters: Letters) -> Result<Component, String> {
    let is_literal = !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
    if is_literal && letters == Letters::Exact {
        return Ok(Component::Literal(part.as_bytes().to_vec()));
    }
    let mut glob = GlobBuilder::new(part);
    glob.literal_separator(true).backslash_escape(true).case_insensitive(letters == Letters::AnyCase);
    let glob = glob.build().map_err(|error| error.kind().to_string())?;
    Ok(Component::Glob(glob.compile_matcher()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        matches_with(pattern, path, Letters::Exact)
    }

    fn matches_with(pattern: &str, path: &str, letters: Letters) -> bool {
        let pattern = Pattern::new(pattern, letters).unwrap();
        let mut reached = pattern.begin();
        let names: Vec<&str> = path.split('/').collect();
        for (depth, name) in names.iter().enumerate() {
            reached = pattern.step(reached, name.as_bytes());
            if depth + 1 < names.len() && !pattern.may_go_on(reached) {
                return false;
            }
        }
        pattern.is_match(reached)
    }

    #[test]
    fn a_pattern_without_a_slash_is_that_of_a_name_anywhere() {
        for path in ["a.jpg", "x/a.jpg", "x/y/z/a.jpg"] {
            assert!(matches("*.jpg", path) && matches("a.???", path) && matches("a.jpg", path), "{path}");
        }
        for path in ["a.jpg/b", "a.jpeg", "x.jpg/y"] {
            assert!(!matches("*.jpg", path), "{path}");
        }
    }

    #[test]
    fn a_pattern_with_a_slash_is_that_of_a_path_from_the_root() {
        assert!(matches("www/*.html", "www/index.html") && matches("/index.html", "index.html"));
        for path in ["x/www/index.html", "www/x/index.html", "www"] {
            assert!(!matches("www/*.html", path), "{path}");
        }
        assert!(!matches("/index.html", "www/index.html") && matches("./www", "www"));
    }

    #[test]
    fn two_stars_are_any_number_of_directories() {
        for path in ["www/a.js", "www/x/a.js", "www/x/y/a.js"] {
            assert!(matches("www/**/*.js", path) && matches("**/www/**/a.js", path), "{path}");
        }
        assert!(!matches("www/**/*.js", "a.js") && !matches("www/**/*.js", "www/a.jsx"));
        assert!(matches("www/**", "www/a") && matches("www/**", "www/a/b") && !matches("www/**", "www"));
        assert!(matches("**", "a") && matches("**", "a/b"));
        assert!(matches("a/**/**/b", "a/b") && matches("a/**/c/**/b", "a/x/c/y/c/b"));
    }

    #[test]
    fn letters_differ_unless_said_otherwise() {
        assert!(!matches("*.JPG", "a.jpg") && !matches("readme", "README"));
        let any = |pattern, path| matches_with(pattern, path, Letters::AnyCase);
        assert!(any("*.JPG", "x/a.jpg") && any("readme", "README") && any("www/A*", "WWW/abc"));
    }

    #[test]
    fn what_lies_before_the_first_wildcard_says_where_to_look() {
        let place = |pattern| Pattern::new(pattern, Letters::Exact).unwrap().place().to_string();
        assert_eq!(place("www/img/*.png"), "www/img");
        assert_eq!(
            (place("*.png").as_str(), place("**/a").as_str(), place("a/b").as_str()),
            (".", ".", "a/b")
        );
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for pattern in ["", "/", "a/../b", "[", "a/{b", "./"] {
            let error = Pattern::new(pattern, Letters::Exact).unwrap_err().to_string();
            assert!(error.contains("write one like"), "{pattern}: {error}");
        }
        let long = ["x"; COMPONENTS_MAX + 1].join("/");
        assert!(Pattern::new(&long, Letters::Exact).is_err());
    }

    #[test]
    fn names_that_are_no_text_are_matched_by_their_bytes() {
        let pattern = Pattern::new("caf?", Letters::Exact).unwrap();
        assert!(pattern.is_match(pattern.step(pattern.begin(), b"caf\xe9")));
    }
}
