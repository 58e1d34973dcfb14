//! Progress in the status: only where a pool asks for it, and rarely.

use kinora_engine::action::Cause;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use super::fixtures::*;

fn telling() -> PoolPolicy {
    PoolPolicy {
        report_progress: true,
        ..pool()
    }
}

fn progress(world: &mut World, session: SessionId, percent: u32) {
    world.feed(Event::Progress {
        session,
        attempt: attempt(1, 1),
        percent,
    });
}

fn told(world: &World) -> Vec<u32> {
    let percent = |cause: &Cause| match cause {
        Cause::Progress(percent) => Some(*percent),
        _ => None,
    };
    world
        .writes
        .iter()
        .filter_map(|(_, cause, _)| percent(cause))
        .collect()
}

#[test]
fn a_long_job_that_tells_every_second_costs_few_writes() {
    let (mut world, session) = World::running_with(job(1), telling());
    for second in 0..300 {
        progress(&mut world, session, second / 3);
        world.pass(secs(1), &[session]);
    }
    let told = told(&world);
    assert!((10..=20).contains(&told.len()), "{told:?}");
    assert!(told.is_sorted());
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
}

#[test]
fn a_pool_that_does_not_ask_gets_none() {
    let (mut world, session) = World::running();
    progress(&mut world, session, 50);
    assert!(told(&world).is_empty());
}

/// covers: S16
#[test]
fn progress_of_somebody_else_s_attempt_is_not_written() {
    let (mut world, _) = World::running_with(job(1), telling());
    let stranger = world.hello(2, 2, 1);
    progress(&mut world, stranger, 50);
    progress(&mut world, SessionId(99), 50);
    assert!(told(&world).is_empty());
}

#[test]
fn an_outcome_that_comes_while_progress_is_written_is_not_lost() {
    let (mut world, session) = World::running_with(job(1), telling());
    world.hold_writes = true;
    progress(&mut world, session, 50);
    assert_eq!(world.held.len(), 1);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.held.len(), 1, "one write of a job at a time");
    world.hold_writes = false;
    let write = world.held.remove(0);
    let (job, token, answer) = world.perform(write).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

/// covers: F17
#[test]
fn a_write_of_progress_that_was_overtaken_is_dropped() {
    let (mut world, session) = World::running_with(job(1), telling());
    world.hold_writes = true;
    progress(&mut world, session, 50);
    world.hold_writes = false;
    let write = world.held.remove(0);
    let unseen = world.etcd[&Uid(1)].clone();
    world.put_unseen(unseen);
    let (job, token, answer) = world.perform(write).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(10), &[session]);
    progress(&mut world, session, 60);
    assert_eq!(told(&world), [60]);
}
