//! Errors as `application/problem+json` (RFC 9457): a stable `type`, the field that is wrong, and
//! what to do.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use serde_json::json;

use crate::auth::Denied;

mod kind;

pub use kind::Kind;

/// An error answer.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: Kind,
    detail: String,
    field: Option<Cow<'static, str>>,
    members: Vec<(&'static str, u64)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of a stable kind; the detail says what is wrong and how to mend it.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            detail: detail.into(),
            field: None,
            members: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Names the header, parameter or member that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Adds a number beside the detail.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: u64) -> Self {
        self.0.members.push((name, value));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, seconds)
    }

    /// Says at which offset to go on.
    #[must_use]
    pub fn offset(self, offset: u64) -> Self {
        self.with(super::tus::UPLOAD_OFFSET, offset)
    }

    /// 400 for a request that cannot be understood.
    #[must_use]
    pub fn bad_request(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail).field(field)
    }

    /// 404 for what is not there, and for what is somebody else's.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            Kind::NotFound,
            "Nothing is known under this id, or it belongs to somebody else. Create a new upload.",
        )
    }

    /// 400 where upload tokens are not set up.
    #[must_use]
    pub fn no_tokens() -> Self {
        Self::bad_request(
            "Kinora-Upload-Token",
            "This service hands out no upload tokens: whoever runs it can give it keys for them.",
        )
    }

    /// 410 for an upload that ended without a video.
    #[must_use]
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(Kind::Gone, detail)
    }

    /// 413 for more bytes than are allowed.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Kind::TooLarge, detail)
    }

    /// 415 for bytes that are no video.
    #[must_use]
    pub fn not_video(why: &str) -> Self {
        Self::new(
            Kind::NotAVideo,
            format!(
                "Nothing was stored: {why}. Send an MP4, QuickTime, 3GP, WebM or Matroska file."
            ),
        )
    }

    /// 409 with the offset to go on from.
    #[must_use]
    pub fn wrong_offset(offset: u64) -> Self {
        Self::new(
            Kind::WrongOffset,
            format!("Go on at Upload-Offset {offset}."),
        )
        .field("Upload-Offset")
        .offset(offset)
    }

    /// 503: try again soon. The cause goes to the log only.
    #[must_use]
    pub fn try_again(cause: &str) -> Self {
        tracing::warn!(cause, "answering 503");
        Self::new(
            Kind::TryAgain,
            "Nothing that was acknowledged is lost. Ask for the offset with HEAD and go on from there.",
        )
        .retry_after(2)
    }
}

impl Problem {
    /// 405 with the methods that fit.
    #[must_use]
    pub fn not_allowed(allow: &'static str, detail: &str) -> Self {
        Self::new(Kind::Method, detail).with(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// 500 for a bug. What it was is in the log only.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "Send the request again; if it fails again, tell whoever runs this server the time.",
        )
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(
                Kind::Unauthenticated,
                "Send Authorization: Bearer <key-id>.<secret> with a key that is valid here.",
            )
            .field("Authorization")
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Denied::OtherUpload => Self::not_found(),
            Denied::Unavailable(why) => Self::try_again(why).retry_after(5),
            Denied::Forbidden(scope) => Self::new(
                Kind::MissingScope,
                format!("It needs the scope {scope}; whoever manages keys and roles can add it."),
            )
            .field("Authorization"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts {
            kind,
            detail,
            field,
            members,
            headers,
        } = *self.0;
        let mut body = json!({
            "type": kind.uri(),
            "title": kind.title(),
            "status": kind.status().as_u16(),
            "detail": detail,
        });
        if let Some(field) = field {
            body["field"] = field.as_ref().into();
        }
        for (name, value) in members {
            body[name] = value.into();
        }
        let mut answer = (kind.status(), body.to_string()).into_response();
        // For those who count refusals.
        answer.extensions_mut().insert(kind);
        let map = answer.headers_mut();
        map.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.into_iter().for_each(|(name, value)| {
            map.insert(name, value);
        });
        answer
    }
}
