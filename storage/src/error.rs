//! What can go wrong with the store, as classes that callers decide by, and messages that people act on.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The class of a failure. Callers decide by it; it is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No such object.
    NotFound,
    /// The configured bucket does not exist.
    NoSuchBucket,
    /// The multipart upload is gone: completed, aborted or never there.
    NoSuchUpload,
    /// A part named in Complete is not what the store holds: list again.
    InvalidPart,
    /// The credentials are known but may not do this.
    AccessDenied,
    /// The store does not accept the credentials: unknown key, wrong secret, expired token.
    SignatureMismatch,
    /// The credential files cannot be read.
    Credentials,
    /// The local clock is too far from the store's.
    ClockSkew,
    /// The store asks for fewer requests (503 SlowDown, 429).
    SlowDown,
    /// No answer in time. What was asked for may have been done, or may still be.
    Timeout,
    /// No connection, a broken one, or a 5xx. What was asked for may have been done.
    Unavailable,
    /// 409 or 412 where no condition was meant to decide anything.
    Conflict,
    /// The bytes did not match their checksum on arrival.
    BadDigest,
    /// The object is larger than the caller is ready to hold.
    TooLarge,
    /// The request itself is wrong, or the answer makes no sense.
    Invalid,
}

impl StoreErrorKind {
    /// A fixed label for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NoSuchBucket => "no_such_bucket",
            Self::NoSuchUpload => "no_such_upload",
            Self::InvalidPart => "invalid_part",
            Self::AccessDenied => "access_denied",
            Self::SignatureMismatch => "signature_mismatch",
            Self::Credentials => "credentials",
            Self::ClockSkew => "clock_skew",
            Self::SlowDown => "slow_down",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::BadDigest => "bad_digest",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
        }
    }
}

/// A call that failed: the attempted action, its class, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {message}")]
pub struct StoreError {
    /// Class of the failure.
    pub kind: StoreErrorKind,
    /// What was attempted, on which key.
    pub action: String,
    /// What the store said and, where a person can mend it, how.
    pub message: String,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    #[source]
    cause: Option<Cause>,
}

impl StoreError {
    /// An error of this crate's own making.
    pub(crate) fn new(
        kind: StoreErrorKind,
        action: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            action: action.into(),
            message: message.into(),
            status: None,
            cause: None,
        }
    }

    /// The call may have taken effect, now or later: read and compare before deciding anything.
    #[must_use]
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Timeout | StoreErrorKind::Unavailable | StoreErrorKind::SlowDown
        )
    }

    /// The same call may succeed later without anybody mending anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            StoreErrorKind::Timeout
            | StoreErrorKind::Unavailable
            | StoreErrorKind::SlowDown
            | StoreErrorKind::Conflict
            | StoreErrorKind::BadDigest => true,
            StoreErrorKind::NotFound
            | StoreErrorKind::NoSuchBucket
            | StoreErrorKind::NoSuchUpload
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::AccessDenied
            | StoreErrorKind::SignatureMismatch
            | StoreErrorKind::Credentials
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::TooLarge
            | StoreErrorKind::Invalid => false,
        }
    }
}

/// Names for messages: where the store is and what the bucket is called.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
}

impl Target {
    /// No answer within the time of one attempt.
    pub(crate) fn timed_out(&self, action: &str, seconds: f64) -> StoreError {
        let message = format!("no answer from {} within {seconds:.0} s", self.endpoint);
        StoreError::new(StoreErrorKind::Timeout, action, message)
    }

    /// Classifies what the SDK returned; the body of an error answer has already been parsed into code and message.
    pub(crate) fn classify<E>(&self, action: &str, error: SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let said = error.message().unwrap_or_default().to_owned();
        let kind = match &error {
            SdkError::TimeoutError(_) => StoreErrorKind::Timeout,
            SdkError::DispatchFailure(cause) if cause.is_timeout() => StoreErrorKind::Timeout,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_)
                if has_credentials_error(&error) =>
            {
                StoreErrorKind::Credentials
            }
            SdkError::DispatchFailure(_) => StoreErrorKind::Unavailable,
            SdkError::ConstructionFailure(_) => StoreErrorKind::Invalid,
            SdkError::ResponseError(_) | SdkError::ServiceError(_) => by_answer(&code, status),
            _ => StoreErrorKind::Unavailable,
        };
        let message = self.message(kind, &code, &said, status);
        StoreError {
            kind,
            action: action.to_owned(),
            message,
            status,
            cause: Some(Box::new(error)),
        }
    }

    fn message(&self, kind: StoreErrorKind, code: &str, said: &str, status: Option<u16>) -> String {
        let Self { endpoint, bucket } = self;
        let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let answer = if code.is_empty() {
            status
        } else {
            format!("{status} {code}")
        };
        match kind {
            StoreErrorKind::NoSuchBucket => {
                format!(
                    "bucket {bucket:?} does not exist at {endpoint} ({answer}): create it, or check --store-bucket"
                )
            }
            StoreErrorKind::SignatureMismatch => format!(
                "{endpoint} refused the credentials ({answer}): check the files access-key-id and secret-access-key \
                 in --store-credentials-dir, and --store-region"
            ),
            StoreErrorKind::AccessDenied => format!(
                "{endpoint} denied access to bucket {bucket:?} ({answer}): check the rights of the key in \
                 --store-credentials-dir"
            ),
            StoreErrorKind::Credentials => {
                "the credentials cannot be read: check --store-credentials-dir".to_owned()
            }
            StoreErrorKind::ClockSkew => {
                format!(
                    "the local clock is too far from that of {endpoint} ({answer}): synchronise it"
                )
            }
            StoreErrorKind::Timeout => {
                format!("no answer from {endpoint} in time: check --store-endpoint and the network")
            }
            StoreErrorKind::Unavailable if answer == "no answer" => {
                format!(
                    "no connection to {endpoint}: check --store-endpoint and that the store is running"
                )
            }
            StoreErrorKind::Unavailable if answer.starts_with("404") => {
                format!(
                    "{endpoint} answered {answer}, but not as S3 does: check --store-endpoint and what is in front of the store"
                )
            }
            StoreErrorKind::NotFound
            | StoreErrorKind::NoSuchUpload
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::SlowDown
            | StoreErrorKind::Unavailable
            | StoreErrorKind::Conflict
            | StoreErrorKind::BadDigest
            | StoreErrorKind::TooLarge
            | StoreErrorKind::Invalid => format!("{endpoint} answered {answer}: {}", bounded(said)),
        }
    }
}

/// Error codes of S3 and its stand-ins; a code wins over the status, since 200 may carry an error too.
pub(crate) fn by_answer(code: &str, status: Option<u16>) -> StoreErrorKind {
    match code {
        "NoSuchKey" | "NoSuchVersion" => StoreErrorKind::NotFound,
        "NoSuchBucket" => StoreErrorKind::NoSuchBucket,
        "NoSuchUpload" => StoreErrorKind::NoSuchUpload,
        "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" => StoreErrorKind::InvalidPart,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => StoreErrorKind::AccessDenied,
        "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthorizationHeaderMalformed" => StoreErrorKind::SignatureMismatch,
        "RequestTimeTooSkewed" => StoreErrorKind::ClockSkew,
        "SlowDown"
        | "ServiceUnavailable"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling" => StoreErrorKind::SlowDown,
        "RequestTimeout" => StoreErrorKind::Timeout,
        "InternalError" => StoreErrorKind::Unavailable,
        "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => {
            StoreErrorKind::Conflict
        }
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => StoreErrorKind::BadDigest,
        _ => by_status(status),
    }
}

fn by_status(status: Option<u16>) -> StoreErrorKind {
    match status {
        // Without a code of S3 it is of somebody in front of the store that has no way to it: nothing is known of the object.
        Some(404) => StoreErrorKind::Unavailable,
        Some(401 | 403) => StoreErrorKind::AccessDenied,
        Some(408) => StoreErrorKind::Timeout,
        Some(409 | 412) => StoreErrorKind::Conflict,
        Some(429 | 503) => StoreErrorKind::SlowDown,
        Some(400..=499) => StoreErrorKind::Invalid,
        // A success that cannot be read is as unclear as a 500.
        Some(_) | None => StoreErrorKind::Unavailable,
    }
}

fn has_credentials_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<aws_credential_types::provider::error::CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The store's own words, short enough for a log line.
fn bounded(said: &str) -> String {
    if said.is_empty() {
        "no reason given".to_owned()
    } else {
        said.chars().take(200).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_one_class_each() {
        use StoreErrorKind as K;
        let table = [
            (
                "a code wins over its status",
                "InternalError",
                Some(200),
                K::Unavailable,
            ),
            (
                "success without a readable body is unclear",
                "",
                Some(200),
                K::Unavailable,
            ),
            (
                "a 404 of a proxy says nothing of the object",
                "",
                Some(404),
                K::Unavailable,
            ),
            (
                "nor does one without a body",
                "NotFound",
                Some(404),
                K::Unavailable,
            ),
            ("a missing key", "NoSuchKey", Some(404), K::NotFound),
            (
                "a missing bucket is not a missing key",
                "NoSuchBucket",
                Some(404),
                K::NoSuchBucket,
            ),
            (
                "a lost upload is not a missing key",
                "NoSuchUpload",
                Some(404),
                K::NoSuchUpload,
            ),
            (
                "wrong secret",
                "SignatureDoesNotMatch",
                Some(403),
                K::SignatureMismatch,
            ),
            (
                "unknown key id",
                "InvalidAccessKeyId",
                Some(403),
                K::SignatureMismatch,
            ),
            (
                "skewed clock",
                "RequestTimeTooSkewed",
                Some(403),
                K::ClockSkew,
            ),
            ("slow down", "SlowDown", Some(503), K::SlowDown),
            ("a proxy's 502", "", Some(502), K::Unavailable),
            (
                "a conflict",
                "ConditionalRequestConflict",
                Some(409),
                K::Conflict,
            ),
            ("a bad range", "InvalidRange", Some(416), K::Invalid),
            ("a flipped bit", "BadDigest", Some(400), K::BadDigest),
        ];
        for (name, code, status, want) in table {
            assert_eq!(by_answer(code, status), want, "{name}");
        }
    }

    #[test]
    fn unclear_outcomes_are_those_that_may_have_happened() {
        use StoreErrorKind as K;
        for (kind, want) in [
            (K::Timeout, true),
            (K::Unavailable, true),
            (K::SlowDown, true),
            (K::Conflict, false),
            (K::NotFound, false),
        ] {
            assert_eq!(
                StoreError::new(kind, "put x", "").is_unknown_outcome(),
                want,
                "{kind:?}"
            );
        }
    }
}
