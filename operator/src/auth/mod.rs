//! Proves who a worker is: TokenReview for the dispatch audience, then the pod index, then the pod's owner chain.
//!
//! May create TokenReviews and read pods, ReplicaSets and Deployments. Tokens are kept only as hashes. Anybody can write a
//! token that seems to be a pod's: those of pods that the watch has not seen have few places of their own, and wait for none.

pub mod chain;
mod claims;
mod review;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kinora_crds::VideoWorkerPool;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use self::review::{Reviewed, Reviews};
use crate::core::seams::{AuthError, Authenticate};
use crate::pods::attempt::Maker;
use crate::pods::index::AttemptOfPod;
use crate::pods::{Owner, PodFacts, Pods, index};
use crate::ports::{AttemptKey, PoolKey, WorkerIdentity};

const GET_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a worker that is faster than the pod or pool watch is waited for.
const WATCH_LAG: Duration = Duration::from_secs(2);
/// Owners of ReplicaSets and Deployments that are remembered; a full memory starts afresh.
const OWNERS_KEPT: usize = 4096;
/// Pods at once that the watch has not seen (yet).
const STRANGERS: usize = 16;
/// How long the place of one that was not good stays taken: what is forged costs the API server little.
const STRANGER_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub struct TokenAuth {
    client: Client,
    reviews: Reviews,
    pods: Pods,
    pools: Store<VideoWorkerPool>,
    maker: Maker,
    strangers: Arc<Semaphore>,
    /// Controlling owner by the uid of the owned object; a uid never gets another controller.
    owners: Mutex<HashMap<String, Option<Owner>>>,
}

impl TokenAuth {
    /// `pods` and `pools` are filled by their own watches.
    pub fn new(client: Client, pods: Pods, pools: Store<VideoWorkerPool>, maker: Maker) -> Self {
        Self {
            reviews: Reviews::new(client.clone()),
            client,
            pods,
            pools,
            maker,
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            owners: Mutex::default(),
        }
    }

    async fn admit(&self, token: &str) -> Result<WorkerIdentity, AuthError> {
        let claimed_uid = claims::pod_uid(token).ok_or_else(|| {
            AuthError::Refused(
                "it is no token of a pod for the audience kinora-dispatch".to_owned(),
            )
        })?;
        let place = self.place(&claimed_uid)?;
        let who = self.identify(token, &claimed_uid).await;
        if let (Some(place), Ok(_)) = (place, &who) {
            let _ = place.send(());
        }
        who
    }

    /// A stranger's place, which is free at once only for one who was good: not for one who is refused, or hangs up.
    fn place(&self, claimed_uid: &str) -> Result<Option<oneshot::Sender<()>>, AuthError> {
        if self.pods.get(claimed_uid).is_some() {
            return Ok(None);
        }
        let place = self.strangers.clone().try_acquire_owned().map_err(|_| {
            AuthError::Unavailable("too many pods at once that the watch has not seen".to_owned())
        })?;
        let (good, was_good) = oneshot::channel();
        tokio::spawn(async move {
            let _place = place;
            if was_good.await.is_err() {
                tokio::time::sleep(STRANGER_PAUSE).await;
            }
        });
        Ok(Some(good))
    }

    async fn identify(&self, token: &str, claimed_uid: &str) -> Result<WorkerIdentity, AuthError> {
        let reviewed = self.reviews.review(token, claimed_uid).await?;
        let pod = self.pod(&reviewed).await?;
        if pod.ended {
            return Err(AuthError::Refused(format!("pod {} has ended", pod.name)));
        }
        let attempt = pod.attempt.as_ref().map(|said| AttemptKey {
            job_uid: said.of.job_uid.clone(),
            attempt: said.of.attempt,
        });
        let pool = match &pod.attempt {
            Some(said) => self.pool_of_attempt(&pod, said)?,
            None => self.pool_of(&pod).await?,
        };
        Ok(WorkerIdentity {
            attempt,
            pool,
            pod_name: pod.name,
            pod_uid: pod.uid,
            node_name: pod.node,
        })
    }

    async fn pod(&self, reviewed: &Reviewed) -> Result<PodFacts, AuthError> {
        let Reviewed {
            namespace,
            pod_name,
            pod_uid,
        } = reviewed;
        let found = self
            .pods
            .find(namespace, pod_name, pod_uid)
            .await
            .map_err(unavailable("read the pod"))?;
        let pod = found.filter(|pod| pod.namespace == *namespace);
        pod.ok_or_else(|| AuthError::Refused(format!("{namespace}/{pod_name} is no pod of a pool")))
    }

    /// A pod that the operator made for one attempt, as the proof shows, though its pool may be gone: a call that runs is heard
    /// to its end. The label is only a name: what the pod may do follows from its attempt, and whether that is still the pod's
    /// is decided by its job's status.
    fn pool_of_attempt(&self, pod: &PodFacts, said: &AttemptOfPod) -> Result<PoolKey, AuthError> {
        if !self.maker.made(&said.of, &said.proof) {
            let why = format!("pod {}: the operator did not make it", pod.name);
            return Err(AuthError::Refused(why));
        }
        Ok(PoolKey {
            namespace: pod.namespace.clone(),
            name: pod.pool.clone(),
        })
    }

    async fn pool_of(&self, pod: &PodFacts) -> Result<PoolKey, AuthError> {
        let refused =
            |error: chain::ChainError| AuthError::Refused(format!("pod {}: {error}", pod.name));
        let set = chain::replica_set(pod.owner.as_ref()).map_err(refused)?;
        let set_owner = self.owner::<ReplicaSet>(&pod.namespace, set).await?;
        let deployment = chain::deployment(set_owner.as_ref()).map_err(refused)?;
        let deployment_owner = self.owner::<Deployment>(&pod.namespace, deployment).await?;
        let judge = || {
            chain::pool(&pod.namespace, deployment_owner.as_ref(), |key| {
                self.stored_uid(key)
            })
        };
        let deadline = Instant::now() + WATCH_LAG;
        loop {
            match judge() {
                Ok(pool) => return Ok(pool),
                Err(chain::ChainError::Pool) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    fn stored_uid(&self, key: &PoolKey) -> Option<String> {
        let pool = self
            .pools
            .get(&ObjectRef::new(&key.name).within(&key.namespace))?;
        pool.metadata.uid.clone()
    }

    /// The controller of the object that `of` names, remembered by uid.
    async fn owner<K>(&self, namespace: &str, of: &Owner) -> Result<Option<Owner>, AuthError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let known = self
            .owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&of.uid)
            .cloned();
        if let Some(owner) = known {
            return Ok(owner);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let read = tokio::time::timeout(GET_TIMEOUT, api.get_metadata_opt(&of.name)).await;
        let read = read
            .map_err(|_| AuthError::Unavailable(format!("read {}: no answer in time", of.name)))?;
        let found = read.map_err(unavailable("read the pod's owners"))?;
        // A namesake with another uid is not the owner: whatever owned this pod is gone.
        let found = found.filter(|object| object.metadata.uid.as_deref() == Some(of.uid.as_str()));
        let Some(object) = found else {
            return Ok(None);
        };
        let owner = index::controller(
            object
                .metadata
                .owner_references
                .as_deref()
                .unwrap_or_default(),
        );
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= OWNERS_KEPT {
            owners.clear();
        }
        owners.insert(of.uid.clone(), owner.clone());
        Ok(owner)
    }
}

impl Authenticate for TokenAuth {
    fn authenticate<'a>(
        &'a self,
        bearer_token: &'a str,
    ) -> BoxFuture<'a, Result<WorkerIdentity, AuthError>> {
        self.admit(bearer_token).boxed()
    }
}

fn unavailable(action: &'static str) -> impl Fn(kube::Error) -> AuthError {
    move |error| AuthError::Unavailable(format!("{action}: {error}"))
}

#[cfg(test)]
mod forged_tests;
#[cfg(test)]
mod tests;
