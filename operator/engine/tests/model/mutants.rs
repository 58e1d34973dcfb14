//! Faults that are put in on purpose: each must be found by an invariant, or the invariants are not worth their name.
//!
//! They sit where the engine meets its surroundings: in what it is told (events), in what becomes of what it says (actions), and
//! in etcd, the store and the shell. An engine with the fault inside would look the same from there, and no build of the operator
//! carries a switch for any of them.

use kinora_engine::action::{Cause, PodAction, ToWorker};
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Class;
use kinora_engine::*;

use crate::state::POOL;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// etcd stores whatever resourceVersion a write names.
    NoCompareAndSwap,
    /// A report is taken for the running attempt, whoever made it and whatever it is about.
    NoFence,
    /// A report is acknowledged when it arrives.
    AckBeforeWrite,
    /// A report that does not fit the index is called stale without a read.
    StaleWithoutRead,
    /// A lease that the index does not know is cancelled without a read.
    CancelWithoutRead,
    /// 409, timeout, 5xx mean that nothing was written.
    ConflictTakenForNotWritten,
    /// The read after an unknown write comes from the cache.
    ReadFromCache,
    /// Nobody reads after an unknown write.
    UnknownForgotten,
    /// Deadlines run on while a replica's own writes fail and its sockets are silent.
    ExpiryWhileBlind,
    /// Deadlines run on while a replica is stopped.
    PauseNotExcused,
    /// Heartbeats come without what the worker holds.
    HeartbeatWithoutHeld,
    /// A heartbeat is taken to know every lease that was ever sent.
    ReceivedSeqIgnored,
    /// A claim keeps the attempt number.
    AttemptNotRaised,
    /// A claim skips an attempt number.
    AttemptRaisedTwice,
    /// A lease leaves together with the write that claims it.
    LeasedBeforeWritten,
    /// A lost attempt is charged as a failure.
    LostCharged,
    /// An attempt that was given back is charged as a failure.
    ReleasedCharged,
    /// A worker that leaves is taken for one that died.
    DrainTakenForDeath,
    /// A dead letter is taken for a queued job.
    DeadLetterClaimed,
    /// A lost attempt leaves no ghost.
    GhostNotKept,
    /// A report is looked at once and never again.
    RepeatIgnored,
    /// A job is deleted without a look at its record.
    RecordNotReadBack,
    /// A record is called written before it is.
    RecordAcknowledgedEarly,
    /// A job that is lost is not queued again.
    LossForgotten,
    /// A pod that cannot be found is made.
    PodMadeAgain,
    /// Whatever pod reports is taken for that of the running attempt.
    PodOfAnyAttempt,
    /// Pods whose attempts are over stay.
    PodNotRemoved,
    /// A pod that did not come is charged as a failure.
    PodCharged,
    /// A cancel is not seen.
    CancelUnseen,
    /// A cancelled call leaves no ghost.
    CancelWithoutGhost,
    /// A job that its author holds is claimed.
    SuspendUnseen,
    /// A dead letter comes back before the store knows.
    ReactivateSkipped,
    /// Who brought a job back is forgotten.
    RedriveForgotten,
    /// Nobody notices that the control plane went back.
    HistoryUnseen,
}

/// Takes something out of the facts that an engine is told.
fn forget(event: Event, change: impl FnOnce(&mut Job)) -> Event {
    match event {
        Event::Job(mut job) => {
            change(&mut job);
            Event::Job(job)
        }
        Event::Answer { job, token, answer } => {
            let answer = match answer {
                Answer::Written(mut stored) => {
                    change(&mut stored);
                    Answer::Written(stored)
                }
                Answer::Found(mut stored) => {
                    change(&mut stored);
                    Answer::Found(stored)
                }
                other => other,
            };
            Event::Answer { job, token, answer }
        }
        other => other,
    }
}

impl World<'_> {
    /// What becomes of an event on its way to an engine.
    pub(crate) fn mutate_event(&mut self, r: usize, event: Event) -> Option<Event> {
        let Some(mutant) = self.model.mutant else {
            return Some(event);
        };
        Some(match (mutant, event) {
            (
                Mutant::NoFence,
                Event::Outcome {
                    attempt,
                    fact,
                    retry_after,
                    session,
                },
            ) => {
                let (session, attempt) = self
                    .running_instead(r, attempt)
                    .unwrap_or((session, attempt));
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                }
            }
            (
                Mutant::AckBeforeWrite,
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                },
            ) => {
                self.send(r, session, u64::MAX, ToWorker::Ack(attempt, true));
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                }
            }
            (
                Mutant::StaleWithoutRead,
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                },
            ) => {
                if !self.index_runs(r, session, attempt) {
                    self.send(r, session, u64::MAX, ToWorker::Ack(attempt, false));
                    return None;
                }
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                }
            }
            (
                Mutant::RepeatIgnored,
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                },
            ) => {
                let ended = self.s.job(attempt.job).is_some_and(|job| {
                    job.status.attempt > attempt.attempt || job.status.phase != Phase::Running
                });
                if ended {
                    return None;
                }
                Event::Outcome {
                    session,
                    attempt,
                    fact,
                    retry_after,
                }
            }
            (
                Mutant::ConflictTakenForNotWritten,
                Event::Answer {
                    job,
                    token,
                    answer: Answer::Unknown,
                },
            ) => Event::Answer {
                job,
                token,
                answer: Answer::NotSent,
            },
            (
                Mutant::HeartbeatWithoutHeld,
                Event::Heartbeat {
                    session,
                    seq,
                    received,
                    unacked,
                    ..
                },
            ) => Event::Heartbeat {
                session,
                seq,
                received,
                held: Vec::new(),
                unacked,
            },
            (
                Mutant::ReceivedSeqIgnored,
                Event::Heartbeat {
                    session,
                    seq,
                    held,
                    unacked,
                    ..
                },
            ) => Event::Heartbeat {
                session,
                seq,
                received: u64::MAX - 1,
                held,
                unacked,
            },
            (
                Mutant::CancelWithoutRead,
                Event::Heartbeat {
                    session,
                    seq,
                    received,
                    held,
                    unacked,
                },
            ) => {
                for id in &held {
                    if !self.index_runs(r, session, *id) {
                        self.send(r, session, u64::MAX, ToWorker::Cancel(*id));
                    }
                }
                Event::Heartbeat {
                    session,
                    seq,
                    received,
                    held,
                    unacked,
                }
            }
            (Mutant::DrainTakenForDeath, Event::PodDraining(_))
            | (Mutant::HistoryUnseen, Event::History(_)) => return None,
            (Mutant::CancelUnseen, event) => forget(event, |job| job.spec.cancel = false),
            (Mutant::SuspendUnseen, event) => forget(event, |job| job.spec.suspend = false),
            (Mutant::RedriveForgotten, event) => forget(event, |job| job.status.redriven_by = None),
            (Mutant::PodOfAnyAttempt, Event::AttemptPod { worker, attempt }) => {
                let known = self.s.job(attempt.job);
                let attempt = AttemptId {
                    attempt: known.map_or(attempt.attempt, |job| job.status.attempt),
                    ..attempt
                };
                Event::AttemptPod { worker, attempt }
            }
            (Mutant::DeadLetterClaimed, Event::Job(mut job)) => {
                as_queued(&mut job);
                Event::Job(job)
            }
            (
                Mutant::DeadLetterClaimed,
                Event::Answer {
                    job,
                    token,
                    answer: Answer::Written(mut stored),
                },
            ) => {
                as_queued(&mut stored);
                Event::Answer {
                    job,
                    token,
                    answer: Answer::Written(stored),
                }
            }
            (_, event) => event,
        })
    }

    /// What becomes of an action on its way out.
    pub(crate) fn mutate_action(&mut self, r: usize, action: Action) -> Option<Action> {
        let Some(mutant) = self.model.mutant else {
            return Some(action);
        };
        match (mutant, &action) {
            (Mutant::UnknownForgotten, Action::Read { .. })
            | (Mutant::PodNotRemoved, Action::Pod(PodAction::Remove { .. })) => return None,
            (Mutant::PodMadeAgain, Action::Pod(PodAction::Find { token, attempt })) => {
                let (token, attempt) = (*token, *attempt);
                return Some(Action::Pod(PodAction::Make {
                    token,
                    attempt,
                    pool: POOL,
                }));
            }
            _ => {}
        }
        let Action::Write {
            job,
            token,
            rv,
            before,
            mut after,
            cause,
        } = action
        else {
            return Some(action);
        };
        let claims = after.attempt != before.attempt;
        match mutant {
            Mutant::AttemptNotRaised if claims => after.attempt -= 1,
            Mutant::AttemptRaisedTwice if claims => after.attempt += 1,
            Mutant::LeasedBeforeWritten if claims => self.lease_early(r, job, &after),
            Mutant::LostCharged if is_end(cause, Class::Lost) => after.failures += 1,
            Mutant::ReleasedCharged if is_end(cause, Class::Released) => after.failures += 1,
            Mutant::GhostNotKept => after.ghosts.clear(),
            Mutant::CancelWithoutGhost if cause == Cause::Cancelled => after.ghosts.clear(),
            Mutant::PodCharged if before.worker.is_none() && is_end(cause, Class::Released) => {
                after.failures += 1;
            }
            Mutant::LossForgotten if is_end(cause, Class::Lost) => return None,
            _ => {}
        }
        Some(Action::Write {
            job,
            token,
            rv,
            before,
            after,
            cause,
        })
    }

    fn lease_early(&mut self, r: usize, job: Uid, after: &Status) {
        let id = AttemptId {
            job,
            attempt: after.attempt,
        };
        let worker = after.worker.map_or(0, |w| w.0);
        let session = self
            .s
            .hand(worker)
            .and_then(|hand| hand.line.as_ref().map(|line| line.session));
        if let Some(session) = session {
            self.send(r, session, 1, ToWorker::Lease(id));
        }
    }

    fn worker_at(&self, r: usize, session: SessionId) -> Option<Uid> {
        let engine = &self.s.replicas[r].get().engine;
        let at_it = |w: &kinora_engine::workers::Worker| {
            w.session.as_ref().is_some_and(|s| s.id == session)
        };
        engine
            .workers()
            .find(|(_, w)| at_it(w))
            .map(|(uid, _)| *uid)
    }

    fn index_runs(&self, r: usize, session: SessionId, id: AttemptId) -> bool {
        let engine = &self.s.replicas[r].get().engine;
        let worker = self.worker_at(r, session);
        engine
            .job(id.job)
            .zip(worker)
            .is_some_and(|(job, worker)| job.runs(id.attempt, worker))
    }

    /// The attempt that runs by this replica's index, and the stream of its holder.
    fn running_instead(&self, r: usize, id: AttemptId) -> Option<(SessionId, AttemptId)> {
        let engine = &self.s.replicas[r].get().engine;
        let job = engine.job(id.job)?;
        let holder = job
            .status
            .worker
            .filter(|_| job.status.phase == Phase::Running)?;
        let (_, worker) = engine.workers().find(|(uid, _)| **uid == holder)?;
        let attempt = job.status.attempt;
        Some((worker.session.as_ref()?.id, AttemptId { attempt, ..id }))
    }
}

fn is_end(cause: Cause, class: Class) -> bool {
    cause == Cause::Ended(class) || cause == Cause::Reclaimed(class)
}

fn as_queued(job: &mut Job) {
    if job.status.phase == Phase::DeadLettered {
        job.status.phase = Phase::Queued;
        job.status.reason = Reason::Queued;
    }
}
