//! `GET` and `DELETE /v1/videos/<id>`: where a video stands, and its cancel. Read in the order
//! state, decision with its job, record, outbox: each is there before the one before it goes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use kinora_crds::{VideoJob, conditions, state};
use kinora_storage::documents::{self as stored, Active, Decision, Pending, Record, RecordState};
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::{Phase, Principal, State};
use serde_json::{Value, json};

use super::admit::admit;
use super::answers::{Known, crashed, known, may};
use super::problem::{Kind, Problem};
use super::uploads;
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;
use crate::jobs::SinkError;

/// URLs of outputs in answers are good for this long.
const URL_LIFE: Duration = Duration::from_secs(15 * 60);

pub(super) async fn status(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let who = admit(app, headers, Action::Status, Some(id)).await?;
    let driver = Driver::new(app, id);
    Ok(Json(look(&driver, &who).await?).into_response())
}

async fn look(driver: &Driver, who: &Principal) -> Result<Value, Problem> {
    if let Some(doc) = read_state(driver).await? {
        if !who.may_access(&doc.owner, &doc.tenant) {
            return Err(Problem::not_found());
        }
        match doc.phase {
            Phase::Open | Phase::Closed => return Ok(uploading(&doc)),
            Phase::Dead => {
                let why = doc.reason.unwrap_or_default();
                return Err(Problem::gone(format!(
                    "The upload has ended ({why}). Create a new one."
                )));
            }
            Phase::Finishing => {}
        }
        return match known(driver, who).await {
            Ok(known) => of_known(driver, known).await,
            // All bytes are there; that may be said once the outbox knows it.
            Err(_) if read_pending(driver).await?.is_some() => {
                Ok(short(&driver.id, "stored", Some(doc.offset)))
            }
            Err(_) => Ok(short(&driver.id, "uploading", None)),
        };
    }
    match known(driver, who).await {
        Ok(known) => of_known(driver, known).await,
        Err(problem) => match read_pending(driver).await? {
            Some(pending) if may(who, &pending.owner, &pending.tenant) => {
                Ok(short(&driver.id, "stored", Some(pending.length)))
            }
            _ => Err(problem),
        },
    }
}

async fn read_state(driver: &Driver) -> Result<Option<State>, Problem> {
    let Some(object) = driver.app.store.get(&keys::state(&driver.id)).await? else {
        return Ok(None);
    };
    State::parse(&object.bytes)
        .map(Some)
        .map_err(|error| Problem::try_again(&error.to_string()))
}

async fn read_pending(driver: &Driver) -> Result<Option<Pending>, Problem> {
    let Some(object) = driver.app.store.get(&keys::pending(&driver.id)).await? else {
        return Ok(None);
    };
    stored::decode(&object.bytes)
        .map(Some)
        .map_err(|error| Problem::try_again(&error.to_string()))
}

fn short(id: &UploadId, state: &str, size: Option<u64>) -> Value {
    let mut answer = json!({"id": id.to_string(), "state": state});
    if let Some(size) = size {
        answer["sizeBytes"] = size.into();
    }
    answer
}

fn uploading(doc: &State) -> Value {
    let mut answer = json!({"id": doc.id, "state": "uploading"});
    if let Some(length) = doc.length {
        answer["sizeBytes"] = length.into();
    }
    // While a request writes, the offset is nobody's to tell.
    if doc.phase == Phase::Closed {
        answer["offset"] = doc.offset.into();
    }
    answer
}

async fn of_known(driver: &Driver, known: Known) -> Result<Value, Problem> {
    match known {
        Known::Record(record) => of_record(driver, &record).await,
        Known::Active(active) => of_active(driver, &active).await,
    }
}

async fn of_active(driver: &Driver, active: &Active) -> Result<Value, Problem> {
    let mut answer = short(&driver.id, "stored", Some(active.size));
    answer["times"] = serde_json::to_value(&active.times).unwrap_or_default();
    if active.decision == Decision::Rejected {
        answer["state"] = "rejected".into();
        answer["reason"] = active.reason.clone().unwrap_or_default().into();
        return Ok(answer);
    }
    let name = kinora_crds::names::job_name(driver.id.as_str());
    match driver.app.jobs.get(&name).await {
        Ok(Some(job)) => of_job(driver, &job, answer).await,
        // Not made yet, or gone after its end: then the record is there.
        Ok(None) => match driver
            .app
            .store
            .get(&keys::record_for_upload(&driver.id))
            .await?
        {
            Some(object) => {
                let record = stored::decode(&object.bytes)
                    .map_err(|error| Problem::try_again(&error.to_string()))?;
                of_record(driver, &record).await
            }
            None => Ok(answer),
        },
        Err(error) => {
            tracing::warn!(upload = %driver.id, %error, "status without Kubernetes");
            Ok(answer)
        }
    }
}

async fn of_job(driver: &Driver, job: &VideoJob, mut answer: Value) -> Result<Value, Problem> {
    let reason = job.status.as_ref().and_then(|status| {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == conditions::SUCCEEDED)?;
        Some((condition.reason.clone(), condition.message.clone()))
    });
    let rejected = reason
        .as_ref()
        .is_some_and(|(reason, _)| reason == conditions::reason::REJECTED);
    answer["state"] = match job.state() {
        state::RUNNING => "running",
        state::BACKOFF => "backoff",
        state::SUSPENDED => "suspended",
        state::SUCCEEDED => "succeeded",
        state::DEAD_LETTERED if rejected => "rejected",
        state::DEAD_LETTERED => "failed",
        state::CANCELLED => "cancelled",
        _ => "queued",
    }
    .into();
    let Some(status) = &job.status else {
        return Ok(answer);
    };
    answer["attempt"] = status.attempt.into();
    if let Some((reason, message)) = reason {
        answer["reason"] = reason.into();
        answer["message"] = message.into();
    }
    let mut outputs = Vec::new();
    for output in &status.outputs {
        let size = output.size_bytes.and_then(|size| u64::try_from(size).ok());
        outputs.push(
            present(
                driver,
                job.metadata.uid.as_deref(),
                &output.name,
                &output.uri,
                size,
                output.checksum.as_deref(),
            )
            .await?,
        );
    }
    if !outputs.is_empty() {
        answer["outputs"] = outputs.into();
    }
    Ok(answer)
}

async fn of_record(driver: &Driver, record: &Record) -> Result<Value, Problem> {
    let state = match record.state {
        RecordState::Succeeded => "succeeded",
        RecordState::Failed => "failed",
        RecordState::Rejected => "rejected",
        RecordState::Cancelled => "cancelled",
    };
    let mut answer = short(&driver.id, state, record.size);
    answer["reason"] = record.reason.clone().into();
    answer["attempt"] = record.attempts.into();
    answer["times"] = serde_json::to_value(&record.times).unwrap_or_default();
    if let Some(message) = &record.message {
        answer["message"] = message.clone().into();
    }
    if let Some(result) = &record.result {
        answer["result"] = result.clone();
    }
    let mut outputs = Vec::new();
    for output in &record.outputs {
        let checksum = output.checksum.as_deref();
        outputs.push(
            present(
                driver,
                record.job.as_ref().map(|job| job.uid.as_str()),
                &output.name,
                &output.uri,
                output.size_bytes,
                checksum,
            )
            .await?,
        );
    }
    if !outputs.is_empty() {
        answer["outputs"] = outputs.into();
    }
    Ok(answer)
}

/// One output with a URL: presigned for this job's own keys, as it is for the service's own URIs.
async fn present(
    driver: &Driver,
    job_uid: Option<&str>,
    name: &str,
    uri: &str,
    size: Option<u64>,
    checksum: Option<&str>,
) -> Result<Value, Problem> {
    let store = &driver.app.store;
    let url = match own_key(uri, store.bucket(), job_uid.unwrap_or_default()) {
        Some(key) => store.presign_get(key, URL_LIFE).await?,
        None => uri.to_owned(),
    };
    let mut output = json!({"name": name, "url": url});
    if let Some(size) = size {
        output["sizeBytes"] = size.into();
    }
    if let Some(checksum) = checksum {
        output["checksum"] = checksum.into();
    }
    Ok(output)
}

/// The key behind an output of this job. The VideoJob names it as `s3://<bucket>/<key>`, the record as a key; what a
/// service claims to be its own URI must not open another job's outputs.
fn own_key<'a>(uri: &'a str, bucket: &str, job_uid: &str) -> Option<&'a str> {
    let key = uri
        .strip_prefix("s3://")
        .and_then(|rest| rest.strip_prefix(bucket)?.strip_prefix('/'))
        .unwrap_or(uri);
    let own = key.starts_with(keys::OUTPUTS) && key.split('/').any(|part| part == job_uid);
    own.then_some(key)
}

pub(super) async fn cancel(
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
pub(super) async fn request_cancel(driver: &Driver, who: &Principal) -> Result<(), Problem> {
    let job = match known(driver, who).await {
        Ok(Known::Record(record)) => return of_final(&record),
        Ok(Known::Active(active)) => active.job,
        Err(problem) => match read_pending(driver).await? {
            Some(pending) if may(who, &pending.owner, &pending.tenant) => pending.job,
            _ => return Err(problem),
        },
    };
    let mut job: VideoJob = serde_json::from_value(job)
        .map_err(|error| Problem::try_again(&format!("read a VideoJob: {error}")))?;
    job.spec.cancel_requested = Some(true);
    let name = kinora_crds::names::job_name(driver.id.as_str());
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

fn of_final(record: &Record) -> Result<(), Problem> {
    match record.state {
        RecordState::Cancelled => Ok(()),
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
    use super::own_key;

    #[test]
    fn only_the_jobs_own_outputs_are_presigned() {
        let key = "outputs/2026-01-02/ab/uid-1/1-12345678/video";
        let as_uri = format!("s3://kinora/{key}");
        for (uri, want) in [
            (key, Some(key)),
            (as_uri.as_str(), Some(key)),
            (
                "s3://other/outputs/2026-01-02/ab/uid-1/1-12345678/video",
                None,
            ),
            ("outputs/2026-01-02/ab/uid-2/1-12345678/video", None),
            ("s3://kinora/videos/2026-01-02/ab/uid-1", None),
            ("https://service.example/labels/1", None),
        ] {
            assert_eq!(own_key(uri, "kinora", "uid-1"), want, "{uri}");
        }
    }
}
