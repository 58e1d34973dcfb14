//! The pods of attempts, between the engine's numbers and the API server's names.

use std::collections::HashMap;

use kinora_crds::{WorkerRef, names};
use kinora_engine::action::PodAction;
use kinora_engine::{AttemptId, Event, Phase, Status, Uid};
use tokio::sync::OwnedSemaphorePermit;

use super::act::Outcome;
use super::run::Core;
use super::seams::AttemptPod;
use super::translate::uid_of;
use crate::ports::{AttemptKey, PodAddress};

/// Where the pods of attempts are, by uid, until their objects are gone.
pub(crate) type PodBook = HashMap<Uid, PodAddress>;

impl Core {
    /// A pod that was made for one attempt is there.
    pub(super) fn on_attempt_pod(&mut self, pod: &PodAddress, of: &AttemptKey) {
        let worker = uid_of(&pod.uid);
        self.memory.pods.insert(worker, pod.clone());
        let attempt = AttemptId {
            job: uid_of(&of.job_uid),
            attempt: of.attempt,
        };
        self.step(Event::AttemptPod { worker, attempt });
    }

    pub(super) fn act_on_pod(&mut self, action: PodAction, permit: Option<OwnedSemaphorePermit>) {
        match action {
            PodAction::Make {
                token,
                attempt,
                pool,
            } => match self.attempt_pod(attempt) {
                Some(of) => {
                    let pool = self.memory.names.pool_key(pool);
                    self.actor.make_pod(attempt.job, token, of, pool, permit);
                }
                None => self.answer(attempt.job, token, kinora_engine::event::Answer::Gone),
            },
            PodAction::Find { token, attempt } => match self.attempt_pod(attempt) {
                Some(of) => self.actor.find_pod(attempt.job, token, of),
                None => self.answer(attempt.job, token, kinora_engine::event::Answer::Gone),
            },
            PodAction::Remove { worker } => match self.memory.pods.get(&worker) {
                Some(pod) => self.actor.remove_pod(pod.clone(), permit),
                None => self.writes.removal_over(worker),
            },
        }
    }

    /// The holder of a claim whose pod is still to report: its name is known already.
    pub(super) fn pod_to_come(&self, job: Uid, after: &Status) -> Option<WorkerRef> {
        let address = self
            .memory
            .address(job)
            .filter(|_| after.phase == Phase::Running)?;
        Some(WorkerRef {
            pod_name: names::attempt_pod_name(&address.name, after.attempt),
            ..WorkerRef::default()
        })
    }

    fn attempt_pod(&self, attempt: AttemptId) -> Option<AttemptPod> {
        let address = self.memory.address(attempt.job)?;
        Some(AttemptPod {
            namespace: address.namespace.to_string(),
            job_name: address.name.to_string(),
            job_uid: address.uid.to_string(),
            attempt: attempt.attempt,
        })
    }
}

/// What the engine hears of an attempt to make or find a pod.
pub(super) fn outcome(made: super::seams::Made, name: &str) -> Outcome {
    use super::seams::Made;
    match made {
        Made::Yes => Outcome::Yes,
        Made::No(why) => {
            tracing::warn!(job = name, why, "an attempt gets no pod");
            Outcome::No
        }
        Made::Unknown => Outcome::Away,
        Made::NotSent => Outcome::NotSent,
    }
}
