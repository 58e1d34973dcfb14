//! Workers that lie, shout or say nothing, over the real protocol and real TLS: nobody else's job moves, and nobody else's
//! stream suffers.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::Value;
use tonic::Code;
use wire::from_worker::Message as Up;
use wire::to_worker::Message;

use super::stage::{JOB, Stage, Worker, worker_hello};

fn attempt(job_uid: &str, attempt: u32) -> Option<wire::AttemptRef> {
    Some(wire::AttemptRef {
        job_uid: job_uid.to_owned(),
        attempt,
    })
}

fn success(of: Option<wire::AttemptRef>) -> Up {
    Up::Outcome(wire::Outcome {
        attempt: of,
        fact: Some(wire::outcome::Fact::Succeeded(wire::Succeeded::default())),
        ..wire::Outcome::default()
    })
}

fn heartbeat(seq: u64) -> Up {
    Up::Heartbeat(wire::Heartbeat {
        seq,
        ..wire::Heartbeat::default()
    })
}

/// A worker with the only job, and its lease.
async fn busy(stage: &Stage) -> (Worker, wire::Lease) {
    let mut honest = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = honest.next().await else {
        panic!("a lease");
    };
    (honest, lease)
}

fn stored(stage: &Stage) -> Value {
    stage.api.object("vj-a-1").unwrap()["status"].clone()
}

/// covers: S16
#[tokio::test]
async fn reports_about_other_workers_attempts_are_stale_and_change_nothing() {
    let stage = Stage::leading().await;
    let (mut honest, lease) = busy(&stage).await;
    let before = stored(&stage);
    let mut liar = stage.connect(worker_hello(), "other").await.unwrap();
    // The running attempt, one that was never claimed, and one of the past.
    for number in [1, 7, 0] {
        liar.say(success(attempt(JOB, number))).await;
        let Message::Ack(ack) = liar.next().await else {
            panic!("an acknowledgement");
        };
        assert_eq!(ack.verdict(), wire::ack::Verdict::Stale, "attempt {number}");
    }
    assert_eq!(stored(&stage), before);
    assert_eq!(stage.counters.stale_outcomes.load(Ordering::Relaxed), 3);

    honest.say(success(lease.attempt)).await;
    let Message::Ack(ack) = honest.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
}

/// A success with an output that the service keeps itself, and a result.
fn labelled(of: Option<wire::AttemptRef>) -> Up {
    let own = wire::OutputResult {
        name: "video".to_owned(),
        uri: "https://service/video".to_owned(),
        ..wire::OutputResult::default()
    };
    let done = wire::Succeeded {
        outputs: vec![own],
        result_json: "{\"label\":\"cat\"}".to_owned(),
    };
    Up::Outcome(wire::Outcome {
        attempt: of,
        fact: Some(wire::outcome::Fact::Succeeded(done)),
        ..wire::Outcome::default()
    })
}

/// The job ended with all that [`labelled`] said.
async fn ends_labelled(stage: &Stage, honest: &mut Worker) {
    let Message::Ack(ack) = honest.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let status = stage.api.patches().pop().unwrap()["status"].clone();
    assert_eq!(status["state"], "Succeeded");
    assert_eq!(status["outputs"][0]["uri"], "https://service/video");
    let record = "write record {\"label\":\"cat\"}".to_owned();
    stage
        .until("recorded", |stage| stage.asked().contains(&record))
        .await;
}

/// covers: S16, I9
#[tokio::test]
async fn a_flood_of_reports_about_attempts_to_come_keeps_no_honest_report_s_texts_out() {
    let stage = Stage::leading().await;
    let (mut honest, lease) = busy(&stage).await;
    let hello = wire::Hello {
        slots: 1024,
        ..worker_hello()
    };
    for pod in 0..3 {
        let token = format!("pod {pod}");
        let liar = stage.connect(hello.clone(), &token).await.unwrap();
        let numbers = (0..10_000).map(|n| 7 + 10_000 * pod + n);
        let acks = liar.pour(numbers.map(|n| success(attempt(JOB, n)))).await;
        assert!(acks > 0);
    }
    assert_eq!(stage.counters.refused_streams.load(Ordering::Relaxed), 0);
    honest.say(labelled(lease.attempt)).await;
    ends_labelled(&stage, &mut honest).await;
}

/// covers: S16, I9
#[tokio::test]
async fn a_report_about_an_attempt_whose_holder_reported_takes_nothing_from_that_report() {
    let stage = Stage::leading().await;
    let (mut honest, lease) = busy(&stage).await;
    stage.stick(Some("outputs"));
    honest.say(labelled(lease.attempt)).await;
    stage
        .until("asked", |s| s.asked().contains(&"outputs".to_owned()))
        .await;
    let mut liar = stage.connect(worker_hello(), "other").await.unwrap();
    liar.say(success(attempt(JOB, 1))).await;
    liar.say(heartbeat(1)).await;
    assert_eq!(liar.next().await, Message::Beat(wire::Beat { seq: 1 }));
    stage.stick(None);
    ends_labelled(&stage, &mut honest).await;
}

/// Its worker cannot be told, and what its service returned is in the record all the same.
#[tokio::test]
async fn a_success_whose_stream_ended_before_it_was_stored_keeps_its_result() {
    let stage = Stage::leading().await;
    let (honest, lease) = busy(&stage).await;
    stage.stick(Some("outputs"));
    honest.say(labelled(lease.attempt)).await;
    stage
        .until("asked", |s| s.asked().contains(&"outputs".to_owned()))
        .await;
    drop(honest);
    let streams = |s: &Stage| s.counters.streams.load(Ordering::Relaxed);
    stage.until("its stream ended", |s| streams(s) == 0).await;
    stage.stick(None);
    let record = "write record {\"label\":\"cat\"}".to_owned();
    stage
        .until("recorded", |s| s.asked().contains(&record))
        .await;
}

/// covers: S16
#[tokio::test]
async fn a_heartbeat_with_more_leases_than_a_worker_can_hold_ends_its_stream() {
    let stage = Stage::leading().await;
    let (mut honest, _) = busy(&stage).await;
    let listing = |count: u32| {
        Up::Heartbeat(wire::Heartbeat {
            seq: 5,
            unacked: (0..count).filter_map(|n| attempt(JOB, 7 + n)).collect(),
            ..wire::Heartbeat::default()
        })
    };
    let mut liar = stage.connect(worker_hello(), "other").await.unwrap();
    liar.say(listing(1 + kinora_protocol::MAX_SURPLUS)).await;
    assert_eq!(liar.next().await, Message::Beat(wire::Beat { seq: 5 }));
    liar.say(listing(2 + kinora_protocol::MAX_SURPLUS)).await;
    liar.over().await;
    assert_eq!(stage.counters.refused_streams.load(Ordering::Relaxed), 1);
    honest.say(heartbeat(3)).await;
    assert_eq!(honest.next().await, Message::Beat(wire::Beat { seq: 3 }));
}

/// Every lease that is listed has to be looked up, and each that is not listed again, in all pools.
///
/// covers: S16
#[tokio::test]
async fn heartbeats_that_list_ever_new_leases_are_few_however_often_their_worker_comes_back() {
    let stage = Stage::leading().await;
    let (mut honest, _) = busy(&stage).await;
    for n in 0..200 {
        stage.add_pool(&format!("pool-{n}")).await;
    }
    let most = 1024 + kinora_protocol::MAX_SURPLUS;
    let listing = |seq: u64| {
        let uid = |n: u32| format!("{:08x}-0000-4000-8000-{n:012x}", seq % 2);
        Up::Heartbeat(wire::Heartbeat {
            seq,
            held: (0..most).filter_map(|n| attempt(&uid(n), 1)).collect(),
            ..wire::Heartbeat::default()
        })
    };
    let hello = wire::Hello {
        slots: 1024,
        ..worker_hello()
    };
    let mut taken = 0;
    for seq in 1..=10 {
        match stage.connect(hello.clone(), "other").await {
            Ok(liar) => taken += liar.pour((0..3000).map(listing)).await,
            Err(refused) => assert_eq!(refused.code(), Code::ResourceExhausted),
        }
        honest.say(heartbeat(seq)).await;
        assert_eq!(honest.next().await, Message::Beat(wire::Beat { seq }));
    }
    assert!((1..200).contains(&taken), "{taken} of 30,000");
    assert!(stage.counters.refused_streams.load(Ordering::Relaxed) >= 10);
    assert_eq!(stored(&stage)["state"], "Running");
}

/// covers: S16
#[tokio::test]
async fn what_is_too_long_for_a_uid_ends_the_stream_that_says_it() {
    let stage = Stage::leading().await;
    let long = attempt(&"u".repeat(65), 1);
    let listing = Up::Heartbeat(wire::Heartbeat {
        unacked: long.clone().into_iter().collect(),
        ..wire::Heartbeat::default()
    });
    let progress = Up::Progress(wire::Progress {
        attempt: long.clone(),
        ..wire::Progress::default()
    });
    for message in [listing, success(long.clone()), progress] {
        let mut liar = stage.connect(worker_hello(), "other").await.unwrap();
        liar.say(message.clone()).await;
        let end = liar.read().await;
        assert!(!matches!(end, Ok(Some(_))), "{message:?}: {end:?}");
    }
    let hello = wire::Hello {
        held: long.into_iter().collect(),
        ..worker_hello()
    };
    let refused = stage.connect(hello, "other").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

/// covers: S16
#[tokio::test]
async fn a_worker_that_claims_more_slots_than_its_pool_gives_gets_no_more_leases() {
    let stage = Stage::leading_with(|pool| pool.slots = 2).await;
    let waits = serde_json::json!({"observedGeneration": -1, "state": "Queued"});
    for n in 0..3 {
        let uid = format!("3b1f3c52-7a39-4f0f-9d3e-00000000000{n}");
        stage.put_as(&format!("vj-a-{n}"), &uid, &waits);
    }
    let hello = wire::Hello {
        slots: 1024,
        ..worker_hello()
    };
    let mut liar = stage.connect(hello, "other").await.unwrap();
    for _ in 0..2 {
        assert!(matches!(liar.next().await, Message::Lease(_)));
    }
    liar.say(heartbeat(1)).await;
    assert_eq!(liar.next().await, Message::Beat(wire::Beat { seq: 1 }));
    assert_eq!(stage.counters.claims.load(Ordering::Relaxed), 2);
    // It has what its pool gives, also once that is more, or when it was less only for a while.
    stage.change_pool(|pool| pool.slots = 3).await;
    assert!(matches!(liar.next().await, Message::Lease(_)));
}

/// covers: S16
#[tokio::test]
async fn a_worker_that_claims_to_hold_what_it_was_never_given_is_told_to_stop() {
    let stage = Stage::leading().await;
    let (mut honest, _) = busy(&stage).await;
    let before = stored(&stage);
    let hello = wire::Hello {
        held: attempt(JOB, 1).into_iter().collect(),
        ..worker_hello()
    };
    let mut liar = stage.connect(hello, "other").await.unwrap();
    let Message::Cancel(cancel) = liar.next().await else {
        panic!("a cancel");
    };
    assert_eq!(cancel.attempt, attempt(JOB, 1));
    liar.say(success(attempt(JOB, 1))).await;
    assert!(
        matches!(liar.next().await, Message::Ack(ack) if ack.verdict() == wire::ack::Verdict::Stale)
    );
    assert_eq!(stored(&stage), before);
    honest.say(heartbeat(3)).await;
    assert_eq!(honest.next().await, Message::Beat(wire::Beat { seq: 3 }));
}

/// covers: S16
#[tokio::test]
async fn a_worker_of_another_pool_gets_no_lease_and_settles_none() {
    let stage = Stage::leading().await;
    let mut foreign = stage.connect(worker_hello(), "foreign").await.unwrap();
    stage.create("vj-a-1");
    // It waits for a worker of its own pool: one round trip of the foreign one proves that nothing was sent.
    foreign.say(heartbeat(1)).await;
    assert_eq!(foreign.next().await, Message::Beat(wire::Beat { seq: 1 }));
    let mut honest = stage.worker().await;
    assert!(matches!(honest.next().await, Message::Lease(_)));
    foreign.say(success(attempt(JOB, 1))).await;
    assert!(
        matches!(foreign.next().await, Message::Ack(ack) if ack.verdict() == wire::ack::Verdict::Stale)
    );
    assert_eq!(stored(&stage)["state"], "Running");
}

/// covers: S16
#[tokio::test]
async fn a_second_stream_with_the_same_token_takes_the_place_of_the_first() {
    let stage = Stage::leading().await;
    let (mut first, _) = busy(&stage).await;
    let _second = stage.worker().await;
    assert_eq!(first.end().await.code(), Code::Aborted);
}

#[tokio::test]
async fn a_flood_ends_its_own_stream_and_nobody_else_s() {
    let stage = Stage::leading().await;
    let (mut honest, _) = busy(&stage).await;
    let mut flooder = stage.connect(worker_hello(), "other").await.unwrap();
    let mut sent = 0_u64;
    while sent < 20_000 && flooder.try_say(heartbeat(sent)).await {
        sent += 1;
    }
    flooder.over().await;
    assert!(stage.counters.refused_streams.load(Ordering::Relaxed) >= 1);
    honest.say(heartbeat(9)).await;
    assert_eq!(honest.next().await, Message::Beat(wire::Beat { seq: 9 }));
    assert_eq!(stored(&stage)["state"], "Running");
}

#[tokio::test]
async fn a_message_beyond_all_bounds_ends_its_own_stream_and_nobody_else_s() {
    let stage = Stage::leading().await;
    let (mut honest, _) = busy(&stage).await;
    let mut shouter = stage.connect(worker_hello(), "other").await.unwrap();
    let shout = Up::Outcome(wire::Outcome {
        attempt: attempt(JOB, 1),
        message: "x".repeat(2 * 1024 * 1024),
        ..wire::Outcome::default()
    });
    shouter.try_say(shout).await;
    shouter.over().await;
    honest.say(heartbeat(9)).await;
    assert_eq!(honest.next().await, Message::Beat(wire::Beat { seq: 9 }));
}

#[tokio::test]
async fn a_hello_that_never_comes_or_never_ends_opens_no_stream() {
    let stage = Stage::leading().await;
    let endless = wire::Hello {
        held: vec![wire::AttemptRef::default(); 5000],
        ..worker_hello()
    };
    let refused = stage.connect(endless, "good").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let nameless = wire::Hello {
        instance: String::new(),
        ..worker_hello()
    };
    let refused = stage.connect(nameless, "good").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let silent = stage.open("good").await.unwrap_err();
    assert_eq!(silent.code(), Code::DeadlineExceeded);
    let unspoken = stage
        .begin_with(Up::Draining(wire::Draining {}), "good")
        .await;
    assert_eq!(unspoken.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(stage.counters.streams.load(Ordering::Relaxed), 0);
}

/// covers: F58
#[tokio::test]
async fn workers_of_an_older_and_of_a_newer_protocol_are_refused_with_a_reason() {
    let stage = Stage::leading().await;
    for version in [0, kinora_protocol::DISPATCH_PROTOCOL_VERSION + 1, u32::MAX] {
        let hello = wire::Hello {
            protocol_version: version,
            ..worker_hello()
        };
        let refused = stage.connect(hello, "good").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("same release"), "{refused}");
    }
}

#[tokio::test]
async fn progress_reaches_the_status_of_a_pool_that_asks_for_it() {
    let stage = Stage::leading_with(|pool| pool.report_progress = true).await;
    let (honest, lease) = busy(&stage).await;
    honest
        .say(Up::Progress(wire::Progress {
            attempt: lease.attempt,
            percent: 40,
            step: "encode".to_owned(),
        }))
        .await;
    stage
        .until("progress is stored", |stage| {
            stored(stage)["progress"] == serde_json::json!({"percent": 40, "step": "encode"})
        })
        .await;
}
