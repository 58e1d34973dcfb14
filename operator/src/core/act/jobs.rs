//! Calls to the API server about one VideoJob.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kinora_crds::conditions::STALLED;
use kinora_crds::{VideoJob, names};
use kinora_engine::{Rv, Token, Uid};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::super::tally::count;
use super::{Actor, Address, CLAIM_TIMEOUT, Outcome, READ_TIMEOUT, RENEW_DEADLINE, WRITE_TIMEOUT};

const READ_AGAIN: Duration = Duration::from_millis(200);
const READ_AGAIN_CAP: Duration = Duration::from_secs(5);
/// Of reads that fail in a row one in so many is logged.
const LOGGED_READS: u32 = 100;
const FAILED_AGAIN: Duration = Duration::from_millis(100);
const FAILED_AGAIN_CAP: Duration = Duration::from_secs(5);

/// What kind of write it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bound to the leader lease, and quick.
    Claim,
    /// Anything else.
    Plain,
    /// Of a job in an end state: its conditions keep the messages that only the object holds.
    Observed,
}

impl Actor {
    /// Writes a status; the patch carries the resourceVersion. The permit is given back before the call is done.
    pub(crate) fn write(
        &self,
        job: Uid,
        token: Token,
        address: Address,
        patch: Value,
        kind: Kind,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let _permit = permit;
            let api = actor.api(&address);
            match kind {
                Kind::Claim if actor.renewed.borrow().elapsed() >= RENEW_DEADLINE => {
                    Outcome::NotSent
                }
                Kind::Claim => actor.patch(&api, &address, &patch, CLAIM_TIMEOUT).await,
                Kind::Plain => actor.patch(&api, &address, &patch, WRITE_TIMEOUT).await,
                Kind::Observed => {
                    let Some(patch) = actor.keep_messages(&api, &address, patch).await else {
                        return Outcome::Unknown;
                    };
                    actor.patch(&api, &address, &patch, WRITE_TIMEOUT).await
                }
            }
        });
    }

    async fn patch(
        &self,
        api: &Api<VideoJob>,
        address: &Address,
        patch: &Value,
        limit: Duration,
    ) -> Outcome {
        let params = PatchParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(patch);
        let call = api.patch_status(&address.name, &params, &body);
        match timeout(limit, call).await {
            Ok(Ok(written)) => {
                count(&self.counters.writes);
                self.failing.store(0, Ordering::Relaxed);
                Outcome::Written(Box::new(written))
            }
            Ok(Err(error)) => {
                let outcome = self.failed_write(address, &error);
                if matches!(outcome, Outcome::Unknown) && !is_conflict(&error) {
                    // Nothing but this pause keeps it from being read and decided again at once, while etcd is full or away.
                    let nth = self.failing.fetch_add(1, Ordering::Relaxed);
                    let draw = rand::rng().random_range(0.5..1.0);
                    tokio::time::sleep(pause(nth, asked_to_wait(&error), draw)).await;
                }
                outcome
            }
            Err(_) => {
                count(&self.counters.unknown_writes);
                tracing::warn!(job = %address.name, uid = %address.uid, "write of status timed out");
                Outcome::Unknown
            }
        }
    }

    fn failed_write(&self, address: &Address, error: &kube::Error) -> Outcome {
        let (counter, outcome) = match status_code(error) {
            Some(404) => return Outcome::Gone,
            Some(409) => (&self.counters.conflicts, Outcome::Unknown),
            Some(400 | 403 | 405 | 413 | 415 | 422) => {
                (&self.counters.refused_writes, Outcome::Refused)
            }
            Some(_) | None => (&self.counters.unknown_writes, Outcome::Unknown),
        };
        count(counter);
        if !is_conflict(error) {
            tracing::warn!(job = %address.name, uid = %address.uid, error = %error, "write of status failed");
        }
        outcome
    }

    /// Reads the job from etcd, as often as it takes.
    pub(crate) fn read(&self, job: Uid, token: Token, address: Address) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let api = actor.api(&address);
            let mut wait = READ_AGAIN;
            count(&actor.counters.reads);
            loop {
                let jitter = rand::rng().random_range(0.5..1.0);
                let due = Instant::now() + wait.mul_f64(jitter);
                match actor.read_once(&api, &address).await {
                    Some(Some(found)) => return Outcome::Found(Box::new(found)),
                    Some(None) => return Outcome::Gone,
                    None => count(&actor.counters.read_retries),
                }
                tokio::time::sleep_until(due).await;
                wait = (wait * 2).min(READ_AGAIN_CAP);
            }
        });
    }

    /// One quorum read. `None`: no answer. `Some(None)`: not there, or another object of the same name.
    pub(super) async fn read_once(
        &self,
        api: &Api<VideoJob>,
        address: &Address,
    ) -> Option<Option<VideoJob>> {
        let _permit = self.reads.acquire().await;
        let error = match timeout(READ_TIMEOUT, api.get_opt(&address.name)).await {
            Ok(Ok(found)) => {
                self.failing_reads.store(0, Ordering::Relaxed);
                let is_it = |job: &VideoJob| job.metadata.uid.as_deref() == Some(&*address.uid);
                return Some(found.filter(is_it));
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let nth = self.failing_reads.fetch_add(1, Ordering::Relaxed);
        if nth.is_multiple_of(LOGGED_READS) {
            let error = error.as_ref().map(tracing::field::display);
            tracing::warn!(job = %address.name, uid = %address.uid, error, nth, "reads fail");
        }
        // As of writes: while the API server is away, every attempt that ends adds one that asks without end.
        let asked = error.as_ref().map(asked_to_wait).unwrap_or_default();
        let draw = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(pause(nth, asked, draw)).await;
        None
    }

    /// The conditions of a final job, with the new generation and the messages they have.
    async fn keep_messages(
        &self,
        api: &Api<VideoJob>,
        address: &Address,
        mut patch: Value,
    ) -> Option<Value> {
        let found = self.read_once(api, address).await??;
        let old = found.status.map(|s| s.conditions).unwrap_or_default();
        let conditions = patch.pointer_mut("/status/conditions")?.as_array_mut()?;
        for condition in conditions {
            let type_ = condition.get("type")?.as_str()?.to_owned();
            let known = old.iter().find(|c| c.type_ == type_);
            if let Some(known) = known.filter(|c| !c.message.is_empty() || c.type_ == STALLED) {
                condition["message"] = json!(known.message);
            }
        }
        Some(patch)
    }

    /// Deletes the job, if it is still the one that was decided about.
    pub(crate) fn delete(
        &self,
        job: Uid,
        token: Token,
        address: Address,
        rv: Rv,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let _permit = permit;
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(address.uid.to_string()),
                    resource_version: Some(rv.0.to_string()),
                }),
                propagation_policy: Some(PropagationPolicy::Background),
                ..DeleteParams::default()
            };
            let api = actor.api(&address);
            match timeout(WRITE_TIMEOUT, api.delete(&address.name, &params)).await {
                Ok(Ok(_)) => {
                    count(&actor.counters.deletes);
                    Outcome::Yes
                }
                Ok(Err(error)) if status_code(&error) == Some(404) => Outcome::Gone,
                Ok(Err(error)) => {
                    tracing::warn!(job = %address.name, uid = %address.uid, error = %error, "delete failed");
                    Outcome::Unknown
                }
                Err(_) => Outcome::Unknown,
            }
        });
    }
}

/// After the `nth` failed call of its kind in a row, of whatever job: doubling, capped, and not shorter than the server wants.
fn pause(nth: u32, asked: Duration, draw: f64) -> Duration {
    let window = FAILED_AGAIN.saturating_mul(1 << nth.min(10));
    let asked = asked.min(FAILED_AGAIN_CAP);
    window.min(FAILED_AGAIN_CAP).mul_f64(draw).max(asked)
}

/// Retry-After, as the body of an answer has it.
fn asked_to_wait(error: &kube::Error) -> Duration {
    let kube::Error::Api(status) = error else {
        return Duration::ZERO;
    };
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    Duration::from_secs(seconds.into())
}

fn is_conflict(error: &kube::Error) -> bool {
    status_code(error) == Some(409)
}

pub(super) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F18
    #[test]
    fn writes_that_fail_are_tried_less_and_less_and_not_sooner_than_asked() {
        let (none, ms, s) = (Duration::ZERO, Duration::from_millis, Duration::from_secs);
        let table = [
            ("the first", 0, none, 1.0, ms(100)),
            ("jitter", 0, none, 0.5, ms(50)),
            ("the fourth", 3, none, 1.0, ms(800)),
            ("the cap", 10, none, 1.0, s(5)),
            ("no overflow", u32::MAX, none, 0.5, ms(2500)),
            ("Retry-After", 0, s(3), 1.0, s(3)),
            ("a huge one", 0, s(86_400), 1.0, s(5)),
        ];
        for (name, nth, asked, draw, want) in table {
            assert_eq!(pause(nth, asked, draw), want, "{name}");
        }
    }
}
