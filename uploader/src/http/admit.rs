//! The one way in: who asks, and whether this may be done now. Every handler begins here, with the
//! id that its path names.

use http::HeaderMap;
use kinora_storage::UploadId;
use kinora_upload_engine::Principal;

use super::problem::Problem;
use crate::app::App;
use crate::auth::Action;

/// The caller of a request that does `action`, on `id` when it names one.
pub(super) async fn admit(
    app: &App,
    headers: &HeaderMap,
    action: Action,
    id: Option<&UploadId>,
) -> Result<Principal, Problem> {
    Ok(app.auth.authenticate(headers, action, id).await?)
}

/// The answer to a path whose id is none: even this says nothing to strangers.
pub(super) async fn no_such<T>(
    app: &App,
    headers: &HeaderMap,
    action: Action,
    problem: Problem,
) -> Result<T, Problem> {
    admit(app, headers, action, None).await.and(Err(problem))
}
