//! From the engine's actions to calls and messages, and from their answers to the engine's events.

use kinora_crds::VideoJob;
use kinora_engine::action::{CloseReason, ToWorker};
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::{AttemptId, Event, Phase, Status, Token, Uid};
use kinora_protocol::dispatch as wire;

use super::act::{Done, Outcome};
use super::run::Core;
use super::tally::count;
use super::translate::uid_of;
use super::{dispatch, lease};
use crate::ports::PodEvent;

impl Core {
    pub(super) fn answer(&mut self, job: Uid, token: Token, answer: Answer) {
        self.step(Event::Answer { job, token, answer });
    }

    /// A call ended: what it brought is kept, what it says goes to the engine.
    pub(super) fn on_done(&mut self, done: Done) {
        let (job, token, outcome) = match done {
            Done::Action {
                job,
                token,
                outcome,
            } => (job, token, outcome),
            Done::PodRemoval { pod_uid, missing } => {
                self.writes.removal_over(uid_of(&pod_uid));
                if missing {
                    self.on_pod(PodEvent::AttemptDeleted { pod_uid });
                }
                return self.write_whatever_may();
            }
        };
        let mut pushed = None;
        let written = self.writing.remove(&token);
        if let (Some((cause, phase, reason)), Outcome::Written(object)) = (written, &outcome) {
            self.count_written(cause, phase);
            self.actor.tell(object, cause, phase, reason);
            self.trace_written(job, cause);
        }
        if matches!(outcome, Outcome::Gone) {
            self.note_gone(job);
        }
        let answer = match outcome {
            Outcome::Written(object) => match self.learn_and_keep(job, *object) {
                Some(facts) => Answer::Written(Box::new(facts)),
                None => Answer::Unknown,
            },
            Outcome::Found(object) => match self.learn_and_keep(job, *object) {
                Some(facts) => Answer::Found(Box::new(facts)),
                None => Answer::Gone,
            },
            Outcome::Gone => Answer::Gone,
            Outcome::Unknown => Answer::Unknown,
            Outcome::Refused => Answer::Refused,
            Outcome::NotSent => Answer::NotSent,
            Outcome::Yes => Answer::Yes,
            Outcome::No => Answer::No,
            Outcome::Away => Answer::Away,
            Outcome::Record(redrives) => Answer::Record(redrives),
            Outcome::Urls(attempt, urls) => {
                let attempt = AttemptId { job, attempt };
                self.memory.keep_urls(attempt, *urls);
                pushed = Some(attempt);
                Answer::Yes
            }
            Outcome::Outputs(attempt, found, complete) => {
                let attempt = AttemptId { job, attempt };
                let worker = self.engine.job(job).and_then(|facts| facts.status.worker);
                match worker {
                    Some(worker)
                        if self
                            .memory
                            .reports
                            .note_found(worker, attempt, found, complete) =>
                    {
                        Answer::Yes
                    }
                    Some(_) | None => Answer::No,
                }
            }
        };
        self.answer(job, token, answer);
        if let Some(attempt) = pushed {
            // Pushed by now, or never.
            self.memory.take_urls(attempt);
        }
        self.tidy(job);
        self.call_whoever_may();
        self.write_whatever_may();
    }

    fn learn_and_keep(&mut self, uid: Uid, object: VideoJob) -> Option<kinora_engine::Job> {
        let facts = self.memory.learn(&object)?;
        if facts.status.phase == Phase::Succeeded {
            // Before the engine asks for the record; its worker may have left before it could be told.
            self.settle(uid, &facts.status);
        }
        let needed = facts.status.phase == Phase::Running || facts.status.phase.is_final();
        if needed {
            self.memory.keep_object(uid, object);
        } else {
            self.memory.drop_object(uid);
        }
        Some(facts)
    }

    /// Forgets what nobody will ask for again.
    fn tidy(&mut self, uid: Uid) {
        if let Some(facts) = self.engine.job(uid)
            && facts.status.phase != Phase::Running
        {
            self.settle(uid, &facts.status);
        }
        let facts = self.engine.job(uid);
        if facts.is_none_or(|facts| facts.status.phase != Phase::Running) {
            self.memory.drop_leased(uid);
        }
        let engine = &self.engine;
        let waits = |worker, attempt| engine.keeps_report(worker, attempt);
        self.memory.reports.retain(uid, waits);
        match self.engine.job(uid) {
            None => {
                self.memory.forget(uid);
                self.traces.ended(uid, None);
            }
            Some(_) if self.engine.is_archived(uid) => {
                self.memory.drop_object(uid);
                self.memory.drop_result(uid);
            }
            Some(_) => {}
        }
    }

    /// The outcome of a job's last attempt is decided.
    fn settle(&mut self, job: Uid, status: &Status) {
        if let Some(worker) = status.worker {
            let attempt = status.attempt;
            let succeeded = status.phase == Phase::Succeeded;
            self.settle_report(worker, AttemptId { job, attempt }, succeeded);
        }
    }

    fn settle_report(&mut self, worker: Uid, attempt: AttemptId, succeeded: bool) {
        if !self.memory.settle_report(worker, attempt, succeeded) {
            count(&self.counters.results_left_out);
        }
    }

    fn has_succeeded(&self, attempt: AttemptId) -> bool {
        self.engine.job(attempt.job).is_some_and(|job| {
            job.status.phase == Phase::Succeeded && job.status.attempt == attempt.attempt
        })
    }

    /// Sends a message; a worker that does not read loses its stream.
    pub(super) fn send(&mut self, session: SessionId, seq: u64, message: ToWorker) {
        let attempt = |id: AttemptId| Some(lease::attempt_ref(id));
        let body = match message {
            ToWorker::Beat(seq) => wire::to_worker::Message::Beat(wire::Beat { seq }),
            ToWorker::Ack(id, accepted) => {
                if let Some(worker) = self.engine.worker_of(session) {
                    // What is accepted need not be a success: outputs may have been missing.
                    let succeeded = accepted && self.has_succeeded(id);
                    self.settle_report(worker, id, succeeded);
                }
                let verdict = if accepted {
                    wire::ack::Verdict::Accepted
                } else {
                    count(&self.counters.stale_outcomes);
                    wire::ack::Verdict::Stale
                };
                wire::to_worker::Message::Ack(wire::Ack {
                    attempt: attempt(id),
                    verdict: verdict.into(),
                })
            }
            ToWorker::Cancel(id) => wire::to_worker::Message::Cancel(wire::Cancel {
                attempt: attempt(id),
                reason: "no longer wanted".to_owned(),
            }),
            ToWorker::Drain => wire::to_worker::Message::Drain(wire::Drain {}),
            ToWorker::Lease(id) => match self.lease(id) {
                Some(lease) => {
                    count(&self.counters.leases);
                    wire::to_worker::Message::Lease(lease)
                }
                None => return self.drop_line(session),
            },
        };
        let message = wire::ToWorker {
            seq,
            message: Some(body),
        };
        let sent = self
            .memory
            .lines
            .get(&session)
            .is_some_and(|line| line.out.try_send(Ok(message)).is_ok());
        if !sent {
            self.drop_line(session);
        }
    }

    /// A hole in the numbers would make every later proof wrong: the stream goes, and says so through its reader.
    fn drop_line(&mut self, session: SessionId) {
        if let Some(line) = self.memory.lines.remove(&session) {
            line.hang_up.cancel();
        }
    }

    pub(super) fn close(&mut self, session: SessionId, why: CloseReason) {
        let Some(line) = self.memory.lines.remove(&session) else {
            return;
        };
        let status = match why {
            CloseReason::Replaced => tonic::Status::aborted("a newer stream took its place"),
            CloseReason::Recalled => tonic::Status::aborted("leases come here again"),
            CloseReason::Silent => tonic::Status::deadline_exceeded("silent for too long"),
            CloseReason::NotLeader => dispatch::redirect(&self.leadership)
                .err()
                .unwrap_or_else(|| tonic::Status::unavailable("this replica does not lead")),
        };
        let _ = line.out.try_send(Err(status));
        line.hang_up.cancel();
    }
}
