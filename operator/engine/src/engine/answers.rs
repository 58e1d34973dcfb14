//! Answers to what the engine asked for. An answer to a request that is no longer wanted only brings facts.

use std::time::Duration;

use rand::RngCore;

use super::Engine;
use super::live::{Ending, Op, Pending, Placement, What};
use super::review::STORE_HOLD;
use crate::action::{Action, Cause, Redrive};
use crate::archive::Archive;
use crate::backoff;
use crate::event::Answer;
use crate::ids::{AttemptId, Token, Uid};
use crate::job::Job;
use crate::job::decide::Look;
use crate::job::fence::{self, Fence};
use crate::outcome::classify;
use crate::time::Now;

/// A write that was not sent, or a lease not signed, is tried again after this.
const SHORT_HOLD: Duration = Duration::from_millis(500);
/// A document in the store that cannot be dealt with is looked at again after this.
const UNUSABLE_HOLD: Duration = Duration::from_secs(60);
/// Writes that are refused, which may last: first and longest wait.
const REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Writes that fail: it may be over at any moment, and somebody waits for the answer.
const FAILED: (Duration, Duration) = (SHORT_HOLD, Duration::from_secs(5));

impl Engine {
    pub(super) fn on_answer(
        &mut self,
        uid: Uid,
        token: Token,
        answer: Answer,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        if matches!(answer, Answer::Written(_)) {
            self.health.wrote(now.mono);
        }
        let awaited = self
            .live
            .get_mut(&uid)
            .and_then(|live| live.op.take_if(|op| op.token == token));
        let Some(op) = awaited else {
            // It was under way while the job was deleted: what it tells is older than that.
            if let Answer::Written(job) | Answer::Found(job) = answer
                && !self.late.is_buried(uid)
            {
                self.on_job(*job, now, rng);
            }
            return;
        };
        match op.what {
            What::Write(pending) => self.on_write(uid, token, pending, answer, now, rng),
            What::Refresh => self.on_read(uid, token, answer, now),
            What::Place => self.on_placed(uid, &answer, now),
            What::Prepare {
                attempt,
                worker,
                pool,
            } => {
                let attempt = AttemptId { job: uid, attempt };
                self.on_prepared(attempt, worker, &answer, now);
                self.dirty.insert(pool);
            }
            What::CheckOutputs => {
                if let Some(report) = &mut self.live(uid).report {
                    report.outputs = answer.look();
                }
            }
            What::CheckSource => {
                let live = self.live(uid);
                match &mut live.report {
                    Some(report) => report.source = answer.look(),
                    None => live.source = answer.look(),
                }
            }
            What::ReadRecord => self.on_record(uid, &answer, now),
            What::WriteRecord => self.on_archive(uid, answer.look(), Archive::ToClean, now),
            What::Clean => self.on_archive(uid, answer.look(), Archive::Done, now),
            What::Delete => self.on_delete(uid, &answer, now, rng),
            What::Reactivate => self.on_reactivated(uid, &answer, now),
            What::TakeBack => self.on_taken_back(uid, &answer, now),
        }
        self.ask_for_questions(uid);
        self.review(uid, now, rng);
    }

    fn on_write(
        &mut self,
        uid: Uid,
        token: Token,
        pending: Pending,
        answer: Answer,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let attempt = AttemptId {
            job: uid,
            attempt: pending.after.attempt,
        };
        match answer {
            Answer::Written(job) => {
                let rv = job.rv;
                self.on_stored(uid, token, &pending, *job, now);
                self.note_author(uid, &pending, Some(rv));
                self.give_back_unspent(&pending, attempt);
            }
            // What is stored is what was meant: it was written, whatever the answer was.
            Answer::Found(job) if pending.is_stored_in(&job) => {
                self.on_stored(uid, token, &pending, *job, now);
                self.note_author(uid, &pending, None);
                self.live(uid).placement = Placement::ToFind;
            }
            Answer::Found(job) => {
                // Decided from newer facts than etcd has now.
                self.went_back |= job.rv < pending.rv;
                self.on_not_stored(&pending, attempt, now);
                if job.rv == pending.rv {
                    // Nobody was faster: it is the write that fails.
                    self.back_off(uid, FAILED, now, rng);
                }
                self.absorb(*job, now);
                self.answer_questions(uid, token);
            }
            Answer::Gone => {
                if pending.cause == Cause::Placed {
                    self.unmeet(uid, pending.after.worker, attempt.attempt);
                }
                // The rest of what it took goes back with the job, once.
                self.live(uid).op = Some(Op {
                    token,
                    what: What::Write(pending),
                });
                self.on_deleted(uid, now);
            }
            Answer::NotSent => {
                self.on_not_stored(&pending, attempt, now);
                self.hold(uid, now.mono + SHORT_HOLD);
            }
            Answer::Refused => {
                self.on_not_stored(&pending, attempt, now);
                self.back_off(uid, REFUSED, now, rng);
                self.refuse_redrive(uid);
            }
            Answer::Unknown | Answer::Yes | Answer::No | Answer::Away | Answer::Record(_) => {
                // Nobody knows. What is stored decides; permit and token stay taken until then.
                self.live(uid).op = Some(Op {
                    token,
                    what: What::Write(pending),
                });
                self.out.push(Action::Read { job: uid, token });
            }
        }
    }

    /// The API server refuses it or fails with it, perhaps for long: tried less and less.
    fn back_off(
        &mut self,
        uid: Uid,
        (base, cap): (Duration, Duration),
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let live = self.live(uid);
        live.refused = live.refused.saturating_add(1);
        let nth = live.refused;
        let wait = backoff::delay(nth, base, cap, Some(base), rng);
        self.hold(uid, now.mono + wait);
    }

    fn on_stored(&mut self, uid: Uid, token: Token, pending: &Pending, job: Job, now: Now) {
        let pool = self.index.job(uid).as_ref().and_then(Job::claimed_pool);
        if let Some((worker, attempt, started)) = pending.ends.and_then(|ends| ends.missed) {
            self.late.lost(worker, attempt, started, now.mono);
        }
        if self.take_facts(job, now) {
            self.late.paid(uid, pending.owed);
        }
        self.answer_redrive(uid);
        let live = self.live(uid);
        live.refused = 0;
        live.source = Look::Unasked;
        if let Some(claim) = pending.claim {
            let attempt = AttemptId {
                job: uid,
                attempt: pending.after.attempt,
            };
            self.settle_claim(claim, attempt, true, now);
            if claim.worker.is_none() {
                self.live(uid).placement = Placement::ToMake;
            }
        }
        let class = match pending.cause {
            Cause::Ended(class) | Cause::Reclaimed(class) => Some(class),
            _ => None,
        };
        // An attempt that was claimed anew by the same write has told nothing, and its job's probe is out.
        let is_renewed = |ending: &Ending| pending.claim.is_some_and(|c| c.pool == ending.pool);
        if let Some(ending) = pending.ends.filter(|ending| !is_renewed(ending)) {
            let running = self.index.tally(ending.pool).running;
            if let Some(pool) = self.pools.get_mut(&ending.pool) {
                // What another service did says nothing of this one.
                let (class, call, asked) = match ending.elsewhere {
                    true => (None, None, None),
                    false => (class, ending.call, ending.retry_after),
                };
                pool.ended(uid, class, call, asked, running, now.mono);
            }
        }
        if pending.after.phase.is_final() && self.index.archive(uid) == Some(Archive::Unknown) {
            // Our own finish: nobody else can have written its record.
            self.index.set_archive(uid, Archive::ToWrite);
        }
        self.dirty.extend(pool);
        self.answer_questions(uid, token);
    }

    fn on_not_stored(&mut self, pending: &Pending, attempt: AttemptId, now: Now) {
        if pending.cause == Cause::Placed {
            self.unmeet(attempt.job, pending.after.worker, attempt.attempt);
        }
        if let Some(claim) = pending.claim {
            self.settle_claim(claim, attempt, false, now);
        }
    }

    fn on_read(&mut self, uid: Uid, token: Token, answer: Answer, now: Now) {
        if let Answer::Found(job) = answer {
            let is_news = self.absorb(*job, now);
            if let Some(live) = self.live.get_mut(&uid).filter(|_| is_news) {
                live.hold = None;
            }
            self.answer_questions(uid, token);
        } else if answer == Answer::Gone {
            self.on_deleted(uid, now);
        }
    }

    /// The facts are as fresh as etcd was when this was asked for: reports that could not be judged before are judged now, but
    /// for those that came later.
    fn answer_questions(&mut self, uid: Uid, token: Token) {
        let questions = self
            .live
            .get_mut(&uid)
            .map(|live| std::mem::take(&mut live.questions))
            .unwrap_or_default();
        for question in questions {
            if question.behind == Some(token) {
                self.live(uid).questions.push(question);
                continue;
            }
            let report = question.report;
            let Some(job) = self.index.job(uid) else {
                return;
            };
            let class = classify(report.fact, report.retry_after);
            let attempt = AttemptId {
                job: uid,
                attempt: report.attempt,
            };
            match fence::judge(&job, report.attempt, report.worker, class) {
                Fence::Current => self.live(uid).take_report(report, question.at),
                Fence::Accepted => self.acknowledge(report.worker, attempt, true),
                Fence::Stale | Fence::FactsAreOld => {
                    self.acknowledge(report.worker, attempt, false);
                }
            }
        }
    }

    /// A report came while another request was under way: its worker keeps the slot until it is answered.
    fn ask_for_questions(&mut self, uid: Uid) {
        let waits = self
            .live
            .get(&uid)
            .is_some_and(|live| !live.questions.is_empty());
        if waits {
            self.refresh(uid);
        }
    }

    fn on_record(&mut self, uid: Uid, answer: &Answer, now: Now) {
        let (Some(job), Some(archive)) = (self.index.job(uid), self.index.archive(uid)) else {
            return;
        };
        let is_final = job.status.phase.is_final();
        let covered = match (answer, answer.look()) {
            (Answer::Record(redrives), _) => *redrives >= job.status.redrives,
            (_, Look::Missing) => false,
            (Answer::Refused, _) => return self.on_unusable(uid, now),
            (_, Look::There | Look::Away | Look::Unasked) => {
                return self.hold(uid, now.mono + STORE_HOLD);
            }
        };
        match (is_final, covered) {
            (false, false) => self.index.set_cleared(uid),
            // It has come and gone before: never to be run again.
            (false, true) => self.ask(&job, What::Delete),
            (true, false) => {
                self.index.set_archive(uid, Archive::ToWrite);
                if archive == Archive::Done {
                    // It was written and is gone: not a store to hurry with.
                    self.hold(uid, now.mono + STORE_HOLD);
                }
            }
            (true, true) if archive == Archive::Done => {
                self.index.set_archive(uid, Archive::Confirmed);
            }
            (true, true) => self.index.set_archive(uid, Archive::Found),
        }
    }

    fn on_archive(&mut self, uid: Uid, look: Look, reached: Archive, now: Now) {
        match look {
            Look::There => self.index.set_archive(uid, reached),
            Look::Missing => self.on_unusable(uid, now),
            Look::Away | Look::Unasked => self.hold(uid, now.mono + STORE_HOLD),
        }
    }

    /// What the store has of this job is not ours to touch, or nothing that can be read: a person has to look at it.
    fn on_unusable(&mut self, uid: Uid, now: Now) {
        self.end_redrive(uid, Redrive::Refused);
        self.hold(uid, now.mono + UNUSABLE_HOLD);
    }

    /// Deleted, or not: the preconditions may have met a newer object, which is then looked at again from the start; the same
    /// one only after a wait.
    fn on_delete(&mut self, uid: Uid, answer: &Answer, now: Now, rng: &mut dyn RngCore) {
        if matches!(answer, Answer::Yes | Answer::Gone) {
            return self.on_deleted(uid, now);
        }
        self.index.set_archive(uid, Archive::Done);
        self.back_off(uid, REFUSED, now, rng);
        if let Some(job) = self.index.job(uid) {
            self.ask(&job, What::Refresh);
        }
    }
}
