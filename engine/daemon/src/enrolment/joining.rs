//! Taking up an invitation on this node: keys are made here, what comes is written down, and only then is the other node told.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::config::ListenAddress;
use backstay_net::enrol::{Invitation, Joining, join as take_up};
use backstay_net::tailnet::LocalApi;
use backstay_vault::keys::{Bundle, unwrap_bundle};
use tokio::runtime::Handle;

use super::starter::Starter;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::fleet::{Files, public};
use crate::node::{Identity, StateLock};

/// How this node joins.
#[derive(Debug)]
pub struct JoinPlan {
    /// Its state.
    pub state: PathBuf,
    /// Where the configuration is to be, if that is a folder.
    pub starter: Option<Starter>,
    /// Where it listens, in a configuration that is written.
    pub listen: ListenAddress,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// `fleet.toml`, where there was none.
    pub fleet: Option<PathBuf>,
    /// `node.toml`, where there was none.
    pub node: Option<PathBuf>,
    /// Whether the file of the fleet on this node differs from that of the inviting node.
    pub differs: bool,
}

/// Joins the fleet.
pub fn join(invitation: &Invitation, plan: &JoinPlan, io: &Handle) -> Result<Written, Failure> {
    let _lock = StateLock::take(&plan.state)?;
    if let (Some(starter), ListenAddress::Tailnet { .. }) = (&plan.starter, plan.listen)
        && !starter.node_file().exists()
    {
        // Before the invitation is used up.
        io.block_on(LocalApi::default().status()).map_err(|error| {
            Failure::failed(format!(
                "{error}. Without Tailscale say where this node listens: --listen ADDRESS:PORT"
            ))
        })?;
    }
    if let (Some(starter), ListenAddress::Socket(address)) = (&plan.starter, plan.listen)
        && !starter.node_file().exists()
    {
        refuse_foreign(address)?;
    }
    let mut identity = Identity::load_or_make(&plan.state)?;
    if let Some(bundle) = identity.bundle.as_ref().filter(|bundle| bundle.domain != invitation.domain) {
        return Err(Failure::failed(format!(
            "this node has the keys of another domain, {}, and the fleet {} has {}: a node belongs to one domain. Give it a node.state of its own for this fleet; what vaults it has stay readable with the old one",
            bundle.domain, invitation.fleet, invitation.domain
        )));
    }
    let files = Files::below(&plan.state);
    let seed = files.tls_seed_or_make()?;
    let issuer = files.issuer_or_make(&invitation.fleet, SystemClock.now())?;
    let joining = Joining {
        tls_key: public(&seed),
        signer: identity.signer().public(),
        recipient: identity.age.recipient(),
        authority: issuer.certificate().clone(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let joined = io.block_on(take_up(invitation, &joining, clock))?;
    let bundle = unwrap_bundle(&joined.bundle, &identity.age)?;
    refuse_other_keys(&bundle, invitation)?;
    // One that was in the fleet before may lack an epoch that began meanwhile.
    match &identity.bundle {
        None => identity.keep_bundle(bundle)?,
        Some(own) => {
            if let Some(newer) = own.joined_with(&bundle) {
                identity.keep_bundle(newer)?;
            }
        }
    }
    files.keep_enrolled(&joined.chain)?;
    files.keep_roster(&joined.roster, &files.roster_turn()?)?;
    let written = write_configuration(invitation, plan, &joined.fleet_file)?;
    io.block_on(joined.done());
    Ok(written)
}

/// An address that is not this host's. What has its port already may be the daemon.
fn refuse_foreign(address: SocketAddr) -> Result<(), Failure> {
    match UdpSocket::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Err(Failure::usage(format!(
            "{} is no address of this host: give one at which others reach it, with --listen ADDRESS:PORT. The invitation is not used up",
            address.ip()
        ))),
        _ => Ok(()),
    }
}

fn refuse_other_keys(bundle: &Bundle, invitation: &Invitation) -> Result<(), Failure> {
    match (bundle.domain, bundle.admin) == (invitation.domain, invitation.admin) {
        true => Ok(()),
        false => {
            Err(Failure::failed("the keys that came are not those of the fleet that the invitation names"))
        }
    }
}

fn write_configuration(
    invitation: &Invitation,
    plan: &JoinPlan,
    fleet_file: &[u8],
) -> Result<Written, Failure> {
    let Some(starter) = &plan.starter else { return Ok(Written { fleet: None, node: None, differs: false }) };
    let state = (plan.state != Path::new(DEFAULT_STATE)).then_some(plan.state.as_path());
    let fleet = !fleet_file.is_empty() && starter.write_fleet_of_others(fleet_file)?;
    let node = starter.write_node(&invitation.node, plan.listen, state)?;
    let there = std::fs::read(starter.fleet_file()).unwrap_or_default();
    Ok(Written {
        fleet: fleet.then(|| starter.fleet_file()),
        node: node.then(|| starter.node_file()),
        differs: !fleet_file.is_empty() && there != fleet_file,
    })
}

/// Where the state is when nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/backstay";
