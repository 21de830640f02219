//! A Garage with a bucket, and stores in it, each below a prefix of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay_s3::{Credentials, Place, S3Store};
use backstay_testkit::faulty_proxy::FaultyProxy;
use backstay_testkit::garage::{Garage, REGION};
use backstay_vault::store::{Pace, RequestCounts};

pub(crate) struct Bucket {
    pub(crate) garage: Garage,
    pub(crate) counts: Arc<RequestCounts>,
    stores: AtomicU32,
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
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-garage-").tempdir().expect("a folder");
        let garage = Garage::start(folder.path());
        Self { garage, counts: Arc::default(), stores: AtomicU32::new(0), _folder: folder }
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
        let key = self.garage.key().clone();
        let place = Place {
            bucket: self.garage.bucket().to_owned(),
            endpoint: Some(format!("http://{}", proxy.address())),
            region: Some(REGION.to_owned()),
            prefix: format!("behind-{}/", self.stores.load(Ordering::Relaxed)),
        };
        let (credentials, pace) = (Credentials::of_key(key.id, key.secret), Arc::new(Pace::unlimited()));
        let counts = Arc::clone(&self.counts) as Arc<_>;
        S3Store::with_stall(place, credentials, pace, counts, Duration::from_secs(2))
    }

    /// An empty store, with something changed.
    pub(crate) fn store_with(&self, change: impl FnOnce(&mut Settings)) -> S3Store {
        let key = self.garage.key().clone();
        let mut settings = Settings {
            bucket: self.garage.bucket().to_owned(),
            region: REGION.to_owned(),
            id: key.id,
            secret: key.secret,
        };
        change(&mut settings);
        let prefix = format!("store-{}/", self.stores.fetch_add(1, Ordering::Relaxed));
        let place = Place {
            bucket: settings.bucket,
            endpoint: Some(self.garage.endpoint()),
            region: Some(settings.region),
            prefix,
        };
        let credentials = Credentials::of_key(settings.id, settings.secret);
        S3Store::new(place, credentials, Arc::new(Pace::unlimited()), Arc::clone(&self.counts) as Arc<_>)
    }
}
