//! The groups of `cargo xtask test`: what each runs and what it needs installed.
//!
//! Owns the map from a group to its steps, and the rule that every integration test belongs to exactly one
//! group. Refuses to run anything: see `test`.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::cargo::cargo;
use crate::provision::Program;
use crate::targets::{TestTarget, test_targets};

/// The package of the real binary: its integration tests drive it as a user would.
const DAEMON: &str = "backstay-daemon";
/// The package that replays the corpora of the fuzzed decoders.
const FUZZ: &str = "backstay-fuzz";
/// The state-space model of commit and collection, which runs long enough to want its own line.
const MODEL: (&str, &str) = ("backstay-vault", "commit_and_collect");

/// The tests that ask a real tailscaled.
const TAILNET: (&str, &str) = ("backstay-net", "tailnet");
/// The module of them all. They are marked `#[ignore]`, since they cannot run without what this group builds; so that a plain
/// `cargo test` says that they were left out.
const TAILNET_MODULE: &str = "on_a_real_tailnet::";

/// The tests of two daemons with a bad network between them, and the module of those that are marked `#[ignore]` for the same
/// reason.
const NETWORK: (&str, &str) = (DAEMON, "network");
const NETWORK_MODULE: &str = "over_a_network::";

/// The tests of stores and vaults in buckets of real services, and the module of each service, marked `#[ignore]` for the same
/// reason.
const S3: [(&str, &str); 2] = [("backstay-s3", "services"), (DAEMON, "buckets")];
const S3_MODULES: [&str; 2] = ["on_garage::", "on_s3s_fs::"];
/// Those of them that take minutes.
const S3_LONG_MODULES: [&str; 1] = ["long_in_buckets::"];

/// The tests that ask a real OpenZFS, and the module of them all, marked `#[ignore]` for the same reason.
const ZFS: (&str, &str) = ("backstay-zfs", "on_zfs");
const ZFS_MODULE: &str = "on_openzfs::";
/// The machine has one processor, and every pool takes memory.
const ZFS_AT_ONCE: &str = "--test-threads=1";

/// They wait for most of their time, each in namespaces of its own.
const NETWORK_AT_ONCE: &str = "--test-threads=7";

/// What the tests of buckets use beside their services.
const S3_PROGRAMS: &[Program] = &[Program { name: "faketime", package: "faketime" }];

/// What the tests of the real binary compare with.
const E2E_PROGRAMS: &[Program] = &[
    Program { name: "bash", package: "bash" },
    Program { name: "mkfs.btrfs", package: "btrfs-progs" },
    Program { name: "faketime", package: "faketime" },
    Program { name: "fish", package: "fish" },
    Program { name: "getfattr", package: "attr" },
    Program { name: "getfacl", package: "acl" },
    Program { name: "groff", package: "groff-base" },
    Program { name: "mkfs.ext4", package: "e2fsprogs" },
    Program { name: "openssl", package: "openssl" },
    Program { name: "python3", package: "python3-minimal" },
    Program { name: "rsync", package: "rsync" },
    Program { name: "sqlite3", package: "sqlite3" },
    Program { name: "systemd-analyze", package: "systemd" },
    Program { name: "unshare", package: "util-linux" },
    Program { name: "zsh", package: "zsh" },
];

/// A set of checks with one subject, in the order in which they run: what fails fast comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Formatting, clippy with warnings denied, and the size of files.
    Style,
    /// Unit tests of all crates.
    Unit,
    /// Integration tests of the libraries.
    Integration,
    /// The model of commit and collection, every interleaving.
    Model,
    /// The corpora of the fuzzed decoders, replayed on stable.
    Fuzz,
    /// Tests of the real `backstay` binary (installs attr, acl, rsync, …).
    E2e,
    /// The client of tailscaled, on a tailnet of real parts in network namespaces (builds headscale and tailscaled once).
    Tailnet,
    /// Two daemons on hosts in network namespaces, and a network between them that loses, delays, reorders and parts (installs
    /// nftables).
    Network,
    /// Stores and vaults in buckets of real services (builds Garage and s3s-fs once).
    S3,
    /// The sources and targets that are datasets, on a real OpenZFS in a virtual machine (builds the machine once).
    Zfs,
    /// The documentation builds without a warning, and its examples run.
    Docs,
    /// Licences, sources and advisories of the dependencies (builds cargo-deny once).
    Deny,
    /// Tests marked `#[ignore]`: hours. Never part of CI.
    Long,
}

/// One thing to run.
pub(crate) enum Step {
    /// Must succeed.
    Check(Command),
    /// Must succeed; the tests it runs are counted.
    Tests(Command),
    /// The same, with the real parts of a tailnet. Skipped where there are none.
    OnTailnet(Command),
    /// The same, with a network that loses. Skipped where it cannot be made.
    OverNetwork(Command),
    /// The same, with the services that have buckets.
    WithBuckets(Command),
    /// The same, in the virtual machine with OpenZFS. Skipped where it cannot run.
    InGuest(Command),
    /// `cargo xtask deny`.
    Deny,
    /// `cargo xtask size`.
    Size,
}

/// Whether a group has passed without running a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expects {
    /// It consists of checks; tests may be part of it.
    Success,
    /// At least one test must have run: none means that the group did not do its work.
    Tests,
}

impl Group {
    /// Programs that must be installed first.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Group::E2e | Group::Long => E2E_PROGRAMS,
            Group::S3 => S3_PROGRAMS,
            _ => &[],
        }
    }

    /// Whether the group asks nothing of the machine but the Rust toolchain: what `--quick` keeps.
    pub(crate) fn is_quick(self) -> bool {
        self.programs().is_empty()
            && !matches!(self, Group::Deny | Group::Tailnet | Group::Network | Group::S3 | Group::Zfs)
    }

    pub(crate) fn expects(self) -> Expects {
        match self {
            Group::Style | Group::Docs | Group::Deny => Expects::Success,
            Group::Unit
            | Group::Integration
            | Group::Model
            | Group::Fuzz
            | Group::E2e
            | Group::Tailnet
            | Group::Network
            | Group::S3
            | Group::Zfs
            | Group::Long => Expects::Tests,
        }
    }

    /// What to run, in order.
    pub(crate) fn steps(self) -> Result<Vec<Step>> {
        Ok(match self {
            Group::Style => style(),
            Group::Docs => docs(),
            Group::Deny => vec![Step::Deny],
            Group::Unit => vec![run_tests(&["--workspace", "--exclude", FUZZ, "--lib", "--bins"])],
            Group::Fuzz => vec![run_tests(&["--package", FUZZ])],
            Group::Long => {
                let in_buckets = S3.map(|test| with_buckets(test, &S3_LONG_MODULES));
                [long()].into_iter().chain(in_buckets).collect()
            }
            Group::Tailnet => vec![on_tailnet()],
            Group::Network => vec![over_network()],
            Group::Zfs => vec![in_guest()],
            Group::S3 => S3.map(|test| with_buckets(test, &S3_MODULES)).into(),
            Group::Integration | Group::Model | Group::E2e => {
                let targets = test_targets()?;
                let namesakes = namesakes(&targets);
                ensure!(
                    namesakes.is_empty(),
                    "integration tests of two packages have one name: {namesakes:?}"
                );
                integration_steps(self, &targets)
            }
        })
    }
}

fn style() -> Vec<Step> {
    let mut format = cargo("fmt");
    format.args(["--all", "--check"]);
    let mut clippy = cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    vec![Step::Check(format), Step::Size, Step::Check(clippy)]
}

fn docs() -> Vec<Step> {
    let mut build = cargo("doc");
    build.args(["--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    vec![Step::Check(build), run_tests(&["--workspace", "--doc"])]
}

fn run_tests(arguments: &[&str]) -> Step {
    Step::Tests(test_command(arguments))
}

fn on_tailnet() -> Step {
    let (_, test) = TAILNET;
    Step::OnTailnet(of_workspace(&[test], &["--ignored", TAILNET_MODULE]))
}

fn over_network() -> Step {
    let (_, test) = NETWORK;
    Step::OverNetwork(of_workspace(&[test], &["--include-ignored", NETWORK_AT_ONCE]))
}

fn with_buckets((_, test): (&str, &str), modules: &[&str]) -> Step {
    Step::WithBuckets(of_workspace(&[test], &[&["--ignored"], modules].concat()))
}

fn in_guest() -> Step {
    let (_, test) = ZFS;
    Step::InGuest(of_workspace(&[test], &["--ignored", ZFS_MODULE, ZFS_AT_ONCE]))
}

/// These integration tests. Cargo is asked for the whole workspace, also for one of them: of a package alone it would resolve other
/// features of what all depend on, and compile all of that once more.
fn of_workspace(tests: &[&str], which: &[&str]) -> Command {
    let mut arguments = vec!["--workspace"];
    arguments.extend(tests.iter().flat_map(|test| ["--test", test]));
    if !which.is_empty() {
        arguments.push("--");
        arguments.extend(which);
    }
    test_command(&arguments)
}

fn long() -> Step {
    let mut which = vec!["--workspace", "--tests", "--", "--ignored"];
    which.extend(need_parts().flat_map(|module| ["--skip", module]));
    run_tests(&which)
}

/// The modules of what runs only where there are real parts for it.
fn need_parts() -> impl Iterator<Item = &'static str> {
    [TAILNET_MODULE, NETWORK_MODULE, ZFS_MODULE].into_iter().chain(S3_MODULES).chain(S3_LONG_MODULES)
}

fn test_command(arguments: &[&str]) -> Command {
    let mut command = cargo("test");
    command.arg("--no-fail-fast").args(arguments);
    command
}

/// A step for all tests of the group. A group without any has no step, and so does not pass.
fn integration_steps(group: Group, targets: &[TestTarget]) -> Vec<Step> {
    let mine = targets.iter().filter(|target| group_of(target) == group);
    let names: Vec<&str> = mine.map(|target| target.name.as_str()).collect();
    if names.is_empty() { Vec::new() } else { vec![Step::Tests(of_workspace(&names, &[]))] }
}

/// Tests of one name in two packages, which would run in the groups of both.
fn namesakes(targets: &[TestTarget]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    targets.iter().map(|target| target.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}

fn group_of(target: &TestTarget) -> Group {
    match (target.package.as_str(), target.name.as_str()) {
        MODEL => Group::Model,
        TAILNET => Group::Tailnet,
        NETWORK => Group::Network,
        ZFS => Group::Zfs,
        found if S3.contains(&found) => Group::S3,
        (DAEMON, _) => Group::E2e,
        (FUZZ, _) => Group::Fuzz,
        _ => Group::Integration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(package: &str, name: &str) -> TestTarget {
        TestTarget { package: package.to_owned(), name: name.to_owned() }
    }

    fn words(steps: Vec<Step>) -> Vec<String> {
        let show = |command: Command| {
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        steps
            .into_iter()
            .filter_map(|step| if let Step::Tests(command) = step { Some(show(command)) } else { None })
            .collect()
    }

    #[test]
    fn a_new_integration_test_is_run_without_being_listed() {
        let steps = integration_steps(
            Group::Integration,
            &[target(DAEMON, "restore"), target("new", "a"), target("new", "b"), target(MODEL.0, MODEL.1)],
        );
        let shown = words(steps);
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(shown[0].ends_with("--workspace --test a --test b"), "{shown:?}");
    }

    #[test]
    fn two_tests_of_one_name_are_found() {
        let targets = [target("one", "a"), target("two", "a"), target("two", "b")];
        assert_eq!(namesakes(&targets).into_iter().collect::<Vec<_>>(), ["a"]);
        assert!(namesakes(&targets[1..]).is_empty());
    }

    #[test]
    fn the_model_is_not_run_twice() {
        let model = target(MODEL.0, MODEL.1);
        let ran_by = Group::value_variants().iter().filter(|&&group| group_of(&model) == group).count();
        assert_eq!((ran_by, group_of(&model)), (1, Group::Model));
    }

    #[test]
    fn what_needs_real_parts_is_run_where_they_are_and_nowhere_else() {
        assert_eq!(group_of(&target(TAILNET.0, TAILNET.1)), Group::Tailnet);
        let Step::OnTailnet(command) = on_tailnet() else { panic!("it runs without the parts") };
        assert!(command.get_args().any(|word| word == TAILNET_MODULE));
        assert_eq!(group_of(&target(NETWORK.0, NETWORK.1)), Group::Network);
        let Step::OverNetwork(command) = over_network() else { panic!("it runs without a network") };
        assert!(command.get_args().any(|word| word == "--include-ignored"));
        assert_eq!(group_of(&target(ZFS.0, ZFS.1)), Group::Zfs);
        let Step::InGuest(command) = in_guest() else { panic!("it runs without OpenZFS") };
        assert!(command.get_args().any(|word| word == ZFS_MODULE));
        for of_s3 in S3 {
            assert_eq!(group_of(&target(of_s3.0, of_s3.1)), Group::S3);
            let Step::WithBuckets(command) = with_buckets(of_s3, &S3_MODULES) else {
                panic!("it runs without services")
            };
            assert!(S3_MODULES.iter().all(|module| command.get_args().any(|word| word == *module)));
        }
        let long = words(Group::Long.steps().expect("it asks nobody"));
        for module in need_parts() {
            assert!(long[0].contains(&format!("--skip {module}")), "{long:?}");
        }
    }

    #[test]
    fn a_group_that_runs_nothing_has_no_steps_to_pass() {
        assert!(integration_steps(Group::Model, &[target(DAEMON, "restore")]).is_empty());
        assert_eq!(Group::Model.expects(), Expects::Tests);
    }

    #[test]
    fn quick_leaves_out_what_installs() {
        let left_out: Vec<_> = Group::value_variants().iter().filter(|group| !group.is_quick()).collect();
        let installing =
            [Group::E2e, Group::Tailnet, Group::Network, Group::S3, Group::Zfs, Group::Deny, Group::Long];
        assert!(left_out.into_iter().eq(&installing));
    }
}
