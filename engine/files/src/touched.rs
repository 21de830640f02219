//! Where in a tree something was seen to change: what a capture looks at that does not look at everything.

use std::collections::BTreeMap;

use crate::keys::PathKey;

/// So many directories are remembered; of more, it is remembered that it may be any.
pub const DIRECTORIES_MAX: usize = 10_000;

/// How much of a directory is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// What is in it.
    Itself,
    /// And all below that.
    AllBelow,
}

/// The directories in which something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Any directory may be among them.
    Everywhere,
    /// These are all that are known.
    In(Directories),
}

/// At most [`DIRECTORIES_MAX`] directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories(BTreeMap<PathKey, Depth>);

impl Touched {
    /// None.
    pub fn nowhere() -> Self {
        Self::In(Directories::default())
    }

    /// Whether nothing is known to have changed.
    pub fn is_nowhere(&self) -> bool {
        matches!(self, Self::In(directories) if directories.0.is_empty())
    }

    /// Something in this directory has changed: a name, or what a name stands for.
    pub fn touch(&mut self, directory: PathKey) {
        self.add(directory, Depth::Itself);
    }

    /// A directory has come, or may have changed in all of its parts.
    pub fn touch_all_below(&mut self, directory: PathKey) {
        self.add(directory, Depth::AllBelow);
    }

    /// Takes in what another one has.
    pub fn merge(&mut self, other: Self) {
        match other {
            Self::Everywhere => *self = Self::Everywhere,
            Self::In(directories) => {
                directories.0.into_iter().for_each(|(path, depth)| self.add(path, depth));
            }
        }
    }

    /// For tests: the directories, with `/**` behind those of which all is meant; `**` for everything.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        let Self::In(Directories(all)) = self else { return vec!["**".to_owned()] };
        let line = |(path, depth): (&PathKey, &Depth)| match depth {
            Depth::Itself => path.to_string(),
            Depth::AllBelow => format!("{path}/**"),
        };
        all.iter().map(line).collect()
    }

    fn add(&mut self, path: PathKey, depth: Depth) {
        let Self::In(Directories(all)) = self else { return };
        if let Some(known) = all.get_mut(&path) {
            *known = depth.max(*known);
        } else if all.len() < DIRECTORIES_MAX {
            all.insert(path, depth);
        } else {
            *self = Self::Everywhere;
        }
    }
}

impl Directories {
    /// Whether a walk has to go into this directory: it is one of them, or on the way to one, or below one that has changed in
    /// all of its parts.
    pub(crate) fn lead_into(&self, directory: &PathKey) -> bool {
        let next = self.0.range(directory..).next();
        next.is_some_and(|(path, _)| path.is_within(directory))
            || self.0.get(&PathKey::root()) == Some(&Depth::AllBelow)
            || self.has_whole_above(directory)
    }

    fn has_whole_above(&self, directory: &PathKey) -> bool {
        let mut above = directory.parent();
        while let Some(path) = above {
            if self.0.get(&path) == Some(&Depth::AllBelow) {
                return true;
            }
            above = path.parent();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> PathKey {
        PathKey::from_components(path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes)).unwrap()
    }

    fn leads(touched: &Touched, to: &str) -> bool {
        let Touched::In(directories) = touched else { return true };
        directories.lead_into(&path(to))
    }

    #[test]
    fn a_walk_goes_to_what_was_touched_and_no_further() {
        let mut touched = Touched::nowhere();
        touched.touch(path("a/b"));
        touched.touch_all_below(path("c"));
        for to in ["", "a", "a/b", "c", "c/d", "c/d/e"] {
            assert!(leads(&touched, to), "{to}");
        }
        for to in ["a/b/c", "a/bb", "a b", "ab", "b", "cc", "d"] {
            assert!(!leads(&touched, to), "{to}");
        }
        assert!(!leads(&Touched::nowhere(), ""));
    }

    #[test]
    fn all_below_the_root_is_everything() {
        let mut touched = Touched::nowhere();
        touched.touch_all_below(PathKey::root());
        assert!(leads(&touched, "a/b/c"));
    }

    #[test]
    fn whole_directories_stay_whole_whatever_comes_later() {
        let mut touched = Touched::nowhere();
        touched.touch_all_below(path("c"));
        touched.touch(path("c"));
        assert!(leads(&touched, "c/d"));
        let mut other = Touched::nowhere();
        other.touch(path("c"));
        other.merge(touched);
        assert!(leads(&other, "c/d"));
    }

    #[test]
    fn of_too_many_it_may_be_any() {
        let mut touched = Touched::nowhere();
        (0..DIRECTORIES_MAX).for_each(|n| touched.touch(path(&n.to_string())));
        touched.touch(path("0"));
        assert_ne!(touched, Touched::Everywhere);
        touched.touch(path("one more"));
        assert_eq!(touched, Touched::Everywhere);
        let mut other = Touched::nowhere();
        other.merge(touched);
        assert_eq!(other, Touched::Everywhere);
    }
}
