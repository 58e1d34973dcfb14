//! The operations of `/v1/uploads`.

use utoipa::openapi::HttpMethod;
use utoipa::openapi::path::Parameter;

use super::ALWAYS;
use super::build::{Answer, Op, bytes, id, integer, may_send, must_send, text, words};
use crate::http::problem::Kind;
use crate::http::tus;

const TAG: &str = "uploads";
/// What the end of an upload may meet: its file is whole, and looked into.
const END: &[Kind] = &[
    Kind::Rejected,
    Kind::ContentConflict,
    Kind::NotAVideo,
    Kind::TooSlow,
];
const CREATE: &[Kind] = &[
    Kind::BadRequest,
    Kind::TusVersion,
    Kind::TooLarge,
    Kind::ContentType,
    Kind::Overloaded,
    Kind::Gone,
    Kind::Superseded,
    Kind::NotFound,
    Kind::IdempotencyMismatch,
    Kind::ChecksumMismatch,
    Kind::InconsistentUploadLength,
];
const VIDEO: &[&str] = &[
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "application/octet-stream",
];

pub(super) fn all() -> Vec<Op> {
    vec![
        put(),
        post(),
        options("/v1/uploads", "uploadsOptions"),
        head(),
        patch(),
        delete(),
        token(),
        Op {
            parameters: vec![id()],
            ..options("/v1/uploads/{id}", "uploadOptions")
        },
    ]
}

pub(super) fn idempotency_key() -> Parameter {
    may_send(
        "Idempotency-Key",
        "Names the create for 7 days: repeated with the same headers it makes no second upload.",
        super::build::pattern("^[!#-~]{1,128}$"),
    )
}

/// The words of the two protocols; a request on an upload has those of one.
fn protocols() -> [Parameter; 2] {
    [
        may_send(
            "Tus-Resumable",
            "Speaks tus of this version.",
            words(["1.0.0"]),
        ),
        may_send(
            "Upload-Draft-Interop-Version",
            "Speaks the IETF draft of this version; `Tus-Resumable` goes before it.",
            words(["3", "5", "6", "8"]),
        ),
    ]
}

fn end_of_draft() -> Parameter {
    may_send(
        "Upload-Complete",
        "In the IETF draft: whether the body brings the end of the file.",
        words(["?0", "?1"]),
    )
}

/// The trace that the client is in (W3C); it is kept with the upload and handed on to its job.
fn trace() -> [Parameter; 2] {
    [
        may_send(
            "traceparent",
            "The client's span; the job's annotation `kinora.dev/traceparent` continues it.",
            super::build::pattern("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"),
        ),
        may_send("tracestate", "Taken, and passed over.", text()),
    ]
}

/// What is said of a body, and of the whole file.
fn digests() -> [Parameter; 3] {
    [
        may_send(
            "Upload-Checksum",
            "Of the body: sha1, sha256, crc32c or crc64nvme, a space, and Base64.",
            text(),
        ),
        may_send("Content-Digest", "Of the body (RFC 9530).", text()),
        may_send("Repr-Digest", "Of the whole file (RFC 9530).", text()),
    ]
}

fn with(parameters: Vec<Parameter>, more: impl IntoIterator<Item = Parameter>) -> Vec<Parameter> {
    parameters.into_iter().chain(more).collect()
}

fn profile() -> Parameter {
    may_send(
        "Kinora-Profile",
        "Name of the profile: pool and limits.",
        text(),
    )
}

fn put() -> Op {
    Op {
        path: "/v1/uploads",
        method: HttpMethod::Put,
        id: "putVideo",
        tag: TAG,
        about: "A whole file in one request.",
        parameters: with(vec![profile(), idempotency_key()], trace()),
        body: Some(bytes("The file.", VIDEO)),
        answers: vec![
            Answer::new(201, "The video is stored and will be processed.")
                .json("Taken")
                .header("Location", "URL of the video."),
        ],
        problems: vec![ALWAYS, CREATE, END],
        open: false,
    }
}

fn post() -> Op {
    Op {
        path: "/v1/uploads",
        method: HttpMethod::Post,
        id: "createUpload",
        tag: TAG,
        about: "A new upload over tus, with or without its first bytes. Without Tus-Resumable it is as PUT.",
        parameters: with(
            vec![
                end_of_draft(),
                may_send(
                    "Upload-Length",
                    "Bytes of the file; needed over tus, where they are not deferred.",
                    integer(0, i64::MAX),
                ),
                may_send(
                    "Upload-Defer-Length",
                    "Over tus: a later PATCH tells Upload-Length.",
                    words(["1"]),
                ),
                may_send(
                    "Upload-Metadata",
                    "`key base64`, by commas: 4 KiB, 32 keys.",
                    text(),
                ),
                profile(),
                idempotency_key(),
                upload_token(),
            ],
            protocols().into_iter().chain(digests()).chain(trace()),
        ),
        body: Some(bytes(
            "Bytes of the file, from its first.",
            &[tus::OFFSET_STREAM],
        )),
        answers: vec![
            Answer::new(
                201,
                "The upload is there; without Tus-Resumable the body is that of PUT.",
            )
            .header("Location", "URL of the upload.")
            .header("Upload-Offset", "Bytes that are safe, if some were sent.")
            .header("Upload-Expires", "When it may be expired.")
            .header(
                "Upload-Complete",
                "In the draft: whether it is a video now.",
            )
            .header("Upload-Limit", "In the draft: what may be sent."),
        ],
        problems: vec![ALWAYS, CREATE, END],
        open: false,
    }
}

fn upload_token() -> Parameter {
    may_send(
        "Kinora-Upload-Token",
        "Seconds that a token for this upload alone is to be good; the answer to a create has it in this header.",
        integer(1, 604_800),
    )
}

fn token() -> Op {
    Op {
        path: "/v1/uploads/{id}/token",
        method: HttpMethod::Post,
        id: "issueUploadToken",
        tag: TAG,
        about: "A token that is good for this upload alone; needs the scope kinora:delegate.",
        parameters: vec![id(), upload_token()],
        body: None,
        answers: vec![Answer::new(201, "The token.").json("IssuedToken")],
        problems: vec![ALWAYS, &[Kind::BadRequest, Kind::NotFound, Kind::Gone]],
        open: false,
    }
}

fn options(path: &'static str, id: &'static str) -> Op {
    Op {
        path,
        method: HttpMethod::Options,
        id,
        tag: TAG,
        about: "What the server speaks; also the preflight of browsers.",
        parameters: Vec::new(),
        body: None,
        answers: vec![
            Answer::new(200, "In the headers.")
                .header("Tus-Version", "Versions of tus.")
                .header("Tus-Extension", "Its extensions.")
                .header("Tus-Max-Size", "Most bytes of a file.")
                .header("Tus-Checksum-Algorithm", "Algorithms of Upload-Checksum.")
                .header("Upload-Limit", "The same limits in the draft's words.")
                .header("Accept-Patch", "Types of appends.")
                .header("Want-Content-Digest", "Digests that are taken of a body.")
                .header(
                    "Want-Repr-Digest",
                    "Digests that are taken of the whole file.",
                )
                .header("Allow", "The methods of the resource."),
        ],
        problems: vec![&[Kind::Internal]],
        open: true,
    }
}

fn head() -> Op {
    Op {
        path: "/v1/uploads/{id}",
        method: HttpMethod::Head,
        id: "headUpload",
        tag: TAG,
        about: "How much of an upload is safe.",
        parameters: with(vec![id()], protocols()),
        body: None,
        answers: vec![
            Answer::new(204, "The same in the IETF draft.")
                .header("Upload-Offset", "Bytes that are safe.")
                .header("Upload-Complete", "Whether it is a video now.")
                .header("Upload-Limit", "What may be sent."),
            Answer::new(200, "In the headers.")
                .header("Upload-Offset", "Bytes that are safe.")
                .header("Upload-Length", "Bytes of the file, once known.")
                .header("Upload-Defer-Length", "1 while they are not known.")
                .header("Upload-Expires", "When it may be expired.")
                .header("Upload-Metadata", "As it was sent."),
        ],
        problems: vec![
            ALWAYS,
            END,
            &[
                Kind::BadRequest,
                Kind::NotFound,
                Kind::Gone,
                Kind::TusVersion,
            ],
        ],
        open: false,
    }
}

fn patch() -> Op {
    Op {
        path: "/v1/uploads/{id}",
        method: HttpMethod::Patch,
        id: "appendUpload",
        tag: TAG,
        about: "More bytes of an upload, from its offset.",
        parameters: with(
            vec![
                id(),
                must_send(
                    "Upload-Offset",
                    "Where the bytes belong.",
                    integer(0, i64::MAX),
                ),
                end_of_draft(),
                may_send(
                    "Upload-Length",
                    "Bytes of the file, where they were not known.",
                    integer(0, i64::MAX),
                ),
            ],
            protocols().into_iter().chain(digests()),
        ),
        body: Some(bytes(
            "The bytes.",
            &[tus::OFFSET_STREAM, "application/partial-upload"],
        )),
        answers: vec![
            Answer::new(
                201,
                "The same in the IETF draft; with the body of PUT at the end.",
            )
            .header("Upload-Offset", "Where to go on.")
            .header("Upload-Complete", "Whether it is a video now."),
            Answer::new(204, "They are safe.")
                .header("Upload-Offset", "Where to go on.")
                .header("Upload-Expires", "When it may be expired."),
        ],
        problems: vec![
            ALWAYS,
            END,
            &[
                Kind::BadRequest,
                Kind::NotFound,
                Kind::Gone,
                Kind::TusVersion,
                Kind::ContentType,
                Kind::ChecksumMismatch,
                Kind::MismatchingUploadOffset,
                Kind::CompletedUpload,
                Kind::InconsistentUploadLength,
                Kind::WrongOffset,
                Kind::Superseded,
                Kind::TooLarge,
                Kind::SmallPatches,
            ],
        ],
        open: false,
    }
}

fn delete() -> Op {
    Op {
        path: "/v1/uploads/{id}",
        method: HttpMethod::Delete,
        id: "deleteUpload",
        tag: TAG,
        about: "Ends an upload; of a finished one it cancels the video.",
        parameters: with(vec![id()], protocols()),
        body: None,
        answers: vec![Answer::new(204, "It is over.")],
        problems: vec![
            ALWAYS,
            END,
            &[
                Kind::BadRequest,
                Kind::NotFound,
                Kind::Gone,
                Kind::TusVersion,
                Kind::Final,
            ],
        ],
        open: false,
    }
}
