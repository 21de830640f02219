//! The node at the other end of a connection: judged by its certificate again and again, since certificates expire and rosters
//! change while a connection lives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::config::NodeName;
use backstay_wire::peer::{Reason, Refusal};
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Shared;
use crate::frames::HELLO_WAIT_MAX;
use crate::identity::{CertificateFault, Member, PeerIdentity, SignedRoster};

/// Malformed streams of one connection, after which it is ended (docs/protocol.md, section 6).
const MALFORMED_MAX: u32 = 3;

/// What a certificate said is believed for so long, unless the roster changes.
const JUDGED_FOR: Duration = Duration::from_secs(60);

/// A node that is connected.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shared: Arc<Shared>,
    /// By its certificate, as it was judged at first.
    pub(super) node: NodeName,
    pub(super) from: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Judged>,
    malformed: AtomicU32,
    /// Set when the host has let it in: to which tailnet node it was bound then.
    admitted: OnceCell<Option<String>>,
}

#[derive(Debug)]
struct Judged {
    identity: PeerIdentity,
    at: Instant,
    /// Number of the roster by whose authorities.
    roster: u64,
}

impl Peer {
    /// The node at the other end.
    pub(super) fn of(
        shared: Arc<Shared>,
        connection: &Connection,
        from: SocketAddr,
    ) -> Result<Self, CertificateFault> {
        let chain = shared.endpoint.shown(connection);
        let identity = shared.endpoint.judge(&chain)?;
        let roster = shared.endpoint.roster().borrow().number;
        let (node, judged) =
            (identity.node.clone(), Mutex::new(Judged { identity, at: Instant::now(), roster }));
        let (malformed, admitted) = (AtomicU32::new(0), OnceCell::new());
        Ok(Self { shared, node, from, chain, judged, malformed, admitted })
    }

    /// Who it is, as its certificate can be believed now.
    pub(super) fn identity(&self) -> Result<PeerIdentity, Refusal> {
        let number = self.roster().number;
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if judged.roster != number || judged.at.elapsed() >= JUDGED_FOR {
            let identity = self.shared.endpoint.judge(&self.chain);
            let identity = identity.map_err(|fault| denied(fault.to_string()))?;
            *judged = Judged { identity, at: Instant::now(), roster: number };
        }
        Ok(judged.identity.clone())
    }

    /// The roster as it is now.
    pub(super) fn roster(&self) -> Arc<SignedRoster> {
        Arc::clone(&self.shared.endpoint.roster().borrow())
    }

    /// The member that it is, as the roster is now.
    pub(super) fn member(&self) -> Result<Member, Refusal> {
        let identity = self.identity()?;
        let member =
            self.roster().member(&identity).cloned().map_err(|stranger| denied(stranger.to_string()))?;
        if self.admitted.get().is_some_and(|bound| *bound != member.tailnet_id) {
            return Err(denied(format!(
                "{} is bound to another node of the tailnet since: connect again",
                self.node
            )));
        }
        Ok(member)
    }

    /// The member that it is, let in by the host. Asked for each request; the host is asked once.
    pub(super) async fn admitted(&self) -> Result<Member, Refusal> {
        let member = self.member()?;
        let admit = async || {
            let identity = self.identity()?;
            let asked = self.shared.host.admit(&identity, &member, self.from);
            timeout(HELLO_WAIT_MAX, asked).await.unwrap_or_else(|_| {
                let text = "this node cannot find out in time whether it may let others in".to_owned();
                Err(Refusal { reason: Reason::Busy, text, retry_after: None })
            })?;
            Ok(member.tailnet_id.clone())
        };
        self.admitted.get_or_try_init(admit).await?;
        Ok(member)
    }

    /// Something was refused.
    pub(super) fn note(&self, why: &str) {
        self.shared.refusals.note(self.from, Some(&self.node), why);
    }

    /// A stream broke the rules. True if that was too often.
    pub(super) fn is_too_malformed(&self) -> bool {
        self.malformed.fetch_add(1, Ordering::Relaxed) + 1 >= MALFORMED_MAX
    }
}

pub(super) fn denied(text: String) -> Refusal {
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
