//! What a worker reports, and which class of outcome it is (docs/concepts.md). Total: any other code is Failed.

use std::time::Duration;

/// Raw facts of a report, before anybody judged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The service's final message.
    Succeeded,
    /// A gRPC status code.
    Grpc(i32),
    /// An HTTP status.
    Http(u32),
    /// The call was not made, or was given up for a drain or a cancel.
    Released,
    /// The report named nothing: a broken answer.
    Nothing,
}

/// Whom an ended attempt is charged to, and what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The service says done; named outputs are still to be looked for.
    Succeeded,
    /// The video will never do.
    Rejected,
    /// The service failed on this video.
    Failed,
    /// Too many calls.
    Throttled,
    /// The service is away.
    Unavailable,
    /// The service does not know us or the method.
    Misconfigured,
    /// The process that held the lease ended by itself.
    Interrupted,
    /// Nobody knows what became of it.
    Lost,
    /// Given back.
    Released,
}

/// gRPC status codes, <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
pub mod grpc {
    /// CANCELLED.
    pub const CANCELLED: i32 = 1;
    /// INVALID_ARGUMENT.
    pub const INVALID_ARGUMENT: i32 = 3;
    /// DEADLINE_EXCEEDED.
    pub const DEADLINE_EXCEEDED: i32 = 4;
    /// NOT_FOUND.
    pub const NOT_FOUND: i32 = 5;
    /// PERMISSION_DENIED.
    pub const PERMISSION_DENIED: i32 = 7;
    /// RESOURCE_EXHAUSTED.
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    /// OUT_OF_RANGE.
    pub const OUT_OF_RANGE: i32 = 11;
    /// UNIMPLEMENTED.
    pub const UNIMPLEMENTED: i32 = 12;
    /// INTERNAL.
    pub const INTERNAL: i32 = 13;
    /// UNAVAILABLE.
    pub const UNAVAILABLE: i32 = 14;
    /// DATA_LOSS.
    pub const DATA_LOSS: i32 = 15;
    /// UNAUTHENTICATED.
    pub const UNAUTHENTICATED: i32 = 16;
}

/// The class of a report. A service that names a time to come back is throttling, whatever its code says.
#[must_use]
pub fn classify(fact: Fact, retry_after: Option<Duration>) -> Class {
    let class = match fact {
        Fact::Succeeded => return Class::Succeeded,
        Fact::Released => return Class::Released,
        Fact::Grpc(code) => of_grpc(code),
        Fact::Http(status) => of_http(status),
        Fact::Nothing => Class::Failed,
    };
    if retry_after.is_some() {
        return Class::Throttled;
    }
    class
}

fn of_grpc(code: i32) -> Class {
    match code {
        grpc::INVALID_ARGUMENT | grpc::OUT_OF_RANGE => Class::Rejected,
        grpc::RESOURCE_EXHAUSTED => Class::Throttled,
        grpc::UNAVAILABLE => Class::Unavailable,
        grpc::UNAUTHENTICATED | grpc::PERMISSION_DENIED | grpc::UNIMPLEMENTED | grpc::CANCELLED => {
            Class::Misconfigured
        }
        _ => Class::Failed,
    }
}

fn of_http(status: u32) -> Class {
    match status {
        400 | 413 | 415 | 422 => Class::Rejected,
        408 | 425 | 429 => Class::Throttled,
        502 | 503 => Class::Unavailable,
        300..=499 => Class::Misconfigured,
        _ => Class::Failed,
    }
}
