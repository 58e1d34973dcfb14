//! From the ends of bodies and of the finish sequence to answers.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kinora_storage::documents::{Active, Owner, Record};
use kinora_storage::{StoreError, keys};
use kinora_upload_engine::finish::{DIGEST_MISMATCH, Facts, Finish, Finished, Start};
use kinora_upload_engine::media::Reason;
use kinora_upload_engine::{Decision, Principal, State};
use serde_json::json;

use super::problem::{Kind, Problem};
use crate::app::App;
use crate::digest::Whole;
use crate::drive::body::Written;
use crate::drive::{Driver, Finisher, Ram, Source};

/// A video that is stored, and whether its job exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// The job exists.
    Queued,
    /// The job follows.
    Later,
    /// Accepted as an upload of no bytes, recorded as rejected.
    Empty,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::try_again(&error.to_string())
    }
}

/// Runs the finish sequence for bytes that this request made whole.
pub(super) async fn finish_fresh(
    driver: &Driver,
    doc: &State,
    known: BTreeMap<u32, String>,
    ram: Ram,
) -> Result<Stored, Problem> {
    finish_as(driver, doc, known, ram, Decision::Accepted).await
}

/// The same for a whole file in memory: what its digests refute never becomes visible.
pub(super) async fn finish_direct(
    driver: &Driver,
    doc: &State,
    ram: Ram,
) -> Result<Stored, Problem> {
    let names: Vec<String> = doc.digests.keys().cloned().collect();
    let mut whole = Whole::of(&names);
    ram.bytes.iter().for_each(|piece| whole.update(piece));
    let verdict = if whole.values() == doc.digests {
        Decision::Accepted
    } else {
        Decision::Rejected(DIGEST_MISMATCH.into())
    };
    finish_as(driver, doc, BTreeMap::new(), ram, verdict).await
}

async fn finish_as(
    driver: &Driver,
    doc: &State,
    known: BTreeMap<u32, String>,
    ram: Ram,
    verdict: Decision,
) -> Result<Stored, Problem> {
    let facts = Facts {
        state: doc.epoch > 0,
        ..Facts::of(doc)
    };
    let machine = Finish::new(facts, Start::Fresh, verdict, known);
    let mut finisher = Finisher::new(driver.clone(), Source::State(doc), ram);
    let end = finisher.run(machine).await;
    finished(&end, doc.length, limit(driver, doc))
}

/// Runs the finish sequence for an upload that was found whole.
pub(super) async fn finish_found(
    driver: &Driver,
    doc: State,
    etag: String,
) -> Result<Stored, Problem> {
    let mut finisher = Finisher::new(driver.clone(), Source::State(&doc), Ram::default());
    let (length, limit) = (doc.length, limit(driver, &doc));
    let machine = Finish::from_state(doc, etag, Decision::Accepted);
    match finisher.run(machine).await {
        // As after the state has gone: whoever asks again learns that it is over.
        Finished::Rejected(reason) if length != Some(0) => Err(refused(&reason, limit)),
        end => finished(&end, length, limit),
    }
}

/// Seconds that the upload's profile lets a video play.
fn limit(driver: &Driver, doc: &State) -> u64 {
    driver.app.profiles.or_default(&doc.profile).max_seconds
}

fn finished(end: &Finished, length: Option<u64>, max_seconds: u64) -> Result<Stored, Problem> {
    match end {
        Finished::Accepted => Ok(Stored::Queued),
        Finished::Stored => Ok(Stored::Later),
        Finished::Rejected(_) if length == Some(0) => Ok(Stored::Empty),
        Finished::Rejected(reason) => Err(rejected(reason, max_seconds)),
        Finished::StoreLost => Err(lost()),
        Finished::Abandoned => Err(Problem::gone("The upload was given up. Create a new one.")),
        Finished::Conflict => Err(Problem::new(
            Kind::ContentConflict,
            "The upload was sent twice with different content. Create a new upload for each file.",
        )),
        Finished::GaveUp(why) => Err(Problem::try_again(why)),
    }
}

pub(super) fn lost() -> Problem {
    Problem::gone(
        "The object store lost bytes of this upload. Create a new upload and send the file again.",
    )
}

/// 410 for an upload that was refused before.
fn refused(reason: &str, max_seconds: u64) -> Problem {
    let text = format!(
        "The upload was refused: {reason}. {}",
        advice(reason, max_seconds)
    );
    Problem::gone(text.trim_end())
}

fn advice(reason: &str, max_seconds: u64) -> String {
    let known = Reason::of(reason).map(|reason| reason.advice(max_seconds));
    known.unwrap_or_default()
}

fn rejected(reason: &str, max_seconds: u64) -> Problem {
    let advice = advice(reason, max_seconds);
    Problem::new(
        Kind::Rejected,
        format!("The upload is complete, but was refused: {reason}. {advice}")
            .trim_end()
            .to_owned(),
    )
}

/// The answer to a body that did not make its upload whole; `Ok` is the offset to tell.
pub(super) fn not_whole(app: &App, written: Written) -> Result<u64, Problem> {
    match written {
        Written::Whole { doc, .. } | Written::Closed(doc) => Ok(doc.offset),
        Written::TooLong(doc) => {
            Err(beyond(doc.length.or(doc.limit).unwrap_or_default()).offset(doc.offset))
        }
        Written::Mismatch(doc) => Err(damaged().offset(doc.offset)),
        Written::ClientGone(doc) => Err(Problem::new(
            Kind::TooSlow,
            "Less than 16 KiB/s came over 30 s. What came is stored; go on from Upload-Offset.",
        )
        .offset(doc.offset)),
        Written::Asked(doc) if app.closing.is_cancelled() => {
            Err(Problem::try_again("shutting down").offset(doc.offset))
        }
        Written::Asked(doc) => Err(superseded().offset(doc.offset)),
        Written::Superseded => Err(superseded()),
        Written::Lost(_) => Err(lost()),
        Written::NotVideo(why, _) => Err(Problem::not_video(why)),
        Written::Trouble(doc, why) => Err(Problem::try_again(&why).offset(doc.offset)),
        Written::Fault(why) => Err(Problem::try_again(&why)),
    }
}

/// 413 for a body that goes on beyond this length.
pub(super) fn beyond(length: u64) -> Problem {
    Problem::too_large(format!(
        "The body goes beyond the {length} bytes that may come."
    ))
    .field("Content-Length")
}

/// 460 for a body that is not what was said of it.
pub(super) fn damaged() -> Problem {
    Problem::new(
        Kind::ChecksumMismatch,
        "Nothing of this body counts. Send it again from the offset at which it began.",
    )
}

/// The answer to a request that brought a whole file.
pub(super) fn stored_answer(driver: &Driver, stored: Stored, status: &str) -> Response {
    let state = match stored {
        Stored::Queued => "queued",
        Stored::Later => "stored",
        Stored::Empty => "rejected",
    };
    let body = json!({
        "id": driver.id.to_string(),
        "state": state,
        "status": driver.app.location(status),
    });
    (StatusCode::CREATED, Json(body)).into_response()
}

fn superseded() -> Problem {
    Problem::new(
        Kind::Superseded,
        "Ask for the offset with HEAD and go on from there, with one request at a time.",
    )
}

/// What is known of an upload without a state object.
pub(super) enum Known {
    /// Decided, not final.
    Active(Box<Active>),
    /// Final.
    Record(Box<Record>),
}

/// Looks for an upload whose state object is gone. The decision is read before the record, which
/// is there before the decision goes.
pub(super) async fn known(driver: &Driver, who: &Principal) -> Result<Known, Problem> {
    let store = &driver.app.store;
    if let Some(object) = store.get_document(&keys::active(&driver.id)).await? {
        let active: Active = kinora_storage::documents::decode(&object.bytes)
            .map_err(|error| Problem::try_again(&error.to_string()))?;
        return match may(who, &active.owner, &active.tenant) {
            true => Ok(Known::Active(Box::new(active))),
            false => Err(Problem::not_found()),
        };
    }
    let Some(object) = store
        .get_document(&keys::record_for_upload(&driver.id))
        .await?
    else {
        return Err(Problem::not_found());
    };
    let record: Record = kinora_storage::documents::decode(&object.bytes)
        .map_err(|error| Problem::try_again(&error.to_string()))?;
    match record
        .owner
        .as_ref()
        .is_some_and(|owner| may(who, owner, &record.tenant))
    {
        true => Ok(Known::Record(Box::new(record))),
        false => Err(Problem::not_found()),
    }
}

pub(super) fn may(who: &Principal, owner: &Owner, tenant: &str) -> bool {
    let owner = kinora_upload_engine::Owner {
        iss: owner.iss.clone(),
        sub: owner.sub.clone(),
    };
    who.may_access(&owner, tenant)
}

/// 500 for work that panicked: a bug, but one answer.
pub(super) fn crashed(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a request crashed");
    Problem::internal()
}

/// An empty answer of a status.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}
