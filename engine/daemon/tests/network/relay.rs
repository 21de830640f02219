//! The relay between two hosts, on the host in the middle. Owns the thread that lives there.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use backstay_testkit::network::{Network, enter};
use backstay_testkit::udp_relay::{UdpRelay, Weather};
use tokio::sync::oneshot;

/// A relay in the hub of a network, until it is dropped.
pub(crate) struct Relay {
    relay: UdpRelay,
    /// Dropping it ends the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it towards `to`.
    pub(crate) fn start(network: &Network, to: SocketAddr, weather: Weather, seed: u64) -> Self {
        let hub = network.hub().to_owned();
        let (end, ended) = oneshot::channel();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            enter(&hub);
            // All of it on this thread: a socket belongs to where the thread is that makes it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let relay = UdpRelay::start_on(Network::hub_address(), to, weather, seed).await.unwrap();
                tell.send(relay).unwrap();
                let _ = ended.await;
            });
        });
        let relay = told.recv().expect("a relay");
        Self { relay, end: Some(end), thread: Some(thread) }
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Datagrams that went through, and those of them that others could overtake.
    pub(crate) fn passed_and_late(&self) -> (u64, u64) {
        (self.relay.counts().0, self.relay.late())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
