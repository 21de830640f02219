//! A fleet in one process: an authority, a roster, nodes with certificates of their own, and a holder.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstay_core::clock::{Clock, ManualClock};
use backstay_core::config::{FleetName, NodeAddress, NodeName, ServiceName};
use backstay_core::id::{DomainId, SourceId};
use backstay_core::units::Timestamp;
use backstay_net::hold::{Disks, Rights, RoomLimits, Space, Writer};
use backstay_net::identity::{
    Authority, Certificate, Member, NodeKey, OwnCertificate, PeerIdentity, Roster, RosterKeeper, SignedRoster,
};
use backstay_net::link::{Link, PeerStore};
use backstay_net::serve::{self, Granted, Host};
use backstay_net::{Accepting, Endpoint};
use backstay_vault::keys::{Secret, Signer};
use backstay_vault::store::{DirStore, Pace};
use backstay_wire::peer::{Reason, Refusal, Standing};
use backstay_zfs::replicate;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinHandle;

/// When the tests take place.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// How long certificates are valid here.
pub(crate) const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// Who belongs together.
pub(crate) struct Fleet {
    pub(crate) name: FleetName,
    pub(crate) authority: Authority,
    pub(crate) admin: Signer,
    pub(crate) domain: DomainId,
    pub(crate) clock: Arc<ManualClock>,
    roster: Arc<RosterKeeper>,
    signers: Mutex<HashMap<NodeName, Signer>>,
    changing: Mutex<()>,
}

pub(crate) fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::of_domain(DomainId::new([7; 16]))
    }

    pub(crate) fn of_domain(domain: DomainId) -> Self {
        let name: FleetName = "home".parse().expect("a name");
        let authority = Authority::generate(&name, &Secret::random(), NOW).expect("an authority");
        let admin = Signer::from_seed(&Secret::random());
        let roster = Roster {
            fleet: name.clone(),
            number: 1,
            domain,
            made: NOW,
            authorities: vec![authority.certificate().clone()],
            members: BTreeMap::new(),
            charters: Vec::new(),
            recovery: None,
        };
        let roster = Arc::new(RosterKeeper::new(roster.sign(&admin), |_| Ok(())));
        let clock = Arc::new(ManualClock::new(NOW));
        Self {
            name,
            authority,
            admin,
            domain,
            clock,
            roster,
            signers: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// Enrols a node: its certificate.
    pub(crate) fn enrol(&self, name: &str) -> OwnCertificate {
        self.enrol_for(name, VALID)
    }

    /// The same with a certificate that is valid for so long.
    pub(crate) fn enrol_for(&self, name: &str, valid: Duration) -> OwnCertificate {
        let seed = Secret::random();
        let certificate = self.certify(name, &NodeKey::of_seed(&seed), valid);
        OwnCertificate::new(Certificate::from_seed(vec![certificate], &seed)).expect("a certificate")
    }

    /// The same for a key of whoever asks.
    pub(crate) fn enrol_key(&self, name: &str, public: &NodeKey) -> CertificateDer<'static> {
        self.certify(name, public, VALID)
    }

    pub(crate) fn enrol_key_for(
        &self,
        name: &str,
        public: &NodeKey,
        valid: Duration,
    ) -> CertificateDer<'static> {
        self.certify(name, public, valid)
    }

    /// The roster as the holders of this process have it.
    pub(crate) fn newest(&self) -> Arc<SignedRoster> {
        Arc::clone(&self.roster.watch().borrow())
    }

    /// A node that has a roster of its own, as one in another process, and its link to a holder.
    pub(crate) fn apart(
        &self,
        name: &str,
        own: OwnCertificate,
        roster: Arc<SignedRoster>,
        to: &Holder,
    ) -> (Arc<RosterKeeper>, Link) {
        let keeper = Arc::new(RosterKeeper::new(SignedRoster::clone(&roster), |_| Ok(())));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let at = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = Endpoint::open(at, own, Arc::clone(&keeper), clock, Accepting::No).expect("a socket");
        (keeper, Caller { name: node(name), endpoint }.link(to))
    }

    pub(crate) fn store_over(&self, link: &Link) -> PeerStore {
        PeerStore::new(link.clone(), link.own().clone(), Arc::new(Pace::unlimited()))
    }

    pub(crate) fn caller_with(&self, name: &str, own: OwnCertificate) -> Caller {
        Caller { name: node(name), endpoint: self.endpoint(own, Accepting::No) }
    }

    fn certify(&self, name: &str, public: &NodeKey, valid: Duration) -> CertificateDer<'static> {
        let certificate = self.authority.issue(&node(name), public, NOW, valid).expect("a certificate");
        let signer = Signer::from_seed(&Secret::random());
        let member = Member {
            signer: signer.public(),
            recipient: format!("age1{name}"),
            tls_key: public.hash(),
            tailnet_id: None,
        };
        self.signers.lock().expect("no panic").insert(node(name), signer);
        self.change(|roster| {
            roster.members.insert(node(name), member);
        });
        certificate
    }

    pub(crate) fn remove(&self, name: &str) {
        self.change(|roster| {
            roster.members.remove(&node(name));
        });
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Roster)) {
        let _turn = self.changing.lock().expect("no panic");
        let mut roster = Roster::clone(&self.roster.watch().borrow());
        roster.number += 1;
        change(&mut roster);
        assert!(self.roster.offer(roster.sign(&self.admin).bytes().clone()).expect("is good"), "it is newer");
    }

    /// Has what this node signs.
    pub(crate) fn sign<T>(&self, name: &str, with: impl FnOnce(&Signer) -> T) -> T {
        with(&self.signers.lock().expect("no panic")[&node(name)])
    }

    pub(crate) fn endpoint(&self, own: OwnCertificate, accepting: Accepting) -> Endpoint {
        self.endpoint_at((Ipv4Addr::LOCALHOST, 0).into(), own, accepting)
    }

    pub(crate) fn endpoint_at(&self, at: SocketAddr, own: OwnCertificate, accepting: Accepting) -> Endpoint {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Endpoint::open(at, own, Arc::clone(&self.roster), clock, accepting).expect("a socket")
    }

    /// A node that connects to others and takes no connections.
    pub(crate) fn caller(&self, name: &str) -> Caller {
        Caller { name: node(name), endpoint: self.endpoint(self.enrol(name), Accepting::No) }
    }
}

/// A node that asks.
pub(crate) struct Caller {
    pub(crate) name: NodeName,
    pub(crate) endpoint: Endpoint,
}

impl Caller {
    pub(crate) fn link(&self, to: &Holder) -> Link {
        self.link_at(to, to.address)
    }

    pub(crate) fn link_at(&self, to: &Holder, address: SocketAddr) -> Link {
        let address = NodeAddress { host: address.ip().to_string(), port: address.port() };
        Link::new(self.endpoint.clone(), self.name.clone(), to.name.clone(), address)
    }

    /// Its own space at a holder.
    pub(crate) fn store(&self, at: &Holder) -> PeerStore {
        self.store_of(&self.name.clone(), at)
    }

    pub(crate) fn store_of(&self, space: &NodeName, at: &Holder) -> PeerStore {
        PeerStore::new(self.link(at), space.clone(), Arc::new(Pace::unlimited()))
    }
}

/// What a holder holds.
#[derive(Debug)]
pub(crate) struct Spaces {
    name: NodeName,
    domain: DomainId,
    admin: backstay_core::id::SignerKey,
    pub(crate) spaces: Mutex<BTreeMap<NodeName, (Arc<Space>, Rights)>>,
    issuer: Mutex<Option<(Authority, Arc<ManualClock>)>>,
    /// How far each source of anybody was copied on to the vault `nas`.
    pub(crate) standing: Mutex<Standing>,
    /// Who has the replicas of a service.
    pub(crate) replicas: Mutex<BTreeMap<(NodeName, ServiceName), Arc<dyn replicate::Holder>>>,
}

#[async_trait]
impl Host for Spaces {
    fn name(&self) -> &NodeName {
        &self.name
    }

    async fn admit(&self, peer: &PeerIdentity, _: &Member, _: SocketAddr) -> Result<(), Refusal> {
        match self.spaces.lock().expect("no panic").contains_key(&peer.node) {
            true => Ok(()),
            false => {
                Err(denied(format!("nothing is held for {}: there is no [hold.{}]", peer.node, peer.node)))
            }
        }
    }

    fn renew(&self, peer: &PeerIdentity) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        let issuer = self.issuer.lock().expect("no panic");
        let Some((authority, clock)) = &*issuer else {
            return Err(denied(format!("{} issues no certificate for {}", self.name, peer.node)));
        };
        let key = peer.ed25519.ok_or_else(|| denied("of another kind".to_owned()))?;
        let issued = authority.issue(&peer.node, &key, clock.now(), VALID).expect("a certificate");
        Ok(vec![issued])
    }

    fn grant(&self, peer: &PeerIdentity, member: &Member, space: &NodeName) -> Result<Granted, Refusal> {
        if peer.node != *space {
            return Err(denied(format!("the space of {space} is not that of {}", peer.node)));
        }
        let spaces = self.spaces.lock().expect("no panic");
        let (space, rights) = spaces.get(space).ok_or_else(|| denied("nothing is held".to_owned()))?;
        let writer = Writer { signer: member.signer, admin: self.admin, domain: self.domain };
        Ok(Granted { space: Arc::clone(space), rights: *rights, writer })
    }

    fn standing(&self, _: &NodeName, vault: &str, _: SourceId) -> Result<Standing, Refusal> {
        match vault {
            "nas" => Ok(self.standing.lock().expect("no panic").clone()),
            other => Err(denied(format!("nothing is copied on to {other}"))),
        }
    }

    fn replicas(
        &self,
        peer: &PeerIdentity,
        _: &Member,
        service: &ServiceName,
    ) -> Result<Arc<dyn replicate::Holder>, Refusal> {
        let of = (peer.node.clone(), service.clone());
        let holder = self.replicas.lock().expect("no panic").get(&of).cloned();
        holder.ok_or_else(|| denied(format!("no replicas of {service} of {} are held", peer.node)))
    }
}

fn denied(text: String) -> Refusal {
    Refusal { reason: Reason::Denied, text, retry_after: None }
}

/// A node that holds.
pub(crate) struct Holder {
    pub(crate) name: NodeName,
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) spaces: Arc<Spaces>,
    served: JoinHandle<()>,
}

impl Holder {
    pub(crate) fn start(fleet: &Fleet, name: &str) -> Self {
        Self::start_with(fleet, name, fleet.enrol(name), (Ipv4Addr::LOCALHOST, 0).into())
    }

    pub(crate) fn start_with(fleet: &Fleet, name: &str, own: OwnCertificate, at: SocketAddr) -> Self {
        let endpoint = fleet.endpoint_at(at, own, Accepting::Yes);
        let address = endpoint.address().expect("an address");
        let spaces = Arc::new(Spaces {
            name: node(name),
            domain: fleet.domain,
            admin: fleet.admin.public(),
            spaces: Mutex::default(),
            issuer: Mutex::default(),
            standing: Mutex::default(),
            replicas: Mutex::default(),
        });
        let served = serve::serve(endpoint.clone(), Arc::clone(&spaces) as Arc<dyn Host>);
        Self { name: node(name), endpoint, address, spaces, served }
    }

    /// Holds a space in this folder for a node.
    pub(crate) fn hold(&self, of: &str, folder: &Path, rights: Rights) {
        self.hold_within(of, folder, rights, RoomLimits::default());
    }

    pub(crate) fn hold_within(&self, of: &str, folder: &Path, rights: Rights, limits: RoomLimits) {
        let space = Arc::new(Space::new(DirStore::new(folder), limits, Disks::default()));
        self.spaces.spaces.lock().expect("no panic").insert(node(of), (space, rights));
    }

    /// Has it issue certificates, by an authority that the roster gets.
    pub(crate) fn issue_by(&self, authority: Authority, fleet: &Fleet) {
        let certificate = authority.certificate().clone();
        fleet.change(|roster| roster.authorities.push(certificate));
        *self.spaces.issuer.lock().expect("no panic") = Some((authority, Arc::clone(&fleet.clock)));
    }

    pub(crate) async fn stop(self) {
        self.endpoint.close().await;
        self.served.await.expect("no panic");
    }
}
