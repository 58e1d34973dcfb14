//! What a pool's status says in each situation, and when it is written.

use k8s_openapi::jiff::Timestamp;

use super::*;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn report(backlog: &PoolBacklog) -> Report<'_> {
    Report {
        generation: Some(1),
        replicas: 0,
        ready: 0,
        rolling: false,
        desired: 0,
        capped_by: None,
        backlog,
        limit: 100,
        suspended: false,
        problem: None,
        deployed: false,
        waiting: None,
        image: "worker:1",
        selector: "a=b".to_owned(),
        last_scale: None,
    }
}

fn told(status: &VideoWorkerPoolStatus) -> String {
    let each = status
        .conditions
        .iter()
        .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason));
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn conditions_tell_each_situation() {
    let backlog = PoolBacklog::default();
    let invalid = Problem {
        reason: reason::INVALID_SPEC,
        message: "no".to_owned(),
    };
    let second = Problem {
        reason: reason::NOT_THE_DEFAULT,
        message: "no".to_owned(),
    };
    let refused = Problem {
        reason: reason::WORKERS_REFUSED,
        message: "no".to_owned(),
    };
    let base = report(&backlog);
    let table = [
        ("idle at zero", base.clone(), "Ready=True/ScaledToZero"),
        (
            "starting from zero",
            Report {
                replicas: 1,
                desired: 1,
                ..base.clone()
            },
            "Ready=False/WorkersStarting Reconciling=True/WorkersStarting",
        ),
        (
            "an image that does not come",
            Report {
                replicas: 1,
                desired: 1,
                waiting: Some("ImagePullBackOff"),
                ..base.clone()
            },
            "Ready=False/ImagePullFailed Stalled=True/ImagePullFailed",
        ),
        (
            "a new image that does not come while the old one works",
            Report {
                replicas: 2,
                ready: 1,
                desired: 1,
                rolling: true,
                waiting: Some("ErrImagePull"),
                ..base.clone()
            },
            "Ready=True/WorkersReady Stalled=True/ImagePullFailed",
        ),
        (
            "a container that waits for something else",
            Report {
                replicas: 1,
                desired: 1,
                waiting: Some("ContainerCreating"),
                ..base.clone()
            },
            "Ready=False/WorkersStarting Reconciling=True/WorkersStarting",
        ),
        (
            "one ready is enough",
            Report {
                replicas: 3,
                ready: 1,
                desired: 3,
                ..base.clone()
            },
            "Ready=True/WorkersReady",
        ),
        (
            "a rollout goes on",
            Report {
                replicas: 1,
                ready: 1,
                desired: 1,
                rolling: true,
                ..base.clone()
            },
            "Ready=True/WorkersReady Reconciling=True/WorkersStarting",
        ),
        (
            "held down",
            Report {
                replicas: 1,
                ready: 1,
                desired: 1,
                capped_by: Some(Cap::Service),
                ..base.clone()
            },
            "Ready=True/WorkersReady ScalingLimited=True/AtMaximum",
        ),
        (
            "suspended",
            Report {
                suspended: true,
                ..base.clone()
            },
            "Ready=True/Suspended Suspended=True/Suspended",
        ),
        (
            "a spec that cannot be served",
            Report {
                problem: Some(&invalid),
                ..base.clone()
            },
            "Ready=False/InvalidSpec Stalled=True/InvalidSpec",
        ),
        (
            "no workers, and none can be made",
            Report {
                problem: Some(&refused),
                ..base.clone()
            },
            "Ready=False/WorkersRefused Stalled=True/WorkersRefused",
        ),
        (
            "a change of the workers is refused while older ones work",
            Report {
                replicas: 1,
                ready: 1,
                desired: 1,
                problem: Some(&refused),
                deployed: true,
                ..base.clone()
            },
            "Ready=True/WorkersReady Stalled=True/WorkersRefused",
        ),
        (
            "a second default pool",
            Report {
                problem: Some(&second),
                ..base
            },
            "Ready=True/ScaledToZero Stalled=True/AnotherDefaultPool",
        ),
    ];
    for (name, report, want) in table {
        let status = build(&report, &VideoWorkerPoolStatus::default(), at(1));
        assert_eq!(told(&status), want, "{name}");
        let again = build(&report, &status, at(2));
        assert_eq!(again, status, "{name}: time alone changes nothing");
    }
}

#[test]
fn drift_waits_ten_seconds_and_news_does_not() {
    let none = PoolBacklog::default();
    let some = |queued| PoolBacklog {
        queued,
        ..PoolBacklog::default()
    };
    let busy = |backlog: &PoolBacklog| {
        build(
            &Report {
                replicas: 1,
                ready: 1,
                desired: 1,
                ..report(backlog)
            },
            &VideoWorkerPoolStatus::default(),
            at(1),
        )
    };
    let t0 = Instant::now();
    let later = |seconds| t0 + Duration::from_secs(seconds);
    let (zero, five, six) = (busy(&none), busy(&some(5)), busy(&some(6)));
    let idle = build(&report(&none), &VideoWorkerPoolStatus::default(), at(1));
    let table = [
        (
            "the same is never written",
            &five,
            &five,
            Some(t0),
            100,
            Due::Never,
        ),
        (
            "a first write is at once",
            &VideoWorkerPoolStatus::default(),
            &five,
            None,
            0,
            Due::Now,
        ),
        (
            "drift waits",
            &five,
            &six,
            Some(t0),
            4,
            Due::In(Duration::from_secs(6)),
        ),
        (
            "drift is written in the end",
            &five,
            &six,
            Some(t0),
            10,
            Due::Now,
        ),
        (
            "a count that leaves zero is at once",
            &zero,
            &five,
            Some(t0),
            1,
            Due::Now,
        ),
        (
            "a count that reaches zero is at once",
            &five,
            &zero,
            Some(t0),
            1,
            Due::Now,
        ),
        (
            "a condition that flips is at once",
            &zero,
            &idle,
            Some(t0),
            1,
            Due::Now,
        ),
    ];
    for (name, old, new, written, seconds, want) in table {
        assert_eq!(due(old, new, written, later(seconds)), want, "{name}");
    }
}

#[test]
fn the_patch_names_what_changed_and_what_is_gone() {
    let old = VideoWorkerPoolStatus {
        queued_jobs: Some(1),
        oldest_queued_time: Some(at(1)),
        replicas: Some(1),
        ..Default::default()
    };
    let new = VideoWorkerPoolStatus {
        queued_jobs: Some(0),
        replicas: Some(1),
        ..Default::default()
    };
    let want = serde_json::json!({
        "metadata": {"resourceVersion": "7"},
        "status": {"queuedJobs": 0, "oldestQueuedTime": null},
    });
    assert_eq!(patch(&old, &new, Some("7")).unwrap(), want);
}

#[test]
fn the_kubelet_s_two_words_for_a_failed_pull_are_one_status_and_name_the_image() {
    let backlog = PoolBacklog::default();
    let with = |word| {
        let report = Report {
            replicas: 1,
            desired: 1,
            waiting: Some(word),
            ..report(&backlog)
        };
        build(&report, &VideoWorkerPoolStatus::default(), at(1))
    };
    let first = with("ErrImagePull");
    assert_eq!(first, with("ImagePullBackOff"));
    let stalled = conditions::find(&first.conditions, conditions::STALLED).unwrap();
    for word in ["worker:1", "imagePullSecrets", "template.image"] {
        assert!(stalled.message.contains(word), "{}", stalled.message);
    }
}

#[test]
fn a_service_that_is_away_shows_until_it_answers_again_and_a_healthy_one_never_did() {
    let backlog = |breaker| PoolBacklog {
        breaker,
        ..PoolBacklog::default()
    };
    let steps = [
        (BreakerState::Closed, "Ready=True/ScaledToZero", None),
        (
            BreakerState::Open,
            "Ready=True/ScaledToZero ServiceHealthy=False/ServiceUnavailable",
            Some("Open"),
        ),
        (
            BreakerState::HalfOpen,
            "Ready=True/ScaledToZero ServiceHealthy=False/ServiceUnavailable",
            Some("HalfOpen"),
        ),
        (
            BreakerState::Refused,
            "Ready=False/ServiceMisconfigured ServiceHealthy=False/ServiceMisconfigured",
            Some("Open"),
        ),
        (
            BreakerState::HalfOpen,
            "Ready=False/ServiceMisconfigured ServiceHealthy=False/ServiceMisconfigured",
            Some("HalfOpen"),
        ),
        (
            BreakerState::Closed,
            "Ready=True/ScaledToZero ServiceHealthy=True/ServiceAnswers",
            Some("Closed"),
        ),
    ];
    let mut old = VideoWorkerPoolStatus::default();
    for (breaker, want, word) in steps {
        let backlog = backlog(breaker);
        let new = build(&report(&backlog), &old, at(1));
        let told: Vec<String> = told(&new)
            .split(' ')
            .filter(|c| !c.starts_with("Reconciling"))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.join(" "), want, "{breaker:?}");
        assert_eq!(new.breaker.as_deref(), word, "{breaker:?}");
        old = new;
    }
}
