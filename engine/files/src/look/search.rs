//! Looking for paths that match a pattern. Directories in which nothing can match are passed over without being read.

use std::sync::Arc;

use backstay_vault::vault::Reading;

use super::entry::ListedEntry;
use super::names::{Named, Names};
use super::pattern::{Pattern, Reached};
use crate::keys::PathKey;
use crate::point_rows::PathRows;
use crate::restore::RestoreError;
use crate::row::HeadRow;

/// What a search goes through.
#[derive(Debug)]
pub struct Search {
    trail: Trail,
    rows: PathRows,
    names: Names,
    skipped: Option<PathKey>,
}

impl Search {
    /// Looks for the pattern in the point that is read.
    pub fn open(reading: &Arc<Reading>, pattern: Pattern) -> Self {
        let rows = PathRows::open(reading, pattern.place());
        Self { trail: Trail::new(pattern), rows, names: Names::new(reading), skipped: None }
    }

    /// The next entry whose path matches; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<ListedEntry>, RestoreError> {
        while self.names.wants_more() {
            match self.read()? {
                Some(named) => self.names.push(named),
                None => break,
            }
        }
        Ok(self.names.take()?.map(ListedEntry::of))
    }

    fn read(&mut self) -> Result<Option<Named>, RestoreError> {
        loop {
            if let Some(directory) = self.skipped.take() {
                self.rows.skip_below(&directory)?;
            }
            let Some((key, value)) = self.rows.next()? else { return Ok(None) };
            let reached = self.trail.follow(key.get(1..).unwrap_or_default());
            if !self.trail.pattern.may_go_on(reached) {
                self.skipped = Some(PathKey::parse(key)?);
            }
            if self.trail.pattern.is_match(reached) {
                return Ok(Some(Named::new(PathKey::parse(key)?, HeadRow::decode(value)?.restored)));
            }
        }
    }
}

/// How far a pattern has come after each component of a path. What one path has in common with the one before is not
/// matched again.
#[derive(Debug)]
struct Trail {
    pattern: Pattern,
    path: Vec<u8>,
    /// Where in the path each component ends, and how far the pattern has come there.
    reached: Vec<(usize, Reached)>,
}

impl Trail {
    fn new(pattern: Pattern) -> Self {
        let begin = pattern.begin();
        Self { pattern, path: Vec::new(), reached: vec![(0, begin)] }
    }

    /// How far the pattern has come at this path, whose components are separated by zeros.
    fn follow(&mut self, path: &[u8]) -> Reached {
        let common = self.path.iter().zip(path).take_while(|(old, new)| old == new).count();
        let is_of_path =
            |end: usize| end == 0 || end <= common && path.get(end).is_none_or(|byte| *byte == 0);
        while self.reached.len() > 1 && self.reached.last().is_some_and(|(end, _)| !is_of_path(*end)) {
            self.reached.pop();
        }
        let (mut end, mut reached) = self.reached[self.reached.len() - 1];
        while end < path.len() {
            let begins = if end == 0 { 0 } else { end + 1 };
            let name = path[begins..].split(|byte| *byte == 0).next().unwrap_or_default();
            end = begins + name.len();
            reached = self.pattern.step(reached, name);
            self.reached.push((end, reached));
        }
        self.path.clear();
        self.path.extend_from_slice(path);
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::Letters;

    #[test]
    fn a_trail_says_of_each_path_in_order_what_matching_it_alone_says() {
        let paths = ["", "a", "a/b", "a/b/c.x", "a/b/d.x", "a/bb/c.x", "a.x", "b", "b/a/b/a.x", "c.x"];
        for pattern in ["*.x", "a/*/*.x", "**/b/**", "a/b", "**", "?", "b/a/**/*.x"] {
            let mut trail = Trail::new(Pattern::new(pattern, Letters::Exact).unwrap());
            for path in paths {
                let path = path.replace('/', "\0");
                let mut alone = Trail::new(Pattern::new(pattern, Letters::Exact).unwrap());
                assert_eq!(
                    trail.follow(path.as_bytes()),
                    alone.follow(path.as_bytes()),
                    "{pattern} {path:?}"
                );
            }
        }
    }
}
