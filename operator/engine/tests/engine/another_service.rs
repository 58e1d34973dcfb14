//! What is known of a service says nothing of the next one that the pool is pointed at. covers: F45

use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Fact, grpc};
use kinora_engine::*;

use crate::fixtures::*;

const THROTTLED: Fact = Fact::Grpc(grpc::RESOURCE_EXHAUSTED);
const HOUR: u64 = 3600;

fn at(service: u64) -> PoolPolicy {
    PoolPolicy {
        service,
        max_in_flight: Some(1),
        ..pool()
    }
}

/// A pool whose service asked for an hour; its second job waits for that.
fn paused() -> (World, SessionId) {
    let mut world = World::with_pool(at(0));
    (1..=2).for_each(|uid| world.put(job(uid)));
    let session = world.hello(1, 1, 1);
    world.report_with(session, attempt(1, 1), THROTTLED, Some(secs(HOUR)));
    world.pass(secs(5), &[session]);
    assert_eq!(world.phase(2), Phase::Queued);
    (world, session)
}

fn settings(world: &mut World, policy: PoolPolicy) {
    world.feed(Event::Pool(POOL, Box::new(policy)));
}

/// Its author points the pool at a service that works; or at one behind another token.
#[test]
fn another_service_is_called_at_once_and_the_same_one_is_not() {
    let same = PoolPolicy {
        max_failures: 6,
        ..at(0)
    };
    let table = [
        ("another service", at(1), Phase::Running),
        ("other settings of the same one", same, Phase::Queued),
    ];
    for (name, policy, want) in table {
        for is_gone_between in [false, true] {
            let (mut world, session) = paused();
            if is_gone_between {
                world.feed(Event::PoolGone(POOL));
            }
            settings(&mut world, policy.clone());
            world.pass(secs(5), &[session]);
            let what = format!("{name}, gone between: {is_gone_between}");
            assert_eq!(world.phase(2), want, "{what}");
        }
    }
}

/// Pods of before the change call the service that was left until they are replaced.
#[test]
fn what_a_worker_of_the_service_before_tells_pauses_nobody_and_a_new_one_is_believed() {
    let (mut world, old) = paused();
    settings(&mut world, at(1));
    world.put(job(3));
    world.report_with(old, attempt(2, 1), THROTTLED, Some(secs(HOUR)));
    world.pass(secs(1), &[old]);
    assert_eq!(world.phase(3), Phase::Running, "not by the old one's word");

    world.report(old, attempt(3, 1), Fact::Succeeded);
    world.feed(Event::Closed(old));
    let new = world.hello(2, 2, 1);
    world.put(job(4));
    world.pass(secs(1), &[new]);
    assert_eq!(world.phase(4), Phase::Running);
    world.put(job(5));
    world.report_with(new, attempt(4, 1), THROTTLED, Some(secs(HOUR)));
    world.pass(secs(5), &[new]);
    assert_eq!(world.phase(5), Phase::Queued);
}
