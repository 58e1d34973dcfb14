//! Workers die under a long queue.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Case, Context, Crowd};
use crate::jobs::Calls;
use crate::stack::JOBS_NAMESPACE;
use crate::suite::case;

const QUEUE: usize = 500;
const WORKERS: i32 = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "half-of-the-workers-killed-under-a-queue-of-500-and-each-video-has-one-result",
        half_killed
    )]
}

/// covers: I1, I2, I3, I5
async fn half_killed(context: &Context) -> Result<()> {
    let faults = json!({"latencyMs": 400});
    let mut crowd = Crowd::gather(context, WORKERS, faults, json!({"suspend": true})).await?;
    crowd.upload(QUEUE).await?;
    let doomed = half_of_the_workers(&crowd).await?;
    crowd.patch_pool(json!({"suspend": false})).await?;
    crowd.until_some(QUEUE / 5, "Succeeded").await?;
    for (_, pid) in &doomed {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).with_context(|| format!("kill -9 {pid}"))?;
    }
    let killed = Instant::now();
    let held: Vec<(String, i32)> = {
        let seen = crowd.watching.seen();
        let sight = |job: String| Some((seen.job(&job)?.status.clone(), job));
        let all = crowd.jobs().into_iter().filter_map(sight);
        let dead = |uid: &str| doomed.iter().any(|(doomed, _)| doomed == uid);
        all.filter(|(status, _)| {
            let worker = status.worker.as_ref();
            status.state == "Running" && worker.is_some_and(|worker| dead(&worker.pod_uid))
        })
        .map(|(status, job)| (job, status.attempt))
        .collect()
    };
    let jobs = crowd.jobs();
    crowd.watching.until_ended(&jobs, super::LIMIT).await?;
    let mut again: Vec<u128> = {
        let seen = crowd.watching.seen();
        // What ended with the attempt that ran was reported before the kill.
        let later = held.iter().filter_map(|(job, attempt)| {
            let sight = seen.job(job)?;
            let claimed = sight.claimed?.saturating_duration_since(killed);
            (sight.status.attempt > *attempt).then_some(claimed.as_millis())
        });
        later.collect()
    };
    again.sort_unstable();
    let (lost, left) = (again.len(), WORKERS as usize - doomed.len());
    let stack = crowd.stack;
    let statuses = crowd.end().await?;
    ensure!(lost > 0, "nothing ran on the workers that were killed");
    // An attempt that came to no call is not one that the kill cut.
    let calls = Calls::read(stack).await?;
    let more = statuses
        .iter()
        .filter(|(_, record)| calls.of(&record.id) > 1)
        .count();
    ensure!(
        more <= doomed.len() * 4,
        "{more} jobs took another call; only {} slots were killed",
        doomed.len() * 4
    );
    println!(
        "    {} workers of {WORKERS} killed, {left} left: {lost} calls cut, leased again after {} ms (median) and {} ms (all)",
        doomed.len(),
        again[lost / 2],
        again[lost - 1],
    );
    Ok(())
}

/// Pod uid and process of every other worker.
async fn half_of_the_workers(crowd: &Crowd<'_>) -> Result<Vec<(String, i32)>> {
    let pods = crowd.stack.pods(JOBS_NAMESPACE, super::WORKERS).await?;
    let uids = pods.into_iter().filter_map(|pod| pod.metadata.uid);
    uids.step_by(2)
        .map(|uid| {
            let pid = crowd.stack.cluster.container_pid(&uid, "worker")?;
            Ok((uid, pid))
        })
        .collect()
}
