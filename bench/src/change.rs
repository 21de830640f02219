//! An edit of one file in so many, and its undoing.
//!
//! Owns which files change and how: a tenth of each is replaced by new bytes of the same kind, and text
//! changes its length by it. The originals are moved aside and moved back, so an interrupted run is undone by
//! the next one. Refuses to touch incompressible files: they stand for media, which nobody edits.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compare::walk;
use crate::dataset::Dataset;
use crate::random::Random;
use crate::recipe::{Kind, PlannedFile};

/// One file in so many is edited.
pub(crate) const FEW: usize = 100;

/// What an edit touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) files: u64,
    pub(crate) written_bytes: u64,
}

/// Edits one file in `one_in`. The tree must be in its original state.
pub(crate) fn apply(dataset: &Dataset, one_in: usize) -> Result<Changed> {
    let mut changed = Changed::default();
    for file in chosen(dataset, one_in) {
        edit(dataset, file, &mut changed).with_context(|| format!("cannot edit {}", file.path))?;
    }
    Ok(changed)
}

/// Puts every original back. Does nothing to a tree that was not edited.
pub(crate) fn undo(dataset: &Dataset) -> Result<()> {
    let originals = dataset.originals();
    if !originals.is_dir() {
        return Ok(());
    }
    for relative in walk(&originals)? {
        let original = originals.join(&relative);
        if original.is_file() {
            fs::rename(&original, dataset.tree().join(&relative))
                .with_context(|| format!("cannot put {} back", relative.display()))?;
        }
    }
    fs::remove_dir_all(&originals).with_context(|| format!("cannot remove {}", originals.display()))
}

/// One in so many, and at least the first of each kind, so that a tiny data set has an edit as well.
fn chosen(dataset: &Dataset, one_in: usize) -> Vec<&PlannedFile> {
    let of_kind = |kind: Kind| {
        let files = dataset.plan.iter().filter(move |file| file.kind == kind);
        files.enumerate().filter(|(position, _)| position % one_in == 0).map(|(_, file)| file)
    };
    of_kind(Kind::Text).chain(of_kind(Kind::Binary)).collect()
}

fn edit(dataset: &Dataset, file: &PlannedFile, changed: &mut Changed) -> Result<()> {
    let mut random = Random::new(dataset.recipe.seed, &format!("edit {}", file.path));
    let path = dataset.tree().join(&file.path);
    let mut bytes = fs::read(&path)?;
    let permissions = fs::metadata(&path)?.permissions();

    let span = (bytes.len() / 10).max(1);
    let start = random.index(bytes.len() - span + 1);
    let length = match file.kind {
        Kind::Text => span + random.index(span + 40),
        Kind::Binary | Kind::Incompressible => span,
    };
    let new = dataset.content(file.kind, &mut random, length);
    bytes.splice(start..start + span, new);

    move_aside(&path, &dataset.originals().join(&file.path))?;
    fs::write(&path, &bytes)?;
    fs::set_permissions(&path, permissions)?;
    changed.files += 1;
    changed.written_bytes += length as u64;
    Ok(())
}

fn move_aside(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("the original has no folder")?)?;
    Ok(fs::rename(from, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::differences;
    use crate::recipe::Recipe;

    #[test]
    fn an_edit_changes_one_file_in_a_hundred_and_is_undone_completely() {
        let recipe = Recipe { seed: 31, size_bytes: 8 << 20 };
        let (cache, pristine) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let dataset = Dataset::open(cache.path(), recipe).expect("generated");
        let original = Dataset::open(pristine.path(), recipe).expect("generated");
        let differing = || differences(&original.tree(), &dataset.tree()).expect("compared");

        let changed = apply(&dataset, FEW).expect("edited");
        assert_eq!(changed.files, dataset.plan.len() as u64 / 100 + 2);
        assert_eq!(differing().len() as u64, changed.files);
        let first = fs::read(dataset.tree().join(&chosen(&dataset, FEW)[0].path)).expect("read");

        undo(&dataset).expect("undone");
        assert_eq!(differing(), Vec::<String>::new());
        undo(&dataset).expect("undoing twice is harmless");

        apply(&dataset, FEW).expect("edited again");
        assert_eq!(fs::read(dataset.tree().join(&chosen(&dataset, FEW)[0].path)).expect("read"), first);
    }
}
