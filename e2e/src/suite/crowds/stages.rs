//! A job that people edit, suspend, cancel or delete at every stage of its life: a table of stage by deed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kinora_crds::state;
use kinora_storage::documents::RecordState;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Case, Context, Crowd, LIMIT, calls};
use crate::stack::Stack;
use crate::suite::case;
use crate::uploads::Uploaded;
use crate::{jobs, promises, wait};

const SOON: Duration = Duration::from_mins(2);

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "a-job-edited-suspended-cancelled-or-deleted-at-every-stage-ends-as-the-table-says",
        every_stage
    )]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Edit,
    Suspend,
    Cancel,
    Delete,
}

const DEEDS: [Deed; 4] = [Deed::Edit, Deed::Suspend, Deed::Cancel, Deed::Delete];

/// One row: jobs that were brought to a stage, and what each deed makes of them.
struct Row {
    /// The state in which the deeds find them.
    stage: &'static str,
    /// State after edit, suspend and cancel: soon, while the pool is suspended, and calls go on.
    then: [&'static str; 3],
    /// How the record says that they ended: after edit, suspend (and resume), cancel, delete.
    ends: [RecordState; 4],
}

const CANCELLED: RecordState = RecordState::Cancelled;
const SUCCEEDED: RecordState = RecordState::Succeeded;
const REJECTED: RecordState = RecordState::Rejected;

const TABLE: [Row; 5] = [
    Row {
        stage: state::SUCCEEDED,
        then: [state::SUCCEEDED; 3],
        ends: [SUCCEEDED; 4],
    },
    Row {
        stage: state::DEAD_LETTERED,
        then: [state::DEAD_LETTERED; 3],
        ends: [REJECTED; 4],
    },
    Row {
        stage: state::BACKOFF,
        then: [state::BACKOFF, state::SUSPENDED, state::CANCELLED],
        ends: [SUCCEEDED, SUCCEEDED, CANCELLED, CANCELLED],
    },
    Row {
        stage: state::RUNNING,
        // A running attempt finishes and counts.
        then: [state::RUNNING, state::RUNNING, state::CANCELLED],
        ends: [SUCCEEDED, SUCCEEDED, CANCELLED, CANCELLED],
    },
    Row {
        stage: state::QUEUED,
        then: [state::QUEUED, state::SUSPENDED, state::CANCELLED],
        ends: [SUCCEEDED, SUCCEEDED, CANCELLED, CANCELLED],
    },
];

/// covers: I4
async fn every_stage(context: &Context) -> Result<()> {
    let more = json!({"service": {"adaptive": {"enabled": false}}});
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), more).await?;
    let (stack, store) = (crowd.stack, crowd.stack.store().await?);
    for row in &TABLE {
        bring(&mut crowd, row.stage).await?;
    }
    let rows: Vec<Vec<Uploaded>> = crowd
        .uploads
        .chunks(DEEDS.len())
        .map(<[_]>::to_vec)
        .collect();
    for (row, uploads) in TABLE.iter().zip(&rows) {
        for (deed, upload) in DEEDS.iter().zip(uploads) {
            let done = act(stack, *deed, &upload.job()).await;
            done.with_context(|| format!("{deed:?} a job that is {}", row.stage))?;
        }
    }
    for (row, uploads) in TABLE.iter().zip(&rows) {
        for (want, upload) in row.then.iter().zip(uploads) {
            let what = format!("to be {want} (it was {})", row.stage);
            jobs::until(stack, &upload.job(), &what, SOON, |status| {
                status.state == *want
            })
            .await?;
        }
        gone(stack, &uploads[3]).await?;
    }
    // The calls that run hold their slots for long; they end when their workers' knob says so no more.
    stack.faults(&json!({"copy": true})).await?;
    crowd.patch_pool(json!({"suspend": false})).await?;
    for uploads in &rows {
        edit(stack, &uploads[1].job(), &json!({"suspend": false})).await?;
    }
    for (row, uploads) in TABLE.iter().zip(&rows) {
        for ((want, deed), upload) in row.ends.iter().zip(DEEDS).zip(uploads) {
            let record = promises::record(&store, upload).await;
            let record = record.with_context(|| format!("{deed:?} while {}", row.stage))?;
            let is = record.state;
            ensure!(
                is == *want,
                "{deed:?} while {}: the record says {is:?}, not {want:?}",
                row.stage
            );
        }
        // What was deleted is not made again.
        gone(stack, &uploads[3]).await?;
    }
    crowd.watching.nothing_wrong()?;
    crowd.disperse().await
}

/// Uploads four videos and waits until their jobs are at this stage.
async fn bring(crowd: &mut Crowd<'_>, stage: &str) -> Result<()> {
    let faults = match stage {
        state::DEAD_LETTERED => json!({"reject": "by a fault knob"}),
        state::BACKOFF => json!({"throttleRate": 1.0, "retryAfterMs": 45_000, "next": DEEDS.len()}),
        state::RUNNING => json!({"copy": true, "latencyMs": 40_000}),
        _ => json!({"copy": true}),
    };
    crowd.stack.faults(&faults).await?;
    if stage == state::QUEUED {
        crowd.patch_pool(json!({"suspend": true})).await?;
        let suspended = |pool: &Value| {
            let conditions = pool["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Suspended" && one["status"] == "True")
            })
        };
        crowd.until_pool("to be suspended", suspended).await?;
    }
    let before = calls(crowd.stack).await?;
    crowd.upload(DEEDS.len()).await?;
    crowd.until_some(DEEDS.len(), stage).await?;
    if stage != state::RUNNING {
        return Ok(());
    }
    // A job runs from its claim on; what its call is to suffer is known when it begins.
    let begun = i64::try_from(DEEDS.len())?;
    wait::until("the calls to begin", LIMIT, || async {
        Ok((calls(crowd.stack).await? >= before + begun).then_some(()))
    })
    .await
}

async fn act(stack: &Stack, deed: Deed, job: &str) -> Result<()> {
    match deed {
        Deed::Edit => {
            edit(stack, job, &json!({"priority": 7})).await?;
            let refused = edit(stack, job, &json!({"source": {"key": "videos/other"}})).await;
            let problem = refused
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            ensure!(
                problem.contains("source"),
                "another source is not refused by name: {problem:?}"
            );
            Ok(())
        }
        Deed::Suspend => edit(stack, job, &json!({"suspend": true})).await,
        Deed::Cancel => edit(stack, job, &json!({"cancelRequested": true})).await,
        Deed::Delete => {
            jobs::api(stack)
                .delete(job, &DeleteParams::default())
                .await?;
            Ok(())
        }
    }
}

async fn edit(stack: &Stack, job: &str, spec: &Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    jobs::api(stack)
        .patch(job, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn gone(stack: &Stack, upload: &Uploaded) -> Result<()> {
    wait::until(&format!("{} to be gone", upload.job()), LIMIT, || async {
        let job = jobs::api(stack).get_opt(&upload.job()).await?;
        Ok(job.is_none().then_some(()))
    })
    .await
}
