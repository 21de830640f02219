//! What a holder does not do, told to another node and understood there: what follows from it survives the way, and so does the
//! number of an error of ZFS.

use backstay_wire::peer::{Answer, Reason, Refusal};
use backstay_zfs::error::{Class, Refusal as ZfsRefusal, ZfsError};
use backstay_zfs::replicate::HolderError;

use crate::link::{AskError, LinkError};

/// What is answered to it.
pub(super) fn answer_to(error: HolderError) -> Answer {
    let refused = |reason, text| Answer::Refused(Refusal { reason, text, retry_after: None });
    match error {
        HolderError::Zfs(ZfsError::Refused { doing, refusal }) => {
            Answer::RefusedByZfs { doing, number: refusal.number() }
        }
        HolderError::Refused(why) => refused(Reason::Denied, why),
        other => {
            let reason = match other.class() {
                Class::Transient => Reason::Fault,
                Class::Stale => Reason::Stale,
                Class::Operator => Reason::Lasting,
            };
            refused(reason, other.to_string())
        }
    }
}

/// What the log of the holder says of an answer by ZFS; nothing where the other side only has to look anew.
pub(crate) fn worth_a_note(doing: &str, number: i32) -> Option<String> {
    let error = ZfsError::Refused { doing: doing.to_owned(), refusal: ZfsRefusal::new(number) };
    (error.class() != Class::Stale).then(|| error.to_string())
}

/// What was asked for in vain.
pub(super) fn asked_in_vain(error: AskError) -> HolderError {
    match error {
        AskError::Refused(refusal) | AskError::Link(LinkError::Refused { refusal, .. }) => {
            of_refusal(refusal)
        }
        AskError::Link(LinkError::Unreachable { .. }) | AskError::Lost(_) => {
            HolderError::Unreachable(error.to_string())
        }
        AskError::RefusedByZfs { doing, number } => {
            ZfsError::Refused { doing, refusal: ZfsRefusal::new(number) }.into()
        }
        AskError::Answer(_) => told(Class::Operator, error.to_string()),
    }
}

/// The same for whoever can say no more than what ZFS can.
pub(super) fn as_zfs(error: HolderError) -> ZfsError {
    match error {
        HolderError::Zfs(error) => error,
        other => ZfsError::Told { class: other.class(), said: other.to_string() },
    }
}

fn of_refusal(refusal: Refusal) -> HolderError {
    let text = refusal.text;
    match refusal.reason {
        Reason::Denied | Reason::Unknown | Reason::Version | Reason::Malformed => HolderError::Refused(text),
        Reason::Stale => told(Class::Stale, text),
        Reason::Lasting | Reason::TooLarge => told(Class::Operator, text),
        Reason::NotFound
        | Reason::Truncated
        | Reason::Exists
        | Reason::Mismatch
        | Reason::Quota
        | Reason::Full
        | Reason::Busy
        | Reason::Fault => told(Class::Transient, text),
    }
}

fn told(class: Class, said: String) -> HolderError {
    ZfsError::Told { class, said }.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstay_zfs::guid::SnapshotGuid;

    use super::*;

    fn there_and_back(error: HolderError) -> HolderError {
        asked_in_vain(AskError::unless_refused(answer_to(error)).expect_err("it is refused"))
    }

    #[test]
    fn what_follows_from_an_error_and_what_it_says_survive_the_way() {
        let doing = || "receive pool/a@b".to_owned();
        let errors: [fn(String) -> HolderError; 11] = [
            |doing| ZfsError::Refused { doing, refusal: ZfsRefusal::NO_SPACE }.into(),
            |doing| ZfsError::Refused { doing, refusal: ZfsRefusal::RESUME_EXISTS }.into(),
            |doing| ZfsError::Refused { doing, refusal: ZfsRefusal::new(-7) }.into(),
            |doing| ZfsError::Command { doing, said: "no".to_owned() }.into(),
            |doing| ZfsError::Stalled { doing, after: Duration::from_secs(120) }.into(),
            |doing| ZfsError::Stuck { doing, pool: "pool".to_owned(), count: 2 }.into(),
            |doing| ZfsError::NoZfs { why: doing }.into(),
            |doing| ZfsError::Worker { doing, why: "it is gone".to_owned() }.into(),
            |doing| ZfsError::Answer { doing, what: "x".to_owned() }.into(),
            HolderError::Refused,
            |place| HolderError::NotThere { place, guid: SnapshotGuid(7) },
        ];
        for error in errors {
            let (there, back) = (error(doing()), there_and_back(error(doing())));
            assert_eq!((there.class(), there.to_string()), (back.class(), back.to_string()));
            let zfs = as_zfs(back);
            assert_eq!((there.class(), there.to_string()), (zfs.class(), zfs.to_string()));
        }
    }

    #[test]
    fn an_error_of_zfs_keeps_its_number() {
        let full = ZfsError::Refused { doing: "receive".to_owned(), refusal: ZfsRefusal::NO_SPACE };
        let back = there_and_back(full.into());
        assert!(
            matches!(back, HolderError::Zfs(ZfsError::Refused { refusal: ZfsRefusal::NO_SPACE, .. })),
            "{back:?}"
        );
    }
}
