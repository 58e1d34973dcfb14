//! The operations of those who run the server, and of this document.

use utoipa::openapi::HttpMethod;

use super::build::{Answer, Op};
use crate::http::problem::Kind;

pub(super) fn all() -> Vec<Op> {
    vec![
        Op {
            answers: vec![Answer::new(200, "The document.").text("application/json")],
            problems: vec![&[Kind::Method, Kind::Internal]],
            ..probe("/v1/openapi.json", "openapi", "This document.")
        },
        Op {
            answers: vec![Answer::new(200, "The process is up.").text("text/plain; charset=utf-8")],
            ..probe("/livez", "livez", "Whether the process is up.")
        },
        Op {
            answers: vec![
                Answer::new(200, "Ready.").text("text/plain; charset=utf-8"),
                Answer::new(503, "Not ready, and why.").text("text/plain; charset=utf-8"),
            ],
            ..probe("/readyz", "readyz", "Whether requests are welcome.")
        },
        Op {
            answers: vec![
                Answer::new(200, "The metrics.")
                    .text("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            ],
            ..probe("/metrics", "metrics", "Metrics for Prometheus.")
        },
    ]
}

fn probe(path: &'static str, id: &'static str, about: &'static str) -> Op {
    Op {
        path,
        method: HttpMethod::Get,
        id,
        tag: "service",
        about,
        parameters: Vec::new(),
        body: None,
        answers: Vec::new(),
        problems: Vec::new(),
        open: true,
    }
}
