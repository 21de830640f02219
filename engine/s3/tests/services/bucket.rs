//! A service with a bucket, and stores in it, each below a prefix of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay_s3::{Credentials, Place, S3Store};
use backstay_testkit::bucket::BucketAccess;
use backstay_testkit::faulty_proxy::FaultyProxy;
use backstay_testkit::garage::Garage;
use backstay_testkit::s3s_fs::S3sFs;
use backstay_vault::store::{Pace, RequestCounts};
use tokio::runtime::Runtime;

/// Whose program it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    Garage,
    S3sFs,
}

/// It ends with this.
enum Running {
    Garage(Garage),
    S3sFs(S3sFs),
}

pub(crate) struct Bucket {
    pub(crate) access: BucketAccess,
    pub(crate) counts: Arc<RequestCounts>,
    stores: AtomicU32,
    io: Runtime,
    running: Running,
    _folder: tempfile::TempDir,
}

/// How a store reaches its bucket.
pub(crate) struct Settings {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Bucket {
    /// Starts a service.
    pub(crate) fn on(service: Service) -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-bucket-").tempdir().expect("a folder");
        let running = match service {
            Service::Garage => Running::Garage(Garage::start(folder.path())),
            Service::S3sFs => Running::S3sFs(S3sFs::start(folder.path())),
        };
        let access = match &running {
            Running::Garage(garage) => garage.access().clone(),
            Running::S3sFs(s3s_fs) => s3s_fs.access().clone(),
        };
        let io = Runtime::new().expect("a runtime can be started");
        let stores = AtomicU32::new(0);
        Self { access, counts: Arc::default(), stores, io, running, _folder: folder }
    }

    /// How many requests the service says that it has answered, where it says so.
    pub(crate) fn requests(&self) -> Option<u64> {
        match &self.running {
            Running::Garage(garage) => Some(garage.requests().values().sum()),
            Running::S3sFs(_) => None,
        }
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.io.block_on(future)
    }

    /// An empty store.
    pub(crate) fn store(&self) -> S3Store {
        self.store_with(|_| {})
    }

    /// An empty store that is reached through a proxy, and gives up after two seconds in which nothing moves.
    pub(crate) fn store_behind(&self, proxy: &FaultyProxy) -> S3Store {
        self.stores.fetch_add(1, Ordering::Relaxed);
        self.store_again(proxy)
    }

    /// The same store as the last one, reached anew.
    pub(crate) fn store_again(&self, proxy: &FaultyProxy) -> S3Store {
        let BucketAccess { bucket, region, key, .. } = self.access.clone();
        let place = Place {
            bucket,
            endpoint: Some(format!("http://{}", proxy.address())),
            region: Some(region.to_owned()),
            prefix: format!("behind-{}/", self.stores.load(Ordering::Relaxed)),
        };
        let (credentials, pace) = (Credentials::of_key(key.id, key.secret), Arc::new(Pace::unlimited()));
        let counts = Arc::clone(&self.counts) as Arc<_>;
        S3Store::with_stall(place, credentials, pace, counts, Duration::from_secs(2))
    }

    /// An empty store as two processes reach it, one after the other.
    pub(crate) fn store_of_two(&self) -> [S3Store; 2] {
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        [(); 2].map(|()| self.store_at(number, |_| {}))
    }

    /// An empty store, with something changed.
    pub(crate) fn store_with(&self, change: impl FnOnce(&mut Settings)) -> S3Store {
        self.store_at(self.stores.fetch_add(1, Ordering::Relaxed), change)
    }

    fn store_at(&self, number: u32, change: impl FnOnce(&mut Settings)) -> S3Store {
        let BucketAccess { address, bucket, region, key } = self.access.clone();
        let mut settings = Settings { bucket, region: region.to_owned(), id: key.id, secret: key.secret };
        change(&mut settings);
        let prefix = format!("store-{number}/");
        let place = Place {
            bucket: settings.bucket,
            endpoint: Some(format!("http://{address}")),
            region: Some(settings.region),
            prefix,
        };
        let credentials = Credentials::of_key(settings.id, settings.secret);
        S3Store::new(place, credentials, Arc::new(Pace::unlimited()), Arc::clone(&self.counts) as Arc<_>)
    }
}
