//! What must hold, whatever happens: checked at every effect in the store, at every answer to a
//! client, and at the end.

use std::collections::BTreeSet;

use kinora_upload_engine::{Call, Decision, Phase, State};

use crate::actor::{Actor, Origin, Said};
use crate::store::{Act, Row};
use crate::world::{HOUR, PART, World};

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    /// Both clients send the same bytes.
    pub(crate) same: bool,
    /// The bytes that count: those of the writer that stored them, or of the listing that a
    /// take-over found them in.
    pub(crate) truth: Vec<u8>,
    /// The largest offset told.
    pub(crate) told: u64,
    /// A client was told that all bytes are there.
    pub(crate) full: bool,
    /// After so many calls, the first time.
    pub(crate) calls_to_full: u32,
    /// A state became `dead`.
    pub(crate) dead: bool,
    /// A client was told so of its DELETE.
    pub(crate) ended: bool,
    pub(crate) cancelled: bool,
    /// Somebody aborted behind our back.
    pub(crate) tampered: bool,
    pub(crate) jobs: u32,
    pub(crate) runs: u32,
    pub(crate) finishing: bool,
    /// When a client's request last changed the state.
    pub(crate) touched: u64,
    /// The sweep gave up a plain body whose object never came; nobody was told of it.
    pub(crate) abandoned: bool,
    /// The upload is a plain body of one part.
    pub(crate) plain: bool,
    /// A take-over found other bytes than those that were told of: two clients, and a kill.
    pub(crate) mixed: u32,
    pub(crate) state_gone: bool,
    /// A body came that says that nothing follows, or that need not say so.
    pub(crate) end_said: bool,
    /// A part of a damaged body came late, over one that was sent again: it is lost, as the store
    /// keeps one of a number. The upload may be refused then, never mixed.
    pub(crate) spoiled: bool,
    /// Who last swapped the state to open.
    pub(crate) opener: usize,
    /// Multipart uploads that a state has named.
    pub(crate) named: BTreeSet<String>,
}

/// What the store held before a call.
pub(crate) struct Before {
    state: Option<(State, String, u64)>,
    watched: bool,
    video: bool,
    job: bool,
    pending: bool,
    active: bool,
    record: bool,
}

impl World {
    pub(crate) fn glance(&self, act: &Act) -> Before {
        let watched = matches!(act, Act::Engine(Call::PutState { .. }) | Act::DropState);
        Before {
            state: if watched {
                self.store.state.clone()
            } else {
                None
            },
            watched,
            video: self.store.video.is_some(),
            job: self.store.job.is_some(),
            pending: self.store.pending.is_some(),
            active: self.store.active.is_some(),
            record: self.store.record.is_some(),
        }
    }

    pub(crate) fn judge(&mut self, act: &Act, origin: &Origin, before: Before) {
        if before.watched {
            let after = self
                .store
                .state
                .as_ref()
                .map(|(doc, etag, _)| (doc.clone(), etag.clone()));
            match (before.state, after) {
                (Some((_, old, _)), Some((_, new))) if old == new => {}
                (old, Some((doc, _))) => self.judge_state(old.map(|(doc, ..)| doc), &doc, origin),
                (Some(_), None) => self.oracle.state_gone = true,
                (None, None) => {}
            }
        }
        if !before.video && self.store.video.is_some() {
            self.judge_video(origin);
        }
        if !before.job && self.store.job.is_some() {
            self.oracle.jobs += 1;
            let record = self.store.record.as_ref();
            let late = record.is_some_and(|record| record.state == "succeeded");
            if !self.accepted() && !late {
                self.wrong("a job without a decision");
            }
            if self.store.video.is_none() {
                self.wrong("a job without its video");
            }
        }
        if before.pending && self.store.pending.is_none() {
            let abandoned = origin.sweep && self.oracle.plain && !self.oracle.full;
            self.oracle.abandoned |= abandoned;
            if self.oracle.jobs == 0 && self.store.record.is_none() && !abandoned {
                self.wrong("the outbox entry went before there was a job or a record");
            }
        }
        if !before.active && self.accepted() && self.store.video.is_none() {
            self.wrong("a decision for a video that is not there");
        }
        let lost = |state: &str| state == "failed";
        if !before.record && self.store.record.as_ref().is_some_and(|r| lost(&r.state)) {
            if self.store.video.is_some() {
                self.wrong("called lost, and the object is there");
            }
            if !self.oracle.tampered {
                self.wrong("called lost, and nobody lost it");
            }
        }
        self.oracle.plain |= origin.plain;
        if let Act::Engine(Call::UploadPart { .. }) = act {
            self.oracle.spoiled |= origin.damaged && self.oracle.opener != origin.actor;
        }
        if let Act::Engine(Call::Abort { multipart }) = act
            && self.oracle.named.contains(multipart)
        {
            if self.store.video.is_some() || self.store.record.is_some() {
                self.wrong("an abort after the object or the record was there");
            }
            if !self.oracle.dead {
                self.wrong("an abort of an upload that is not dead");
            }
        }
    }

    fn accepted(&self) -> bool {
        let active = self.store.active.as_ref();
        active.is_some_and(|active| active.decision == Decision::Accepted)
    }

    fn judge_video(&mut self, origin: &Origin) {
        if origin.plain && self.oracle.truth.is_empty() {
            self.oracle.truth.clone_from(&self.files[origin.file]);
        }
        let announced = self.oracle.abandoned || self.store.pending.is_some();
        if !announced && self.store.active.is_none() && self.store.record.is_none() {
            self.wrong("the object is visible, and there is no outbox entry");
        }
        if self.oracle.dead {
            self.wrong("a dead upload became a video");
        }
        if self.store.video.as_ref() != Some(&self.oracle.truth) {
            self.wrong("the object is not what was counted");
        }
        if self.oracle.truth.len() as u64 != self.length {
            self.wrong("the object is not whole");
        }
    }

    fn judge_state(&mut self, old: Option<State>, new: &State, origin: &Origin) {
        let now = self.store.now;
        self.note(|| {
            format!(
                "    {now} state: {:?} epoch {} offset {}",
                new.phase, new.epoch, new.offset
            )
        });
        self.oracle.named.extend(new.multipart.clone());
        if new.phase == Phase::Open {
            self.oracle.opener = origin.actor;
        }
        let told = old.as_ref().is_some_and(|doc| doc.length.is_some());
        if new.phase == Phase::Finishing && self.wish.draft && !told && !self.oracle.end_said {
            self.wrong("finished, and nobody said that nothing follows");
        }
        // Whoever goes on after a crash need not tell it again, and cannot tell another.
        if new.phase == Phase::Open && origin.tells && new.length.is_none() {
            self.wrong("opened for a body that tells the length, and the length is not kept");
        }
        let known = old.as_ref().and_then(|old| old.length);
        if known.is_some() && new.length != known {
            self.wrong(format!("the length became {:?} from {known:?}", new.length));
        }
        let Some(old) = old else {
            self.oracle.touched = now;
            if self.oracle.state_gone {
                self.wrong("a state object came back");
            }
            return;
        };
        if new.offset < old.offset || new.epoch < old.epoch {
            self.wrong(format!(
                "the state went back from {} to {}",
                old.offset, new.offset
            ));
        }
        if matches!(old.phase, Phase::Finishing | Phase::Dead) {
            self.wrong(format!("{:?} became {:?}", old.phase, new.phase));
        }
        if new.phase == Phase::Dead {
            self.oracle.dead = true;
            if new.reason.as_deref() == Some("expired")
                && self.store.now - self.oracle.touched < 24 * HOUR
            {
                self.wrong("expired, and somebody was at it within the day");
            }
        }
        if !origin.sweep {
            self.oracle.touched = now;
        }
        self.oracle.finishing |= new.phase == Phase::Finishing;
        let taken_over =
            old.phase == Phase::Open && new.phase == Phase::Closed && origin.body.is_none();
        if taken_over && old.unverified && new.offset > old.offset {
            self.wrong("a take-over counts bytes whose checksum was never compared");
        }
        let believed = !old.unverified && old.doubted.is_none();
        if taken_over && believed && new.offset < listed(&origin.listing, self.length).len() as u64
        {
            self.wrong("a take-over that counts less than what is stored: it would be sent again");
        }
        self.count(new.offset, origin);
    }

    /// Extends the bytes that count.
    fn count(&mut self, offset: u64, origin: &Origin) {
        let have = self.oracle.truth.len() as u64;
        if offset <= have {
            return;
        }
        if origin.damaged && origin.body.is_some() {
            self.wrong("bytes count that are not what their checksum says");
        }
        let bytes = match &origin.body {
            Some((base, body)) if *base <= have => body
                .get((have - base) as usize..(offset - base) as usize)
                .map(<[u8]>::to_vec),
            Some(_) => None,
            None => {
                let found = listed(&origin.listing, self.length);
                let told = self.oracle.truth.clone();
                if !found.starts_with(&told) && found.len() as u64 >= offset {
                    // The grid trusts whoever stored part k: see the module's limits.
                    self.oracle.mixed += 1;
                    if self.oracle.same {
                        self.wrong("a take-over found other bytes than were told of");
                    }
                    self.oracle.truth.clear();
                }
                found
                    .get(self.oracle.truth.len()..offset as usize)
                    .map(<[u8]>::to_vec)
            }
        };
        match bytes {
            Some(bytes) => self.oracle.truth.extend(bytes),
            None => self.wrong(format!("{offset} bytes are counted that nobody stored")),
        }
    }

    /// An answer goes to a client.
    pub(crate) fn told(&mut self, actor: &Actor, said: &Said) {
        self.note(|| format!("    actor {} is told {said:?}", actor.origin.actor));
        let kept = self.oracle.dead || self.oracle.cancelled;
        match said {
            Said::NotEnded => {
                self.check_durable(self.length);
                self.oracle.told = self.length;
            }
            Said::Offset(offset) if *offset == self.length => self.told_full(),
            Said::Full => self.told_full(),
            Said::Offset(offset) => {
                if *offset < actor.told_before || actor.full_before {
                    self.wrong(format!(
                        "an offset went back from {} to {offset}",
                        actor.told_before
                    ));
                }
                if actor.ended_before {
                    self.wrong("a terminated upload still has an offset");
                }
                self.check_durable(*offset);
                self.oracle.told = self.oracle.told.max(*offset);
            }
            Said::Gone | Said::NotFound => {
                if actor.full_before && !kept {
                    self.wrong(format!("{said:?} of an upload whose bytes were confirmed"));
                }
                let never = actor.origin.plain
                    || self.store.state.is_none() && self.oracle.truth.is_empty();
                if !kept && !self.oracle.tampered && !never {
                    self.wrong(format!("{said:?} without a reason"));
                }
            }
            Said::Rejected | Said::Conflict => {
                let good = self.oracle.same && !self.oracle.spoiled;
                if !self.wish.refused() && (good || actor.full_before) {
                    self.wrong(format!("{said:?} of good bytes"));
                }
            }
            Said::Terminated => {
                if self.store.pending.is_some() || self.store.video.is_some() {
                    self.wrong("terminated, and it is being finished");
                }
                self.oracle.ended = true;
            }
            Said::Cancelled => self.oracle.cancelled = true,
            Said::Created | Said::Nothing => {}
        }
    }

    fn told_full(&mut self) {
        if self.wish.refused() {
            self.wrong("accepted, and it is to be refused");
        }
        if !self.oracle.full {
            self.oracle.calls_to_full = self.calls;
        }
        self.oracle.full = true;
        self.oracle.told = self.length;
        let kept = self.store.pending.is_some()
            || self.store.active.is_some()
            || self.store.record.is_some();
        if !kept {
            self.wrong("all bytes were confirmed without an outbox entry");
        }
        if self.length > 0 && self.store.video.is_none() {
            self.wrong("all bytes were confirmed without an object");
        }
    }

    fn check_durable(&mut self, offset: u64) {
        let Some((doc, ..)) = &self.store.state else {
            return;
        };
        if doc.phase == Phase::Dead || self.oracle.tampered || self.store.video.is_some() {
            return;
        }
        let durable = self.store.durable(doc);
        let good = durable.len() as u64 >= offset
            && (!self.oracle.same
                || durable[..offset as usize] == self.files[0][..offset as usize]);
        if !good {
            self.wrong(format!(
                "offset {offset} was told, {} bytes are good",
                durable.len()
            ));
        }
    }

    /// The operator claims the job.
    pub(crate) fn claimed(&mut self) {
        self.oracle.runs += 1;
        if self.wish.refused() {
            self.wrong("what is to be refused is processed");
        }
        if self.oracle.runs > 1 {
            self.wrong("the video is processed twice");
        }
        if self.store.video.as_ref() != Some(&self.oracle.truth) {
            self.wrong("what is processed is not what was counted");
        }
        if self.wish.digests.is_some() && self.store.video.as_ref() != Some(&self.files[0]) {
            self.wrong("what is processed is not what its digest says");
        }
    }

    /// Everything is over: nothing is stuck, and what was confirmed was processed once.
    pub(crate) fn end(&mut self) {
        let left = [
            (self.store.pending.is_some(), "an outbox entry"),
            (self.store.state.is_some(), "a state object"),
            (!self.store.slices.is_empty(), "slices"),
            (self.store.job.is_some(), "a job"),
        ];
        for (there, what) in left {
            if there {
                self.wrong(format!("{what} is left for ever"));
            }
        }
        if self.store.active.is_some() && self.store.record.is_none() {
            self.wrong("a decision is left without a record");
        }
        let once = self.oracle.runs == 1 && self.store.record.is_some();
        if self.oracle.full && self.length > 0 && !once && !self.oracle.cancelled {
            self.wrong(format!(
                "confirmed, and processed {} times",
                self.oracle.runs
            ));
        }
        if self.oracle.finishing && self.store.record.is_none() {
            self.wrong("whole, and no record at the end");
        }
        if self.oracle.ended && self.oracle.runs > 0 {
            self.wrong("terminated, and processed");
        }
    }
}

/// Bytes of the contiguous whole parts of a listing, the newest of each.
fn listed(rows: &[Row], length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in 0u32.. {
        let size = PART.min(length.saturating_sub(u64::from(part) * PART));
        let whole = |row: &&Row| row.part == part && row.bytes.len() as u64 == size && size > 0;
        match rows.iter().rev().find(whole) {
            Some(row) => bytes.extend(&row.bytes),
            None => break,
        }
    }
    bytes
}
