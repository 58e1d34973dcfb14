//! The table of outcomes: whom an end is charged to, and what comes next. covers: I5, T7

use kinora_engine::event::Answer;
use kinora_engine::job::fence::{self, Fence};
use kinora_engine::outcome::{Class, Fact, classify, grpc};
use kinora_engine::*;
use rstest::rstest;

use crate::fixtures::*;

#[rstest]
#[case::invalid_argument(Fact::Grpc(3), Class::Rejected)]
#[case::out_of_range(Fact::Grpc(11), Class::Rejected)]
#[case::internal(Fact::Grpc(13), Class::Failed)]
#[case::unknown(Fact::Grpc(2), Class::Failed)]
#[case::aborted(Fact::Grpc(10), Class::Failed)]
#[case::data_loss(Fact::Grpc(15), Class::Failed)]
#[case::deadline_exceeded(Fact::Grpc(4), Class::Failed)]
#[case::not_found(Fact::Grpc(5), Class::Failed)]
#[case::failed_precondition(Fact::Grpc(9), Class::Failed)]
#[case::already_exists(Fact::Grpc(6), Class::Failed)]
#[case::ok_is_no_error(Fact::Grpc(0), Class::Failed)]
#[case::no_such_code(Fact::Grpc(99), Class::Failed)]
#[case::resource_exhausted(Fact::Grpc(8), Class::Throttled)]
#[case::unavailable(Fact::Grpc(14), Class::Unavailable)]
#[case::unauthenticated(Fact::Grpc(16), Class::Misconfigured)]
#[case::permission_denied(Fact::Grpc(7), Class::Misconfigured)]
#[case::unimplemented(Fact::Grpc(12), Class::Misconfigured)]
#[case::cancelled_by_the_service(Fact::Grpc(1), Class::Misconfigured)]
#[case::bad_request(Fact::Http(400), Class::Rejected)]
#[case::too_large(Fact::Http(413), Class::Rejected)]
#[case::unsupported(Fact::Http(415), Class::Rejected)]
#[case::unprocessable(Fact::Http(422), Class::Rejected)]
#[case::request_timeout(Fact::Http(408), Class::Throttled)]
#[case::too_early(Fact::Http(425), Class::Throttled)]
#[case::too_many(Fact::Http(429), Class::Throttled)]
#[case::server_error(Fact::Http(500), Class::Failed)]
#[case::gateway_timeout(Fact::Http(504), Class::Failed)]
#[case::bad_gateway(Fact::Http(502), Class::Unavailable)]
#[case::service_unavailable(Fact::Http(503), Class::Unavailable)]
#[case::redirect(Fact::Http(302), Class::Misconfigured)]
#[case::not_found_http(Fact::Http(404), Class::Misconfigured)]
#[case::unauthorized(Fact::Http(401), Class::Misconfigured)]
#[case::nonsense(Fact::Http(7), Class::Failed)]
#[case::nothing(Fact::Nothing, Class::Failed)]
fn every_code_has_one_class(#[case] fact: Fact, #[case] want: Class) {
    assert_eq!(classify(fact, None), want);
}

#[test]
fn whoever_names_a_time_to_come_back_is_throttling() {
    for fact in [
        Fact::Grpc(14),
        Fact::Http(503),
        Fact::Http(500),
        Fact::Grpc(3),
    ] {
        assert_eq!(classify(fact, Some(secs(1))), Class::Throttled);
    }
    assert_eq!(classify(Fact::Succeeded, Some(secs(1))), Class::Succeeded);
    assert_eq!(classify(Fact::Released, Some(secs(1))), Class::Released);
}

#[rstest]
#[case::failed(Fact::Grpc(grpc::INTERNAL), Phase::Backoff, (1, 0, 0, 0))]
#[case::rejected_once_is_not_believed(Fact::Grpc(3), Phase::Backoff, (0, 0, 0, 1))]
#[case::throttled(Fact::Grpc(8), Phase::Backoff, (0, 0, 1, 0))]
#[case::unavailable_as_a_whole(Fact::Grpc(14), Phase::Backoff, (0, 0, 1, 0))]
#[case::misconfigured(Fact::Grpc(16), Phase::Backoff, (0, 0, 1, 0))]
fn an_end_is_charged_as_the_table_says(
    #[case] fact: Fact,
    #[case] want_phase: Phase,
    #[case] (failures, interruptions, uncharged, rejections): (u32, u32, u32, u32),
) {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), fact);
    let status = world.status(1);
    assert_eq!(status.phase, want_phase);
    assert_eq!(
        (
            status.failures,
            status.interruptions,
            status.uncharged,
            status.rejections
        ),
        (failures, interruptions, uncharged, rejections)
    );
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
    assert!(status.next_attempt.is_some());
}

#[test]
fn a_released_lease_is_queued_and_claimed_again_uncharged() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Released);
    let status = world.status(1);
    assert_eq!((status.phase, status.attempt), (Phase::Running, 2));
    assert_eq!((status.failures, status.interruptions), (0, 0));
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

#[test]
fn the_acknowledgement_follows_the_finish_write() {
    let (mut world, session) = World::running();
    world.hold_writes = true;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert!(world.acks().is_empty());
    let finish = world.held.remove(0);
    let (job, token, answer) = world.perform(finish).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

#[test]
fn a_success_without_its_outputs_is_a_failure() {
    let (mut world, session) = World::running();
    world.store.outputs = Answer::No;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Backoff);
    assert_eq!(world.status(1).failures, 1);
}

#[test]
fn while_the_store_is_away_a_success_is_neither_acknowledged_nor_charged() {
    let (mut world, session) = World::running();
    world.store.outputs = Answer::Away;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.pass(secs(12), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    assert!(world.acks().is_empty());
    world.store.outputs = Answer::Yes;
    world.pass(secs(6), &[session]);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

#[test]
fn a_failure_while_the_store_is_away_is_not_charged() {
    let (mut world, session) = World::running();
    world.store.source = Answer::Away;
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::INTERNAL));
    assert_eq!(world.phase(1), Phase::Backoff);
    assert_eq!(world.status(1).failures, 0);
}

#[test]
fn a_source_missing_twice_is_gone_for_good() {
    let (mut world, session) = World::running();
    world.store.source = Answer::No;
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::NOT_FOUND));
    assert_eq!(world.status(1).reason, Reason::SourceUnavailable);
    assert_eq!(world.phase(1), Phase::Backoff);
    world.pass(secs(59), &[session]);
    assert_eq!(world.phase(1), Phase::Backoff);
    world.pass(secs(2), &[session]);
    assert_eq!(world.phase(1), Phase::DeadLettered);
    assert_eq!(world.status(1).reason, Reason::InvalidSource);
}

#[test]
fn a_source_that_comes_back_is_tried_again() {
    let (mut world, session) = World::running();
    world.store.source = Answer::No;
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::NOT_FOUND));
    world.store.source = Answer::Yes;
    world.pass(secs(61), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    assert_eq!(world.status(1).attempt, 2);
}

#[test]
fn an_import_that_stays_missing_is_charged_until_its_budget_ends() {
    let mut import = job(1);
    import.spec.own_source = false;
    let (mut world, session) = World::running_with(import, pool());
    world.store.source = Answer::No;
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::NOT_FOUND));
    world.pass(secs(4 * 61), &[session]);
    assert_eq!(world.status(1).reason, Reason::FailuresExhausted);
    assert_eq!(world.status(1).failures, 5);
    assert_eq!(world.status(1).attempt, 1);
}

#[test]
fn five_failures_are_the_end_and_four_are_not() {
    let (mut world, session) = World::running();
    for n in 1..=5 {
        world.until_running(1, session);
        assert_eq!(world.status(1).attempt, n);
        world.report(session, attempt(1, n), Fact::Grpc(grpc::INTERNAL));
    }
    assert_eq!(world.phase(1), Phase::DeadLettered);
    assert_eq!(world.status(1).reason, Reason::FailuresExhausted);
    assert_eq!(world.status(1).failures, 5);
}

#[test]
fn a_rejection_is_believed_at_once_where_others_succeed_and_else_at_the_third() {
    let (mut world, session) = World::running();
    for n in 1..=2 {
        world.report(session, attempt(1, n), Fact::Grpc(grpc::INVALID_ARGUMENT));
        assert!(!world.phase(1).is_final());
        world.until_running(1, session);
    }
    world.report(session, attempt(1, 3), Fact::Grpc(grpc::INVALID_ARGUMENT));
    assert_eq!(world.status(1).reason, Reason::Rejected);
    world.put(job(2));
    world.report(session, attempt(2, 1), Fact::Succeeded);
    world.put(job(3));
    world.report(session, attempt(3, 1), Fact::Grpc(grpc::INVALID_ARGUMENT));
    assert_eq!(world.status(3).reason, Reason::Rejected);
    assert_eq!(world.status(3).attempt, 1);
}

#[rstest]
#[case::a_minute(secs(60), 60)]
#[case::absurdly_long(secs(1_000_000), 3600)]
fn retry_after_is_waited_for_but_never_longer_than_an_hour(
    #[case] asked: std::time::Duration,
    #[case] want_at_least: u64,
) {
    let (mut world, session) = World::running();
    world.report_with(session, attempt(1, 1), Fact::Grpc(8), Some(asked));
    let wait = world.status(1).next_attempt.unwrap() - START;
    assert!(wait >= secs(want_at_least) && wait <= secs(want_at_least.max(600) + 1));
    assert_eq!(world.status(1).failures, 0);
}

#[test]
fn unavailable_for_one_job_while_others_succeed_counts_as_an_interruption() {
    let mut world = World::new();
    let session = world.hello(1, 1, 2);
    world.put(job(1));
    world.put(job(2));
    world.report(session, attempt(2, 1), Fact::Succeeded);
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    assert_eq!(world.status(1).interruptions, 1);
    assert_eq!(world.phase(1), Phase::Backoff);
}

#[test]
fn a_second_report_of_an_accepted_end_is_accepted_again_and_writes_nothing() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    let writes = world.writes.len();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true), (attempt(1, 1), true)]);
    assert_eq!(world.writes.len(), writes);
}

#[test]
fn a_report_of_somebody_elses_attempt_is_stale_after_a_quorum_read() {
    let (mut world, _) = World::running();
    let other = world.hello(2, 2, 1);
    world.report(other, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.asked, ["read"]);
    assert_eq!(world.acks(), [(attempt(1, 1), false)]);
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn a_report_of_a_later_attempt_proves_the_index_old_and_is_taken_once_read() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    let mut old = job(1);
    old.spec.suspend = true;
    world.put(old);
    let mut newer = world.etcd[&Uid(1)].clone();
    newer.spec.suspend = false;
    newer.status = newer.claimed(Uid(1), POOL.name, START);
    world.put_unseen(newer);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

#[test]
fn a_report_about_an_unknown_job_is_stale_only_after_thirty_seconds() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    world.report(session, attempt(9, 1), Fact::Succeeded);
    world.pass(secs(29), &[session]);
    world.report(session, attempt(9, 1), Fact::Succeeded);
    assert!(world.acks().is_empty());
    world.pass(secs(1), &[session]);
    world.report(session, attempt(9, 1), Fact::Succeeded);
    assert_eq!(world.acks(), [(attempt(9, 1), false)]);
}

#[test]
fn a_report_is_worth_what_is_stored_of_its_attempt() {
    use Class::{Failed, Released, Succeeded};
    use Fence::{Accepted, Current, FactsAreOld, Stale};
    let (own, other) = (Some(Uid(1)), Some(Uid(9)));
    let table = [
        ("it runs", Phase::Running, own, 2, Failed, Current),
        ("an older one", Phase::Running, own, 1, Succeeded, Stale),
        (
            "one not known yet",
            Phase::Running,
            own,
            3,
            Failed,
            FactsAreOld,
        ),
        ("another's", Phase::Running, other, 2, Succeeded, Stale),
        ("given up as lost", Phase::Queued, None, 2, Succeeded, Stale),
        ("given back", Phase::Queued, own, 2, Released, Accepted),
        ("failed", Phase::Backoff, own, 2, Failed, Accepted),
        ("held since", Phase::Suspended, own, 2, Failed, Accepted),
        ("dead of it", Phase::DeadLettered, own, 2, Failed, Accepted),
        ("done", Phase::Succeeded, own, 2, Succeeded, Accepted),
        (
            "done, and now denied",
            Phase::Succeeded,
            own,
            2,
            Failed,
            Stale,
        ),
        (
            "done, and now given back",
            Phase::Succeeded,
            own,
            2,
            Released,
            Stale,
        ),
        ("cancelled", Phase::Cancelled, own, 2, Succeeded, Stale),
    ];
    for (name, phase, worker, reported, class, want) in table {
        let mut stored = job(1);
        stored.status.phase = phase;
        stored.status.attempt = 2;
        stored.status.worker = worker;
        let judged = fence::judge(&stored, reported, Uid(1), class);
        assert_eq!(judged, want, "{name}");
    }
}

/// Or a store that is away would make a pool scale up.
#[test]
fn a_call_is_over_with_its_report_however_long_its_outputs_are_looked_for() {
    let (mut world, session) = World::running();
    world.pass(secs(10), &[session]);
    world.store.outputs = Answer::Away;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.pass(secs(60), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    world.store.outputs = Answer::Yes;
    world.pass(secs(6), &[session]);
    assert_eq!(world.phase(1), Phase::Succeeded);
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!(view.call_seconds, Some(10.0));
}
