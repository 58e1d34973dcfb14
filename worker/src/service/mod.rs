//! The one call to the processing service, in the pool's form of the protocol. I/O; verdicts on answers are pure.
//!
//! Both forms first prepare (credentials, connection or client), so that the machine can look once more before the
//! request goes out, and then run to a report.

mod grpc;
mod http;
pub mod http_answer;
pub mod http_json;

use std::time::Duration;

use kinora_protocol::dispatch::Lease;
use kinora_protocol::processing::Progress;
use tokio_util::task::TaskTracker;
use tonic::Code;

use crate::config::{Protocol, ServiceTarget};
use crate::dial::DialError;
use crate::report::Report;

/// A call for one lease, not sent yet.
#[derive(Debug)]
pub enum PreparedCall {
    /// `kinora.processing.v1` over a connection that stands.
    Grpc(Box<grpc::PreparedCall>),
    /// Plain HTTP.
    Http(Box<http::PreparedCall>),
}

/// Prepares the call of one lease. Nothing of the lease leaves this process here. What the service is to be told after the
/// call was given up becomes one of the tasks of `afterwards`.
///
/// # Errors
/// The report of a service that cannot be reached, or whose credentials cannot be read.
pub async fn prepare(
    target: &ServiceTarget,
    lease: Lease,
    afterwards: &TaskTracker,
) -> Result<PreparedCall, Report> {
    match target.protocol {
        Protocol::Grpc => grpc::prepare(target, lease)
            .await
            .map(|call| PreparedCall::Grpc(Box::new(call))),
        Protocol::Http => http::prepare(target, lease, afterwards)
            .await
            .map(|call| PreparedCall::Http(Box::new(call))),
    }
}

impl PreparedCall {
    /// Sends the request and follows the answer to its end. Dropping the future ends the call at the service as well as
    /// the form allows: gRPC resets the stream, HTTP closes the connection and deletes what is polled for.
    pub async fn run(self, remaining: Duration, on_progress: impl FnMut(Progress)) -> Report {
        match self {
            Self::Grpc(call) => call.run(remaining, on_progress).await,
            Self::Http(call) => call.run(remaining, on_progress).await,
        }
    }
}

fn report_of(error: &DialError) -> Report {
    let code = match error {
        DialError::Timeout { .. } | DialError::Connect { .. } => Code::Unavailable,
        // Credentials that are missing here are the pool's configuration, as are those the service refuses.
        DialError::Tls { .. } | DialError::File { .. } | DialError::Token { .. } => {
            Code::Unauthenticated
        }
    };
    Report::found(code, &error.to_string())
}
