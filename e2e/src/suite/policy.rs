//! Who may ask for what: the admission policy on the real API server.

use anyhow::{Result, bail, ensure};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::{Case, Context, case};
use crate::jobs;
use crate::stack::JOBS_NAMESPACE;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "a-job-that-names-a-foreign-key-is-refused-by-the-policy",
            foreign_keys
        ),
        case!("a-declared-job-may-name-its-own-imports", own_imports),
    ]
}

async fn create(
    context: &Context,
    name: &str,
    key: &str,
    labels: serde_json::Value,
) -> kube::Result<kinora_crds::VideoJob> {
    let job = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": name, "namespace": JOBS_NAMESPACE, "labels": labels},
        "spec": {"source": {"key": key}, "tenant": JOBS_NAMESPACE, "suspend": true},
    });
    let job = serde_json::from_value(job).map_err(kube::Error::SerdeError)?;
    jobs::api(&context.stack)
        .create(&PostParams::default(), &job)
        .await
}

/// covers: I9
async fn foreign_keys(context: &Context) -> Result<()> {
    let rows = [
        (
            "clip-1",
            "videos/2026-01-01/00/a-01h0000000000000000000000",
            json!({}),
            "imports/videos/",
        ),
        (
            "clip-2",
            "imports/others/clip.mp4",
            json!({}),
            "imports/videos/",
        ),
        ("vj-clip", "imports/videos/clip.mp4", json!({}), "vj-"),
        (
            "clip-3",
            "imports/videos/clip.mp4",
            json!({"kinora.dev/origin": "upload"}),
            "kinora.dev/origin",
        ),
    ];
    for (name, key, labels, says) in rows {
        match create(context, name, key, labels).await {
            Ok(_) => bail!("{name} with key {key} was admitted"),
            Err(kube::Error::Api(status)) => {
                ensure!(
                    status.message.contains(says),
                    "{name}: {:?} does not name {says:?}",
                    status.message
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn own_imports(context: &Context) -> Result<()> {
    create(
        context,
        "declared-clip",
        "imports/videos/clip.mp4",
        json!({}),
    )
    .await?;
    let job = jobs::until_state(&context.stack, "declared-clip", "Suspended", super::JOB).await?;
    ensure!(
        jobs::status(&job).attempt == 0,
        "a suspended job was claimed"
    );
    jobs::api(&context.stack)
        .delete("declared-clip", &DeleteParams::default())
        .await?;
    Ok(())
}
