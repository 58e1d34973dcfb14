//! Objects by key, conditional writes, listings.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;

use super::body::Body;
use super::{Call, Reply, xml};

const META: &str = "x-amz-meta-";
const CRC: &str = "x-amz-checksum-crc64nvme";

/// An object; of large ones only the beginning is there, the rest reads as zeros.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) kept: Bytes,
    pub(super) etag: String,
    pub(super) modified: Timestamp,
    /// Metadata and checksum, as they were sent.
    pub(super) headers: HeaderMap,
}

impl Object {
    pub(super) fn new(size: u64, kept: Bytes, headers: &HeaderMap) -> Self {
        let told = headers.iter().filter(|(name, _)| {
            name.as_str().starts_with(META) || name.as_str() == CRC || *name == header::CONTENT_TYPE
        });
        Self {
            size,
            kept,
            etag: format!("\"{:032x}\"", rand::random::<u128>()),
            modified: Timestamp::now(),
            headers: told
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<String, Object>);

impl Objects {
    /// One object of so many bytes, all of them zero.
    pub(super) fn with(key: &str, size: u64) -> Self {
        let mut all = Self::default();
        all.insert(key, Object::new(size, Bytes::new(), &HeaderMap::new()));
        all
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn insert(&mut self, key: &str, object: Object) {
        self.0.insert(key.to_owned(), object);
    }

    pub(super) fn put(&mut self, call: &Call, body: Body) -> Reply {
        if body.wrong {
            return xml::error(StatusCode::BAD_REQUEST, "BadDigest");
        }
        let there = self.0.get(&call.key);
        let none = call.header("if-none-match").is_some();
        let wanted = call.header("if-match").map(|etag| etag.trim_matches('"'));
        let holds = match (wanted, there) {
            (None, there) => !none || there.is_none(),
            (Some(etag), Some(there)) => there.etag.trim_matches('"') == etag,
            (Some(_), None) => false,
        };
        if !holds {
            return xml::error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let object = Object::new(body.size, body.kept, &call.headers);
        let reply = xml::with_etag(&object.etag);
        self.insert(&call.key, object);
        reply
    }

    pub(super) fn get(&self, call: &Call, head: bool) -> Reply {
        let Some(object) = self.0.get(&call.key) else {
            return xml::error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let range = call
            .header("range")
            .and_then(|text| range(text, object.size));
        let (from, to) = range.unwrap_or((0, object.size));
        if from > to || (range.is_some() && from >= object.size) {
            return xml::error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let body = if head {
            Bytes::new()
        } else {
            content(object, from, to)
        };
        let mut reply = Response::new(Full::from(body));
        *reply.headers_mut() = object.headers.clone();
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                reply.headers_mut().insert(name, value);
            }
        };
        set(header::ETAG, object.etag.clone());
        set(header::LAST_MODIFIED, xml::http_date(object.modified));
        set(header::CONTENT_LENGTH, (to - from).to_string());
        if range.is_some() {
            let last = to.saturating_sub(1);
            set(
                header::CONTENT_RANGE,
                format!("bytes {from}-{last}/{}", object.size),
            );
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        reply
    }

    pub(super) fn delete(&mut self, key: &str) -> Reply {
        self.0.remove(key);
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::NO_CONTENT;
        reply
    }

    pub(super) fn delete_many(&mut self, list: &[u8]) -> Reply {
        let list = String::from_utf8_lossy(list);
        for key in list.split("<Key>").skip(1) {
            self.0.remove(key.split('<').next().unwrap_or_default());
        }
        xml::answer("<DeleteResult></DeleteResult>")
    }

    pub(super) fn list(&self, call: &Call) -> Reply {
        let text = |name: &str| call.query.get(name).map_or("", String::as_str);
        let (prefix, after) = (text("prefix"), text("start-after"));
        let most = text("max-keys").parse().unwrap_or(1000);
        let from = if after > prefix {
            Bound::Excluded(after)
        } else {
            Bound::Included(prefix)
        };
        let found: Vec<_> = self
            .0
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(most + 1)
            .collect();
        xml::listing(&found[..found.len().min(most)], found.len() > most)
    }
}

/// Bytes `[from, to)`.
fn content(object: &Object, from: u64, to: u64) -> Bytes {
    let index = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let kept = object.kept.len() as u64;
    if to <= kept {
        return object.kept.slice(index(from)..index(to));
    }
    let mut bytes = BytesMut::from(&object.kept[index(from.min(kept))..]);
    bytes.resize(index(to - from), 0);
    bytes.freeze()
}

/// `bytes=a-b`, end exclusive.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let to = to.parse::<u64>().map_or(size, |last| last + 1);
    Some((from, to.min(size)))
}
