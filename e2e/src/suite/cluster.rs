//! The ground itself: pods, Services and DNS of the local cluster.

use anyhow::{Result, ensure};

use super::{Case, Context, case};
use crate::cluster::{Cluster, Status};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a-pod-answers-through-a-service-by-its-dns-name", hello),
        case!("up-on-a-running-cluster-starts-nothing-again", up_again),
    ]
}

async fn hello(context: &Context) -> Result<()> {
    let cluster = context.stack.cluster.clone();
    let said = tokio::task::spawn_blocking(move || crate::hello::answer(&cluster)).await??;
    println!("    {said}");
    Ok(())
}

async fn up_again(context: &Context) -> Result<()> {
    let cluster = context.stack.cluster.clone();
    let (before, after) = tokio::task::spawn_blocking(move || {
        let before = cluster.status();
        Cluster::up(cluster.name())?;
        anyhow::Ok((before, cluster.status()))
    })
    .await??;
    let pids = |status: &Status| {
        status
            .components
            .iter()
            .map(|one| one.pid)
            .collect::<Vec<_>>()
    };
    ensure!(
        after.is_running() && pids(&before) == pids(&after),
        "before {before:?}, after {after:?}"
    );
    Ok(())
}
