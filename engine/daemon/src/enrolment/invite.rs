//! Inviting a node: keeps the invitation open until it is taken up, with the admin's key in the memory of this process alone, and
//! writes down then that the node belongs to the fleet.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName, Tailnet};
use backstay_core::id::SignerKey;
use backstay_core::units::Timestamp;
use backstay_net::enrol::{Admitted, Enroller, Invitation, InviteError, Inviting};
use backstay_net::identity::{Authority, Certificate, Charter, Member, NodeKey, Roster};
use backstay_vault::clear::{Custodian, TrustedNode};
use backstay_vault::keys::{Bundle, Signer, wrap_bundle};
use backstay_vault::vault::VaultCharter;
use backstay_wire::peer::{JoinRequest, Reason, Refusal};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::fleet::{CERTIFICATE_VALID, Files, FleetMember, PORT, local_api, public};
use crate::node::Identity;
use crate::vaults::Vaults;

/// A vault of this node that answers nothing for so long gets to know the node that was invited by `vault init` there.
const ADMIT_PATIENCE: Duration = Duration::from_secs(10);

/// What is told while it is waited.
pub trait Invited {
    /// The invitation is open; this text is for the other node, and that is where it is taken up.
    fn open(&self, text: &str, address: &str, until: Timestamp);
}

/// Whether a node that is enrolled may be invited once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It was built anew.
    Yes,
    /// It is a mistake.
    No,
}

/// Invites a node, and waits for it. `fleet_file` goes to it.
pub fn invite(
    (config, io, vaults): (&Arc<Config>, &Handle, &Arc<Vaults>),
    (node, again): (&NodeName, Again),
    recovery: Option<&Path>,
    listen: Option<SocketAddr>,
    valid: Duration,
    fleet_file: Vec<u8>,
    told: &dyn Invited,
) -> Result<(), Failure> {
    refuse_unlisted(config, node)?;
    let member = vaults.fleet().ok_or_else(|| {
        Failure::usage(format!(
            "this node belongs to no fleet yet: begin one with `backstay init {}`",
            config.node.name
        ))
    })?;
    if member.roster().members.contains_key(node) && again == Again::No {
        return Err(Failure::usage(format!(
            "{node} is enrolled already: inviting it again cuts off the one that is there, as soon as the invitation is taken up. If it was built anew, give --again"
        )));
    }
    let full = vaults.full_bundle(recovery)?;
    io.block_on(member.level());
    let roster = member.roster();
    let admin_of = full.clone();
    let clerk = Clerk::new(config, io, Arc::clone(member), full, fleet_file)?;
    let now = SystemClock.now();
    let seed = Files::below(&config.node.state).tls_seed_or_make()?;
    let own = clerk.authority.issue(&config.node.name, &public(&seed), now, valid)?;
    let chain = vec![own, clerk.authority.certificate().clone()];
    let inviting = open(config, io, listen, &Certificate::from_seed(chain, &seed), &seed)?;
    let until = now.saturating_add(valid);
    let names = (config.fleet.name.clone(), node.clone(), config.node.name.clone());
    let address = shown(config, inviting.address()?);
    let authority = clerk.authority.certificate().to_vec();
    let invitation =
        Invitation::new(names, roster.domain, vec![address.clone()], until, &authority, roster.admin());
    told.open(&invitation.to_text(), &address, until);
    let clerk: Arc<dyn Enroller> = Arc::new(clerk);
    match io.block_on(inviting.wait(&invitation, clerk, Arc::new(SystemClock))) {
        Ok(()) => {
            admit(config, vaults, node, &admin_of);
            Ok(())
        }
        Err(error @ InviteError::CutOff(_)) => {
            // It may well be in: the roster says so.
            admit(config, vaults, node, &admin_of);
            Err(Failure::partly(error))
        }
        Err(error) => Err(Failure::failed(error)),
    }
}

/// A node that was built anew has other keys: the vaults of this node that knew it before are to know it again; and those that take
/// points of all nodes are to know any. Those that cannot be told now get to know it by `vault init` there.
fn admit(config: &Config, vaults: &Arc<Vaults>, node: &NodeName, full: &Bundle) {
    let Some(member) = vaults.fleet().and_then(|fleet| fleet.roster().members.get(node).cloned()) else {
        return;
    };
    // Those at other nodes are told there.
    for name in
        config.vaults.iter().filter(|(_, vault)| vault.kind.may_be_cared_for()).map(|(name, _)| name.as_str())
    {
        let (vault, full, member, node) = (name.to_owned(), full.clone(), member.clone(), node.to_string());
        let of = node.clone();
        // One that hangs keeps neither the others from it nor this command from its end.
        let admitted = vaults.within(ADMIT_PATIENCE, name, move |vaults| {
            vaults.admit(&vault, &full, (&of, member.signer, &member.recipient))
        });
        match admitted {
            Ok(true) => tracing::info!(vault = name, node, "it is known there now"),
            Ok(false) => {}
            Err(failure) if failure.class == "no_vault" => {}
            Err(failure) => tracing::warn!(
                vault = name,
                node,
                "it is not known there by its new key; on it, `backstay vault init VAULT --recovery FILE` of its vault here does that: {failure}"
            ),
        }
    }
}

fn refuse_unlisted(config: &Config, node: &NodeName) -> Result<(), Failure> {
    if *node == config.node.name {
        return Err(Failure::usage(format!("{node} is this node itself")));
    }
    match config.fleet.nodes.contains_key(node) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{node} is not among the nodes of the fleet {}: add it to `nodes` of [fleet] first, with where it will be reached: {node} = \"HOST:{PORT}\"",
            config.fleet.name
        ))),
    }
}

/// Listens: where it is said, or where others reach this node, at its port if no daemon has that.
fn open(
    config: &Config,
    io: &Handle,
    listen: Option<SocketAddr>,
    certificate: &Certificate,
    seed: &backstay_vault::keys::Secret,
) -> Result<Inviting, Failure> {
    let _within = io.enter();
    let own = || Certificate::from_seed(certificate.chain.clone(), seed);
    if let Some(address) = listen {
        return Ok(Inviting::open(address, own())?);
    }
    let configured = config.node.listen.ok_or_else(|| {
        Failure::usage(format!(
            "it is not known where the other node reaches this one: add listen = \"tailnet:{PORT}\" to [node], or give --listen ADDRESS:PORT"
        ))
    })?;
    let addresses = io.block_on(local_api(config).listen_on(configured))?;
    let address = addresses.first().copied().ok_or_else(|| Failure::failed("this node has no address"))?;
    match Inviting::open(address, own()) {
        // The daemon has its port.
        Err(error) if error.is_in_use() => Ok(Inviting::open(SocketAddr::new(address.ip(), 0), own())?),
        opened => Ok(opened?),
    }
}

/// The address as it stands in the invitation: that at which others reach this node where it listens everywhere.
fn shown(config: &Config, address: SocketAddr) -> String {
    let own = config.fleet.nodes.get(&config.node.name).cloned().flatten();
    match own.filter(|_| address.ip().is_unspecified()) {
        Some(own) if own.host.contains(':') => format!("[{}]:{}", own.host, address.port()),
        Some(own) => format!("{}:{}", own.host, address.port()),
        None => address.to_string(),
    }
}

/// Writes down who belongs to the fleet.
struct Clerk {
    config: Arc<Config>,
    io: Handle,
    member: Arc<FleetMember>,
    full: Bundle,
    admin: Signer,
    authority: Authority,
    fleet_file: Bytes,
    refused: Mutex<u32>,
}

/// Refusals that are written to the log.
const REFUSALS_LOGGED_MAX: u32 = 100;

impl Clerk {
    fn new(
        config: &Arc<Config>,
        io: &Handle,
        member: Arc<FleetMember>,
        full: Bundle,
        fleet_file: Vec<u8>,
    ) -> Result<Self, Failure> {
        let roster = member.roster();
        let lacking = || {
            Failure::failed(
                "the key of the fleet's authority is not at hand: give the recovery key that `backstay init` has written, with --recovery FILE",
            )
        };
        let admin = Signer::from_seed(full.admin_seed.as_ref().ok_or_else(lacking)?);
        let seed = full.authority_seed.as_ref().ok_or_else(lacking)?;
        let certificate = roster.authorities.first().cloned().ok_or_else(lacking)?;
        let authority = Authority::from_parts(&roster.fleet, certificate, seed)?;
        if admin.public() != roster.admin() {
            return Err(Failure::failed(
                "the admin key is not that of the roster: another recovery key was given",
            ));
        }
        let (config, io, fleet_file) = (Arc::clone(config), io.clone(), fleet_file.into());
        Ok(Self { config, io, member, full, admin, authority, fleet_file, refused: Mutex::default() })
    }

    fn enrol_now(&self, request: &JoinRequest, from: SocketAddr) -> Result<Admitted, Failure> {
        let node: NodeName = request.node.parse()?;
        let key = NodeKey::new(request.tls_key);
        let tailnet_id = match self.config.node.tailnet {
            Tailnet::Off => None,
            Tailnet::Required => {
                Some(self.io.block_on(local_api(&self.config).whois(from))?.stable_id.to_string())
            }
        };
        // First: it fails for a recipient that is none.
        // What was rotated while the invitation was open is in it.
        let newest = Identity::load(&self.config.node.state)?.and_then(|identity| identity.bundle);
        let full =
            newest.and_then(|newest| self.full.joined_with(&newest)).unwrap_or_else(|| self.full.clone());
        let bundle = wrap_bundle(&full.without_admin(), &request.recipient)?;
        let now = SystemClock.now();
        let certificate = self.authority.issue(&node, &key, now, CERTIFICATE_VALID)?;
        let member = Member {
            signer: SignerKey::new(request.signing_key),
            recipient: request.recipient.clone(),
            tls_key: key.hash(),
            tailnet_id,
        };
        let own_authority: CertificateDer<'static> = request.authority.clone().into();
        let roster = self.member.change(&self.admin, |roster| {
            roster.members.insert(node.clone(), member);
            if self.config.fleet.issuers.contains(&node) && !roster.authorities.contains(&own_authority) {
                roster.authorities.push(own_authority);
            }
            // Those of the node as it was before are of no use to it.
            roster.charters.retain(|charter| charter.writer != node && charter.holder != node);
            self.charter_missing(roster, now);
            Ok(())
        })?;
        Ok(Admitted {
            chain: vec![certificate],
            bundle,
            roster: roster.bytes().clone(),
            fleet_file: self.fleet_file.clone(),
        })
    }

    /// Signs what the vaults begin with that services make necessary, between nodes that are there by now.
    fn charter_missing(&self, roster: &mut Roster, now: Timestamp) {
        for (writer, holder) in &self.config.peer_pairs {
            let (Some(of_writer), Some(of_holder)) = (roster.members.get(writer), roster.members.get(holder))
            else {
                continue;
            };
            if roster.charter(writer, holder).is_some() {
                continue;
            }
            let trusted = |name: &NodeName, member: &Member| TrustedNode {
                name: name.to_string(),
                signer: member.signer,
                recipient: member.recipient.clone(),
                writes: vec!["*".to_owned()],
                role: None,
            };
            let (holds, writes) = (trusted(holder, of_holder), trusted(writer, of_writer));
            let custodian = Custodian::first(&holds);
            let charter = VaultCharter::sign(&self.admin, roster.domain, vec![holds, writes], custodian, now);
            roster.charters.push(Charter {
                holder: holder.clone(),
                writer: writer.clone(),
                format: charter.format,
                trust: charter.trust,
            });
        }
    }
}

impl Enroller for Clerk {
    fn enrol(&self, request: &JoinRequest, from: SocketAddr) -> Result<Admitted, Refusal> {
        self.enrol_now(request, from).map_err(|failure| Refusal {
            reason: Reason::Fault,
            text: failure.message,
            retry_after: None,
        })
    }

    fn refused(&self, from: SocketAddr, why: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *refused += 1;
        if *refused <= REFUSALS_LOGGED_MAX {
            tracing::warn!(%from, "refused: {why}");
        }
    }
}
