//! Which of the protocols a request speaks: tus 1.0, the IETF draft, or plain HTTP.

use axum::body::Body;
use http::{HeaderMap, header};
use http_body::Body as _;

use super::draft::Draft;
use super::problem::{Kind, Problem};
use super::tus;

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A body that is the whole file.
    Plain,
    /// tus 1.0.
    Tus,
    /// The IETF draft.
    Draft(Draft),
}

impl Protocol {
    /// What a create speaks.
    pub(super) fn of_create(headers: &HeaderMap) -> Result<Self, Problem> {
        if tus::is_tus(headers)? {
            return Ok(Self::Tus);
        }
        match Draft::of(headers)? {
            Some(draft) if draft.complete.is_some() => return Ok(Self::Draft(draft)),
            Some(_) | None => {}
        }
        let of_tus = [&tus::UPLOAD_LENGTH, &tus::UPLOAD_DEFER_LENGTH];
        if of_tus.iter().any(|name| headers.contains_key(*name)) {
            // Whoever says a length means to go on later: as a plain body it would be misread.
            tus::require_tus(headers)?;
        }
        Ok(Self::Plain)
    }

    /// What a request on an upload speaks.
    pub(super) fn of_upload(headers: &HeaderMap) -> Result<Self, Problem> {
        if tus::is_tus(headers)? {
            return Ok(Self::Tus);
        }
        match Draft::of(headers)? {
            Some(draft) => Ok(Self::Draft(draft)),
            None => tus::require_tus(headers).map(|()| Self::Tus),
        }
    }

    /// An answer to a request that brought the last byte: the draft says so even of a refusal. A client reads that as
    /// final, so an answer that another try may change does not say it.
    pub(super) fn at_its_end(self, problem: Problem) -> Problem {
        match self {
            Self::Draft(_) if matches!(problem.kind(), Kind::TryAgain | Kind::Internal) => problem,
            Self::Draft(draft) => {
                let (name, value) = draft.flag(true);
                problem.with(name, value)
            }
            Self::Plain | Self::Tus => problem,
        }
    }

    /// The draft, if that is spoken.
    pub(super) fn draft(self) -> Option<Draft> {
        match self {
            Self::Draft(draft) => Some(draft),
            Self::Plain | Self::Tus => None,
        }
    }
}

/// Bytes of the body as far as they are told: HTTP/2 needs no header for the end of a body.
pub(super) fn body_size(headers: &HeaderMap, body: &Body) -> Result<Option<u64>, Problem> {
    let told = tus::bytes(headers, &header::CONTENT_LENGTH, "Content-Length")?;
    if body.is_end_stream() {
        return Ok(Some(0));
    }
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    Ok(told.filter(|_| !chunked))
}
