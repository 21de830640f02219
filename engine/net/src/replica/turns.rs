//! How much is done at once about the replicas of one node (docs/protocol.md, section 6). A turn is kept by the thread that works on
//! it, which may do so for a while after its connection is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay_core::config::NodeName;
use backstay_wire::peer::{Reason, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Streams that are received at once from one node.
const RECEIVES_MAX: usize = 8;

/// Other requests of one node at once: each may have a listing in memory.
const OTHERS_MAX: usize = 8;

/// Others wait for so long.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// After which it may be tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Those of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<NodeName, OfNode>>);

#[derive(Debug, Clone)]
struct OfNode {
    receives: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(
    #[expect(dead_code, reason = "kept, and given back when it is dropped")] OwnedSemaphorePermit,
);

impl Turns {
    /// One to receive a stream.
    pub(crate) fn to_receive(&self, node: &NodeName) -> Result<Turn, Refusal> {
        let turn = self.of(node).receives.try_acquire_owned();
        turn.map(Turn).map_err(|_| {
            busy(format!(
                "{node} sends {RECEIVES_MAX} streams to this node already, and there can be no more at once"
            ))
        })
    }

    /// One for anything else.
    pub(crate) async fn to_do(&self, node: &NodeName) -> Result<Turn, Refusal> {
        match timeout(WAIT_MAX, self.of(node).others.acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            _ => Err(busy(format!("{node} asks too much about its replicas here at once"))),
        }
    }

    fn of(&self, node: &NodeName) -> OfNode {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node.clone()).or_insert_with(OfNode::new).clone()
    }
}

impl OfNode {
    fn new() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self { receives: of(RECEIVES_MAX), others: of(OTHERS_MAX) }
    }
}

fn busy(text: String) -> Refusal {
    Refusal { reason: Reason::Busy, text, retry_after: Some(AGAIN) }
}
