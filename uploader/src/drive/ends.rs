//! What a body comes with, and what came of it.

use std::collections::BTreeMap;

use axum::body::BodyDataStream;
use bytes::Bytes;
use kinora_upload_engine::State;

use super::Ram;
use crate::budget::Held;
use crate::digest::Check;
use crate::metrics::WriterEnd;

/// What came of a body.
pub enum Written {
    /// All bytes of the upload are durable and the state says `finishing`.
    Whole {
        /// The state.
        doc: Box<State>,
        /// ETags of parts this request stored.
        known: BTreeMap<u32, String>,
        /// The last bytes.
        ram: Ram,
        /// The body went on beyond the upload's length.
        too_long: bool,
    },
    /// The body ended early or exactly here; closed at `doc.offset`.
    Closed(Box<State>),
    /// The body went on beyond the upload's length.
    TooLong(Box<State>),
    /// The client went away, or brought too little for too long.
    ClientGone(Box<State>),
    /// Another request took over, or this process ends.
    Asked(Box<State>),
    /// The body is not what its checksum says: nothing of it counts, closed where it began.
    Mismatch(Box<State>),
    /// The first bytes are no video; the upload is dead.
    NotVideo(&'static str, Box<State>),
    /// The store lost bytes that were confirmed; the upload is dead.
    Lost(Box<State>),
    /// Fewer bytes are durable than came.
    Trouble(Box<State>, String),
    /// Another replica took over: nothing may be acknowledged.
    Superseded,
    /// The store gave no clear answer: nothing may be acknowledged.
    Fault(String),
}

/// What a body is read with.
pub struct Incoming {
    /// The stream.
    pub stream: BodyDataStream,
    /// Bytes of it that were read before.
    pub first: Bytes,
    /// The budget's share of those.
    pub held: Held,
    /// Whether `first` is all there is.
    pub ended: bool,
    /// Whether this body carries all the rest of the upload, so that its end is the upload's.
    pub carries_all: bool,
    /// Whether it comes with the create: then bytes beyond the length leave no upload.
    pub creates: bool,
    /// Whether the size of the body was not told.
    pub untold: bool,
    /// What was said of the body.
    pub check: Option<Check>,
}

impl Written {
    /// For metrics.
    pub(super) fn end(&self) -> WriterEnd {
        match self {
            Self::Whole { .. } => WriterEnd::Whole,
            Self::Closed(_) => WriterEnd::Closed,
            Self::TooLong(_) => WriterEnd::TooLong,
            Self::ClientGone(_) => WriterEnd::ClientGone,
            Self::Asked(_) => WriterEnd::Asked,
            Self::Mismatch(_) => WriterEnd::Mismatch,
            Self::NotVideo(..) => WriterEnd::NotVideo,
            Self::Lost(_) => WriterEnd::Lost,
            Self::Trouble(..) => WriterEnd::Trouble,
            Self::Superseded => WriterEnd::Superseded,
            Self::Fault(_) => WriterEnd::Fault,
        }
    }
}
