//! Steps 5 to 8: the decision, whose first writer wins, and what follows from it.

use crate::call::{Answer, Call, Decision, FinalRecord, JobAnswer, Next, PutAnswer};

use super::{At, Finish, Finished, Start};

impl Finish {
    pub(super) fn put_decision(&mut self) -> Next<Finished> {
        let decision = self.verdict.clone();
        self.go(At::Deciding, Call::PutActive { decision })
    }

    pub(super) fn decided(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Put(PutAnswer::Written(_)) => self.act_on(self.verdict.clone()),
            Answer::Put(PutAnswer::Lost | PutAnswer::Unknown) => {
                self.go(At::ReadDecision, Call::GetActive)
            }
            other => self.give_up("store the decision", &other),
        }
    }

    pub(super) fn read_decision(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Active(Some(decision)) => {
                // Somebody else decided, perhaps long ago.
                self.start = Start::Found;
                self.act_on(decision)
            }
            Answer::Active(None) => self.retry(At::Deciding),
            other => self.give_up("read the decision", &other),
        }
    }

    /// A late decision meets the final record of the first one here, before it can make a job.
    fn act_on(&mut self, decision: Decision) -> Next<Finished> {
        match (&self.start, decision) {
            (Start::Fresh, Decision::Accepted) => self.go(At::Creating, Call::CreateJob),
            (_, decision) => self.go(At::ReadRecord(decision), Call::GetRecord),
        }
    }

    pub(super) fn read_record(&mut self, decision: Decision, answer: Answer) -> Next<Finished> {
        match (answer, decision) {
            (Answer::Record(Some(record)), Decision::Accepted) => {
                self.finalised(&record, Finished::Accepted)
            }
            (Answer::Record(Some(_)), Decision::Rejected(reason)) => self.drop_video(reason),
            (Answer::Record(None), Decision::Accepted) => self.go(At::Creating, Call::CreateJob),
            (Answer::Record(None), Decision::Rejected(reason)) => self.reject(reason),
            (other, _) => self.give_up("read the record", &other),
        }
    }

    pub(super) fn reject(&mut self, reason: String) -> Next<Finished> {
        self.go(
            At::Rejecting(reason.clone()),
            Call::PutRecord {
                rejected: true,
                reason,
            },
        )
    }

    pub(super) fn rejected(&mut self, reason: String, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Put(PutAnswer::Written(_)) => self.drop_video(reason),
            // There already, or a conflict that stored nothing: nothing goes before it is read.
            Answer::Put(PutAnswer::Lost) => {
                self.go(At::ReadRecord(Decision::Rejected(reason)), Call::GetRecord)
            }
            other => self.give_up("record the rejection", &other),
        }
    }

    fn drop_video(&mut self, reason: String) -> Next<Finished> {
        self.go(At::DroppingVideo(reason), Call::DeleteVideo)
    }

    pub(super) fn dropped_video(&mut self, reason: String, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Done => self.go(At::DroppingActive(reason), Call::DeleteActive),
            other => self.give_up("delete the rejected object", &other),
        }
    }

    pub(super) fn dropped_active(&mut self, reason: String, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Done => self.index(Finished::Rejected(reason)),
            other => self.give_up("delete the decision", &other),
        }
    }

    pub(super) fn created(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Job(JobAnswer::There) => self.index(Finished::Accepted),
            // The outbox entry stays: it is the queue the sweeper works off.
            Answer::Job(JobAnswer::Later) => Next::Done(Finished::Stored),
            other => self.give_up("create the VideoJob", &other),
        }
    }

    pub(super) fn index(&mut self, end: Finished) -> Next<Finished> {
        self.go(At::Indexing(end), Call::PutIndex)
    }

    pub(super) fn indexed(&mut self, end: Finished, answer: &Answer) -> Next<Finished> {
        match answer {
            Answer::Put(PutAnswer::Written(_) | PutAnswer::Lost) => self.clean(end),
            // The video is safe; with the entry left in place the sweeper repeats this step.
            _ => Next::Done(end),
        }
    }

    /// A final record is there: nothing may follow but the list's entry, which a crash may have left out, and cleaning up,
    /// the decision's entry included when the record is the uploader's own. Of what was erased nothing is listed.
    pub(super) fn finalised(&mut self, record: &FinalRecord, end: Finished) -> Next<Finished> {
        match end {
            Finished::Rejected(reason) => self.drop_video(reason),
            end if record.is_erased() => self.clean(end),
            end => self.index(end),
        }
    }

    pub(super) fn clean(&mut self, end: Finished) -> Next<Finished> {
        let slices = self
            .facts
            .tail
            .iter()
            .chain(&self.facts.spent)
            .cloned()
            .collect();
        let state = self.facts.state;
        self.go(At::Cleaning(end), Call::CleanUp { slices, state })
    }
}
