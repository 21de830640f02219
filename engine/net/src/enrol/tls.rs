//! TLS where one side has no certificate yet: the inviting node shows one of the fleet's authority, with that of the authority
//! beside it, and the invited one knows the authority by what stands in its invitation.

use std::sync::Arc;

use backstay_core::clock::Clock;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;
use rustls::{Error, ServerConfig};

use super::invitation::Invitation;
use crate::identity::{OwnCertificate, judge};
use crate::tls::{JudgeServer, connecting_once_each, judging, not_believed, once_each, provider};

/// What both sides call this protocol.
const ALPN: &[u8] = b"backstay-join/0";

/// Of the node that invites.
pub(super) struct InviterJudge {
    pub(super) invitation: Invitation,
    pub(super) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for InviterJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InviterJudge")
    }
}

impl JudgeServer for InviterJudge {
    fn judge(&self, own: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Error> {
        let invitation = &self.invitation;
        let is_pinned = |der: &&CertificateDer<'_>| *blake3::hash(der).as_bytes() == invitation.authority;
        let authority = above.iter().find(is_pinned).ok_or_else(|| {
            not_believed(&"whoever answers does not show the authority that the invitation names")
        })?;
        let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|error| not_believed(&error))?;
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(above).cloned().collect();
        let judged = judge(&chain, &[anchor], &invitation.fleet, self.clock.now());
        let identity = judged.map_err(|fault| not_believed(&fault))?;
        if identity.node != invitation.inviter || identity.expired_since.is_some() {
            return Err(not_believed(&format!("{} answers and not {}", identity.node, invitation.inviter)));
        }
        Ok(())
    }
}

/// How an invitation is kept open.
pub(super) fn server(own: OwnCertificate) -> Result<QuicServerConfig, Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(own));
    once_each(config, ALPN)
}

/// How an invitation is taken up.
pub(super) fn client(invitation: &Invitation, clock: Arc<dyn Clock>) -> Result<QuicClientConfig, Error> {
    let inviter = InviterJudge { invitation: invitation.clone(), clock };
    connecting_once_each(judging(Arc::new(provider()), inviter)?.with_no_client_auth(), ALPN)
}
