//! The writer: from the swap to `open` until the swap to `closed` or `finishing`. It counts the
//! bytes that come in, says which parts are to be stored, and at the close which slice. The bytes
//! themselves stay with the caller, who keeps `[ram_from, pos)` in memory.

mod close;
mod swap;

use std::collections::BTreeMap;

use crate::call::{Answer, Call, Context, Expect};
use crate::cas::Cas;
use crate::crc::Sums;
use crate::document::{Slice, State};

/// So many parts of one upload are on their way at once, and no part is begun that far from the first that is not
/// stored: whatever is behind that one is sent again after a crash.
pub const IN_FLIGHT: usize = 2;

/// Why a writer closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The body is at its end.
    End,
    /// The body is at its end and carried all the rest: an unknown length is known now.
    Complete,
    /// Nothing came for a second; the body may go on later.
    Idle,
    /// The client is gone.
    Client,
    /// Another request wants the upload, or this process ends.
    Asked,
    /// The first bytes are no video.
    NotVideo,
    /// The body is at its end, and its checksum is not what was said.
    Mismatch,
    /// The body goes on beyond the upload's length.
    Overflow,
}

/// What the writer can hear.
#[derive(Clone, Debug)]
pub enum Event {
    /// So many bytes more are in memory; never more than `room` said.
    Bytes(u64),
    /// The answer of a call.
    Answer(Answer),
    /// Close; the checksums are those of all bytes since this writer began. Of a request with a
    /// checksum `End` and `Complete` say that it was compared, and is right.
    Close(Cause, Sums),
    /// Bytes came back after an idle close.
    Resume,
    /// The first bytes were seen to be a video.
    Sniffed,
}

/// Where the writer stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Takes bytes, as many as `room` says.
    Filling,
    /// Waits for parts, for the slice, or for a swap.
    Busy,
    /// Closed at `doc.offset`; after `Idle` it may be resumed.
    Closed {
        /// Set when parts or the slice could not be stored: fewer bytes count than came.
        trouble: Option<String>,
    },
    /// All bytes are durable and the state says `finishing`.
    Whole,
    /// Dead, as the first bytes were no video, or as the store lost confirmed bytes
    /// (`doc.reason`).
    Dead,
    /// Another request took the upload: nothing may be acknowledged.
    Superseded,
    /// The store gave no clear answer: nothing may be acknowledged.
    Fault(String),
}

#[derive(Clone, Debug)]
enum At {
    Filling,
    MakingMultipart,
    SavingMultipart(Cas),
    Draining(Cause),
    Slicing(Cause, Slice),
    Closing(Cas),
    Reopening(Cas),
    /// Another request took the upload before the new multipart upload was named in it.
    Discarding,
    Closed(Option<String>),
    Ended(Status),
}

/// One writer.
#[derive(Clone, Debug)]
pub struct Writer {
    doc: State,
    etag: String,
    base_offset: u64,
    base_crc: Option<u64>,
    base_crc32c: Option<u32>,
    /// Whether the bytes before this writer's were enough to judge the file by.
    base_sniffed: bool,
    /// The size of the body was not told: a small one is counted at the close.
    untold: bool,
    /// Bytes received.
    pos: u64,
    /// Bytes handed to UploadPart calls.
    cut: u64,
    ready: Vec<u32>,
    /// How many parts are on their way; which of them fails is not told.
    in_flight: usize,
    stored: BTreeMap<u32, String>,
    /// The first part that is not stored.
    missing: u32,
    trouble: Option<String>,
    /// The store no longer has the multipart upload.
    gone: bool,
    /// The store no longer has a slice, whose bytes were confirmed.
    lost: bool,
    request: Sums,
    /// A close that came while a swap was under way.
    closing: Option<Cause>,
    at: At,
}

impl Writer {
    /// A writer that has just swapped `doc` (stored under `etag`) to `open`.
    #[must_use]
    pub fn new(doc: State, etag: String) -> Self {
        Self {
            missing: doc.grid().part_of(doc.offset),
            base_offset: doc.offset,
            base_crc: doc.crc,
            base_crc32c: doc.crc32c,
            base_sniffed: doc.sniffed,
            untold: false,
            pos: doc.offset,
            cut: doc.offset,
            doc,
            etag,
            ready: Vec::new(),
            in_flight: 0,
            stored: BTreeMap::new(),
            trouble: None,
            gone: false,
            lost: false,
            request: Sums::default(),
            closing: None,
            at: At::Filling,
        }
    }

    /// As `new`, for a body whose size was not told.
    #[must_use]
    pub fn of_untold_size(self) -> Self {
        Self {
            untold: true,
            ..self
        }
    }

    /// The document as last swapped, and its ETag.
    #[must_use]
    pub fn document(&self) -> (&State, &str) {
        (&self.doc, &self.etag)
    }

    /// ETags of the parts this writer stored.
    #[must_use]
    pub fn stored(&self) -> &BTreeMap<u32, String> {
        &self.stored
    }

    /// Bytes received so far, absolute.
    #[must_use]
    pub fn pos(&self) -> u64 {
        self.pos
    }

    /// First byte the caller still has to keep in memory beside parts in flight.
    #[must_use]
    pub fn ram_from(&self) -> u64 {
        self.cut
    }

    /// How many bytes may be fed now: up to the end of the part, none while too much is in flight.
    #[must_use]
    pub fn room(&self) -> u64 {
        let grid = self.doc.grid();
        let part = grid.part_of(self.pos);
        let is_near = (part.saturating_sub(self.missing) as usize) < IN_FLIGHT;
        match self.at {
            At::Filling if is_near && self.in_flight < IN_FLIGHT && self.trouble.is_none() => {
                grid.end(part).saturating_sub(self.pos)
            }
            _ => 0,
        }
    }

    /// Where the writer stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.at {
            At::Filling => match &self.trouble {
                Some(_) => Status::Busy,
                None => Status::Filling,
            },
            At::Closed(trouble) => Status::Closed {
                trouble: trouble.clone(),
            },
            At::Ended(status) => status.clone(),
            At::MakingMultipart
            | At::SavingMultipart(_)
            | At::Draining(_)
            | At::Slicing(..)
            | At::Closing(_)
            | At::Reopening(_)
            | At::Discarding => Status::Busy,
        }
    }

    /// Whether a part or the slice failed: the caller should close.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Takes an event; the calls may be executed at the same time.
    pub fn step(&mut self, event: Event, ctx: Context<'_>) -> Vec<Call> {
        match event {
            Event::Bytes(n) => self.bytes(n),
            Event::Sniffed => {
                self.doc.sniffed = true;
                Vec::new()
            }
            Event::Resume => self.resume(ctx),
            Event::Close(cause, sums) => self.close(cause, sums, ctx),
            Event::Answer(answer) => {
                let calls = self.answer(answer, ctx);
                match (&self.at, self.closing.take()) {
                    (At::Filling, Some(cause)) => {
                        [calls, self.close(cause, self.request, ctx)].concat()
                    }
                    (_, closing) => {
                        self.closing = closing;
                        calls
                    }
                }
            }
        }
    }

    fn bytes(&mut self, n: u64) -> Vec<Call> {
        self.pos += n;
        let grid = self.doc.grid();
        let part = grid.part_of(self.pos.saturating_sub(1));
        // A short last part is the finisher's alone: a zombie's late flush must never shrink one.
        let full = n > 0 && self.pos == grid.start(part) + grid.part_size;
        // Where a multipart upload is named, the finisher completes that, and a part of an earlier try may be there.
        if !full || (grid.is_small() && self.doc.multipart.is_none()) {
            return Vec::new();
        }
        self.ready.push(part);
        if self.doc.multipart.is_some() {
            return self.upload_ready();
        }
        self.at = At::MakingMultipart;
        vec![Call::CreateMultipart]
    }

    fn upload_ready(&mut self) -> Vec<Call> {
        let Some(multipart) = self.doc.multipart.clone() else {
            return Vec::new();
        };
        let grid = self.doc.grid();
        let mut calls = Vec::new();
        for part in std::mem::take(&mut self.ready) {
            let slices = self
                .doc
                .tail
                .iter()
                .filter(|s| s.part == part)
                .cloned()
                .collect();
            self.in_flight += 1;
            self.cut = grid.end(part);
            calls.push(Call::UploadPart {
                multipart: multipart.clone(),
                part,
                from: grid.start(part),
                to: grid.end(part),
                slices,
            });
        }
        calls
    }

    fn answer(&mut self, answer: Answer, ctx: Context<'_>) -> Vec<Call> {
        match (std::mem::replace(&mut self.at, At::Filling), answer) {
            (
                At::Filling,
                answer @ (Answer::Part { .. }
                | Answer::NoSuchUpload
                | Answer::SliceGone
                | Answer::Failed(_)),
            ) => {
                self.part(answer);
                Vec::new()
            }
            (
                At::Draining(cause),
                answer @ (Answer::Part { .. }
                | Answer::NoSuchUpload
                | Answer::SliceGone
                | Answer::Failed(_)),
            ) => {
                self.part(answer);
                self.at = At::Draining(cause);
                self.drained(ctx)
            }
            (At::MakingMultipart, Answer::Multipart(id)) => {
                let next = State {
                    multipart: Some(id),
                    nonce: ctx.nonce.into(),
                    ..self.doc.clone()
                };
                let (cas, call) = Cas::begin(next, Expect::Match(self.etag.clone()));
                self.at = At::SavingMultipart(cas);
                vec![call]
            }
            (At::MakingMultipart, Answer::Failed(why)) => {
                self.trouble = Some(why);
                self.ready.clear();
                Vec::new()
            }
            (At::SavingMultipart(cas), answer) => self.save_multipart(cas, answer),
            (At::Discarding, _) => {
                self.at = At::Ended(Status::Superseded);
                Vec::new()
            }
            (At::Closing(cas), answer) => self.swap(cas, answer, At::Closing),
            (At::Reopening(cas), answer) => self.swap(cas, answer, At::Reopening),
            (At::Slicing(cause, slice), Answer::Put(put)) => self.sliced(cause, slice, &put, ctx),
            (At::Slicing(cause, _), Answer::SliceGone) => {
                self.lost = true;
                self.swap_closed(cause, None, ctx)
            }
            (At::Slicing(cause, _), Answer::Failed(why)) => {
                self.trouble = Some(why);
                self.swap_closed(cause, None, ctx)
            }
            (at, answer) => {
                self.at = At::Ended(Status::Fault(format!(
                    "write an upload: {answer:?} at {at:?}"
                )));
                Vec::new()
            }
        }
    }

    fn part(&mut self, answer: Answer) {
        match answer {
            Answer::Part { part, etag } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.stored.insert(part, etag);
                while self.stored.contains_key(&self.missing) {
                    self.missing += 1;
                }
            }
            Answer::NoSuchUpload => {
                self.gone = true;
                self.trouble = Some("the multipart upload is gone".into());
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            Answer::SliceGone => {
                self.lost = true;
                self.trouble = Some("a slice is gone".into());
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            Answer::Failed(why) => {
                // Which part it was does not matter: only contiguous stored ones count.
                self.trouble = Some(why);
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            _ => {}
        }
    }
}
