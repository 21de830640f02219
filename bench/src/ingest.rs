//! The measurement `ingest`: backups and a restore of one tree, tool after tool, round after round.
//!
//! Owns the order of steps, and fairness: both tools see the same tree in the same state with a warm page
//! cache, on the same file system, and take turns at being first. A restore that is not the original ends the
//! measurement with an error.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::change;
use crate::compare::{differences, walk};
use crate::dataset::Dataset;
use crate::measure::{Cost, measure};
use crate::tool::{Setup, Tool};

/// Differences of a bad restore that are shown.
const SHOWN_DIFFERENCES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Everything, into an empty repository.
    First,
    /// Again, nothing having changed.
    Unchanged,
    /// Again, one file in a hundred having changed.
    Changed,
    /// The newest state, to a new folder.
    Restore,
}

impl Step {
    pub(crate) const ALL: [Step; 4] = [Step::First, Step::Unchanged, Step::Changed, Step::Restore];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::First => "first",
            Step::Unchanged => "unchanged",
            Step::Changed => "changed",
            Step::Restore => "restore",
        }
    }

    /// Whether the step moves the whole tree, so that its bytes per second mean something.
    pub(crate) fn moves_everything(self) -> bool {
        matches!(self, Step::First | Step::Restore)
    }
}

/// One step of one tool in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) round: u32,
    pub(crate) tool: Tool,
    pub(crate) step: Step,
    pub(crate) cost: Cost,
    /// Size of the repository after the step.
    pub(crate) repository_bytes: u64,
}

/// What takes part, and where.
pub(crate) struct Plan<'a> {
    pub(crate) dataset: &'a Dataset,
    /// Tools with their programs.
    pub(crate) tools: Vec<(Tool, PathBuf)>,
    pub(crate) rounds: u32,
    /// An existing folder for repositories and restores.
    pub(crate) work: PathBuf,
    pub(crate) keep: Keep,
}

/// What becomes of repositories and restores after their round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Everything,
}

/// All figures, in the order in which they were taken.
pub(crate) fn ingest(plan: &Plan<'_>) -> Result<Vec<Figure>> {
    change::undo(plan.dataset).context("cannot undo the edit of an interrupted run")?;
    let mut figures = Vec::new();
    let mut homes = Vec::new();
    for round in 1..=plan.rounds {
        for (tool, program) in turns(&plan.tools, round) {
            let home = plan.work.join(format!("round-{round}-{}", tool.name()));
            fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
            plan.dataset.warm()?;
            let figure = |step, cost, repository_bytes| Figure { round, tool, step, cost, repository_bytes };
            let outcome = run_round(plan.dataset, tool, &program, &home).with_context(|| {
                format!("round {round}, {}; its files are in {}", tool.name(), home.display())
            });
            change::undo(plan.dataset)?;
            let taken = outcome?.into_iter().map(|(step, cost, bytes)| figure(step, cost, bytes));
            figures.extend(taken);
            if plan.keep == Keep::Nothing {
                empty(&home)?;
                rustix::fs::sync();
                homes.push(home);
            }
        }
    }
    for home in homes {
        fs::remove_dir_all(home)?;
    }
    Ok(figures)
}

/// Frees the space of all files but keeps the files. For minutes after a deletion ext4 looks at each inode that
/// became free before it takes another one, which doubles the time of the next restore, whichever tool makes it.
pub(crate) fn empty(home: &Path) -> Result<()> {
    for path in walk(home)? {
        let path = home.join(path);
        if path.symlink_metadata()?.is_file() {
            File::options().write(true).open(&path)?.set_len(0)?;
        }
    }
    Ok(())
}

/// The tools in the order of this round: each one begins every other round.
pub(crate) fn turns(tools: &[(Tool, PathBuf)], round: u32) -> Vec<(Tool, PathBuf)> {
    let mut turns = tools.to_vec();
    if round.is_multiple_of(2) {
        turns.reverse();
    }
    turns
}

fn run_round(dataset: &Dataset, tool: Tool, program: &Path, home: &Path) -> Result<Vec<(Step, Cost, u64)>> {
    let tree = dataset.tree();
    let setup = Setup::new(tool, program, home, &tree)?;
    let restored = home.join("restored");
    let mut taken = Vec::new();
    for step in Step::ALL {
        if step == Step::Changed {
            change::apply(dataset, change::FEW)?;
        }
        let mut command = if step == Step::Restore { setup.restore(&restored) } else { setup.backup() };
        // Nobody's earlier writes may be flushed on this step's time.
        rustix::fs::sync();
        eprint!("{:9} {:9} ", tool.name(), step.name());
        let cost = measure(&mut command, &home.join(format!("{}.log", step.name())))?;
        eprintln!("{:8.2} s", cost.wall_seconds);
        taken.push((step, cost, size_bytes(&setup.repository())?));
    }
    verify(&tree, &restored)?;
    Ok(taken)
}

/// Fails when the restored tree is not the original.
pub(crate) fn verify(tree: &Path, restored: &Path) -> Result<()> {
    let found = differences(tree, restored)?;
    if !found.is_empty() {
        let shown: Vec<_> = found.iter().take(SHOWN_DIFFERENCES).map(|line| format!("  {line}")).collect();
        bail!("the restored tree is not the original, {} paths differ:\n{}", found.len(), shown.join("\n"));
    }
    Ok(())
}

/// The sum of the lengths of all files.
fn size_bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for path in walk(folder)? {
        let metadata = folder.join(path).symlink_metadata()?;
        total += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_begins_every_other_round() {
        let tools = [(Tool::Backstay, PathBuf::new()), (Tool::Restic, PathBuf::new())];
        let first = |round| turns(&tools, round)[0].0;
        assert_eq!([1, 2, 3, 4].map(first), [Tool::Backstay, Tool::Restic, Tool::Backstay, Tool::Restic]);
    }

    #[test]
    fn a_restore_that_lost_a_file_is_refused() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        fs::write(folders[0].path().join("precious"), b"").expect("written");
        let error = verify(folders[0].path(), folders[1].path()).expect_err("a file is missing");
        assert!(error.to_string().contains("missing: precious"), "{error}");
    }

    #[test]
    fn the_size_of_a_repository_is_the_sum_of_its_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("sub")).expect("made");
        fs::write(folder.path().join("a"), [0; 10]).expect("written");
        fs::write(folder.path().join("sub/b"), [0; 5]).expect("written");
        assert_eq!(size_bytes(folder.path()).expect("summed"), 15);
    }
}
