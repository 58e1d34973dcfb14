//! A store that keeps nothing but what decides: bodies of videos are read and dropped, so that what a run costs is the
//! uploader's own. It answers as S3 does to exactly the calls that an upload makes, conditional writes included, and
//! counts them.

mod body;
mod objects;
mod parts;
mod xml;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::serve;
use objects::Objects;
use parts::Uploads;

/// Size of an output that is said to be there.
const OUTPUT_BYTES: u64 = 1 << 20;

type Reply = Response<Full<Bytes>>;

/// A running store.
#[derive(Debug)]
pub(crate) struct NullStore {
    server: serve::Server,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: Mutex<Objects>,
    uploads: Mutex<Uploads>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    /// Whether every output that is asked for is there.
    outputs: bool,
}

/// One call, as far as its first line tells.
struct Call {
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl NullStore {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self> {
        Self::serve(State::default()).await
    }

    /// Starts one in which the outputs of every attempt are, whoever asks for them.
    pub(crate) async fn with_outputs() -> Result<Self> {
        let outputs = true;
        Self::serve(State {
            outputs,
            ..State::default()
        })
        .await
    }

    async fn serve(state: State) -> Result<Self> {
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let server = serve::start(move |request| answer(Arc::clone(&shared), request)).await?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Calls so far, by name; those that watch the store itself are left out.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.state.calls).clone()
    }

    /// Puts an object there, past the counts.
    pub(crate) fn insert(&self, key: &str, content: Vec<u8>) {
        let (size, content) = (content.len() as u64, Bytes::from(content));
        let object = objects::Object::new(size, content, &HeaderMap::new());
        lock(&self.state.objects).insert(key, object);
    }

    /// Forgets all objects.
    pub(crate) fn clear(&self) {
        lock(&self.state.objects).clear();
        lock(&self.state.uploads).clear();
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, incoming) = request.into_parts();
    let path = head.uri.path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    let call = Call {
        key: decoded(key),
        query: query(head.uri.query().unwrap_or_default()),
        headers: head.headers,
    };
    Ok(state.dispatch(&head.method, &call, incoming).await)
}

impl State {
    async fn dispatch(&self, method: &Method, call: &Call, incoming: Incoming) -> Reply {
        let has = |name: &str| call.query.contains_key(name);
        let name = match (method.as_str(), call.key.is_empty()) {
            ("GET", true) if has("list-type") => "ListObjectsV2",
            ("POST", true) if has("delete") => "DeleteObjects",
            ("HEAD" | "GET", true) => "HeadBucket",
            ("PUT", false) if has("partNumber") => "UploadPart",
            ("PUT", false) => "PutObject",
            ("POST", false) if has("uploads") => "CreateMultipartUpload",
            ("POST", false) if has("uploadId") => "CompleteMultipartUpload",
            ("GET", false) if has("uploadId") => "ListParts",
            ("DELETE", false) if has("uploadId") => "AbortMultipartUpload",
            ("GET", false) => "GetObject",
            ("HEAD", false) => "HeadObject",
            ("DELETE", false) => "DeleteObject",
            _ => return xml::error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        };
        // The store is asked every few seconds whether it is there, whatever is uploaded.
        if !call.key.starts_with("control/") && name != "ListObjectsV2" {
            *lock(&self.calls).entry(name).or_default() += 1;
        }
        let Some(body) = body::read(call, name, incoming).await else {
            return xml::error(StatusCode::BAD_REQUEST, "IncompleteBody");
        };
        match name {
            "ListObjectsV2" => lock(&self.objects).list(call),
            "DeleteObjects" => lock(&self.objects).delete_many(&body.kept),
            "HeadBucket" => Response::default(),
            "UploadPart" => lock(&self.uploads).put_part(call, body),
            "PutObject" => lock(&self.objects).put(call, body),
            "CreateMultipartUpload" => lock(&self.uploads).create(call),
            "CompleteMultipartUpload" => match lock(&self.uploads).complete(call) {
                Some((object, reply)) => {
                    lock(&self.objects).insert(&call.key, object);
                    reply
                }
                None => parts::gone(),
            },
            "ListParts" => lock(&self.uploads).list(call),
            "AbortMultipartUpload" => lock(&self.uploads).abort(call),
            "DeleteObject" => lock(&self.objects).delete(&call.key),
            "HeadObject" if self.outputs && call.key.starts_with("outputs/") => {
                Objects::with(&call.key, OUTPUT_BYTES).get(call, true)
            }
            _ => lock(&self.objects).get(call, *method == Method::HEAD),
        }
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Percent signs undone; what is no percent code stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
