//! A store that is at another node: the operations of a store as requests. What the other node answers is believed as far as a
//! store is believed at all, which is that whoever reads compares hashes and signatures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backstay_core::config::NodeName;
use backstay_core::id::SourceId;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{
    Folder, LISTING_MAX, Listed, OBJECT_BYTES_MAX, Operation, Pace, Store, StoreError, StoreErrorKind,
    Stretch,
};
use backstay_wire::peer::{
    APPEND_BYTES_MAX, Answer, ConnectionKind, DELETE_NAMES_MAX, Reason, Refusal, Request, Standing,
};
use bytes::Bytes;

use super::ask::{AskError, kind_for};
use super::{Link, LinkError};
use crate::frames::plain;

/// Greatest object of a kind of which many are read at once, bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// Renewals of one name that are tried one after the other, where somebody else renews it as well.
const RENEWALS_MAX: usize = 8;

/// Objects whose last content is remembered, since they may be renewed.
const REMEMBERED_MAX: usize = 1024;

/// Objects that may be renewed are put one after the other where they fall on one of these.
const TURNS: usize = 16;

/// The space of a node at another one.
#[derive(Debug)]
pub struct PeerStore {
    link: Link,
    space: NodeName,
    pace: Arc<Pace>,
    /// BLAKE3-256 of what was put last under names that are renewed.
    last: Mutex<HashMap<ObjectName, [u8; 32]>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl PeerStore {
    /// The space of `space` at the node of this link.
    pub fn new(link: Link, space: NodeName, pace: Arc<Pace>) -> Self {
        let turns = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Self { link, space, pace, last: Mutex::default(), turns }
    }

    /// Bytes that may be put still, and bytes that are there.
    pub async fn room(&self) -> Result<(u64, u64), StoreError> {
        let request = Request::Room { space: self.space() };
        let answer = self.link.ask(ConnectionKind::Live, &request, Bytes::new(), &self.pace).await;
        let failed = |error| self.failed(Operation::List, "its room", &error);
        match answer.map_err(failed)? {
            Answer::Room { free_bytes, used_bytes } => Ok((free_bytes, used_bytes)),
            other => Err(failed(unexpected(&other))),
        }
    }

    /// How far a source was copied on from there to the vault of this name.
    pub async fn standing(&self, vault: &str, source: SourceId) -> Result<Standing, StoreError> {
        let request =
            Request::Standing { space: self.space(), vault: vault.to_owned(), source: *source.as_bytes() };
        let answer = self.link.ask(ConnectionKind::Live, &request, Bytes::new(), &self.pace).await;
        let failed = |error| self.failed(Operation::Get, "its standing", &error);
        match answer.map_err(failed)? {
            Answer::Standing(standing) => Ok(standing),
            other => Err(failed(unexpected(&other))),
        }
    }

    fn space(&self) -> String {
        self.space.to_string()
    }

    fn failed(&self, operation: Operation, object: &str, error: &AskError) -> StoreError {
        StoreError {
            operation,
            object: object.to_owned(),
            place: self.place(),
            kind: kind_of(error),
            cause: error.to_string(),
        }
    }

    async fn put_once(
        &self,
        name: &ObjectName,
        content: &Bytes,
        hash: [u8; 32],
        renews: Option<[u8; 32]>,
    ) -> Result<(), AskError> {
        let length = content.len() as u64;
        let (space, text) = (self.space(), name.to_string());
        let request = Request::Put { space, name: text, length, hash, renews };
        match self.link.ask(kind_for(length), &request, content.clone(), &self.pace).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts an object that may take the place of one of the same name.
    async fn renew(&self, name: &ObjectName, content: &Bytes, hash: [u8; 32]) -> Result<(), AskError> {
        let turn = usize::from(blake3::hash(name.as_str().as_bytes()).as_bytes()[0]) % TURNS;
        let _turn = self.turns[turn].lock().await;
        let mut renews = self.remembered(name);
        let mut tries = 0;
        loop {
            match self.put_once(name, content, hash, renews).await {
                Ok(()) => {
                    self.remember(name, hash);
                    return Ok(());
                }
                Err(AskError::Refused(refusal))
                    if refusal.reason == Reason::Exists && tries < RENEWALS_MAX =>
                {
                    tries += 1;
                    renews = self.hash_there(name).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// BLAKE3-256 of what is there under a name.
    async fn hash_there(&self, name: &ObjectName) -> Result<Option<[u8; 32]>, AskError> {
        match self.get_whole(name).await {
            Ok(content) => Ok(Some(*blake3::hash(&content).as_bytes())),
            Err(AskError::Refused(refusal)) if refusal.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get_whole(&self, name: &ObjectName) -> Result<Bytes, AskError> {
        let (kind, bytes_max) = match ObjectName::parse(name.as_str()) {
            // Many of these are read at once.
            Some((
                _,
                Named::Session(_)
                | Named::Fence(_)
                | Named::Key(_)
                | Named::Format(_)
                | Named::Trust(_)
                | Named::Head(..),
            )) => (ConnectionKind::Live, SMALL_BYTES_MAX),
            _ => (ConnectionKind::Bulk, OBJECT_BYTES_MAX),
        };
        let request = Request::Get { space: self.space(), name: name.to_string() };
        self.link.ask_object(kind, &request, bytes_max, &self.pace).await
    }

    /// A page after this name, and the name after which the next one begins, if there is one.
    async fn page(
        &self,
        folder: &Folder,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, Option<String>), AskError> {
        let request = Request::List {
            space: self.space(),
            folder: folder.as_str().to_owned(),
            after: after.map(ToOwned::to_owned),
        };
        let answer = self.link.ask(ConnectionKind::Live, &request, Bytes::new(), &self.pace).await?;
        let Answer::Page { entries, has_more } = answer else { return Err(unexpected(&answer)) };
        let next = entries.last().filter(|_| has_more).map(|last| last.name.clone());
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            if !entry.name.starts_with(folder.as_str()) || after.is_some_and(|after| *entry.name <= *after) {
                let name = plain(&entry.name);
                return Err(AskError::Answer(format!("{name} in a listing of {}", folder.as_str())));
            }
            // Names of a later version are left out, as foreign ones are.
            if let Some((name, named)) = ObjectName::parse(&entry.name) {
                listed.push(Listed { name, named, bytes: entry.bytes });
            }
        }
        Ok((listed, next))
    }

    async fn delete_some(&self, names: &[ObjectName]) -> Result<(), AskError> {
        let names = names.iter().map(ToString::to_string).collect();
        let request = Request::Delete { space: self.space(), names };
        match self.link.ask(ConnectionKind::Live, &request, Bytes::new(), &self.pace).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn append_once(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), AskError> {
        let open = self.link.open(ConnectionKind::Live).await?;
        if !open.known.can_append {
            let text = format!(
                "node {} runs version {}, which cannot append: bring it to that of this node",
                self.link.node(),
                open.known.software
            );
            return Err(AskError::Refused(Refusal { reason: Reason::Unknown, text, retry_after: None }));
        }
        let request = Request::Append {
            space: self.space(),
            name: name.to_string(),
            offset,
            length: content.len() as u64,
            hash: *blake3::hash(&content).as_bytes(),
        };
        match open.ask(&request, content, &self.pace).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn remembered(&self, name: &ObjectName) -> Option<[u8; 32]> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn remember(&self, name: &ObjectName, hash: [u8; 32]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // What is forgotten is asked for when it is renewed.
        if last.len() >= REMEMBERED_MAX {
            last.clear();
        }
        last.insert(name.clone(), hash);
    }

    fn forget(&self, names: &[ObjectName]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            last.remove(name);
        }
    }
}

#[async_trait]
impl Store for PeerStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let parsed = ObjectName::parse(name.as_str());
        let hash = match &parsed {
            // Its name is its hash, which the holder compares it with.
            Some((_, Named::Pack(id))) => *id.as_bytes(),
            _ => *blake3::hash(&content).as_bytes(),
        };
        let put = match parsed {
            Some((_, Named::Session(_) | Named::Key(_))) => self.renew(name, &content, hash).await,
            _ => self.put_once(name, &content, hash, None).await,
        };
        put.map_err(|error| self.failed(Operation::Put, name.as_str(), &error))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.get_whole(name).await.map_err(|error| self.failed(Operation::Get, name.as_str(), &error))
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        let Stretch { offset, length } = stretch;
        let request = Request::GetRange { space: self.space(), name: name.to_string(), offset, length };
        let failed = |error| self.failed(Operation::GetRange, name.as_str(), &error);
        let content =
            self.link.ask_object(kind_for(length), &request, length, &self.pace).await.map_err(failed)?;
        if content.len() as u64 != length {
            let answer = format!("{} bytes where {length} were asked for", content.len());
            return Err(failed(AskError::Answer(answer)));
        }
        Ok(content)
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let failed = |error| self.failed(Operation::List, folder.as_str(), &error);
        let (mut all, mut after): (Vec<Listed>, Option<String>) = (Vec::new(), None);
        loop {
            let (page, next) = self.page(folder, after.as_deref()).await.map_err(failed)?;
            all.extend(page);
            if all.len() > LISTING_MAX {
                return Err(failed(AskError::Answer(format!("a listing of more than {LISTING_MAX} names"))));
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.delete_all(std::slice::from_ref(name)).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        for some in names.chunks(DELETE_NAMES_MAX) {
            self.forget(some);
            let deleted = self.delete_some(some).await;
            deleted.map_err(|error| self.failed(Operation::Delete, some[0].as_str(), &error))?;
        }
        Ok(())
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        let failed = |error| self.failed(Operation::Append, name.as_str(), &error);
        if content.len() as u64 > APPEND_BYTES_MAX {
            let text = format!("{} bytes at once, and {APPEND_BYTES_MAX} can be", content.len());
            let refusal = Refusal { reason: Reason::TooLarge, text, retry_after: None };
            return Err(failed(AskError::Refused(refusal)));
        }
        self.append_once(name, offset, content).await.map_err(failed)
    }

    fn place(&self) -> String {
        format!("{} at node {} ({})", self.space, self.link.node(), self.link.address())
    }
}

fn unexpected(answer: &Answer) -> AskError {
    AskError::Answer(format!("{answer:?} is no answer to that"))
}

fn kind_of(error: &AskError) -> StoreErrorKind {
    let of_reason = |reason| match reason {
        Reason::NotFound => StoreErrorKind::NotFound,
        Reason::Truncated => StoreErrorKind::Truncated,
        Reason::TooLarge => StoreErrorKind::TooLarge,
        Reason::Quota => StoreErrorKind::Quota,
        Reason::Full => StoreErrorKind::NoSpace,
        // What was sent may have been damaged on its way; what the holder's system lacks may come back.
        Reason::Busy | Reason::Fault | Reason::Mismatch | Reason::Stale => StoreErrorKind::Transient,
        Reason::Exists => StoreErrorKind::Conflict,
        Reason::Denied | Reason::Version | Reason::Malformed | Reason::Unknown | Reason::Lasting => {
            StoreErrorKind::Refused
        }
    };
    match error {
        AskError::Link(LinkError::Unreachable { .. }) => StoreErrorKind::Unreachable,
        AskError::Lost(_) => StoreErrorKind::Transient,
        AskError::Link(LinkError::Refused { refusal, .. }) | AskError::Refused(refusal) => {
            of_reason(refusal.reason)
        }
        AskError::Answer(_) | AskError::RefusedByZfs { .. } => StoreErrorKind::Permanent,
    }
}
