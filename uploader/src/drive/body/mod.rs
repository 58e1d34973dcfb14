//! A request body on its way into the store: gathered in memory up to a part, sent part by part
//! while more comes in, the rest stored as a tail slice at the close. The engine's writer decides;
//! this file holds the bytes and keeps the time.

mod receive;
mod sums;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kinora_upload_engine::sniff::{LOOK, Sniff, sniff};
use kinora_upload_engine::write::{Cause, Event, Status, Writer};
use kinora_upload_engine::{Answer, Call, Context, State};

use super::bytes::{GatherError, gather};
pub use super::ends::{Incoming, Written};
use super::{Driver, Pieces, Ram, nonce};
use crate::budget::Held;
use crate::digest::Check;
use crate::writers::Registration;
use sums::Running;

/// A body that brings nothing for so long is closed; it may go on later.
pub(in crate::drive) const IDLE: Duration = Duration::from_secs(1);
/// The same while others wait for memory.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_millis(250);
/// Over so much time of waiting for the client …
pub(crate) const RATE_WINDOW: Duration = Duration::from_secs(30);
/// … it has to bring so many bytes.
pub(crate) const RATE_BYTES: u64 = 30 * 16 * 1024;

enum Ended {
    Not,
    Well,
    Broken,
}

struct Pipe {
    driver: Driver,
    writer: Writer,
    incoming: Incoming,
    place: Registration,
    ended: Ended,
    chunk: Bytes,
    buffer: Pieces,
    buffer_from: u64,
    held: Held,
    kept: Ram,
    sums: Running,
    head: Option<Vec<u8>>,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    cause: Option<Cause>,
    not_video: &'static str,
    too_long: bool,
    /// No memory was free for a body that cannot be closed in the middle.
    no_memory: bool,
    waited: Duration,
    /// How long nothing came.
    silent: Duration,
    window_bytes: u64,
}

/// Writes a body into an upload that was opened as `doc`, stored under `etag`.
pub async fn write(
    driver: &Driver,
    doc: Box<State>,
    etag: String,
    mut incoming: Incoming,
) -> Written {
    let (head, lost) = match Box::pin(first_bytes(driver, &doc)).await {
        Ok(head) => (head, false),
        Err(GatherError::Gone(_)) => (None, true),
        Err(error) => return Written::Fault(error.to_string()),
    };
    let place = driver.app.writers.register(&driver.id);
    let ended = if incoming.ended {
        Ended::Well
    } else {
        Ended::Not
    };
    let chunk = std::mem::take(&mut incoming.first);
    let mut pipe = Box::new(Pipe {
        driver: driver.clone(),
        buffer_from: doc.offset,
        sums: Running::of(&doc),
        writer: if incoming.untold {
            Writer::new(*doc, etag).of_untold_size()
        } else {
            Writer::new(*doc, etag)
        },
        held: std::mem::take(&mut incoming.held),
        incoming,
        place,
        ended,
        chunk,
        buffer: Pieces::default(),
        kept: Ram::default(),
        head,
        calls: FuturesUnordered::new(),
        cause: None,
        not_video: "",
        too_long: false,
        no_memory: false,
        waited: Duration::ZERO,
        silent: Duration::ZERO,
        window_bytes: 0,
    });
    if lost {
        pipe.step(Event::Answer(Answer::SliceGone));
    }
    let written = pipe.run().await;
    driver.app.metrics.wrote(written.end());
    written
}

/// The upload's first bytes, when nobody has judged them yet.
async fn first_bytes(driver: &Driver, doc: &State) -> Result<Option<Vec<u8>>, GatherError> {
    if doc.sniffed {
        return Ok(None);
    }
    let look = doc.offset.min(LOOK as u64);
    let bytes = gather(
        &driver.app.store,
        &driver.id,
        (0, look),
        &doc.tail,
        &Ram::default(),
    )
    .await;
    bytes.map(|bytes| Some(bytes.into_bytes().to_vec()))
}

impl Pipe {
    async fn run(&mut self) -> Written {
        loop {
            match self.writer.status() {
                Status::Filling => self.fill().await,
                Status::Busy if self.writer.in_trouble() && self.cause.is_none() => {
                    self.close(Cause::Client);
                }
                Status::Busy => {
                    if !self.next_answer().await {
                        return Written::Fault(format!(
                            "write upload {}: nothing is under way",
                            self.driver.id
                        ));
                    }
                }
                Status::Closed { trouble: None } if self.cause == Some(Cause::Idle) => {
                    if !self.wait_for_more().await {
                        return self.closed(None);
                    }
                }
                Status::Closed { trouble } => return self.closed(trouble),
                Status::Whole => {
                    let doc = Box::new(self.writer.document().0.clone());
                    return Written::Whole {
                        doc,
                        known: self.writer.stored().clone(),
                        ram: std::mem::take(&mut self.kept),
                        too_long: self.too_long,
                    };
                }
                Status::Dead if self.cause != Some(Cause::NotVideo) => {
                    let doc = Box::new(self.writer.document().0.clone());
                    tracing::error!(upload = %self.driver.id, offset = doc.offset, "the store lost confirmed bytes");
                    return Written::Lost(doc);
                }
                Status::Dead => {
                    return Written::NotVideo(
                        self.not_video,
                        Box::new(self.writer.document().0.clone()),
                    );
                }
                Status::Superseded => return Written::Superseded,
                Status::Fault(why) => return Written::Fault(why),
            }
        }
    }

    fn closed(&self, trouble: Option<String>) -> Written {
        let doc = Box::new(self.writer.document().0.clone());
        match (trouble, self.cause) {
            (Some(why), _) => Written::Trouble(doc, why),
            (None, _) if self.no_memory => {
                Written::Trouble(doc, "no memory for a body within 5 s".into())
            }
            (None, _) if self.too_long => Written::TooLong(doc),
            (None, Some(Cause::Mismatch)) => Written::Mismatch(doc),
            (None, Some(Cause::Asked)) => Written::Asked(doc),
            (None, Some(Cause::Client)) => Written::ClientGone(doc),
            (None, Some(Cause::Idle)) if matches!(self.ended, Ended::Well) => Written::Closed(doc),
            (None, Some(Cause::Idle)) if self.stops() => Written::Asked(doc),
            (None, Some(Cause::Idle)) => Written::ClientGone(doc),
            (
                None,
                Some(Cause::End | Cause::Complete | Cause::NotVideo | Cause::Overflow) | None,
            ) => Written::Closed(doc),
        }
    }

    fn stops(&self) -> bool {
        self.place.is_asked() || self.driver.app.closing.is_cancelled()
    }

    /// One move while the writer takes bytes.
    async fn fill(&mut self) {
        let room = usize::try_from(self.writer.room()).unwrap_or(usize::MAX);
        let full = self.writer.document().0.length == Some(self.writer.pos());
        if !self.chunk.is_empty() && !self.not_video.is_empty() {
            return self.skip();
        }
        if !self.chunk.is_empty() {
            let doc = self.writer.document().0;
            let limit = doc.limit.filter(|_| doc.length.is_none());
            if limit.is_some_and(|max| self.writer.pos() + self.chunk.len() as u64 > max) {
                self.too_long = true;
                return self.close(Cause::Client);
            }
            match (room, full) {
                (0, true) => {
                    self.too_long = true;
                    let incoming = &self.incoming;
                    let whole_or_nothing =
                        incoming.creates || incoming.check.is_some() || doc.complete.is_some();
                    self.close(if whole_or_nothing {
                        Cause::Overflow
                    } else {
                        Cause::End
                    });
                }
                (0, false) => {
                    self.next_answer().await;
                }
                (room, _) => self.feed(room),
            }
            return;
        }
        match self.ended {
            Ended::Well => self.ended_well(),
            Ended::Broken => self.close(Cause::Client),
            Ended::Not => self.receive().await,
        }
    }

    fn feed(&mut self, room: usize) {
        let n = room.min(self.chunk.len());
        let bytes = self.chunk.split_to(n);
        self.sums.update(&bytes);
        if let Some(check) = &mut self.incoming.check {
            check.update(&bytes);
        }
        if let Some(head) = &mut self.head {
            head.extend_from_slice(&bytes[..n.min(LOOK.saturating_sub(head.len()))]);
        }
        self.buffer.push(bytes);
        self.step(Event::Bytes(n as u64));
        self.judge(false);
    }

    /// Bytes of a body that is condemned: they only matter to its checksum.
    fn skip(&mut self) {
        let bytes = std::mem::take(&mut self.chunk);
        if let Some(check) = &mut self.incoming.check {
            check.update(&bytes);
        }
    }

    fn ended_well(&mut self) {
        let holds = self.incoming.check.as_ref().is_none_or(Check::holds);
        self.close(match (holds, self.incoming.carries_all) {
            (false, _) => Cause::Mismatch,
            (true, _) if !self.not_video.is_empty() => Cause::NotVideo,
            (true, true) => Cause::Complete,
            (true, false) => Cause::End,
        });
    }

    /// Looks at the first bytes before any of them is stored.
    fn judge(&mut self, ended: bool) -> bool {
        let Some(head) = &self.head else { return true };
        match sniff(head, ended) {
            Sniff::Video => {
                self.head = None;
                self.step(Event::Sniffed);
            }
            Sniff::NotVideo(why) => {
                self.head = None;
                self.not_video = why;
                if self.incoming.check.is_none() || ended {
                    self.close(Cause::NotVideo);
                }
                // Else its checksum has the first word: what was damaged on the way comes again.
                return false;
            }
            Sniff::More => {}
        }
        true
    }

    async fn next_answer(&mut self) -> bool {
        match self.calls.next().await {
            Some(answer) => {
                self.step(Event::Answer(answer));
                true
            }
            None => false,
        }
    }

    fn close(&mut self, cause: Cause) {
        if self.cause.is_some() {
            return;
        }
        let (doc, pos) = (self.writer.document().0, self.writer.pos());
        let all = cause == Cause::Complete || doc.length == Some(pos);
        let refused = matches!(cause, Cause::NotVideo | Cause::Mismatch);
        // Of an empty file nothing can be judged: the finish refuses it, as one that was created so.
        if all && pos > 0 && !refused && !self.judge(true) {
            return;
        }
        self.cause = Some(cause);
        self.step(Event::Close(cause, self.sums.values()));
    }

    fn step(&mut self, event: Event) {
        let nonce = nonce();
        let ctx = Context {
            now_ms: self.driver.app.now_ms(),
            nonce: &nonce,
        };
        for call in self.writer.step(event, ctx) {
            self.start(call);
        }
    }

    /// Begins a call; the bytes it carries leave the buffer with it.
    fn start(&mut self, call: Call) {
        let ram = match &call {
            Call::UploadPart { to, .. } => {
                let ram = Ram {
                    from: self.buffer_from,
                    bytes: std::mem::take(&mut self.buffer),
                    crc: Some(self.sums.cut()),
                    held: self.held.take(),
                };
                self.buffer_from = *to;
                ram
            }
            Call::PutSlice { .. } => {
                let (bytes, crc) = (std::mem::take(&mut self.buffer), Some(self.sums.cut()));
                // The finisher may want them again.
                self.kept = Ram {
                    from: self.buffer_from,
                    bytes: bytes.clone(),
                    crc,
                    held: self.held.take(),
                };
                Ram {
                    from: self.buffer_from,
                    bytes,
                    crc,
                    held: Held::default(),
                }
            }
            _ => Ram::default(),
        };
        let driver = self.driver.clone();
        self.calls
            .push(Box::pin(async move { driver.call(call, &ram).await }));
    }
}
