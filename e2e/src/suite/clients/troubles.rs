//! Several clients at once on slow lines while each replica is killed with -9 and then all are rolled. covers: F8

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::line::Line;
use super::program::{AIOTUS, CURL_TUS, Client, TUS_JS, TUS_JS_DRAFT_05, TUS_JS_PIECES, TUSPY};
use super::{Context, FILE_BYTES, Scene};
use crate::stack::{RELEASE_NAMESPACE, Stack, is_ready};
use crate::{jobs, wait};

const CLIENTS: [Client; 6] = [
    TUS_JS,
    TUS_JS_PIECES,
    TUS_JS_DRAFT_05,
    TUSPY,
    AIOTUS,
    CURL_TUS,
];
const AGAIN: Duration = Duration::from_mins(2);

pub(super) async fn all_at_once(context: &Context) -> Result<()> {
    let scene = Scene::set(context).await?;
    let mut desks = Vec::new();
    for client in CLIENTS {
        let (desk, line) = scene.desk(&client).await?;
        // Half the file at once; the rest takes minutes unless the line is released.
        line.slow_from(FILE_BYTES as u64 / 2);
        desks.push((client, desk, line));
    }
    let done = AtomicUsize::new(0);
    let uploads = try_join_all(desks.iter().map(|(client, desk, line)| async {
        let id = client.finish(desk, line).await?;
        done.fetch_add(1, Ordering::Relaxed);
        Ok::<_, anyhow::Error>(id)
    }));
    let lines: Vec<&Line> = desks.iter().map(|(_, _, line)| line).collect();
    let troubles = async {
        let outcome = troubles(context, &lines, &done).await;
        lines.iter().for_each(|line| line.release());
        outcome
    };
    let (ids, ()) = try_join(uploads, troubles).await?;
    scene.prove(&ids).await
}

/// Waits until all are at half, then takes one replica after the other away from them.
async fn troubles(context: &Context, lines: &[&Line], done: &AtomicUsize) -> Result<()> {
    let stack = &context.stack;
    wait::until("every client to be at half", AGAIN, || async {
        let at_half = |line: &&Line| line.sent() >= FILE_BYTES as u64 / 2;
        Ok(lines.iter().all(at_half).then_some(()))
    })
    .await?;
    for pod in replicas(stack).await? {
        killed(stack, &pod).await?;
    }
    let deployments: Api<Deployment> = Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE);
    deployments.restart("kinora-uploader").await?;
    stack.ready(&context.options).await?;
    ensure!(
        done.load(Ordering::Relaxed) == 0,
        "a client was done before the replicas were: the line is too fast"
    );
    Ok(())
}

async fn replicas(stack: &Stack) -> Result<Vec<Pod>> {
    stack
        .pods(RELEASE_NAMESPACE, "app.kubernetes.io/component=uploader")
        .await
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    containers
        .into_iter()
        .flatten()
        .map(|container| container.restart_count)
        .sum()
}

/// Kills the replica's process with -9 and waits until it serves again.
async fn killed(stack: &Stack, pod: &Pod) -> Result<()> {
    let name = pod.metadata.name.as_deref().context("a pod without name")?;
    let uid = pod.metadata.uid.as_deref().context("a pod without uid")?;
    let before = restarts(pod);
    jobs::kill_container(stack, uid, "uploader").await?;
    let pods: Api<Pod> = Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE);
    wait::until(&format!("{name} to serve again"), AGAIN, || async {
        let pod = pods.get(name).await?;
        Ok((restarts(&pod) > before && is_ready(&pod)).then_some(()))
    })
    .await
}
