//! A way between two UDP sockets that loses, delays, reorders and cuts: what networks do, and what this machine's kernel has no
//! means for. What happens to a datagram follows from a seed; when it does, from the clock.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::random::Random;

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Errors of a socket one after the other, after which it is given up.
const ERRORS_MAX: usize = 1000;

/// Senders that are told apart.
const SENDERS_MAX: usize = 1024;

/// Datagrams that are under way at once, per direction; more are lost, as in a full queue.
const UNDER_WAY_MAX: usize = 20_000;

/// What becomes of datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// How many of 10 000 are lost.
    pub lost_of_10_000: u32,
    /// How long each takes, one way.
    pub delay: Duration,
    /// How many of 10 000 take longer by as much as a half of the delay and 5 ms, so that others overtake them.
    pub late_of_10_000: u32,
}

/// A relay, until it is dropped.
#[derive(Debug)]
pub struct UdpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Of this host.
    own: Ipv4Addr,
    to: SocketAddr,
    lost_of_10_000: AtomicU32,
    late_of_10_000: AtomicU32,
    delay_micros: AtomicU64,
    is_cut: AtomicBool,
    /// For each direction, so that what becomes of one does not hang on the other.
    random: [Mutex<Random>; 2],
    passed: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
}

impl UdpRelay {
    /// A relay to this address; within a runtime.
    pub async fn start(to: SocketAddr, weather: Weather, seed: u64) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST, to, weather, seed).await
    }

    /// The same on a host that has the address `own`. Its sockets are made by the threads of the runtime, now and later.
    pub async fn start_on(own: Ipv4Addr, to: SocketAddr, weather: Weather, seed: u64) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((own, 0)).await?);
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            own,
            to,
            lost_of_10_000: AtomicU32::new(0),
            late_of_10_000: AtomicU32::new(0),
            delay_micros: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            random: [seed, seed.wrapping_add(1)].map(|seed| Mutex::new(Random::new(seed))),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            late: AtomicU64::new(0),
        });
        let task = tokio::spawn(relay(socket, Arc::clone(&shared)));
        let relay = Self { address, shared, task };
        relay.change(weather);
        Ok(relay)
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other weather from now on.
    pub fn change(&self, weather: Weather) {
        self.shared.lost_of_10_000.store(weather.lost_of_10_000, Ordering::Relaxed);
        self.shared.late_of_10_000.store(weather.late_of_10_000, Ordering::Relaxed);
        self.shared.delay_micros.store(weather.delay.as_micros() as u64, Ordering::Relaxed);
    }

    /// Lets nothing through in either direction, or everything again.
    pub fn cut(&self, is_cut: bool) {
        self.shared.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Datagrams that others could overtake.
    pub fn late(&self) -> u64 {
        self.shared.late.load(Ordering::Relaxed)
    }

    /// Datagrams that went through, and that were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// For each sender a socket of its own towards the other side, so that answers find their way back.
async fn relay(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut outs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut backs = JoinSet::new();
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Some((length, from)) = receive(&socket, &mut buffer).await else { return };
        if !outs.contains_key(&from) {
            if outs.len() >= SENDERS_MAX {
                continue;
            }
            let Ok(out) = UdpSocket::bind((shared.own, 0)).await else { continue };
            let out = Arc::new(out);
            outs.insert(from, Arc::clone(&out));
            backs.spawn(back(out, Arc::clone(&socket), from, Arc::clone(&shared)));
        }
        let out = Arc::clone(&outs[&from]);
        pass(&shared, 0, &mut under_way, out, shared.to, buffer[..length].to_vec());
    }
}

async fn back(out: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr, shared: Arc<Shared>) {
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Some((length, _)) = receive(&out, &mut buffer).await else { return };
        pass(&shared, 1, &mut under_way, Arc::clone(&socket), to, buffer[..length].to_vec());
    }
}

fn pass(
    shared: &Arc<Shared>,
    direction: usize,
    under_way: &mut JoinSet<()>,
    by: Arc<UdpSocket>,
    to: SocketAddr,
    datagram: Vec<u8>,
) {
    while under_way.try_join_next().is_some() {}
    let mut random = shared.random[direction].lock().unwrap_or_else(PoisonError::into_inner);
    let mut happens =
        |of_10_000: &AtomicU32| random.number() % 10_000 < u64::from(of_10_000.load(Ordering::Relaxed));
    let is_lost = happens(&shared.lost_of_10_000);
    let is_late = happens(&shared.late_of_10_000);
    drop(random);
    if is_lost || shared.is_cut.load(Ordering::Relaxed) || under_way.len() >= UNDER_WAY_MAX {
        shared.lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    shared.passed.fetch_add(1, Ordering::Relaxed);
    shared.late.fetch_add(u64::from(is_late), Ordering::Relaxed);
    let delay = Duration::from_micros(shared.delay_micros.load(Ordering::Relaxed));
    let delay = if is_late { delay + delay / 2 + Duration::from_millis(5) } else { delay };
    if delay.is_zero() {
        // In order; what does not fit into the buffer of the socket is lost, as elsewhere.
        let _ = by.try_send_to(&datagram, to);
        return;
    }
    let shared = Arc::clone(shared);
    under_way.spawn(async move {
        sleep(delay).await;
        if !shared.is_cut.load(Ordering::Relaxed) {
            let _ = by.send_to(&datagram, to).await;
        }
    });
}

/// The next datagram. What the system tells of one that was refused at its other end is passed over, a few times.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    for _ in 0..ERRORS_MAX {
        if let Ok(received) = socket.recv_from(buffer).await {
            return Some(received);
        }
    }
    None
}
