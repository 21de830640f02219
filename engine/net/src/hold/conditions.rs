//! Looking into the few objects that a holder looks into: whether whoever may put or delete them has signed them. Without keys:
//! signatures are over sealed bytes and clear text.

use backstay_vault::clear::{self, ClearKind, FormatObject, TrustObject};
use backstay_vault::envelope::{self, EnvelopeKind};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::Store;
use backstay_wire::peer::{Reason, Refusal};
use bytes::Bytes;

use super::rules::Condition;
use super::space::{Space, Writer, refusal_of};

impl Space {
    /// Whether what is put, and what it takes the place of, is of whoever may do that.
    pub(super) async fn check_condition(
        &self,
        condition: Condition,
        writer: &Writer,
        (name, named): (&ObjectName, &Named),
        put: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        match condition {
            Condition::Free => Ok(()),
            Condition::SignedByAdmin => {
                let put = put.map(|content| &content[..]).unwrap_or_default();
                self.check_admins(writer, name, named, put).await
            }
            Condition::SignedByNode => {
                let before = self.find(name).await?;
                for content in put.into_iter().chain(before.as_ref()) {
                    check_nodes(writer, EnvelopeKind::Session, name, content)?;
                }
                Ok(())
            }
            Condition::OfOwnSession => {
                let Named::Fence(session) = named else { return Err(not_signed(name, "nobody")) };
                let session = Named::Session(*session).to_name();
                match self.find(&session).await? {
                    Some(content) => check_nodes(writer, EnvelopeKind::Session, &session, &content)?,
                    None => {
                        let text = format!(
                            "{name}: there is no such session, so nobody has to be kept from ending it"
                        );
                        return Err(Refusal { reason: Reason::Denied, text, retry_after: None });
                    }
                }
                let put = put.map(|content| &content[..]).unwrap_or_default();
                check_nodes(writer, EnvelopeKind::Fence, name, put)
            }
        }
    }

    /// What the admin has signed counts in the place for which it was signed: the next one of a chain, of this domain. Whoever puts
    /// an old one under a new name would make the vault unreadable.
    async fn check_admins(
        &self,
        writer: &Writer,
        name: &ObjectName,
        named: &Named,
        put: &[u8],
    ) -> Result<(), Refusal> {
        let is_good = match named {
            Named::Trust(n) => {
                let Ok((trust, signer)) = clear::read::<TrustObject>(ClearKind::Trust, put) else {
                    return Err(not_signed(name, "the admin of the fleet"));
                };
                let previous = match n.checked_sub(1).filter(|before| *before > 0) {
                    Some(before) => self.find(&Named::Trust(before).to_name()).await?,
                    None => None,
                };
                let previous = previous.map(|content| *blake3::hash(&content).as_bytes());
                let expected = trust.previous.map(|hash| *hash.as_bytes());
                let follows = previous == expected && (*n == 1) == expected.is_none();
                signer == writer.admin && trust.n == *n && follows
            }
            Named::Format(n) => {
                let Ok((format, signer)) = clear::read::<FormatObject>(ClearKind::Format, put) else {
                    return Err(not_signed(name, "the admin of the fleet"));
                };
                let follows = match n.checked_sub(1).filter(|before| *before > 0) {
                    Some(before) => {
                        let before = self.find(&Named::Format(before).to_name()).await?;
                        before.is_some_and(|before| before != put)
                    }
                    None => *n == 1,
                };
                signer == writer.admin && format.domain == writer.domain && follows
            }
            _ => false,
        };
        match is_good {
            true => Ok(()),
            false => Err(not_signed(name, "the admin of the fleet for this place")),
        }
    }

    /// A small object; none where there is none.
    async fn find(&self, name: &ObjectName) -> Result<Option<Bytes>, Refusal> {
        match self.store.get(name).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(refusal_of(error)),
        }
    }
}

fn check_nodes(
    writer: &Writer,
    kind: EnvelopeKind,
    name: &ObjectName,
    content: &[u8],
) -> Result<(), Refusal> {
    match envelope::check_signature(writer.domain, kind, name.stem(), content) {
        Ok(signer) if signer == writer.signer => Ok(()),
        _ => Err(not_signed(name, "the node that asks")),
    }
}

fn not_signed(name: &ObjectName, who: &str) -> Refusal {
    let text = format!("{name}: only what {who} has signed can be put or take the place of another one");
    Refusal { reason: Reason::Denied, text, retry_after: None }
}
