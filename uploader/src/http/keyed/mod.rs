//! Creates with an `Idempotency-Key`: however often the request comes, on whichever replica, there is one upload. The
//! first to store the key's entry chooses the id; everybody else goes on with that id, or answers what became of it.
//! A crash between entry and upload is no case of its own: the retry makes the upload under the id of the entry.

mod entry;

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;
use kinora_storage::{Condition, UploadId, keys};
use kinora_upload_engine::Principal;
use kinora_upload_engine::open::{Goal, Opened};
use serde_json::json;
use tokio::time::Instant;

use super::admit::admit_repeat;
use super::answers::finish_found;
use super::problem::{Kind, Problem};
use super::protocol::Protocol;
use super::videos::find::{Found, What, find, settled};
use super::videos::view::{Video, VideoState};
use super::{create, linger, set, standing, tus};
use crate::app::App;
use crate::drive::Driver;
use entry::{Claim, Entry, Speaks, hash};

/// Names the create, so that it can be repeated.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// An entry is good for this long by the store's clock.
pub const KEPT_MS: i64 = 7 * 24 * 3_600_000;
const LONGEST: usize = 128;
/// Whoever loses so often is told to come again.
const ROUNDS: usize = 5;

/// The id that an entry promises to the create that carries this, and since when nothing was there.
#[derive(Clone, Debug)]
struct Promised(UploadId, Instant);

/// Who makes the upload of a create: under the promised id, else under a new one.
pub(super) fn driver(app: &Arc<App>, extensions: &http::Extensions) -> Driver {
    match extensions.get::<Promised>() {
        None => Driver::new(app, &app.mint()),
        Some(Promised(id, since)) => Driver::new(app, id).promised(*since),
    }
}

/// A key as a client sent it, or one that a batch made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key of a request, with or without the quotes of a structured field.
    ///
    /// # Errors
    /// 400 for one that cannot be used.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        Self::parse(value.to_str().unwrap_or_default()).map(Some)
    }

    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let text = quoted.unwrap_or(text);
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if (1..=LONGEST).contains(&text.len()) && plain {
            return Ok(Self(text.to_owned()));
        }
        let detail = format!(
            "An idempotency key has 1 to {LONGEST} printable ASCII characters, without spaces and quotes."
        );
        Err(Problem::bad_request("Idempotency-Key", detail))
    }

    /// Of one item of a batch. No client can send it, as it has a space.
    pub(super) fn item(&self, at: usize) -> Self {
        Self(format!("{} {at}", self.0))
    }
}

/// A create, repeated or not.
pub(super) async fn create(app: &Arc<App>, request: Request) -> Result<Response, Problem> {
    let key = Key::of(request.headers())?;
    create_as(app, request, key).await
}

/// The same with a key that need not be a header's.
pub(super) async fn create_as(
    app: &Arc<App>,
    request: Request,
    key: Option<Key>,
) -> Result<Response, Problem> {
    match key {
        None => create::create(app, request).await,
        Some(key) => Box::pin(create_once(app, request, key)).await,
    }
}

/// The same with a key.
async fn create_once(app: &Arc<App>, request: Request, key: Key) -> Result<Response, Problem> {
    let who = admit_repeat(app, request.headers()).await?;
    let speaks = Speaks::of(request.headers())?;
    let most = create::most(app, request.headers())?;
    let entry = Entry {
        app,
        at: keys::idem(&crate::documents::owner(&who.owner).hash(), &key.0),
        hash: hash(request.headers(), speaks),
    };
    let (parts, body) = request.into_parts();
    let mut repeatable = body.is_end_stream();
    // Whoever brings the whole again takes every 2xx for its end, and has no URL to go on with.
    let takes_over = match speaks {
        Speaks::Plain => true,
        Speaks::Draft(draft) => draft.complete == Some(true) && !repeatable,
        Speaks::Tus => false,
    };
    let mut body = Some(body);
    loop {
        let since = Instant::now();
        let id = match settle(&entry, &who, speaks, takes_over, most).await? {
            Settled::Create(id) => id,
            Settled::Answer(answer) => {
                // An answer that comes before its body was read would break the client's pipe.
                if let Some(body) = body.filter(|_| !parts.headers.contains_key(header::EXPECT)) {
                    let received = &app.metrics.received_bytes;
                    linger::read_through(body, most, received, &app.closing).await;
                }
                return Ok(*answer);
            }
        };
        let mut request = Request::from_parts(parts.clone(), body.take().unwrap_or_default());
        request.extensions_mut().insert(Promised(id, since));
        match create::create(app, request).await {
            // Somebody else made it meanwhile: then that is the answer.
            Err(problem) if repeatable && problem.kind() == Kind::TryAgain => repeatable = false,
            answer => return answer,
        }
    }
}

enum Settled {
    /// The upload is to be made, under this id.
    Create(UploadId),
    /// It is there; this is the answer.
    Answer(Box<Response>),
}

/// `takes_over`: what an earlier try left unfinished makes room for this one. `most`: bytes that the upload may have.
async fn settle(
    entry: &Entry<'_>,
    who: &Principal,
    speaks: Speaks,
    takes_over: bool,
    most: u64,
) -> Result<Settled, Problem> {
    let mut condition = Condition::IfAbsent;
    for _ in 0..ROUNDS {
        let (id, etag) = match entry.claim(condition).await? {
            Claim::Ours(id) => return Ok(Settled::Create(id)),
            Claim::Theirs(id, etag) => (id, etag),
            Claim::Stale(etag) => {
                condition = Condition::IfMatch(etag);
                continue;
            }
        };
        let driver = Driver::new(entry.app, &id);
        let over = match find(&driver).await? {
            // Its maker is at it, or died before there was anything to see.
            None => return Ok(Settled::Create(id)),
            // Whose it was is not known any more; the key is its owner's.
            Some(Found {
                what: What::Erased, ..
            }) => true,
            Some(found) if !found.is_for(who) => return Err(Problem::not_found()),
            Some(Found {
                what: What::Ended(_),
                ..
            }) => true,
            // Whoever has it still brings it again.
            Some(Found {
                what: What::Video(view),
                ..
            }) if view.video.is_lost() => true,
            Some(Found {
                what: What::Video(view),
                ..
            }) => {
                let video = view.video;
                if video.state != VideoState::Uploading || !takes_over {
                    let answer = replay(&driver, &video, speaks, most)?;
                    return Ok(Settled::Answer(Box::new(answer)));
                }
                // A whole body that broke off, or is about to: this request takes its place, if it may have an id, unless it
                // came late and another's video is decided.
                entry.mint().map_err(Problem::try_again)?;
                end_first(&driver, who).await? && settled(&driver).await?.is_none()
            }
        };
        condition = if over {
            Condition::IfMatch(etag)
        } else {
            Condition::IfAbsent
        };
    }
    Err(Problem::try_again(
        "others create under the same idempotency key",
    ))
}

/// Ends the upload of an earlier try; false if it is whole after all.
async fn end_first(driver: &Driver, who: &Principal) -> Result<bool, Problem> {
    match driver.open(Goal::Terminate, Some(who.clone())).await {
        Opened::Dead { doc, .. } => {
            driver.end(&doc).await;
            Ok(true)
        }
        Opened::Whole(doc, etag) => finish_found(driver, *doc, etag).await.map(|_| false),
        Opened::Missing => Ok(false),
        other => Err(Problem::try_again(&format!(
            "end an earlier try of a create: {other:?}"
        ))),
    }
}

/// The answer of the create that made the upload.
fn replay(driver: &Driver, video: &Video, speaks: Speaks, most: u64) -> Result<Response, Problem> {
    let (app, id) = (&driver.app, &driver.id);
    let refused = video.state == VideoState::Rejected && video.attempt.unwrap_or(0) == 0;
    if refused && video.size_bytes != Some(0) {
        let reason = video.reason.as_deref().unwrap_or_default();
        let detail = format!("The upload is complete, but was refused: {reason}.");
        return Err(Problem::new(Kind::Rejected, detail));
    }
    let status = format!("/v1/videos/{id}");
    let uploading = video.state == VideoState::Uploading;
    let mut answer = if speaks == Speaks::Tus || uploading {
        StatusCode::CREATED.into_response()
    } else {
        let body = json!({
            "id": id.to_string(), "state": video.state.word(), "status": app.location(&status),
        });
        (StatusCode::CREATED, Json(body)).into_response()
    };
    let path = match speaks {
        Speaks::Plain => status,
        Speaks::Tus | Speaks::Draft(_) => format!("/v1/uploads/{id}"),
    };
    if let Ok(location) = HeaderValue::from_str(&app.location(&path)) {
        set(&mut answer, header::LOCATION, location);
    }
    let offset = if uploading {
        video.offset
    } else {
        video.size_bytes
    };
    match (speaks, offset) {
        (Speaks::Draft(draft), offset) => {
            standing::of_draft(&mut answer, driver, draft, offset, !uploading);
            if uploading {
                standing::limit(&mut answer, driver, most);
            }
        }
        (Speaks::Tus, Some(offset)) => set(&mut answer, tus::UPLOAD_OFFSET, offset),
        (Speaks::Tus, None) | (Speaks::Plain, _) => {}
    }
    if uploading && speaks == Speaks::Tus {
        standing::expiry(&mut answer, driver, Protocol::Tus);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F7
    #[test]
    fn keys_are_short_and_printable() {
        let long = "k".repeat(LONGEST);
        let longer = "k".repeat(LONGEST + 1);
        for (text, want) in [
            ("8e03978e-40d5-43dd", Some("8e03978e-40d5-43dd")),
            ("\"quoted\"", Some("quoted")),
            (long.as_str(), Some(long.as_str())),
            (longer.as_str(), None),
            ("", None),
            ("\"\"", None),
            ("a b", None),
            ("a\"b", None),
            ("ключ", None),
        ] {
            let got = Key::parse(text).ok();
            assert_eq!(got.as_ref().map(|key| key.0.as_str()), want, "{text}");
        }
        let item = Key("k".into()).item(3);
        assert!(Key::parse(&item.0).is_err(), "no client can send it");
    }
}
