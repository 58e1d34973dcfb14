//! Two operators that both take themselves for the leader.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Case, Context, Crowd, LIMIT};
use crate::stack::{RELEASE_NAMESPACE, Stack};
use crate::suite::case;
use crate::suite::outages::holder;
use crate::{audit, command, wait};

const PAUSE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "a-leader-paused-for-a-minute-under-load-wakes-as-a-second-one-and-writes-nothing",
            paused
        ),
        case!(
            "a-leader-without-a-way-to-the-api-server-lets-its-workers-go-to-the-next-one",
            cut_off
        ),
    ]
}

/// covers: I2, I3, I4, I6
async fn paused(context: &Context) -> Result<()> {
    let stack = &context.stack;
    // The kubelet would end a process that does not answer for half a minute, as it should.
    patience(context, &json!(60)).await?;
    let mut crowd = Crowd::gather(context, 4, json!({"latencyMs": 1_000}), json!({})).await?;
    let outcome = two_leaders(stack, &mut crowd).await;
    patience(context, &Value::Null).await?;
    outcome?;
    let statuses = crowd.end().await?;
    let twice = statuses
        .iter()
        .filter(|(status, _)| status.attempt > 1)
        .count();
    println!(
        "    {} videos, {twice} of them leased twice, none with two results",
        statuses.len()
    );
    Ok(())
}

async fn two_leaders(stack: &Stack, crowd: &mut Crowd<'_>) -> Result<()> {
    let seen = stack.cluster.audit_log().metadata()?.len();
    crowd.upload(100).await?;
    crowd.until_some(16, "Succeeded").await?;
    let first = holder(stack).await?;
    let (_, uid) = first.split_once('_').context("holder is <pod>_<uid>")?;
    let process = Pid::from_raw(stack.cluster.container_pid(uid, "operator")?);

    kill(process, Signal::SIGSTOP).context("pause the leader")?;
    let began = Instant::now();
    let followed = wait::until("the other replica to lead", LIMIT, || async {
        let now = holder(stack).await?;
        Ok((now != first).then_some(now))
    });
    let followed = followed.await;
    let sent = crowd.upload(40).await;
    tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
    let woken = Timestamp::now();
    kill(process, Signal::SIGCONT).context("wake the leader")?;
    let second = followed?;
    sent?;
    crowd.upload(40).await?;
    wait::until("the one that was paused to step down", LIMIT, || async {
        // Its process ends; the kubelet starts it again, as a standby.
        Ok(kill(process, None).is_err().then_some(()))
    })
    .await?;
    let now = holder(stack).await?;
    ensure!(now == second, "{now} leads, not {second}");
    let late = writes_of(stack, seen, uid, woken)?;
    ensure!(
        late.is_empty(),
        "the one that was paused wrote as if it led: {}",
        late.join(", ")
    );
    Ok(())
}

/// The workers' way to the leader stays open all the time.
/// covers: F29, F40
async fn cut_off(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(context, 4, json!({"latencyMs": 2_000}), json!({})).await?;
    crowd.upload(60).await?;
    crowd.until_some(8, "Succeeded").await?;
    let first = holder(stack).await?;
    let (_, uid) = first.split_once('_').context("holder is <pod>_<uid>")?;
    let process = Pid::from_raw(stack.cluster.container_pid(uid, "operator")?);
    way_to_the_api_server(process, false)?;
    let all = async {
        crowd.upload(20).await?;
        // Nothing is mended before all have ended.
        crowd.end().await
    };
    let statuses = all.await;
    way_to_the_api_server(process, true)?;
    wait::until("the one that was cut off to step down", LIMIT, || async {
        Ok(kill(process, None).is_err().then_some(()))
    })
    .await?;
    let statuses = statuses?;
    let again = statuses.iter().filter(|(status, _)| status.attempt > 1);
    println!(
        "    {} videos, {} of them leased again",
        statuses.len(),
        again.count()
    );
    ensure!(holder(stack).await? != first, "{first} leads again");
    Ok(())
}

/// Closes or opens it, for the pod of this process.
fn way_to_the_api_server(process: Pid, open: bool) -> Result<()> {
    let rules = if open {
        "delete table inet cut\n"
    } else {
        "table inet cut {
            chain out {
                type filter hook output priority 0
                tcp dport 443 drop
            }
        }
        "
    };
    let mut nft = Command::new("nsenter");
    nft.args(["--net", "--target", &process.to_string(), "nft", "-f", "-"]);
    let what = "the operator's way to the API server";
    command::run_with_input(what, &mut nft, rules, Duration::from_secs(10)).map(|_| ())
}

/// Successful writes to jobs that came from this pod after this moment.
fn writes_of(stack: &Stack, from: u64, pod_uid: &str, after: Timestamp) -> Result<Vec<String>> {
    let all = audit::writes_from(&stack.cluster, from)?;
    let by_operators = all
        .iter()
        .filter(|write| write.by_kinora && write.resource == "videojobs/status");
    ensure!(
        by_operators.clone().any(|write| write.pod_uid == pod_uid),
        "the audit log does not tell who wrote: no write of pod {pod_uid}"
    );
    let late = by_operators.filter(|write| write.pod_uid == pod_uid && write.at > after);
    Ok(late
        .map(|write| format!("{write} of {} at {}", write.name, write.at))
        .collect())
}

/// How many times in a row the operators may leave the kubelet's question unanswered; null: as installed.
async fn patience(context: &Context, times: &Value) -> Result<()> {
    let deployments: Api<Deployment> =
        Api::namespaced(context.stack.client.clone(), RELEASE_NAMESPACE);
    let probe = json!({"name": "operator", "livenessProbe": {"failureThreshold": times}});
    let patch = json!({"spec": {"template": {"spec": {"containers": [probe]}}}});
    let params = PatchParams::default();
    deployments
        .patch("kinora-operator", &params, &Patch::Strategic(&patch))
        .await?;
    context.stack.ready(&context.options).await
}
