//! The beginning of a fleet: its authority, its roster, and this node as the first in it.

use std::collections::BTreeMap;
use std::path::Path;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, Tailnet};
use backstay_net::identity::{Authority, Member, Roster};
use backstay_vault::keys::{Secret, Signer, wrap_bundle};
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::fleet::{CERTIFICATE_VALID, Files, local_api, public};
use crate::vaults::Vaults;

/// What was done.
#[derive(Debug)]
pub struct Begun {
    /// Whether the fleet was there before, and nothing was changed but perhaps a recovery key.
    pub was_there: bool,
    /// Whether the admin's key opens with a recovery key, and lies on this node no more.
    pub has_recovery: bool,
    /// Vaults that have not got the recovery key, and why.
    pub left: Vec<(String, Failure)>,
}

/// Makes this node the first of its fleet. Done again, it adds what is missing. `vaults` are those of a process that holds the state
/// lock.
pub fn init(
    config: &Config,
    io: &Handle,
    vaults: &Vaults,
    recovery: Option<&Path>,
) -> Result<Begun, Failure> {
    let files = Files::below(&config.node.state);
    let turn = files.roster_turn()?;
    let before = files.roster(None)?;
    if let (Some(before), None) = (&before, recovery) {
        let has_recovery = before.recovery.is_some();
        return Ok(Begun { was_there: true, has_recovery, left: Vec::new() });
    }
    let mut full = vaults.full_bundle(recovery)?;
    let authority_seed = full.authority_seed.get_or_insert_with(Secret::random).clone();
    let now = SystemClock.now();
    let fleet = &config.fleet.name;
    let node = config.node.name.clone();
    let seed = files.tls_seed_or_make()?;
    let was_there = before.is_some();
    let mut roster = match before {
        Some(before) => Roster { number: before.number + 1, made: now, ..Roster::clone(&before) },
        None => {
            let authority = Authority::generate(fleet, &authority_seed, now)?;
            let issuer = files.issuer_or_make(fleet, now)?;
            let certificate = authority.issue(&node, &public(&seed), now, CERTIFICATE_VALID)?;
            let (signer, recipient) = vaults.own_keys();
            let tailnet_id = own_tailnet_id(config, io)?;
            let member = Member { signer, recipient, tls_key: public(&seed).hash(), tailnet_id };
            files.keep_certificate(&[certificate])?;
            Roster {
                fleet: fleet.clone(),
                number: 1,
                domain: full.domain,
                made: now,
                authorities: vec![authority.certificate().clone(), issuer.certificate().clone()],
                members: BTreeMap::from([(node, member)]),
                charters: Vec::new(),
                recovery: None,
            }
        }
    };
    if let Some(file) = recovery {
        let recipient = vaults.recovery_recipient(file)?;
        roster.recovery = Some(Bytes::from(wrap_bundle(&full, &recipient)?));
    }
    let admin = full.admin_seed.clone().ok_or_else(|| Failure::failed("the admin key is not at hand"))?;
    // Before the roster: what it says must be what this node can do.
    if !was_there {
        vaults.keep_bundle(full.clone())?;
    }
    let has_recovery = roster.recovery.is_some();
    files.keep_roster(&roster.sign(&Signer::from_seed(&admin)), &turn)?;
    let mut left = Vec::new();
    if let Some(file) = recovery {
        // Vaults that were there before the fleet open with it as well. The seeds go when the roster has them sealed.
        left = vaults.give_recovery_where_there(file, &full)?;
        vaults.keep_bundle(full.without_admin())?;
    }
    Ok(Begun { was_there, has_recovery, left })
}

/// Which node of the tailnet this one is, where that is asked for.
fn own_tailnet_id(config: &Config, io: &Handle) -> Result<Option<String>, Failure> {
    match config.node.tailnet {
        Tailnet::Off => Ok(None),
        Tailnet::Required => Ok(Some(io.block_on(local_api(config).status())?.stable_id.to_string())),
    }
}
