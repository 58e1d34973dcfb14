//! The one way in: who asks, and whether this may be done now. Every handler begins here, with the
//! id that its path names.

use http::{HeaderMap, header};
use kinora_storage::UploadId;
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use kinora_upload_engine::Principal;

use super::gate::limited;
use super::problem::Problem;
use super::{token, tus};
use crate::app::App;
use crate::auth::{Action, Denied, Now};
use crate::limits::{Stop, seat};
use crate::sweep::is_off;

/// Why no token is made.
pub(super) const CLOCK_OFF: &str = "the clock that upload tokens are made by is off";

/// The caller of a request that does `action`, on `id` when it names one.
pub(super) async fn admit(
    app: &App,
    headers: &HeaderMap,
    action: Action,
    id: Option<&UploadId>,
) -> Result<Principal, Problem> {
    let who = proved(app, action, id).await?;
    go_on(app, &who, action, declared(headers)?).await?;
    if action == Action::Create {
        delegate(app, headers, &who).await?;
    }
    Ok(who)
}

/// The caller of a create that may be there already: then nothing is charged for it.
pub(super) async fn admit_repeat(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let who = proved(app, Action::Create, None).await?;
    go_on(app, &who, Action::Status, 0).await?;
    delegate(app, headers, &who).await?;
    Ok(who)
}

async fn go_on(app: &App, who: &Principal, action: Action, bytes: u64) -> Result<(), Problem> {
    let stopped = app.limits.owner(who, action, bytes, &app.store);
    stopped.await.map_err(|stop| match stop {
        Stop::Limit(reached) => limited(app, &reached),
        Stop::Unknown => Problem::try_again("what was used of a quota cannot be read"),
    })
}

/// The caller, if what the request's credential proves is good for this.
async fn proved(app: &App, action: Action, id: Option<&UploadId>) -> Result<Principal, Denied> {
    let seat = seat().ok_or(Denied::Unauthenticated)?;
    let proof = seat.proof(&app.auth, now(app)).await?;
    proof.permits(action, id)
}

/// The time by which upload tokens are judged and made.
pub(super) fn now(app: &App) -> Now {
    let at = app.store.now();
    Now {
        seconds: u64::try_from(at.as_second()).unwrap_or_default(),
        is_off: is_off(at, MAX_SKEW_SECONDS),
    }
}

/// A create that is to bring a token for a phone.
async fn delegate(app: &App, headers: &HeaderMap, who: &Principal) -> Result<(), Problem> {
    let Some(seconds) = token::wished(headers) else {
        return Ok(());
    };
    seconds?;
    proved(app, Action::Delegate, None).await?;
    if app.auth.tokens().is_none() {
        return Err(Problem::no_tokens());
    }
    if now(app).is_off {
        return Err(Problem::try_again(CLOCK_OFF));
    }
    if let Some(seat) = seat() {
        seat.set_backend(who.clone());
    }
    Ok(())
}

/// Bytes that the body is said to have; at least one where nobody says.
fn declared(headers: &HeaderMap) -> Result<u64, Problem> {
    let length = tus::bytes(headers, &header::CONTENT_LENGTH, "Content-Length")?;
    let brings = seat().is_some_and(|seat| seat.brings());
    Ok(length.unwrap_or(u64::from(brings)))
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
