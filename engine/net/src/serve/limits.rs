//! How many connections there are at once, of one node and in all, and how much is written to the log of those that are refused.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::config::NodeName;
use backstay_wire::peer::ConnectionKind;

use crate::endpoint::HANDSHAKES_MAX;
use crate::frames::plain;

/// Handshakes that may be under way from one address, so that one stranger does not keep out all others.
const HANDSHAKES_FROM_ONE_MAX: usize = 16;

/// Connections of one node and kind. More than one, since one that is half open may be there for a while still.
const OF_ONE_NODE_MAX: usize = 4;

/// Refusals of one node, and of all strangers, that are written to the log in each interval; the rest is counted.
const REFUSALS_LOGGED_MAX: u32 = 20;

/// That interval.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// The connections that there are.
#[derive(Debug, Default, Clone)]
pub(super) struct Connections(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    handshakes: usize,
    handshakes_from: HashMap<IpAddr, usize>,
    of_nodes: HashMap<(NodeName, ConnectionKind), usize>,
}

/// One handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake(Connections, IpAddr);

/// One connection of a node.
#[derive(Debug)]
pub(super) struct Place(Connections, (NodeName, ConnectionKind));

impl Connections {
    /// Handshakes that are under way.
    pub(super) fn handshakes(&self) -> usize {
        self.counts().handshakes
    }

    /// Begins one more from this address, if there is room.
    pub(super) fn begin_handshake(&self, from: IpAddr) -> Option<Handshake> {
        let mut counts = self.counts();
        let from_there = counts.handshakes_from.get(&from).copied().unwrap_or(0);
        if counts.handshakes >= HANDSHAKES_MAX || from_there >= HANDSHAKES_FROM_ONE_MAX {
            return None;
        }
        counts.handshakes += 1;
        counts.handshakes_from.insert(from, from_there + 1);
        drop(counts);
        Some(Handshake(self.clone(), from))
    }

    /// One more connection of this node and kind, if it may have one.
    pub(super) fn enter(&self, node: &NodeName, kind: ConnectionKind) -> Option<Place> {
        let key = (node.clone(), kind);
        let mut counts = self.counts();
        let count = counts.of_nodes.entry(key.clone()).or_default();
        if *count >= OF_ONE_NODE_MAX {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place(self.clone(), key))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.handshakes -= 1;
        if let Some(count) = counts.handshakes_from.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.handshakes_from.remove(&self.1);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        if let Some(count) = counts.of_nodes.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.of_nodes.remove(&self.1);
            }
        }
    }
}

/// What was refused, in the log: each with its reason, but not without bound. Strangers, however many, keep no node's refusals
/// out of it, and no node those of another.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Option<NodeName>, Interval>>);

#[derive(Debug)]
struct Interval {
    began: Instant,
    logged: u32,
    left_out: u64,
}

impl Refusals {
    /// Somebody, a node where that is known, was refused.
    pub(super) fn note(&self, from: SocketAddr, node: Option<&NodeName>, why: &str) {
        if !self.may_log(node) {
            return;
        }
        let node = node.map_or("-", |node| node.as_str());
        tracing::warn!(%from, node, "refused: {}", plain(why));
    }

    fn may_log(&self, node: Option<&NodeName>) -> bool {
        let mut intervals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        intervals.retain(|of, interval| {
            let is_over = now.duration_since(interval.began) >= REFUSALS_EVERY;
            if is_over && interval.left_out > 0 {
                let node = of.as_ref().map_or("-", |node| node.as_str());
                tracing::warn!(
                    count = interval.left_out,
                    node,
                    "further refusals were not written to the log"
                );
            }
            !is_over
        });
        let new = || Interval { began: now, logged: 0, left_out: 0 };
        let interval = intervals.entry(node.cloned()).or_insert_with(new);
        if interval.logged < REFUSALS_LOGGED_MAX {
            interval.logged += 1;
            return true;
        }
        interval.left_out += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_connections_of_a_kind_and_gets_a_place_back_when_one_ends() {
        let connections = Connections::default();
        let node: NodeName = "nullstone".parse().expect("a name");
        let places: Vec<_> = (0..OF_ONE_NODE_MAX)
            .map(|_| connections.enter(&node, ConnectionKind::Bulk).expect("there is room"))
            .collect();
        assert!(connections.enter(&node, ConnectionKind::Bulk).is_none());
        assert!(
            connections.enter(&node, ConnectionKind::Live).is_some(),
            "the other kind is counted by itself"
        );
        drop(places);
        assert!(connections.enter(&node, ConnectionKind::Bulk).is_some());
        assert!(connections.counts().of_nodes.is_empty(), "who has none is not remembered");
    }

    #[test]
    fn refusals_are_written_to_the_log_up_to_a_bound() {
        let refusals = Refusals::default();
        let logged = (0..1000).filter(|_| refusals.may_log(None)).count();
        assert_eq!(logged as u32, REFUSALS_LOGGED_MAX);
        let node = "nullstone".parse().expect("a name");
        assert!(refusals.may_log(Some(&node)), "strangers do not keep it out");
    }
}
