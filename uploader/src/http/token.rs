//! Upload tokens: `POST /v1/uploads/<id>/token`, and the header `Kinora-Upload-Token: <seconds>` on a
//! create, whose answer carries the token in the header of the same name.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as AppState};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::{Phase, Principal, State};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::admit::{CLOCK_OFF, admit, no_such, now};
use super::methods::Methods;
use super::problem::Problem;
use super::{PathId, meant, parse_id};
use crate::app::App;
use crate::auth::{Action, MAX_TOKEN_SECONDS};

/// How long a token is to be good, in seconds; in an answer, the token.
pub(super) const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("kinora-upload-token");
/// A token is good for so long when nothing else is wished: as long as an upload that nobody goes on with.
const DEFAULT_SECONDS: u64 = 24 * 3600;

/// A token for one upload.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuedToken {
    /// Id of the upload.
    id: String,
    /// The token, for `Authorization: Bearer`.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    token: SecretString,
    /// Seconds that it is good.
    expires_in_seconds: u64,
}

fn exposed<S: Serializer>(token: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(token.expose_secret())
}

/// How long a token is wished to be good, when one is.
pub(super) fn wished(headers: &HeaderMap) -> Option<Result<u64, Problem>> {
    let text = headers.get(&UPLOAD_TOKEN)?.to_str().unwrap_or_default();
    let seconds = text
        .parse()
        .ok()
        .filter(|n| (1..=MAX_TOKEN_SECONDS).contains(n));
    Some(seconds.ok_or_else(|| {
        let detail =
            format!("Kinora-Upload-Token must be a number of seconds, 1 to {MAX_TOKEN_SECONDS}.");
        Problem::bad_request("Kinora-Upload-Token", detail)
    }))
}

/// The token of an upload that was just made, for a header.
pub(super) fn at_create(
    app: &App,
    who: &Principal,
    path: &str,
    seconds: u64,
) -> Option<HeaderValue> {
    let id: UploadId = path.rsplit('/').next()?.parse().ok()?;
    let tokens = app.auth.tokens()?;
    let at = expires(app, seconds)?;
    let token = tokens.sign(&who.owner, &who.tenant, &id, at, Instant::now())?;
    header(&token)
}

/// Marked, so that nothing prints it and HTTP/2 keeps it out of its tables.
fn header(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(token.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// None while the clock is off.
fn expires(app: &App, seconds: u64) -> Option<u64> {
    let now = now(app);
    (!now.is_off).then_some(now.seconds + seconds)
}

/// `/v1/uploads/<id>/token`.
pub(super) async fn one_token(
    AppState(app): AppState<Arc<App>>,
    id: PathId,
    request: Request,
) -> Response {
    let answer = match (meant(&request), parse_id(id)) {
        (Method::POST, Ok(id)) => issue(&app, &id, request.headers()).await,
        (Method::OPTIONS, _) => Ok(Methods::TOKEN.options()),
        (Method::POST, Err(problem)) => {
            no_such(&app, request.headers(), Action::Delegate, problem).await
        }
        _ => Err(Methods::TOKEN.refuse()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn issue(app: &Arc<App>, id: &UploadId, headers: &HeaderMap) -> Result<Response, Problem> {
    let who = admit(app, headers, Action::Delegate, Some(id)).await?;
    let seconds = wished(headers).transpose()?.unwrap_or(DEFAULT_SECONDS);
    let Some(object) = app.store.get_document(&keys::state(id)).await? else {
        return Err(Problem::not_found());
    };
    let doc = State::parse(&object.bytes).map_err(|e| Problem::try_again(&e.to_string()))?;
    if !who.may_access(&doc.owner, &doc.tenant) {
        return Err(Problem::not_found());
    }
    if doc.phase == Phase::Dead {
        return Err(Problem::gone("The upload has ended. Create a new one."));
    }
    let at = expires(app, seconds).ok_or_else(|| Problem::try_again(CLOCK_OFF))?;
    let tokens = app.auth.tokens();
    let token =
        tokens.and_then(|tokens| tokens.sign(&doc.owner, &doc.tenant, id, at, Instant::now()));
    let token = token.ok_or_else(Problem::no_tokens)?;
    let body = IssuedToken {
        id: id.to_string(),
        token,
        expires_in_seconds: seconds,
    };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S12
    #[test]
    fn a_token_is_told_and_not_printed() {
        let token = SecretString::from("kut_canary");
        let value = header(&token).unwrap();
        assert_eq!(value, "kut_canary");
        let body = IssuedToken {
            id: "a".into(),
            token,
            expires_in_seconds: 60,
        };
        let told = serde_json::to_value(&body).unwrap();
        assert_eq!(told["token"], "kut_canary");
        assert!(!format!("{value:?} {:?}", body.token).contains("canary"));
    }
}
