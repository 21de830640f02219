//! Hosts and the network between them, in namespaces of their own: nothing is changed outside. Owns their making and their
//! removal.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::run;

/// The network that the hosts are on, before there is a tailnet. The hub is the first of it.
const NETWORK: [u8; 3] = [10, 99, 0];

/// A hub, and hosts that reach it and each other over a bridge there.
#[derive(Debug)]
pub struct Network {
    suffix: String,
    /// All that was made, to be removed.
    namespaces: Vec<String>,
}

impl Network {
    /// Makes the hub. The suffix keeps networks apart that are there at the same time.
    pub fn new(suffix: &str) -> Self {
        let mut network = Self { suffix: suffix.to_owned(), namespaces: Vec::new() };
        let hub = network.namespace("hub");
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &hub, "address", "add", &in_network(Self::hub_address()), "dev", "bridge"]);
        ip(&["-n", &hub, "link", "set", "bridge", "up"]);
        network
    }

    /// The namespace of the hub.
    pub fn hub(&self) -> &str {
        &self.namespaces[0]
    }

    /// Its address.
    pub fn hub_address() -> Ipv4Addr {
        address(1)
    }

    /// Makes a host. Its namespace and its address.
    pub fn host(&mut self, name: &str) -> (String, Ipv4Addr) {
        let host = self.namespace(name);
        let address = address(u8::try_from(self.namespaces.len()).expect("a few hosts"));
        let hub = self.hub();
        ip(&["-n", hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &host]);
        ip(&["-n", hub, "link", "set", name, "master", "bridge", "up"]);
        ip(&["-n", &host, "address", "add", &in_network(address), "dev", "eth0"]);
        ip(&["-n", &host, "link", "set", "eth0", "up"]);
        // tailscaled takes a host without a way out for one without a network.
        ip(&["-n", &host, "route", "add", "default", "via", &Self::hub_address().to_string()]);
        (host, address)
    }

    fn namespace(&mut self, name: &str) -> String {
        let namespace = format!("bs-{}-{name}", self.suffix);
        ip(&["netns", "add", &namespace]);
        self.namespaces.push(namespace.clone());
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        namespace
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Bridge and links go with the namespaces.
        for namespace in self.namespaces.iter().rev() {
            if let Err(error) = run(&["ip", "netns", "delete", namespace]) {
                eprintln!("a namespace stays: {error}");
            }
        }
    }
}

/// Does something in a namespace, on a thread of its own: sockets that are made there belong to it for ever.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves this thread into a namespace, for as long as it lives.
pub fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).expect("the namespace is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
}

fn address(last: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, last)
}

fn in_network(address: Ipv4Addr) -> String {
    format!("{address}/24")
}

fn ip(arguments: &[&str]) {
    let command: Vec<_> = std::iter::once("ip").chain(arguments.iter().copied()).collect();
    run(&command).expect("the network can be made");
}
