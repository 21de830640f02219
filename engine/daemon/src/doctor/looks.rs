//! Looks at many places at the same time, so that several that hang cost the time of one. Judges nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::limit::{LOOK_TIME, LOOKS_MAX, begin};
use super::mounts::Mounts;
use super::place::Place;
use super::secrets::FileFacts;

/// What came of a look at a path.
#[derive(Debug, Clone)]
pub enum Looked {
    /// What is there.
    Seen(Box<Place>),
    /// The error.
    Failed(String),
    /// It does not answer.
    Hangs,
}

/// Looks at paths.
pub type Looks = BTreeMap<PathBuf, Looked>;

/// Looks at all these paths.
pub fn look_at(mut paths: Vec<PathBuf>, mounts: &Mounts) -> Looks {
    paths.sort();
    paths.dedup();
    let mut looks = Looks::new();
    for some in paths.chunks(LOOKS_MAX) {
        let begun: Vec<_> = some
            .iter()
            .map(|path| {
                let (looked_at, mounts) = (path.clone(), mounts.clone());
                (path.clone(), begin(move || Place::look(&looked_at, &mounts)))
            })
            .collect();
        for (path, awaited) in begun {
            let looked = match awaited.within(LOOK_TIME) {
                Some(Ok(place)) => Looked::Seen(Box::new(place)),
                Some(Err(error)) => Looked::Failed(error.to_string()),
                None => Looked::Hangs,
            };
            looks.insert(path, looked);
        }
    }
    looks
}

/// Looks at all these files; of one that hangs nothing is known.
pub fn look_at_files<'p>(paths: impl Iterator<Item = &'p Path>) -> BTreeMap<PathBuf, FileFacts> {
    let paths: Vec<PathBuf> = paths.map(Path::to_path_buf).collect();
    let look = |path: &PathBuf| {
        let looked_at = path.clone();
        (path.clone(), begin(move || FileFacts::of(&looked_at)))
    };
    let looked = |some: &[PathBuf]| -> Vec<_> {
        let begun: Vec<_> = some.iter().map(look).collect();
        begun.into_iter().filter_map(|(path, facts)| Some((path, facts.within(LOOK_TIME)?))).collect()
    };
    paths.chunks(LOOKS_MAX).flat_map(looked).collect()
}
