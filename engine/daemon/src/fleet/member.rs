//! This node as a member of its fleet, for any process: what it shows, whom it believes, and the links to the others.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName, RateLimit};
use backstay_core::id::SignerKey;
use backstay_core::units::Timestamp;
use backstay_net::identity::{OwnCertificate, Roster, RosterKeeper, SignedRoster, valid_until};
use backstay_net::link::{Known, Link, PeerStore};
use backstay_net::{Accepting, Endpoint};
use backstay_vault::keys::{Bundle, Signer, wrap_bundle};
use backstay_vault::store::Pace;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::files::Files;
use super::host::voucher;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::node::Access;

/// All endpoints of this process: what is open when it ends is closed, or the others would wait for what does not come any more.
static ENDPOINTS: Mutex<Vec<Endpoint>> = Mutex::new(Vec::new());

/// So long it takes to say it; whether it was heard is not waited for.
const FAREWELL_MAX: Duration = Duration::from_millis(50);

/// Ends all connections to other nodes, and tells them.
pub fn say_farewell(io: &Handle) {
    let endpoints = std::mem::take(&mut *lock(&ENDPOINTS));
    io.block_on(async {
        let mut closing = JoinSet::new();
        for endpoint in endpoints {
            closing.spawn(async move { endpoint.close().await });
        }
        let _ = timeout(FAREWELL_MAX, closing.join_all()).await;
    });
}

/// This node as a member of its fleet.
#[derive(Debug)]
pub struct FleetMember {
    config: Arc<Config>,
    io: Handle,
    pub(super) files: Files,
    pub(super) own: OwnCertificate,
    rosters: Arc<RosterKeeper>,
    /// Connects to others; opened with the first link.
    endpoint: Mutex<Option<Endpoint>>,
    links: Mutex<BTreeMap<NodeName, Link>>,
}

impl FleetMember {
    /// The member that this node is; none where it belongs to no fleet of several nodes.
    pub fn load(config: Arc<Config>, io: Handle, access: Access) -> Result<Option<Arc<Self>>, Failure> {
        let files = Files::below(&config.node.state);
        let (Some(roster), Some(certificate)) = (files.roster(None)?, files.certificate()?) else {
            return Ok(None);
        };
        refuse_other_fleet(&config, &roster)?;
        let keep = files.clone();
        let rosters = match access {
            Access::Keep => RosterKeeper::new(roster, move |roster| {
                let kept = keep.roster_turn().and_then(|turn| keep.keep_roster(roster, &turn));
                kept.map_err(|failure| std::io::Error::other(failure.message))
            }),
            // Goes by it for as long as it runs.
            Access::ReadOnly => RosterKeeper::new(roster, |_| Ok(())),
        };
        let own = OwnCertificate::new(certificate)?;
        let (endpoint, links) = (Mutex::default(), Mutex::default());
        Ok(Some(Arc::new(Self { config, io, files, own, rosters: Arc::new(rosters), endpoint, links })))
    }

    /// The roster as it is now.
    pub fn roster(&self) -> Arc<SignedRoster> {
        Arc::clone(&self.rosters.watch().borrow())
    }

    /// The key that signs rosters, and what vaults begin with.
    pub fn admin(&self) -> SignerKey {
        self.roster().admin()
    }

    /// Until when this node's certificate is valid; none where it is not now.
    pub fn certificate_until(&self, now: Timestamp) -> Option<Timestamp> {
        let roster = self.roster();
        valid_until(&self.own.chain(), &roster.anchors(), &roster.fleet).filter(|until| *until > now)
    }

    /// Who keeps the roster.
    pub fn rosters(&self) -> &Arc<RosterKeeper> {
        &self.rosters
    }

    /// The link to another node.
    pub fn link(&self, node: &NodeName) -> Result<Link, Failure> {
        if let Some(link) = lock(&self.links).get(node) {
            return Ok(link.clone());
        }
        let address = self.config.fleet.nodes.get(node).cloned().flatten().ok_or_else(|| {
            Failure::usage(format!(
                "it is not known where node {node} is: add it to `nodes` of [fleet], as {node} = \"HOST:7420\""
            ))
        })?;
        let link = Link::new(self.endpoint()?, self.config.node.name.clone(), node.clone(), address);
        Ok(lock(&self.links).entry(node.clone()).or_insert(link).clone())
    }

    /// This node's space at another one.
    pub fn store(&self, holder: &NodeName, limit: Option<RateLimit>) -> Result<PeerStore, Failure> {
        let pace = Arc::new(Pace::new(limit, crate::clock::minute_of_day));
        Ok(PeerStore::new(self.link(holder)?, self.config.node.name.clone(), pace))
    }

    /// Listens at an address.
    pub(super) fn listen(&self, address: SocketAddr) -> Result<Endpoint, Failure> {
        Ok(self.open(address, Accepting::Yes)?)
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let mut endpoint = lock(&self.endpoint);
        if let Some(open) = &*endpoint {
            return Ok(open.clone());
        }
        // Of both families, or of one where a host has no IPv6.
        let any = (Ipv6Addr::UNSPECIFIED, 0).into();
        let opened = match self.open(any, Accepting::No) {
            Ok(opened) => opened,
            Err(_) => self.open((Ipv4Addr::UNSPECIFIED, 0).into(), Accepting::No)?,
        };
        Ok(endpoint.insert(opened).clone())
    }

    fn open(
        &self,
        address: SocketAddr,
        accepting: Accepting,
    ) -> Result<Endpoint, backstay_net::EndpointError> {
        let _within = self.io.enter();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let opened = Endpoint::open(address, self.own.clone(), Arc::clone(&self.rosters), clock, accepting)?;
        lock(&ENDPOINTS).push(opened.clone());
        Ok(opened.with_voucher(voucher(&self.config)))
    }
}

/// What another node answers.
#[derive(Debug)]
pub struct Answer {
    /// What it says of itself, or why it cannot be reached.
    pub greeted: Result<Greeted, String>,
    /// Bytes that it has room for, or why it holds no vault; nothing where it was not asked.
    pub room: Option<Result<u64, String>>,
}

/// What a node says of itself when it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    /// The version of its software.
    pub software: String,
    /// By how much its clock is ahead, nanoseconds.
    pub clock_ahead_nanos: i64,
    /// How long the answer took.
    pub round_trip: Duration,
    /// A hash of the fleet.toml that it goes by, where it says so.
    pub fleet_file: Option<[u8; 32]>,
}

impl From<Known> for Greeted {
    fn from(known: Known) -> Self {
        let Known { software, clock_ahead_nanos, round_trip, fleet_file, .. } = known;
        Self { software, clock_ahead_nanos, round_trip, fleet_file }
    }
}

/// Other nodes have so long to take a changed roster; whoever does not gets it when it is next connected.
const TELLING_MAX: Duration = Duration::from_secs(10);

/// An answer is waited for so long: longer than the link does, which says better what is wrong.
const GREETING_MAX: Duration = Duration::from_secs(13);

/// Which nodes have a changed roster by now, and which will get it later.
#[derive(Debug, Default)]
pub struct Told {
    /// They go by it.
    pub nodes: Vec<NodeName>,
    /// They could not be reached, or have another one.
    pub later: Vec<NodeName>,
}

impl FleetMember {
    /// Sees to it that this node has the newest roster of those that can be reached.
    pub async fn level(&self) {
        let mut greetings = JoinSet::new();
        for link in self.others().iter().filter_map(|node| self.link(node).ok()) {
            greetings.spawn(async move { timeout(TELLING_MAX, link.greet()).await });
        }
        while greetings.join_next().await.is_some() {}
    }

    /// Reaches all other nodes, and asks those of which this is wanted how much room they have for its vault. Blocks.
    pub fn greet_all(&self, holders: &[&NodeName]) -> BTreeMap<NodeName, Answer> {
        let mut all = BTreeMap::new();
        let mut greetings = JoinSet::new();
        for node in self.others() {
            let (link, store) = match (self.link(&node), self.store(&node, None)) {
                (Ok(link), Ok(store)) => (link, store),
                (Err(failure), _) | (_, Err(failure)) => {
                    all.insert(node, Answer { greeted: Err(failure.message), room: None });
                    continue;
                }
            };
            let is_holder = holders.contains(&&node);
            let greet = async move {
                let greeted = timeout(GREETING_MAX, link.greet()).await;
                let greeted = greeted.map_err(|_| "it does not answer in time".to_owned());
                let greeted = greeted.and_then(|known| known.map_err(|error| error.to_string()));
                let room = match (is_holder, &greeted) {
                    (true, Ok(_)) => {
                        Some(store.room().await.map(|(free, _)| free).map_err(|error| error.to_string()))
                    }
                    _ => None,
                };
                (node, Answer { greeted: greeted.map(Greeted::from), room })
            };
            greetings.spawn_on(greet, &self.io);
        }
        while let Some(Ok((node, answer))) = self.io.block_on(greetings.join_next()) {
            all.insert(node, answer);
        }
        all
    }

    /// Offers this node's roster to all others.
    pub async fn tell(&self) -> Told {
        let mut offers = JoinSet::new();
        let mut told = Told::default();
        for node in self.others() {
            match self.link(&node) {
                Ok(link) => {
                    offers.spawn(async move {
                        let offered = timeout(TELLING_MAX, link.offer_roster()).await;
                        (node, matches!(offered, Ok(Ok(()))))
                    });
                }
                Err(_) => told.later.push(node),
            }
        }
        while let Some(Ok((node, has_it))) = offers.join_next().await {
            if has_it { told.nodes.push(node) } else { told.later.push(node) }
        }
        told
    }

    /// Signs the next roster, keeps it, and goes by it. It builds on the newest one that this node knows.
    pub fn change(
        &self,
        admin: &Signer,
        change: impl FnOnce(&mut Roster) -> Result<(), Failure>,
    ) -> Result<SignedRoster, Failure> {
        let turn = self.files.roster_turn()?;
        let kept = self.files.roster(Some(admin.public()))?;
        let known = self.roster();
        if known.admin() != admin.public() {
            return Err(Failure::failed(
                "the admin key is not that of this fleet: another recovery key was given",
            ));
        }
        let newest =
            kept.filter(|kept| kept.number >= known.number).unwrap_or_else(|| SignedRoster::clone(&known));
        let mut roster =
            Roster { number: newest.number + 1, made: SystemClock.now(), ..Roster::clone(&newest) };
        change(&mut roster)?;
        let roster = roster.sign(admin);
        self.files.keep_roster(&roster, &turn)?;
        drop(turn);
        self.rosters.offer(roster.bytes().clone())?;
        Ok(roster)
    }

    /// Has the roster carry these keys, sealed to the recovery key: what vaults at other nodes get. Nothing to do where it has them.
    pub fn seal_recovery(&self, full: &Bundle, recipient: &str) -> Result<(), Failure> {
        let admin =
            full.admin_seed.as_ref().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
        let sealed = Bytes::from(wrap_bundle(full, recipient)?);
        self.change(&Signer::from_seed(admin), |roster| {
            roster.recovery = Some(sealed);
            Ok(())
        })?;
        Ok(())
    }

    fn others(&self) -> Vec<NodeName> {
        self.roster().members.keys().filter(|name| **name != self.config.node.name).cloned().collect()
    }
}

/// A state of another fleet would be refused everywhere, in less telling words.
fn refuse_other_fleet(config: &Config, roster: &SignedRoster) -> Result<(), Failure> {
    if config.fleet.name == roster.fleet {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the configuration is that of the fleet {}, and this node was enrolled in {}: correct `name` of [fleet], or give the node a node.state of its own and enrol it (`backstay join`)",
        config.fleet.name, roster.fleet
    )))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
