//! The vocabulary between the machines and whoever executes their calls: what to ask of the
//! store (and of Kubernetes), and what can come back. A call is executed as it stands, without
//! retries of conditional writes: what an unclear answer means is decided here.

use std::collections::BTreeMap;

use crate::document::{ERASED, Slice, State};
use crate::media::Piece;
use crate::parts::SeenPart;

/// What a step may know of the outside.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time, in milliseconds since the epoch by the store's clock.
    pub now_ms: u64,
    /// A fresh random value; each step gets another.
    pub nonce: &'a str,
}

impl Context<'_> {
    /// How long it is since `since`, which begins now where it has not yet. The store's time may fall, after an answer with a
    /// wrong `Date`: then it begins again, so that a wait never lasts longer than its length once more.
    pub(crate) fn waited_ms(&self, since: &mut Option<u64>) -> u64 {
        let began = since.map_or(self.now_ms, |since| since.min(self.now_ms));
        *since = Some(began);
        self.now_ms - began
    }
}

/// Condition of a write of the state object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// This version is there.
    Match(String),
}

/// The decision that `active/` records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The video is to be processed.
    Accepted,
    /// It is not, for this reason.
    Rejected(String),
}

/// Something to be done in the store or in Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// GET the state object. Answer: `State`.
    GetState,
    /// Conditional PUT of the state object. Answer: `Put`.
    PutState {
        /// The new document.
        doc: Box<State>,
        /// The condition.
        expect: Expect,
    },
    /// Ask the writer of this upload in this process to close, ≤ 50 ms. Answer: `Asked`.
    AskWriter,
    /// Wait. Answer: `Waited`.
    Wait {
        /// For so long, in milliseconds.
        ms: u64,
    },
    /// ListParts, all pages. Answer: `Parts`.
    ListParts {
        /// Id of the multipart upload.
        multipart: String,
    },
    /// CreateMultipartUpload on the final key. Answer: `Multipart`.
    CreateMultipart,
    /// UploadPart of bytes `[from, to)`, from memory or the named slices. Answer: `Part`,
    /// `NoSuchUpload` or `SliceGone`.
    UploadPart {
        /// Id of the multipart upload.
        multipart: String,
        /// The part, from 0.
        part: u32,
        /// First byte, absolute.
        from: u64,
        /// One past the last byte.
        to: u64,
        /// Slices that hold what is not in memory.
        slices: Vec<Slice>,
    },
    /// PUT one tail slice; what of it is not in memory is in `merge`. Answer: `Put` or `SliceGone`.
    PutSlice {
        /// The slice to be written.
        slice: Slice,
        /// Older slices whose bytes it takes over.
        merge: Vec<Slice>,
    },
    /// GET the outbox entry. Answer: `Pending`.
    GetPending,
    /// PUT the outbox entry, if absent. Answer: `Put`.
    PutPending,
    /// PUT the whole object, if absent, from memory or the named slices. Answer: `Put` or `SliceGone`.
    PutVideo {
        /// Slices that hold what is not in memory.
        slices: Vec<Slice>,
    },
    /// CompleteMultipartUpload, unconditional. Answer: `Complete`.
    Complete {
        /// Id of the multipart upload.
        multipart: String,
        /// ETag by part, from 0, all of them.
        parts: BTreeMap<u32, String>,
        /// CRC64NVME of the whole, when known.
        crc: Option<u64>,
    },
    /// HEAD the finished object. Answer: `Video`.
    HeadVideo,
    /// GET bytes `[from, to)` of the finished object, or take them from memory. Answer: `Bytes`.
    ReadVideo {
        /// First byte.
        from: u64,
        /// One past the last byte.
        to: u64,
    },
    /// Read the finished object once, or memory, for these digests. Answer: `Digests`.
    DigestVideo {
        /// Algorithms, by the names that HTTP gives them.
        algorithms: Vec<String>,
    },
    /// GET the decision. Answer: `Active`.
    GetActive,
    /// PUT the decision, if absent. Answer: `Put`.
    PutActive {
        /// The decision.
        decision: Decision,
    },
    /// GET the final record. Answer: `Record`.
    GetRecord,
    /// PUT a final record that the uploader owns (`rejected`, or `failed` for lost bytes), if
    /// absent. Answer: `Put`.
    PutRecord {
        /// Whether the state is `rejected`; else `failed`.
        rejected: bool,
        /// The reason.
        reason: String,
    },
    /// DELETE the finished object. Answer: `Done`.
    DeleteVideo,
    /// DELETE the decision, after its final record. Answer: `Done`.
    DeleteActive,
    /// Create the VideoJob. Answer: `Job`.
    CreateJob,
    /// PUT the owner's index entry. Answer: `Put`.
    PutIndex,
    /// AbortMultipartUpload. Answer: `Done`.
    Abort {
        /// Id of the multipart upload.
        multipart: String,
    },
    /// Delete pending and slices, then the state; may be batched and late. Answer: `Done`.
    CleanUp {
        /// Slices to be deleted.
        slices: Vec<Slice>,
        /// Whether there is a state object to delete.
        state: bool,
    },
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// Stored, with this ETag.
    Written(String),
    /// The condition did not hold (412, 409), or the store says so.
    Lost,
    /// Timeout or 5xx: it may or may not be stored.
    Unknown,
}

/// What HEAD said about the finished object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVideo {
    /// Its ETag.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// CRC64NVME, where the store says it.
    pub crc: Option<u64>,
    /// The upload that wrote it.
    pub upload_id: Option<String>,
}

/// How a Complete ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompleteAnswer {
    /// Done; the object has this ETag.
    Done(String),
    /// A part's ETag is not the stored one: list again.
    InvalidPart,
    /// No such multipart upload: finished before, aborted, or lost.
    NoSuchUpload,
    /// The parts are there, but together they are not what the running checksum saw.
    ChecksumMismatch,
    /// Timeout, 5xx, 409, or 200 with an error body.
    Unknown,
}

/// How the creation of a VideoJob ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobAnswer {
    /// It is there, made now or before, by this upload.
    There,
    /// Kubernetes cannot take it now, or admission is closed: the sweeper tries again.
    Later,
}

/// What came back for a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing was asked yet: the first step of a machine.
    Begin,
    /// The state object and its ETag.
    State(Option<(Box<State>, String)>),
    /// The end of a write.
    Put(PutAnswer),
    /// Whether a writer was there, and has closed or is about to.
    Asked(bool),
    /// The wait is over.
    Waited,
    /// The parts; `None` is NoSuchUpload.
    Parts(Option<Vec<SeenPart>>),
    /// The new multipart upload.
    Multipart(String),
    /// A part was stored with this ETag.
    Part {
        /// The part, from 0.
        part: u32,
        /// Its ETag.
        etag: String,
    },
    /// A part was not stored, as the multipart upload is no longer there.
    NoSuchUpload,
    /// Nothing was stored, as the store says clearly that it does not have one of the named slices.
    SliceGone,
    /// Whether the outbox entry is there.
    Pending(bool),
    /// The end of a Complete.
    Complete(CompleteAnswer),
    /// The finished object.
    Video(Option<SeenVideo>),
    /// The bytes that were asked for.
    Bytes(Piece),
    /// Digests of the finished object, in hex by algorithm.
    Digests(BTreeMap<String, String>),
    /// The stored decision.
    Active(Option<Decision>),
    /// Whether a final record is there, and whether it says `rejected`, with the reason.
    Record(Option<FinalRecord>),
    /// The VideoJob.
    Job(JobAnswer),
    /// Done, nothing to report.
    Done,
    /// The call failed for good or for now; the text is for the log.
    Failed(String),
}

/// What a final record says to the finish sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalRecord {
    /// `rejected`, `failed`, `succeeded` or `cancelled`.
    pub state: String,
    /// The reason, if any.
    pub reason: Option<String>,
}

impl FinalRecord {
    /// Whether it stands for a video that was erased.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.reason.as_deref() == Some(ERASED)
    }
}

/// What a machine wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<T> {
    /// Execute this and step with its answer.
    Call(Call),
    /// The machine is at its end.
    Done(T),
}
