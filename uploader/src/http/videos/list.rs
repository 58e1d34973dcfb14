//! `GET /v1/videos`: an owner's videos, newest first, from the owner's index. A page reads a bounded number of videos, of
//! which not all are asked for, or the caller's: so it may be short or empty and still have a cursor.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use http::{HeaderMap, Uri};
use kinora_storage::{UploadId, documents, keys};
use kinora_upload_engine::Principal;
use serde::Serialize;
use utoipa::ToSchema;

use super::find::settled;
use super::view::{Video, VideoState, View};
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;
use crate::http::admit::admit;
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;

const LIMIT: usize = 50;
const MOST: usize = 100;
/// Most videos that a page reads.
const READS: usize = 200;
/// Videos read at a time.
const SIDE_BY_SIDE: usize = 8;
const LONGEST_OWNER: usize = 512;

/// A page of videos.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// Newest first, without `result` and `outputs`.
    pub videos: Vec<Video>,
    /// For the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

struct Asked {
    who: Principal,
    owner: documents::Owner,
    state: Option<VideoState>,
    limit: usize,
    after: Option<UploadId>,
}

pub(in crate::http) async fn list(
    app: &Arc<App>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, Problem> {
    let who = admit(app, headers, Action::List, None).await?;
    let asked = check(who, uri)?;
    Ok(Json(page(app, &asked).await?).into_response())
}

fn check(who: Principal, uri: &Uri) -> Result<Asked, Problem> {
    let query = Query::parse(uri, &["cursor", "limit", "state", "owner", "issuer"])?;
    let owner = owner(&who, &query)?;
    let state = query.get("state").map(state).transpose()?;
    let limit = query.get("limit").map(limit).transpose()?;
    let after = query.get("cursor").map(read_cursor).transpose()?;
    Ok(Asked {
        who,
        owner,
        state,
        limit: limit.unwrap_or(LIMIT),
        after,
    })
}

/// Whose videos; those of others only within the tenant, which every video is checked for.
fn owner(who: &Principal, query: &Query) -> Result<documents::Owner, Problem> {
    let own = crate::documents::owner(&who.owner);
    let Some(sub) = query.get("owner") else {
        return match query.get("issuer") {
            None => Ok(own),
            Some(_) => Err(Problem::bad_request("issuer", "issuer goes with owner.")),
        };
    };
    let iss = query.get("issuer").unwrap_or(&own.iss);
    for (name, text) in [("owner", sub), ("issuer", iss)] {
        if text.is_empty() || text.len() > LONGEST_OWNER {
            let detail = format!("{name} must have 1 to {LONGEST_OWNER} bytes.");
            return Err(Problem::bad_request(name, detail));
        }
    }
    let named = documents::Owner {
        iss: iss.to_owned(),
        sub: sub.to_owned(),
    };
    if named != own && !who.tenant_wide {
        let detail = "Other owners' videos are listed with the scope kinora:tenant only.";
        return Err(Problem::new(Kind::MissingScope, detail).field("owner"));
    }
    Ok(named)
}

fn state(word: &str) -> Result<VideoState, Problem> {
    let mut all = VideoState::ALL.into_iter();
    all.find(|state| state.word() == word).ok_or_else(|| {
        let words = VideoState::ALL.map(VideoState::word).join(", ");
        Problem::bad_request("state", format!("state must be one of {words}."))
    })
}

fn limit(text: &str) -> Result<usize, Problem> {
    let number = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    number.ok_or_else(|| Problem::bad_request("limit", format!("limit must be 1 to {MOST}.")))
}

/// A cursor names the last video that the caller could see, or a moment, and nothing else: whose videos follow is the caller's to say, every time,
/// so that a cursor opens nobody's list.
fn cursor(last: &UploadId) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{last}"))
}

fn read_cursor(text: &str) -> Result<UploadId, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let named = bytes.as_deref().and_then(|b| std::str::from_utf8(b).ok());
    named
        .and_then(|named| named.strip_prefix("1:")?.parse().ok())
        .ok_or_else(|| {
            let detail = "Send the cursor of the last page as it was, or none for the first page.";
            Problem::bad_request("cursor", detail)
        })
}

async fn page(app: &Arc<App>, asked: &Asked) -> Result<Page, Problem> {
    let hash = asked.owner.hash();
    let after = asked.after.as_ref().map(|id| keys::user_index(&hash, id));
    let listed = app
        .store
        .list(&keys::user_prefix(&hash), after.as_deref(), READS)
        .await?;
    let ids: Vec<UploadId> = listed
        .entries
        .iter()
        .filter_map(|entry| keys::upload_of(&entry.key))
        .collect();
    let end = ids.last().map(|id| moment(app, id));
    let mut looks = futures::stream::iter(ids)
        .map(|id| async move {
            let found = settled(&Driver::new(app, &id)).await;
            (id, found)
        })
        .buffered(SIDE_BY_SIDE);
    let (mut videos, mut seen, mut more) = (Vec::new(), None, listed.next.is_some());
    while let Some((id, found)) = looks.next().await {
        // A video whose record is past its retention, or of another tenant, is passed over.
        let Some(found) = found?.filter(|found| found.is_for(&asked.who)) else {
            continue;
        };
        // A full page looks for one more: a cursor to others' videos alone would tell that there are some.
        if videos.len() == asked.limit {
            more = true;
            break;
        }
        seen = Some(id);
        let fits = |state| asked.state.is_none_or(|want| want == state);
        let view = found.into_view(&asked.who).ok();
        videos.extend(view.filter(|view| fits(view.video.state)).map(View::brief));
    }
    Ok(Page {
        videos,
        cursor: seen.or(end).filter(|_| more).map(|id| cursor(&id)),
    })
}

/// When a video was begun, as an id that no video has: the place of one that the caller may not know.
fn moment(app: &App, id: &UploadId) -> UploadId {
    UploadId::from_parts(&app.cell, id.unix_ms(), 0)
}

#[cfg(test)]
mod tests {
    use kinora_upload_engine::Owner;

    use super::*;

    fn who(tenant_wide: bool) -> Principal {
        Principal {
            owner: Owner {
                iss: "apikey".into(),
                sub: "phone".into(),
            },
            tenant: "acme".into(),
            tenant_wide,
        }
    }

    /// covers: T26, F7
    #[test]
    fn what_is_asked_for_is_checked_and_names_its_parameter() {
        let id = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let good = format!("/v1/videos?limit=100&state=failed&cursor={}", cursor(&id));
        let climbing = URL_SAFE_NO_PAD.encode("1:../../records/");
        let cases = [
            ("nothing", "/v1/videos".to_owned(), false, Ok(())),
            ("all that is there", good, false, Ok(())),
            ("itself", "/v1/videos?owner=phone".into(), false, Ok(())),
            (
                "another, tenant-wide",
                "/v1/videos?owner=web".into(),
                true,
                Ok(()),
            ),
            ("another", "/v1/videos?owner=web".into(), false, Err(403)),
            (
                "another issuer",
                "/v1/videos?owner=phone&issuer=x".into(),
                false,
                Err(403),
            ),
            (
                "an issuer alone",
                "/v1/videos?issuer=x".into(),
                true,
                Err(400),
            ),
            ("no owner", "/v1/videos?owner=".into(), true, Err(400)),
            ("limit 0", "/v1/videos?limit=0".into(), false, Err(400)),
            ("limit 101", "/v1/videos?limit=101".into(), false, Err(400)),
            ("limit x", "/v1/videos?limit=x".into(), false, Err(400)),
            (
                "no such state",
                "/v1/videos?state=done".into(),
                false,
                Err(400),
            ),
            (
                "a cursor of nobody's",
                "/v1/videos?cursor=eA".into(),
                false,
                Err(400),
            ),
            (
                "a cursor that climbs",
                format!("/v1/videos?cursor={climbing}"),
                false,
                Err(400),
            ),
            ("no cursor", "/v1/videos?cursor=".into(), false, Err(400)),
            ("a typo", "/v1/videos?stat=failed".into(), false, Err(400)),
        ];
        for (name, uri, wide, want) in cases {
            let got = check(who(wide), &uri.parse().unwrap());
            let got = got
                .map(|_| ())
                .map_err(|problem| problem.kind().status().as_u16());
            assert_eq!(got, want, "{name}");
        }
    }
}
