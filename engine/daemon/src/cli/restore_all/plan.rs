//! Where a source goes on a bare machine: to its own path, or below the directory that was given. Pure.

use std::path::{Component, Path, PathBuf};

use backstay_core::config::SourceName;

/// What decides it.
#[derive(Debug, Clone)]
pub(super) struct SourceFacts {
    pub(super) name: SourceName,
    /// The kind, as the point says it.
    pub(super) kind: String,
    /// Of a tree, where it was.
    pub(super) root: Option<PathBuf>,
}

/// How it is restored, and to which path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// As a directory.
    Tree(PathBuf),
    /// As a file.
    File(PathBuf),
}

impl Way {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Tree(path) | Self::File(path) => path,
        }
    }
}

/// The way of a source; why there is none, otherwise.
pub(super) fn way(source: &SourceFacts, to: Option<&Path>) -> Result<Way, String> {
    let below = to.map(|to| to.join(source.name.as_str()));
    match (source.kind.as_str(), below, &source.root) {
        ("files", Some(below), _) => Ok(Way::Tree(below)),
        ("files", None, Some(root)) if is_plain(root) => Ok(Way::Tree(root.clone())),
        ("files", None, Some(root)) => {
            Err(format!("where it was is no absolute path without `..`: {}: give --to DIR", root.display()))
        }
        ("files", None, _) => Err("where it was is not in the point: give --to DIR".to_owned()),
        ("command", Some(below), _) => Ok(Way::File(below)),
        ("command", None, _) => Err(format!(
            "it is what a program has written, and has no path of its own: with --to DIR it becomes the file DIR/{}; or, when the configuration is there, `backstay restore {0} --to-program PROGRAM`",
            source.name
        )),
        (kind, _, _) => Err(format!(
            "it is of the kind {kind}, which this version of backstay cannot restore: use a newer one"
        )),
    }
}

/// Whether it means the same wherever the command is started, and lies where it seems to.
fn is_plain(root: &Path) -> bool {
    root.is_absolute()
        && root.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, kind: &str, root: Option<&str>) -> SourceFacts {
        SourceFacts {
            name: name.parse().expect("a name"),
            kind: kind.to_owned(),
            root: root.map(PathBuf::from),
        }
    }

    fn ways(name: &str, kind: &str, root: Option<&str>) -> [Result<Way, String>; 2] {
        let facts = facts(name, kind, root);
        [way(&facts, None), way(&facts, Some(Path::new("/mnt/all")))]
    }

    #[test]
    fn a_tree_goes_to_its_own_path_or_below_the_directory_under_its_name() {
        let [own, below] = ways("web.files", "files", Some("/srv/web"));
        assert_eq!(own, Ok(Way::Tree("/srv/web".into())));
        assert_eq!(below, Ok(Way::Tree("/mnt/all/web.files".into())));
        let [unknown, below] = ways("web.files", "files", None);
        assert!(unknown.expect_err("no path").contains("--to DIR"));
        assert!(below.is_ok());
        let [relative, _] = ways("web.files", "files", Some("srv/web"));
        let [above, _] = ways("web.files", "files", Some("/srv/../root/.ssh"));
        assert!(above.expect_err("it lies elsewhere").contains("`..`"));
        assert!(relative.is_err(), "it would be restored to wherever the command was started");
    }

    #[test]
    fn an_output_needs_a_directory_and_a_kind_of_later_versions_is_named() {
        let [own, below] = ways("web.dump", "command", None);
        assert!(own.expect_err("no path").contains("--to DIR"));
        assert_eq!(below, Ok(Way::File("/mnt/all/web.dump".into())));
        for refused in ways("db.zfs", "zfs", None) {
            assert!(refused.expect_err("a kind of later").contains("of the kind zfs"));
        }
    }
}
