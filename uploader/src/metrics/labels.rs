//! The words that labels can have. Each is an enum, so that no id, no text of an error and nothing that a client sends
//! ever becomes a time series.

use http::{Method, StatusCode};
use kinora_storage::StoreErrorKind;
use kinora_storage::observe::StoreCall;
use kinora_telemetry::words;
use kinora_upload_engine::finish::Finished;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::http::problem::Kind as Refusal;

words! {
    /// The resource that a request is about.
    Route { Uploads = "uploads", Upload = "upload", Videos = "videos", Video = "video", Batches = "batches", Other = "other" }
}
words! {
    /// The method that is meant.
    Verb { Get = "GET", Head = "HEAD", Post = "POST", Put = "PUT", Patch = "PATCH", Delete = "DELETE", Options = "OPTIONS", Other = "other" }
}
words! {
    /// The class of an answer's status.
    Class { Informational = "1xx", Success = "2xx", Redirect = "3xx", Client = "4xx", Server = "5xx" }
}
words! {
    /// Why a whole upload is no video that is taken.
    Rejection {
        Empty = "Empty", NotAVideo = "NotAVideo", NoVideoTrack = "NoVideoTrack", Truncated = "Truncated",
        Malformed = "Malformed", TooLong = "TooLong", DurationUnknown = "DurationUnknown",
        DigestMismatch = "DigestMismatch", Other = "other",
    }
}
words! {
    /// How a finish sequence ended.
    FinishEnd {
        Accepted = "accepted", Stored = "stored", Rejected = "rejected", StoreLost = "store_lost",
        Conflict = "conflict", Abandoned = "abandoned", GaveUp = "gave_up",
    }
}
words! {
    /// How the writing into an upload ended.
    WriterEnd {
        Whole = "whole", Closed = "closed", TooLong = "too_long", ClientGone = "client_gone", Asked = "asked",
        Mismatch = "mismatch", NotVideo = "not_video", Lost = "lost", Trouble = "trouble",
        Superseded = "superseded", Fault = "fault",
    }
}
words! {
    /// How a pass of the sweeper ended.
    SweepEnd { Done = "done", Stopped = "stopped" }
}
words! {
    /// What was written into the store for an upload.
    Written { Part = "part", Slice = "slice", Object = "object" }
}
words! {
    /// What a request waits for that is not its client.
    Wait { Budget = "budget", Writer = "writer" }
}
words! {
    /// A limit on clients, by its name in the configuration.
    Limit {
        Connections = "connections",
        AddressConnections = "address.connections", AddressRate = "address.requestsPerSecond",
        OwnerRate = "owner.requestsPerSecond", OwnerAtOnce = "owner.requestsAtOnce",
        OwnerOpen = "owner.openUploads", OwnerUploads = "owner.uploadsPerDay", OwnerBytes = "owner.bytesPerDay",
    }
}
/// A call to the store, by the store's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call(pub StoreCall);

impl EncodeLabelValue for Call {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.word(), encoder)
    }
}

words! {
    /// How a call to the store ended.
    CallEnd {
        Ok = "ok", Absent = "absent", Conflict = "conflict", SlowDown = "slow_down", Timeout = "timeout",
        Unavailable = "unavailable", Refused = "refused",
    }
}

impl Route {
    /// By the pattern that the router matched.
    #[must_use]
    pub fn of(pattern: Option<&str>) -> Self {
        match pattern {
            Some("/v1/uploads" | "/v1/uploads/") => Self::Uploads,
            Some("/v1/uploads/{id}") => Self::Upload,
            Some("/v1/videos" | "/v1/videos/") => Self::Videos,
            Some(path) if path.starts_with("/v1/videos/{id}") => Self::Video,
            Some(path) if path.starts_with("/v1/batches") => Self::Batches,
            Some(_) | None => Self::Other,
        }
    }

    /// Whether the bytes of videos come in here.
    #[must_use]
    pub fn takes_bytes(self) -> bool {
        matches!(self, Self::Uploads | Self::Upload)
    }
}

impl Verb {
    /// The word for a method; those that nothing here knows share one.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        let known = Self::ALL.iter().find(|verb| verb.word() == method.as_str());
        known.copied().unwrap_or(Self::Other)
    }
}

impl Class {
    /// The class of a status.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirect,
            4 => Self::Client,
            _ => Self::Server,
        }
    }
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.word(), encoder)
    }
}

impl Rejection {
    /// By the reason as the record has it.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        let known = Self::ALL.iter().find(|known| known.word() == reason);
        known.copied().unwrap_or(Self::Other)
    }
}

impl From<&Finished> for FinishEnd {
    fn from(finished: &Finished) -> Self {
        match finished {
            Finished::Accepted => Self::Accepted,
            Finished::Stored => Self::Stored,
            Finished::Rejected(_) => Self::Rejected,
            Finished::StoreLost => Self::StoreLost,
            Finished::Conflict => Self::Conflict,
            Finished::Abandoned => Self::Abandoned,
            Finished::GaveUp(_) => Self::GaveUp,
        }
    }
}

impl From<Result<(), StoreErrorKind>> for CallEnd {
    fn from(ended: Result<(), StoreErrorKind>) -> Self {
        use StoreErrorKind as Kind;
        match ended {
            Ok(()) => Self::Ok,
            Err(Kind::NotFound | Kind::NoSuchUpload) => Self::Absent,
            Err(Kind::Conflict) => Self::Conflict,
            Err(Kind::SlowDown) => Self::SlowDown,
            Err(Kind::Timeout) => Self::Timeout,
            Err(Kind::Unavailable) => Self::Unavailable,
            Err(
                Kind::NoSuchBucket
                | Kind::InvalidPart
                | Kind::AccessDenied
                | Kind::SignatureMismatch
                | Kind::Credentials
                | Kind::ClockSkew
                | Kind::BadDigest
                | Kind::TooLarge
                | Kind::Invalid,
            ) => Self::Refused,
        }
    }
}
