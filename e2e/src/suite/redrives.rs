//! Dead letters, and what brings them back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kinora_crds::VideoJobRedrive;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::crowds::Crowd;
use super::outages::holder;
use super::{Case, Context, case};
use crate::stack::{CROWD, JOBS_NAMESPACE, Stack};
use crate::{jobs, promises, wait};

const LETTERS: usize = 20;
const LIMIT: Duration = Duration::from_mins(3);

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "dead-letters-come-back-once-each-through-a-pause-a-cancel-and-a-killed-leader",
        once_each
    )]
}

/// The same spec in all requests; what differs is named.
struct Requests<'a> {
    stack: &'a Stack,
    api: Api<VideoJobRedrive>,
    /// Letters of other cases are older.
    after: Timestamp,
}

impl<'a> Requests<'a> {
    fn of(stack: &'a Stack, after: Timestamp) -> Self {
        let api = Api::namespaced(stack.client.clone(), JOBS_NAMESPACE);
        Self { stack, api, after }
    }

    async fn make(&self, name: &str, more: Value) -> Result<String> {
        let mut spec = json!({
            "selector": {}, "poolName": CROWD, "reasons": ["Rejected"], "perSecond": 1,
            "finishedAfter": self.after.to_string(),
        });
        json_patch::merge(&mut spec, &more);
        let request = serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJobRedrive",
            "metadata": {"name": name, "namespace": JOBS_NAMESPACE}, "spec": spec,
        }))?;
        let made = self.api.create(&PostParams::default(), &request).await;
        let made = made.with_context(|| format!("create the redrive {name}"))?;
        made.metadata.uid.context("a redrive without a uid")
    }

    async fn patch(&self, name: &str, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let params = PatchParams::default();
        let done = self.api.patch(name, &params, &patch).await;
        done.with_context(|| format!("patch the redrive {name}"))?;
        Ok(())
    }

    /// Waits for a status, and answers it.
    async fn until(&self, name: &str, what: &str, want: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("the redrive {name} {what}"), LIMIT, || async {
            let object = serde_json::to_value(self.api.get(name).await?)?;
            let status = object["status"].clone();
            ensure!(want(&status), "its status is {status}");
            Ok(Some(status))
        })
        .await
    }

    async fn until_finished(&self, name: &str) -> Result<Value> {
        let finished = |status: &Value| condition(status, "Finished")["status"] == "True";
        self.until(name, "to finish", finished).await
    }

    /// How many of the jobs a redrive has brought back.
    async fn brought_back(&self, names: &[String]) -> Result<usize> {
        let mut count = 0;
        for name in names {
            let job = jobs::api(self.stack).get_opt(name).await?;
            count += usize::from(job.is_some_and(|job| jobs::status(&job).redrives > 0));
        }
        Ok(count)
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.into_iter()
        .find(|one| one["type"] == kind)
        .unwrap_or(&Value::Null)
}

fn count(status: &Value, field: &str) -> usize {
    usize::try_from(status[field].as_u64().unwrap_or(0)).unwrap_or(0)
}

/// covers: T13
async fn once_each(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), json!({})).await?;
    // A pool that works believes its service's verdicts.
    crowd.upload(4).await?;
    crowd.until_some(4, "Succeeded").await?;
    // Times of ends have whole seconds.
    let after = Timestamp::from_second(Timestamp::now().as_second() - 1)?;
    stack.faults(&json!({"reject": "by a fault knob"})).await?;
    crowd.upload(LETTERS).await?;
    crowd.until_some(LETTERS, "DeadLettered").await?;
    stack.faults(&json!({"copy": true})).await?;
    let letters: Vec<String> = crowd.jobs().split_off(4);

    // One of them lives in its record only.
    let (recorded, listed) = letters.split_last().context("no letters")?;
    promises::record(
        &stack.store().await?,
        &crowd.uploads[crowd.uploads.len() - 1],
    )
    .await?;
    let api = jobs::api(stack);
    api.delete(recorded, &DeleteParams::default()).await?;
    wait::until("the deleted letter to go", LIMIT, || async {
        Ok(api.get_opt(recorded).await?.is_none().then_some(()))
    })
    .await?;

    let requests = Requests::of(stack, after);
    for old in ["dry", "first", "second"] {
        let _ = requests.api.delete(old, &DeleteParams::default()).await;
    }
    requests.make("dry", json!({"dryRun": true})).await?;
    let dry = requests.until_finished("dry").await?;
    ensure!(
        count(&dry, "matched") == LETTERS && count(&dry, "redriven") == 0,
        "a dry run of {LETTERS} says {dry}"
    );
    ensure!(requests.brought_back(&letters).await? == 0, "a dry run did");

    let first = requests.make("first", json!({"suspend": true})).await?;
    let is_suspended = |status: &Value| condition(status, "Suspended")["status"] == "True";
    let held = requests
        .until("first", "to be suspended", is_suspended)
        .await?;
    ensure!(count(&held, "redriven") == 0, "while suspended: {held}");
    requests.patch("first", json!({"suspend": false})).await?;
    let some = |status: &Value| count(status, "redriven") >= 3;
    requests.until("first", "to bring some back", some).await?;
    requests
        .patch("first", json!({"cancelRequested": true}))
        .await?;
    let ended = requests.until_finished("first").await?;
    let early = requests.brought_back(&letters).await?;
    ensure!(
        (3..LETTERS).contains(&early) && count(&ended, "redriven") == early,
        "{early} of {LETTERS} are back after a cancel, and it says {ended}"
    );

    let second = requests.make("second", json!({})).await?;
    requests.until("second", "to bring some back", some).await?;
    let leader = holder(stack).await?;
    let (_, uid) = leader.split_once('_').context("holder is <pod>_<uid>")?;
    jobs::kill_container(stack, uid, "operator").await?;
    let ended = requests.until_finished("second").await?;
    let succeeded = &condition(&ended, "Succeeded")["status"];
    ensure!(
        succeeded == "True" && count(&ended, "failed") == 0,
        "the second ended so: {ended}"
    );

    let jobs = crowd.jobs();
    crowd.watching.until_ended(&jobs, LIMIT).await?;
    // What is redriven leaves its end for a new one.
    crowd.until_some(jobs.len(), "Succeeded").await?;
    promises::kept(stack, &crowd.base, &crowd.uploads).await?;
    crowd.watching.nothing_wrong()?;
    for name in listed {
        let status = jobs::status(&api.get(name).await?);
        let by = status.redriven_by.clone().unwrap_or_default();
        ensure!(
            status.redrives == 1 && (by == first || by == second),
            "{name} was brought back {} times, the last time by {by}",
            status.redrives
        );
        let calls = jobs::Calls::read(stack).await?;
        calls.exactly(2, name, &status)?;
    }
    let again = jobs::status(&api.get(recorded).await?);
    ensure!(
        again.redrives == 1,
        "{recorded}, from its record: {again:?}"
    );
    crowd.disperse().await
}
