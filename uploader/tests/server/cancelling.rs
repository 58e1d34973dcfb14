//! `DELETE /v1/videos/<id>`, branch by branch: never acknowledged before it is stored, never a job for what has ended.

use std::sync::atomic::Ordering;

use kinora_crds::VideoJob;
use kinora_storage::documents::{Active, Decision, Pending, Record, RecordState};
use kinora_storage::{UploadId, keys};
use kinora_uploader::documents;
use kinora_uploader::drive::blank_state;
use kinora_uploader::profiles::Profile;

use crate::harness::{KEY, Replica, STRANGER, World, problem_of};

async fn delete(world: &World, replica: &Replica, key: &str, id: &str) -> reqwest::Response {
    let request = world
        .http
        .delete(format!("{}/v1/videos/{id}", replica.base));
    request.bearer_auth(key).send().await.unwrap()
}

/// Of a video of the phone's that is in the outbox, and nowhere else.
fn pending(world: &World, id: &UploadId) -> Pending {
    let mut state = blank_state(id, "acme", "default", Some(77), 8 << 20);
    state.offset = 77;
    (state.owner.iss, state.owner.sub) = ("apikey".into(), "phone".into());
    documents::pending(id, &state, &Profile::default(), "videos", world.store.now())
}

fn wants_cancel(job: Option<VideoJob>) -> bool {
    job.and_then(|job| job.spec.cancel_requested) == Some(true)
}

struct Case {
    name: &'static str,
    /// What is stored of the video.
    outbox: bool,
    decision: Option<(Decision, i64)>,
    record: Option<(RecordState, i64)>,
    want: u16,
    /// Whether a job with the wish is made.
    makes: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "in the outbox",
        outbox: true,
        decision: None,
        record: None,
        want: 204,
        makes: true,
    },
    Case {
        name: "decided, its job is not there",
        outbox: false,
        decision: Some((Decision::Accepted, 0)),
        record: None,
        want: 204,
        makes: true,
    },
    Case {
        name: "redriven, its job is not there",
        outbox: false,
        decision: Some((Decision::Accepted, 1)),
        record: Some((RecordState::Failed, 0)),
        want: 204,
        makes: true,
    },
    Case {
        name: "refused, its record follows",
        outbox: true,
        decision: Some((Decision::Rejected, 0)),
        record: None,
        want: 409,
        makes: false,
    },
    Case {
        name: "at its end, its decision is still there",
        outbox: false,
        decision: Some((Decision::Accepted, 0)),
        record: Some((RecordState::Succeeded, 0)),
        want: 409,
        makes: false,
    },
    Case {
        name: "at its end",
        outbox: false,
        decision: None,
        record: Some((RecordState::Failed, 0)),
        want: 409,
        makes: false,
    },
    Case {
        name: "cancelled before",
        outbox: false,
        decision: None,
        record: Some((RecordState::Cancelled, 0)),
        want: 204,
        makes: false,
    },
    Case {
        name: "nowhere",
        outbox: false,
        decision: None,
        record: None,
        want: 404,
        makes: false,
    },
];

async fn store(world: &World, id: &UploadId, case: &Case) {
    let pending = pending(world, id);
    let now = world.store.now();
    if case.outbox {
        world.put(&keys::pending(id), &pending).await;
    }
    if let Some((decision, redrives)) = case.decision {
        let active = Active {
            decision,
            redrives,
            ..documents::active(&pending, None, &Default::default(), now, now)
        };
        world.put(&keys::active(id), &active).await;
    }
    if let Some((state, redrives)) = case.record {
        let record = Record {
            state,
            redrives,
            ..documents::record(&pending, false, "Why", now)
        };
        world.put(&keys::record_for_upload(id), &record).await;
    }
}

/// covers: F3
#[tokio::test]
async fn a_wish_makes_the_job_where_there_is_none_and_meets_the_end_where_there_is_one() {
    let world = World::new("c1").await;
    let replica = world.replica().await;
    for case in CASES {
        let id = replica.app.mint();
        store(&world, &id, case).await;
        let foreign = delete(&world, &replica, STRANGER, id.as_str()).await;
        assert_eq!(foreign.status(), 404, "{}", case.name);
        assert!(world.jobs.job(id.as_str()).is_none(), "{}", case.name);
        let answer = delete(&world, &replica, KEY, id.as_str()).await;
        assert_eq!(answer.status(), case.want, "{}", case.name);
        let job = world.jobs.job(id.as_str());
        assert_eq!(job.is_some(), case.makes, "{}", case.name);
        let redriven = case.decision.is_some_and(|(_, redrives)| redrives > 0);
        if let Some(job) = &job {
            let annotations = job.metadata.annotations.clone().unwrap();
            let named = annotations.contains_key("kinora.dev/redrives");
            assert_eq!(named, redriven, "{}", case.name);
        }
        assert_eq!(wants_cancel(job), case.makes, "{}", case.name);
    }
}

#[tokio::test]
async fn a_wish_is_stored_in_the_job_that_is_there_or_comes_meanwhile() {
    let world = World::new("c2").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    let creates = world.jobs.creates.load(Ordering::SeqCst);
    assert_eq!(delete(&world, &replica, KEY, &id).await.status(), 204);
    assert!(wants_cancel(world.jobs.job(&id)));
    assert_eq!(world.jobs.creates.load(Ordering::SeqCst), creates);

    let id = world.upload(&replica, KEY).await;
    let job = world.jobs.jobs.lock().unwrap().remove(&format!("vj-{id}"));
    *world.jobs.sooner.lock().unwrap() = job;
    assert_eq!(delete(&world, &replica, KEY, &id).await.status(), 204);
    assert!(
        wants_cancel(world.jobs.job(&id)),
        "AlreadyExists: patched again"
    );
}

#[tokio::test]
async fn a_wish_that_kubernetes_cannot_take_is_not_acknowledged() {
    let world = World::new("c3").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    world.jobs.away.store(true, Ordering::SeqCst);
    let answer = delete(&world, &replica, KEY, &id).await;
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem_of(answer).await, (503, "try-again".into()));
    world.jobs.away.store(false, Ordering::SeqCst);
    assert!(!wants_cancel(world.jobs.job(&id)));
    assert_eq!(delete(&world, &replica, KEY, &id).await.status(), 204);
    assert!(wants_cancel(world.jobs.job(&id)));
}

/// The upload goes with the video that it became.
#[tokio::test]
async fn the_upload_of_a_cancelled_video_is_over_in_the_words_of_each_protocol() {
    let world = World::new("c5").await;
    let replica = world.replica().await;
    for (state, tus, draft) in [
        (RecordState::Cancelled, 410, 404),
        (RecordState::Succeeded, 200, 204),
    ] {
        let case = CASES.iter().find(|case| case.name == "cancelled before");
        let case = Case {
            record: Some((state, 0)),
            ..*case.unwrap()
        };
        let id = replica.app.mint();
        store(&world, &id, &case).await;
        let head = world.head(&replica, id.as_str()).await;
        assert_eq!(head.status(), tus, "{state:?}");
        let path = format!("/v1/uploads/{id}");
        let head = world.ask(&replica, "HEAD", &path);
        let head = head.header("Upload-Draft-Interop-Version", "6");
        assert_eq!(head.send().await.unwrap().status(), draft, "{state:?}");
        if state == RecordState::Cancelled {
            let again = world.tus(&replica, "DELETE", &path).send().await;
            assert_eq!(again.unwrap().status(), 204, "as it was asked for");
        }
    }
}

#[tokio::test]
async fn a_wish_ends_an_upload_that_is_not_whole() {
    let world = World::new("c4").await;
    let replica = world.replica().await;
    let id = world.create(&replica, 5_000).await;
    assert_eq!(delete(&world, &replica, STRANGER, &id).await.status(), 404);
    assert_eq!(delete(&world, &replica, KEY, &id).await.status(), 204);
    let path = format!("/v1/videos/{id}");
    let gone = world.get(&replica, KEY, &path).await;
    assert_eq!(problem_of(gone).await, (410, "gone".into()));
    assert!(world.jobs.job(&id).is_none());
}
