//! What a job takes in the engine, counted by the allocator. A program of its own: an allocator is everybody's.

// Helpers of tests are tests.
#![allow(clippy::panic, clippy::expect_used)]

use std::time::Duration;

use kinora_engine::event::{Answer, Lead};
use kinora_engine::*;
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const JOBS: usize = 100_000;
const BUDGET: usize = 480;
const POOL: PoolName = PoolName {
    namespace: Symbol(1),
    name: Symbol(2),
};
const NOW: Now = Now {
    mono: Mono(1_000_000),
    wall: Wall(1_700_000_000_000),
};

/// An upload's job of one of 20 tenants, made within the last hour, as it may stand after a few attempts.
fn job(n: usize, rng: &mut StdRng, stand: impl Fn(&mut Status)) -> Job {
    let created = Wall(NOW.wall.0 - 3_600_000 + 36 * n as i64).floor_second();
    let mut status = Status::default();
    stand(&mut status);
    Job {
        uid: Uid(rng.random()),
        rv: Rv(1 + n as u64),
        generation: 1,
        spec: Spec {
            namespace: POOL.namespace,
            tenant: Symbol(10 + rng.random_range(0..20)),
            own_source: true,
            ttl: Some(Duration::from_secs(900)),
            created,
            ..Spec::default()
        },
        status,
    }
}

/// Bytes a job of an engine that holds so many like this one, also after they were listed a second time, in another order and
/// some of them twice.
fn bytes_per_job(stand: impl Fn(&mut Status) + Copy) -> usize {
    let mut rng = StdRng::seed_from_u64(1);
    let mut engine = Engine::new();
    let policy = PoolPolicy {
        is_default: true,
        ..PoolPolicy::default()
    };
    engine.step(Event::Pool(POOL, Box::new(policy)), NOW, &mut rng);
    engine.step(Event::PoolsSynced, NOW, &mut rng);
    engine.step(Event::Lead(Lead::Leader), NOW, &mut rng);
    let before = ALLOCATOR.current_usage();
    for n in 0..JOBS {
        let event = Event::Job(Box::new(job(n, &mut rng, stand)));
        let mut actions = engine.step(event, NOW, &mut rng);
        // The store has its record, and nothing is left to clean.
        while let Some(action) = actions.pop() {
            let (job, token, answer) = match action {
                Action::ReadRecord { job, token } => (job, token, Answer::Record(0)),
                Action::Clean { job, token } => (job, token, Answer::Yes),
                other => panic!("{other:?}"),
            };
            let event = Event::Answer { job, token, answer };
            actions.extend(engine.step(event, NOW, &mut rng));
        }
    }
    assert_eq!(engine.jobs(), JOBS);
    let used = ALLOCATOR.current_usage() - before;
    list_again(&mut engine, stand);
    assert!(ALLOCATOR.current_usage() - before <= used + JOBS);
    drop(engine);
    used / JOBS
}

/// The same jobs once more, as a list that was started over brings them.
fn list_again(engine: &mut Engine, stand: impl Fn(&mut Status) + Copy) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut listed: Vec<Job> = (0..JOBS).map(|n| job(n, &mut rng, stand)).collect();
    let overlap = listed[..JOBS / 10].to_vec();
    listed.reverse();
    for job in listed.into_iter().chain(overlap) {
        let actions = engine.step(Event::Job(Box::new(job)), NOW, &mut rng);
        assert_eq!(actions, [], "what is known already is no news");
    }
    assert_eq!(engine.jobs(), JOBS);
}

fn ran(status: &mut Status) {
    status.observed = 1;
    status.attempt = 2;
    status.worker = Some(Uid(77));
    status.pool = Some(POOL.name);
    status.failures = 1;
    status.started = Some(NOW.wall);
    status.since = Some(NOW.wall);
    status.active = Duration::from_secs(61);
}

/// covers: F26
/// One test, because what other tests allocate meanwhile would be counted, too.
#[test]
fn a_job_takes_no_more_than_its_budget_wherever_it_stands() {
    let waits = bytes_per_job(|_| {});
    let backs_off = bytes_per_job(|status| {
        ran(status);
        status.phase = Phase::Backoff;
        status.reason = Reason::Backoff;
        status.mode_since = Some(NOW.wall);
        status.next_attempt = Some(NOW.wall + Duration::from_secs(60));
    });
    let ended = bytes_per_job(|status| {
        ran(status);
        status.phase = Phase::Succeeded;
        status.reason = Reason::Completed;
        status.finished = Some(NOW.wall);
    });
    println!("bytes a job: waits {waits}, backs off {backs_off}, ended {ended}");
    for (name, bytes) in [("waits", waits), ("backs off", backs_off), ("ended", ended)] {
        assert!(bytes <= BUDGET, "a job that {name} takes {bytes} bytes");
    }
}
