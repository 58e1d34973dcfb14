//! Gathers what a pass over one pool decides from: caches and channels only, no request.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kinora_crds::{VideoWorkerPool, names};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Shared, facts};
use crate::pods::PodFacts;
use crate::ports::{PoolBacklog, PoolKey};

/// One pool and all that belongs to it, as the caches show it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its key.
    pub key: PoolKey,
    /// The pool.
    pub pool: Arc<VideoWorkerPool>,
    /// The Deployment with its workers' name, whoever controls it.
    pub deployment: Option<Arc<Deployment>>,
    /// Its namespace's ConfigMap holds the current dispatch CA.
    pub ca_published: bool,
    /// Counts of the core; `None` before the core has listed all jobs.
    pub backlog: Option<PoolBacklog>,
    /// Its pods.
    pub pods: Vec<PodFacts>,
    /// The older default pool of the namespace, if this one is a default pool and not the oldest.
    pub acting_default: Option<String>,
}

/// Looks at the caches.
pub(super) fn observe(shared: &Shared, pool: Arc<VideoWorkerPool>) -> Observed {
    let key = facts::key(&pool);
    let deployment =
        ObjectRef::new(&names::worker_deployment_name(&key.name)).within(&key.namespace);
    let ca = shared
        .caches
        .ca
        .get(&ObjectRef::new(names::DISPATCH_CA).within(&key.namespace));
    let ca = ca.and_then(|map| map.data.as_ref()?.get(names::DISPATCH_CA_KEY).cloned());
    let listed = *shared.synced.borrow();
    Observed {
        deployment: shared.caches.deployments.get(&deployment),
        ca_published: ca.as_deref() == Some(shared.config.ca_bundle.borrow().as_str()),
        backlog: listed.then(|| {
            shared
                .backlog
                .borrow()
                .get(&key)
                .cloned()
                .unwrap_or_default()
        }),
        pods: shared.pods.of_pool(&key.namespace, &key.name),
        acting_default: acting_default(&pool, &shared.caches.pools.state()),
        key,
        pool,
    }
}

/// The oldest default pool of the namespace, when it is another one.
fn acting_default(pool: &VideoWorkerPool, all: &[Arc<VideoWorkerPool>]) -> Option<String> {
    if !pool.spec.is_default() {
        return None;
    }
    let rivals = all
        .iter()
        .filter(|other| other.spec.is_default() && other.namespace() == pool.namespace());
    let oldest = rivals.min_by_key(|other| (created(other), other.name_any()))?;
    (oldest.name_any() != pool.name_any()).then(|| oldest.name_any())
}

fn created(pool: &VideoWorkerPool) -> i64 {
    pool.metadata
        .creation_timestamp
        .as_ref()
        .map_or(i64::MAX, |time| time.0.as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(name: &str, namespace: &str, created: &str, default: bool) -> Arc<VideoWorkerPool> {
        let value = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {"default": default, "service": {"endpoint": "http://svc:1"}},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn only_the_oldest_default_pool_of_a_namespace_acts() {
        let (day1, day2) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let all = [
            pool("b", "videos", day1, true),
            pool("a", "videos", day2, true),
            pool("c", "videos", "2025-01-01T00:00:00Z", false),
            pool("d", "elsewhere", "2025-01-01T00:00:00Z", true),
            pool("e", "videos", day1, true),
        ];
        let table = [
            (0, None),
            (1, Some("b")),
            (2, None),
            (3, None),
            (4, Some("b")),
        ];
        for (index, want) in table {
            let pool: &Arc<VideoWorkerPool> = &all[index];
            assert_eq!(
                acting_default(pool, &all).as_deref(),
                want,
                "{}",
                pool.name_any()
            );
        }
    }
}
