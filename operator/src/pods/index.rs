//! The pods of all pools, compact, and what their changes mean for leases.
//!
//! Pure: watch events in, [`PodEvent`]s out. A deletionTimestamp means draining; only an ended container, an ended phase or a
//! vanished object ends the calls in a pod.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kinora_crds::names;

use super::standing::{Standing, Standings};
use crate::core::seams::AttemptPod;
use crate::ports::{AttemptKey, PodAddress, PodEvent};

/// Name of the container that runs the worker.
pub const WORKER_CONTAINER: &str = "worker";
/// The ReplicaSet controller removes pods with the lowest cost first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A controlling owner: what `metadata.ownerReferences` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet`, `Deployment`, ...
    pub kind: String,
    /// Group and version.
    pub api_version: String,
    /// Name, in the namespace of the owned object.
    pub name: String,
    /// Uid: a namesake made later is another owner.
    pub uid: String,
}

/// What the pod of an attempt says of itself; the proof tells whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOfPod {
    /// The attempt.
    pub of: AttemptPod,
    /// To be judged by [`super::attempt::Maker`].
    pub proof: String,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Value of the pool label; a claim, proved only by the owner chain.
    pub pool: String,
    /// Node, empty before scheduling.
    pub node: String,
    /// Controlling owner.
    pub owner: Option<Owner>,
    /// Its readiness: the process is up.
    pub ready: bool,
    /// deletionTimestamp is set.
    pub deleting: bool,
    /// Condition DisruptionTarget: evicted, preempted, drained.
    pub disrupted: bool,
    /// Phase Succeeded or Failed.
    pub ended: bool,
    /// Why the container has not started, e.g. `ContainerCreating`.
    pub waiting: Option<String>,
    /// The attempt that the pod says to be made for.
    pub attempt: Option<AttemptOfPod>,
    /// The pod-deletion-cost that is set, if any.
    pub deletion_cost: Option<String>,
    /// Last end of the worker container that was reported, Unix milliseconds.
    container_ended_ms: Option<i64>,
}

/// All pods with the pool label, by uid.
#[derive(Debug, Default)]
pub struct PodIndex {
    pods: HashMap<String, PodFacts>,
    standings: Standings,
    /// Uids of the pods of a listing in progress.
    relisted: Option<HashSet<String>>,
}

impl PodIndex {
    /// The pod with this uid.
    pub fn get(&self, uid: &str) -> Option<&PodFacts> {
        self.pods.get(uid)
    }

    /// The pods that carry a pool's label, in order of their uid.
    pub fn of_pool(&self, namespace: &str, pool: &str) -> Vec<PodFacts> {
        let own = |pod: &&PodFacts| pod.namespace == namespace && pod.pool == pool;
        let sorted: BTreeMap<_, _> = self
            .pods
            .values()
            .filter(own)
            .map(|pod| (pod.uid.clone(), pod.clone()))
            .collect();
        sorted.into_values().collect()
    }

    /// What pools tell of their pods, if there was a change after so many.
    pub fn standing_since(&self, changes: u64) -> Option<Standing> {
        self.standings.since(changes)
    }

    /// A listing begins: what it does not name is gone.
    pub fn begin(&mut self) {
        self.relisted = Some(HashSet::new());
    }

    /// The listing is complete.
    pub fn finish(&mut self) -> Vec<PodEvent> {
        let Some(named) = self.relisted.take() else {
            return Vec::new();
        };
        let missing: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| !named.contains(*uid))
            .cloned()
            .collect();
        self.standings.listed();
        missing.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// A pod was seen.
    pub fn apply(&mut self, pod: &Pod) -> Vec<PodEvent> {
        let Some(mut new) = facts(pod) else {
            return Vec::new();
        };
        if let Some(named) = &mut self.relisted {
            named.insert(new.uid.clone());
        }
        let old = self.pods.get(&new.uid);
        let ended_before = old.is_some_and(|o| o.ended);
        let mut events = Vec::new();
        if let (None, Some(attempt)) = (old, &new.attempt) {
            events.push(attempt_event(&new, attempt));
        }
        if new.ended && !ended_before {
            events.push(PodEvent::Gone {
                pod_uid: new.uid.clone(),
                by_itself: failed_by_itself(pod, &new),
            });
        }
        if (new.deleting || new.disrupted) && !old.is_some_and(|o| o.deleting || o.disrupted) {
            events.push(PodEvent::Draining {
                pod_uid: new.uid.clone(),
            });
        }
        if old.is_some_and(|o| o.disrupted) && !new.deleting && !new.disrupted {
            events.push(PodEvent::Stays {
                pod_uid: new.uid.clone(),
            });
        }
        let reported = old.and_then(|o| o.container_ended_ms);
        let end = last_end(pod);
        new.container_ended_ms = end.map(|(at, _)| at).max(reported);
        if let Some((finished_at_ms, failed)) =
            end.filter(|(at, _)| Some(*at) > reported && !new.ended)
        {
            let by_itself = failed && !new.deleting && !new.disrupted;
            events.push(PodEvent::ContainerEnded {
                pod_uid: new.uid.clone(),
                finished_at_ms,
                by_itself,
            });
        }
        let old = self.pods.insert(new.uid.clone(), new.clone());
        self.standings.note(old.as_ref(), Some(&new));
        events
    }

    /// A pod's object is gone. Somebody removed it, so it is never proof of an interruption.
    pub fn remove(&mut self, uid: &str) -> Vec<PodEvent> {
        let Some(pod) = self.pods.remove(uid) else {
            return Vec::new();
        };
        self.standings.note(Some(&pod), None);
        let gone = (!pod.ended).then(|| PodEvent::Gone {
            pod_uid: pod.uid.clone(),
            by_itself: false,
        });
        let deleted = pod
            .attempt
            .map(|_| PodEvent::AttemptDeleted { pod_uid: pod.uid });
        gone.into_iter().chain(deleted).collect()
    }
}

/// What the index keeps of a pod; `None` when the object lacks name, uid or pool label.
pub fn facts(pod: &Pod) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let waiting = worker_status(pod)
        .and_then(|c| c.state.as_ref())
        .and_then(|s| s.waiting.as_ref());
    Some(PodFacts {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        pool: meta.labels.as_ref()?.get(names::LABEL_POOL)?.clone(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        owner: controller(meta.owner_references.as_deref().unwrap_or_default()),
        ready: condition(status, "Ready").is_some_and(|c| c.status == "True"),
        deleting: meta.deletion_timestamp.is_some(),
        disrupted: condition(status, "DisruptionTarget").is_some_and(|c| c.status == "True"),
        ended: status
            .and_then(|s| s.phase.as_deref())
            .is_some_and(|p| p == "Failed" || p == "Succeeded"),
        waiting: waiting.and_then(|w| w.reason.clone()),
        attempt: attempt_of(pod),
        deletion_cost: meta
            .annotations
            .as_ref()
            .and_then(|all| all.get(DELETION_COST))
            .cloned(),
        container_ended_ms: None,
    })
}

fn attempt_event(pod: &PodFacts, attempt: &AttemptOfPod) -> PodEvent {
    PodEvent::Attempt {
        pod: PodAddress {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        },
        of: AttemptKey {
            job_uid: attempt.of.job_uid.clone(),
            attempt: attempt.of.attempt,
        },
    }
}

/// The attempt that a pod says to be made for: labels, owner and name must agree.
pub fn attempt_of(pod: &Pod) -> Option<AttemptOfPod> {
    let meta = &pod.metadata;
    let labels = meta.labels.as_ref()?;
    let owner = controller(meta.owner_references.as_deref().unwrap_or_default())?;
    let is_job = owner.kind == "VideoJob"
        && owner.api_version == format!("{}/{}", names::GROUP, names::VERSION);
    let attempt = labels.get(names::LABEL_ATTEMPT)?.parse().ok()?;
    let same = labels.get(names::LABEL_JOB_UID) == Some(&owner.uid)
        && meta.name.as_deref() == Some(names::attempt_pod_name(&owner.name, attempt).as_str());
    let proof = meta
        .annotations
        .as_ref()?
        .get(names::ANNOTATION_ATTEMPT_PROOF)?;
    (is_job && same).then(|| AttemptOfPod {
        of: AttemptPod {
            namespace: meta.namespace.clone().unwrap_or_default(),
            job_name: owner.name,
            job_uid: owner.uid,
            attempt,
        },
        proof: proof.clone(),
    })
}

/// The owner that controls an object.
pub fn controller(owners: &[OwnerReference]) -> Option<Owner> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner {
        kind: owner.kind.clone(),
        api_version: owner.api_version.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

fn condition<'a>(status: Option<&'a PodStatus>, kind: &str) -> Option<&'a PodCondition> {
    status?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

fn worker_status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|c| c.name == WORKER_CONTAINER)
}

/// Unix milliseconds of the worker container's latest end, and whether it failed.
fn last_end(pod: &Pod) -> Option<(i64, bool)> {
    let status = worker_status(pod)?;
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let ends = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref());
    ends.filter_map(|t| Some((t.finished_at.as_ref()?.0.as_millisecond(), t.exit_code != 0)))
        .max()
}

/// Phase Failed that nobody asked for: the worker failed, and neither a deletion nor an eviction made it.
fn failed_by_itself(pod: &Pod, facts: &PodFacts) -> bool {
    let failed = last_end(pod).is_some_and(|(_, failed)| failed);
    failed && !facts.deleting && !facts.disrupted
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
