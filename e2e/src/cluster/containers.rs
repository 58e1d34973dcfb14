//! containerd's side of the node: images, and which host process is a container's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectList;
use sha2::{Digest, Sha256};

use super::layout::{Layout, MARK};
use super::{Cluster, cgroup, kubectl};
use crate::command;

const LIMIT: Duration = Duration::from_mins(5);

/// Runs `ctr` in the namespace of Kubernetes' images and containers.
///
/// # Errors
/// What `ctr` said.
pub(super) fn ctr(layout: &Layout, args: &[&str]) -> Result<String> {
    let mut ctr = Command::new(command::find("ctr").unwrap_or_else(|| "ctr".into()));
    ctr.env(MARK, layout.name())
        .env("TMPDIR", layout.path("tmp"));
    ctr.arg("--address")
        .arg(layout.containerd_socket())
        .args(["--namespace", "k8s.io"])
        .args(args);
    command::run(&format!("ctr {}", args.join(" ")), &mut ctr, LIMIT)
}

/// Imports a docker-archive unless the cluster has this very content under this name. Says whether it was imported.
///
/// # Errors
/// The archive cannot be read, or what `ctr` said.
pub(super) fn import(layout: &Layout, reference: &str, archive: &Path) -> Result<bool> {
    let content = std::fs::read(archive).with_context(|| format!("read {}", archive.display()))?;
    let digest = hex::encode(Sha256::digest(&content));
    let marker = layout
        .path("images")
        .join(reference.replace(['/', ':'], "_"));
    let known = std::fs::read_to_string(&marker).is_ok_and(|text| text == digest);
    if known
        && ctr(layout, &["images", "list", "--quiet"])?
            .lines()
            .any(|line| line == reference)
    {
        return Ok(false);
    }
    ctr(layout, &["images", "import", &archive.to_string_lossy()])?;
    std::fs::write(&marker, digest).with_context(|| format!("write {}", marker.display()))?;
    Ok(true)
}

impl Cluster {
    /// Gives an image of the node another name, too.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn tag_image(&self, reference: &str, other: &str) -> Result<()> {
        let args = ["images", "tag", "--force", reference, other];
        ctr(&self.layout, &args).map(|_| ())
    }
}

/// Host process id of a container's first process.
///
/// `pod` is a pod's uid, or its name if only one pod of the cluster has it.
///
/// # Errors
/// There is no such pod or container, or it does not run.
pub(super) fn pid(layout: &Layout, pod: &str, container: &str) -> Result<i32> {
    let text = command::run(
        "list pods",
        kubectl::command(layout)?.args(["get", "pods", "--all-namespaces", "--output=json"]),
        LIMIT,
    )?;
    let pods: ObjectList<Pod> = serde_json::from_str(&text).context("read the list of pods")?;
    let is_it = |candidate: &&Pod| {
        candidate.metadata.uid.as_deref() == Some(pod)
            || candidate.metadata.name.as_deref() == Some(pod)
    };
    let found = pods
        .items
        .iter()
        .find(is_it)
        .with_context(|| format!("no pod {pod}"))?;
    let statuses = found
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let status = statuses
        .iter()
        .find(|status| status.name == container)
        .with_context(|| format!("pod {pod} has no container {container}"))?;
    let id = status
        .container_id
        .as_deref()
        .and_then(|id| id.strip_prefix("containerd://"));
    let id = id.with_context(|| format!("container {container} of pod {pod} was never started"))?;
    first_process(layout, id)
        .with_context(|| format!("container {container} of pod {pod} does not run"))
}

/// The pid that containerd holds for a container; its cgroup answers when containerd does not.
fn first_process(layout: &Layout, id: &str) -> Option<i32> {
    let listed = ctr(layout, &["tasks", "list"]).unwrap_or_default();
    let by_containerd = listed
        .lines()
        .find(|line| line.starts_with(id))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    by_containerd
        .filter(|pid| super::processes::alive(*pid))
        .or_else(|| cgroup::processes_of(layout, id).first().copied())
}
