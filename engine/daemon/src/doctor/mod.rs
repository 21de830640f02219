//! The examination of a node: what its protection hangs on, subject by subject. Each subject has a file, in which facts are
//! gathered (by asking a disk, the daemon, a vault: with limits, because they may hang) and judged (pure). This file has the
//! order, and hands facts of one subject to the others. Nothing is changed; a test of writing uses a file without a name.

mod bucket;
mod configuration;
mod daemon;
mod databases;
mod disks;
mod finding;
mod fleet;
mod flow;
mod limit;
mod looks;
mod metrics;
mod mounts;
mod names;
mod place;
mod program;
mod sample;
mod schedule;
mod secrets;
mod snapshots;
mod sources;
mod state;
mod system;
mod tree;
mod unit;
mod unit_file;
mod vault_inside;
mod vault_place;
mod vaults;
mod whose;
mod words;

pub use finding::{Finding, Fix, Level};
pub use words::{Words, counted};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, SecretRef, SourceKind, SourceName, Target, VaultKind, VerifyLevel};
use backstay_core::units::format_duration;

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::flows::{Flows, Found};
use crate::node::{Identity, KnownVaults};
use crate::vaults::Vaults;

use daemon::{Answer, Restart};
use limit::{LOOK_TIME, within};
use looks::{Looked, Looks, look_at, look_at_files};
use mounts::Mounts;
use place::{Place, Presence};
use state::{Keys, Largest};
use unit_file::Unit;
use vault_inside::Inside;

/// How long the daemon may take to say how it is, and how long `/proc` and `/etc` may take.
const DAEMON_TIME: Duration = Duration::from_secs(30);

/// How long all other nodes may take.
const FLEET_TIME: Duration = Duration::from_secs(40);

/// Where the kernel shows its block devices.
const BLOCKS: &str = "/sys/class/block";

/// An examination.
#[derive(Debug)]
pub struct Doctor {
    config: Arc<Config>,
    /// What `check-config` warns of.
    warnings: Vec<String>,
    words: Words,
    /// The vaults, to be read; why not, where this user may not.
    vaults: Result<Arc<Vaults>, Failure>,
    /// Which vaults this node has seen, where that can be told.
    known: Option<KnownVaults>,
    probing: Probing,
}

/// Where it is known from what the providers of buckets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// From the last time that somebody asked.
    Remembered,
    /// They are asked now, which puts something small and takes it away again.
    Now,
}

/// What is told of it as it goes on.
pub type Tell<'t> = &'t mut dyn FnMut(Vec<Finding>);

/// What vaults have said, by their names.
#[derive(Debug, Default)]
struct Asking {
    inside: BTreeMap<String, Inside>,
    /// Those that were not made yet.
    unmade: BTreeSet<String>,
}

impl Doctor {
    /// Of this configuration. `open` reads the state, on a thread of its own: its disk may hang.
    pub fn new(
        config: Arc<Config>,
        warnings: Vec<String>,
        words: Words,
        probing: Probing,
        open: impl FnOnce() -> Result<Vaults, Failure> + Send + 'static,
    ) -> Self {
        let state = config.node.state.clone();
        let hangs = || Err(Failure::failed("node.state does not answer"));
        let vaults = within(LOOK_TIME, open).unwrap_or_else(hangs).map(Arc::new);
        let known = within(LOOK_TIME, move || KnownVaults::load(&state)).and_then(Result::ok);
        Self { config, warnings, words, vaults, known, probing }
    }

    /// Whether this node has seen a vault of this name before.
    fn has_seen(&self, vault: &str) -> bool {
        self.known.as_ref().is_some_and(|known| known.has_seen(vault))
    }

    /// Examines everything, and tells findings as they come.
    pub fn examine(&self, tell: Tell<'_>) {
        let (config, words) = (&*self.config, &self.words);
        let mounts = Mounts::read().unwrap_or_default();
        let looks = look_at(self.paths(), &mounts);
        let daemon_uid = self.daemon_uid(&looks);
        let tell: Tell<'_> = &mut |findings: Vec<Finding>| {
            tell(findings.into_iter().map(|finding| whose::restrained(finding, daemon_uid, words)).collect());
        };
        let judged = configuration::judge(config, self.warnings.clone(), &self.lying(&looks), words);
        let (of_all, of_sources) =
            judged.into_iter().partition(|finding| finding.subject == configuration::SUBJECT);
        tell(of_all);
        tell(self.files_of_configuration());
        tell(self.secrets(daemon_uid));

        let (state, own_words) = (config.node.state.clone(), words.clone());
        let daemon = within(DAEMON_TIME, move || daemon::Facts::gather(&state, &own_words));
        let unit = Unit::read(Path::new("/"));
        match &daemon {
            Some(facts) => tell(facts.judge(unit.as_ref(), words)),
            None => tell(vec![hangs("daemon", "running", &config.node.state, DAEMON_TIME)]),
        }
        tell(whose::warning(daemon_uid, words).into_iter().collect());
        let own_words = words.clone();
        match within(LOOK_TIME, move || unit::judge_of_user(&own_words, Path::new("/"))).flatten() {
            Some(finding) if unit.is_none() => tell(vec![finding]),
            _ => tell(unit::judge(unit.as_ref(), config, &self.written(&looks), words)),
        }
        let holder = daemon.as_ref().and_then(|facts| facts.holder.as_ref());
        tell(system::Facts::gather(holder.map(|holder| holder.pid)).judge(words));
        let runs = |facts: &daemon::Facts| !matches!(facts.answer, Answer::None | Answer::Failed(_));
        let is_running = daemon.as_ref().is_some_and(runs);
        tell(self.metrics(is_running));
        tell(self.fleet());
        tell(self.state(&looks));

        let restart = daemon.as_ref().map_or(Restart::NotNeeded, daemon::Facts::restart);
        let mut asking = Asking::default();
        for name in config.vaults.keys() {
            tell(self.vault(name.as_str(), &looks, &restart, &mut asking));
            tell(self.bucket(name.as_str(), &looks, &asking));
        }
        tell(config.via.iter().map(|(name, via)| bucket::judge_via(name.as_str(), via)).collect());
        let sources = sources::Sources {
            config,
            words,
            looks: &looks,
            mounts: &mounts,
            configured: of_sources,
            last_entries: asking.last_entries(),
            daemon_uid,
        };
        sources.examine(tell);
        tell(self.scratch(&looks, &asking));
        tell(self.flows(daemon.map(|facts| facts.answer), asking));
    }

    fn directories(&self) -> impl Iterator<Item = (&str, &Path)> {
        let vaults = self.config.vaults.values();
        vaults.filter_map(|vault| Some((vault.name.as_str(), vault.kind.directory()?)))
    }

    /// All paths that are looked at.
    fn paths(&self) -> Vec<PathBuf> {
        let node = &self.config.node;
        let roots = self.config.sources_at_home_on(&node.name).filter_map(|source| match &source.kind {
            SourceKind::Files(files) => Some(files.path.clone()),
            _ => None,
        });
        let own = [node.state.clone(), node.scratch.clone()];
        own.into_iter().chain(self.directories().map(|(_, path)| path.to_path_buf())).chain(roots).collect()
    }

    /// Where paths lie, or will lie. Of a vault whose disk is missing that is not known: what is there now is another one.
    fn lying(&self, looks: &Looks) -> configuration::Lying {
        let seen = looks.iter().filter_map(|(path, looked)| match looked {
            Looked::Seen(place) if !self.is_missed(place) => {
                Some((path.clone(), disks::disks_of(place, Path::new(BLOCKS))))
            }
            _ => None,
        });
        seen.collect()
    }

    /// Whether what belongs in a place is missing there, most likely with its disk.
    fn is_missed(&self, place: &Place) -> bool {
        let mut of_it = self.directories().filter(|(_, path)| *path == place.path);
        let is_seen = of_it.any(|(name, _)| self.has_seen(name));
        let is_there = matches!(place.presence, Presence::Directory { is_empty: false, .. });
        place.missing_levels > 1 || (!is_there && (is_seen || place.unmounted.is_some()))
    }

    /// What is known of the directories that the daemon writes to. What is above its own it makes itself; above a vault only
    /// the operator does.
    fn written(&self, looks: &Looks) -> unit::Places {
        let mut places = unit::Places { daemon_uid: self.daemon_uid(looks), ..unit::Places::default() };
        for (path, looked) in looks {
            let Looked::Seen(place) = looked else { continue };
            let is_own = [&self.config.node.state, &self.config.node.scratch].contains(&path);
            let is_missed = if is_own { place.unmounted.is_some() } else { self.is_missed(place) };
            if place.is_directory() {
                places.there.insert(path.clone());
            } else if place.presence == Presence::Missing && !is_missed {
                places.makeable.insert(path.clone());
            }
        }
        places
    }

    /// The user that the state belongs to is the daemon's.
    fn daemon_uid(&self, looks: &Looks) -> u32 {
        match looks.get(&self.config.node.state) {
            Some(Looked::Seen(place)) => match place.presence {
                Presence::Directory { uid, .. } => uid,
                _ => self.words.uid,
            },
            _ => self.words.uid,
        }
    }

    fn files_of_configuration(&self) -> Vec<Finding> {
        let mut files = vec![&self.words.node_file];
        if self.words.fleet_file != self.words.node_file {
            files.push(&self.words.fleet_file);
        }
        let facts = look_at_files(files.iter().map(|file| file.as_path()));
        files
            .into_iter()
            .map(|file| match facts.get(file) {
                Some(facts) => secrets::judge_configuration(file, facts, &self.words),
                None => hangs("configuration", "rights", file, LOOK_TIME),
            })
            .collect()
    }

    fn secrets(&self, daemon_uid: u32) -> Vec<Finding> {
        let wanted = secrets::wanted(&self.config);
        let files = wanted.values().filter_map(|(reference, _)| match reference {
            SecretRef::File(path) => Some(path.as_path()),
            _ => None,
        });
        let key = self.words.recovery_key();
        let facts = look_at_files(files.chain([key.as_path()]));
        let looked = |reference: &SecretRef| match reference {
            SecretRef::File(path) => facts.get(path),
            _ => None,
        };
        let judged = wanted.values().map(|(reference, wanted)| {
            secrets::judge(reference, wanted, looked(reference), daemon_uid, &self.words)
        });
        let of_key = facts.get(&key).and_then(|facts| secrets::judge_recovery_key(&key, facts));
        judged.chain(of_key).collect()
    }

    fn metrics(&self, is_running: bool) -> Vec<Finding> {
        let (listen, tailscaled) = (self.config.node.metrics, self.config.node.tailscaled.clone());
        let Some(listen) = listen else { return metrics::judge(None, None, &self.words) };
        let asked = move || metrics::resolve(listen, tailscaled);
        let address = match within(LOOK_TIME, asked) {
            Some(Ok(address)) => address,
            Some(Err(why)) => return vec![metrics::unresolved(listen, &why)],
            None => return vec![metrics::unresolved(listen, "tailscaled does not answer")],
        };
        let found = within(LOOK_TIME, move || metrics::Found::look(address, is_running));
        metrics::judge(Some(address), found.as_ref(), &self.words)
    }

    fn fleet(&self) -> Vec<Finding> {
        let Ok(vaults) = &self.vaults else { return Vec::new() };
        let (config, vaults) = (Arc::clone(&self.config), Arc::clone(vaults));
        match within(FLEET_TIME, move || fleet::Facts::gather(&config, &vaults)) {
            Some(facts) => facts.judge(&self.words),
            None => vec![hangs("fleet", "reached", &self.config.node.state, FLEET_TIME)],
        }
    }

    fn state(&self, looks: &Looks) -> Vec<Finding> {
        let state = &self.config.node.state;
        let place = match seen("state", looks, state) {
            Ok(place) => place,
            Err(finding) => return vec![*finding],
        };
        let folder = state.clone();
        let keys = match within(LOOK_TIME, move || Identity::load(&folder)) {
            Some(Ok(None)) => self.known_vault().map_or(Keys::None, |vault| Keys::Lost { vault }),
            Some(Ok(Some(identity))) => Keys::Whole { has_domain: identity.bundle.is_some() },
            Some(Err(failure)) => Keys::Unreadable(failure.message),
            None => return vec![hangs("state", "keys", state, LOOK_TIME)],
        };
        state::judge(place, &keys, &self.words)
    }

    /// A vault that this node has seen before.
    fn known_vault(&self) -> Option<String> {
        let mut names = self.config.vaults.keys().map(|name| name.to_string());
        names.find(|name| self.has_seen(name))
    }

    fn scratch(&self, looks: &Looks, asking: &Asking) -> Vec<Finding> {
        if self.vaults.is_err() {
            // What would be restored there is not known.
            return Vec::new();
        }
        let place = match seen("scratch", looks, &self.config.node.scratch) {
            Ok(place) => place,
            Err(finding) => return vec![*finding],
        };
        let restored = |largest: &&Largest| {
            let of_it = self.config.sources.iter().find(|source| source.name.as_str() == largest.source);
            of_it.is_some_and(|source| source.verify.level == VerifyLevel::Restore)
        };
        let largest =
            asking.newest().map(|(_, largest)| largest).filter(restored).max_by_key(|largest| largest.bytes);
        state::judge_scratch(place, largest, &self.words)
    }

    /// What another node says of a flow to a vault that it holds or writes to; nothing for any other vault.
    fn asked_elsewhere(&self, source: &SourceName, target: &Target) -> Option<Result<Found, Failure>> {
        let (vaults, name) = (self.vaults.as_ref().ok()?, target.vault()?);
        let is_peer =
            self.config.vaults.get(name).is_some_and(|vault| matches!(vault.kind, VaultKind::Peer(_)));
        (is_peer || vaults.via(name).is_some()).then(|| Found::ask(vaults, source, target))
    }

    fn flows(&self, answer: Option<Answer>, asking: Asking) -> Vec<Finding> {
        let mut known = Flows::awaited(&self.config);
        let questions: Vec<_> =
            known.records().iter().map(|record| (record.source.clone(), record.target.clone())).collect();
        let mut found: BTreeMap<_, _> = asking
            .inside
            .into_iter()
            .flat_map(|(vault, inside)| {
                inside.held.into_iter().map(move |held| ((held.source, vault.clone()), held.found))
            })
            .collect();
        for (source, target) in questions {
            let told = target.vault().and_then(|vault| found.remove(&(source.clone(), vault.to_owned())));
            let told = told.or_else(|| self.asked_elsewhere(&source, &target));
            let untold = || {
                Err(Failure::failed(format!(
                    "{} could not be asked: see what is said of it above",
                    target_words(&target)
                )))
            };
            known.learn(&source, &target, told.unwrap_or_else(untold));
        }
        let (status, teller) = match answer {
            Some(Answer::Status(status)) => (*status, flow::Teller::Daemon),
            // What this user may not see was said.
            _ if self.vaults.is_err() => return Vec::new(),
            _ => (known.status(false, &SystemClock), flow::Teller::Vaults),
        };
        let now = SystemClock.now();
        let mut findings = Vec::new();
        for report in &status.flows {
            let Some(source) = flow::source_of(&self.config, report) else { continue };
            if asking.unmade.contains(&report.target) && teller == flow::Teller::Vaults {
                findings.push(flow::judge_unmade(report, &self.words));
                continue;
            }
            let mut records = known.records().iter();
            let record = records
                .find(|record| record.source == source.name && record.target.as_str() == report.target);
            let proofs_good = record.and_then(|record| record.proofs().are_good());
            findings.extend(flow::Flow { report, source, proofs_good, teller, now }.judge(&self.words));
        }
        findings
    }
}

fn target_words(target: &Target) -> String {
    match target {
        Target::Vault(name) => format!("vault {name}"),
        other => format!("the {other}"),
    }
}

impl Asking {
    fn newest(&self) -> impl Iterator<Item = (&str, &Largest)> {
        let held = self.inside.values().flat_map(|inside| &inside.held);
        held.filter_map(|held| Some((held.source.as_str(), &held.newest.as_ref()?.1)))
    }

    /// Entries of the newest points, by source; of several vaults the most.
    fn last_entries(&self) -> BTreeMap<String, u64> {
        let mut entries: BTreeMap<String, u64> = BTreeMap::new();
        for (source, newest) in self.newest() {
            let most = entries.entry(source.to_owned()).or_default();
            *most = (*most).max(newest.entries);
        }
        entries
    }
}

/// What was seen at a path, or what there is to say instead.
fn seen<'l>(subject: &str, looks: &'l Looks, path: &Path) -> Result<&'l Place, Box<Finding>> {
    match looks.get(path) {
        Some(Looked::Seen(place)) => Ok(place),
        Some(Looked::Failed(why)) => {
            let finding = Finding::problem(
                subject,
                "present",
                format!("{} cannot be looked at: {why}", path.display()),
            );
            let finding = finding.advise(format!(
                "see what is wrong there: `ls -ld {0}`, `findmnt -T {0}`, `dmesg`",
                words::quote(path)
            ));
            Err(Box::new(finding))
        }
        Some(Looked::Hangs) | None => Err(Box::new(hangs(subject, "present", path, LOOK_TIME))),
    }
}

fn hangs(subject: &str, check: &'static str, path: &Path, limit: Duration) -> Finding {
    let what = format!("{} does not answer within {}", path.display(), format_duration(limit));
    Finding::problem(subject, check, what)
        .because("its disk or its server hangs: nothing is captured from it or to it, and whoever looks at it hangs too")
        .advise("see `dmesg | tail`; for a network file system whether its server answers; `umount -f -l` of its mount point lets others go on")
}
