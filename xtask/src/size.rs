//! `cargo xtask size`: files that have outgrown one subject.
//!
//! Owns the limit and the counting: lines before the tests, in every Rust source that git would track. Leaves
//! out integration tests and benches: a long list of cases is no second subject.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::root;

/// Lines without tests above which a file must be split.
const LIMIT_LINES: usize = 500;

/// Prints the files above the limit, longest first, and fails if there are any.
pub(crate) fn run() -> Result<()> {
    let mut large = Vec::new();
    for file in rust_files()? {
        let text = std::fs::read_to_string(root().join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = lines_before_tests(&text);
        if lines > LIMIT_LINES {
            large.push((lines, file));
        }
    }
    large.sort_by(|a, b| b.cmp(a));
    for (lines, file) in &large {
        println!("{lines:5} {}", file.display());
    }
    match large.len() {
        0 => Ok(()),
        count => {
            bail!("{count} files above {LIMIT_LINES} lines without tests: give each subject its own file")
        }
    }
}

fn rust_files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.rs"])
        .current_dir(root())
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    // A file that is deleted but not yet committed is still listed.
    Ok(names.split_terminator('\0').map(PathBuf::from).filter(|file| is_source(file)).collect())
}

fn is_source(file: &Path) -> bool {
    let is_test = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    !is_test && root().join(file).is_file()
}

/// The house style puts tests last, so everything from the test module on is tests.
fn lines_before_tests(text: &str) -> usize {
    let tests_begin = |window: &[&str]| window[0] == "#[cfg(test)]" && window[1].starts_with("mod tests {");
    let lines: Vec<_> = text.lines().collect();
    lines.windows(2).position(tests_begin).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_module_do_not_count() {
        assert_eq!(lines_before_tests("one\ntwo\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_before_tests("one\n#[cfg(test)]\nfn only_in_tests() {}\nfour\n"), 4);
    }

    #[test]
    fn this_file_is_among_those_counted() {
        assert!(rust_files().expect("git lists").contains(&PathBuf::from("xtask/src/size.rs")));
    }
}
