//! What a create asks for, checked before anything is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::BodyDataStream;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use kinora_upload_engine::{Principal, State, grid};

use super::super::admit::admit;
use super::super::draft::{Draft, PARTIAL_UPLOAD};
use super::super::problem::{Kind, Problem};
use super::super::protocol::Protocol;
use super::super::{digests, tus};
use crate::app::App;
use crate::auth::Action;
use crate::budget::Held;
use crate::digest::Check;
use crate::drive::body::Incoming;
use crate::drive::{Driver, blank_state};
use crate::limits::{Seat, seat};
use crate::profiles::{Accept, DEFAULT};
use crate::wire::Interim;

/// A file name or type from a client is kept up to this length.
const MOST_NAME: usize = 128;

/// A create that may go on.
pub(super) struct Asked {
    pub(super) principal: Principal,
    pub(super) protocol: Protocol,
    profile_name: String,
    pub(super) any: bool,
    pub(super) max: u64,
    /// Bytes of the whole, when they are known.
    pub(super) length: Option<u64>,
    /// Bytes of the body, when they are told.
    pub(super) size: Option<u64>,
    metadata: tus::UploadMetadata,
    pub(super) check: Option<Check>,
    digests: BTreeMap<String, String>,
    /// Where an informational answer may be sent.
    pub(super) interim: Option<Interim>,
    /// Whose upload it is to be, until that is counted.
    seat: Option<Arc<Seat>>,
}

impl Asked {
    /// Of a request whose body has `size` bytes, as far as that is told.
    pub(super) async fn of(app: &App, parts: &Parts, size: Option<u64>) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let protocol = Protocol::of_create(headers)?;
        let principal = admit(app, headers, Action::Create, None).await?;
        app.ready.check(&app.store).map_err(Problem::try_again)?;
        if app.admission.refuses_uploads() {
            return Err(Problem::new(
                Kind::Overloaded,
                "Videos have been waiting for hours. Keep the file and try again later.",
            )
            .retry_after(300));
        }
        let metadata = metadata(headers, protocol)?;
        let profile_name = profile_name(headers, &metadata)?;
        let profile = app.profiles.get(&profile_name).ok_or_else(|| {
            let names = app.profiles.names();
            Problem::bad_request(
                "Kinora-Profile",
                format!("There is no profile of this name; there are: {names}."),
            )
        })?;
        let named = protocol.draft().is_some_and(|draft| draft.named);
        let arrives = || app.interim_responses.reach(parts, app.limits.proxies());
        let interim = parts.extensions.get::<Interim>();
        let interim = interim.filter(|_| named && arrives());
        let asked = Self {
            principal,
            protocol,
            any: profile.accept == Accept::Any,
            max: profile.max_bytes,
            profile_name,
            length: length(headers, protocol, size)?,
            size,
            metadata,
            check: digests::of_body(headers)?,
            digests: digests::of_whole(headers)?,
            interim: interim.cloned(),
            seat: seat(),
        };
        asked.check_length(headers)?;
        Ok(asked)
    }

    /// Whether the body, or what is known before it, can be the whole file.
    pub(super) fn may_be_whole(&self) -> bool {
        match self.protocol {
            Protocol::Plain => true,
            Protocol::Tus => self.length.is_some(),
            Protocol::Draft(draft) => draft.complete == Some(true),
        }
    }

    /// Whether the end of the body is the end of the file.
    pub(super) fn carries_all(&self) -> bool {
        self.protocol != Protocol::Tus && self.may_be_whole()
    }

    /// Whether a body of so many bytes is the whole file.
    pub(super) fn ends_at(&self, size: u64) -> bool {
        self.length
            .map_or_else(|| self.carries_all(), |length| length == size)
    }

    pub(super) fn has_body(&self) -> bool {
        self.size != Some(0)
    }

    /// How the body is to be read.
    pub(super) fn incoming(&mut self, stream: BodyDataStream) -> Incoming {
        Incoming {
            stream,
            first: Bytes::new(),
            held: Held::default(),
            ended: false,
            carries_all: self.carries_all(),
            creates: true,
            untold: self.size.is_none(),
            check: self.check.take(),
        }
    }

    /// Counts the upload, once: its client has it now, or can come to have it.
    pub(super) fn count(&mut self, driver: &Driver) {
        let upload = (self.protocol != Protocol::Plain).then_some(&driver.id);
        if let Some(seat) = self.seat.take() {
            driver.app.limits.created(&seat, upload);
        }
    }

    fn check_length(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self.length.or(self.size) {
            Some(bytes) if bytes > self.max => return Err(self.too_large()),
            // Over the others an empty file is an upload that is rejected at its end; plainly it
            // is a mistake.
            Some(0) if self.protocol == Protocol::Plain => return Err(no_body()),
            _ => {}
        }
        if self.protocol == Protocol::Tus && self.has_body() {
            tus::require_offset_stream(headers)?;
        }
        match self.size.zip(self.length) {
            Some((size, length)) if size > length => Err(self.longer_than_told()),
            _ => Ok(()),
        }
    }

    /// 413 for a body beyond `Upload-Length`, in the draft 400.
    pub(super) fn longer_than_told(&self) -> Problem {
        match self.protocol {
            Protocol::Draft(_) => Draft::inconsistent(),
            Protocol::Tus | Protocol::Plain => {
                Problem::too_large("The body is longer than Upload-Length.").field("Content-Length")
            }
        }
    }

    /// 413 for a file beyond the profile's limit.
    pub(super) fn too_large(&self) -> Problem {
        let is_told = self.length.is_some() && self.protocol != Protocol::Plain;
        let field = if is_told {
            "Upload-Length"
        } else {
            "Content-Length"
        };
        let max = self.max;
        Problem::too_large(format!("This profile takes files of at most {max} bytes.")).field(field)
    }

    /// The answer to a body that was to carry all, and ended before.
    /// `offset`: of what stays of it.
    pub(super) fn ended_early(&self, offset: Option<u64>) -> Problem {
        match (self.protocol, self.length, offset) {
            (Protocol::Draft(_), Some(_), Some(offset)) => Draft::inconsistent().offset(offset),
            (Protocol::Draft(_), Some(_), None) => Draft::inconsistent(),
            _ => Problem::try_again("a body ended early"),
        }
    }

    /// Bytes of its parts; a file of at most one needs no more than memory.
    pub(super) fn part_size(&self) -> u64 {
        grid::part_size(self.length, self.max)
    }

    /// The state of the upload that is asked for, closed at 0.
    pub(super) fn state(&self, driver: &Driver) -> State {
        let size = self.part_size();
        let mut state = blank_state(
            &driver.id,
            &self.principal.tenant,
            &self.profile_name,
            self.length,
            size,
        );
        state.owner = self.principal.owner.clone();
        state.metadata = self.metadata.pairs.clone();
        state.upload_metadata = self.metadata.raw.clone();
        state.sniffed = self.any;
        state.limit = Some(self.max).filter(|_| self.length.is_none());
        let said = self.protocol.draft().and_then(|draft| draft.complete);
        state.complete = said.filter(|end| *end || self.length.is_none());
        state.digests = self.digests.clone();
        state.crc32c = state.digests.contains_key("crc32c").then_some(0);
        state
    }
}

/// 400 for a plain request without a file.
pub(super) fn no_body() -> Problem {
    let detail =
        "Send the file as the body, or start a tus upload with Tus-Resumable and Upload-Length.";
    Problem::bad_request("Content-Length", detail)
}

/// The length of the whole, as far as the request says it.
fn length(
    headers: &HeaderMap,
    protocol: Protocol,
    size: Option<u64>,
) -> Result<Option<u64>, Problem> {
    let told = || tus::bytes(headers, &tus::UPLOAD_LENGTH, "Upload-Length");
    match protocol {
        Protocol::Plain => Ok(size),
        Protocol::Tus => {
            tus::refuse_concatenation(headers)?;
            match (told()?, tus::defers_length(headers)?) {
                (None, false) => Err(Problem::bad_request(
                    "Upload-Length",
                    "A tus create needs Upload-Length, the size of the file in bytes, or Upload-Defer-Length: 1.",
                )),
                (length, _) => Ok(length),
            }
        }
        Protocol::Draft(draft) => {
            let brought = size.filter(|_| draft.complete == Some(true));
            match (told()?, brought) {
                (Some(told), Some(brought)) if told != brought => Err(Draft::inconsistent()),
                (told, brought) => Ok(told.or(brought)),
            }
        }
    }
}

/// The client's own words on its file: tus's header, or the headers of the file itself.
fn metadata(headers: &HeaderMap, protocol: Protocol) -> Result<tus::UploadMetadata, Problem> {
    let mut metadata = tus::metadata(headers)?;
    if protocol == Protocol::Tus {
        return Ok(metadata);
    }
    let short = |text: &str| text.chars().take(MOST_NAME).collect::<String>();
    if let Some(kind) = tus::media_type(headers).filter(|kind| kind != PARTIAL_UPLOAD) {
        metadata.pairs.insert("filetype".into(), short(&kind));
    }
    if let Some(name) = file_name(headers) {
        metadata
            .pairs
            .entry("filename".into())
            .or_insert_with(|| short(name));
    }
    Ok(metadata)
}

/// `filename` of `Content-Disposition`, where it is a plain one.
fn file_name(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::CONTENT_DISPOSITION)?.to_str().ok()?;
    let named = text
        .split(';')
        .find_map(|part| part.trim().strip_prefix("filename="))?;
    Some(named.trim_matches('"')).filter(|name| !name.is_empty())
}

/// Most bytes of a body that is sent again, though its create was answered.
pub(in crate::http) fn most(app: &App, headers: &HeaderMap) -> Result<u64, Problem> {
    let metadata = metadata(headers, Protocol::of_create(headers)?)?;
    let name = profile_name(headers, &metadata)?;
    Ok(app.profiles.or_default(&name).max_bytes)
}

fn profile_name(headers: &HeaderMap, metadata: &tus::UploadMetadata) -> Result<String, Problem> {
    let bad = || {
        Problem::bad_request(
            "Kinora-Profile",
            "Kinora-Profile must be the name of a profile.",
        )
    };
    let header = headers
        .get(&tus::KINORA_PROFILE)
        .map(|value| value.to_str().map_err(|_| bad()))
        .transpose()?;
    let named = header.or_else(|| metadata.pairs.get("profile").map(String::as_str));
    Ok(named.unwrap_or(DEFAULT).to_owned())
}
