//! Ports for servers of tests. Whoever binds to port 0, lets go and has a server bind to what it got may find that an outgoing
//! connection of any other program has it by then. These are of a range from which the system gives none by itself.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those of `net.ipv4.ip_local_port_range`, and above those of known services.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// How far apart processes begin that run at the same time.
const APART: u32 = 101;

/// Given so far.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// Ports of this host that nobody has, by TCP or UDP, and that this process has not given before.
///
/// # Panics
/// When all are taken.
pub fn free_ports<const PORTS: usize>() -> [u16; PORTS] {
    [(); PORTS].map(|()| free_port())
}

/// The same for one.
pub fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(APART);
    for _ in 0..COUNT {
        let next = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + next % COUNT) as u16;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free {
            return port;
        }
    }
    panic!("all ports from {FIRST} to {} are taken", FIRST + COUNT);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice_or_while_somebody_has_it() {
        let first = free_port();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).expect("it is free");
        let more = free_ports::<100>();
        let different: HashSet<u16> = more.into_iter().chain([first]).collect();
        assert_eq!(different.len(), 101);
        drop(taken);
    }
}
