//! Before anything of a request is understood: its address may send so many, its bytes are counted,
//! and a backend that made an upload for a phone gets the phone's token with the answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_body::Body as _;

use super::problem::{Kind, Problem};
use super::token;
use super::tus::UPLOAD_OFFSET;
use crate::app::App;
use crate::auth::Credential;
use crate::limits::{Counted, Reached, Seat, bytes_of_day};
use crate::serve::Peer;

/// Before anything else looks at a request: what proves who asks leaves the headers.
pub(super) fn set_aside(mut request: Request) -> Request {
    if let Some(credential) = Credential::take(request.headers_mut()) {
        request.extensions_mut().insert(credential);
    }
    request
}

pub(super) async fn gate(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(Peer(peer)) = request.extensions().get::<Peer>()
        && let Err(reached) = app.limits.address(peer.ip(), request.headers())
    {
        return limited(&app, &reached).into_response();
    }
    let wish = token::wished(request.headers());
    let credential = request.extensions_mut().remove();
    let seat = Arc::new(Seat::of(credential, !request.body().is_end_stream()));
    let charged = Arc::clone(&seat);
    let request = request.map(|body| {
        Body::new(Counted {
            body,
            seat: charged,
        })
    });
    let mut answer = seat.answer(next.run(request)).await;
    if seat.was_cut() && answer.extensions().get() == Some(&Kind::TooSlow) {
        return cut(&app, &answer);
    }
    if answer.status() == StatusCode::CREATED {
        let location = answer.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok().map(str::to_owned));
        let token = match (wish, seat.backend(), location) {
            (Some(Ok(seconds)), Some(who), Some(path)) => {
                token::at_create(&app, who, &path, seconds)
            }
            _ => None,
        };
        if let Some(token) = token {
            answer.headers_mut().insert(token::UPLOAD_TOKEN, token);
        }
    }
    answer
}

/// To whoever read a body that was ended here it looks as if its client had gone.
fn cut(app: &App, answer: &Response) -> Response {
    let mut reached = limited(app, &bytes_of_day(&app.store));
    if let Some(offset) = answer.headers().get(UPLOAD_OFFSET) {
        reached = reached.with(UPLOAD_OFFSET, offset.clone());
    }
    reached.into_response()
}

/// 429 that names the limit.
pub(super) fn limited(app: &App, reached: &Reached) -> Problem {
    app.metrics.limited(reached.limit);
    let limit = reached.limit.word();
    let seconds = reached.after.as_secs_f64().ceil().max(1.0);
    Problem::new(
        Kind::LimitReached,
        format!(
            "The limit {limit} is reached. Wait for Retry-After; whoever runs this service sets the limits."
        ),
    )
    .field(limit)
    // Seconds of at most a day.
    .retry_after(seconds as u64)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// covers: S12
    #[test]
    fn what_comes_after_the_first_layer_sees_no_credential() {
        let mut request = Request::new(Body::empty());
        let value = HeaderValue::from_static("Bearer canary");
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let mut request = set_aside(request);
        assert!(request.headers().is_empty());
        assert!(!format!("{request:?}").contains("canary"));
        assert!(request.extensions_mut().remove::<Credential>().is_some());
    }
}
