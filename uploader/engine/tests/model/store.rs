//! A store in memory that executes the machines' calls, loses answers when told to, and knows
//! which bytes are durable.

use std::collections::{BTreeMap, BTreeSet};

use kinora_upload_engine::call::{CompleteAnswer, FinalRecord, JobAnswer, SeenVideo};
use kinora_upload_engine::parts::SeenPart;
use kinora_upload_engine::{Answer, Call, Decision, Expect, PutAnswer, Slice, State, crc};

/// What happens to a call: executed and answered, executed without an answer, or not executed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Luck {
    Fine,
    AnswerLost,
    NotDone,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) state: Option<(State, String)>,
    pub(crate) slices: BTreeMap<String, Vec<u8>>,
    /// Live multipart uploads: every write of every part, oldest first.
    pub(crate) multiparts: BTreeMap<String, Vec<(u32, Vec<u8>, String)>>,
    pub(crate) completed: BTreeSet<String>,
    pub(crate) pending: bool,
    pub(crate) video: Option<Vec<u8>>,
    pub(crate) active: Option<Decision>,
    pub(crate) record: Option<FinalRecord>,
    pub(crate) jobs_made: u32,
    pub(crate) kubernetes_away: bool,
    pub(crate) writes: u64,
}

/// Bytes that a request holds in memory: those from `from` on.
#[derive(Clone, Default)]
pub(crate) struct Ram {
    pub(crate) from: u64,
    pub(crate) bytes: Vec<u8>,
}

fn name(slice: &Slice) -> String {
    format!("{}/{}/{}-{}", slice.part, slice.epoch, slice.from, slice.to)
}

impl Store {
    fn etag(&mut self) -> String {
        self.writes += 1;
        format!("e{}", self.writes)
    }

    /// Bytes `[from, to)` from slices, and from memory where it has them.
    fn gather(&self, from: u64, to: u64, slices: &[Slice], ram: &Ram) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut at = from;
        while at < to {
            if at >= ram.from && at < ram.from + ram.bytes.len() as u64 {
                let end = to.min(ram.from + ram.bytes.len() as u64);
                bytes.extend(&ram.bytes[(at - ram.from) as usize..(end - ram.from) as usize]);
                at = end;
                continue;
            }
            let slice = slices.iter().find(|s| s.from <= at && at < s.to)?;
            let stored = self.slices.get(&name(slice))?;
            bytes.extend(&stored[(at - slice.from) as usize..]);
            at = slice.to;
        }
        Some(bytes)
    }

    /// The bytes that a document names, as far as they really are in the store.
    pub(crate) fn durable(&self, doc: &State) -> Vec<u8> {
        let whole = doc
            .multipart
            .as_ref()
            .and_then(|id| self.multiparts.get(id));
        let mut bytes = Vec::new();
        for part in 0u32.. {
            let newest = whole.and_then(|rows| rows.iter().rev().find(|(k, ..)| *k == part));
            match newest {
                Some((_, part, _)) => bytes.extend(part),
                None => break,
            }
        }
        if (bytes.len() as u64) < doc.offset {
            let from = bytes.len() as u64;
            bytes.extend(
                self.gather(from, doc.offset, &doc.tail, &Ram::default())
                    .unwrap_or_default(),
            );
        }
        bytes
    }

    fn put(luck: Luck, written: bool, etag: String) -> Answer {
        Answer::Put(match (luck, written) {
            (Luck::Fine, true) => PutAnswer::Written(etag),
            (Luck::Fine, false) => PutAnswer::Lost,
            (Luck::AnswerLost | Luck::NotDone, _) => PutAnswer::Unknown,
        })
    }

    fn put_absent<T>(slot: &mut Option<T>, value: T, luck: Luck) -> Answer {
        let free = slot.is_none();
        if free && luck != Luck::NotDone {
            *slot = Some(value);
        }
        Self::put(luck, free, "e".into())
    }

    pub(crate) fn execute(&mut self, call: Call, ram: &Ram, luck: Luck, length: u64) -> Answer {
        match call {
            Call::GetState => {
                Answer::State(self.state.clone().map(|(doc, etag)| (Box::new(doc), etag)))
            }
            Call::PutState { doc, expect } => self.put_state(*doc, &expect, luck),
            Call::AskWriter => Answer::Asked(false),
            Call::Wait { .. } => Answer::Waited,
            Call::ListParts { multipart } => Answer::Parts(self.list(&multipart)),
            Call::CreateMultipart => {
                let id = self.etag();
                self.multiparts.insert(id.clone(), Vec::new());
                Answer::Multipart(id)
            }
            Call::UploadPart {
                multipart,
                part,
                from,
                to,
                slices,
            } => self.upload_part(&multipart, part, (from, to), &slices, ram, luck),
            Call::PutSlice { slice, merge } => match self.gather(slice.from, slice.to, &merge, ram)
            {
                Some(bytes) => {
                    if luck != Luck::NotDone {
                        self.slices.insert(name(&slice), bytes);
                    }
                    Self::put(luck, true, "s".into())
                }
                None => Answer::Failed("slices are gone".into()),
            },
            Call::GetPending => Answer::Pending(self.pending),
            Call::PutPending => {
                let free = !self.pending;
                self.pending |= luck != Luck::NotDone;
                Self::put(luck, free, "p".into())
            }
            Call::PutVideo { slices } => {
                let Some(bytes) = self.gather(0, length, &slices, ram) else {
                    return Answer::Failed("slices are gone".into());
                };
                assert!(
                    self.pending || self.video.is_some(),
                    "visible before the outbox entry"
                );
                Self::put_absent(&mut self.video, bytes, luck)
            }
            Call::Complete {
                multipart,
                parts,
                crc,
            } => self.complete(&multipart, &parts, crc, luck),
            Call::HeadVideo => Answer::Video(self.video.as_ref().map(|bytes| SeenVideo {
                etag: "v".into(),
                size: bytes.len() as u64,
                crc: Some(crc::of(bytes)),
                upload_id: Some("a-1".into()),
            })),
            Call::GetActive => Answer::Active(self.active.clone()),
            Call::PutActive { decision } => Self::put_absent(&mut self.active, decision, luck),
            Call::GetRecord => Answer::Record(self.record.clone()),
            Call::PutRecord { rejected, reason } => {
                let state = if rejected { "rejected" } else { "failed" };
                Self::put_absent(
                    &mut self.record,
                    FinalRecord {
                        state: state.into(),
                        reason: Some(reason),
                    },
                    luck,
                )
            }
            Call::DeleteVideo => {
                self.video = None;
                Answer::Done
            }
            Call::DeleteActive => {
                self.active = None;
                Answer::Done
            }
            Call::CreateJob if self.kubernetes_away => Answer::Job(JobAnswer::Later),
            Call::CreateJob => {
                assert!(self.video.is_some(), "a job without its video");
                assert_eq!(
                    self.active,
                    Some(Decision::Accepted),
                    "a job without a decision"
                );
                self.jobs_made += 1;
                Answer::Job(JobAnswer::There)
            }
            Call::PutIndex => Self::put(luck, true, "i".into()),
            Call::Abort { multipart } => {
                assert!(self.video.is_none(), "an abort after the object was there");
                self.multiparts.remove(&multipart);
                Answer::Done
            }
            Call::CleanUp { slices, state } => {
                self.pending = false;
                for slice in slices {
                    self.slices.remove(&name(&slice));
                }
                if state {
                    self.state = None;
                }
                Answer::Done
            }
        }
    }

    fn put_state(&mut self, doc: State, expect: &Expect, luck: Luck) -> Answer {
        let holds = match (expect, &self.state) {
            (Expect::Absent, None) => true,
            (Expect::Match(etag), Some((_, now))) => etag == now,
            _ => false,
        };
        let etag = self.etag();
        if holds && luck != Luck::NotDone {
            self.state = Some((doc, etag.clone()));
        }
        Self::put(luck, holds, etag)
    }

    fn list(&self, multipart: &str) -> Option<Vec<SeenPart>> {
        let rows = self.multiparts.get(multipart)?;
        Some(
            rows.iter()
                .map(|(part, bytes, etag)| SeenPart {
                    part: *part,
                    size: bytes.len() as u64,
                    etag: etag.clone(),
                    modified_ms: 0,
                    crc: None,
                })
                .collect(),
        )
    }

    fn upload_part(
        &mut self,
        id: &str,
        part: u32,
        range: (u64, u64),
        slices: &[Slice],
        ram: &Ram,
        luck: Luck,
    ) -> Answer {
        let Some(bytes) = self.gather(range.0, range.1, slices, ram) else {
            return Answer::Failed("slices are gone".into());
        };
        let etag = self.etag();
        let Some(rows) = self.multiparts.get_mut(id) else {
            return Answer::Failed("NoSuchUpload".into());
        };
        if luck != Luck::NotDone {
            rows.push((part, bytes, etag.clone()));
        }
        match luck {
            Luck::Fine => Answer::Part { part, etag },
            Luck::AnswerLost | Luck::NotDone => Answer::Failed("timeout".into()),
        }
    }

    fn complete(
        &mut self,
        id: &str,
        parts: &BTreeMap<u32, String>,
        want: Option<u64>,
        luck: Luck,
    ) -> Answer {
        assert!(
            self.pending || self.completed.contains(id),
            "visible before the outbox entry"
        );
        let Some(rows) = self.multiparts.get(id) else {
            return Answer::Complete(match self.completed.contains(id) && luck == Luck::Fine {
                true => CompleteAnswer::Done("v".into()),
                false => CompleteAnswer::NoSuchUpload,
            });
        };
        let mut whole = Vec::new();
        for (part, etag) in parts {
            match rows.iter().rev().find(|(k, ..)| k == part) {
                Some((_, bytes, now)) if now == etag => whole.extend(bytes),
                _ => return Answer::Complete(CompleteAnswer::InvalidPart),
            }
        }
        assert!(
            want.is_none_or(|want| want == crc::of(&whole)),
            "the CRC of the whole is wrong"
        );
        if luck != Luck::NotDone {
            self.multiparts.remove(id);
            self.completed.insert(id.into());
            self.video = Some(whole);
        }
        Answer::Complete(if luck == Luck::Fine {
            CompleteAnswer::Done("v".into())
        } else {
            CompleteAnswer::Unknown
        })
    }
}
