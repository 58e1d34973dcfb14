//! Bodies: small ones are kept, of large ones only the beginning, and the rest is counted and dropped.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kinora_storage::checksum;

use super::Call;

/// Up to here a body is kept whole, and its checksum is looked at.
const SMALL: u64 = 64 << 10;
/// Of a part, the beginning is kept: a container is looked into there.
const HEAD: u64 = 1 << 20;
const DELETE_LIST: u64 = 4 << 20;

/// What came.
pub(super) struct Body {
    /// Bytes in it.
    pub(super) size: u64,
    /// The first of them; all, where they are looked at again.
    pub(super) kept: Bytes,
    /// Whether the checksum that was named is wrong.
    pub(super) wrong: bool,
}

/// Reads a body to its end; None if it breaks off.
pub(super) async fn read(call: &Call, name: &str, mut incoming: Incoming) -> Option<Body> {
    let keep = keeps(call, name);
    let mut kept = BytesMut::new();
    let mut size = 0u64;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        size += data.len() as u64;
        let room = keep
            .saturating_sub(kept.len() as u64)
            .min(data.len() as u64);
        kept.extend_from_slice(&data[..usize::try_from(room).unwrap_or(0)]);
    }
    let mut kept = kept.freeze();
    let declared = call.header("x-amz-decoded-content-length");
    if let Some(decoded) = declared.and_then(|length| length.parse().ok()) {
        size = decoded;
        kept = unchunked(&kept);
    }
    let named = call
        .header("x-amz-checksum-crc64nvme")
        .filter(|_| name != "CompleteMultipartUpload" && size <= SMALL);
    let wrong = named.is_some_and(|crc| crc != checksum::crc64_base64(&kept));
    Some(Body { size, kept, wrong })
}

/// How many bytes of a body are kept: all of what is read again.
fn keeps(call: &Call, name: &str) -> u64 {
    let length = call.header("content-length");
    let length = length.and_then(|length| length.parse().ok());
    // Kinora's tail slices and states; tusd's notes and unfinished parts.
    let notes =
        call.key.starts_with("up/") || call.key.ends_with(".info") || call.key.ends_with(".part");
    match (name, length) {
        ("DeleteObjects", _) => DELETE_LIST,
        (_, Some(length)) if length <= SMALL || notes => length,
        ("UploadPart", _) if call.query.get("partNumber").is_some_and(|n| n == "1") => HEAD,
        (_, None) => SMALL,
        _ => 0,
    }
}

/// The data of an `aws-chunked` body.
fn unchunked(body: &Bytes) -> Bytes {
    let mut data = BytesMut::new();
    let mut rest = &body[..];
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = line.split(';').next().unwrap_or_default();
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else {
            break;
        };
        let from = end + 2;
        data.extend_from_slice(&rest[from.min(rest.len())..(from + size).min(rest.len())]);
        rest = rest.get(from + size + 2..).unwrap_or_default();
    }
    data.freeze()
}
