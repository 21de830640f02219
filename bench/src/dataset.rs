//! The generated tree on disk, kept for later runs under the hash of its recipe.
//!
//! Owns its folder: `tree` (what is backed up), `originals` (see `change`) and `complete` (the marker that
//! makes it reusable). Refuses to reuse a tree whose generation was interrupted.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::binary::{Idioms, binary_file};
use crate::random::Random;
use crate::recipe::{Kind, PlannedFile, Recipe};
use crate::text::{Vocabulary, source_file};

/// Large files are written and read in pieces of this size.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Files were last modified in the three years from 2023 on, whenever they are generated.
const OLDEST: Duration = Duration::from_secs(1_672_531_200);
const AGES: Duration = Duration::from_secs(3 * 365 * 86_400);

/// A complete tree, and what it was made from.
pub(crate) struct Dataset {
    home: PathBuf,
    pub(crate) recipe: Recipe,
    pub(crate) plan: Vec<PlannedFile>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) idioms: Idioms,
}

impl Dataset {
    /// The tree of `recipe` under `cache`: the one that is there, or a new one.
    pub(crate) fn open(cache: &Path, recipe: Recipe) -> Result<Dataset> {
        let vocabulary = Vocabulary::new(recipe.seed);
        let plan = recipe.plan(&vocabulary);
        let home = cache.join(recipe.hash());
        let dataset = Dataset { home, recipe, plan, vocabulary, idioms: Idioms::new(recipe.seed) };
        let marker = dataset.home.join("complete");
        if !marker.is_file() {
            dataset.generate().with_context(|| format!("cannot generate {}", dataset.home.display()))?;
            fs::write(&marker, format!("{} files\n", dataset.plan.len()))?;
        }
        Ok(dataset)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.home.join("tree")
    }

    /// Where `change` keeps the originals of what it replaced.
    pub(crate) fn originals(&self) -> PathBuf {
        self.home.join("originals")
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.plan.iter().map(|file| file.length_bytes).sum()
    }

    /// Reads every file once, so that what is measured next finds them in the page cache.
    pub(crate) fn warm(&self) -> Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        for file in &self.plan {
            let path = self.tree().join(&file.path);
            let mut open = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            while open.read(&mut buffer)? > 0 {}
        }
        Ok(())
    }

    fn generate(&self) -> Result<()> {
        if self.home.exists() {
            fs::remove_dir_all(&self.home)?;
        }
        eprintln!("generating {} files, {} MiB", self.plan.len(), self.total_bytes() >> 20);
        for file in &self.plan {
            if let Some(folder) = self.tree().join(&file.path).parent() {
                fs::create_dir_all(folder)?;
            }
        }
        let next = AtomicUsize::new(0);
        let worker = || -> Result<()> {
            while let Some(file) = self.plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.write(file).with_context(|| format!("cannot write {}", file.path))?;
            }
            Ok(())
        };
        let threads = thread::available_parallelism()?.get();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        rustix::fs::sync();
        Ok(())
    }

    fn write(&self, file: &PlannedFile) -> Result<()> {
        let mut random = Random::new(self.recipe.seed, &file.path);
        let modified = OLDEST + Duration::from_millis(random.below(AGES.as_millis() as u64));
        let length = usize::try_from(file.length_bytes)?;
        let mut open = File::create_new(self.tree().join(&file.path))?;
        match file.kind {
            Kind::Text | Kind::Binary => open.write_all(&self.content(file.kind, &mut random, length))?,
            Kind::Incompressible => write_incompressible(&mut open, &mut random, length)?,
        }
        Ok(open.set_modified(SystemTime::UNIX_EPOCH + modified)?)
    }

    /// New bytes of a kind; `length` is held in memory.
    pub(crate) fn content(&self, kind: Kind, random: &mut Random, length: usize) -> Vec<u8> {
        match kind {
            Kind::Text => source_file(&self.vocabulary, random, length),
            Kind::Binary => binary_file(&self.idioms, random, length),
            Kind::Incompressible => {
                let mut bytes = vec![0; length];
                random.fill(&mut bytes);
                bytes
            }
        }
    }
}

fn write_incompressible(file: &mut File, random: &mut Random, length: usize) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let part = &mut piece[..left.min(PIECE_BYTES)];
        random.fill(part);
        file.write_all(part)?;
        left -= part.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Recipe = Recipe { seed: 21, size_bytes: 2 << 20 };

    #[test]
    fn the_same_recipe_is_the_same_tree_down_to_times() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [a, b] = folders.each_ref().map(|folder| Dataset::open(folder.path(), TINY).expect("generated"));
        let differences = crate::compare::differences(&a.tree(), &b.tree()).expect("compared");
        assert_eq!(differences, Vec::<String>::new());
    }

    #[test]
    fn a_complete_tree_is_reused_and_an_interrupted_one_is_not() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let first = Dataset::open(cache.path(), TINY).expect("generated");
        let victim = first.tree().join(&first.plan[0].path);
        fs::write(&victim, "touched").expect("written");
        Dataset::open(cache.path(), TINY).expect("reused");
        assert_eq!(fs::read(&victim).expect("read"), b"touched");

        fs::remove_file(cache.path().join(TINY.hash()).join("complete")).expect("removed");
        Dataset::open(cache.path(), TINY).expect("generated again");
        assert_ne!(fs::read(&victim).expect("read"), b"touched");
    }
}
