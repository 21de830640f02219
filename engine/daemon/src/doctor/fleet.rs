//! This node's place in its fleet: whether it is enrolled, until when its certificate is good, whether it can be reached, and whether
//! the others are, and hold what they should. Asks nodes, with a limit; judging is pure.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, ListenAddress, NodeName, VaultKind};
use backstay_core::units::{ByteSize, Timestamp, format_duration};

use super::finding::Finding;
use super::words::Words;
use crate::clock::SystemClock;
use crate::fleet::Answer;
use crate::node::Scrubs;
use crate::vaults::Vaults;

const SUBJECT: &str = "fleet";

/// A clock that is off by more moves points.
const CLOCK_OFF: Duration = Duration::from_secs(5);

/// A certificate that is good for no longer should have been renewed long ago.
const RENEWAL_LATE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What there is.
#[derive(Debug)]
pub struct Facts {
    now: Timestamp,
    node: String,
    /// Why other nodes cannot be reached at all.
    fault: Option<String>,
    is_enrolled: bool,
    certificate_until: Option<Timestamp>,
    listens: bool,
    /// Where that cannot be.
    listen_fault: Option<String>,
    /// The port at which others look for it, and the one on which it listens, where they differ.
    other_port: Option<(u16, u16)>,
    /// Nodes that are accepted here.
    held: Vec<String>,
    /// Nodes whose services have this one for their other, and that are not accepted here.
    unheld: Vec<String>,
    /// What is held for a node and refused, since the disk is below the floor: how much is free, and the floor.
    below_floor: BTreeMap<String, (ByteSize, ByteSize)>,
    /// What is damaged of what is held for each of them.
    damaged: BTreeMap<String, Vec<String>>,
    /// A hash of this node's fleet.toml.
    fleet_file: Option<[u8; 32]>,
    others: BTreeMap<NodeName, Other>,
}

/// Another node.
#[derive(Debug)]
struct Other {
    is_enrolled: bool,
    answer: Answer,
}

impl Facts {
    /// Asks all nodes at once.
    pub fn gather(config: &Config, vaults: &Vaults) -> Self {
        let holders: Vec<&NodeName> = config
            .vaults
            .values()
            .filter_map(|vault| match &vault.kind {
                VaultKind::Peer(peer) => peer.holder.as_ref(),
                _ => None,
            })
            .collect();
        let own = &config.node.name;
        let member = vaults.fleet();
        let roster = member.map(|member| member.roster());
        let mut greetings = member.map(|member| member.greet_all(&holders)).unwrap_or_default();
        let mut others = BTreeMap::new();
        for name in config.fleet.nodes.keys().filter(|name| *name != own) {
            let is_enrolled = roster.as_ref().is_some_and(|roster| roster.members.contains_key(name));
            let unasked = || Answer { greeted: Err("it was not asked".to_owned()), room: None };
            let answer = greetings.remove(name).unwrap_or_else(unasked);
            others.insert(name.clone(), Other { is_enrolled, answer });
        }
        Self {
            now: SystemClock.now(),
            node: own.to_string(),
            fault: vaults.fleet_fault().map(str::to_owned),
            is_enrolled: roster.is_some_and(|roster| roster.members.contains_key(own)),
            certificate_until: member.and_then(|member| member.certificate_until(SystemClock.now())),
            listens: config.node.listen.is_some(),
            listen_fault: listen_fault(config),
            other_port: other_port(config),
            unheld: unheld(config),
            below_floor: below_floor(config),
            held: config
                .holds
                .iter()
                .filter(|(_, hold)| hold.vault.is_some())
                .map(|(node, _)| node.to_string())
                .collect(),
            damaged: damaged(config),
            fleet_file: config.fleet_file,
            others,
        }
    }

    /// Judges what there is; nothing where the fleet is this node alone.
    pub fn judge(&self, words: &Words) -> Vec<Finding> {
        if self.others.is_empty() && self.held.is_empty() {
            return Vec::new();
        }
        let mut findings = vec![self.enrolment(words)];
        if !self.is_enrolled {
            return findings;
        }
        findings.push(self.certificate());
        if !self.listens && !self.held.is_empty() {
            findings.push(
                Finding::problem(
                    SUBJECT,
                    "listen",
                    "other nodes cannot reach this one, and it should hold for them",
                )
                .because(format!("what {} captures to this node goes nowhere", self.held.join(", ")))
                .set(format!("{}, in [node]", words.node_file.display()), "listen = \"tailnet:7420\""),
            );
        }
        findings.extend(self.damaged.iter().map(|(node, objects)| judge_damaged(node, objects, words)));
        if let Some(fault) = &self.listen_fault {
            findings.push(
                Finding::problem(SUBJECT, "listen", fault.clone())
                    .because("other nodes do not reach this one, and nothing is held for them")
                    .advise(format!("correct `listen` of [node] in {}", words.node_file.display())),
            );
        }
        if let Some((announced, listens)) = self.other_port {
            findings.push(
                Finding::warning(SUBJECT, "port", format!("`nodes` of [fleet] sends others to port {announced}, and the daemon listens on port {listens}"))
                    .because("they do not reach it, unless something between forwards one to the other")
                    .advise(format!("correct `listen` of [node] in {}, or `nodes`", words.node_file.display())),
            );
        }
        findings.extend(self.unheld.iter().map(|node| {
            Finding::warning(
                SUBJECT,
                "hold",
                format!("services of {node} have a vault here, by fleet.toml, and nothing is held for it"),
            )
            .because(format!("what {node} captures to this node is refused"))
            .set(
                format!("{}, and restart the daemon", words.node_file.display()),
                format!("[hold.{node}]\nvault = {{ path = \"/srv/backstay/{node}\" }}"),
            )
        }));
        findings.extend(self.below_floor.iter().map(|(node, (free, floor))| {
            Finding::problem(SUBJECT, "floor", format!("what {node} captures to this node is refused: {free} are free, and {floor} are to stay free"))
                .because("a holder's disk is never filled by what it holds")
                .advise(format!("free space there, or lower `floor` of [hold.{node}] in {}", words.node_file.display()))
        }));
        for (name, other) in &self.others {
            findings.extend(judge_other(name, other, &self.node, words));
            findings.extend(self.other_fleet_file(name, other, words));
        }
        findings
    }

    /// A node that goes by another fleet.toml protects something else, and sends it elsewhere.
    fn other_fleet_file(&self, name: &NodeName, other: &Other, words: &Words) -> Option<Finding> {
        let theirs = other.answer.greeted.as_ref().ok()?.fleet_file?;
        let ours = self.fleet_file.filter(|ours| *ours != theirs)?;
        let short = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex()[..8].to_owned();
        let (ours, theirs) = (short(ours), short(theirs));
        let what = format!("the daemon of {name} goes by another fleet.toml than the one here");
        Some(
            Finding::warning(&format!("node {name}"), "fleet_file", what)
                .because(format!("the file is to be the same on all nodes: here its hash begins with {ours}, there with {theirs}"))
                .advise(format!("bring {} to {name} or from there, and restart the daemon that had the old one", words.fleet_file.display())),
        )
    }

    fn enrolment(&self, words: &Words) -> Finding {
        if let Some(fault) = &self.fault {
            return Finding::told(super::Level::Problem, SUBJECT, "enrolled", fault);
        }
        match self.is_enrolled {
            true => Finding::ok(SUBJECT, "enrolled", format!("{} belongs to the fleet", self.node)),
            false => Finding::problem(SUBJECT, "enrolled", format!("{} belongs to no fleet yet", self.node))
                .because("it reaches no other node, and none reaches it: nothing is captured to vaults there, and nothing is held here")
                .advise(format!(
                    "where the fleet is there already, or this node was built anew: run `backstay invite {} --recovery FILE` on another node (with --again for one that was lost), and here `{}` with what it prints. Only on the first node of a new fleet: `{}`",
                    self.node,
                    words.backstay("join INVITATION"),
                    words.backstay(&format!("init {} --recovery {}", self.node, words.recovery_key().display())),
                )),
        }
    }

    fn certificate(&self) -> Finding {
        match self.certificate_until {
            None => Finding::problem(SUBJECT, "certificate", "this node's certificate is expired")
                .because("it reads its vaults at other nodes and writes nothing to them")
                .advise("see that the daemon runs and reaches a node that `issuers` of [fleet] names: it has it renewed then"),
            Some(until) if until.duration_since(self.now) < RENEWAL_LATE => {
                Finding::warning(SUBJECT, "certificate", format!("this node's certificate is good until {until} and was not renewed"))
                    .because("it is renewed weeks before, where an issuer can be reached")
                    .advise("see that the daemon runs and reaches a node that `issuers` of [fleet] names")
            }
            Some(until) => Finding::ok(SUBJECT, "certificate", format!("this node's certificate is good until {until}")),
        }
    }
}

fn judge_other(name: &NodeName, other: &Other, own: &str, words: &Words) -> Vec<Finding> {
    let subject = format!("node {name}");
    if !other.is_enrolled {
        return vec![
            Finding::warning(
                &subject,
                "enrolled",
                format!("{name} stands in [fleet] nodes and is not enrolled"),
            )
            .because("nothing goes to it or comes from it")
            .run(words.backstay(&format!("invite {name} --recovery {}", words.recovery_key().display()))),
        ];
    }
    let known = match &other.answer.greeted {
        Ok(known) => known,
        Err(why) => {
            return vec![
                Finding::problem(&subject, "reached", why.clone())
                    .because("nothing is captured to it, or read from it, as long as it is not reached")
                    .advise(format!("see on {name} whether the daemon runs and what it logs (`journalctl -u backstay`), whether its address stands rightly in `nodes` of [fleet], and whether UDP gets through to its port")),
            ];
        }
    };
    let took = format_duration(Duration::from_millis(known.round_trip.as_millis() as u64));
    let mut findings = vec![Finding::ok(
        &subject,
        "reached",
        format!("it answers within {took}, with version {}", known.software),
    )];
    let off = Duration::from_nanos(known.clock_ahead_nanos.unsigned_abs());
    if off >= CLOCK_OFF {
        let which = if known.clock_ahead_nanos > 0 { "ahead of" } else { "behind" };
        let off = format_duration(Duration::from_secs(off.as_secs()));
        findings.push(
            Finding::warning(&subject, "clock", format!("its clock is {off} {which} this one"))
                .because("points are judged by time, and certificates as well")
                .advise("have both nodes' clocks set: `timedatectl set-ntp true`"),
        );
    }
    match &other.answer.room {
        Some(Ok(0)) => findings.push(
            Finding::problem(&subject, "holds", format!("it holds the vault of {own}, and has no room for more"))
                .because("its `quota` or `floor` is reached: nothing more is captured to it")
                .advise(format!("let retention remove more (`keep`), or have `quota` or `floor` of [hold.{own}] changed on {name}")),
        ),
        Some(Ok(free)) => findings.push(Finding::ok(
            &subject,
            "holds",
            format!("it holds the vault of {own}, and has room for {} more", ByteSize(*free)),
        )),
        Some(Err(why)) => findings.push(
            Finding::problem(&subject, "holds", why.clone())
                .because(format!("the vault of {own} should be there"))
                .set(
                    format!("node.toml on {name}"),
                    format!("[hold.{own}]\nvault = {{ path = \"/srv/backstay/{own}\" }}"),
                ),
        ),
        None => {}
    }
    findings
}

/// Why this node cannot listen where it should, as far as that can be told from here.
fn listen_fault(config: &Config) -> Option<String> {
    let ListenAddress::Socket(address) = config.node.listen? else { return None };
    let bound = UdpSocket::bind((address.ip(), 0));
    let is_foreign = bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable);
    is_foreign
        .then(|| format!("{} is no address of this host, and the daemon is to listen there", address.ip()))
}

/// Where others look for this node, and where it listens, if the ports differ: right where something between forwards it.
fn other_port(config: &Config) -> Option<(u16, u16)> {
    let listens = match config.node.listen? {
        ListenAddress::Tailnet { port } => port,
        ListenAddress::Socket(address) => address.port(),
    };
    let announced = config.fleet.nodes.get(&config.node.name)?.as_ref()?.port;
    (announced != listens).then_some((announced, listens))
}

/// Nodes from which a vault leads here, and that no `[hold]` accepts.
fn unheld(config: &Config) -> Vec<String> {
    let is_held = |node: &NodeName| config.holds.get(node).is_some_and(|hold| hold.vault.is_some());
    let here = config.peer_pairs.iter().filter(|(_, holder)| *holder == config.node.name);
    here.filter(|(writer, _)| !is_held(writer)).map(|(writer, _)| writer.to_string()).collect()
}

/// Spaces whose disk has less free than is to stay free.
fn below_floor(config: &Config) -> BTreeMap<String, (ByteSize, ByteSize)> {
    let held = config.holds.iter().filter_map(|(node, hold)| Some((node, hold.vault.as_ref()?)));
    let judged = held.filter_map(|(node, held)| {
        let floor = held.floor?;
        let there = held.path.ancestors().find(|folder| folder.exists())?;
        let stat = rustix::fs::statvfs(there).ok()?;
        let free = ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize));
        (free < floor).then(|| (node.to_string(), (free, floor)))
    });
    judged.collect()
}

/// What the daemon has found damaged when it read last what is held for others.
fn damaged(config: &Config) -> BTreeMap<String, Vec<String>> {
    let held = config.holds.iter().filter(|(_, hold)| hold.vault.is_some());
    let found = held.map(|(node, _)| (node.to_string(), Scrubs::of(&config.node.state, node).load().damaged));
    found.filter(|(_, objects)| !objects.is_empty()).collect()
}

fn judge_damaged(node: &str, objects: &[String], words: &Words) -> Finding {
    let what = match objects {
        [one] => format!("{one}, which is held for {node}, is damaged"),
        [one, ..] => format!("{} objects that are held for {node} are damaged, such as {one}", objects.len()),
        [] => String::new(),
    };
    Finding::problem(SUBJECT, "scrub", what)
        .because("they are not what their names say: a disk of this node has lost or changed them; points that need them cannot be restored from here")
        .run(words.backstay(&format!("vault repair held.{node} --read-data")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::fleet::Greeted;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn facts() -> Facts {
        let greeted = Greeted {
            software: "0.1.0".to_owned(),
            clock_ahead_nanos: 3_000_000,
            round_trip: Duration::from_millis(12),
            fleet_file: Some([1; 32]),
        };
        let answer = Answer { greeted: Ok(greeted), room: Some(Ok(5 << 30)) };
        let other = Other { is_enrolled: true, answer };
        Facts {
            now: NOW,
            node: "alpha".to_owned(),
            fault: None,
            is_enrolled: true,
            certificate_until: Some(NOW.saturating_add(Duration::from_secs(25 * 24 * 3600))),
            listens: true,
            listen_fault: None,
            other_port: None,
            unheld: Vec::new(),
            below_floor: BTreeMap::new(),
            held: vec!["beta".to_owned()],
            damaged: BTreeMap::new(),
            fleet_file: Some([1; 32]),
            others: BTreeMap::from([("beta".parse().unwrap(), other)]),
        }
    }

    fn levels(facts: &Facts) -> Vec<(&'static str, Level)> {
        facts.judge(&Words::of_tests(0)).iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_fleet_that_is_well_is_said_to_be() {
        let all = ["enrolled", "certificate", "reached", "holds"].map(|check| (check, Level::Ok));
        assert_eq!(levels(&facts()), all);
        let alone = Facts { others: BTreeMap::new(), held: Vec::new(), is_enrolled: false, ..facts() };
        assert_eq!(levels(&alone), [], "one node alone needs none");
    }

    #[test]
    fn what_is_wrong_is_told_with_what_mends_it() {
        let nobody = Facts { is_enrolled: false, ..facts() };
        assert_eq!(levels(&nobody), [("enrolled", Level::Problem)]);
        let late =
            Facts { certificate_until: Some(NOW.saturating_add(Duration::from_secs(3600))), ..facts() };
        assert_eq!(levels(&late)[1], ("certificate", Level::Warning));
        assert_eq!(levels(&Facts { certificate_until: None, ..facts() })[1], ("certificate", Level::Problem));
        assert_eq!(levels(&Facts { listens: false, ..facts() })[2], ("listen", Level::Problem));
        let unheld = Facts { unheld: vec!["gamma".to_owned()], ..facts() };
        assert_eq!(levels(&unheld)[2], ("hold", Level::Warning));
        let below_floor = BTreeMap::from([("beta".to_owned(), (ByteSize(1), ByteSize(2)))]);
        assert_eq!(levels(&Facts { below_floor, ..facts() })[2], ("floor", Level::Problem));
        let listens_elsewhere = Facts { listen_fault: Some("another port".to_owned()), ..facts() };
        assert_eq!(levels(&listens_elsewhere)[2], ("listen", Level::Problem));
        let mut full = facts();
        full.others.values_mut().next().unwrap().answer.room = Some(Ok(0));
        assert_eq!(levels(&full)[3], ("holds", Level::Problem));
        let damaged = BTreeMap::from([("beta".to_owned(), vec!["packs/00/00".to_owned()])]);
        assert_eq!(levels(&Facts { damaged, ..facts() })[2], ("scrub", Level::Problem));
        let mut other = facts();
        let beta = other.others.values_mut().next().unwrap();
        beta.answer.room = Some(Err("beta holds nothing for alpha".to_owned()));
        let findings = other.judge(&Words::of_tests(0));
        assert!(findings[3].fix.as_ref().unwrap().text().starts_with("[hold.alpha]"), "{findings:?}");
        let beta = other.others.values_mut().next().unwrap();
        beta.answer.greeted = Err("nothing answers there".to_owned());
        assert_eq!(levels(&other)[2], ("reached", Level::Problem));
        let file = Facts { fleet_file: Some([2; 32]), ..facts() };
        assert_eq!(levels(&file)[4], ("fleet_file", Level::Warning));
        assert_eq!(levels(&Facts { fleet_file: None, ..facts() }).len(), 4, "there is nothing to compare");
        let mut clock = facts();
        let beta = clock.others.values_mut().next().unwrap();
        beta.answer.greeted.as_mut().unwrap().clock_ahead_nanos = -20_000_000_000;
        assert_eq!(levels(&clock)[3], ("clock", Level::Warning));
    }
}
