//! The HTTP surface: which request goes where, and the headers every answer carries.

mod admit;
mod answers;
mod append;
pub mod batches;
mod cors;
mod create;
mod digests;
mod draft;
mod fields;
mod gate;
mod health;
pub mod interim;
pub mod keyed;
mod linger;
mod methods;
pub mod openapi;
pub mod problem;
mod protocol;
mod query;
mod standing;
mod token;
pub mod tus;
mod uploads;
pub mod videos;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, header};
use kinora_storage::UploadId;
use tower::util::MapRequestLayer;

use crate::app::App;
use crate::auth::Action;
use crate::metrics::{Class, Route, Verb};
use admit::no_such;
use methods::Methods;
use problem::{Kind, Problem};

/// `Accept-Patch`, RFC 5789.
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// All routes of one replica.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/uploads", any(uploads_root))
        .route("/v1/uploads/", any(uploads_root))
        .route("/v1/uploads/{id}", any(one_upload))
        .route("/v1/batches", any(batches))
        .route("/v1/videos", any(all_videos))
        .route("/v1/uploads/{id}/token", any(token::one_token))
        .route("/v1/videos/{id}", any(one_video))
        .route("/v1/videos/{id}/erase", any(erase))
        .route(
            "/v1/openapi.json",
            get(openapi::serve).fallback(|| async { Methods::DOCUMENT.refuse() }),
        )
        .fallback(|| async { Problem::not_found() })
        .layer(from_fn_with_state(Arc::clone(&app), gate::gate))
        .layer(from_fn_with_state(Arc::clone(&app), count))
        .layer(from_fn_with_state(Arc::clone(&app), linger::linger))
        .layer(from_fn(answer_always))
        .layer(from_fn(crate::trace::traced))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .layer(MapRequestLayer::new(gate::set_aside))
        .with_state(app)
}

/// What is served before the store has passed its test.
pub fn waiting_router() -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/metrics", get(health::metrics_at_zero))
        .fallback(|request: Request| async move {
            dress(&request)(Problem::try_again("waiting for the object store").into_response())
        })
}

/// A handler that panics is a bug, and still answers, dressed as every other.
async fn answer_always(request: Request, next: Next) -> Response {
    let dressed = dress(&request);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    dressed(answered.unwrap_or_else(|_| {
        // The panic hook has logged what and where.
        tracing::error!("a request panicked");
        Problem::internal().into_response()
    }))
}

/// The method that is meant: clients behind old proxies name it in a header, and then the one of
/// the request means nothing.
fn meant(request: &Request) -> Method {
    let named = request.headers().get(tus::METHOD_OVERRIDE);
    named
        .and_then(|name| Method::from_bytes(name.as_bytes()).ok())
        .unwrap_or_else(|| request.method().clone())
}

async fn uploads_root(State(app): State<Arc<App>>, request: Request) -> Response {
    let method = meant(&request);
    let answer = match method {
        Method::POST | Method::PUT => keyed::create(&app, request).await,
        Method::OPTIONS => Ok(cors::options(&app, Methods::UPLOADS)),
        _ => Err(Methods::UPLOADS.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// What stands where an id belongs; it may be no text at all.
type PathId = Result<Path<String>, PathRejection>;

async fn one_upload(State(app): State<Arc<App>>, id: PathId, request: Request) -> Response {
    let method = meant(&request);
    if method == Method::OPTIONS {
        return cors::options(&app, Methods::UPLOAD);
    }
    let answer = match (method, parse_id(id)) {
        // Only a PATCH waits for its client: thousands may, so that nothing else has room in the same future.
        (Method::HEAD, Ok(id)) => Box::pin(uploads::head(&app, &id, request.headers())).await,
        (Method::PATCH, Ok(id)) => append::patch(&app, &id, request).await,
        (Method::DELETE, Ok(id)) => Box::pin(uploads::delete(&app, &id, request.headers())).await,
        (Method::HEAD | Method::PATCH | Method::DELETE, Err(problem)) => {
            // A version that is not spoken is said first, as where there is such an upload.
            let problem = tus::is_tus(request.headers()).err().unwrap_or(problem);
            Box::pin(no_such(&app, request.headers(), Action::Write, problem)).await
        }
        _ => Err(Methods::UPLOAD.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn batches(State(app): State<Arc<App>>, request: Request) -> Response {
    let answer = match meant(&request) {
        Method::POST => batches::create(&app, request).await,
        Method::OPTIONS => Ok(Methods::BATCHES.options()),
        _ => Err(Methods::BATCHES.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn all_videos(State(app): State<Arc<App>>, request: Request) -> Response {
    let answer = match meant(&request) {
        Method::GET | Method::HEAD => videos::list(&app, request.headers(), request.uri()).await,
        Method::OPTIONS => Ok(Methods::VIDEOS.options()),
        _ => Err(Methods::VIDEOS.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn one_video(State(app): State<Arc<App>>, id: PathId, request: Request) -> Response {
    let answer = match (meant(&request), parse_id(id)) {
        (Method::GET | Method::HEAD, Ok(id)) => {
            videos::status(&app, &id, request.headers(), request.uri()).await
        }
        (Method::DELETE, Ok(id)) => videos::cancel(&app, &id, request.headers()).await,
        (Method::OPTIONS, _) => Ok(Methods::VIDEO.options()),
        (Method::GET | Method::HEAD | Method::DELETE, Err(problem)) => {
            no_such(&app, request.headers(), Action::Status, problem).await
        }
        _ => Err(Methods::VIDEO.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn erase(State(app): State<Arc<App>>, id: PathId, request: Request) -> Response {
    let answer = match (meant(&request), parse_id(id)) {
        (Method::POST, Ok(id)) => videos::erase(&app, &id, request).await,
        (Method::OPTIONS, _) => Ok(Methods::ERASE.options()),
        (Method::POST, Err(problem)) => {
            no_such(&app, request.headers(), Action::Erase, problem).await
        }
        _ => Err(Methods::ERASE.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// Ids have one spelling, so nothing a client writes becomes part of a key. covers: T26
fn parse_id(id: PathId) -> Result<UploadId, Problem> {
    id.ok()
        .and_then(|Path(id)| id.parse().ok())
        .ok_or_else(Problem::not_found)
}

/// Counts requests and their answers.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = meant(&request);
    let route = Route::of(request.extensions().get().map(MatchedPath::as_str));
    let brings = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let uploading = (brings && route.takes_bytes()).then(|| app.metrics.uploading());
    let answer = next.run(request).await;
    drop(uploading);
    let status = Class::of(answer.status());
    app.metrics.answered(route, Verb::of(&method), status);
    if let Some(kind) = answer.extensions().get::<Kind>() {
        app.metrics.refused(*kind);
    }
    answer
}

/// What every answer of the API to this request carries, errors too, whoever gives it.
pub(crate) fn dress(request: &Request) -> impl FnOnce(Response) -> Response + use<> {
    let preflight = meant(request) == Method::OPTIONS;
    let from_browser = request.headers().contains_key(header::ORIGIN);
    move |mut answer| {
        let headers = answer.headers_mut();
        headers.insert(tus::TUS_RESUMABLE, tus::VERSION);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if from_browser {
            cors::allow(headers, preflight);
        }
        answer
    }
}

/// A header by name and value, where the value is known to be good.
fn set(answer: &mut Response, name: HeaderName, value: impl Into<HeaderValue>) {
    answer.headers_mut().insert(name, value.into());
}

#[cfg(test)]
mod dressed;
#[cfg(test)]
mod room;
