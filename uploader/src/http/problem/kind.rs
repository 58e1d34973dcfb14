//! Every kind of problem there is: its `type`, its status and its title. Clients decide by `type`, so a kind never
//! changes its word or its status; `docs/status-api.md` and the OpenAPI document list them from here.

use http::StatusCode;

const BASE: &str = "https://kinora.dev/problems/";
/// Of kinds that the IETF draft of resumable uploads registers.
const IANA: &str = "https://iana.org/assignments/http-problem-types#";

/// The statuses by name: those of HTTP, and one of tus's own.
struct Status;

impl Status {
    const BAD_REQUEST: u16 = 400;
    const UNAUTHORIZED: u16 = 401;
    const FORBIDDEN: u16 = 403;
    const NOT_FOUND: u16 = 404;
    const METHOD_NOT_ALLOWED: u16 = 405;
    const REQUEST_TIMEOUT: u16 = 408;
    const CONFLICT: u16 = 409;
    const GONE: u16 = 410;
    const PRECONDITION_FAILED: u16 = 412;
    const PAYLOAD_TOO_LARGE: u16 = 413;
    const UNSUPPORTED_MEDIA_TYPE: u16 = 415;
    const UNPROCESSABLE_ENTITY: u16 = 422;
    const TOO_MANY_REQUESTS: u16 = 429;
    const CHECKSUM_MISMATCH: u16 = 460;
    const INTERNAL_SERVER_ERROR: u16 = 500;
    const SERVICE_UNAVAILABLE: u16 = 503;
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident, $status:ident, $word:literal, $title:literal;)+) => {
        /// A kind of problem. The doc comment of each is what a client can do about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Kind {
            /// All kinds, in the order of their statuses.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The last part of its `type`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The status of every answer of this kind.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$name => Status::$status,)+ };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// One line for people, the same in every answer of this kind.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// When it is answered, and what helps.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_start(),)+ }
            }
        }
    };
}

kinds! {
    /// `field` names the header, query parameter or member that is wrong.
    BadRequest, BAD_REQUEST, "bad-request", "The request cannot be understood";
    /// No credentials, or none that are valid here.
    Unauthenticated, UNAUTHORIZED, "unauthenticated", "Who are you?";
    /// The credentials are good, but lack the scope that the detail names.
    MissingScope, FORBIDDEN, "missing-scope", "The key may not do this";
    /// The policy of this installation keeps videos for as long as their retention says.
    EraseRefused, FORBIDDEN, "erase-refused", "Videos are not erased here";
    /// Unknown, or somebody else's.
    NotFound, NOT_FOUND, "not-found", "There is no such thing";
    /// `Allow` names the methods that fit.
    Method, METHOD_NOT_ALLOWED, "method", "The method does not fit";
    /// Less than 16 KiB/s over 30 s; what came of a resumable upload is stored.
    TooSlow, REQUEST_TIMEOUT, "too-slow", "The body came too slowly";
    /// Go on at the `Upload-Offset` of the answer.
    WrongOffset, CONFLICT, "wrong-offset", "The offset is not where the upload stands";
    /// As `wrong-offset`, to clients of the IETF draft; `expected-offset` is where to go on.
    MismatchingUploadOffset, CONFLICT, "mismatching-upload-offset", "The offset does not match that of the upload";
    /// To clients of the IETF draft: the upload is complete already.
    CompletedUpload, BAD_REQUEST, "completed-upload", "The upload is already completed";
    /// To clients of the IETF draft: lengths were said that differ, or more bytes came.
    InconsistentUploadLength, BAD_REQUEST, "inconsistent-upload-length", "The upload length is inconsistent";
    /// Another request writes this upload; HEAD tells the offset.
    Superseded, CONFLICT, "superseded", "Another request took the upload over";
    /// The same upload was sent with two contents.
    ContentConflict, CONFLICT, "content-conflict", "Other bytes were stored for this upload";
    /// An administrator holds the video: it cannot be erased before the hold is removed.
    Held, CONFLICT, "held", "The video is held";
    /// Too late to cancel.
    Final, CONFLICT, "final", "The video is at its end";
    /// The video was erased for good.
    Erased, GONE, "erased", "The video was erased";
    /// Terminated, expired, or refused.
    Gone, GONE, "gone", "The upload is over";
    /// `Tus-Resumable: 1.0.0` is missing or names another version.
    TusVersion, PRECONDITION_FAILED, "tus-version", "The tus version does not fit";
    /// Beyond the profile's limit, the declared length, or what a request may carry.
    TooLarge, PAYLOAD_TOO_LARGE, "too-large", "It is too large";
    /// `Content-Type` is not what this request needs.
    ContentType, UNSUPPORTED_MEDIA_TYPE, "content-type", "The content type does not fit";
    /// The first bytes are no MP4, QuickTime, 3GP, WebM or Matroska; nothing was stored.
    NotAVideo, UNSUPPORTED_MEDIA_TYPE, "not-a-video", "The file is not a video";
    /// Complete, but refused at its end; the detail names the reason.
    Rejected, UNPROCESSABLE_ENTITY, "rejected", "The file was refused";
    /// The `Idempotency-Key` was used for another create: use a new one.
    IdempotencyMismatch, UNPROCESSABLE_ENTITY, "idempotency-mismatch", "The key names another create";
    /// The body is not what `Upload-Checksum` or `Content-Digest` says: nothing of it counts, send it again.
    ChecksumMismatch, CHECKSUM_MISMATCH, "checksum-mismatch", "The body was damaged on its way";
    /// More than ten PATCHes under 64 KiB within a minute: send larger ones.
    SmallPatches, TOO_MANY_REQUESTS, "small-patches", "Too many small requests on one upload";
    /// So many requests wait for news already: ask without `wait`, or later.
    TooManyWaiters, TOO_MANY_REQUESTS, "too-many-waiters", "Too many requests wait";
    /// `field` names the limit; wait for `Retry-After`.
    LimitReached, TOO_MANY_REQUESTS, "limit-reached", "A limit is reached";
    /// Videos have waited for hours: keep the file and wait for `Retry-After`.
    Overloaded, TOO_MANY_REQUESTS, "overloaded", "No new uploads are taken now";
    /// A bug: the same request may succeed again, and nothing acknowledged is lost.
    Internal, INTERNAL_SERVER_ERROR, "internal", "The server made a mistake";
    /// Wait for `Retry-After`, then ask again; nothing acknowledged is lost.
    TryAgain, SERVICE_UNAVAILABLE, "try-again", "It cannot be done right now";
}

impl Kind {
    /// The `type` of the answer.
    #[must_use]
    pub fn uri(self) -> String {
        let base = match self {
            Self::MismatchingUploadOffset
            | Self::CompletedUpload
            | Self::InconsistentUploadLength => IANA,
            _ => BASE,
        };
        format!("{base}{}", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn every_kind_has_a_word_of_its_own_and_an_error_status() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            let twins = Kind::ALL[..at].iter().filter(|k| k.word() == kind.word());
            assert_eq!(twins.count(), 0, "{}", kind.word());
            assert!(kind.status().as_u16() >= 400, "{}", kind.word());
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(kind.word().chars().all(plain), "{}", kind.word());
            assert!(kind.about().ends_with('.'), "{}", kind.about());
        }
    }
}
