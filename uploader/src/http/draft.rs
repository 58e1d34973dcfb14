//! The IETF draft of resumable uploads (draft-ietf-httpbis-resumable-upload), by the interop
//! version that a request names: 3 (draft -01), 5 (-03), 6 (-04, -05) and 8 (-09 to -11). Their
//! fields differ in names and meanings; here they become one. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields;
use super::problem::{Kind, Problem};
use super::tus::{self, UPLOAD_LENGTH, UPLOAD_OFFSET};

/// `Upload-Draft-Interop-Version`.
pub(super) const INTEROP: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// `Upload-Complete`, from version 4 on.
pub(super) const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// `Upload-Incomplete`, up to version 3.
pub(super) const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// `Upload-Limit`.
pub(super) const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
/// Content type of an append, from version 6 on.
pub(super) const PARTIAL_UPLOAD: &str = "application/partial-upload";

const YES: HeaderValue = HeaderValue::from_static("?1");
const NO: HeaderValue = HeaderValue::from_static("?0");

/// A version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Draft -01; phones of its time.
    V3,
    /// Draft -03.
    V5,
    /// Drafts -04 and -05.
    V6,
    /// Drafts -09 to -11.
    V8,
}

impl Version {
    fn of(number: u64) -> Option<Self> {
        match number {
            3 => Some(Self::V3),
            5 => Some(Self::V5),
            6 => Some(Self::V6),
            8 => Some(Self::V8),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub(super) const fn number(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V5 => "5",
            Self::V6 => "6",
            Self::V8 => "8",
        }
    }
}

/// What a request says in the words of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// The version whose words are used.
    pub(super) version: Version,
    /// Whether the request named it: only then may an informational answer be sent.
    pub(super) named: bool,
    /// Whether the body brings the end of the upload, as far as the request says.
    pub(super) complete: Option<bool>,
}

impl Draft {
    /// What the request says, if it speaks the draft.
    ///
    /// # Errors
    /// 400 for a flag that is no boolean.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let flag = flag(headers, &UPLOAD_COMPLETE, "Upload-Complete")?;
        let Some(named) = headers.get(&INTEROP) else {
            // What the standard will look like; nobody may take it for a draft's answer.
            let version = Version::V8;
            return Ok(flag.map(|complete| Self {
                version,
                named: false,
                complete: Some(complete),
            }));
        };
        let number = named.to_str().ok().and_then(fields::integer);
        let Some(version) = number.and_then(Version::of) else {
            // Of a version that is not spoken, only a body that is the whole can be understood.
            let incomplete = self::flag(headers, &UPLOAD_INCOMPLETE, "Upload-Incomplete")?;
            return match flag.or(incomplete.map(|incomplete| !incomplete)) {
                Some(false) => Err(unknown_version()),
                Some(true) | None => Ok(None),
            };
        };
        let complete = match version {
            // Left out, it means that nothing follows.
            Version::V3 => {
                let incomplete = self::flag(headers, &UPLOAD_INCOMPLETE, "Upload-Incomplete")?;
                Some(!incomplete.unwrap_or(false))
            }
            Version::V5 | Version::V6 | Version::V8 => flag,
        };
        Ok(Some(Self {
            version,
            named: true,
            complete,
        }))
    }

    /// Checks that an append has the type that the version asks for.
    ///
    /// # Errors
    /// 415 when it has not.
    pub(super) fn require_type(self, headers: &HeaderMap) -> Result<(), Problem> {
        let typed = tus::media_type(headers).as_deref() == Some(PARTIAL_UPLOAD);
        if typed || self.version < Version::V6 {
            return Ok(());
        }
        let detail = format!("Send Content-Type: {PARTIAL_UPLOAD}.");
        Err(Problem::new(Kind::ContentType, detail)
            .field("Content-Type")
            .with(
                super::ACCEPT_PATCH,
                HeaderValue::from_static(PARTIAL_UPLOAD),
            ))
    }

    /// Checks that a request that carries nothing says nothing of an offset or an end.
    ///
    /// # Errors
    /// 400, as versions up to 6 demand.
    pub(super) fn require_bare(self, headers: &HeaderMap) -> Result<(), Problem> {
        let named = [
            (&UPLOAD_OFFSET, "Upload-Offset"),
            (&UPLOAD_COMPLETE, "Upload-Complete"),
            (&UPLOAD_INCOMPLETE, "Upload-Incomplete"),
            (&UPLOAD_LENGTH, "Upload-Length"),
        ];
        let found = named.iter().find(|(name, _)| headers.contains_key(*name));
        match found {
            Some((_, field)) if self.version <= Version::V6 => Err(Problem::bad_request(
                *field,
                format!("This request must not carry {field}."),
            )),
            _ => Ok(()),
        }
    }

    /// The flag of an answer: its name in this version, and its value.
    #[must_use]
    pub(super) fn flag(self, complete: bool) -> (HeaderName, HeaderValue) {
        match self.version {
            Version::V3 => (UPLOAD_INCOMPLETE, if complete { NO } else { YES }),
            Version::V5 | Version::V6 | Version::V8 => {
                (UPLOAD_COMPLETE, if complete { YES } else { NO })
            }
        }
    }

    /// 409 with the offset to go on from.
    #[must_use]
    pub(super) fn wrong_offset(expected: u64, provided: u64) -> Problem {
        Problem::new(
            Kind::MismatchingUploadOffset,
            format!("Go on at Upload-Offset {expected}."),
        )
        .field("Upload-Offset")
        .offset(expected)
        .member("expected-offset", expected)
        .member("provided-offset", provided)
    }

    /// 400 for an append to an upload that is at its end.
    #[must_use]
    pub(super) fn completed(self, offset: u64, empty: bool) -> Problem {
        let kind = if self.version == Version::V8 && !empty {
            Kind::InconsistentUploadLength
        } else {
            Kind::CompletedUpload
        };
        let detail = "The upload is complete: nothing can be appended. HEAD tells its offset.";
        Problem::new(kind, detail).offset(offset)
    }

    /// 400 for lengths that do not fit each other.
    #[must_use]
    pub(super) fn inconsistent() -> Problem {
        Problem::new(
            Kind::InconsistentUploadLength,
            "Upload-Length, Content-Length with Upload-Complete: ?1, and what was said before must be one length.",
        )
        .field("Upload-Length")
    }
}

/// The limits of an upload, for `Upload-Limit`.
#[must_use]
pub(super) fn limits(max_size: u64, seconds: u64) -> String {
    let min = kinora_upload_engine::open::SMALL_PATCH;
    format!("max-size={max_size}, min-append-size={min}, expires={seconds}, max-age={seconds}")
}

fn flag(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<bool>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let flag = value.to_str().ok().and_then(fields::boolean);
    flag.map(Some)
        .ok_or_else(|| Problem::bad_request(field, format!("{field} must be ?1 or ?0.")))
}

fn unknown_version() -> Problem {
    Problem::bad_request(
        "Upload-Draft-Interop-Version",
        "This server speaks the versions 3, 5, 6 and 8 of the draft; send the file in one request, or use one of them.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_its_own_words_for_the_end() {
        type Headers<'a> = &'a [(&'static str, &'a str)];
        // None: refused. Some(None): not the draft's.
        type Want = Option<Option<(Version, Option<bool>)>>;
        let cases: [(&str, Headers<'_>, Want); 12] = [
            ("nothing of it", &[], Some(None)),
            (
                "3, incomplete",
                &[
                    ("upload-draft-interop-version", "3"),
                    ("upload-incomplete", "?1"),
                ],
                Some(Some((Version::V3, Some(false)))),
            ),
            (
                "3, left out",
                &[("upload-draft-interop-version", "3")],
                Some(Some((Version::V3, Some(true)))),
            ),
            (
                "5, complete",
                &[
                    ("upload-draft-interop-version", "5"),
                    ("upload-complete", "?1"),
                ],
                Some(Some((Version::V5, Some(true)))),
            ),
            (
                "5 with the word of 3",
                &[
                    ("upload-draft-interop-version", "5"),
                    ("upload-incomplete", "?1"),
                ],
                Some(Some((Version::V5, None))),
            ),
            (
                "6, incomplete",
                &[
                    ("upload-draft-interop-version", "6"),
                    ("upload-complete", "?0"),
                ],
                Some(Some((Version::V6, Some(false)))),
            ),
            (
                "8, left out",
                &[("upload-draft-interop-version", "8")],
                Some(Some((Version::V8, None))),
            ),
            (
                "no version",
                &[("upload-complete", "?0")],
                Some(Some((Version::V8, Some(false)))),
            ),
            (
                "an unknown version of a whole",
                &[
                    ("upload-draft-interop-version", "99"),
                    ("upload-complete", "?1"),
                ],
                Some(None),
            ),
            (
                "an unknown version of a piece",
                &[
                    ("upload-draft-interop-version", "4"),
                    ("upload-complete", "?0"),
                ],
                None,
            ),
            (
                "no boolean",
                &[
                    ("upload-draft-interop-version", "6"),
                    ("upload-complete", "1"),
                ],
                None,
            ),
            (
                "no number",
                &[("upload-draft-interop-version", "six")],
                Some(None),
            ),
        ];
        for (name, headers, want) in cases {
            let headers = headers.iter().map(|(key, value)| {
                (
                    HeaderName::from_static(key),
                    HeaderValue::from_str(value).unwrap(),
                )
            });
            let got = Draft::of(&headers.collect()).ok();
            let got = got.map(|draft| draft.map(|d| (d.version, d.complete)));
            assert_eq!(got, want, "{name}");
        }
    }
}
