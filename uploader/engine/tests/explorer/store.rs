//! A bucket of one upload and the VideoJobs of it, in memory: executes the machines' calls with
//! the manners of a real store (ETags of content, overwritten parts, conditions), and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use kinora_upload_engine::call::{CompleteAnswer, FinalRecord, JobAnswer, SeenVideo};
use kinora_upload_engine::media::Piece;
use kinora_upload_engine::parts::SeenPart;
use kinora_upload_engine::{Answer, Call, Decision, Expect, PutAnswer, Slice, State, crc};

pub(crate) const ID: &str = "a-1";

/// In what stores differ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// ListParts gives CRCs (S3 does, SeaweedFS does not).
    pub(crate) lists_crc: bool,
    /// An overwritten part stays listed, and Complete takes either ETag (SeaweedFS).
    pub(crate) keeps_overwritten: bool,
}

/// What a store does with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    Fine,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done: SlowDown, a timeout, or 200 with an error body.
    NotDone,
    /// Not done: 409; of an abort: one part in flight survives it.
    Conflict,
}

/// What the store is asked for beside the machines' calls.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Engine(Call),
    /// The janitor's deletions, in its order.
    DropPending,
    DropSlices(Vec<Slice>),
    DropState,
    /// What a request asks once the state is gone.
    KnownActive,
    KnownRecord,
    /// What a sweep reads first.
    ReadPending,
    ReadState,
}

/// The outbox entry.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) multipart: Option<String>,
    pub(crate) crc: Option<u64>,
    pub(crate) state: bool,
}

/// The decision.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) outbox_time: u64,
}

/// A VideoJob.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) created: u64,
    pub(crate) outbox_time: u64,
    pub(crate) claimed: bool,
}

/// One stored version of a part.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) part: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    pub(crate) at: u64,
}

/// Bytes that a request holds in memory: those from `from` on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ram {
    pub(crate) from: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that outlives a process.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(crate) manners: Manners,
    pub(crate) now: u64,
    pub(crate) state: Option<(State, String, u64)>,
    pub(crate) slices: BTreeMap<String, Vec<u8>>,
    pub(crate) multiparts: BTreeMap<String, Vec<Row>>,
    pub(crate) completed: BTreeSet<String>,
    pub(crate) pending: Option<Outbox>,
    pub(crate) video: Option<Vec<u8>>,
    pub(crate) active: Option<Decided>,
    pub(crate) record: Option<FinalRecord>,
    pub(crate) job: Option<Job>,
    pub(crate) kubernetes_away: bool,
    pub(crate) ids: u32,
}

/// What a finisher brings along to its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bag {
    pub(crate) ram: Ram,
    pub(crate) outbox: Option<Outbox>,
    pub(crate) outbox_time: u64,
}

pub(crate) fn name(slice: &Slice) -> String {
    format!("{}/{}/{}-{}", slice.part, slice.epoch, slice.from, slice.to)
}

/// A digest as the explorer has it: CRCs as they are, any other a value of the same bytes.
pub(crate) fn digest(name: &str, bytes: &[u8]) -> String {
    match name {
        "crc32c" => format!("{:08x}", crc::crc32c(bytes)),
        "crc64nvme" => format!("{:016x}", crc::of(bytes)),
        _ => format!("{:016x}", crc::of(bytes).rotate_left(7)),
    }
}

fn put(luck: Luck, written: bool, etag: &str) -> Answer {
    Answer::Put(match (luck, written) {
        (Luck::AnswerLost | Luck::NotDone, _) => PutAnswer::Unknown,
        (Luck::Conflict, _) | (Luck::Fine, false) => PutAnswer::Lost,
        (Luck::Fine, true) => PutAnswer::Written(etag.into()),
    })
}

fn happens(luck: Luck) -> bool {
    matches!(luck, Luck::Fine | Luck::AnswerLost)
}

impl Store {
    fn put_absent<T>(slot: &mut Option<T>, value: T, luck: Luck) -> Answer {
        let free = slot.is_none();
        if free && happens(luck) {
            *slot = Some(value);
        }
        put(luck, free, "e")
    }

    /// Bytes `[from, to)` from slices, and from memory where it has them.
    pub(crate) fn gather(
        &self,
        from: u64,
        to: u64,
        slices: &[Slice],
        ram: &Ram,
    ) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut at = from;
        let ram_to = ram.from + ram.bytes.len() as u64;
        while at < to {
            if at >= ram.from && at < ram_to {
                let end = to.min(ram_to);
                bytes.extend(&ram.bytes[(at - ram.from) as usize..(end - ram.from) as usize]);
                at = end;
                continue;
            }
            let slice = slices.iter().find(|s| s.from <= at && at < s.to)?;
            let stored = self.slices.get(&name(slice))?;
            let end = to.min(slice.to);
            bytes.extend(stored.get((at - slice.from) as usize..(end - slice.from) as usize)?);
            at = end;
        }
        Some(bytes)
    }

    /// The bytes that a document names, as far as they really are in the store.
    pub(crate) fn durable(&self, doc: &State) -> Vec<u8> {
        let rows = doc
            .multipart
            .as_ref()
            .and_then(|id| self.multiparts.get(id));
        let mut bytes = Vec::new();
        for part in 0..doc.counted_parts() {
            let sure = doc.sure.get(&part);
            let whole = |row: &&Row| {
                row.part == part
                    && doc.grid().is_whole(part, row.bytes.len() as u64)
                    && sure.is_none_or(|etag| *etag == row.etag)
            };
            match rows.and_then(|rows| rows.iter().rev().find(whole)) {
                Some(row) => bytes.extend(&row.bytes),
                None => break,
            }
        }
        let have = bytes.len() as u64;
        if have < doc.offset {
            let tail = self.gather(have, doc.offset, &doc.tail, &Ram::default());
            bytes.extend(tail.unwrap_or_default());
        }
        bytes
    }

    /// Executes one call; reads fail with any bad luck.
    pub(crate) fn execute(&mut self, act: &Act, bag: &Bag, luck: Luck) -> Answer {
        let call = match act {
            Act::Engine(call) => call,
            other => return self.execute_other(other, luck),
        };
        if let Some(read) = self.read(call) {
            return if luck == Luck::Fine {
                read
            } else {
                Answer::Failed("no answer".into())
            };
        }
        match call {
            Call::PutState { doc, expect } => self.put_state(doc, expect, luck),
            Call::CreateMultipart => {
                self.ids += 1;
                let id = format!("m{}", self.ids);
                if happens(luck) {
                    self.multiparts.insert(id.clone(), Vec::new());
                }
                if luck == Luck::Fine {
                    Answer::Multipart(id)
                } else {
                    Answer::Failed("no answer".into())
                }
            }
            Call::UploadPart {
                multipart,
                part,
                from,
                to,
                slices,
            } => match self.gather(*from, *to, slices, &bag.ram) {
                Some(bytes) => self.upload_part(multipart, *part, bytes, luck),
                None => Answer::SliceGone,
            },
            Call::PutSlice { slice, merge } => {
                match self.gather(slice.from, slice.to, merge, &bag.ram) {
                    Some(bytes) => {
                        if happens(luck) {
                            self.slices.insert(name(slice), bytes);
                        }
                        put(luck, true, "s")
                    }
                    None => Answer::SliceGone,
                }
            }
            Call::PutPending => {
                let entry = bag.outbox.clone().map(|entry| Outbox {
                    at: self.now,
                    ..entry
                });
                entry.map_or(Answer::Failed("no entry".into()), |entry| {
                    Self::put_absent(&mut self.pending, entry, luck)
                })
            }
            Call::PutVideo { slices } => {
                let length = bag.outbox.as_ref().map_or(0, |entry| entry.length);
                match self.gather(0, length, slices, &bag.ram) {
                    Some(bytes) => Self::put_absent(&mut self.video, bytes, luck),
                    None => Answer::SliceGone,
                }
            }
            Call::Complete {
                multipart,
                parts,
                crc,
            } => self.complete(multipart, parts, *crc, luck),
            Call::PutActive { decision } => {
                let entry = Decided {
                    decision: decision.clone(),
                    outbox_time: bag.outbox_time,
                };
                Self::put_absent(&mut self.active, entry, luck)
            }
            Call::PutRecord { rejected, reason } => {
                let state = if *rejected { "rejected" } else { "failed" }.to_owned();
                let record = FinalRecord {
                    state,
                    reason: Some(reason.clone()),
                };
                Self::put_absent(&mut self.record, record, luck)
            }
            Call::CreateJob => self.create_job(bag, luck),
            Call::PutIndex => put(luck, true, "i"),
            Call::DeleteVideo | Call::DeleteActive | Call::Abort { .. } => self.delete(call, luck),
            other => Answer::Failed(format!("{other:?} is none of the store's")),
        }
    }

    fn read(&self, call: &Call) -> Option<Answer> {
        Some(match call {
            Call::GetState => Answer::State(
                self.state
                    .as_ref()
                    .map(|(doc, etag, _)| (Box::new(doc.clone()), etag.clone())),
            ),
            Call::ListParts { multipart } => Answer::Parts(self.list(multipart)),
            Call::GetPending => Answer::Pending(self.pending.is_some()),
            Call::HeadVideo => Answer::Video(self.video.as_ref().map(|bytes| SeenVideo {
                etag: "v".into(),
                size: bytes.len() as u64,
                crc: Some(crc::of(bytes)),
                upload_id: Some(ID.into()),
            })),
            Call::ReadVideo { from, to } => match &self.video {
                Some(bytes) => {
                    Answer::Bytes(Piece::new(bytes[*from as usize..*to as usize].to_vec()))
                }
                None => Answer::Failed("it is not there".into()),
            },
            Call::DigestVideo { algorithms } => match &self.video {
                Some(bytes) => {
                    let digest = |name: &String| (name.clone(), digest(name, bytes));
                    Answer::Digests(algorithms.iter().map(digest).collect())
                }
                None => Answer::Failed("it is not there".into()),
            },
            Call::GetActive => Answer::Active(self.active.as_ref().map(|a| a.decision.clone())),
            Call::GetRecord => Answer::Record(self.record.clone()),
            _ => return None,
        })
    }

    fn execute_other(&mut self, act: &Act, luck: Luck) -> Answer {
        let read = match act {
            Act::KnownActive => self.read(&Call::GetActive),
            Act::KnownRecord => self.read(&Call::GetRecord),
            Act::ReadPending => self.read(&Call::GetPending),
            Act::ReadState => self.read(&Call::GetState),
            _ => None,
        };
        if let Some(read) = read {
            return if luck == Luck::Fine {
                read
            } else {
                Answer::Failed("no answer".into())
            };
        }
        if happens(luck) {
            match act {
                Act::DropPending => self.pending = None,
                Act::DropSlices(slices) => {
                    for slice in slices {
                        self.slices.remove(&name(slice));
                    }
                }
                _ => self.state = None,
            }
        }
        if luck == Luck::Fine {
            Answer::Done
        } else {
            Answer::Failed("no answer".into())
        }
    }

    fn delete(&mut self, call: &Call, luck: Luck) -> Answer {
        if happens(luck) {
            match call {
                Call::DeleteVideo => self.video = None,
                Call::DeleteActive => self.active = None,
                Call::Abort { multipart } => drop(self.multiparts.remove(multipart)),
                _ => {}
            }
        }
        match (call, luck) {
            (_, Luck::Fine) => Answer::Done,
            // 204, and a part in flight lands after it: the multipart upload is still there.
            (Call::Abort { .. }, Luck::Conflict) => Answer::Done,
            _ => Answer::Failed("no answer".into()),
        }
    }

    fn put_state(&mut self, doc: &State, expect: &Expect, luck: Luck) -> Answer {
        let holds = match (expect, &self.state) {
            (Expect::Absent, None) => true,
            (Expect::Match(etag), Some((_, now, _))) => etag == now,
            _ => false,
        };
        // Of the content, as a store's is: a repeat of the same write has the same.
        let etag = format!("{:?}-{}", doc.phase, doc.nonce);
        if holds && happens(luck) {
            self.state = Some((doc.clone(), etag.clone(), self.now));
        }
        put(luck, holds, &etag)
    }

    fn list(&self, multipart: &str) -> Option<Vec<SeenPart>> {
        let rows = self.multiparts.get(multipart)?;
        let newest = |row: &Row| {
            rows.iter()
                .rev()
                .find(|r| r.part == row.part)
                .map(|r| &r.etag)
        };
        let listed = rows
            .iter()
            .filter(|row| self.manners.keeps_overwritten || newest(row) == Some(&row.etag));
        Some(
            listed
                .map(|row| SeenPart {
                    part: row.part,
                    size: row.bytes.len() as u64,
                    etag: row.etag.clone(),
                    modified_ms: row.at,
                    crc: self.manners.lists_crc.then(|| crc::of(&row.bytes)),
                })
                .collect(),
        )
    }

    fn upload_part(&mut self, id: &str, part: u32, bytes: Vec<u8>, luck: Luck) -> Answer {
        let etag = format!("{:x}", crc::of(&bytes));
        let at = self.now / 1000 * 1000;
        let Some(rows) = self.multiparts.get_mut(id) else {
            return match luck {
                Luck::Fine => Answer::NoSuchUpload,
                _ => Answer::Failed("no answer".into()),
            };
        };
        if happens(luck) {
            rows.retain(|row| row.part != part || row.etag != etag);
            rows.push(Row {
                part,
                bytes,
                etag: etag.clone(),
                at,
            });
        }
        match luck {
            Luck::Fine => Answer::Part { part, etag },
            _ => Answer::Failed("no answer".into()),
        }
    }

    fn complete(
        &mut self,
        id: &str,
        parts: &BTreeMap<u32, String>,
        want: Option<u64>,
        luck: Luck,
    ) -> Answer {
        let unknown = Answer::Complete(CompleteAnswer::Unknown);
        let Some(rows) = self.multiparts.get(id) else {
            // May be repeated after success, or says NoSuchUpload, as stores do.
            let again = self.completed.contains(id)
                && self.manners.keeps_overwritten
                && self.video.is_some();
            return match (luck, again) {
                (Luck::Fine, true) => Answer::Complete(CompleteAnswer::Done("v".into())),
                (Luck::Fine, false) => Answer::Complete(CompleteAnswer::NoSuchUpload),
                _ => unknown,
            };
        };
        if !happens(luck) {
            return unknown;
        }
        let mut whole = Vec::new();
        for (part, etag) in parts {
            let newest = rows.iter().rev().find(|row| row.part == *part);
            let found = match self.manners.keeps_overwritten {
                true => rows
                    .iter()
                    .rev()
                    .find(|row| row.part == *part && row.etag == *etag),
                false => newest.filter(|row| row.etag == *etag),
            };
            match found {
                Some(row) => whole.extend(&row.bytes),
                None => return Answer::Complete(CompleteAnswer::InvalidPart),
            }
        }
        if want.is_some_and(|want| want != crc::of(&whole)) {
            return Answer::Complete(CompleteAnswer::ChecksumMismatch);
        }
        self.multiparts.remove(id);
        self.completed.insert(id.into());
        self.video = Some(whole);
        if luck == Luck::Fine {
            Answer::Complete(CompleteAnswer::Done("v".into()))
        } else {
            unknown
        }
    }

    fn create_job(&mut self, bag: &Bag, luck: Luck) -> Answer {
        if self.kubernetes_away || !happens(luck) {
            return Answer::Job(JobAnswer::Later);
        }
        if self.job.is_none() {
            let outbox_time = bag.outbox_time;
            self.job = Some(Job {
                created: self.now,
                outbox_time,
                claimed: false,
            });
        }
        Answer::Job(if luck == Luck::Fine {
            JobAnswer::There
        } else {
            JobAnswer::Later
        })
    }
}
