//! Whatever a VideoJob holds that can be read at all, it stops nobody: facts, decisions and patches are total.

use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::{Action, Engine, Event, Mono, Now, PoolName, Uid};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const OTHER_POD: &str = "8f1c2d3e-0000-4000-8000-000000000002";
const HEALTHY: &str = "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a99";

fn numbers() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-2..100i64).prop_map(Value::from),
        Just(json!(i64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(i32::MAX)),
    ]
}

fn texts() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "",
        "Queued",
        "Running",
        "Backoff",
        "Suspended",
        "Succeeded",
        "DeadLettered",
        "True",
        "Poison",
        "default",
        POD,
    ]);
    prop_oneof![words.prop_map(Value::from), ".{0,40}".prop_map(Value::from)]
}

fn times() -> impl Strategy<Value = Value> {
    let edges = prop::sample::select(vec![
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "9999-12-30T22:00:00Z",
    ]);
    let near = (-100_000..100_000i64).prop_map(|seconds| {
        let at = jiff::Timestamp::from_second(NOW.0 / 1000 + seconds).unwrap();
        json!(at.to_string())
    });
    prop_oneof![edges.prop_map(Value::from), near]
}

fn fields(
    names: &'static [&'static str],
    values: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Vec<(String, Value)>> {
    let name = prop::sample::select(names).prop_map(str::to_owned);
    prop::collection::vec((name, values), 0..6)
}

fn specs() -> impl Strategy<Value = Value> {
    let count = fields(
        &[
            "priority",
            "maxFailures",
            "startDeadlineSeconds",
            "activeDeadlineSeconds",
            "ttlSecondsAfterFinished",
        ],
        numbers(),
    );
    let flags = fields(
        &["suspend", "cancelRequested"],
        any::<bool>().prop_map(Value::from),
    );
    (count, flags, texts(), texts()).prop_map(|(numbers, flags, key, tenant)| {
        let mut spec = json!({"source": {"key": key}, "tenant": tenant});
        for (name, value) in numbers.into_iter().chain(flags) {
            spec[name.as_str()] = value;
        }
        spec
    })
}

fn conditions() -> impl Strategy<Value = Value> {
    let types = prop::sample::select(vec![
        "Succeeded",
        "Suspended",
        "Reconciling",
        "Stalled",
        "X",
    ]);
    let one = (types, texts(), texts(), times()).prop_map(|(type_, status, reason, at)| {
        json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": at})
    });
    prop::collection::vec(one, 0..4).prop_map(Value::from)
}

fn statuses() -> impl Strategy<Value = Value> {
    let count = fields(
        &[
            "observedGeneration",
            "attempt",
            "failures",
            "interruptions",
            "rejections",
            "uncharged",
            "redrives",
            "activeSeconds",
            "durationSeconds",
        ],
        numbers(),
    );
    let moments = fields(&["nextAttemptTime", "startTime", "finishTime"], times());
    let ghosts = prop::collection::vec(times(), 0..10);
    let worker = prop::option::of(texts());
    (texts(), count, moments, ghosts, worker, conditions()).prop_map(
        |(state, numbers, moments, ghosts, worker, conditions)| {
            let mut status = json!({"state": state, "ghosts": ghosts, "conditions": conditions});
            if let Some(uid) = worker {
                status["worker"] = json!({"podUID": uid});
                status["poolName"] = json!("default");
            }
            for (name, value) in numbers.into_iter().chain(moments) {
                status[name.as_str()] = value;
            }
            status
        },
    )
}

/// A leader with two workers, and an API server that takes every patch.
struct Leader {
    engine: Engine,
    names: Names,
    now: Now,
    rng: StdRng,
    objects: Vec<Value>,
    leased: Vec<Uid>,
}

impl Leader {
    fn new() -> Leader {
        let mut leader = Leader {
            engine: Engine::new(),
            names: Names::default(),
            now: Now {
                mono: Mono(1_000_000),
                wall: NOW,
            },
            rng: StdRng::seed_from_u64(1),
            objects: Vec::new(),
            leased: Vec::new(),
        };
        let pool = leader.pool();
        let policy = PoolPolicy {
            is_default: true,
            ..PoolPolicy::default()
        };
        leader.feed(Event::Pool(pool, Box::new(policy)));
        leader.feed(Event::PoolsSynced);
        leader.feed(Event::JobsSynced);
        leader.feed(Event::Lead(Lead::Leader));
        leader.hello([1, 2]);
        leader
    }

    fn pool(&mut self) -> PoolName {
        PoolName {
            namespace: self.names.intern("videos"),
            name: self.names.intern("default"),
        }
    }

    /// Two workers come: a job that killed some has one for itself. The poisonous one may name the first.
    fn hello(&mut self, sessions: [u64; 2]) {
        for (session, pod) in sessions.into_iter().zip([POD, OTHER_POD]) {
            let pool = self.pool();
            self.feed(Event::Hello {
                session: SessionId(session),
                worker: uid_of(pod),
                pool,
                slots: 5,
                instance: uid_of(pod),
                held: Vec::new(),
                unacked: Vec::new(),
            });
        }
    }

    fn tell(&mut self, object: Value) {
        if let Ok(job) = serde_json::from_value::<VideoJob>(object.clone()) {
            self.objects.push(object);
            if let Some(job) = facts(&job, &mut self.names, terms()) {
                self.feed(Event::Job(Box::new(job)));
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let mut todo = self.engine.step(event, self.now, &mut self.rng);
        while let Some(action) = todo.pop() {
            let (job, token, answer) = match action {
                Action::Write {
                    job,
                    token,
                    rv,
                    before,
                    after,
                    cause,
                } => {
                    let answer = self.write(job, rv, (&before, &after), cause);
                    (job, token, answer)
                }
                Action::Prepare { token, attempt, .. } => {
                    self.leased.push(attempt.job);
                    (attempt.job, token, Answer::Yes)
                }
                Action::Read { job, token } => (job, token, Answer::Gone),
                Action::Delete { job, token, .. }
                | Action::CheckSource { job, token }
                | Action::WriteRecord { job, token }
                | Action::Clean { job, token } => (job, token, Answer::Yes),
                Action::ReadRecord { job, token } => (job, token, Answer::No),
                _ => continue,
            };
            let event = Event::Answer { job, token, answer };
            todo.extend(self.engine.step(event, self.now, &mut self.rng));
        }
    }

    fn write(
        &mut self,
        job: Uid,
        rv: Rv,
        (before, after): (&Status, &Status),
        cause: Cause,
    ) -> Answer {
        let mut extras = worker_extras();
        if let (Some(named), Some(worker)) = (&mut extras.worker, after.worker) {
            named.pod_uid = uid_text(worker);
        }
        let patch = status_patch(
            rv,
            before,
            after,
            cause,
            &extras,
            self.now.wall,
            &self.names,
        );
        let of = |object: &&mut Value| uid_of(object["metadata"]["uid"].as_str().unwrap()) == job;
        let object = self.objects.iter_mut().find(of).unwrap();
        let mut written = object.clone();
        merge(&mut written, &patch);
        written["metadata"]["resourceVersion"] = json!((rv.0 + 1).to_string());
        // A number that the schema does not allow.
        let Ok(read) = serde_json::from_value(written.clone()) else {
            return Answer::Refused;
        };
        *object = written;
        let read = facts(&read, &mut self.names, terms()).unwrap();
        Answer::Written(Box::new(read))
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.feed(Event::Alive);
        self.feed(Event::Tick);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// covers: F31, S14
    #[test]
    fn no_job_stops_the_others_whatever_it_holds(
        spec in specs(), status in statuses(), made in times(), outbox in texts(), generation in any::<i64>(), upload: bool,
    ) {
        let mut poison = created();
        poison["spec"] = spec;
        poison["status"] = status;
        poison["metadata"]["creationTimestamp"] = made;
        poison["metadata"]["generation"] = json!(generation);
        poison["metadata"]["annotations"] = json!({
            "kinora.dev/outbox-time": outbox, "kinora.dev/redrives": outbox, "kinora.dev/redriven-by": outbox,
        });
        if !upload {
            poison["metadata"]["labels"] = Value::Null;
        }
        let mut leader = Leader::new();
        leader.tell(poison);
        leader.pass(1);
        leader.pass(86_400);
        let mut healthy = created();
        healthy["metadata"]["uid"] = json!(HEALTHY);
        healthy["metadata"]["creationTimestamp"] = json!("2023-11-15T22:13:20Z");
        leader.hello([3, 4]);
        leader.tell(healthy);
        prop_assert!(leader.leased.contains(&uid_of(HEALTHY)), "{:?}", leader.objects);
    }
}
