//! What a pool's status tells of its pods: why they cannot start, and which of attempts are there and ready. Their Deployment
//! tells nothing of that. Pure.

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

/// Whose status tells something of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Changes so far.
    pub changes: u64,
    /// All pods are known.
    pub is_listed: bool,
    /// Pools with pods of which something is told, and which change was the last of each.
    pub pools: BTreeMap<PoolKey, u64>,
}

/// Keeps count of them.
#[derive(Debug, Default)]
pub(super) struct Standings {
    changes: u64,
    is_listed: bool,
    /// How many, and the change that was the last.
    pools: HashMap<PoolKey, (usize, u64)>,
}

impl Standings {
    /// A listing is complete.
    pub(super) fn listed(&mut self) {
        self.changes += u64::from(!self.is_listed);
        self.is_listed = true;
    }

    /// What it is, if there was a change after so many.
    pub(super) fn since(&self, changes: u64) -> Option<Standing> {
        let all = self.pools.iter();
        let pools = all.map(|(pool, (_, last))| (pool.clone(), *last));
        (changes != self.changes).then(|| Standing {
            changes: self.changes,
            is_listed: self.is_listed,
            pools: pools.collect(),
        })
    }

    /// What was known of a pod, and what is now.
    pub(super) fn note(&mut self, old: Option<&PodFacts>, new: Option<&PodFacts>) {
        let (was, is) = (old.and_then(told), new.and_then(told));
        if was == is {
            return;
        }
        self.changes += 1;
        if let Some(Told { pool, .. }) = was
            && let Some((count, last)) = self.pools.get_mut(&pool)
        {
            (*count, *last) = (*count - 1, self.changes);
            if *count == 0 {
                self.pools.remove(&pool);
            }
        }
        if let Some(Told { pool, .. }) = is {
            let (count, last) = self.pools.entry(pool).or_default();
            (*count, *last) = (*count + 1, self.changes);
        }
    }
}

/// What is told of a pod.
#[derive(PartialEq, Eq)]
struct Told {
    pool: PoolKey,
    /// Why it cannot start.
    trouble: Option<String>,
    /// Of an attempt's pod whether it is ready.
    attempt: Option<bool>,
}

fn told(pod: &PodFacts) -> Option<Told> {
    let attempt = pod.attempt.as_ref().filter(|_| !pod.ended);
    let told = Told {
        pool: PoolKey {
            namespace: pod.namespace.clone(),
            name: pod.pool.clone(),
        },
        trouble: trouble(pod),
        attempt: attempt.map(|_| pod.ready),
    };
    (told.trouble.is_some() || told.attempt.is_some()).then_some(told)
}

/// One word for all that is wrong with an image.
fn trouble(pod: &PodFacts) -> Option<String> {
    let why = pod.waiting.as_deref()?;
    let why = match IMAGE_TROUBLE.contains(&why) {
        true => IMAGE_TROUBLE[0],
        false => Some(why).filter(|why| !ON_ITS_WAY.contains(why))?,
    };
    Some(why.to_owned())
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
        let (mut index, mut known) = (PodIndex::default(), Standing::default());
        for (name, pod, want) in steps {
            match pod {
                Some(pod) => index.apply(&pod),
                None => index.remove("u2"),
            };
            if let Some(standing) = index.standing_since(known.changes) {
                assert_ne!(standing, known, "{name}: no news");
                known = standing;
            }
            let all = known.pools.iter();
            let got: Vec<_> = all
                .map(|(pool, last)| (pool.name.as_str(), *last))
                .collect();
            assert_eq!(got, want, "{name}");
            assert_eq!(index.standing_since(known.changes), None, "{name}: once");
        }
    }

    /// No Deployment tells of them.
    #[test]
    fn pods_of_attempts_are_told_when_they_come_are_ready_end_and_go() {
        let seen = |ready: &str, phase: &str| -> Pod {
            let pod = json!({
                "metadata": {
                    "name": "clip-a2", "namespace": "videos", "uid": "u1",
                    "labels": {"kinora.dev/pool": "films", "kinora.dev/job-uid": "j", "kinora.dev/attempt": "2"},
                    "annotations": {"kinora.dev/attempt-proof": "00"},
                    "ownerReferences": [{
                        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "name": "clip", "uid": "j", "controller": true,
                    }],
                },
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
            });
            serde_json::from_value(pod).unwrap()
        };
        let mut index = PodIndex::default();
        let steps = [
            ("it is there", Some(seen("False", "Running")), 1, true),
            ("nothing new", Some(seen("False", "Running")), 1, true),
            ("it is ready", Some(seen("True", "Running")), 2, true),
            ("it has ended", Some(seen("False", "Succeeded")), 3, false),
            ("it goes", None, 3, false),
        ];
        for (name, pod, changes, is_told) in steps {
            match pod {
                Some(pod) => index.apply(&pod),
                None => index.remove("u1"),
            };
            let standing = index.standing_since(0).unwrap();
            assert_eq!(standing.changes, changes, "{name}");
            assert_eq!(!standing.pools.is_empty(), is_told, "{name}");
        }
        index.begin();
        index.finish();
        let standing = index.standing_since(3).unwrap();
        assert!(standing.is_listed, "and that all are known");
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
