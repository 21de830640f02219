//! What this node grants to others: to each node that a `[hold.NODE]` names its own space and its own replicas, and certificates, if
//! it is an issuer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstay_core::clock::Clock;
use backstay_core::config::{Config, DatasetName, HeldVault, NodeName, ServiceName, Tailnet};
use backstay_core::id::SourceId;
use backstay_core::units::Span;
use backstay_net::hold::{Disks, Rights, RoomLimits, Space, Writer};
use backstay_net::identity::{Authority, Member, PeerIdentity, RosterWatch};
use backstay_net::serve::{Granted, Host};
use backstay_net::tailnet::{LocalApi, Voucher};
use backstay_vault::store::DirStore;
use backstay_wire::peer::{Reason, Refusal, Standing};
use backstay_zfs::replicate::{self, LocalHolder};
use backstay_zfs::system::{Patience, SystemZfs, own_executable};
use rustls::pki_types::CertificateDer;

use super::CERTIFICATE_VALID;
use super::member::FleetMember;
use super::standings::{Standings, Told};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::node::UNDELETE;

/// What this node grants.
#[derive(Debug)]
pub(super) struct Holder {
    name: NodeName,
    fleet_file: Option<[u8; 32]>,
    roster: RosterWatch,
    spaces: BTreeMap<NodeName, Arc<Space>>,
    /// Below which dataset the replicas of a node are.
    replicas: BTreeMap<NodeName, DatasetName>,
    zfs: Arc<SystemZfs>,
    issuer: Option<Authority>,
    voucher: Option<Voucher>,
    standings: Arc<Standings>,
}

impl Holder {
    pub(super) fn new(
        config: &Config,
        member: &FleetMember,
        standings: Arc<Standings>,
    ) -> Result<Self, Failure> {
        let disks = Disks::default();
        let space = |held: &HeldVault| {
            let undelete = held.undelete.map_or(UNDELETE, Span::as_duration);
            let limits = RoomLimits { quota: held.quota, floor: held.floor, wal_reserve: held.wal_reserve };
            Arc::new(Space::new(DirStore::with_trash(&held.path, undelete), limits, disks.clone()))
        };
        let spaces =
            config.holds.iter().filter_map(|(node, hold)| Some((node.clone(), space(hold.vault.as_ref()?))));
        let replicas = config.holds.iter().filter_map(|(node, hold)| Some((node.clone(), hold.zfs.clone()?)));
        let name = config.node.name.clone();
        let issues = config.fleet.issuers.is_empty() || config.fleet.issuers.contains(&name);
        let issuer = if issues { member.files.issuer(&config.fleet.name)? } else { None };
        Ok(Self {
            name,
            fleet_file: config.fleet_file,
            roster: member.rosters().watch(),
            spaces: spaces.collect(),
            replicas: replicas.collect(),
            zfs: Arc::new(SystemZfs::new(own_executable(), Patience::default())),
            issuer,
            voucher: voucher(config),
            standings,
        })
    }

    /// The spaces, by the nodes whose they are.
    pub(super) fn spaces(&self) -> &BTreeMap<NodeName, Arc<Space>> {
        &self.spaces
    }
}

/// Who is asked which tailnet node somebody is; nobody, where certificates alone decide.
pub(super) fn voucher(config: &Config) -> Option<Voucher> {
    (config.node.tailnet == Tailnet::Required).then(|| Voucher::new(local_api(config)))
}

/// tailscaled on this node.
pub fn local_api(config: &Config) -> LocalApi {
    config.node.tailscaled.as_ref().map_or_else(LocalApi::default, LocalApi::at)
}

#[async_trait]
impl Host for Holder {
    fn name(&self) -> &NodeName {
        &self.name
    }

    fn fleet_file(&self) -> Option<[u8; 32]> {
        self.fleet_file
    }

    async fn admit(&self, peer: &PeerIdentity, member: &Member, from: SocketAddr) -> Result<(), Refusal> {
        let Some(voucher) = &self.voucher else { return Ok(()) };
        voucher.vouch(&peer.node, member, from).await.map_err(|error| {
            let (reason, retry_after) = match error.is_transient() {
                true => (Reason::Busy, Some(Duration::from_secs(5))),
                false => (Reason::Denied, None),
            };
            Refusal { reason, text: error.to_string(), retry_after }
        })
    }

    fn renew(&self, peer: &PeerIdentity) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        let issuer = self.issuer.as_ref().ok_or_else(|| {
            denied(format!("{} issues no certificates: `issuers` of [fleet] names those that do", self.name))
        })?;
        let key = peer.ed25519.ok_or_else(|| {
            denied("the certificate is of another authority, by which it is renewed (`backstay identity import`)".to_owned())
        })?;
        let issued = issuer.issue(&peer.node, &key, SystemClock.now(), CERTIFICATE_VALID);
        let certificate = issued.map_err(|error| Refusal {
            reason: Reason::Fault,
            text: error.to_string(),
            retry_after: None,
        })?;
        Ok(vec![certificate])
    }

    fn grant(&self, peer: &PeerIdentity, member: &Member, space: &NodeName) -> Result<Granted, Refusal> {
        if peer.node != *space {
            return Err(denied(format!("what is held for {space} is not for {}", peer.node)));
        }
        let held = self.spaces.get(space).ok_or_else(|| {
            denied(format!(
                "{} holds nothing for {space}: add [hold.{space}] with vault = {{ path = \"…\" }} to its node.toml, and restart its daemon",
                self.name
            ))
        })?;
        let roster = self.roster.borrow();
        let writer = Writer { signer: member.signer, admin: roster.admin(), domain: roster.domain };
        Ok(Granted { space: Arc::clone(held), rights: Rights::Write, writer })
    }

    fn standing(&self, writer: &NodeName, vault: &str, source: SourceId) -> Result<Standing, Refusal> {
        match self.standings.of(writer, vault, source) {
            Told::Stands(standing) => Ok(standing),
            Told::NotAsked(problem) => {
                let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
                let text = format!("{} has not seen yet what of {writer} is in {vault}{why}", self.name);
                Err(Refusal { reason: Reason::Busy, text, retry_after: Some(Duration::from_secs(1)) })
            }
            Told::Unknown => Err(denied(format!(
                "{} copies nothing of that source of {writer} on to {vault}, by its fleet.toml: have the same one on both nodes, and restart the daemons",
                self.name
            ))),
        }
    }

    fn replicas(
        &self,
        peer: &PeerIdentity,
        _: &Member,
        service: &ServiceName,
    ) -> Result<Arc<dyn replicate::Holder>, Refusal> {
        let node = &peer.node;
        let root = self.replicas.get(node).ok_or_else(|| {
            denied(format!(
                "{} holds no replicas for {node}: add zfs = \"POOL/DATASET\" to [hold.{node}] of its node.toml, and restart its daemon",
                self.name
            ))
        })?;
        let place = root.join(service.as_str());
        let place =
            place.ok_or_else(|| denied(format!("{root}/{service} is too long for the name of a dataset")))?;
        Ok(Arc::new(LocalHolder::new(Arc::clone(&self.zfs) as _, place, || SystemClock.now())))
    }
}

fn denied(text: String) -> Refusal {
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
