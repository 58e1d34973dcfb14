//! Where an upload stands, in the headers of each protocol.

use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use kinora_upload_engine::State;

use super::draft::{self, Draft, INTEROP, UPLOAD_LIMIT};
use super::protocol::Protocol;
use super::{set, tus};
use crate::drive::Driver;

/// Where an upload stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) offset: u64,
    length: Option<u64>,
    metadata: Option<String>,
    /// Whether nothing more is to come.
    pub(super) complete: bool,
    /// Most bytes it may have.
    max: u64,
}

impl Standing {
    /// Of an unfinished upload.
    pub(super) fn unfinished(driver: &Driver, doc: &State) -> Self {
        let complete = doc.is_full();
        Self {
            offset: doc.offset,
            // Nobody is told offset and length of one number before the outbox has the upload: a
            // client may forget its file then.
            length: doc
                .length
                .filter(|length| complete || *length != doc.offset),
            metadata: doc.upload_metadata.clone(),
            complete,
            max: doc.limit.unwrap_or_else(|| max_bytes(driver, &doc.profile)),
        }
    }

    /// Of an upload that has become a video.
    pub(super) fn finished(size: u64) -> Self {
        Self {
            offset: size,
            length: Some(size),
            metadata: None,
            complete: true,
            max: size,
        }
    }

    /// Writes it into the answer to HEAD.
    pub(super) fn tell(self, answer: &mut Response, driver: &Driver, protocol: Protocol) {
        if let Some(length) = self.length {
            set(answer, tus::UPLOAD_LENGTH, length);
        }
        match protocol {
            Protocol::Draft(draft) => {
                of_draft(answer, driver, draft, Some(self.offset), self.complete);
                limit(answer, driver, self.max);
            }
            Protocol::Tus | Protocol::Plain => {
                set(answer, tus::UPLOAD_OFFSET, self.offset);
                if self.length.is_none() {
                    set(
                        answer,
                        tus::UPLOAD_DEFER_LENGTH,
                        HeaderValue::from_static("1"),
                    );
                }
            }
        }
        if let Some(Ok(metadata)) = self.metadata.map(|raw| HeaderValue::from_str(&raw)) {
            set(answer, tus::UPLOAD_METADATA, metadata);
        }
        if !self.complete {
            expiry(answer, driver, protocol);
        }
    }
}

fn max_bytes(driver: &Driver, profile: &str) -> u64 {
    driver.app.profiles.or_default(profile).max_bytes
}

/// Offset, when it may be told, and end of an upload in the words of the draft; a complete one has become a video.
pub(super) fn of_draft(
    answer: &mut Response,
    driver: &Driver,
    draft: Draft,
    offset: Option<u64>,
    complete: bool,
) {
    let (name, value) = draft.flag(complete);
    set(answer, name, value);
    if let Some(offset) = offset {
        set(answer, tus::UPLOAD_OFFSET, offset);
    }
    set(
        answer,
        INTEROP,
        HeaderValue::from_static(draft.version.number()),
    );
    let status = driver.app.location(&format!("/v1/videos/{}", driver.id));
    if let Ok(status) = HeaderValue::from_str(&status)
        && complete
    {
        set(answer, http::header::CONTENT_LOCATION, status);
    }
}

/// The limits of an upload that goes on.
pub(super) fn limit(answer: &mut Response, driver: &Driver, max: u64) {
    if let Ok(limits) = HeaderValue::try_from(limits(driver, max)) {
        set(answer, UPLOAD_LIMIT, limits);
    }
}

fn limits(driver: &Driver, max: u64) -> String {
    let now = driver.app.now_ms();
    let left = driver.expires().map_or(0, |at| {
        u64::try_from(at.as_millisecond())
            .unwrap_or_default()
            .saturating_sub(now)
    });
    draft::limits(max, left / 1000)
}

/// When the upload expires; the draft has it among the limits.
pub(super) fn expiry(answer: &mut Response, driver: &Driver, protocol: Protocol) {
    let Some(at) = driver.expires().filter(|_| protocol == Protocol::Tus) else {
        return;
    };
    let text = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(value) = HeaderValue::from_str(&text) {
        set(answer, tus::UPLOAD_EXPIRES, value);
    }
}

/// The informational answer that tells the URL of a new upload (104), as it goes onto the wire.
pub(super) fn announcement(driver: &Driver, draft: Draft, max: u64) -> Option<Bytes> {
    let location = driver.app.location(&format!("/v1/uploads/{}", driver.id));
    // A public URL that is no header value would end the message early.
    HeaderValue::from_str(&location).ok()?;
    let message = format!(
        "HTTP/1.1 104 Upload Resumption Supported\r\nLocation: {location}\r\nUpload-Draft-Interop-Version: {}\r\n\
         Upload-Limit: {}\r\n\r\n",
        draft.version.number(),
        limits(driver, max),
    );
    Some(message.into())
}
