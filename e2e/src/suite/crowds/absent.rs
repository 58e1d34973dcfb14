//! What Kinora depends on goes away under load, and comes back: nobody pays for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Case, Context, Crowd, LIMIT, calls};
use crate::jobs::Calls;
use crate::stack::JOBS_NAMESPACE;
use crate::suite::case;
use crate::wait;

const OUTAGE: Duration = Duration::from_secs(60);

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("an-api-server-away-for-a-minute-under-load-costs-no-attempt-and-expires-nobody", no_api_server),
        case!("a-service-that-is-away-under-load-fills-no-dead-letters-and-comes-back-to-its-rate", no_service),
        case!("a-wrong-token-or-a-missing-route-under-load-fills-no-dead-letters", misconfigured),
    ]
}

/// covers: I5
async fn no_api_server(context: &Context) -> Result<()> {
    let faults = json!({"latencyMs": 3_000});
    let mut crowd = Crowd::gather(context, 4, faults, json!({})).await?;
    crowd.upload(80).await?;
    crowd.until_some(16, "Succeeded").await?;
    let began = Instant::now();
    crowd.stack.cluster.stop_apiserver()?;
    // Uploads are acknowledged all the same; their jobs follow.
    crowd.upload(20).await?;
    tokio::time::sleep(OUTAGE.saturating_sub(began.elapsed())).await;
    crowd.stack.cluster.start_apiserver().await?;
    let statuses = crowd.end().await?;
    let calls = Calls::read(&context.stack).await?;
    for (status, record) in &statuses {
        calls
            .exactly(1, &record.id, status)
            .context("the outage cost an attempt")?;
    }
    Ok(())
}

const RATE: u32 = 8;
const BURST: u32 = 4;
/// The breaker opens for so long at first; the outage is many times that.
const OPEN_SECONDS: u32 = 3;
const SERVICE_AWAY: Duration = Duration::from_mins(2);
const MISCONFIGURED: Duration = Duration::from_mins(2);
/// What the workers prove themselves with.
const TOKEN: &str = "the-right-one";

/// covers: I5, I7
async fn no_service(context: &Context) -> Result<()> {
    let limits = json!({"ratePerSecond": RATE, "burst": BURST});
    let breaker = json!({"openSeconds": OPEN_SECONDS, "minCalls": 4});
    let more = json!({"service": {"limits": limits, "breaker": breaker}});
    let mut crowd = Crowd::gather(context, 4, json!({"latencyMs": 300}), more).await?;
    crowd.upload(40).await?;
    crowd.until_some(20, "Succeeded").await?;
    // Held back until the service is away, so that there is enough left for the breaker to notice.
    crowd.patch_pool(json!({"suspend": true})).await?;
    crowd.upload(80).await?;
    crowd.stack.scale_service(0).await?;
    crowd.patch_pool(json!({"suspend": false})).await?;
    crowd
        .until_pool("to open its breaker", |pool| {
            pool["status"]["breaker"] == "Open"
        })
        .await?;
    tokio::time::sleep(SERVICE_AWAY).await;
    crowd.stack.scale_service(1).await?;
    crowd
        .stack
        .faults(&json!({"copy": true, "latencyMs": 300}))
        .await?;
    let paced = within_rate(&crowd).await;
    let statuses = crowd.end().await?;
    paced?;
    let waited = statuses
        .iter()
        .filter(|(status, _)| status.attempt > 1)
        .count();
    ensure!(waited > 0, "nobody noticed that the service was away");
    Ok(())
}

/// Counts the calls that the service sees until all are done: in no window more than rate and burst allow.
async fn within_rate(crowd: &Crowd<'_>) -> Result<()> {
    let began = Instant::now();
    // Before and after each look, so that the window is never taken for shorter than it was.
    let mut looks: Vec<(f64, f64, f64)> = Vec::new();
    let jobs = crowd.jobs();
    while crowd.watching.seen().count(&jobs, "Succeeded") < jobs.len() && began.elapsed() < LIMIT {
        let asked = began.elapsed().as_secs_f64();
        let calls = crowd.stack.calls().await?["total"]
            .as_f64()
            .unwrap_or_default();
        looks.push((asked, began.elapsed().as_secs_f64(), calls));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for (index, (from, _, before)) in looks.iter().enumerate() {
        for (_, to, after) in &looks[index..] {
            let most = f64::from(RATE) * (to - from) + f64::from(BURST);
            // Calls are counted where they arrive: one may have been late into the window, and one early. What a busy
            // machine held up for a second comes at once, which only a short window shows.
            let early_or_late = if to - from < 2.0 {
                f64::from(RATE)
            } else {
                2.0
            };
            ensure!(
                after - before <= most + early_or_late,
                "{} calls within {:.2} s of its recovery, at most {most:.1} are allowed",
                after - before,
                to - from
            );
        }
    }
    Ok(())
}

/// covers: I5
async fn misconfigured(context: &Context) -> Result<()> {
    let breaker = json!({"openSeconds": 1});
    let secret = json!({"name": "crowd-token"});
    let more = json!({"service": {"breaker": breaker, "tokenSecretRef": secret}});
    store_token(context).await?;
    let faults = json!({"latencyMs": 100, "token": TOKEN});
    let mut crowd = Crowd::gather(context, 2, faults, more).await?;
    for (what, faults, said) in [
        (
            "takes another token",
            json!({"copy": true, "token": "another"}),
            "ServiceMisconfigured",
        ),
        // Others succeeded a moment ago, so it may be the service that is ill.
        (
            "has no such route",
            json!({"copy": true, "token": TOKEN, "errorRate": 1.0, "errorCode": "UNIMPLEMENTED"}),
            "ServiceUnavailable",
        ),
    ] {
        let began = Instant::now();
        crowd.stack.faults(&faults).await?;
        crowd.upload(30).await?;
        let told = |pool: &Value| {
            let conditions = pool["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "ServiceHealthy" && one["reason"] == said)
            })
        };
        crowd.until_pool(&format!("to say {said}"), told).await?;
        let before = calls(crowd.stack).await?;
        let tried = format!("the breaker to try a service that {what} again and again");
        wait::until(&tried, LIMIT, || async {
            Ok((calls(crowd.stack).await? >= before + 3).then_some(()))
        })
        .await?;
        tokio::time::sleep(MISCONFIGURED.saturating_sub(began.elapsed())).await;
        let dead = crowd.watching.seen().count(&crowd.jobs(), "DeadLettered");
        ensure!(dead == 0, "a service that {what} made {dead} dead letters");
        let well = json!({"copy": true, "token": TOKEN});
        crowd.stack.faults(&well).await?;
        let jobs = crowd.jobs();
        crowd.watching.until_ended(&jobs, LIMIT).await?;
    }
    crowd.end().await.map(|_| ())
}

async fn store_token(context: &Context) -> Result<()> {
    let secret: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "crowd-token"}, "stringData": {"token": TOKEN},
    }))?;
    let api: Api<Secret> = Api::namespaced(context.stack.client.clone(), JOBS_NAMESPACE);
    let apply = PatchParams::apply("kinora-e2e").force();
    api.patch("crowd-token", &apply, &Patch::Apply(&secret))
        .await?;
    Ok(())
}
