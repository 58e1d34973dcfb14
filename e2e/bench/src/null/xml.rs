//! Answers as S3 words them.

use std::collections::BTreeMap;

use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::Reply;
use super::objects::Object;
use super::parts::Part;

pub(super) fn answer(body: &str) -> Reply {
    let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
    let mut reply = Reply::new(Full::from(format!("{head}{body}")));
    reply.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    reply
}

pub(super) fn error(status: StatusCode, code: &str) -> Reply {
    let mut reply = answer(&format!(
        "<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    ));
    *reply.status_mut() = status;
    reply
}

pub(super) fn with_etag(etag: &str) -> Reply {
    let mut reply = Reply::default();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        reply.headers_mut().insert(header::ETAG, etag);
    }
    reply
}

pub(super) fn http_date(at: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .unwrap_or_default()
}

pub(super) fn listing(found: &[(&String, &Object)], more: bool) -> Reply {
    let mut body = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>");
    for (key, object) in found {
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            object.modified, object.etag, object.size
        ));
    }
    body.push_str("</ListBucketResult>");
    answer(&body)
}

pub(super) fn parts(parts: &BTreeMap<u32, Part>) -> Reply {
    let mut body = "<ListPartsResult><IsTruncated>false</IsTruncated>".to_owned();
    for (number, part) in parts {
        let crc = part.crc.as_ref().map_or_else(String::new, |crc| {
            format!("<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>")
        });
        body.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size>{crc}</Part>",
            part.modified, part.etag, part.size
        ));
    }
    body.push_str("</ListPartsResult>");
    answer(&body)
}
