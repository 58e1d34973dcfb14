//! The HTTP form of the processing protocol: a POST that is answered 202, and questions until there is a result. I/O.
//!
//! `POST /process?wait=true` keeps the caller waiting and answers 200 at once with the result, the simplest form there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::{
    Output, ProcessRequest, ProcessUpdate, Progress, Result as Made,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::job::Shared;
use crate::service;

/// Calls that are remembered at once; more are answered 429.
const MAX_CALLS: usize = 1024;
/// A call whose result nobody fetches, or that nobody asks about, is given up after this time.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// What is known of one call.
#[derive(Clone, Debug)]
enum Stage {
    Running(Progress),
    Ended(Result<Made, Status>),
}

/// All calls of this form, by their place in the URL.
#[derive(Debug)]
struct Calls {
    shared: Arc<Shared>,
    open: Mutex<HashMap<String, watch::Receiver<Stage>>>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Stage>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    idempotency_key: String,
    attempt: u32,
    source_url: String,
    #[serde(default)]
    outputs: Vec<Target>,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    parameters: HashMap<String, String>,
    #[serde(default)]
    traceparent: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    name: String,
    put_url: String,
    #[serde(default)]
    headers: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    wait: bool,
}

/// `POST /process`, `GET` and `DELETE /process/{call}`.
pub fn router(shared: Arc<Shared>) -> Router {
    let calls = Arc::new(Calls {
        shared,
        open: Mutex::default(),
    });
    Router::new()
        .route("/process", post(begin))
        .route("/process/{call}", get(ask).delete(give_up))
        .with_state(calls)
}

async fn begin(
    State(calls): State<Arc<Calls>>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    if calls.lock().len() >= MAX_CALLS {
        return (StatusCode::TOO_MANY_REQUESTS, "too many calls\n").into_response();
    }
    let (updates, received) = mpsc::channel(16);
    tokio::spawn(service::serve(
        Arc::clone(&calls.shared),
        service::authorization(&headers),
        request_of(request),
        updates,
    ));
    let (told, mut stage) = watch::channel(Stage::Running(Progress::default()));
    let follow = follow(received, told);
    if options.wait {
        // Nobody else knows this call: it ends when the caller hangs up.
        follow.await;
        let ended = stage.borrow_and_update().clone();
        return answer(ended, "");
    }
    let call = format!("{:032x}", rand::random::<u128>());
    calls.lock().insert(call.clone(), stage.clone());
    let of_task = (Arc::clone(&calls), call.clone());
    tokio::spawn(async move {
        follow.await;
        tokio::time::sleep(KEPT_FOR).await;
        of_task.0.lock().remove(&of_task.1);
    });
    let first = stage.borrow().clone();
    answer(first, &call)
}

/// Until the end, or until nobody is left who could ask; then the updates are dropped, which ends the work.
async fn follow(
    mut updates: mpsc::Receiver<Result<ProcessUpdate, Status>>,
    told: watch::Sender<Stage>,
) {
    loop {
        let update = tokio::select! {
            update = updates.recv() => update,
            () = told.closed() => return,
        };
        let stage = match update {
            None => Stage::Ended(Err(Status::internal("the call ended without an answer"))),
            Some(Err(status)) => Stage::Ended(Err(status)),
            Some(Ok(update)) => match update.update {
                Some(Update::Result(made)) => Stage::Ended(Ok(made)),
                Some(Update::Progress(progress)) => Stage::Running(progress),
                None => continue,
            },
        };
        let over = matches!(stage, Stage::Ended(_));
        told.send_replace(stage);
        if over {
            return;
        }
    }
}

async fn ask(State(calls): State<Arc<Calls>>, Path(call): Path<String>) -> Response {
    let stage = calls.lock().get(&call).map(|stage| stage.borrow().clone());
    match stage {
        Some(stage) => answer(stage, &call),
        None => (StatusCode::GONE, "no such call\n").into_response(),
    }
}

async fn give_up(State(calls): State<Arc<Calls>>, Path(call): Path<String>) -> StatusCode {
    match calls.lock().remove(&call) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::GONE,
    }
}

fn answer(stage: Stage, call: &str) -> Response {
    match stage {
        Stage::Running(progress) => {
            let place = HeaderValue::try_from(format!("/process/{call}"));
            let mut response = (
                StatusCode::ACCEPTED,
                Json(json!({"percent": progress.percent, "step": progress.step})),
            )
                .into_response();
            let headers = response.headers_mut();
            if let Ok(place) = place {
                headers.insert(LOCATION, place);
            }
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Stage::Ended(Ok(made)) => Json(result(made)).into_response(),
        Stage::Ended(Err(status)) => failure(&status),
    }
}

fn result(made: Made) -> Value {
    let outputs: Vec<Value> = made
        .outputs
        .into_iter()
        .map(|output| {
            json!({"name": output.name, "sizeBytes": output.size_bytes, "checksum": output.checksum})
        })
        .collect();
    let result: Value = serde_json::from_str(&made.result_json).unwrap_or(Value::Null);
    json!({"outputs": outputs, "result": result})
}

fn failure(status: &Status) -> Response {
    let mut response = (
        http_status(status.code()),
        Json(json!({"detail": status.message()})),
    )
        .into_response();
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The status that means the same to Kinora (`docs/processing-service.md`).
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument => StatusCode::UNPROCESSABLE_ENTITY,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unimplemented => StatusCode::METHOD_NOT_ALLOWED,
        Code::Cancelled => StatusCode::CONFLICT,
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn request_of(request: Request) -> ProcessRequest {
    let outputs = request.outputs.into_iter().map(|output| Output {
        name: output.name,
        put_url: output.put_url,
        headers: output.headers,
    });
    ProcessRequest {
        idempotency_key: request.idempotency_key,
        attempt: request.attempt,
        source_url: request.source_url,
        outputs: outputs.collect(),
        profile: request.profile,
        parameters: request.parameters,
        traceparent: request.traceparent,
    }
}
