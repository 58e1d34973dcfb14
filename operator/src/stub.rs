//! An API server for tests: a function of path and body.

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Asks `answer` for a status code and a body; an empty body of a request is null.
pub(crate) fn client(
    answer: impl Fn(&str, Value) -> (u16, Value) + Clone + Send + 'static,
) -> Client {
    let api = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await?;
            let body = match body.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&body)?,
            };
            let (code, answer) = answer(&path, body);
            let answer = Body::from(serde_json::to_vec(&answer)?);
            Ok::<_, tower::BoxError>(Response::builder().status(code).body(answer)?)
        }
    });
    Client::new(api, "videos")
}

/// What there is not.
pub(crate) fn missing() -> (u16, Value) {
    let body = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
    (404, body)
}
