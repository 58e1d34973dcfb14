//! Multipart uploads: sizes of parts, and the beginning of the first.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::body::Body;
use super::objects::Object;
use super::{Call, Reply, xml};

/// A part that came.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified: Timestamp,
    pub(super) crc: Option<String>,
}

#[derive(Debug, Default)]
struct Upload {
    headers: HeaderMap,
    parts: BTreeMap<u32, Part>,
    head: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Uploads(HashMap<String, Upload>);

pub(super) fn gone() -> Reply {
    xml::error(StatusCode::NOT_FOUND, "NoSuchUpload")
}

impl Uploads {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn create(&mut self, call: &Call) -> Reply {
        let id = format!("{:032x}", rand::random::<u128>());
        let upload = Upload {
            headers: call.headers.clone(),
            ..Upload::default()
        };
        self.0.insert(id.clone(), upload);
        xml::answer(&format!(
            "<InitiateMultipartUploadResult><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            call.key
        ))
    }

    fn of(&mut self, call: &Call) -> Option<&mut Upload> {
        self.0.get_mut(call.query.get("uploadId")?)
    }

    pub(super) fn put_part(&mut self, call: &Call, body: Body) -> Reply {
        let number = call.query.get("partNumber").and_then(|n| n.parse().ok());
        let crc = call.header("x-amz-checksum-crc64nvme").map(str::to_owned);
        let (Some(upload), Some(number)) = (self.of(call), number) else {
            return gone();
        };
        if body.wrong {
            return xml::error(StatusCode::BAD_REQUEST, "BadDigest");
        }
        if number == 1 {
            upload.head = body.kept;
        }
        let part = Part {
            size: body.size,
            etag: format!("\"{:032x}\"", rand::random::<u128>()),
            modified: Timestamp::now(),
            crc,
        };
        let reply = xml::with_etag(&part.etag);
        upload.parts.insert(number, part);
        reply
    }

    pub(super) fn list(&mut self, call: &Call) -> Reply {
        match self.of(call) {
            Some(upload) => xml::parts(&upload.parts),
            None => gone(),
        }
    }

    pub(super) fn abort(&mut self, call: &Call) -> Reply {
        let id = call.query.get("uploadId");
        match id.and_then(|id| self.0.remove(id)) {
            Some(_) => {
                let mut reply = Reply::default();
                *reply.status_mut() = StatusCode::NO_CONTENT;
                reply
            }
            None => gone(),
        }
    }

    /// The object that an upload becomes; none if there is no such upload.
    pub(super) fn complete(&mut self, call: &Call) -> Option<(Object, Reply)> {
        let upload = self.0.remove(call.query.get("uploadId")?)?;
        let size = upload.parts.values().map(|part| part.size).sum();
        let mut headers = upload.headers;
        let crc = call.headers.get("x-amz-checksum-crc64nvme");
        if let Some(crc) = crc {
            headers.insert("x-amz-checksum-crc64nvme", crc.clone());
        }
        let object = Object::new(size, upload.head, &headers);
        let crc = crc.and_then(|crc| crc.to_str().ok()).map_or_else(String::new, |crc| {
            format!("<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>")
        });
        let reply = xml::answer(&format!(
            "<CompleteMultipartUploadResult><Key>{}</Key><ETag>{}</ETag>{crc}</CompleteMultipartUploadResult>",
            call.key, object.etag
        ));
        Some((object, reply))
    }
}
