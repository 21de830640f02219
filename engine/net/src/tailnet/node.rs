//! What is known of nodes of a tailnet: their stable identifiers, names and addresses. Owns their form; asks nobody.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The longest stable identifier in bytes. Tailscale's have some 20, Headscale's are the decimal number of a database row.
const STABLE_ID_BYTES_MAX: usize = 64;

/// The longest name that is kept, in characters: that of a DNS name.
const NAME_CHARS_MAX: usize = 253;

/// The identifier that a tailnet gives a node for as long as it is registered there. It outlives changes of its keys, name
/// and addresses; a node that is removed and registered again has another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StableNodeId(String);

/// A text that cannot be a stable node identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be the stable identifier of a tailnet node; it has 1 to 64 printable ASCII characters, such as \
     nWxHCfMbAy11CNTRL or 7 (see ID under Self in `tailscale status --json`)"
)]
pub struct StableNodeIdError {
    /// The text, cut for display.
    pub text: String,
}

impl StableNodeId {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StableNodeId {
    type Err = StableNodeIdError;

    fn from_str(text: &str) -> Result<Self, StableNodeIdError> {
        let fits = (1..=STABLE_ID_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StableNodeIdError { text: text.chars().take(STABLE_ID_BYTES_MAX).collect() })
        }
    }
}

impl fmt::Display for StableNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// This node, while tailscaled runs and is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNode {
    /// Which node of the tailnet it is.
    pub stable_id: StableNodeId,
    /// Its addresses there, in ascending order and at least one: usually an IPv4 and an IPv6 address.
    pub addresses: Vec<IpAddr>,
    /// Its DNS name without the last dot; for people only, since it can be changed. May be empty.
    pub name: String,
    /// Whether it can be listened on these addresses.
    pub interface: Interface,
}

/// Where the addresses of this node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// On a network interface: programs can listen on them.
    Tun,
    /// Inside of tailscaled, which runs with `--tun=userspace-networking`: no other program can listen on them.
    Userspace,
}

/// The node behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address that was asked for.
    pub from: SocketAddr,
    /// Which node of the tailnet it is.
    pub stable_id: StableNodeId,
    /// Its DNS name without the last dot; for people only, since it can be changed. May be empty.
    pub name: String,
}

impl Peer {
    /// The first word of its name, or what stands for it where there is none.
    pub fn host(&self) -> &str {
        match self.name.split('.').next() {
            Some(host) if !host.is_empty() => host,
            _ => "without a name",
        }
    }
}

/// A name as it is shown: without the last dot, and without what a terminal would act on. It comes from other nodes.
pub(super) fn shown_name(text: &str) -> String {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_of_both_control_servers_are_known() {
        for text in ["nWxHCfMbAy11CNTRL", "7", "18446744073709551615"] {
            assert_eq!(text.parse::<StableNodeId>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "n\u{1b}[2J", "nö", &"n".repeat(65)] {
            assert!(text.parse::<StableNodeId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_refused_identifier_is_shown_cut() {
        let error = "x".repeat(10_000).parse::<StableNodeId>().expect_err("too long");
        assert!(error.to_string().len() < 400, "{error}");
    }

    #[test]
    fn a_name_is_shown_without_what_a_terminal_would_act_on() {
        assert_eq!(shown_name("foo.tail.net."), "foo.tail.net");
        assert_eq!(shown_name("\u{1b}[2Jfoo\n"), "[2Jfoo");
        assert_eq!(shown_name(&"é".repeat(1000)).chars().count(), NAME_CHARS_MAX);
    }
}
