//! The integration tests of the workspace, as cargo sees them.
//!
//! Owns the question "which test binaries are there?". It is asked of cargo rather than written down, so that
//! a test added to any crate belongs to a group without anyone listing it.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::cargo;

/// One integration test: `tests/NAME.rs` of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestTarget {
    pub(crate) package: String,
    pub(crate) name: String,
}

/// Every integration test of the workspace, sorted by package and name.
pub(crate) fn test_targets() -> Result<Vec<TestTarget>> {
    let output = cargo("metadata")
        .args(["--no-deps", "--format-version=1"])
        .output()
        .context("cannot start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
    read_metadata(&metadata)
}

fn read_metadata(metadata: &Value) -> Result<Vec<TestTarget>> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().context("`cargo metadata` names no packages")? {
        let package_name = package["name"].as_str().context("a package without a name")?;
        for target in package["targets"].as_array().context("a package without targets")? {
            let is_test =
                target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
            if is_test {
                let name = target["name"].as_str().context("a target without a name")?;
                found.push(TestTarget { package: package_name.to_owned(), name: name.to_owned() });
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integration_tests_are_listed() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "b", "targets": [{ "kind": ["lib"], "name": "b" }, { "kind": ["test"], "name": "two" }] },
            { "name": "a", "targets": [{ "kind": ["test"], "name": "one" }, { "kind": ["bin"], "name": "a" }] },
        ]});
        let names: Vec<_> = read_metadata(&metadata)
            .expect("well formed")
            .into_iter()
            .map(|target| (target.package, target.name))
            .collect();
        assert_eq!(names, [("a".into(), "one".into()), ("b".to_owned(), "two".to_owned())]);
    }

    #[test]
    fn metadata_of_another_shape_is_an_error_not_an_empty_list() {
        assert!(read_metadata(&serde_json::json!({ "crates": [] })).is_err());
    }
}
