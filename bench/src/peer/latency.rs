//! How long a record of a log takes from the node that has it until it is durable at the other one, with nothing else going on
//! and beside bulk data at a limited rate; and how long the same bytes take by a write and an fsync on the same disk alone.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use backstay_core::config::{NodeName, RateLimit};
use backstay_core::id::{BranchId, JournalId, PackId, SourceId};
use backstay_core::units::ByteRate;
use backstay_net::link::{Link, PeerStore};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Pace, Store};
use bytes::Bytes;

use super::fleet::Nodes;
use crate::random::Random;

/// A record, bytes.
const RECORD_BYTES: usize = 4096;

/// Bytes of a pack of the bulk data.
const PACK_BYTES: usize = 32 << 20;

/// Time between two records.
const PERIOD: Duration = Duration::from_millis(10);

/// Seconds of each record, one kind of measurement.
pub(super) type Samples = Vec<f64>;

/// All of them.
#[derive(Default)]
pub(super) struct Latencies {
    /// Write and fsync on the disk, nothing else going on.
    pub(super) fsync: Samples,
    /// The same beside the bulk data.
    pub(super) fsync_beside: Samples,
    /// To the other node and durable there, nothing else going on.
    pub(super) append: Samples,
    /// The same beside the bulk data.
    pub(super) append_beside: Samples,
    /// How much bulk data came meanwhile, bytes a second.
    pub(super) bulk_rate: f64,
}

/// Measures so many records of each kind; the kinds in turns, record by record.
pub(super) fn measure(folder: &Path, records: usize, bulk: ByteRate) -> Result<Latencies> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let nodes = {
        let _entered = runtime.enter();
        Nodes::start(&folder.join("held"))?
    };
    runtime.block_on(async {
        let mut logs = Logs::new(folder, nodes.link.clone())?;
        let mut found = Latencies::default();
        logs.measure(records, &mut found.fsync, &mut found.append).await?;
        let own: NodeName = "alpha".parse()?;
        let limit = RateLimit { up: Some(bulk), down: None, window: None };
        let store = PeerStore::new(nodes.link.clone(), own, Arc::new(Pace::new(Some(limit), || 0)));
        let flowing = tokio::spawn(flow(store));
        let began = Instant::now();
        logs.measure(records, &mut found.fsync_beside, &mut found.append_beside).await?;
        found.bulk_rate = held_bytes(&folder.join("held"))? as f64 / began.elapsed().as_secs_f64();
        if flowing.is_finished() {
            bail!("the bulk data has ended: {:?}", flowing.await?);
        }
        flowing.abort();
        Ok(found)
    })
}

/// Puts packs until it is stopped; why it has stopped.
async fn flow(store: PeerStore) -> Result<()> {
    let mut random = Random::new(2, "bulk");
    loop {
        let mut content = vec![0; PACK_BYTES];
        random.fill(&mut content);
        let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
        store.put(&name, Bytes::from(content)).await?;
    }
}

/// Bytes of packs, also of those that are coming.
fn held_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => held_bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// A file of this process, and a journal at the other node.
struct Logs {
    file: File,
    store: PeerStore,
    journal: ObjectName,
    offset: u64,
    random: Random,
}

impl Logs {
    fn new(folder: &Path, link: Link) -> Result<Self> {
        let (source, branch) = (SourceId::new([1; 16]), BranchId::new([2; 16]));
        let journal = Named::Journal(source, branch, 0, JournalId::new([3; 16])).to_name();
        let store = PeerStore::new(link, "alpha".parse()?, Arc::new(Pace::unlimited()));
        let file = File::create(folder.join("log"))?;
        Ok(Self { file, store, journal, offset: 0, random: Random::new(1, "records") })
    }

    async fn measure(&mut self, records: usize, fsync: &mut Samples, append: &mut Samples) -> Result<()> {
        // The connection is made by the first one.
        self.append().await?;
        for _ in 0..records {
            tokio::time::sleep(PERIOD).await;
            fsync.push(self.fsync()?);
            tokio::time::sleep(PERIOD).await;
            append.push(self.append().await?);
        }
        Ok(())
    }

    fn record(&mut self) -> Bytes {
        let mut record = vec![0; RECORD_BYTES];
        self.random.fill(&mut record);
        record.into()
    }

    fn fsync(&mut self) -> Result<f64> {
        let record = self.record();
        let start = Instant::now();
        self.file.write_all(&record)?;
        self.file.sync_data()?;
        Ok(start.elapsed().as_secs_f64())
    }

    async fn append(&mut self) -> Result<f64> {
        let record = self.record();
        let start = Instant::now();
        self.store.append(&self.journal, self.offset, record).await?;
        self.offset += RECORD_BYTES as u64;
        Ok(start.elapsed().as_secs_f64())
    }
}
