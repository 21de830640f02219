//! What fleets are made of: rosters, and invitations that people paste.

use backstay_net::enrol::Invitation;
use backstay_net::identity::SignedRoster;
use backstay_vault::clear::{self, ClearKind};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::encode::Write;
use minicbor::{Encode, Encoder};

use crate::keys::FIXTURE;

/// CBOR as it comes.
struct Given<'a>(&'a [u8]);

impl Encode<()> for Given<'_> {
    fn encode<W: Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut (),
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.writer_mut().write_all(self.0).map_err(minicbor::encode::Error::write)
    }
}

/// A roster of which the admin has signed just this.
pub fn sealed_roster(data: &[u8]) {
    let admin = FIXTURE.admin();
    let object = clear::sign(admin, ClearKind::Roster, &Given(data));
    let Ok(roster) = SignedRoster::read(object, Some(admin.public())) else { return };
    let _ = roster.anchors();
    let again = (*roster).clone().sign(admin);
    let read = SignedRoster::read(again.bytes().clone(), Some(admin.public()));
    assert_eq!(
        read.as_deref().ok(),
        Some(&*roster),
        "what was understood is the same when it is signed again"
    );
}

/// An invitation: its text as it is pasted, and its body in a text that was copied well.
pub fn invitation(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        said_again(text);
    }
    let sum = *blake3::hash(data).as_bytes();
    said_again(&format!("backstay-invitation-{}", BASE64_URL_SAFE_NO_PAD.encode([data, &sum[..4]].concat())));
}

fn said_again(text: &str) {
    if let Ok(invitation) = text.parse::<Invitation>() {
        assert_eq!(invitation.to_text().parse().as_ref(), Ok(&invitation));
    }
}
