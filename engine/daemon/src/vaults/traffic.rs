//! How much is asked of a vault: the one measure of work whose parts cannot be compared otherwise, such as a prune. What others
//! in this process ask of the same vault meanwhile is counted as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_wire::progress::{Counted, Progress};

/// What was asked of a vault since the process began; only grows.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    /// One request has ended, and has moved so much.
    pub(super) fn add(&self, payload_bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(payload_bytes, Ordering::Relaxed);
    }

    /// Requests that have ended.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What was asked of a vault since this meter was made.
#[derive(Debug)]
pub struct TrafficMeter {
    traffic: Arc<Traffic>,
    requests_before: u64,
    bytes_before: u64,
}

impl TrafficMeter {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        let (requests_before, bytes_before) = (traffic.requests(), traffic.bytes.load(Ordering::Relaxed));
        Self { traffic, requests_before, bytes_before }
    }

    /// Payload bytes that were read and written.
    pub fn bytes(&self) -> u64 {
        self.traffic.bytes.load(Ordering::Relaxed).saturating_sub(self.bytes_before)
    }

    /// As it is told.
    pub fn progress(&self) -> Progress {
        Progress {
            entries: self.traffic.requests().saturating_sub(self.requests_before),
            read_bytes: self.bytes(),
            counted: Counted::Requests,
            ..Progress::default()
        }
    }
}
