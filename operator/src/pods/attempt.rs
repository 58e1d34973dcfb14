//! The pods of attempts at the API server: made once under a name that follows from job and attempt, found, removed.
//!
//! Each pod carries a proof that the operator made it: whoever may create pods could copy name, labels and owner.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kinora_crds::{VideoWorkerPool, names};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};

use super::index::AttemptOfPod;
use crate::core::seams::{AttemptPod, AttemptPods, Made, Removed};
use crate::pools::attempt_template::render;
use crate::pools::template::WorkerDefaults;
use crate::ports::PoolKey;

const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the goodbye of a worker whose attempt is over.
const REMOVE_GRACE_SECONDS: u32 = 10;
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Marks pods, and knows its own marks again.
#[derive(Clone)]
pub struct Maker {
    key: Arc<hmac::Key>,
}

impl Maker {
    /// With the operator's key for this purpose.
    pub fn new(key: &[u8]) -> Maker {
        Maker {
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)),
        }
    }

    /// The proof for the pod of this attempt.
    pub fn proof(&self, of: &AttemptPod) -> String {
        hex::encode(hmac::sign(&self.key, message(of).as_bytes()).as_ref())
    }

    /// Whether a proof is ours, and for the pod of this attempt.
    pub fn made(&self, of: &AttemptPod, proof: &str) -> bool {
        let Ok(proof) = hex::decode(proof) else {
            return false;
        };
        hmac::verify(&self.key, message(of).as_bytes(), &proof).is_ok()
    }
}

/// No part may hold the separator: they are names and a uid.
fn message(of: &AttemptPod) -> String {
    let AttemptPod {
        namespace,
        job_name,
        job_uid,
        attempt,
    } = of;
    format!("kinora-attempt\n{namespace}\n{job_name}\n{job_uid}\n{attempt}")
}

/// See the module.
pub struct PodMaker {
    client: Client,
    pools: Store<VideoWorkerPool>,
    workers: WorkerDefaults,
    maker: Maker,
}

impl PodMaker {
    /// `pools` is filled by its own watch.
    pub fn new(
        client: Client,
        pools: Store<VideoWorkerPool>,
        workers: WorkerDefaults,
        maker: Maker,
    ) -> PodMaker {
        PodMaker {
            client,
            pools,
            workers,
            maker,
        }
    }

    async fn create(&self, of: AttemptPod, pool: PoolKey) -> Made {
        let key = ObjectRef::new(&pool.name).within(&pool.namespace);
        let Some(pool) = self.pools.get(&key) else {
            return Made::No("its pool is gone".to_owned());
        };
        let pod = render(&pool, &self.workers, &of, self.maker.proof(&of));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &of.namespace);
        let params = PostParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PostParams::default()
        };
        match tokio::time::timeout(CREATE_TIMEOUT, api.create(&params, &pod)).await {
            Err(_) => Made::Unknown,
            Ok(Ok(_)) => Made::Yes,
            Ok(Err(kube::Error::Api(status))) => match status.code {
                // Somebody made it: ours is as good as new, another's will never be.
                409 => self.look(&of).await,
                // Invalid, forbidden, over a quota: time may help, trying again at once does not.
                400..=499 if status.code != 429 => Made::No(status.message.clone()),
                _ => Made::Unknown,
            },
            Ok(Err(_)) => Made::Unknown,
        }
    }

    /// A quorum read: not from a cache.
    async fn look(&self, of: &AttemptPod) -> Made {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &of.namespace);
        let name = names::attempt_pod_name(&of.job_name, of.attempt);
        match tokio::time::timeout(READ_TIMEOUT, api.get_opt(&name)).await {
            Ok(Ok(None)) => Made::No("its pod is missing".to_owned()),
            Ok(Ok(Some(pod))) => match super::index::attempt_of(&pod) {
                Some(AttemptOfPod { of: found, proof })
                    if found == *of && self.maker.made(of, &proof) =>
                {
                    match super::index::facts(&pod).is_some_and(|facts| facts.ended) {
                        true => Made::No(format!("pod {name} ended before it reported")),
                        false => Made::Yes,
                    }
                }
                _ => Made::No(format!("pod {name} is not Kinora's: delete or rename it")),
            },
            Ok(Err(_)) | Err(_) => Made::Unknown,
        }
    }

    async fn delete(&self, namespace: String, name: String, uid: String) -> Removed {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            // It has told all that it had to tell, or works on what is nobody's any more: no time to finish a call.
            grace_period_seconds: Some(REMOVE_GRACE_SECONDS),
            ..DeleteParams::default()
        };
        match tokio::time::timeout(CREATE_TIMEOUT, api.delete(&name, &params)).await {
            Ok(Ok(_)) => {
                tracing::info!(namespace, pod = name, "removed the pod of an attempt");
                Removed::Asked
            }
            // Gone, or a namesake by now.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => {
                Removed::Missing
            }
            Ok(Err(error)) => {
                tracing::warn!(namespace, pod = name, %error, "remove a pod");
                Removed::Unknown
            }
            Err(_) => {
                tracing::warn!(namespace, pod = name, "remove a pod: no answer in time");
                Removed::Unknown
            }
        }
    }
}

impl AttemptPods for PodMaker {
    fn make(&self, of: AttemptPod, pool: PoolKey) -> BoxFuture<'_, Made> {
        self.create(of, pool).boxed()
    }

    fn find(&self, of: AttemptPod) -> BoxFuture<'_, Made> {
        async move { self.look(&of).await }.boxed()
    }

    fn remove(&self, namespace: String, name: String, uid: String) -> BoxFuture<'_, Removed> {
        self.delete(namespace, name, uid).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: S16
    #[test]
    fn a_proof_holds_for_one_pod_of_one_operator() {
        let maker = Maker::new(&[1; 32]);
        let of = AttemptPod {
            namespace: "videos".to_owned(),
            job_name: "clip".to_owned(),
            job_uid: "u1".to_owned(),
            attempt: 1,
        };
        let proof = maker.proof(&of);
        assert!(maker.made(&of, &proof));
        let others = [
            AttemptPod {
                attempt: 2,
                ..of.clone()
            },
            AttemptPod {
                namespace: "other".to_owned(),
                ..of.clone()
            },
            AttemptPod {
                job_name: "clop".to_owned(),
                ..of.clone()
            },
            AttemptPod {
                job_uid: "u2".to_owned(),
                ..of.clone()
            },
        ];
        for other in others {
            assert!(!maker.made(&other, &proof), "{other:?}");
        }
        assert!(!Maker::new(&[2; 32]).made(&of, &proof));
        for bad in ["", "zz", &proof[2..]] {
            assert!(!maker.made(&of, bad), "{bad}");
        }
    }
}
