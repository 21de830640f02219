//! The holder at another node, as the source's side sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::config::{DatasetName, ServiceName};
use backstay_vault::store::Pace;
use backstay_wire::peer::{
    Answer, ConnectionKind, REPLICA_LISTING_BYTES_MAX, Reason, Refusal, ReplicaRequest, Request,
};
use backstay_zfs::guid::SnapshotGuid;
use backstay_zfs::name::{FlowId, OwnSnapshot};
use backstay_zfs::plan::Structure;
use backstay_zfs::replicate::{Arriving, Holder, HolderError};
use backstay_zfs::state::Dataset;
use backstay_zfs::zfs::Receiving;
use bytes::Bytes;
use tokio::runtime::Handle;

use super::listing;
use super::messages::{arriving_to_send, change_to_send};
use super::refusals::asked_in_vain;
use super::sending::RemoteReceiving;
use crate::link::{AskError, Link, Open};

/// The listing by which the place was found out is good for so long, unless anything was changed since.
const LISTED_FOR: Duration = Duration::from_secs(10);

/// The replicas of a service of this node at another one. Blocks, and is of use on ordinary threads only.
#[derive(Debug)]
pub struct RemoteHolder {
    link: Link,
    service: ServiceName,
    pace: Arc<Pace>,
    runtime: Handle,
    place: DatasetName,
    listed: Mutex<Option<(Instant, Vec<Dataset>)>>,
}

impl RemoteHolder {
    /// Asks the node of this link where the replicas of a service are. What is sent there goes at this pace, over this runtime.
    pub fn open(
        link: Link,
        service: ServiceName,
        pace: Arc<Pace>,
        runtime: Handle,
    ) -> Result<Self, HolderError> {
        let asked = list(&link, &service, &pace);
        let (place, listed) = runtime.block_on(asked).map_err(asked_in_vain)?;
        let listed = Mutex::new(Some((Instant::now(), listed)));
        Ok(Self { link, service, pace, runtime, place, listed })
    }

    /// Has something done, after which nothing is known any more of what is there.
    fn have_done(&self, what: ReplicaRequest) -> Result<(), HolderError> {
        self.take_listed();
        let request = request(&self.link, &self.service, what);
        let asked = async {
            let open = open(&self.link, ConnectionKind::Live).await?;
            open.ask(&request, Bytes::new(), &self.pace).await
        };
        match self.runtime.block_on(asked).map_err(asked_in_vain)? {
            Answer::Done => Ok(()),
            other => Err(asked_in_vain(unexpected(&other))),
        }
    }

    fn take_listed(&self) -> Option<(Instant, Vec<Dataset>)> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Holder for RemoteHolder {
    fn place(&self) -> &DatasetName {
        &self.place
    }

    fn list(&self) -> Result<Vec<Dataset>, HolderError> {
        if let Some((at, listed)) = self.take_listed()
            && at.elapsed() < LISTED_FOR
        {
            return Ok(listed);
        }
        let asked = list(&self.link, &self.service, &self.pace);
        let (place, listed) = self.runtime.block_on(asked).map_err(asked_in_vain)?;
        if place != self.place {
            let why = format!("its replicas are at {place} now, and not at {} any more", self.place);
            return Err(HolderError::Unreachable(why));
        }
        Ok(listed)
    }

    fn change(&self, structure: &Structure) -> Result<(), HolderError> {
        self.have_done(ReplicaRequest::Change(change_to_send(structure)))
    }

    fn receive(&self, arriving: &Arriving) -> Result<Box<dyn Receiving>, HolderError> {
        self.take_listed();
        let opened = self.runtime.block_on(open(&self.link, ConnectionKind::Bulk));
        let what = ReplicaRequest::Receive(arriving_to_send(arriving));
        let request = request(&self.link, &self.service, what);
        let open = opened.map_err(asked_in_vain)?;
        Ok(Box::new(RemoteReceiving::begin(&self.runtime, open, request, Arc::clone(&self.pace))))
    }

    fn settle(&self, replica: &DatasetName, guid: SnapshotGuid, flow: FlowId) -> Result<(), HolderError> {
        let replica = replica.to_string();
        self.have_done(ReplicaRequest::Settle { replica, guid: guid.0, flow: flow.number() })
    }

    fn complete(&self, set: OwnSnapshot) -> Result<(), HolderError> {
        self.have_done(ReplicaRequest::Complete { set: set.to_string() })
    }
}

/// A connection to a node that can keep replicas.
async fn open(link: &Link, kind: ConnectionKind) -> Result<Arc<Open>, AskError> {
    let open = link.open(kind).await?;
    if open.known.can_replicate {
        return Ok(open);
    }
    let text = format!(
        "node {} runs version {}, which cannot keep live replicas: bring it to that of this node",
        link.node(),
        open.known.software
    );
    Err(AskError::Refused(Refusal { reason: Reason::Unknown, text, retry_after: None }))
}

async fn list(
    link: &Link,
    service: &ServiceName,
    pace: &Pace,
) -> Result<(DatasetName, Vec<Dataset>), AskError> {
    let open = open(link, ConnectionKind::Live).await?;
    let request = request(link, service, ReplicaRequest::List);
    let payload = open.ask_object(&request, REPLICA_LISTING_BYTES_MAX, pace).await?;
    listing::told(&payload).map_err(AskError::Answer)
}

fn request(link: &Link, service: &ServiceName, what: ReplicaRequest) -> Request {
    Request::Replica { space: link.own().to_string(), service: service.to_string(), what }
}

fn unexpected(answer: &Answer) -> AskError {
    AskError::Answer(format!("{answer:?} is no answer to that"))
}
