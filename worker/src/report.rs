//! Raw facts about how a call ended. Pure: only the operator's engine classifies them.
//!
//! What the worker itself finds is told in the same gRPC codes as what the service says (`dispatch.proto`, `GrpcStatus`).

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::dispatch::{AttemptRef, GrpcStatus, Outcome, Released, Succeeded};
use tonic::{Code, Status};

use crate::{retry_after, text};

/// How an attempt ended here.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The raw fact.
    pub fact: Fact,
    /// For people; already clean and short enough for the wire.
    pub message: String,
    /// What the service asked for.
    pub retry_after: Option<Duration>,
}

/// Why a lease is given back without a verdict of the service. The words are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The call was never made.
    NotStarted,
    /// The worker leaves and its drain time is over.
    Draining,
    /// The operator asked for it.
    Cancelled,
    /// The operator counts this attempt as over.
    Expired,
}

impl ReleaseReason {
    /// The word of `Released.reason`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not-started",
            Self::Draining => "draining",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl Report {
    /// The call succeeded with this answer.
    #[must_use]
    pub fn succeeded(answer: Succeeded) -> Self {
        Self {
            fact: Fact::Succeeded(answer),
            message: String::new(),
            retry_after: None,
        }
    }

    /// A finding of the worker itself, in the code the wire has for it.
    #[must_use]
    pub fn found(code: Code, message: &str) -> Self {
        Self {
            fact: Fact::Grpc(GrpcStatus { code: code as i32 }),
            message: text::message(message),
            retry_after: None,
        }
    }

    /// The lease goes back.
    #[must_use]
    pub fn released(reason: ReleaseReason, message: &str) -> Self {
        Self {
            fact: Fact::Released(Released {
                reason: reason.word().to_owned(),
            }),
            message: text::message(message),
            retry_after: None,
        }
    }

    /// What a status says that came out of a call, told apart from what the transport made up on the way.
    #[must_use]
    pub fn of_status(status: &Status, now: Timestamp) -> Self {
        let mut report = Self::found(code_of(status), &describe(status));
        report.retry_after = retry_after::of_status(status, now);
        report
    }

    /// For logs: the kind of fact and its code or reason.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.fact {
            Fact::Succeeded(_) => "succeeded".to_owned(),
            Fact::Grpc(status) => format!("grpc {:?}", Code::from_i32(status.code)),
            Fact::Http(status) => format!("http {}", status.status),
            Fact::Released(released) => format!("released {}", released.reason),
        }
    }

    /// As it goes to the operator.
    #[must_use]
    pub fn outcome(&self, attempt: AttemptRef) -> Outcome {
        Outcome {
            attempt: Some(attempt),
            fact: Some(self.fact.clone()),
            message: self.message.clone(),
            retry_after_ms: self
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Statuses that tonic makes itself when an answer cannot be read. They carry no source and are known by code and text only;
/// `tests/broken_answers.rs` proves each of them against the real transport. Read literally, "message too large" would be
/// OUT_OF_RANGE, the verdict that this video will never do.
const UNREADABLE: &[(Code, &str)] = &[
    (Code::OutOfRange, "Error, decoded message length too large"),
    (
        Code::ResourceExhausted,
        "Error decompressing: size limit, of ",
    ),
    (Code::Internal, "Error decompressing: "),
    (Code::Internal, "failed to decode Protobuf message"),
    (Code::Internal, "protocol error: "),
    (Code::Unknown, "protocol error: "),
    (Code::Internal, "Unexpected EOF decoding stream"),
];

fn code_of(status: &Status) -> Code {
    if status.source().is_some() {
        return if is_tls_failure(status) {
            Code::Unauthenticated
        } else {
            match status.code() {
                // The service's HTTP/2 layer said so of this one call.
                Code::Internal | Code::ResourceExhausted | Code::Unavailable => status.code(),
                // A connection that broke in mid-call, under whatever name.
                _ => Code::Unavailable,
            }
        };
    }
    if UNREADABLE
        .iter()
        .any(|(code, text)| status.code() == *code && status.message().starts_with(text))
    {
        return Code::DataLoss;
    }
    // OK as an error cannot be: a broken answer.
    if status.code() == Code::Ok {
        return Code::DataLoss;
    }
    status.code()
}

fn describe(status: &Status) -> String {
    if status.message().is_empty() {
        format!("the processing service answered {:?}", status.code())
    } else {
        status.message().to_owned()
    }
}

/// True if rustls is somewhere in the chain of causes.
#[must_use]
pub fn is_tls_failure(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let mut cause = cause;
        // An I/O error hides what it wraps from `source`, and may wrap another one.
        while let Some(inner) = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            cause = inner;
        }
        cause.is::<rustls::Error>()
    })
}

/// The causes in one line: tonic's own text is only "transport error".
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F48, F50
    #[rstest::rstest]
    #[case::the_service_s_own_code_is_passed_on(
        Status::invalid_argument("no video"),
        Code::InvalidArgument
    )]
    #[case::its_own_out_of_range_too(Status::out_of_range("too long"), Code::OutOfRange)]
    #[case::a_message_over_the_limit_is_a_broken_answer(
        Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 1 bytes"
        ),
        Code::DataLoss
    )]
    #[case::an_end_without_status_is_a_broken_answer(
        Status::unknown("protocol error: missing grpc-status trailer, stream was terminated"),
        Code::DataLoss
    )]
    #[case::rubbish_is_a_broken_answer(
        Status::internal("failed to decode Protobuf message: invalid tag"),
        Code::DataLoss
    )]
    #[case::a_rejection_in_words_of_the_transport_is_one(
        Status::invalid_argument("Error decompressing audio track"),
        Code::InvalidArgument
    )]
    #[case::a_service_that_is_full_is_no_broken_answer(
        Status::resource_exhausted("protocol error: too many calls"),
        Code::ResourceExhausted
    )]
    #[case::ok_as_an_error_is_a_broken_answer(Status::ok("fine"), Code::DataLoss)]
    fn codes(#[case] status: Status, #[case] want: Code) {
        let report = Report::of_status(&status, Timestamp::UNIX_EPOCH);
        assert_eq!(
            report.fact,
            Fact::Grpc(GrpcStatus { code: want as i32 }),
            "{status:?}"
        );
    }

    #[test]
    fn a_connection_lost_in_mid_call_is_unavailable_whatever_it_is_called() {
        let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset");
        let status = Status::from_error(Box::new(broken));
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(code_of(&status), Code::Unavailable);
    }
}
