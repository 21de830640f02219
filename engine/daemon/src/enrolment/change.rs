//! Changing the roster, with the admin's key: removing a node, binding one to another tailnet node, and taking certificates of
//! another authority.

use std::path::Path;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName};
use backstay_net::identity::{Certificate, OwnCertificate, Roster, judge};
use backstay_vault::keys::Signer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Handle;

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::fleet::{Files, Told, local_api, read_chain};
use crate::vaults::Vaults;

/// Takes a node out of the fleet.
pub fn remove(
    (config, io, vaults): (&Config, &Handle, &Vaults),
    node: &NodeName,
    recovery: Option<&Path>,
) -> Result<Told, Failure> {
    change((io, vaults), recovery, |roster| {
        if *node == config.node.name {
            return Err(Failure::usage(format!(
                "{node} is this node itself: remove it on another one, which stays"
            )));
        }
        refuse_unknown(roster, node)?;
        roster.members.remove(node);
        roster.charters.retain(|charter| charter.writer != *node && charter.holder != *node);
        Ok(())
    })
}

/// Fails for a node that is not enrolled, and names those that are.
pub fn refuse_unknown(roster: &Roster, node: &NodeName) -> Result<(), Failure> {
    if roster.members.contains_key(node) {
        return Ok(());
    }
    let known: Vec<&str> = roster.members.keys().map(|name| name.as_str()).collect();
    Err(Failure::usage(format!("{node} is no node of the fleet; enrolled are: {}", known.join(", "))))
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
    let told = change((io, vaults), recovery, |roster| {
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
    let chain = read_chain(&certificate_text)
        .map_err(|why| Failure::usage(format!("{}: {why}", certificate.display())))?;
    let private = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|error| Failure::usage(format!("{}: {error}", key.display())))?;
    OwnCertificate::new(Certificate { chain: chain.clone(), key: private }).map_err(|error| {
        Failure::usage(format!(
            "the key is not that of the certificate, or of a kind that is not known: {error}"
        ))
    })?;
    let added = match authority {
        Some(file) => {
            read_chain(&read(file)?).map_err(|why| Failure::usage(format!("{}: {why}", file.display())))?
        }
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
        change((io, vaults), recovery, |roster| {
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

/// Signs the next roster, on top of the newest that can be had, keeps it, and tells the other nodes.
fn change(
    (io, vaults): (&Handle, &Vaults),
    recovery: Option<&Path>,
    change: impl FnOnce(&mut Roster) -> Result<(), Failure>,
) -> Result<Told, Failure> {
    let member = vaults.fleet().ok_or_else(no_fleet)?;
    let full = vaults.full_bundle(recovery)?;
    let seed = full.admin_seed.as_ref().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
    io.block_on(member.level());
    member.change(&Signer::from_seed(seed), change)?;
    Ok(io.block_on(member.tell()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

fn no_fleet() -> Failure {
    Failure::usage(
        "this node belongs to no fleet yet: `backstay init NODE` begins one, `backstay join INVITATION` takes up an invitation",
    )
}
