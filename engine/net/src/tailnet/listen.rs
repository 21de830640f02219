//! What `listen = "tailnet:PORT"` stands for: the addresses of this node on its tailnet and no others. Owns that rule; opens
//! no socket.

use std::net::SocketAddr;

use backstay_core::config::ListenAddress;

use super::error::TailnetError;
use super::local_api::LocalApi;
use super::node::{Interface, OwnNode};

impl OwnNode {
    /// The socket addresses of this node on its tailnet with this port, at least one: never one that stands for all
    /// addresses. A host without IPv6 may refuse to listen on an IPv6 one.
    pub fn sockets(&self, port: u16) -> Result<Vec<SocketAddr>, TailnetError> {
        match self.interface {
            Interface::Tun => {
                Ok(self.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
            }
            Interface::Userspace => Err(TailnetError::Userspace),
        }
    }
}

impl LocalApi {
    /// The socket addresses to listen on. tailscaled is asked only for those on the tailnet.
    pub async fn listen_on(&self, listen: ListenAddress) -> Result<Vec<SocketAddr>, TailnetError> {
        match listen {
            ListenAddress::Tailnet { port } => self.status().await?.sockets(port),
            ListenAddress::Socket(address) => Ok(vec![address]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(interface: Interface) -> OwnNode {
        OwnNode {
            stable_id: "7".parse().unwrap(),
            addresses: vec!["100.64.0.2".parse().unwrap(), "fd7a:115c:a1e0::2".parse().unwrap()],
            name: String::new(),
            interface,
        }
    }

    #[test]
    fn the_tailnet_stands_for_the_addresses_there_and_no_others() {
        let sockets: Vec<_> =
            node(Interface::Tun).sockets(7420).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(sockets, ["100.64.0.2:7420", "[fd7a:115c:a1e0::2]:7420"]);
    }

    #[test]
    fn addresses_that_tailscaled_keeps_to_itself_cannot_be_listened_on() {
        let error = node(Interface::Userspace).sockets(7420).expect_err("no interface");
        assert!(error.to_string().contains("userspace-networking"), "{error}");
    }

    #[tokio::test]
    async fn an_address_is_listened_on_without_asking_tailscaled() {
        let nobody = LocalApi::at("/nonexistent/tailscaled.sock");
        let address = "127.0.0.1:7420".parse().unwrap();
        assert_eq!(nobody.listen_on(ListenAddress::Socket(address)).await.unwrap(), [address]);
    }
}
