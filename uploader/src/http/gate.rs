//! Before anything of a request is understood: its address may send so many, its bytes are counted,
//! and a backend that made an upload for a phone gets the phone's token with the answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::problem::{Kind, Problem};
use super::token;
use crate::app::App;
use crate::limits::{Counted, Reached, Seat};
use crate::serve::Peer;

pub(super) async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Some(Peer(peer)) = request.extensions().get::<Peer>()
        && let Err(reached) = app.limits.address(peer.ip(), request.headers())
    {
        return limited(&app, &reached).into_response();
    }
    let wish = token::wished(request.headers());
    let seat = Arc::new(Seat::default());
    let charged = Arc::clone(&seat);
    let request = request.map(|body| {
        Body::new(Counted {
            body,
            seat: charged,
        })
    });
    let mut answer = seat.answer(next.run(request)).await;
    if answer.status() == StatusCode::CREATED {
        let location = answer.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok().map(str::to_owned));
        app.limits.created(&seat, location.as_deref());
        let token = match (wish, seat.backend(), location) {
            (Some(Ok(seconds)), Some(who), Some(path)) => {
                token::at_create(&app, who, &path, seconds)
            }
            _ => None,
        };
        if let Some(Ok(token)) = token.map(|token| HeaderValue::from_str(&token)) {
            answer.headers_mut().insert(token::UPLOAD_TOKEN, token);
        }
    }
    answer
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
