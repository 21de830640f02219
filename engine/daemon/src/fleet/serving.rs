//! The daemon's side of the fleet: listens, takes up rosters that other processes of this node have written, and has its
//! certificate renewed in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::{Config, ListenAddress, NodeName};
use backstay_core::units::Span;
use backstay_net::hold::Space;
use backstay_net::serve::Host;
use tokio::sync::watch;
use tokio::time::sleep;

use super::host::{Holder, local_api};
use super::member::FleetMember;
use super::renewal;
use super::scrubbing::{SCRUB_EVERY, Scrubbing};
use super::standings::Standings;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::node::Scrubs;

/// How often it is looked whether another process has written a roster.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is tried to listen where that is not possible, as long as tailscaled is not connected.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);

/// How often what is held is counted anew: the custodian, which is this node, deletes beside.
const COUNT_EVERY: Duration = Duration::from_secs(3600);

/// Tells of each node for which something is held, when it has captured something.
pub type Commits = BTreeMap<NodeName, watch::Receiver<u64>>;

/// Begins; what it begins goes on until the process ends. Within a runtime.
pub fn serve(
    config: &Arc<Config>,
    member: &Arc<FleetMember>,
    metrics: &Arc<Metrics>,
    standings: &Arc<Standings>,
) -> Result<Commits, Failure> {
    let host = Arc::new(Holder::new(config, member, Arc::clone(standings))?);
    if let Some(listen) = config.node.listen {
        tokio::spawn(listening(Arc::clone(config), Arc::clone(member), Arc::clone(&host), listen));
    } else if !config.holds.is_empty() {
        tracing::warn!(
            "nothing is held for others as long as [node] has no `listen`: add listen = \"tailnet:{}\" or an address",
            super::PORT
        );
    }
    for (node, space) in host.spaces() {
        tokio::spawn(counting(node.clone(), Arc::clone(space)));
        let every = config.holds.get(node).and_then(|hold| hold.vault.as_ref()?.scrub);
        let scrubbing = Scrubbing {
            node: node.clone(),
            space: Arc::clone(space),
            scrubs: Scrubs::of(&config.node.state, node),
            every: every.map_or(SCRUB_EVERY, Span::as_duration),
            metrics: Arc::clone(metrics),
        };
        tokio::spawn(scrubbing.keep());
    }
    tokio::spawn(rosters(Arc::clone(member)));
    tokio::spawn(renewal::keep_renewed(Arc::clone(config), Arc::clone(member)));
    Ok(host.spaces().iter().map(|(node, space)| (node.clone(), space.commits())).collect())
}

/// Listens at all addresses, and tries again where that is not possible yet.
async fn listening(config: Arc<Config>, member: Arc<FleetMember>, host: Arc<Holder>, listen: ListenAddress) {
    let mut told = String::new();
    let mut tell = |why: String| {
        // Once for each reason.
        if why != told {
            tracing::warn!("others cannot reach this node yet: {why}");
            told = why;
        }
    };
    let addresses = loop {
        match local_api(&config).listen_on(listen).await {
            Ok(addresses) => break addresses,
            Err(error) => tell(error.to_string()),
        }
        sleep(LISTEN_AGAIN).await;
    };
    let mut open = 0;
    let mut left: Vec<SocketAddr> = addresses;
    while !left.is_empty() {
        let mut failed = Vec::new();
        for address in left {
            match member.listen(address) {
                Ok(endpoint) => {
                    tracing::info!(%address, "listening for other nodes");
                    backstay_net::serve::serve(endpoint, Arc::clone(&host) as Arc<dyn Host>);
                    open += 1;
                }
                Err(failure) => {
                    tell(failure.message);
                    failed.push(address);
                }
            }
        }
        left = failed;
        // An address of a family that this host does not have is done without.
        let has_both = open > 0 && left.iter().all(SocketAddr::is_ipv6);
        if has_both {
            break;
        }
        if !left.is_empty() {
            sleep(LISTEN_AGAIN).await;
        }
    }
}

/// Takes up rosters that other processes of this node have written.
async fn rosters(member: Arc<FleetMember>) {
    // Also one that was written while this process began.
    let mut seen = None;
    loop {
        sleep(LOOK).await;
        let found = member.files.roster_mark();
        if found == seen {
            continue;
        }
        seen = found;
        let asked = Arc::clone(&member);
        let taken = tokio::task::spawn_blocking(move || -> Result<bool, Failure> {
            let Some(roster) = asked.files.roster(Some(asked.admin()))? else { return Ok(false) };
            Ok(asked.rosters().offer(roster.bytes().clone())?)
        });
        match taken.await {
            Ok(Ok(true)) => {
                let roster = member.roster();
                tracing::info!(number = roster.number, "the roster of the fleet was changed on this node");
                // Whoever was removed is cut off everywhere, and not when somebody happens to connect.
                member.tell().await;
            }
            Ok(Err(failure)) => tracing::warn!("the roster that was written cannot be used: {failure}"),
            Ok(Ok(false)) | Err(_) => {}
        }
    }
}

async fn counting(node: NodeName, space: Arc<Space>) {
    loop {
        sleep(COUNT_EVERY).await;
        let room = Arc::clone(space.room());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || room.count()).await {
            tracing::warn!(%node, %error, "what is held cannot be counted");
        }
    }
}
