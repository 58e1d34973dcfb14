//! Pods that cannot start: what tells a person why, and which pools are to be looked at again. Pure.

use std::collections::{BTreeMap, HashMap};

use super::index::PodFacts;
use crate::ports::PoolKey;

/// Words of the kubelet for an image that does not come. It alternates between the first two with each try, so nothing that is
/// written may name them, or it would be written with each.
pub const IMAGE_TROUBLE: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
];
/// Reasons to wait of a container that is on its way.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Where pods cannot start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubled {
    /// Changes so far.
    pub changes: u64,
    /// Pools with such pods, and which change was the last of each.
    pub pools: BTreeMap<PoolKey, u64>,
}

/// Keeps count of them.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    changes: u64,
    /// How many, and the change that was the last.
    pools: HashMap<PoolKey, (usize, u64)>,
}

impl Trouble {
    /// What it is, if there was a change after so many.
    pub(super) fn since(&self, changes: u64) -> Option<Troubled> {
        let all = self.pools.iter();
        let pools = all.map(|(pool, (_, last))| (pool.clone(), *last));
        (changes != self.changes).then(|| Troubled {
            changes: self.changes,
            pools: pools.collect(),
        })
    }

    /// What was known of a pod, and what is now.
    pub(super) fn note(&mut self, old: Option<&PodFacts>, new: Option<&PodFacts>) {
        let (was, is) = (old.and_then(trouble), new.and_then(trouble));
        if was == is {
            return;
        }
        self.changes += 1;
        if let Some((pool, _)) = was
            && let Some((count, last)) = self.pools.get_mut(&pool)
        {
            (*count, *last) = (*count - 1, self.changes);
            if *count == 0 {
                self.pools.remove(&pool);
            }
        }
        if let Some((pool, _)) = is {
            let (count, last) = self.pools.entry(pool).or_default();
            (*count, *last) = (*count + 1, self.changes);
        }
    }
}

/// Whose pod it is, and why it cannot start; one word for all that is wrong with an image.
fn trouble(pod: &PodFacts) -> Option<(PoolKey, String)> {
    let why = pod.waiting.as_deref()?;
    let why = match why {
        why if ON_ITS_WAY.contains(&why) => return None,
        why if IMAGE_TROUBLE.contains(&why) => IMAGE_TROUBLE[0],
        why => why,
    };
    let pool = PoolKey {
        namespace: pod.namespace.clone(),
        name: pod.pool.clone(),
    };
    Some((pool, why.to_owned()))
}

/// Of the reasons why pods have not started, what tells a person most: the image, then what keeps others from starting.
pub fn most_telling(pods: &[PodFacts]) -> Option<&str> {
    let all = pods.iter().filter_map(|pod| pod.waiting.as_deref());
    all.min_by_key(|why| match why {
        why if IMAGE_TROUBLE.contains(why) => 0,
        why if ON_ITS_WAY.contains(why) => 2,
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::super::index::{PodIndex, facts};
    use super::*;

    fn pod(pool: &str, uid: &str, state: &Value) -> Pod {
        let container = json!({"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let pod = json!({
            "metadata": {"name": uid, "namespace": "videos", "uid": uid, "labels": {"kinora.dev/pool": pool}},
            "status": {"containerStatuses": [container]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn waits(pool: &str, uid: &str, why: &str) -> Pod {
        pod(pool, uid, &json!({"waiting": {"reason": why}}))
    }

    /// As often as that changes, and not with each try of the kubelet.
    #[test]
    fn pods_that_cannot_start_are_known_until_they_do_or_go() {
        let seen = |pool, uid, why| Some(waits(pool, uid, why));
        let runs = pod("default", "u1", &json!({"running": {}}));
        let steps = [
            (
                "on its way",
                seen("default", "u1", "ContainerCreating"),
                vec![],
            ),
            (
                "no image",
                seen("default", "u1", "ErrImagePull"),
                vec![("default", 1)],
            ),
            (
                "still none",
                seen("default", "u1", "ImagePullBackOff"),
                vec![("default", 1)],
            ),
            (
                "something else",
                seen("default", "u1", "CreateContainerConfigError"),
                vec![("default", 2)],
            ),
            (
                "another pod",
                seen("default", "u2", "CrashLoopBackOff"),
                vec![("default", 3)],
            ),
            (
                "its label is changed",
                seen("other", "u2", "CrashLoopBackOff"),
                vec![("default", 4), ("other", 4)],
            ),
            ("that one goes", None, vec![("default", 4)]),
            ("the first runs", Some(runs), vec![]),
        ];
        let (mut index, mut known) = (PodIndex::default(), Troubled::default());
        for (name, pod, want) in steps {
            match pod {
                Some(pod) => index.apply(&pod),
                None => index.remove("u2"),
            };
            if let Some(troubled) = index.troubled_since(known.changes) {
                assert_ne!(troubled, known, "{name}: no news");
                known = troubled;
            }
            let all = known.pools.iter();
            let got: Vec<_> = all
                .map(|(pool, last)| (pool.name.as_str(), *last))
                .collect();
            assert_eq!(got, want, "{name}");
            assert_eq!(index.troubled_since(known.changes), None, "{name}: once");
        }
    }

    #[test]
    fn an_image_that_does_not_come_is_told_before_what_it_may_have_caused() {
        let pods = |all: &[&str]| -> Vec<PodFacts> {
            all.iter()
                .filter_map(|why| facts(&waits("default", why, why)))
                .collect()
        };
        let table: [(&[&str], Option<&str>); 4] = [
            (&[], None),
            (&["ContainerCreating"], Some("ContainerCreating")),
            (
                &["ContainerCreating", "CrashLoopBackOff"],
                Some("CrashLoopBackOff"),
            ),
            (
                &["CrashLoopBackOff", "ImagePullBackOff"],
                Some("ImagePullBackOff"),
            ),
        ];
        for (all, want) in table {
            assert_eq!(most_telling(&pods(all)), want, "{all:?}");
        }
    }
}
