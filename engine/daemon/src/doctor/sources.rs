//! The sources of this node, one after the other: which facts are gathered for each, and how long that may take in all. What
//! they mean is judged in `tree`, `databases` and `program`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backstay_core::config::{Config, FilesSource, Source, SourceKind};
use backstay_files::walk::Crossing;

use super::finding::Finding;
use super::limit::{LOOK_TIME, TREES_TIME, within};
use super::mounts::{Mount, Mounts};
use super::names::Names;
use super::program::{self, Tried};
use super::sample::{self, TIME_MAX};
use super::tree::{self, Watched};
use super::words::Words;
use super::{Looked, Looks, Tell, databases, hangs, seen, snapshots, system};
use crate::engine::walk_options;

/// How long the attempt to start a program may take, beside the limit that it has itself.
const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// What the sources are examined with.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    pub(super) config: &'a Config,
    pub(super) words: &'a Words,
    pub(super) looks: &'a Looks,
    pub(super) mounts: &'a Mounts,
    /// What the configuration says of sources.
    pub(super) configured: Vec<Finding>,
    /// Entries of the newest point of each source.
    pub(super) last_entries: BTreeMap<String, u64>,
    /// The user of the daemon.
    pub(super) daemon_uid: u32,
}

impl Sources<'_> {
    /// Examines each source, and what all of them take together.
    pub(super) fn examine(&self, tell: Tell<'_>) {
        let end = Instant::now() + TREES_TIME;
        let mut watched = Watched::default();
        let mut names = self.names();
        for source in self.config.sources_at_home_on(&self.config.node.name) {
            let subject = format!("source {}", source.name);
            tell(self.configured.iter().filter(|finding| finding.subject == subject).cloned().collect());
            match &source.kind {
                SourceKind::Files(files) => tell(self.tree(source, files, end, (&mut watched, &mut names))),
                SourceKind::Command(command) => {
                    let rpo = source.flows.iter().map(|flow| flow.rpo).min().unwrap_or(Duration::MAX);
                    let of_it = program::Command {
                        name: source.name.as_str(),
                        source: command,
                        allow: &self.config.allow,
                        rpo,
                        daemon_uid: self.daemon_uid,
                    };
                    let tried = self.attempt(source);
                    tell(of_it.judge(&tried, self.words));
                }
                // That they are not acted on is said of the configuration.
                SourceKind::Zfs(_) | SourceKind::Postgres(_) => {}
            }
        }
        tell(tree::judge_watches(watched, system::watch_limits(), self.words).into_iter().collect());
        tell(snapshots::judge_left(&self.left_snapshots(), self.words));
    }

    /// Snapshots beside the trees that are read from one, which belong to none of these.
    fn left_snapshots(&self) -> BTreeSet<PathBuf> {
        let own = self.config.sources_at_home_on(&self.config.node.name);
        let trees: Vec<(String, PathBuf)> = own
            .filter_map(|source| match &source.kind {
                SourceKind::Files(files) if files.snapshot.is_some() => {
                    Some((source.name.to_string(), files.path.clone()))
                }
                _ => None,
            })
            .collect();
        let names: BTreeSet<String> = trees.iter().map(|(name, _)| name.clone()).collect();
        let found = trees.into_iter().filter(|(_, root)| !self.hangs(root)).filter_map(|(_, root)| {
            let names = names.clone();
            within(LOOK_TIME, move || snapshots::left(&root, &names))
        });
        found.flatten().collect()
    }

    /// Starts the launcher on a thread of its own: the look-up of users may ask a server.
    fn attempt(&self, source: &Source) -> Tried {
        if !self.config.allow.commands {
            return Tried::Unknown("it is not allowed".to_owned());
        }
        let (source, allow, daemon_uid) = (source.clone(), self.config.allow.clone(), self.daemon_uid);
        let attempt = move || {
            let SourceKind::Command(command) = &source.kind else { return None };
            let (name, rpo) = (source.name.as_str(), Duration::MAX);
            Some(program::Command { name, source: command, allow: &allow, rpo, daemon_uid }.attempt())
        };
        within(PROGRAM_TIME, attempt).flatten().unwrap_or_else(|| {
            Tried::Unknown("whether its program can be started was not known in time; see whether `getent passwd` answers".to_owned())
        })
    }

    fn tree(
        &self,
        source: &Source,
        files: &FilesSource,
        end: Instant,
        (watched, names): (&mut Watched, &mut Names),
    ) -> Vec<Finding> {
        let (name, service) = (source.name.as_str(), source.service.as_str());
        let subject = format!("source {name}");
        let place = match seen(&subject, self.looks, &files.path) {
            Ok(place) => place,
            Err(finding) => return vec![*finding],
        };
        let tree = tree::Tree {
            name,
            service,
            root: files.path.clone(),
            is_watched: files.watch,
            last_entries: self.last_entries.get(name).copied(),
            daemon_uid: self.daemon_uid,
        };
        let mut findings = tree.judge_root(place, self.words);
        if !place.is_directory() {
            return findings;
        }
        if Instant::now() >= end {
            let what = "its tree was not looked through: the trees before it took all the time that there is for them";
            findings.push(Finding::note(&subject, "readable", what));
            return findings;
        }
        // The patterns were checked when the configuration was read.
        let Ok(walk) = walk_options(self.config, files) else { return findings };
        let looked_through = sample::Tree {
            root: files.path.clone(),
            exclude: walk.exclude,
            // Who looks for one that hangs, hangs. It lies on another file system, or the tree would hang as well.
            leave_out: walk.leave_out.into_iter().filter(|path| !self.hangs(path)).collect(),
            crosses: walk.crossing == Crossing::Cross,
        };
        let limit = TIME_MAX + LOOK_TIME;
        let sample = match within(limit, move || looked_through.sample()) {
            Some(Ok(sample)) => sample,
            Some(Err(error)) => {
                findings.push(Finding::problem(
                    &subject,
                    "readable",
                    format!("{} cannot be read: {error}", files.path.display()),
                ));
                return findings;
            }
            None => {
                findings.push(hangs(&subject, "readable", &files.path, limit));
                return findings;
            }
        };
        findings.extend(tree.judge_sample(&sample, self.words));
        if files.snapshot.is_some() {
            let (root, daemon_uid) = (files.path.clone(), self.daemon_uid);
            let facts = within(LOOK_TIME, move || snapshots::Facts::of(&root, daemon_uid));
            findings.push(match facts {
                Some(facts) => facts.judge(&subject, service, self.words),
                None => hangs(&subject, "snapshot", &files.path, LOOK_TIME),
            });
        }
        findings.extend(tree.judge_foreign(&self.uncovered(&sample.foreign), names, self.words));
        if files.watch {
            watched.trees += 1;
            watched.directories += sample.directories;
            watched.is_least |= sample.stopped.is_some();
        }
        let (root, daemon_uid) = (files.path.clone(), self.daemon_uid);
        let found = databases::Found {
            source: name,
            service,
            databases: &sample.databases,
            from_snapshot: files.snapshot.is_some(),
            could_be: within(LOOK_TIME, move || snapshots::Facts::of(&root, daemon_uid).could_be())
                .unwrap_or(false),
            dumped: &self.dumped(),
        };
        findings.extend(found.judge(names, self.words));
        findings
    }

    fn hangs(&self, path: &Path) -> bool {
        matches!(self.looks.get(path), Some(Looked::Hangs))
    }

    /// Of these beginnings of other file systems, those on which something may be kept that no other source has.
    fn uncovered(&self, foreign: &[PathBuf]) -> Vec<PathBuf> {
        let own = self.config.sources_at_home_on(&self.config.node.name);
        let roots: Vec<&Path> = own
            .filter_map(|source| match &source.kind {
                SourceKind::Files(files) => Some(files.path.as_path()),
                _ => None,
            })
            .collect();
        let vaults = self.config.vaults.values().filter_map(|vault| vault.kind.directory());
        // The disk of a vault is there for the vault.
        let covers: Vec<&Path> = vaults.chain(roots).collect();
        let is_uncovered = |path: &&PathBuf| {
            let keeps = self.mounts.of_path(path).is_some_and(Mount::keeps);
            keeps && !covers.iter().any(|covered| covered.starts_with(path))
        };
        foreign.iter().filter(is_uncovered).cloned().collect()
    }

    /// The words of all programs whose output is protected here.
    fn dumped(&self) -> BTreeSet<String> {
        let own = self.config.sources_at_home_on(&self.config.node.name);
        let runs = own.filter_map(|source| match &source.kind {
            SourceKind::Command(command) => Some(command.run.iter().cloned()),
            _ => None,
        });
        runs.flatten().collect()
    }

    /// Names that are taken, by any source of the fleet.
    fn names(&self) -> Names {
        let sources = self.config.sources.iter();
        Names::of(sources.map(|source| (source.service.as_str(), source.name.as_str())))
    }
}
