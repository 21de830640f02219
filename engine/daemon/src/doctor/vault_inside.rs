//! What is in a vault: whether it opens with this node's keys, who else can read it, who cares for it, what its points say of
//! the clock. Gathers the facts by asking the vault, which may hang; judging them is pure.

use std::path::Path;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, Source, SourceName, Target};
use backstay_core::units::{Timestamp, format_duration};

use super::daemon::Restart;
use super::finding::{Finding, Level};
use super::state::Largest;
use super::words::{Words, quote, toml_text};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::flows::Found;
use crate::vaults::{Absent, RECOVERY_HOLDER, Vaults, refuse_foreign_folder};

/// Points may be so much ahead of the clock before somebody is told: what clocks of nodes may differ.
const AHEAD_LEAST: Duration = Duration::from_secs(3600);

/// What a vault has of a source of this node.
#[derive(Debug)]
pub struct Held {
    /// The source.
    pub source: SourceName,
    /// Its newest point, if any: when its capture began, and how much is in it.
    pub newest: Option<(Timestamp, Largest)>,
    /// For the board of flows.
    pub found: Result<Found, Failure>,
}

/// What was found in a vault.
#[derive(Debug)]
pub struct Inside {
    /// The version of its format.
    pub format: u32,
    /// Who can open its keys.
    pub holders: Vec<String>,
    /// Whether the admin's key is still on this node, which is so until there is a recovery key.
    pub lacks_recovery: bool,
    /// Whether this node may write.
    pub may_write: bool,
    /// Whether this node is its custodian.
    pub is_custodian: bool,
    /// The name of the custodian.
    pub custodian: String,
    /// What it has of the sources that go to it.
    pub held: Vec<Held>,
}

impl Inside {
    /// Asks the vault. Waits for it.
    pub fn ask(vaults: &Vaults, config: &Config, name: &str) -> Result<Self, Failure> {
        let vault = vaults.open(name, Absent::Refuse)?;
        let signer = vaults.writer().signer.public();
        let trust = vault.trust();
        let mut held = Vec::new();
        for (source, target) in sources_to(config, name) {
            let catalogue = vault.catalogue(vault.ring().source_id(source.name.as_str()))?;
            let newest = catalogue.newest().map(|point| {
                let common = &point.common;
                let (source, bytes, entries) = (source.name.to_string(), common.bytes, common.entries);
                (common.capture_start, Largest { source, bytes, entries })
            });
            let found = Found::ask(vaults, &source.name, &target);
            held.push(Held { source: source.name.clone(), newest, found });
        }
        Ok(Self {
            format: vault.format().writer,
            holders: vaults.key_holders(name)?,
            lacks_recovery: vaults.lacks_recovery(),
            may_write: trust.node(&signer).is_some(),
            is_custodian: trust.custodian_key() == Some(signer),
            custodian: trust.custodian.node.clone(),
            held,
        })
    }
}

/// The sources that go to a vault: those of this node, and what it copies on as a hub.
fn sources_to<'c>(config: &'c Config, name: &'c str) -> impl Iterator<Item = (&'c Source, Target)> {
    let to_it = |source: &&Source| source.flows.iter().any(|flow| flow.target.vault() == Some(name));
    let own = config.sources_at_home_on(&config.node.name).filter(to_it);
    let relays =
        config.relays.iter().filter(move |relay| relay.to.as_str() == name || relay.from.as_str() == name);
    let of_others =
        relays.flat_map(|relay| config.sources.iter().filter(|source| relay.sources.contains(&source.name)));
    let vault = config.vaults.get(name).map(|vault| Target::Vault(vault.name.clone()));
    own.chain(of_others).filter_map(move |source| Some((source, vault.clone()?)))
}

/// How a vault that was never made comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmade {
    /// The first capture makes it.
    ByCapture,
    /// Nobody but the operator can.
    ByHand,
    /// Nobody can, where it is to be.
    Refused(String),
}

impl Unmade {
    /// Looks at the directory, which may hang.
    pub fn look(vaults: &Vaults, config: &Config, name: &str, path: &Path) -> Self {
        if let Err(failure) = refuse_foreign_folder(name, path) {
            return Self::Refused(failure.message);
        }
        let by_hand = match vaults.bundle() {
            Some(_) => !vaults.lacks_recovery(),
            None => config.fleet.nodes.len() > 1,
        };
        if by_hand { Self::ByHand } else { Self::ByCapture }
    }
}

/// A vault as it was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its name.
    pub name: &'a str,
    /// The node's name.
    pub node: &'a str,
    /// Its directory, where it is one.
    pub path: Option<&'a Path>,
    /// `node.state`.
    pub state: &'a Path,
    /// How the daemon is stopped for what takes it to be, where it runs.
    pub restart: &'a Restart,
    /// The words for lines.
    pub words: &'a Words,
}

impl Asked<'_> {
    /// Judges what is in it, as of now.
    pub fn judge(&self, inside: &Inside) -> Vec<Finding> {
        let subject = format!("vault {}", self.name);
        let points: usize = inside.held.iter().filter(|held| held.newest.is_some()).count();
        let what = format!(
            "it opens with this node's keys; format version {}; points of {points} of {} sources that go to it",
            inside.format,
            inside.held.len()
        );
        let mut findings = vec![Finding::ok(&subject, "opens", what)];
        findings.push(self.recovery(&subject, inside));
        findings.push(self.custodian(&subject, inside));
        findings.extend(self.clock(&subject, inside, SystemClock.now()));
        findings
    }

    /// What to say of a vault that was never made.
    pub fn judge_unmade(&self, unmade: &Unmade) -> Finding {
        let subject = format!("vault {}", self.name);
        let key = self.words.recovery_key();
        let line = self.words.backstay(&format!("vault init {} --recovery {}", self.name, quote(&key)));
        let what = "it was not made yet";
        match unmade {
            Unmade::ByCapture => Finding::note(&subject, "opens", what)
                .because("the first capture makes it; made by hand it has a recovery key from the beginning")
                .run_while_stopped(self.restart, &line),
            Unmade::ByHand => Finding::warning(&subject, "opens", what)
                .because("captures do not make it: it takes the recovery key that was made before, or, in a fleet of several nodes or of a bucket, a decision. Give the file of that key")
                .run_while_stopped(self.restart, &line),
            Unmade::Refused(why) => Finding::told(Level::Problem, &subject, "opens", why).set(
                format!("{}, in [vault.{}]", self.words.fleet_file.display(), self.name),
                format!(
                    "path = {}",
                    toml_text(&self.path.unwrap_or(Path::new("/srv")).join("backstay-vault").display().to_string())
                ),
            ),
        }
    }

    /// What to say of a vault that could not be opened.
    pub fn judge_failure(&self, failure: &Failure) -> Finding {
        let subject = format!("vault {}", self.name);
        if failure.class == "key" {
            let key = quote(&self.words.recovery_key());
            let take = self.words.backstay(&format!("vault custodian take {} --key-file {key}", self.name));
            return Finding::problem(&subject, "opens", "it does not open with this node's keys")
                .because(&failure.message)
                .advise(format!(
                    "bring back {} from a copy, or go on with the recovery key: `{take}`",
                    self.state.display()
                ));
        }
        Finding::told(Level::Problem, &subject, "opens", &failure.message)
    }

    /// What to say of one that nobody has looked into.
    pub fn judge_unopened(&self) -> Finding {
        let subject = format!("vault {}", self.name);
        Finding::note(
            &subject,
            "opens",
            "it was not looked into, since the keys of this node cannot be read: see the state",
        )
    }

    /// What to say of one that hangs.
    pub fn judge_hanging(&self) -> Finding {
        let subject = format!("vault {}", self.name);
        let what =
            format!("it does not answer: no answer within {}", format_duration(super::limit::ANSWER_TIME));
        Finding::problem(&subject, "opens", what)
            .because("nothing is captured to it, and its flows age, until it does")
            .advise("see whether its disk or its server hangs: `dmesg | tail`, and for a network file system whether the server answers")
    }

    fn recovery(&self, subject: &str, inside: &Inside) -> Finding {
        let others: Vec<&str> =
            inside.holders.iter().map(String::as_str).filter(|holder| *holder != self.node).collect();
        let has_recovery = others.contains(&RECOVERY_HOLDER);
        if has_recovery {
            return Finding::ok(subject, "recovery", "a recovery key opens it as well");
        }
        let key = self.words.recovery_key();
        let what = match others.is_empty() {
            true => "only this node's own key opens it".to_owned(),
            false => format!("there is no recovery key; beside this node {} can open it", others.join(", ")),
        };
        let line = self.words.backstay(&format!("vault init {} --recovery {}", self.name, quote(&key)));
        let why = match inside.lacks_recovery {
            true => {
                "when this host is lost, nobody can read its vaults. Print the key, or keep it on another machine"
            }
            false => {
                "other vaults of this node have a recovery key, and this one has not got it: give the file that was written then"
            }
        };
        Finding::warning(subject, "recovery", what).because(why).run_while_stopped(self.restart, &line)
    }

    fn custodian(&self, subject: &str, inside: &Inside) -> Finding {
        let take = self.words.backstay(&format!(
            "vault custodian take {} --key-file {}",
            self.name,
            quote(&self.words.recovery_key())
        ));
        if !inside.may_write {
            return Finding::problem(subject, "custodian", "this node may not write to it")
                .because("the vault trusts the nodes that it knows, and not this one: it was made by another, or node.state is another")
                .run(take);
        }
        match inside.is_custodian {
            true => Finding::ok(subject, "custodian", "this node is its custodian"),
            false => {
                let what = format!("its custodian is {}, not this node", inside.custodian);
                let why = "points that `keep` does not want go only where the custodian runs";
                match inside.custodian == self.node {
                    // Of that name, with another key: the state was lost and made anew.
                    true => Finding::warning(
                        subject,
                        "custodian",
                        format!("{what}: it has the same name and another key"),
                    )
                    .because(why)
                    .run(take),
                    false => Finding::note(subject, "custodian", what).because(why),
                }
            }
        }
    }

    fn clock(&self, subject: &str, inside: &Inside, now: Timestamp) -> Option<Finding> {
        let newest = inside.held.iter().filter_map(|held| Some((held.newest.as_ref()?.0, &held.source)));
        let (newest, source) = newest.max()?;
        let ahead = newest.duration_since(now);
        if ahead <= AHEAD_LEAST {
            return Some(Finding::ok(
                subject,
                "clock",
                format!("its newest point is of {newest}, and not to come"),
            ));
        }
        let line = self.words.backstay(&format!("vault prune {} --trust-clock --dry-run", self.name));
        let what = format!(
            "the newest point of {source} is of {newest}, which is {} to come",
            format_duration(ahead)
        );
        Some(
            Finding::problem(subject, "clock", what)
                .because("the clock stands back now, or was ahead then. Nothing of that source is dropped, and what is newest is not what it seems")
                .advise(format!(
                    "set the clock (`timedatectl set-ntp true`, `timedatectl`). If it is right now, `{line}` says what is judged anew, and without --dry-run does it"
                )),
        )
    }
}

impl Finding {
    /// Mended by a command that takes the daemon to be stopped.
    #[must_use]
    fn run_while_stopped(self, restart: &Restart, line: &str) -> Self {
        match restart {
            Restart::NotNeeded => self.run(line),
            Restart::ByUnit => self.run(format!("systemctl stop backstay; {line}; systemctl start backstay")),
            Restart::ByHand { pid } => {
                self.advise(format!("end the daemon (`kill {pid}`), run `{line}`, and start it again"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Fix;
    use super::*;

    fn inside() -> Inside {
        Inside {
            format: 0,
            holders: vec!["box".into(), "recovery".into()],
            lacks_recovery: false,
            may_write: true,
            is_custodian: true,
            custodian: "box".into(),
            held: Vec::new(),
        }
    }

    fn bad(inside: &Inside, restart: &Restart) -> Vec<(&'static str, Level, Fix)> {
        let words = Words::of_tests(0);
        let asked = Asked {
            name: "usb",
            node: "box",
            path: Some(Path::new("/mnt/usb")),
            state: Path::new("/var/lib/backstay"),
            restart,
            words: &words,
        };
        let found = asked.judge(inside).into_iter().filter(|finding| finding.level != Level::Ok);
        found.map(|finding| (finding.check, finding.level, finding.fix.expect("a fix"))).collect()
    }

    #[test]
    fn a_vault_that_only_this_node_opens_is_given_a_recovery_key() {
        assert_eq!(bad(&inside(), &Restart::NotNeeded), []);
        let alone = Inside { holders: vec!["box".into()], lacks_recovery: true, ..inside() };
        let line = "backstay vault init usb --recovery /root/backstay-recovery.key";
        let fix = |restart: &Restart| bad(&alone, restart)[0].2.clone();
        assert_eq!(fix(&Restart::NotNeeded), Fix::Command(line.to_owned()));
        let stopped = format!("systemctl stop backstay; {line}; systemctl start backstay");
        assert_eq!(fix(&Restart::ByUnit), Fix::Command(stopped));
        assert!(fix(&Restart::ByHand { pid: 7 }).text().contains("kill 7"));
        assert_eq!(bad(&alone, &Restart::NotNeeded)[0].1, Level::Warning);
    }

    #[test]
    fn a_node_that_may_not_write_or_has_lost_its_office_is_told_how_to_take_it() {
        let stranger = Inside { may_write: false, is_custodian: false, ..inside() };
        let take =
            Fix::Command("backstay vault custodian take usb --key-file /root/backstay-recovery.key".into());
        assert_eq!(bad(&stranger, &Restart::NotNeeded), [("custodian", Level::Problem, take.clone())]);
        let reborn = Inside { is_custodian: false, ..inside() };
        assert_eq!(bad(&reborn, &Restart::NotNeeded), [("custodian", Level::Warning, take)]);
    }

    #[test]
    fn points_of_a_time_to_come_tell_of_a_wrong_clock() {
        let now = Timestamp::from_nanos(1_800_000_000_000_000_000);
        let words = Words::of_tests(0);
        let asked = Asked {
            name: "usb",
            node: "box",
            path: Some(Path::new("/mnt/usb")),
            state: Path::new("/var/lib/backstay"),
            restart: &Restart::NotNeeded,
            words: &words,
        };
        let clock = |ahead: Duration| {
            let largest = Largest { source: "mail.files".into(), bytes: 1, entries: 1 };
            let config = "[fleet]\nname = \"f\"\n[node]\nname = \"box\"\n[vault.usb]\nkind = \"dir\"\npath = \"/v\"\n[service.mail]\nfiles = { path = \"/m\" }\n";
            use backstay_core::config::{ConfigTexts, SourceText};
            let config = Config::parse(ConfigTexts::Single(SourceText { name: "t", text: config }))
                .expect("a configuration");
            let held = Held {
                source: config.sources[0].name.clone(),
                newest: Some((now.saturating_add(ahead), largest)),
                found: Err(Failure::failed("not asked")),
            };
            asked
                .clock("vault usb", &Inside { held: vec![held], ..inside() }, now)
                .expect("there is a point")
                .level
        };
        assert_eq!(clock(Duration::ZERO), Level::Ok);
        assert_eq!(clock(Duration::from_secs(3000)), Level::Ok);
        assert_eq!(clock(Duration::from_secs(7200)), Level::Problem);
    }

    #[test]
    fn a_vault_that_was_not_made_yet_is_no_problem() {
        let words = Words::of_tests(0);
        let asked = Asked {
            name: "usb",
            node: "box",
            path: Some(Path::new("/mnt/usb")),
            state: Path::new("/var/lib/backstay"),
            restart: &Restart::NotNeeded,
            words: &words,
        };
        let absent = Failure::failed("there is no vault in /v: make it; or else").of_class("no_vault");
        assert_eq!(asked.judge_unmade(&Unmade::ByCapture).level, Level::Note);
        assert_eq!(asked.judge_unmade(&Unmade::ByHand).level, Level::Warning);
        let refused = asked.judge_unmade(&Unmade::Refused("it holds \"x\" and no vault".into()));
        assert_eq!(refused.level, Level::Problem);
        assert_eq!(refused.fix.as_ref().map(Fix::text), Some("path = \"/mnt/usb/backstay-vault\""));
        assert_eq!(asked.judge_failure(&absent).level, Level::Problem);
        let locked = Failure::failed("no key in /v opens: bring it back").of_class("key");
        let found = asked.judge_failure(&locked);
        assert!(found.fix.is_some_and(|fix| fix.text().contains("custodian take usb --key-file")));
        let denied = Failure::failed("cannot read: no; mount it").of_class("denied");
        assert_eq!(asked.judge_failure(&denied).fix, Some(Fix::Advice("mount it".into())));
    }
}
