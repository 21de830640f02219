//! The questions to tailscaled. Owns where it is asked and what an answer means; how a question travels is in `exchange`, how
//! its answer is read in `answer`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyper::StatusCode;

use super::answer::{self, StatusAnswer};
use super::error::{TailnetError, excerpt};
use super::exchange::{Answer, ask};
use super::node::{OwnNode, Peer};

/// Where tailscaled listens on Linux, unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// How long one question may take, from connecting to the last byte. tailscaled answers from memory, in milliseconds.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The largest answer that is read. Real ones have some kilobytes, since other nodes are left out.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// tailscaled, as it can be asked over its Unix socket. Each question has a connection of its own: they are rare, and a
/// tailscaled that was restarted meanwhile is no matter.
#[derive(Debug, Clone)]
pub struct LocalApi {
    socket: PathBuf,
    limit: Duration,
}

impl Default for LocalApi {
    fn default() -> Self {
        Self::at(DEFAULT_SOCKET)
    }
}

impl LocalApi {
    /// The tailscaled that listens on this socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), limit: ANSWER_TIME }
    }

    /// The same, with less patience than [`ANSWER_TIME`].
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit: limit.min(ANSWER_TIME), ..self }
    }

    /// Which node of the tailnet this one is. An error also when it is not connected: it has no addresses then that could be
    /// used.
    pub async fn status(&self) -> Result<OwnNode, TailnetError> {
        let question = "`status`";
        let answer = self.ask(question, "/localapi/v0/status?peers=false").await?;
        match answer.status {
            StatusCode::OK => answer::own_node(question, StatusAnswer::read(question, &answer.body)?),
            _ => Err(self.refused(question, &answer)),
        }
    }

    /// Which node of the tailnet is behind the address of a connection.
    ///
    /// tailscaled goes on to answer from memory after `tailscale down`, when packets from such an address may come from
    /// anybody. So it is asked for its state as well, after that: a peer is one only while this node is connected.
    pub async fn whois(&self, from: SocketAddr) -> Result<Peer, TailnetError> {
        let from = plain(from);
        let peer = self.owner(from).await;
        match peer {
            Ok(_) | Err(TailnetError::NotANode { .. }) => self.status().await.and(peer),
            Err(_) => peer,
        }
    }

    async fn owner(&self, from: SocketAddr) -> Result<Peer, TailnetError> {
        let question = "`whois`";
        let answer = self.ask(question, &format!("/localapi/v0/whois?addr={}", in_query(from))).await?;
        match answer.status {
            StatusCode::OK => answer::peer(question, from, &answer.body),
            // Whoever knows no `whois` at all says 404 as well.
            StatusCode::NOT_FOUND if !answer.body.starts_with(b"404 page not found") => {
                Err(TailnetError::NotANode { address: from })
            }
            _ => Err(self.refused(question, &answer)),
        }
    }

    async fn ask(&self, question: &'static str, path: &str) -> Result<Answer, TailnetError> {
        match tokio::time::timeout(self.limit, ask(&self.socket, question, path)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(TailnetError::TimedOut { socket: self.socket.clone(), question, limit: self.limit })
            }
        }
    }

    fn refused(&self, question: &'static str, answer: &Answer) -> TailnetError {
        let said = excerpt(&String::from_utf8_lossy(&answer.body));
        match answer.status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                TailnetError::denied(self.socket.clone(), said)
            }
            status => TailnetError::Refused { question, status: status.as_u16(), said },
        }
    }
}

/// The address as tailscaled knows it: one that came to an IPv6 socket over IPv4 is an IPv4 address, and zones of interfaces
/// are none of its business.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address as it stands in a query. Brackets must not stand there as they are (RFC 3986, section 3.4).
fn in_query(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(_) => address.to_string(),
        IpAddr::V6(ip) => format!("%5B{ip}%5D:{}", address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(address: &str) -> String {
        in_query(plain(address.parse().unwrap()))
    }

    #[test]
    fn an_address_is_asked_for_in_the_form_in_which_tailscaled_knows_it() {
        assert_eq!(asked("100.64.0.9:7420"), "100.64.0.9:7420");
        assert_eq!(asked("[::ffff:100.64.0.9]:7420"), "100.64.0.9:7420");
        assert_eq!(asked("[fd7a:115c:a1e0::9]:7420"), "%5Bfd7a:115c:a1e0::9%5D:7420");
        assert_eq!(asked("[fe80::1%3]:7420"), "%5Bfe80::1%5D:7420");
    }

    #[test]
    fn patience_can_only_be_less() {
        assert_eq!(LocalApi::default().with_limit(Duration::from_secs(3600)).limit, ANSWER_TIME);
    }
}
