//! The client's own ledger: every upload that was acknowledged is looked up at the end, wherever Kinora may show it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kinora_crds::VideoJobStatus;
use kinora_storage::documents::{Record, RecordState, decode};
use kinora_storage::{Store, keys};

use crate::stack::Stack;
use crate::uploads::{self, Uploaded};
use crate::{jobs, wait};

/// Records follow a job's end.
const SOON: Duration = Duration::from_mins(5);
const AT_ONCE: usize = 16;

/// Looks up that each upload has exactly one result: one final record, the outputs it names in the store, and the same told
/// by the status API and by the VideoJob while that is there. Answers the records.
///
/// # Errors
/// The first promise that was not kept.
pub async fn kept(stack: &Stack, base: &str, uploads: &[Uploaded]) -> Result<Vec<Record>> {
    kept_for(stack, base, uploads, |_| stack.api_key.clone()).await
}

/// The same for uploads of several callers.
///
/// # Errors
/// As [`kept`].
pub async fn kept_for(
    stack: &Stack,
    base: &str,
    uploads: &[Uploaded],
    key_of: impl Fn(&Uploaded) -> String,
) -> Result<Vec<Record>> {
    let store = stack.store().await?;
    let look = |upload: Uploaded| {
        let (store, api_key) = (&store, key_of(&upload));
        async move {
            let looked = one(stack, store, (base, &api_key), &upload).await;
            looked.with_context(|| format!("what became of upload {}", upload.id))
        }
    };
    stream::iter(uploads.to_vec())
        .map(look)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn one(
    stack: &Stack,
    store: &Store,
    (base, api_key): (&str, &str),
    upload: &Uploaded,
) -> Result<Record> {
    let record = record(store, upload).await?;
    ensure!(
        record.state == RecordState::Succeeded && !record.outputs.is_empty(),
        "its record says {:?} with {} outputs: {:?}",
        record.state,
        record.outputs.len(),
        record.message
    );
    for output in &record.outputs {
        let head = store.head(&output.uri).await?;
        ensure!(head.is_some(), "its output {} is not there", output.uri);
    }
    let video = uploads::video_as(stack, api_key, base, &upload.id).await?;
    let told = video["outputs"].as_array().map_or(0, Vec::len);
    ensure!(
        video["state"] == "succeeded" && told == record.outputs.len(),
        "the status API says {video}"
    );
    // One that the control plane brought back out of its past goes, or comes to the same end.
    wait::until("its VideoJob to say the same", SOON, || async {
        let job = jobs::api(stack).get_opt(&upload.job()).await?;
        job.map_or(Ok(()), |job| same(&jobs::status(&job), &record))?;
        Ok(Some(()))
    })
    .await?;
    Ok(record)
}

/// The final record of an upload, once it is there.
///
/// # Errors
/// It is not within minutes.
pub async fn record(store: &Store, upload: &Uploaded) -> Result<Record> {
    let key = keys::record_for_upload(&upload.id.parse()?);
    wait::until(&format!("the record of {}", upload.id), SOON, || async {
        let object = store.get(&key).await?;
        Ok(object.map(|object| decode(&object.bytes)).transpose()?)
    })
    .await
}

/// One result: what etcd holds is what the record holds.
fn same(status: &VideoJobStatus, record: &Record) -> Result<()> {
    ensure!(
        i64::from(status.attempt) == record.attempts && status.state == "Succeeded",
        "two results: the record is of attempt {}, the job is {} at attempt {}",
        record.attempts,
        status.state,
        status.attempt
    );
    for (stored, recorded) in status.outputs.iter().zip(&record.outputs) {
        ensure!(
            stored.uri.ends_with(&recorded.uri),
            "two results: {} and {}",
            stored.uri,
            recorded.uri
        );
    }
    Ok(())
}
