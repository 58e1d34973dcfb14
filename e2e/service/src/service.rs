//! `kinora.processing.v1`: one task a call, which ends as soon as the caller goes away. I/O.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::processing_server::Processing;
use kinora_protocol::processing::{ProcessRequest, ProcessUpdate};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::job::{self, Shared, Updates};
use crate::ledger::Ending;

/// The server side of one process.
#[derive(Clone, Debug)]
pub struct Reference {
    shared: Arc<Shared>,
}

impl Reference {
    /// Serves with what is shared.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Processing for Reference {
    type ProcessStream = ReceiverStream<Result<ProcessUpdate, Status>>;

    async fn process(
        &self,
        request: Request<ProcessRequest>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let (updates, stream) = mpsc::channel(16);
        tokio::spawn(serve(
            Arc::clone(&self.shared),
            authorization(request.metadata().as_ref()),
            request.into_inner(),
            updates,
        ));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// What a call proves itself with.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<String> {
    headers.get(AUTHORIZATION)?.to_str().ok().map(str::to_owned)
}

/// One call of either form; its last update is the end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    authorization: Option<String>,
    request: ProcessRequest,
    updates: Updates,
) {
    let entry = shared.ledger.enter(&request.idempotency_key);
    let (key, attempt) = (&request.idempotency_key, request.attempt);
    info!(key, attempt, profile = request.profile, "call begins");
    let work = job::run(&shared, authorization.as_deref(), &request, &updates);
    let answer = tokio::select! {
        biased;
        () = updates.closed() => {
            info!(key, attempt, "call given up by the caller");
            entry.end(Ending::Cancelled);
            return;
        }
        answer = work => answer,
    };
    // Counted before it is told, so that whoever has the answer finds it counted.
    let last = match answer {
        Ok(result) => {
            info!(key, attempt, "call succeeds");
            entry.end(Ending::Succeeded);
            Ok(ProcessUpdate {
                update: Some(Update::Result(result)),
            })
        }
        Err(failure) => {
            info!(key, attempt, code = ?failure.code(), problem = %failure, "call fails");
            entry.end(Ending::Failed);
            Err(failure.into())
        }
    };
    let _ = updates.send(last).await;
}
