//! `POST /v1/videos/<id>/erase`: the wish that a video is erased for good, by the policy of this installation.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kinora_storage::UploadId;
use kinora_storage::documents::VERSION;
use kinora_upload_engine::Principal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::find::{What, find};
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;
use crate::erase::{self, Carried, EraseError, ErasePolicy, Erasure, Happened};
use crate::http::admit::admit;
use crate::http::answers::crashed;
use crate::http::problem::{Kind, Problem};
use crate::http::{tus, uploads};

const MOST_BYTES: usize = 4 << 10;
const MOST_REASON: usize = 512;

/// Why a video is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// For the audit trail: 1 to 512 characters, without the person's name.
    #[schema(
        min_length = 1,
        max_length = 512,
        example = "request 4711 of the data subject"
    )]
    pub reason: String,
}

/// How far a wish has come.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErasureState {
    /// The video is gone; a tombstone says that it was.
    Erased,
    /// It is cancelled, and erased once it is at its end.
    Pending,
    /// The policy keeps the wish for later.
    Deferred,
}

/// The answer to a wish.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasureAnswer {
    /// The video.
    pub id: String,
    /// How far it has come.
    pub erasure: ErasureState,
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        Self::try_again(&error.to_string())
    }
}

pub(in crate::http) async fn erase(
    app: &Arc<App>,
    id: &UploadId,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let who = admit(app, &parts.headers, Action::Erase, Some(id)).await?;
    if tus::media_type(&parts.headers).as_deref() != Some("application/json") {
        let detail = "Send Content-Type: application/json.";
        return Err(Problem::new(Kind::ContentType, detail).field("Content-Type"));
    }
    let reason = reason(body).await?;
    let driver = Driver::new(app, id);
    let work = async move { ask(&driver, who, reason).await };
    let state = app
        .to_the_end(work)
        .await
        .map_err(|error| crashed(&error))??;
    let status = match state {
        ErasureState::Erased => StatusCode::OK,
        ErasureState::Pending | ErasureState::Deferred => StatusCode::ACCEPTED,
    };
    let answer = ErasureAnswer {
        id: id.to_string(),
        erasure: state,
    };
    Ok((status, Json(answer)).into_response())
}

async fn reason(body: Body) -> Result<String, Problem> {
    let bytes = to_bytes(body, MOST_BYTES)
        .await
        .map_err(|_| Problem::too_large("The body has at most 4 KiB.").field("body"))?;
    let request: EraseRequest = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request("body", format!("Send {{\"reason\": \"…\"}}: {error}."))
    })?;
    let length = request.reason.chars().count();
    if !(1..=MOST_REASON).contains(&length) {
        let detail = format!("reason must have 1 to {MOST_REASON} characters.");
        return Err(Problem::bad_request("reason", detail));
    }
    Ok(request.reason)
}

async fn ask(driver: &Driver, who: Principal, reason: String) -> Result<ErasureState, Problem> {
    let app = &driver.app;
    let found = find(driver).await?.filter(|found| found.is_for(&who));
    let found = found.ok_or_else(Problem::not_found)?;
    if found.what == What::Erased && erase::is_through(app, &driver.id).await? {
        return Ok(ErasureState::Erased);
    }
    let erasure = Erasure {
        v: VERSION,
        id: driver.id.clone(),
        tenant: who.tenant.clone(),
        by: crate::documents::owner(&who.owner),
        reason,
        requested: app.store.now(),
        index_key: None,
        job_uid: None,
        locked: None,
        erased: None,
        extra: serde_json::Map::new(),
    };
    if app.erase == ErasePolicy::Refuse {
        erase::audit(app, &erasure, Happened::Refused).await?;
        let detail = "Videos are kept here for as long as their retention says.";
        return Err(Problem::new(Kind::EraseRefused, detail));
    }
    if erase::is_held(app, &driver.id).await? {
        erase::audit(app, &erasure, Happened::Held).await?;
        return Err(held());
    }
    let (erasure, new) = erase::wish(app, &erasure).await?;
    if new {
        erase::audit(app, &erasure, Happened::Requested).await?;
    }
    if app.erase == ErasePolicy::Defer {
        return Ok(ErasureState::Deferred);
    }
    end(driver, &who).await?;
    match erase::carry_out(driver, erasure).await? {
        Carried::Erased => Ok(ErasureState::Erased),
        Carried::NotYet => Ok(ErasureState::Pending),
        Carried::Held => Err(held()),
    }
}

fn held() -> Problem {
    let detail = "An administrator holds this video. It can be erased when the hold is removed.";
    Problem::new(Kind::Held, detail)
}

/// Ends what still goes on: the upload, or the processing.
async fn end(driver: &Driver, who: &Principal) -> Result<(), Problem> {
    match uploads::terminate(driver, who).await {
        Ok(()) => Ok(()),
        Err(problem) => match problem.kind() {
            Kind::Final | Kind::Gone | Kind::Rejected | Kind::NotFound => Ok(()),
            _ => Err(problem),
        },
    }
}
