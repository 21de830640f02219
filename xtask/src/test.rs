//! `cargo xtask test`: provision, run the groups, report.
//!
//! Owns the order and the verdict. A group that fails does not stop the next one: a run tells all it can.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::deny::{self, Judged};
use crate::groups::{Expects, Group, Step};
use crate::report::{Outcome, Row, summary};
use crate::tailnet::{self, Parts};
use crate::tally::Tally;
use crate::zfs_vm::{self, Machine};
use crate::{cargo, garage, namespaces, provision, s3s_fs, size};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Groups to run; all but `long` when none is named.
    groups: Vec<Group>,
    /// Leave out the groups that need something installed.
    #[arg(long)]
    quick: bool,
}

/// Runs the groups and prints a table, whose last line begins with `N passed, N failed`. Fails if any group did.
pub(crate) fn run(options: &Options) -> Result<()> {
    let groups = wanted(options);
    if groups.is_empty() {
        bail!("nothing to run: --quick leaves out every group that was named");
    }
    let programs: Vec<_> = groups.iter().flat_map(|group| group.programs()).copied().collect();
    provision::ensure(&programs).context("provisioning failed (`--quick` needs none)")?;
    let rows: Vec<_> = groups.into_iter().map(run_group).collect();
    print!("{}", summary(&rows));
    match rows.iter().filter(|row| row.failures() > 0).count() {
        0 => Ok(()),
        count => bail!("{count} of {} groups failed", rows.len()),
    }
}

fn wanted(options: &Options) -> Vec<Group> {
    let named = |group: &Group| match options.groups.as_slice() {
        [] => *group != Group::Long,
        named => named.contains(group),
    };
    let chosen = Group::value_variants().iter().copied().filter(named);
    chosen.filter(|group| !options.quick || group.is_quick()).collect()
}

fn run_group(group: Group) -> Row {
    let name = group.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    eprintln!("== {name}");
    let start = Instant::now();
    let mut tally = Tally::default();
    let outcome = match run_steps(group, &mut tally) {
        Ok(Done::Ran { note }) => Outcome::Passed { note },
        Ok(Done::Skipped { why }) => {
            eprintln!("== {name}: SKIPPED, {why}");
            Outcome::Skipped { why }
        }
        Err(error) => {
            eprintln!("== {name}: {error:#}");
            Outcome::Failed { why: format!("{error:#}") }
        }
    };
    Row { name, elapsed: start.elapsed(), tally, outcome }
}

/// What became of a group in which nothing failed.
enum Done {
    Ran {
        /// What a reader of the table should know.
        note: Option<&'static str>,
    },
    Skipped {
        why: String,
    },
}

/// Runs all steps, also after one failed.
fn run_steps(group: Group, tally: &mut Tally) -> Result<Done> {
    let mut note = None;
    let mut skipped = None;
    let mut failures = Vec::new();
    for step in group.steps()? {
        let result = match step {
            Step::Check(mut command) => cargo::run(&mut command),
            Step::Size => size::run(),
            Step::Deny => deny::run().map(|judged| {
                note = (judged == Judged::WithoutAdvisories).then_some("advisories NOT checked, no database");
            }),
            Step::Tests(mut command) => counted(&mut command, tally),
            Step::OnTailnet(mut command) => match tailnet::parts() {
                Ok(Parts::Built(folder)) => counted(command.env(tailnet::PROGRAMS_VARIABLE, folder), tally),
                Ok(Parts::Impossible(why)) => {
                    skipped = Some(why);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Step::InGuest(mut command) => match zfs_vm::machine() {
                Ok(Machine::Built(_)) => {
                    zfs_vm::run_tests_there(&mut command).and_then(|()| counted(&mut command, tally))
                }
                Ok(Machine::Impossible(why)) => {
                    skipped = Some(why);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Step::WithBuckets(mut command) => {
                with_services(&mut command).and_then(|()| counted(&mut command, tally))
            }
            Step::OverNetwork(mut command) => match namespaces::can_lose() {
                Ok(()) => counted(&mut command, tally),
                Err(obstacle) => {
                    skipped = Some(format!("{obstacle:#}"));
                    Ok(())
                }
            },
        };
        failures.extend(result.err().map(|error| format!("{error:#}")));
    }
    if failures.is_empty() && skipped.is_none() && group.expects() == Expects::Tests && tally.ran() == 0 {
        failures.push("no test ran".to_owned());
    }
    match skipped {
        _ if !failures.is_empty() => Err(anyhow!(failures.join("; "))),
        Some(why) => Ok(Done::Skipped { why }),
        None => Ok(Done::Ran { note }),
    }
}

/// Tells the tests where the services with buckets are.
fn with_services(command: &mut Command) -> Result<()> {
    command.env(garage::PROGRAM_VARIABLE, garage::ensure()?);
    command.env(s3s_fs::PROGRAM_VARIABLE, s3s_fs::ensure()?);
    Ok(())
}

fn counted(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let (counted, result) = cargo::run_tests(command);
    tally.add(counted);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_all_run_but_the_long_ones() {
        let groups = wanted(&Options { groups: vec![], quick: false });
        assert_eq!(groups.len(), Group::value_variants().len() - 1);
        assert!(!groups.contains(&Group::Long));
    }

    #[test]
    fn named_groups_run_once_in_their_own_order() {
        let groups = wanted(&Options { groups: vec![Group::Unit, Group::Style, Group::Unit], quick: false });
        assert_eq!(groups, [Group::Style, Group::Unit]);
    }

    #[test]
    fn quick_applies_to_named_groups_too() {
        assert_eq!(wanted(&Options { groups: vec![Group::E2e, Group::Unit], quick: true }), [Group::Unit]);
    }
}
