//! How many connections there are at once, of one node and in all, and how much is written to the log of those that are refused.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::config::NodeName;
use backstay_wire::peer::ConnectionKind;
use quinn::{Connection, VarInt};

use crate::endpoint::HANDSHAKES_MAX;
use crate::frames::plain;

/// Handshakes that may be under way from one address, so that one stranger does not keep out all others.
const HANDSHAKES_FROM_ONE_MAX: usize = 16;

/// Connections of one node and kind. More than one, since each command makes its own, and those of one that was killed are there
/// for a while still. Those for bulk data may have much on its way, and are fewer.
fn of_one_node_max(kind: ConnectionKind) -> usize {
    match kind {
        ConnectionKind::Live => 16,
        ConnectionKind::Bulk => 8,
    }
}

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
    of_nodes: HashMap<(NodeName, ConnectionKind), Vec<Arc<Guest>>>,
}

/// A connection of a node that was let in.
#[derive(Debug)]
pub(super) struct Guest {
    connection: Connection,
    /// Requests under way, and when the last one ended.
    use_of_it: Mutex<(usize, Instant)>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Guest>);

impl Guest {
    fn use_of_it(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.use_of_it.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nothing was asked over it; none while something is.
    fn idle_since(&self) -> Option<Instant> {
        let (requests, ended) = *self.use_of_it();
        (requests == 0).then_some(ended)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut use_of_it = self.0.use_of_it();
        *use_of_it = (use_of_it.0 - 1, Instant::now());
    }
}

/// One handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake(Connections, IpAddr);

/// One connection of a node.
#[derive(Debug)]
pub(super) struct Place(Connections, (NodeName, ConnectionKind), Arc<Guest>);

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

    /// One more connection of this node and kind, if it may have one. Where there are as many as there may be, the one that was
    /// idle for longest gives way: it is half open, or of a command that has ended.
    pub(super) fn enter(
        &self,
        node: &NodeName,
        kind: ConnectionKind,
        connection: &Connection,
    ) -> Option<Place> {
        let key = (node.clone(), kind);
        let use_of_it = Mutex::new((0, Instant::now()));
        let guest = Arc::new(Guest { connection: connection.clone(), use_of_it });
        let mut counts = self.counts();
        let guests = counts.of_nodes.entry(key.clone()).or_default();
        if guests.len() >= of_one_node_max(kind) {
            let idle = guests.iter().enumerate().filter_map(|(n, guest)| Some((guest.idle_since()?, n)));
            let (_, longest) = idle.min()?;
            let gone = guests.swap_remove(longest);
            gone.connection.close(VarInt::from_u32(0), b"another connection takes its place");
        }
        guests.push(Arc::clone(&guest));
        drop(counts);
        Some(Place(self.clone(), key, guest))
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

impl Place {
    /// The kind of the connection.
    pub(super) fn kind(&self) -> ConnectionKind {
        self.1.1
    }

    /// One request more is under way, until that is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.2.use_of_it().0 += 1;
        Busy(Arc::clone(&self.2))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        if let Some(guests) = counts.of_nodes.get_mut(&self.1) {
            guests.retain(|guest| !Arc::ptr_eq(guest, &self.2));
            if guests.is_empty() {
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
    fn refusals_are_written_to_the_log_up_to_a_bound() {
        let refusals = Refusals::default();
        let logged = (0..1000).filter(|_| refusals.may_log(None)).count();
        assert_eq!(logged as u32, REFUSALS_LOGGED_MAX);
        let node = "nullstone".parse().expect("a name");
        assert!(refusals.may_log(Some(&node)), "strangers do not keep it out");
    }
}
