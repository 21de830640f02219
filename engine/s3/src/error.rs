//! What went wrong, in the words of a store: whether it may pass, and what to do.

use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use backstay_vault::store::StoreErrorKind;

use crate::connector::knows_no_authorities;
use crate::limiter::Ended;
use crate::tempo::TOO_SLOW;

/// Longest text of a service that is repeated, bytes.
const TEXT_BYTES_MAX: usize = 300;

/// A difference of clocks that services let pass: the S3 API allows 15 minutes, and an answer takes its time.
const SKEW_SECONDS_MAX: i64 = 300;

/// What rustls says of a certificate that it does not take. Trying again does not help.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// The code of the S3 API for clocks that are too far apart.
const SKEWED: &str = "RequestTimeTooSkewed";

/// A request that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: StoreErrorKind,
    /// For people: what the service says, and what to do where that is known.
    pub(crate) text: String,
    pub(crate) ended: Ended,
    /// The service's own word for it.
    pub(crate) code: String,
    /// The status of the answer; 0 where there was none.
    pub(crate) status: u16,
}

impl Fault {
    /// A fault that may pass.
    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Transient,
            text: text.into(),
            ended: Ended::Other,
            code: String::new(),
            status: 0,
        }
    }

    /// A fault of another kind.
    pub(crate) fn of(kind: StoreErrorKind, text: impl Into<String>) -> Self {
        Self { kind, ..Self::passing(text) }
    }

    /// What went wrong while something moved. Where too little of it did, fewer at once may get on.
    pub(crate) fn moving(text: String) -> Self {
        let ended = if text.contains(TOO_SLOW) { Ended::TooMuch } else { Ended::Other };
        Self { ended, ..Self::passing(text) }
    }

    /// Whether the bucket takes nothing without a checksum: one that locks what is put does not ("Object Lock considerations" of S3).
    pub(crate) fn wants_checksum(&self) -> bool {
        self.status == 400 && self.text.to_ascii_lowercase().contains("content-md5")
    }

    /// What the SDK says.
    pub(crate) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let metadata = service.err().meta();
                let status = service.raw().status().as_u16();
                let fault = answered(status, metadata.code().unwrap_or(""), metadata.message().unwrap_or(""));
                fault.with_clock(service.raw())
            }
            SdkError::ResponseError(response) => {
                // Such as an error page of something between.
                let status = response.raw().status().as_u16();
                match status {
                    200..300 => Self::passing(format!("the answer makes no sense: {}", words(error))),
                    _ => answered(status, "", &words(error)).with_clock(response.raw()),
                }
            }
            SdkError::ConstructionFailure(_) => {
                // No credentials, as a rule, or an address that is none.
                Self::of(
                    StoreErrorKind::Refused,
                    format!(
                        "{}: see the access keys in [secret] of node.toml, or those of the environment",
                        words(error)
                    ),
                )
            }
            _ if lacks_credentials(error) => Self::of(
                StoreErrorKind::Refused,
                format!(
                    "there is no access key: add [secret] for this vault to node.toml, or set it in the environment ({})",
                    words(error)
                ),
            ),
            _ => match words(error) {
                text if text.contains(BAD_CERTIFICATE) && knows_no_authorities() => Self::of(
                    StoreErrorKind::Refused,
                    format!(
                        "this host knows no authority by which it could believe a certificate: install the package ca-certificates, or set SSL_CERT_FILE to a file with that of the service ({text})"
                    ),
                ),
                text if text.contains(BAD_CERTIFICATE) => Self::of(
                    StoreErrorKind::Refused,
                    format!(
                        "{text}; if the service is yours, have this host know its authority (`update-ca-certificates`, or SSL_CERT_FILE), or correct `endpoint` of the vault"
                    ),
                ),
                text => Self::moving(text),
            },
        }
    }

    /// Says so where the service has refused and shows another time than this host: few services have a code for that.
    fn with_clock(self, response: &HttpResponse) -> Self {
        let shown = response.headers().get("date");
        let shown = shown.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let here = DateTime::from(SystemTime::now()).secs();
        let advice = shown.and_then(|shown| clock_advice(here, shown.secs()));
        match advice {
            Some(advice) if self.kind == StoreErrorKind::Refused && self.code != SKEWED => {
                Self { text: format!("{}; {advice}", self.text), ..self }
            }
            _ => self,
        }
    }
}

/// What to do where clocks, seconds since 1970, show so different times that requests are refused.
fn clock_advice(here: i64, there: i64) -> Option<String> {
    let ahead = here.saturating_sub(there);
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    (ahead.abs() > SKEW_SECONDS_MAX).then(|| {
        format!("the clock of this host is {} s {way} that of the service: set it (`timedatectl`), and see that it is kept right", ahead.abs())
    })
}

/// Whether nobody has told who asks; that somebody could not be asked may pass.
fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.downcast_ref::<CredentialsError>();
        if matches!(
            told,
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
        ) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The innermost causes say most.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
        source = cause.source();
    }
    plain(&texts.join(": "))
}

/// What a service has sent, for a message of one line.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].trim().to_owned()
}

/// What an answer means. The codes are those of the S3 API ("Error responses"); services of others have some of them.
fn answered(status: u16, code: &str, message: &str) -> Fault {
    use StoreErrorKind::{NoSpace, NotFound, Quota, Refused, Transient, Truncated};
    let said = match (plain(code), plain(message)) {
        (code, message) if code.is_empty() && message.is_empty() => format!("status {status}"),
        (code, message) if message.is_empty() => format!("status {status}, {code}"),
        (code, message) if code.is_empty() => format!("status {status}: {message}"),
        (code, message) => format!("{code}: {message}"),
    };
    let (kind, advice) = match (code, status) {
        ("NoSuchBucket", _) => {
            (Refused, "the bucket is not there: make it, or correct `bucket` and `endpoint` of the vault")
        }
        ("NoSuchKey", _) => (NotFound, ""),
        // It may have ended with an answer that was lost: another one settles it.
        ("NoSuchUpload", _) => (Transient, ""),
        ("InvalidRange", _) | (_, 416) => (Truncated, ""),
        ("InvalidAccessKeyId", _) => {
            (Refused, "the service does not know this access key: see [secret] of node.toml")
        }
        ("SignatureDoesNotMatch", _) => (
            Refused,
            "the secret key is not that of the access key, or something between changes requests: see [secret] of node.toml",
        ),
        ("ExpiredToken" | "TokenRefreshRequired", _) => (Refused, "the credentials have expired: renew them"),
        (SKEWED, _) => (
            Refused,
            "the clock of this host is wrong: set it (`timedatectl`), and see that it is kept right",
        ),
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "AuthorizationQueryParametersError", _)
        | (_, 301 | 307 | 308) => (
            Refused,
            "the bucket is in another region, or at another address: correct `region` and `endpoint` of the vault",
        ),
        ("QuotaExceeded" | "ServiceQuotaExceededException" | "XMinioAdminBucketQuotaExceeded", _) => {
            (Quota, "raise the quota, or keep less")
        }
        (_, 507) => (NoSpace, ""),
        (
            "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling" | "ThrottlingException",
            _,
        )
        | (_, 429 | 503) => (Transient, ""),
        // The last three, and Garage's `InvalidDigest`: it did not come as it was sent.
        (
            "RequestTimeout"
            | "RequestTimeoutException"
            | "InvalidDigest"
            | "BadDigest"
            | "IncompleteBody"
            | "XAmzContentSHA256Mismatch",
            _,
        ) => (Transient, ""),
        // It was replaced meanwhile, or a part did not come as it was sent.
        ("PreconditionFailed" | "InvalidPart", _) | (_, 412) => (Transient, ""),
        ("OperationAborted" | "InternalError" | "ServiceUnavailable", _) => (Transient, ""),
        // Of 501 and 505 nothing is to be hoped.
        (_, 408 | 409 | 425 | 499 | 500 | 502..=504 | 506..=599) => (Transient, ""),
        (_, 401 | 403) => {
            (Refused, "this access key may not do that: see its rights, and [secret] of node.toml")
        }
        // That an object is not there the service itself says by its code: this is of something before it.
        (_, 404) => (Transient, ""),
        _ => (Refused, ""),
    };
    let ended = match (code, status) {
        ("SlowDown", _) | (_, 429 | 503) => Ended::TooMuch,
        _ => Ended::Answered,
    };
    let text = if advice.is_empty() { said } else { format!("{said}; {advice}") };
    Fault { kind, text, ended, code: plain(code), status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_it_may_pass_and_what_to_do() {
        use StoreErrorKind::{NotFound, Refused, Transient, Truncated};
        for (status, code, kind, word) in [
            (404, "NoSuchKey", NotFound, ""),
            (404, "NotFound", Transient, ""),
            (404, "", Transient, ""),
            (522, "", Transient, ""),
            (501, "NotImplemented", Refused, ""),
            (404, "NoSuchBucket", Refused, "make it"),
            (403, "AccessDenied", Refused, "rights"),
            (403, "InvalidAccessKeyId", Refused, "[secret]"),
            (403, "RequestTimeTooSkewed", Refused, "timedatectl"),
            (400, "AuthorizationHeaderMalformed", Refused, "region"),
            (301, "", Refused, "region"),
            (416, "InvalidRange", Truncated, ""),
            (400, "XAmzContentSHA256Mismatch", Transient, ""),
            (400, "InvalidDigest", Transient, ""),
            (500, "", Transient, ""),
            (400, "InvalidRequest", Refused, ""),
        ] {
            let fault = answered(status, code, "it says");
            assert_eq!(fault.kind, kind, "{status} {code}");
            assert!(fault.text.contains(word), "{fault:?}");
            assert_eq!(fault.ended, Ended::Answered);
        }
        for (status, code) in [(503, "SlowDown"), (429, ""), (503, "")] {
            let fault = answered(status, code, "");
            assert_eq!((fault.kind, fault.ended), (Transient, Ended::TooMuch), "{status} {code}");
        }
    }

    #[test]
    fn what_a_service_says_is_one_line_and_no_longer_than_it_may_be() {
        let fault = answered(400, "Odd", &"a\nb ".repeat(10_000));
        assert!(fault.text.len() < 400 && !fault.text.contains('\n'), "{}", fault.text);
    }

    #[test]
    fn a_clock_that_is_far_off_is_named_with_the_difference() {
        assert_eq!(clock_advice(1000, 1300), None);
        assert!(clock_advice(1000, 1301).is_some_and(|advice| advice.contains("301 s behind")));
        assert!(clock_advice(90_000, 0).is_some_and(|advice| advice.contains("90000 s ahead of")));
        assert!(clock_advice(i64::MAX, i64::MIN).is_some());
    }
}
