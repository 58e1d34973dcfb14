//! Whose worker a pod is: the owner chain Pod → ReplicaSet → Deployment → VideoWorkerPool, judged by uid.
//!
//! Pure. Labels and names prove nothing: anybody who may create a pod can copy them.

use kinora_crds::names;

use crate::pods::Owner;
use crate::ports::PoolKey;

/// Why a pod is no worker of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Nothing controls the object, or something of another kind.
    #[error("the pod is not controlled by a ReplicaSet")]
    Pod,
    /// The ReplicaSet is not a Deployment's.
    #[error("its ReplicaSet is not controlled by a Deployment")]
    ReplicaSet,
    /// The Deployment is not a pool's.
    #[error("its Deployment is not controlled by a VideoWorkerPool")]
    Deployment,
    /// The pool does not exist, or is a later namesake.
    #[error("its VideoWorkerPool does not exist any more")]
    Pool,
}

/// The ReplicaSet that a pod's owner names.
///
/// # Errors
/// [`ChainError::Pod`].
pub fn replica_set(pod_owner: Option<&Owner>) -> Result<&Owner, ChainError> {
    pod_owner
        .filter(|owner| owner.kind == "ReplicaSet" && group(owner) == "apps")
        .ok_or(ChainError::Pod)
}

/// The Deployment that a ReplicaSet's owner names.
///
/// # Errors
/// [`ChainError::ReplicaSet`].
pub fn deployment(replica_set_owner: Option<&Owner>) -> Result<&Owner, ChainError> {
    let found =
        replica_set_owner.filter(|owner| owner.kind == "Deployment" && group(owner) == "apps");
    found.ok_or(ChainError::ReplicaSet)
}

/// The pool at the end of the chain. `stored_uid` looks up the uid of the pool that has this name now.
///
/// # Errors
/// [`ChainError::Deployment`], [`ChainError::Pool`].
pub fn pool(
    namespace: &str,
    deployment_owner: Option<&Owner>,
    stored_uid: impl Fn(&PoolKey) -> Option<String>,
) -> Result<PoolKey, ChainError> {
    let owner = deployment_owner
        .filter(|owner| owner.kind == "VideoWorkerPool" && group(owner) == names::GROUP)
        .ok_or(ChainError::Deployment)?;
    let key = PoolKey {
        namespace: namespace.to_owned(),
        name: owner.name.clone(),
    };
    match stored_uid(&key) {
        Some(uid) if uid == owner.uid => Ok(key),
        Some(_) | None => Err(ChainError::Pool),
    }
}

fn group(owner: &Owner) -> &str {
    owner
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, api_version: &str) -> Owner {
        Owner {
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
            name: "x".to_owned(),
            uid: "u".to_owned(),
        }
    }

    #[test]
    fn every_link_must_be_of_its_kind_and_group() {
        let rs = owner("ReplicaSet", "apps/v1");
        let deploy = owner("Deployment", "apps/v1");
        assert_eq!(replica_set(Some(&rs)), Ok(&rs));
        assert_eq!(replica_set(None), Err(ChainError::Pod));
        assert_eq!(replica_set(Some(&deploy)), Err(ChainError::Pod));
        assert_eq!(
            replica_set(Some(&owner("ReplicaSet", "evil.example/v1"))),
            Err(ChainError::Pod)
        );
        assert_eq!(
            replica_set(Some(&owner("ReplicaSet", "v1"))),
            Err(ChainError::Pod)
        );
        assert_eq!(deployment(Some(&deploy)), Ok(&deploy));
        assert_eq!(deployment(None), Err(ChainError::ReplicaSet));
        assert_eq!(
            deployment(Some(&owner("Deployment", "extensions/v1"))),
            Err(ChainError::ReplicaSet)
        );
    }

    #[test]
    fn the_pool_is_the_one_with_the_uid_the_deployment_names() {
        let vpool = owner("VideoWorkerPool", "kinora.dev/v1alpha1");
        let key = PoolKey {
            namespace: "videos".to_owned(),
            name: "x".to_owned(),
        };
        let table = [
            ("the pool exists", Some(vpool.clone()), Some("u"), Ok(key)),
            (
                "a later namesake is another pool",
                Some(vpool.clone()),
                Some("u2"),
                Err(ChainError::Pool),
            ),
            ("the pool is gone", Some(vpool), None, Err(ChainError::Pool)),
            (
                "another kind",
                Some(owner("VideoJob", "kinora.dev/v1alpha1")),
                Some("u"),
                Err(ChainError::Deployment),
            ),
            (
                "another group",
                Some(owner("VideoWorkerPool", "evil.dev/v1")),
                Some("u"),
                Err(ChainError::Deployment),
            ),
            ("no owner", None, Some("u"), Err(ChainError::Deployment)),
        ];
        for (name, owner, uid, want) in table {
            assert_eq!(
                pool("videos", owner.as_ref(), |_| uid.map(str::to_owned)),
                want,
                "{name}"
            );
        }
    }
}
