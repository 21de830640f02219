//! Having this node's certificate renewed: by itself where it is an issuer, else by one that can be reached. Well before it
//! expires, and again and again; one that is expired keeps nobody from restoring.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, NodeName};
use backstay_core::units::Timestamp;
use backstay_net::identity::{Certificate, judge};
use rustls::pki_types::CertificateDer;
use tokio::time::sleep;

use super::files::public;
use super::member::FleetMember;
use super::{CERTIFICATE_VALID, RENEWED_BEFORE};
use crate::clock::SystemClock;
use crate::failure::Failure;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(3600);

/// The first look: a node that was off for long has a certificate that is expired.
const FIRST_LOOK: Duration = Duration::from_secs(2);

pub(super) async fn keep_renewed(config: Arc<Config>, member: Arc<FleetMember>) {
    let mut wait = FIRST_LOOK;
    loop {
        sleep(wait).await;
        wait = LOOK;
        let now = SystemClock.now();
        if !is_due(&member, now) || member.files.is_imported() {
            continue;
        }
        match renew(&config, &member, now).await {
            Ok(by) => tracing::info!(%by, "this node's certificate was renewed"),
            Err(failure) => tracing::warn!("this node's certificate could not be renewed: {failure}"),
        }
    }
}

/// Whether the certificate will not be valid any more after a while.
fn is_due(member: &FleetMember, now: Timestamp) -> bool {
    let roster = member.roster();
    let then = now.saturating_add(RENEWED_BEFORE);
    judge(&member.own.chain(), &roster.anchors(), &roster.fleet, then)
        .map_or(true, |identity| identity.expired_since.is_some())
}

async fn renew(config: &Config, member: &Arc<FleetMember>, now: Timestamp) -> Result<NodeName, Failure> {
    let own = &config.node.name;
    if let Some(issuer) = member.files.issuer(&config.fleet.name)?
        && member.roster().authorities.contains(issuer.certificate())
    {
        let seed = member.files.tls_seed_or_make()?;
        let issued = issuer.issue(own, &public(&seed), now, CERTIFICATE_VALID)?;
        take(member, vec![issued])?;
        return Ok(own.clone());
    }
    let mut last = Failure::failed("`issuers` of [fleet] names no other node");
    let roster = member.roster();
    // Where none are named, each that can.
    let issuers: Vec<&NodeName> = match config.fleet.issuers.as_slice() {
        [] => roster.members.keys().collect(),
        named => named.iter().collect(),
    };
    for issuer in issuers.into_iter().filter(|issuer| *issuer != own) {
        let renewed = match member.link(issuer) {
            Ok(link) => link.renew().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match renewed.and_then(|chain| take(member, chain)) {
            Ok(()) => return Ok(issuer.clone()),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Goes by a new certificate, once it is kept. One that is no better than the old one is not taken.
fn take(member: &FleetMember, chain: Vec<CertificateDer<'static>>) -> Result<(), Failure> {
    let roster = member.roster();
    let judged = judge(&chain, &roster.anchors(), &roster.fleet, SystemClock.now())?;
    if judged.expired_since.is_some() || roster.member(&judged).is_err() {
        return Err(Failure::failed("the new certificate is not one that this node could use"));
    }
    member.files.keep_certificate(&chain)?;
    let seed = member.files.tls_seed_or_make()?;
    Ok(member.own.replace(Certificate::from_seed(chain, &seed))?)
}
