//! Changing the roster, with the admin's key: removing a node, binding one to another tailnet node, and taking certificates of
//! another authority.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName};
use backstay_net::identity::{Certificate, OwnCertificate, Roster, SignedRoster, judge};
use backstay_vault::keys::Signer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::files::Files;
use super::host::local_api;
use super::member::FleetMember;
use super::pem;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::vaults::Vaults;

/// Other nodes have so long to take a changed roster; whoever does not gets it when it is next connected.
const TELLING_MAX: Duration = Duration::from_secs(10);

/// Which nodes have a changed roster by now, and which will get it later.
#[derive(Debug, Default)]
pub struct Told {
    /// They go by it.
    pub nodes: Vec<NodeName>,
    /// They could not be reached.
    pub later: Vec<NodeName>,
}

/// Takes a node out of the fleet.
pub fn remove(
    (config, io, vaults): (&Config, &Handle, &Vaults),
    node: &NodeName,
    recovery: Option<&Path>,
) -> Result<Told, Failure> {
    change((config, io, vaults), recovery, |roster| {
        if roster.members.len() == 1 {
            return Err(Failure::usage(format!("{node} is the only node of the fleet")));
        }
        if roster.members.remove(node).is_none() {
            let known: Vec<&str> = roster.members.keys().map(|name| name.as_str()).collect();
            return Err(Failure::usage(format!(
                "{node} is no node of the fleet; enrolled are: {}",
                known.join(", ")
            )));
        }
        roster.charters.retain(|charter| charter.writer != *node && charter.holder != *node);
        Ok(())
    })
}

/// Binds a node to the tailnet node that is at its address now, or to the one with this id. The id.
pub fn rebind(
    (config, io, vaults): (&Config, &Handle, &Vaults),
    node: &NodeName,
    id: Option<String>,
    recovery: Option<&Path>,
) -> Result<(String, Told), Failure> {
    let id = match id {
        Some(id) => id.parse::<backstay_net::tailnet::StableNodeId>().map_err(Failure::usage)?.to_string(),
        None => io.block_on(tailnet_id_of(config, node))?,
    };
    let told = change((config, io, vaults), recovery, |roster| {
        let member = roster.members.get_mut(node);
        let member = member.ok_or_else(|| Failure::usage(format!("{node} is no node of the fleet")))?;
        member.tailnet_id = Some(id.clone());
        Ok(())
    })?;
    Ok((id, told))
}

/// Which tailnet node is at the address of a node of the fleet.
async fn tailnet_id_of(config: &Config, node: &NodeName) -> Result<String, Failure> {
    let api = local_api(config);
    if *node == config.node.name {
        return Ok(api.status().await?.stable_id.to_string());
    }
    let address = config.fleet.nodes.get(node).cloned().flatten();
    let address = address.ok_or_else(|| Failure::usage(format!("{node} has no address in [fleet] nodes")))?;
    let mut found = tokio::net::lookup_host((address.host.as_str(), address.port)).await?;
    let found = found.next().ok_or_else(|| Failure::failed(format!("{address} cannot be resolved")))?;
    Ok(api.whois(found).await?.stable_id.to_string())
}

/// Goes by a certificate of another authority from now on. Whether the roster had to be changed for it.
pub fn import(
    (config, io, vaults): (&Config, &Handle, &Vaults),
    certificate: &Path,
    key: &Path,
    authority: Option<&Path>,
    recovery: Option<&Path>,
) -> Result<bool, Failure> {
    let files = Files::below(&config.node.state);
    let roster = files.roster(None)?.ok_or_else(no_fleet)?;
    let (certificate_text, key_text) = (read(certificate)?, read(key)?);
    let chain = pem::read_chain(&certificate_text)
        .map_err(|why| Failure::usage(format!("{}: {why}", certificate.display())))?;
    let private = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|error| Failure::usage(format!("{}: {error}", key.display())))?;
    OwnCertificate::new(Certificate { chain: chain.clone(), key: private }).map_err(|error| {
        Failure::usage(format!(
            "the key is not that of the certificate, or of a kind that is not known: {error}"
        ))
    })?;
    let added = match authority {
        Some(file) => pem::read_chain(&read(file)?)
            .map_err(|why| Failure::usage(format!("{}: {why}", file.display())))?,
        None => Vec::new(),
    };
    let known: Vec<CertificateDer<'static>> = roster.authorities.iter().chain(&added).cloned().collect();
    let with_added = Roster { authorities: known, ..Roster::clone(&roster) };
    let judged = judge(&chain, &with_added.anchors(), &roster.fleet, SystemClock.now());
    let identity = judged.map_err(|fault| {
        Failure::usage(format!("{fault}. Give the certificate of its authority with --ca FILE"))
    })?;
    if identity.node != config.node.name || identity.expired_since.is_some() {
        return Err(Failure::usage(format!(
            "the certificate is that of {}{}, and this node is {}",
            identity.node,
            if identity.expired_since.is_some() { ", and expired" } else { "" },
            config.node.name
        )));
    }
    let is_known = roster.member(&identity).is_ok() && added.iter().all(|ca| roster.authorities.contains(ca));
    if !is_known {
        change((config, io, vaults), recovery, |roster| {
            roster
                .authorities
                .extend(added.iter().filter(|ca| !with_roster(roster, ca)).cloned().collect::<Vec<_>>());
            let member = roster.members.get_mut(&config.node.name).ok_or_else(no_fleet)?;
            member.tls_key = identity.key;
            Ok(())
        })?;
    }
    files.keep_imported(&certificate_text, &key_text)?;
    Ok(!is_known)
}

fn with_roster(roster: &Roster, authority: &CertificateDer<'_>) -> bool {
    roster.authorities.contains(authority)
}

/// Signs the next roster, keeps it, and tells the other nodes.
fn change(
    (config, io, vaults): (&Config, &Handle, &Vaults),
    recovery: Option<&Path>,
    change: impl FnOnce(&mut Roster) -> Result<(), Failure>,
) -> Result<Told, Failure> {
    let files = Files::below(&config.node.state);
    let full = vaults.full_bundle(recovery)?;
    let seed = full.admin_seed.as_ref().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
    let admin = Signer::from_seed(seed);
    let turn = files.roster_turn()?;
    let newest = files.roster(Some(admin.public()))?.ok_or_else(no_fleet)?;
    let now = SystemClock.now();
    let mut roster = Roster { number: newest.number + 1, made: now, ..Roster::clone(&newest) };
    change(&mut roster)?;
    let roster = roster.sign(&admin);
    files.keep_roster(&roster, &turn)?;
    drop(turn);
    Ok(tell(io, config, vaults.fleet(), roster))
}

/// Offers a roster to all other nodes.
fn tell(io: &Handle, config: &Config, member: Option<&Arc<FleetMember>>, roster: SignedRoster) -> Told {
    let Some(member) = member else { return Told::default() };
    // For this process, which has loaded the one before.
    let _ = member.rosters().offer(roster.bytes().clone());
    let others: Vec<NodeName> =
        roster.members.keys().filter(|name| **name != config.node.name).cloned().collect();
    io.block_on(offer_to(member, others))
}

/// Offers this node's roster to others.
pub(super) async fn offer_to(member: &Arc<FleetMember>, others: Vec<NodeName>) -> Told {
    let mut offers = JoinSet::new();
    let mut told = Told::default();
    for node in others {
        match member.link(&node) {
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

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

fn no_fleet() -> Failure {
    Failure::usage(
        "this node belongs to no fleet yet: `backstay init NODE` begins one, `backstay join INVITATION` takes up an invitation",
    )
}
