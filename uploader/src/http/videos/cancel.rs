//! `DELETE /v1/videos/<id>`: the end of an upload, or the wish that a video's processing ends. The wish is stored in
//! Kubernetes before it is acknowledged: in the VideoJob, which is made for it where there is none yet.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use kinora_crds::VideoJob;
use kinora_crds::names::{ANNOTATION_REDRIVES, job_name};
use kinora_storage::documents::{Active, Decision, Pending, Record, RecordState};
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::Principal;

use super::find::read;
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;
use crate::http::admit::admit;
use crate::http::answers::{crashed, may};
use crate::http::problem::{Kind, Problem};
use crate::http::uploads;
use crate::jobs::SinkError;

pub(in crate::http) async fn cancel(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let who = admit(app, headers, Action::Cancel, Some(id)).await?;
    let driver = Driver::new(app, id);
    let work = async move { uploads::terminate(&driver, &who).await };
    app.to_the_end(work)
        .await
        .map_err(|error| crashed(&error))??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Cancels a video whose upload is over. Never acknowledged before it is stored in Kubernetes.
pub(in crate::http) async fn request_cancel(
    driver: &Driver,
    who: &Principal,
) -> Result<(), Problem> {
    let Some(job) = cancellable(driver, who).await? else {
        return Ok(());
    };
    let name = job_name(driver.id.as_str());
    let jobs = &driver.app.jobs;
    if jobs.cancel(&name).await.map_err(|error| away(&error))? {
        return Ok(());
    }
    jobs.create(&job).await.map_err(|error| away(&error))?;
    // Another create may have come first, without the request to cancel.
    match jobs.cancel(&name).await.map_err(|error| away(&error))? {
        true => Ok(()),
        false => Err(Problem::try_again(
            "a VideoJob came and went while it was cancelled",
        )),
    }
}

/// The job to cancel, as it is to be made if it is not there. None: the video is cancelled already.
async fn cancellable(driver: &Driver, who: &Principal) -> Result<Option<VideoJob>, Problem> {
    for _ in 0..2 {
        let active: Option<Active> = read(driver, &keys::active(&driver.id)).await?;
        let record: Option<Record> = read(driver, &keys::record_for_upload(&driver.id)).await?;
        if let Some(active) = active {
            allow(may(who, &active.owner, &active.tenant))?;
            // The decision stays for a while after the record that ends it.
            return match record.filter(|record| record.ends(active.redrives)) {
                Some(record) => of_final(record.state),
                None if active.decision == Decision::Rejected => of_final(RecordState::Rejected),
                None => wish(active.job, active.redrives).map(Some),
            };
        }
        if let Some(record) = record {
            let owner = record.owner.as_ref();
            allow(owner.is_some_and(|owner| may(who, owner, &record.tenant)))?;
            return of_final(record.state);
        }
        let pending: Option<Pending> = read(driver, &keys::pending(&driver.id)).await?;
        if let Some(pending) = pending {
            allow(may(who, &pending.owner, &pending.tenant))?;
            return wish(pending.job, 0).map(Some);
        }
        // What was in the outbox a moment ago is decided now: once more.
    }
    Err(Problem::not_found())
}

fn allow(may: bool) -> Result<(), Problem> {
    may.then_some(()).ok_or_else(Problem::not_found)
}

/// The job with the wish in it; one of a later life says so, or the record of the last one would end it unseen.
fn wish(job: serde_json::Value, redrives: i64) -> Result<VideoJob, Problem> {
    let mut job: VideoJob = serde_json::from_value(job)
        .map_err(|error| Problem::try_again(&format!("read a VideoJob: {error}")))?;
    job.spec.cancel_requested = Some(true);
    if redrives > 0 {
        let annotations = job.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_REDRIVES.to_owned(), redrives.to_string());
    }
    Ok(job)
}

fn of_final(state: RecordState) -> Result<Option<VideoJob>, Problem> {
    match state {
        RecordState::Cancelled => Ok(None),
        RecordState::Succeeded | RecordState::Failed | RecordState::Rejected => Err(Problem::new(
            Kind::Final,
            "It cannot be cancelled any more; GET shows how it ended.",
        )),
    }
}

fn away(error: &SinkError) -> Problem {
    Problem::try_again(&error.to_string()).retry_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_carries_the_life_it_belongs_to() {
        let job = serde_json::json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "metadata": {"name": "vj-1"},
            "spec": {"source": {"key": "videos/k"}},
        });
        for (redrives, want) in [(0, None), (2, Some("2"))] {
            let job = wish(job.clone(), redrives).unwrap();
            assert_eq!(job.spec.cancel_requested, Some(true));
            let annotations = job.metadata.annotations.unwrap_or_default();
            let got = annotations.get(ANNOTATION_REDRIVES).map(String::as_str);
            assert_eq!(got, want);
        }
    }
}
