//! `kubectl apply -k manifests/overlays/default` on a cluster that has never seen Kinora.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Case, Context, JOB, case};
use crate::stack::{SERVICE_NAMESPACE, StackOptions};
use crate::tools::repository_root;
use crate::{jobs, uploads};

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "the-kustomize-overlay-installs-on-a-fresh-cluster-and-a-video-succeeds",
        overlay
    )]
}

async fn overlay(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let overlay = edited_copy(context)?;
    let path = overlay.to_string_lossy();
    stack.cluster.kubectl(&["apply", "-k", &path])?;
    stack.namespaces_and_secrets()?;
    stack.reference_service(&context.options.images)?;
    stack
        .ready(&StackOptions {
            operator_replicas: 1,
            ..context.options.clone()
        })
        .await?;
    stack.faults(&serde_json::json!({})).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    stack
        .cluster
        .kubectl(&["delete", "-k", &path, "--wait=true", "--timeout=120s"])?;
    Ok(())
}

/// The manifests as a user edits them: images, store and service of this cluster.
fn edited_copy(context: &Context) -> Result<std::path::PathBuf> {
    let root = context.scratch.join("manifests");
    for folder in ["base", "overlays/default"] {
        copy(
            &repository_root().join("manifests").join(folder),
            &root.join(folder),
        )?;
    }
    let overlay = root.join("overlays/default");
    let store = format!("http://{}:8333", crate::cluster::STORE_HOST);
    let service = format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051");
    let tag = format!("newTag: {}", context.options.images.tag);
    edit(&overlay.join("kustomization.yaml"), "newTag: 0.1.0", &tag)?;
    edit(
        &overlay.join("store.yaml"),
        "http://store.kinora-system.svc:8333",
        &store,
    )?;
    edit(
        &overlay.join("pool.yaml"),
        "http://processing.videos.svc:50051",
        &service,
    )?;
    Ok(overlay)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn edit(file: &Path, old: &str, new: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(
        text.contains(old),
        "{} does not hold {old:?}",
        file.display()
    );
    fs::write(file, text.replace(old, new))?;
    Ok(())
}
