//! What a data set consists of: every file's path, kind and length, from a seed and a size.
//!
//! Owns the mixture. Refuses to touch the disk: see `dataset`. The same recipe is the same data set on every
//! machine, and [`Recipe::hash`] names it.

use crate::random::Random;
use crate::text::Vocabulary;

/// Raised whenever the same seed and size would give other bytes than before.
const RECIPE_VERSION: u32 = 1;

/// Shares of the size, in percent; the rest is binaries.
const TEXT_PERCENT: u64 = 24;
const INCOMPRESSIBLE_PERCENT: u64 = 20;

/// Measured on 3 000 files of Rust and Python source trees: median 4.0 KB, mean 8.6 KB.
const TEXT_MEDIAN_BYTES: u64 = 4_000;
const TEXT_DOUBLINGS: f64 = 1.8;
const BINARY_LEAST_BYTES: u64 = 100_000;
const BINARY_MOST_BYTES: u64 = 50_000_000;
const INCOMPRESSIBLE_FILES: u64 = 3;

const MOST_DEPTH: usize = 8;
const EXTENSIONS: &[&str] = &["rs", "rs", "py", "c", "h", "md", "toml", "json"];

/// A seed and a size: all that a data set depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) size_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    Incompressible,
}

/// A file to be written, relative to the root of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) length_bytes: u64,
}

impl Recipe {
    /// 16 hex digits that no other recipe, and no other version of this program's recipes, shares.
    pub(crate) fn hash(&self) -> String {
        let text = format!("backstay-bench {RECIPE_VERSION} {} {}", self.seed, self.size_bytes);
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }

    /// All files, in the order in which a person would have made them: folder by folder.
    pub(crate) fn plan(&self, vocabulary: &Vocabulary) -> Vec<PlannedFile> {
        let text_bytes = self.size_bytes * TEXT_PERCENT / 100;
        let incompressible_bytes = self.size_bytes * INCOMPRESSIBLE_PERCENT / 100;
        let binary_bytes = self.size_bytes - text_bytes - incompressible_bytes;
        let mut plan = Vec::new();
        self.plan_text(vocabulary, text_bytes, &mut plan);
        self.plan_binaries(vocabulary, binary_bytes, &mut plan);
        plan.extend((0..INCOMPRESSIBLE_FILES).map(|number| PlannedFile {
            path: format!("media/{number}.bin"),
            kind: Kind::Incompressible,
            length_bytes: incompressible_bytes / INCOMPRESSIBLE_FILES,
        }));
        plan.sort_by(|a, b| a.path.cmp(&b.path));
        plan
    }

    fn plan_text(&self, vocabulary: &Vocabulary, bytes: u64, plan: &mut Vec<PlannedFile>) {
        let mut random = Random::new(self.seed, "text plan");
        let mut folders = vec![(String::from("src"), 1)];
        let mut left = bytes;
        while left > 0 {
            if random.chance(1, 12) {
                let (parent, depth) = random.pick(&folders);
                if *depth < MOST_DEPTH {
                    let name = vocabulary.file_name(&mut random.clone());
                    let folder = (format!("{parent}/{name}_{}", folders.len()), depth + 1);
                    folders.push(folder);
                }
            }
            let length_bytes = random.log_normal(TEXT_MEDIAN_BYTES, TEXT_DOUBLINGS).clamp(1, left);
            left -= length_bytes;
            // Most files are made in folders that are new: work moves on.
            let recent = folders.len().saturating_sub(1 + random.index(20).min(folders.len() - 1));
            let (folder, _) = &folders[recent];
            let name = vocabulary.file_name(&mut random);
            let extension = random.pick(EXTENSIONS);
            // The number keeps names apart that the vocabulary repeats.
            let path = format!("{folder}/{name}_{}.{extension}", plan.len());
            plan.push(PlannedFile { path, kind: Kind::Text, length_bytes });
        }
    }

    fn plan_binaries(&self, vocabulary: &Vocabulary, bytes: u64, plan: &mut Vec<PlannedFile>) {
        let mut random = Random::new(self.seed, "binary plan");
        let most = BINARY_MOST_BYTES.min(bytes / 4).max(BINARY_LEAST_BYTES);
        let mut left = bytes;
        while left > 0 {
            let length_bytes = random.log_uniform(BINARY_LEAST_BYTES, most).min(left);
            left -= length_bytes;
            let name = vocabulary.file_name(&mut random).to_lowercase();
            let path = format!("lib/{}/{name}.so.{}", random.below(16), plan.len());
            plan.push(PlannedFile { path, kind: Kind::Binary, length_bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(recipe: Recipe) -> Vec<PlannedFile> {
        recipe.plan(&Vocabulary::new(recipe.seed))
    }

    const SMALL: Recipe = Recipe { seed: 11, size_bytes: 64 << 20 };

    #[test]
    fn a_recipe_always_plans_the_same_files() {
        assert_eq!(plan(SMALL), plan(SMALL));
        assert_ne!(plan(SMALL), plan(Recipe { seed: 12, ..SMALL }));
        assert_ne!(SMALL.hash(), Recipe { seed: 12, ..SMALL }.hash());
    }

    #[test]
    fn no_two_files_share_a_path_and_no_file_is_a_folder() {
        let files = plan(SMALL);
        let paths: BTreeSet<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths.len(), files.len());
        let folders: BTreeSet<_> =
            paths.iter().filter_map(|path| path.rsplit_once('/')).map(|(f, _)| f).collect();
        assert!(paths.is_disjoint(&folders));
    }

    #[test]
    fn the_shares_add_up_to_the_size() {
        let files = plan(SMALL);
        let bytes =
            |kind| files.iter().filter(|file| file.kind == kind).map(|file| file.length_bytes).sum::<u64>();
        assert_eq!(bytes(Kind::Text), SMALL.size_bytes * 24 / 100);
        let total = bytes(Kind::Text) + bytes(Kind::Binary) + bytes(Kind::Incompressible);
        assert!(SMALL.size_bytes - total < INCOMPRESSIBLE_FILES, "{total}");
    }

    #[test]
    fn the_default_size_has_about_a_hundred_thousand_small_files() {
        let files = plan(Recipe { seed: 1, size_bytes: 4 << 30 });
        let text = files.iter().filter(|file| file.kind == Kind::Text).count();
        assert!((90_000..125_000).contains(&text), "{text}");
        let deepest = files.iter().map(|file| file.path.matches('/').count()).max();
        assert_eq!(deepest, Some(MOST_DEPTH));
    }
}
