//! Addresses of nodes and addresses to listen on. Owns their form; resolves no name and opens no socket.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::problem::{FromText, Refusal, excerpt};

/// The longest host name.
const HOST_BYTES_MAX: usize = 253;

/// Where a node is reached: `HOST:PORT`, the host being an address or a name of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// An IPv4 address, a bare IPv6 address, or a host name.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromText for NodeAddress {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let address = text.rsplit_once(':').and_then(|(host, port)| {
            let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(bracketed) => bracketed.parse::<Ipv6Addr>().ok()?.to_string(),
                None if is_host_name(host) => host.to_owned(),
                None => return None,
            };
            Some(Self { host, port: port_of(port)? })
        });
        address.ok_or_else(|| {
            Refusal::new(
                format!("{:?} is not the address of a node", excerpt(text)),
                "write HOST:PORT, such as 100.64.0.2:7420 or [fd7a::2]:7420",
            )
        })
    }
}

/// What to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Every address that Tailscale gave this node, and no other.
    Tailnet {
        /// Never 0.
        port: u16,
    },
    /// One address.
    Socket(SocketAddr),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tailnet { port } => write!(f, "tailnet:{port}"),
            Self::Socket(address) => write!(f, "{address}"),
        }
    }
}

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ListenError(String);

impl FromStr for ListenAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        Self::from_text(text).map_err(|refusal| ListenError(format!("{}; {}", refusal.what, refusal.fix)))
    }
}

impl FromText for ListenAddress {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let address = match text.strip_prefix("tailnet:") {
            Some(port) => port_of(port).map(|port| Self::Tailnet { port }),
            None => text.parse::<SocketAddr>().ok().map(Self::Socket),
        };
        address.ok_or_else(|| {
            Refusal::new(
                format!("{:?} is not an address to listen on", excerpt(text)),
                "write tailnet:PORT or IP:PORT, such as tailnet:9420, 127.0.0.1:9420 or [::]:9420",
            )
        })
    }
}

fn port_of(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(allowed)
    };
    text.len() <= HOST_BYTES_MAX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_reached_at_an_address_or_a_name() {
        for text in ["100.64.0.2:7420", "cobble.tail.net:7420", "[fd7a::2]:7420"] {
            assert_eq!(NodeAddress::from_text(text).unwrap().to_string(), text);
        }
        for text in
            ["", "100.64.0.2", "host:0", "host:70000", "host:+7", "fd7a::2:7420", "a b:1", ":1", "[x]:1"]
        {
            assert!(NodeAddress::from_text(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn listening_is_on_the_tailnet_or_on_one_address() {
        assert_eq!(ListenAddress::from_text("tailnet:9420").unwrap(), ListenAddress::Tailnet { port: 9420 });
        for text in ["127.0.0.1:9420", "[::1]:0", "tailnet:7420"] {
            assert_eq!(ListenAddress::from_text(text).unwrap().to_string(), text);
        }
        for text in ["", "tailnet", "tailnet:0", "localhost:9420", "9420"] {
            assert!(ListenAddress::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
