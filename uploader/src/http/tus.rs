//! The headers of tus 1.0 and of a create: read, checked, written. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::{Kind, Problem};

/// The only version.
pub const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
/// What is offered beyond the core.
pub const EXTENSIONS: HeaderValue = HeaderValue::from_static(
    "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination",
);
/// Content type of bytes for an upload.
pub const OFFSET_STREAM: &str = "application/offset+octet-stream";

/// `Tus-Resumable`.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `Tus-Version`.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `Tus-Extension`.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// `Tus-Max-Size`.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// `Tus-Checksum-Algorithm`.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
/// `Upload-Expires`.
pub const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// `Upload-Offset`.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `Upload-Length`.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `Upload-Metadata`.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// `Upload-Defer-Length`.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// Asks for an upload of pieces that are sent as uploads of their own.
const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// Names the profile of an upload.
pub const KINORA_PROFILE: HeaderName = HeaderName::from_static("kinora-profile");
/// The method that a client behind a narrow proxy means.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

const MAX_METADATA_BYTES: usize = 4096;
const MAX_METADATA_KEYS: usize = 32;

/// Whether the request speaks tus.
///
/// # Errors
/// 412 when it speaks another version.
pub fn is_tus(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(&TUS_RESUMABLE) {
        None => Ok(false),
        Some(version) if *version == VERSION => Ok(true),
        Some(_) => Err(wrong_version("This server speaks tus 1.0.0 only.")),
    }
}

/// Checks that the request speaks tus.
///
/// # Errors
/// 412 when it does not, or speaks another version.
pub fn require_tus(headers: &HeaderMap) -> Result<(), Problem> {
    if is_tus(headers)? {
        return Ok(());
    }
    Err(wrong_version(
        "Send Tus-Resumable: 1.0.0 with every request on an upload (or Upload-Draft-Interop-Version, of the IETF draft).",
    ))
}

fn wrong_version(detail: &str) -> Problem {
    Problem::new(Kind::TusVersion, detail)
        .field("Tus-Resumable")
        .with(TUS_VERSION, VERSION)
}

/// Checks that a new upload is not one of an extension that is not offered.
///
/// # Errors
/// 400 for pieces that are to be joined: each would be taken for a whole video.
pub fn refuse_concatenation(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(&UPLOAD_CONCAT) {
        return Ok(());
    }
    let detail = "Uploads are not joined here. Send the file as one upload.";
    Err(Problem::bad_request("Upload-Concat", detail))
}

/// Whether the length of a new upload follows later.
///
/// # Errors
/// 400 when `Upload-Defer-Length` is not 1, or the length is there too.
pub fn defers_length(headers: &HeaderMap) -> Result<bool, Problem> {
    let bad = |detail| Err(Problem::bad_request("Upload-Defer-Length", detail));
    match headers.get(&UPLOAD_DEFER_LENGTH) {
        None => Ok(false),
        Some(value) if *value != "1" => bad("Upload-Defer-Length must be 1."),
        Some(_) if headers.contains_key(&UPLOAD_LENGTH) => {
            bad("Send Upload-Length or Upload-Defer-Length, not both.")
        }
        Some(_) => Ok(true),
    }
}

/// A number of bytes from a header: decimal digits only.
///
/// # Errors
/// 400 when there is something else.
pub fn bytes(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|n| i64::try_from(*n).is_ok());
    number.map(Some).ok_or_else(|| {
        Problem::bad_request(
            field,
            format!("{field} must be a decimal number of bytes, 0 or more."),
        )
    })
}

/// The media type of the body, in lower case and without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
    )
}

/// Checks that the body is bytes for an upload.
///
/// # Errors
/// 415 when it is something else.
pub fn require_offset_stream(headers: &HeaderMap) -> Result<(), Problem> {
    if media_type(headers).as_deref() == Some(OFFSET_STREAM) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::ContentType,
        format!("Send Content-Type: {OFFSET_STREAM}."),
    )
    .field("Content-Type"))
}

/// `Upload-Metadata` as sent, and its pairs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UploadMetadata {
    /// The header, for the echo on HEAD.
    pub raw: Option<String>,
    /// The decoded pairs; a value that is not UTF-8 stays in Base64.
    pub pairs: BTreeMap<String, String>,
}

/// Reads `Upload-Metadata`: comma-separated `key base64(value)`, at most 4 KiB and 32 keys.
///
/// # Errors
/// 400 when it is not that.
pub fn metadata(headers: &HeaderMap) -> Result<UploadMetadata, Problem> {
    let bad = |detail: &str| Problem::bad_request("Upload-Metadata", detail);
    let Some(value) = headers.get(&UPLOAD_METADATA) else {
        return Ok(UploadMetadata::default());
    };
    let raw = value
        .to_str()
        .map_err(|_| bad("Upload-Metadata must be ASCII: keys, and values in Base64."))?;
    if raw.len() > MAX_METADATA_BYTES {
        return Err(bad("Upload-Metadata must not be longer than 4 KiB."));
    }
    let mut pairs = BTreeMap::new();
    for pair in raw
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, encoded) = pair.split_once(' ').unwrap_or((pair, ""));
        let decoded = STANDARD
            .decode(encoded.trim())
            .map_err(|_| bad("Every value of Upload-Metadata must be Base64: `key dmFsdWU=`."))?;
        let value = String::from_utf8(decoded).unwrap_or_else(|_| encoded.trim().to_owned());
        if pairs.insert(key.to_owned(), value).is_some() {
            return Err(bad("Every key of Upload-Metadata must be there once."));
        }
    }
    if pairs.len() > MAX_METADATA_KEYS {
        return Err(bad("Upload-Metadata must not have more than 32 keys."));
    }
    Ok(UploadMetadata {
        raw: Some(raw.to_owned()).filter(|raw| !raw.is_empty()),
        pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    /// covers: F7
    #[test]
    fn numbers_of_bytes_are_plain_decimals() {
        let cases = [
            ("0", Some(0)),
            ("300000000", Some(300_000_000)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            (" 1", None),
            ("0x10", None),
            ("99999999999999999999999", None),
            ("18446744073709551615", None),
        ];
        for (text, want) in cases {
            let got = bytes(&with(UPLOAD_LENGTH, text), &UPLOAD_LENGTH, "Upload-Length")
                .ok()
                .flatten();
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn no_header_breaks_the_readers() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let Ok(value) = HeaderValue::from_bytes(bytes) else {
                return;
            };
            let names = [
                TUS_RESUMABLE,
                UPLOAD_LENGTH,
                UPLOAD_OFFSET,
                UPLOAD_METADATA,
                UPLOAD_DEFER_LENGTH,
                header::CONTENT_TYPE,
            ];
            let headers: HeaderMap = names
                .map(|name| (name, value.clone()))
                .into_iter()
                .collect();
            let _ = is_tus(&headers);
            let _ = defers_length(&headers);
            let _ = media_type(&headers);
            let length = bytes_of(&headers);
            assert!(length.is_none_or(|n| i64::try_from(n).is_ok()));
            let pairs = metadata(&headers).map_or(0, |m| m.pairs.len());
            assert!(pairs <= MAX_METADATA_KEYS);
        });
    }

    fn bytes_of(headers: &HeaderMap) -> Option<u64> {
        bytes(headers, &UPLOAD_LENGTH, "Upload-Length")
            .ok()
            .flatten()
    }

    #[test]
    fn metadata_is_pairs_of_keys_and_base64() {
        let many = (0..33)
            .map(|n| format!("k{n} YQ=="))
            .collect::<Vec<_>>()
            .join(",");
        let cases = [
            ("one pair", "filename Y2xpcC5tcDQ=".to_owned(), Some(1)),
            (
                "two pairs and a key alone",
                "filename Y2xpcC5tcDQ=,private, a YQ==".to_owned(),
                Some(3),
            ),
            ("no Base64", "filename clip.mp4".to_owned(), None),
            ("a key twice", "a YQ==,a YQ==".to_owned(), None),
            ("33 keys", many, None),
            (
                "more than 4 KiB",
                format!("a {}", "YWFh".repeat(1100)),
                None,
            ),
        ];
        for (name, text, want) in cases {
            let got = metadata(&with(UPLOAD_METADATA, &text)).ok();
            assert_eq!(got.as_ref().map(|m| m.pairs.len()), want, "{name}");
        }
        let got = metadata(&with(UPLOAD_METADATA, "filename Y2xpcC5tcDQ=")).unwrap();
        assert_eq!(got.pairs["filename"], "clip.mp4");
        assert_eq!(got.raw.as_deref(), Some("filename Y2xpcC5tcDQ="));
    }
}
