//! Tables over the machine: a script of events at literal times, and what must and must not come out.

use std::time::Duration;

use kinora_protocol::dispatch::{
    Ack, AttemptRef, Beat, Cancel, Drain, Lease, ToWorker, ack::Verdict, from_worker, to_worker,
};

use super::*;
use crate::report::Report;

/// A machine, the operator's numbering, and what came out of the last step in short words.
struct Bench {
    machine: Machine,
    seq: u64,
    now: Duration,
    last_heartbeat: u64,
    log: Vec<String>,
}

fn bench(slots: u32) -> Bench {
    Bench {
        machine: Machine::new(Settings {
            slots,
            instance: "i".to_owned(),
            drain: Duration::from_secs(60),
            timings: Timings::default(),
        }),
        seq: 0,
        now: Duration::ZERO,
        last_heartbeat: 0,
        log: Vec::new(),
    }
}

fn key(name: &str) -> AttemptKey {
    let (job_uid, attempt) = name.split_once('/').unwrap();
    AttemptKey {
        job_uid: job_uid.to_owned(),
        attempt: attempt.parse().unwrap(),
    }
}

fn names(refs: &[AttemptRef]) -> String {
    let names: Vec<String> = refs
        .iter()
        .map(|r| format!("{}/{}", r.job_uid, r.attempt))
        .collect();
    format!("[{}]", names.join(" "))
}

fn outcome_words(outcome: &Outcome) -> String {
    let attempt = outcome.attempt.clone().unwrap();
    let report = Report {
        fact: outcome.fact.clone().unwrap(),
        message: String::new(),
        retry_after: None,
    };
    format!(
        "outcome {}/{} {}",
        attempt.job_uid,
        attempt.attempt,
        report.summary()
    )
}

impl Bench {
    fn words(&mut self, action: &Action) -> String {
        match action {
            Action::Send(message) => match message.message.clone().unwrap() {
                from_worker::Message::Hello(h) => {
                    format!("hello {}{}", names(&h.held), names(&h.unacked))
                }
                from_worker::Message::Heartbeat(h) => {
                    self.last_heartbeat = h.seq;
                    format!(
                        "heartbeat {}{} seen {}",
                        names(&h.held),
                        names(&h.unacked),
                        h.received_seq
                    )
                }
                from_worker::Message::Progress(p) => format!("progress {} {}", p.percent, p.step),
                from_worker::Message::Outcome(o) => outcome_words(&o),
                from_worker::Message::Draining(_) => "draining".to_owned(),
            },
            Action::Prepare(lease) => format!("prepare {}", names(lease.attempt.as_slice())),
            Action::Begin(key) => format!("begin {}/{}", key.job_uid, key.attempt),
            Action::Stop(key) => format!("stop {}/{}", key.job_uid, key.attempt),
            Action::DropLink(reason) => format!("drop {reason:?}"),
            Action::Exit { unacknowledged } => format!("exit {unacknowledged}"),
        }
    }

    fn step(mut self, event: Event) -> Self {
        let actions = self.machine.step(event, self.now);
        self.log = actions.iter().map(|a| self.words(a)).collect();
        self
    }

    fn hear(mut self, message: to_worker::Message) -> Self {
        self.seq += 1;
        let seq = self.seq;
        self.step(Event::Received(ToWorker {
            seq,
            message: Some(message),
        }))
    }

    fn at(mut self, seconds: f64) -> Self {
        self.now = Duration::from_secs_f64(seconds);
        self
    }

    fn open(mut self) -> Self {
        self.seq = 0;
        self.step(Event::LinkOpened)
    }

    /// The operator echoes the last heartbeat.
    fn echo(self) -> Self {
        let seq = self.last_heartbeat;
        self.hear(to_worker::Message::Beat(Beat { seq }))
    }

    fn lease(self, name: &str) -> Self {
        let attempt = Some(key(name).to_ref());
        self.hear(to_worker::Message::Lease(Lease {
            attempt,
            timeout_ms: 60_000,
            ..Lease::default()
        }))
    }

    fn ready(self, name: &str) -> Self {
        self.step(Event::CallReady(key(name)))
    }

    /// Leased and begun.
    fn running(self, name: &str) -> Self {
        self.lease(name)
            .want(&[&format!("prepare [{name}]")])
            .ready(name)
            .want(&[&format!("begin {name}")])
    }

    fn ended(self, name: &str) -> Self {
        self.step(Event::CallEnded(
            key(name),
            Report::found(tonic::Code::Internal, "x"),
        ))
    }

    fn ack(self, name: &str, verdict: Verdict) -> Self {
        self.hear(to_worker::Message::Ack(Ack {
            attempt: Some(key(name).to_ref()),
            verdict: verdict as i32,
        }))
    }

    fn cancel(self, name: &str) -> Self {
        self.hear(to_worker::Message::Cancel(Cancel {
            attempt: Some(key(name).to_ref()),
            reason: "user".to_owned(),
        }))
    }

    fn tick(self) -> Self {
        self.step(Event::Tick)
    }

    #[track_caller]
    fn want(self, words: &[&str]) -> Self {
        assert_eq!(self.log, words, "at {:?}", self.now);
        self
    }

    #[track_caller]
    fn hand(self, held: usize, unacked: usize) -> Self {
        assert_eq!(self.machine.counts(), Counts { held, unacked });
        self
    }
}

#[test]
fn hello_comes_first_and_a_heartbeat_at_once_and_every_three_seconds() {
    bench(1)
        .open()
        .want(&["hello [][]", "heartbeat [][] seen 0"])
        .echo()
        .at(2.9)
        .tick()
        .want(&[])
        .at(3.0)
        .tick()
        .want(&["heartbeat [][] seen 1"]);
}

#[test]
fn a_lease_is_prepared_begun_reported_and_forgotten_when_acknowledged() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .hand(1, 0)
        .at(1.0)
        .ended("a/1")
        .want(&["outcome a/1 grpc Internal"])
        .hand(0, 1)
        .ack("a/1", Verdict::Accepted)
        .want(&[])
        .hand(0, 0);
}

/// covers: F40
#[test]
fn a_lost_stream_stops_no_call_and_the_outcome_waits_for_the_next_one() {
    bench(2)
        .open()
        .echo()
        .running("a/1")
        .running("b/4")
        .step(Event::LinkClosed)
        .want(&[])
        .at(2.0)
        .ended("a/1")
        .want(&[])
        .at(3.0)
        .open()
        .want(&[
            "hello [b/4][a/1]",
            "outcome a/1 grpc Internal",
            "heartbeat [b/4][a/1] seen 0",
        ]);
}

#[test]
fn an_outcome_is_repeated_every_five_seconds_until_acknowledged_also_as_stale() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .ended("a/1")
        .at(3.0)
        .tick()
        .echo()
        .at(5.0)
        .tick()
        .want(&["outcome a/1 grpc Internal"])
        .ack("a/1", Verdict::Unspecified)
        .hand(0, 1)
        .ack("a/1", Verdict::Stale)
        .hand(0, 0)
        .at(6.0)
        .tick()
        .want(&["heartbeat [][] seen 5"])
        .at(10.0)
        .tick()
        .want(&["heartbeat [][] seen 5"]);
}

#[test]
fn six_silent_seconds_end_the_stream_but_not_the_call() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .at(5.9)
        .tick()
        .want(&["heartbeat [a/1][] seen 2"])
        .at(6.0)
        .tick()
        .want(&["drop Silence"])
        .hand(1, 0);
}

#[test]
fn a_stream_that_never_answers_the_hello_is_silent_too() {
    bench(1).open().at(6.0).tick().want(&["drop Silence"]);
}

/// covers: F39, F40
#[rstest::rstest]
#[case::just_before_nine_seconds(8.9, &["prepare [a/1]"])]
#[case::at_nine_seconds(9.0, &["outcome a/1 released not-started"])]
fn nine_seconds_after_the_last_echoed_heartbeat_no_lease_is_begun(
    #[case] at: f64,
    #[case] want: &[&str],
) {
    // The operator speaks, so the stream lives, but it echoes nothing: it may not hear us.
    let talk = |bench: Bench| bench.cancel("other/1");
    let bench = talk(bench(1).open().echo().at(4.0));
    let bench = talk(talk(bench.at(8.0)).at(8.5)).at(at).lease("a/1");
    bench.want(want);
}

/// covers: F39, T9
#[test]
fn a_process_that_was_stopped_between_lease_and_call_begins_nothing() {
    bench(1)
        .open()
        .echo()
        .lease("a/1")
        .at(20.0)
        .ready("a/1")
        .want(&[
            "stop a/1",
            "outcome a/1 released not-started",
            "drop Silence",
        ])
        .hand(0, 1);
}

#[test]
fn an_echo_that_lay_in_the_socket_proves_only_its_own_send_time() {
    let bench = bench(1).open().at(3.0).tick();
    let old = bench.last_heartbeat;
    // Heartbeat 2 left at 3 s; its echo is read at 13 s.
    let mut bench = bench.at(13.0);
    bench.machine.session.as_mut().unwrap().last_heard = bench.now;
    bench
        .hear(to_worker::Message::Beat(Beat { seq: old }))
        .lease("a/1")
        .want(&["outcome a/1 released not-started"]);
}

#[test]
fn a_lease_before_any_beat_is_begun_because_it_answers_the_hello() {
    bench(1)
        .open()
        .at(0.5)
        .lease("a/1")
        .want(&["prepare [a/1]"]);
}

#[rstest::rstest]
#[case::in_time(2.0, &["begin a/1"])]
#[case::too_late(2.1, &["stop a/1", "outcome a/1 released not-started"])]
fn a_call_starts_within_two_seconds_of_its_lease_or_not_at_all(
    #[case] at: f64,
    #[case] want: &[&str],
) {
    bench(1)
        .open()
        .echo()
        .lease("a/1")
        .at(at)
        .ready("a/1")
        .want(want);
}

#[test]
fn the_same_lease_again_is_ignored_while_running_and_answered_when_ended() {
    bench(2)
        .open()
        .echo()
        .running("a/1")
        .lease("a/1")
        .want(&[])
        .ended("a/1")
        .lease("a/1")
        .want(&["outcome a/1 grpc Internal"])
        .hand(0, 1);
}

#[test]
fn a_slot_counts_until_its_outcome_is_acknowledged() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .ended("a/1")
        .lease("b/1")
        .want(&["outcome b/1 released not-started"])
        .ack("a/1", Verdict::Accepted)
        .ack("b/1", Verdict::Accepted)
        .lease("c/1")
        .want(&["prepare [c/1]"]);
}

#[test]
fn a_newer_attempt_ends_the_older_one_here_and_an_older_lease_is_passed_over() {
    bench(3)
        .open()
        .echo()
        .running("a/2")
        .lease("a/3")
        .want(&["stop a/2", "prepare [a/3]"])
        .step(Event::CallStopped(key("a/2")))
        .want(&["outcome a/2 released expired"])
        .lease("a/1")
        .want(&[])
        .hand(1, 1);
}

#[test]
fn a_cancelled_call_is_held_until_it_has_stopped() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .cancel("a/1")
        .want(&["stop a/1"])
        .hand(1, 0)
        .cancel("a/1")
        .want(&[])
        .step(Event::CallStopped(key("a/1")))
        .want(&["outcome a/1 released cancelled"])
        .cancel("a/1")
        .want(&["outcome a/1 released cancelled"]);
}

#[test]
fn a_call_that_ends_while_being_stopped_reports_what_really_happened() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .cancel("a/1")
        .ended("a/1")
        .want(&["outcome a/1 grpc Internal"])
        .step(Event::CallStopped(key("a/1")))
        .want(&[])
        .hand(0, 1);
}

#[test]
fn cancels_and_acks_of_unknown_attempts_do_nothing() {
    bench(1)
        .open()
        .echo()
        .cancel("z/1")
        .want(&[])
        .ack("z/1", Verdict::Stale)
        .want(&[])
        .hand(0, 0);
}

#[test]
fn a_stale_ack_for_a_running_call_stops_it_and_an_accepted_one_does_not() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .ack("a/1", Verdict::Accepted)
        .want(&[])
        .ack("a/1", Verdict::Stale)
        .want(&["stop a/1"])
        .hand(1, 0);
}

#[test]
fn a_hole_in_the_numbering_ends_the_stream() {
    let mut bench = bench(1).open().echo();
    bench.seq += 1;
    bench.echo().want(&["drop Gap"]);
}

#[test]
fn progress_goes_out_once_a_second_with_the_newest_figure_and_never_above_100() {
    let progress = |percent| Event::CallProgress {
        key: key("a/1"),
        percent,
        step: "encode".to_owned(),
    };
    let bench = bench(1)
        .open()
        .echo()
        .running("a/1")
        .step(progress(1))
        .want(&["progress 1 encode"])
        .at(0.2)
        .step(progress(2))
        .want(&[])
        .at(0.3)
        .step(progress(300))
        .want(&[]);
    assert_eq!(bench.machine.next_wake(), Some(Duration::from_secs(1)));
    bench
        .at(1.0)
        .tick()
        .want(&["progress 100 encode"])
        .step(progress(5))
        .want(&[])
        .ended("a/1")
        .at(2.5)
        .tick()
        .want(&[]);
}

/// covers: F44
#[test]
fn sigterm_lets_running_calls_finish_waits_for_the_ack_and_leaves() {
    bench(2)
        .open()
        .echo()
        .running("a/1")
        .at(1.0)
        .step(Event::Terminate)
        .want(&["draining", "heartbeat [a/1][] seen 2"])
        .lease("b/1")
        .want(&["outcome b/1 released draining"])
        .ack("b/1", Verdict::Accepted)
        .echo()
        .at(4.0)
        .ended("a/1")
        .want(&["outcome a/1 grpc Internal", "heartbeat [][a/1] seen 5"])
        .ack("a/1", Verdict::Accepted)
        .want(&["exit 0"]);
}

#[test]
fn an_idle_worker_leaves_once_the_operator_has_echoed_the_announcement() {
    bench(1)
        .open()
        .echo()
        .step(Event::Terminate)
        .want(&["draining", "heartbeat [][] seen 1"])
        .echo()
        .want(&["exit 0"]);
}

#[rstest::rstest]
#[case::an_operator_that_does_not_echo_is_waited_for_two_seconds(true, 2.0)]
#[case::without_a_stream_there_is_nobody_to_tell(false, 0.0)]
fn leaving_idle(#[case] connected: bool, #[case] at: f64) {
    let bench = bench(1);
    let bench = if connected {
        bench.open().echo()
    } else {
        bench
    };
    let bench = bench.step(Event::Terminate);
    let bench = if connected {
        assert_eq!(bench.machine.next_wake(), Some(Duration::from_secs(2)));
        bench.at(at).tick()
    } else {
        bench
    };
    bench.want(&["exit 0"]);
}

/// covers: F44
#[test]
fn at_the_end_of_the_drain_time_the_rest_is_released_and_still_acknowledged() {
    let mut bench = bench(2)
        .open()
        .echo()
        .running("a/1")
        .step(Event::Terminate)
        .echo();
    while bench.now < Duration::from_secs(57) {
        let next = bench.now.as_secs_f64() + 3.0;
        bench = bench.at(next).tick().echo();
    }
    bench
        .at(60.0)
        .tick()
        .want(&["heartbeat [a/1][] seen 22", "stop a/1"])
        .step(Event::CallStopped(key("a/1")))
        .want(&["outcome a/1 released draining"])
        .ack("a/1", Verdict::Accepted)
        .want(&["exit 0"]);
}

#[test]
fn without_an_operator_a_leaving_worker_gives_up_20_s_after_the_drain_time() {
    let bench = bench(1)
        .open()
        .echo()
        .running("a/1")
        .step(Event::LinkClosed)
        .step(Event::Terminate)
        .want(&[])
        .at(60.0)
        .tick()
        .want(&["stop a/1"])
        .step(Event::CallStopped(key("a/1")))
        .want(&[]);
    assert_eq!(bench.machine.next_wake(), Some(Duration::from_secs(80)));
    bench.at(80.0).tick().want(&["exit 1"]);
}

#[test]
fn a_second_sigterm_ends_the_drain_time_at_once() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .step(Event::Terminate)
        .step(Event::Terminate)
        .want(&["draining", "heartbeat [a/1][] seen 2", "stop a/1"]);
}

#[test]
fn a_drain_by_the_operator_takes_no_more_leases_stays_alive_and_ends_with_its_stream() {
    bench(1)
        .open()
        .echo()
        .running("a/1")
        .hear(to_worker::Message::Drain(Drain {}))
        .want(&["draining", "heartbeat [a/1][] seen 3"])
        .hear(to_worker::Message::Drain(Drain {}))
        .want(&[])
        .ended("a/1")
        .ack("a/1", Verdict::Accepted)
        .want(&[])
        .lease("b/1")
        .want(&["outcome b/1 released draining"])
        .ack("b/1", Verdict::Accepted)
        .step(Event::LinkClosed)
        .at(1.0)
        .open()
        .want(&["hello [][]", "heartbeat [][] seen 0"])
        .echo()
        .running("c/1")
        .hear(to_worker::Message::Drain(Drain {}))
        .want(&["draining", "heartbeat [c/1][] seen 3"])
        .echo()
        .ended("c/1")
        .ack("c/1", Verdict::Accepted)
        .step(Event::Terminate)
        .echo()
        .want(&["exit 0"]);
}

/// covers: S16
#[test]
fn leases_far_beyond_the_slots_take_no_memory() {
    let mut bench = bench(1).open().echo();
    for n in 0..1000 {
        bench = bench.lease(&format!("j{n}/1"));
    }
    assert!(bench.machine.attempts.len() <= 300);
}

#[test]
fn malformed_references_are_passed_over() {
    for attempt in [None, Some(AttemptRef::default())] {
        bench(1)
            .open()
            .echo()
            .hear(to_worker::Message::Lease(Lease {
                attempt: attempt.clone(),
                ..Lease::default()
            }))
            .want(&[])
            .hand(0, 0);
    }
}

#[test]
fn with_nothing_to_do_and_no_stream_nothing_wakes_the_machine() {
    assert_eq!(bench(1).machine.next_wake(), None);
}

/// A wake-up in the past would be a busy loop: after every step the next one lies ahead.
#[test]
fn after_a_tick_the_next_wake_up_lies_ahead() {
    let mut bench = bench(2).open().echo().running("a/1").ended("a/1");
    bench = bench.running("b/1").step(Event::Terminate);
    for _ in 0..200 {
        let Some(wake) = bench.machine.next_wake() else {
            break;
        };
        assert!(wake > bench.now, "{wake:?} after {:?}", bench.now);
        bench.now = wake;
        bench = bench.tick();
        if bench.log.iter().any(|word| word.starts_with("exit")) {
            break;
        }
    }
}
