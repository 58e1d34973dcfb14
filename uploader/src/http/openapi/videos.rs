//! The operations of `/v1/videos` and `/v1/batches`.

use utoipa::openapi::HttpMethod;

use super::ALWAYS;
use super::build::{Answer, Op, id, integer, json_body, may_send, query, text, words};
use crate::http::problem::Kind;
use crate::http::videos::view::VideoState;

const TAG: &str = "videos";

pub(super) fn all() -> Vec<Op> {
    vec![status(), cancel(), erase(), list(), batch()]
}

fn status() -> Op {
    Op {
        path: "/v1/videos/{id}",
        method: HttpMethod::Get,
        id: "getVideo",
        tag: TAG,
        about: "Where a video stands; with `wait`, once there is something to tell.",
        parameters: vec![
            id(),
            query(
                "wait",
                "Answer when the video is at its end, or, with If-None-Match, when it changed; at the latest after this \
                 time: 1s to 60s.",
                super::build::pattern("^([1-9]|[1-5][0-9]|60)s$"),
            ),
            may_send("If-None-Match", "The ETag of an earlier answer.", text()),
        ],
        body: None,
        answers: vec![
            Answer::new(200, "The video.")
                .json("Video")
                .header("ETag", "Differs whenever the video does."),
            Answer::new(304, "It is as it was.").header("ETag", "As sent."),
        ],
        problems: vec![
            ALWAYS,
            &[
                Kind::BadRequest,
                Kind::NotFound,
                Kind::Gone,
                Kind::Erased,
                Kind::TooManyWaiters,
            ],
        ],
        open: false,
    }
}

fn cancel() -> Op {
    Op {
        path: "/v1/videos/{id}",
        method: HttpMethod::Delete,
        id: "cancelVideo",
        tag: TAG,
        about: "Cancels a video, or ends its upload. The wish is stored before it is answered.",
        parameters: vec![id()],
        body: None,
        answers: vec![Answer::new(204, "The wish is stored.")],
        problems: vec![
            ALWAYS,
            &[Kind::NotFound, Kind::Final, Kind::Gone, Kind::Rejected],
        ],
        open: false,
    }
}

fn erase() -> Op {
    Op {
        path: "/v1/videos/{id}/erase",
        method: HttpMethod::Post,
        id: "eraseVideo",
        tag: TAG,
        about: "Erases a video for good, by the policy of the installation; needs the scope kinora:erase.",
        parameters: vec![id()],
        body: Some(json_body("EraseRequest")),
        answers: vec![
            Answer::new(200, "It is erased.").json("ErasureAnswer"),
            Answer::new(202, "The wish is stored.").json("ErasureAnswer"),
        ],
        problems: vec![
            ALWAYS,
            &[
                Kind::BadRequest,
                Kind::EraseRefused,
                Kind::NotFound,
                Kind::Held,
                Kind::TooLarge,
                Kind::ContentType,
            ],
        ],
        open: false,
    }
}

fn list() -> Op {
    Op {
        path: "/v1/videos",
        method: HttpMethod::Get,
        id: "listVideos",
        tag: TAG,
        about: "An owner's videos, newest first. A page with a filter may be empty and still have a cursor.",
        parameters: vec![
            query("cursor", "That of the page before.", text()),
            query(
                "limit",
                "Most videos on the page; 50 without it.",
                integer(1, 100),
            ),
            query(
                "state",
                "Only videos that stand there.",
                words(VideoState::ALL.map(VideoState::word)),
            ),
            query(
                "owner",
                "Whose videos, by the subject of its credentials; others than one's own with the scope kinora:tenant.",
                text(),
            ),
            query(
                "issuer",
                "Who vouches for `owner`; one's own issuer without it.",
                text(),
            ),
        ],
        body: None,
        answers: vec![Answer::new(200, "A page.").json("Page")],
        problems: vec![ALWAYS, &[Kind::BadRequest]],
        open: false,
    }
}

fn batch() -> Op {
    Op {
        path: "/v1/batches",
        method: HttpMethod::Post,
        id: "createBatch",
        tag: "uploads",
        about: "Up to 100 creates in one request, each with its own result.",
        parameters: vec![super::uploads::idempotency_key()],
        body: Some(json_body("Batch")),
        answers: vec![
            Answer::new(200, "A result for each item, in their order.").json("BatchAnswer"),
        ],
        problems: vec![
            ALWAYS,
            &[
                Kind::BadRequest,
                Kind::TooSlow,
                Kind::TooLarge,
                Kind::ContentType,
            ],
        ],
        open: false,
    }
}
