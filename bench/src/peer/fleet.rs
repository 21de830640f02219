//! Two nodes of a fleet in this process, each with a runtime and an endpoint of its own: one holds, the other asks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use backstay_core::clock::{Clock, ManualClock};
use backstay_core::config::{FleetName, NodeAddress, NodeName};
use backstay_core::id::DomainId;
use backstay_core::units::Timestamp;
use backstay_net::hold::{Disks, Rights, RoomLimits, Space, Writer};
use backstay_net::identity::{
    Authority, Certificate, Member, NodeKey, OwnCertificate, PeerIdentity, Roster, RosterKeeper,
};
use backstay_net::link::Link;
use backstay_net::serve::{self, Granted, Host};
use backstay_net::{Accepting, Endpoint};
use backstay_vault::keys::{Secret, Signer};
use backstay_vault::store::DirStore;
use backstay_wire::peer::Refusal;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Runtime;

/// When all of it takes place.
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// How long certificates are valid.
const VALID: Duration = Duration::from_secs(3600);

/// The node that holds, on a runtime of its own, and the link of the other one to it.
pub(super) struct Nodes {
    pub(super) link: Link,
    /// What the holder runs on, for as long as this is there.
    _holder: Runtime,
}

impl Nodes {
    /// Starts both; what is held is in this folder. Within the runtime of the node that asks.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let (fleet, alpha, beta): (FleetName, NodeName, NodeName) =
            ("bench".parse()?, "alpha".parse()?, "beta".parse()?);
        let authority = Authority::generate(&fleet, &Secret::random(), NOW)?;
        let admin = Signer::from_seed(&Secret::random());
        let mut members = BTreeMap::new();
        let mut certificates = Vec::new();
        for node in [&alpha, &beta] {
            let seed = Secret::random();
            let key = NodeKey::of_seed(&seed);
            let issued = authority.issue(node, &key, NOW, VALID)?;
            certificates.push(OwnCertificate::new(Certificate::from_seed(vec![issued], &seed))?);
            let signer = Signer::from_seed(&Secret::random()).public();
            let recipient = format!("age1{node}");
            members.insert(node.clone(), Member { signer, recipient, tls_key: key.hash(), tailnet_id: None });
        }
        let roster = Roster {
            fleet,
            number: 1,
            domain: DomainId::new([7; 16]),
            made: NOW,
            authorities: vec![authority.certificate().clone()],
            members,
            charters: Vec::new(),
            recovery: None,
        };
        let roster = roster.sign(&admin);
        let rosters = || Arc::new(RosterKeeper::new(roster.clone(), |_| Ok(())));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
        let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let [of_alpha, of_beta] = <[OwnCertificate; 2]>::try_from(certificates)
            .map_err(|_| anyhow::anyhow!("two nodes have two certificates"))?;

        let holder = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let entered = holder.enter();
        let endpoint = Endpoint::open(local, of_beta, rosters(), Arc::clone(&clock), Accepting::Yes)?;
        let address = endpoint.address()?;
        let space = Space::new(DirStore::new(folder), RoomLimits::default(), Disks::default());
        let host = Holder { name: beta.clone(), space: Arc::new(space), admin: admin.public() };
        drop(serve::serve(endpoint, Arc::new(host)));
        drop(entered);

        let endpoint = Endpoint::open(local, of_alpha, rosters(), clock, Accepting::No)?;
        let address = NodeAddress { host: address.ip().to_string(), port: address.port() };
        Ok(Self { link: Link::new(endpoint, alpha, beta, address), _holder: holder })
    }
}

/// Holds for whoever has a certificate: there is but one.
#[derive(Debug)]
struct Holder {
    name: NodeName,
    space: Arc<Space>,
    admin: backstay_core::id::SignerKey,
}

#[async_trait]
impl Host for Holder {
    fn name(&self) -> &NodeName {
        &self.name
    }

    async fn admit(&self, _: &PeerIdentity, _: &Member, _: SocketAddr) -> Result<(), Refusal> {
        Ok(())
    }

    fn renew(&self, _: &PeerIdentity) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        Ok(Vec::new())
    }

    fn grant(&self, _: &PeerIdentity, member: &Member, _: &NodeName) -> Result<Granted, Refusal> {
        let writer = Writer { signer: member.signer, admin: self.admin, domain: DomainId::new([7; 16]) };
        Ok(Granted { space: Arc::clone(&self.space), rights: Rights::Write, writer })
    }
}
