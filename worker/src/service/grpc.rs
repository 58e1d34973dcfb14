//! The gRPC form of the call (`kinora.processing.v1`). I/O; the verdict on the answer is `answer`'s.

use std::time::Duration;

use jiff::Timestamp;
use kinora_protocol::dispatch::Lease;
use kinora_protocol::processing::processing_client::ProcessingClient;
use kinora_protocol::processing::{Output, ProcessRequest, Progress};
use tonic::Request;
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tower::util::MapResponse;

use crate::answer::Answer;
use crate::config::ServiceTarget;
use crate::dial;
use crate::plain_http;
use crate::report::Report;

use super::report_of;

/// Largest message taken from a service.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How much later than ours the deadline is that the service is told: ours must be the one that is reported.
const DEADLINE_MARGIN: Duration = Duration::from_secs(5);

type Answering = fn(http::Response<Body>) -> http::Response<Body>;

/// A connected service with the request for one lease, not sent yet.
#[derive(Debug)]
pub struct PreparedCall {
    client: ProcessingClient<MapResponse<Channel, Answering>>,
    request: Request<ProcessRequest>,
}

/// Connects for one lease. Nothing of the lease leaves this process here.
///
/// # Errors
/// The report of a service that cannot be reached, or whose credentials cannot be read.
pub(super) async fn prepare(target: &ServiceTarget, lease: Lease) -> Result<PreparedCall, Report> {
    let mut request = request_of(lease);
    if let Some(file) = &target.token_file {
        let bearer = dial::bearer(file)
            .await
            .map_err(|error| report_of(&error))?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let channel = dial::service(target)
        .await
        .map_err(|error| report_of(&error))?;
    let answering: Answering = plain_http::to_grpc;
    let channel = MapResponse::new(channel, answering);
    Ok(PreparedCall {
        client: ProcessingClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
        request,
    })
}

impl PreparedCall {
    /// Sends the request and follows the answer to its end.
    pub(super) async fn run(
        mut self,
        remaining: Duration,
        mut on_progress: impl FnMut(Progress),
    ) -> Report {
        self.request.set_timeout(remaining + DEADLINE_MARGIN);
        let mut updates = match self.client.process(self.request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Report::of_status(&status, Timestamp::now()),
        };
        let mut answer = Answer::default();
        loop {
            match updates.message().await {
                Ok(Some(update)) => match answer.update(update) {
                    Ok(Some(progress)) => on_progress(progress),
                    Ok(None) => {}
                    Err(broken) => return broken,
                },
                Ok(None) => return answer.finish(),
                Err(status) => return Report::of_status(&status, Timestamp::now()),
            }
        }
    }
}

fn request_of(lease: Lease) -> Request<ProcessRequest> {
    // It is in the message too; the header is where instrumentation looks for it.
    let trace = lease.traceparent.parse().ok();
    let mut request = Request::new(ProcessRequest {
        idempotency_key: lease.idempotency_key,
        attempt: lease.attempt.map_or(0, |attempt| attempt.attempt),
        source_url: lease.source_url,
        outputs: lease
            .outputs
            .into_iter()
            .map(|output| Output {
                name: output.name,
                put_url: output.put_url,
                headers: output.headers,
            })
            .collect(),
        profile: lease.profile,
        parameters: lease.parameters,
        traceparent: lease.traceparent,
    });
    if let Some(trace) = trace.filter(|trace: &MetadataValue<Ascii>| !trace.is_empty()) {
        request.metadata_mut().insert("traceparent", trace);
    }
    request
}
