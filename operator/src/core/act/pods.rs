//! Calls about the pods of attempts.

use kinora_engine::{Token, Uid};
use tokio::sync::OwnedSemaphorePermit;

use super::{Actor, Done, Outcome, RENEW_DEADLINE};
use crate::core::attempt_pods::outcome;
use crate::core::seams::{AttemptPod, Made, Removed};
use crate::ports::{PodAddress, PoolKey};

impl Actor {
    /// Makes the pod of an attempt, unless somebody else may lead by now.
    pub(crate) fn make_pod(
        &self,
        job: Uid,
        token: Token,
        of: AttemptPod,
        pool: PoolKey,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let _permit = permit;
            let name = of.job_name.clone();
            let made = if actor.renewed.borrow().elapsed() >= RENEW_DEADLINE {
                Made::NotSent
            } else {
                actor.pods.make(of, pool).await
            };
            outcome(made, &name)
        });
    }

    /// Looks for the pod of an attempt.
    pub(crate) fn find_pod(&self, job: Uid, token: Token, of: AttemptPod) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let name = of.job_name.clone();
            let found: Outcome = outcome(actor.pods.find(of).await, &name);
            found
        });
    }

    /// Removes the pod of an attempt. The watch shows its end, but not of one that had ended when its Hello was heard.
    pub(crate) fn remove_pod(&self, pod: PodAddress, permit: Option<OwnedSemaphorePermit>) {
        let actor = self.clone();
        tokio::spawn(async move {
            let pod_uid = pod.uid.clone();
            let removed = actor.pods.remove(pod.namespace, pod.name, pod.uid).await;
            drop(permit);
            let missing = removed == Removed::Missing;
            // Nobody listens any more: the process ends.
            let _ = actor.done.send(Done::PodRemoval { pod_uid, missing });
        });
    }
}
