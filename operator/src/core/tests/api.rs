//! An API server of one kind, in memory, over HTTP: list-watch, get, status merge patch with resourceVersion, delete.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/videos/events";
const JOBS: &str = "/apis/kinora.dev/v1alpha1/namespaces/videos/videojobs";

/// What the server does with the next status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Writes it and answers 504.
    LoseAnswer,
    /// Somebody else writes first: a 409 follows.
    Overtake,
    /// It is restored from a backup first, and answers 504.
    GoBack,
    /// A 409, though nobody wrote.
    Refuse,
    /// Somebody else cancels the job first: a 409 follows.
    Cancel,
}

#[derive(Default)]
struct Stored {
    rv: u64,
    objects: BTreeMap<String, Value>,
    patches: Vec<Value>,
    /// Whose they are.
    patched: Vec<String>,
    deletes: Vec<Value>,
    told: Vec<Value>,
    fault: Option<Fault>,
    /// What the first, third, fifth, … write of each object meets.
    every_other: Option<Fault>,
    refused: Option<String>,
    no_space: bool,
    lists_in_pages: bool,
    /// Reads so far, once they are not answered.
    reads: Option<usize>,
}

/// The server.
#[derive(Clone)]
pub(super) struct Api {
    stored: Arc<Mutex<Stored>>,
    events: broadcast::Sender<String>,
    /// Status writes with this reason are not answered for now.
    held: watch::Sender<Option<&'static str>>,
}

impl Api {
    /// Serves on a free port; gives a client for it.
    pub(super) async fn start() -> (Api, kube::Client) {
        let (events, _) = broadcast::channel(1000);
        let api = Api {
            stored: Arc::default(),
            events,
            held: watch::Sender::default(),
        };
        let router = Router::new()
            .route(JOBS, get(list_or_watch))
            .route(&format!("{JOBS}/{{name}}"), get(read).delete(delete))
            .route(
                &format!("{JOBS}/{{name}}/status"),
                axum::routing::patch(patch),
            )
            .route(EVENTS, axum::routing::post(tell))
            .with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        (api, kube::Client::try_from(config).unwrap())
    }

    /// Creates or replaces an object, as somebody else would.
    pub(super) fn put(&self, mut object: Value) {
        let mut stored = self.stored.lock().unwrap();
        stored.rv += 1;
        object["metadata"]["resourceVersion"] = json!(stored.rv.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        stored.objects.insert(name, object.clone());
        self.tell("MODIFIED", &object);
    }

    /// Deletes an object, as somebody else would; one with finalizers stays.
    pub(super) fn remove(&self, name: &str) {
        let mut stored = self.stored.lock().unwrap();
        stored.rv += 1;
        if !stored.objects[name]["metadata"]["finalizers"].is_null() {
            return;
        }
        if let Some(object) = stored.objects.remove(name) {
            self.tell("DELETED", &object);
        }
    }

    /// As [`Api::remove`], but the watch is late: it shows it with [`Api::show_deleted`].
    pub(super) fn remove_unseen(&self, name: &str) -> Value {
        let mut stored = self.stored.lock().unwrap();
        stored.rv += 1;
        stored.objects.remove(name).unwrap()
    }

    /// The watch shows a deletion.
    pub(super) fn show_deleted(&self, object: &Value) {
        self.tell("DELETED", object);
    }

    /// What the watch would show next is forgotten: all is listed anew.
    pub(super) fn expire(&self) {
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"});
        self.tell("ERROR", &gone);
    }

    /// The next status write meets this.
    pub(super) fn fault(&self, fault: Fault) {
        self.stored.lock().unwrap().fault = Some(fault);
    }

    /// Every other status write of each object meets this, the first too.
    pub(super) fn fault_every_other(&self, fault: Fault) {
        self.stored.lock().unwrap().every_other = Some(fault);
    }

    /// Every status write of this object is refused, as an admission policy does.
    pub(super) fn refuse(&self, name: &str) {
        self.stored.lock().unwrap().refused = Some(name.to_owned());
    }

    /// etcd raised its alarm for want of space, or it was cleared.
    pub(super) fn no_space(&self, on: bool) {
        self.stored.lock().unwrap().no_space = on;
    }

    /// From now on every status write comes too late, and no read is answered.
    pub(super) fn fall_silent(&self) {
        self.stored.lock().unwrap().reads = Some(0);
    }

    /// Leaves status writes with this reason open, or answers all again.
    pub(super) fn hold(&self, reason: Option<&'static str>) {
        self.held.send_replace(reason);
    }

    /// How many reads were not answered.
    pub(super) fn reads(&self) -> usize {
        self.stored.lock().unwrap().reads.unwrap_or_default()
    }

    /// It has no streaming lists, as Kubernetes 1.33 by default.
    pub(super) fn list_in_pages(&self) {
        self.stored.lock().unwrap().lists_in_pages = true;
    }

    pub(super) fn object(&self, name: &str) -> Option<Value> {
        self.stored.lock().unwrap().objects.get(name).cloned()
    }

    /// Status patches that arrived, refused ones too.
    pub(super) fn patches(&self) -> Vec<Value> {
        self.stored.lock().unwrap().patches.clone()
    }

    /// The objects that they are about.
    pub(super) fn patched(&self) -> Vec<String> {
        self.stored.lock().unwrap().patched.clone()
    }

    /// DeleteOptions that arrived.
    pub(super) fn deletes(&self) -> Vec<Value> {
        self.stored.lock().unwrap().deletes.clone()
    }

    /// Events that were posted.
    pub(super) fn told(&self) -> Vec<Value> {
        self.stored.lock().unwrap().told.clone()
    }

    fn tell(&self, type_: &str, object: &Value) {
        let _ = self
            .events
            .send(format!("{}\n", json!({"type": type_, "object": object})));
    }
}

async fn list_or_watch(
    State(api): State<Api>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let events = api.events.subscribe();
    let stored = api.stored.lock().unwrap();
    let is_streaming = query.contains_key("sendInitialEvents");
    if is_streaming && stored.lists_in_pages {
        return status(422, "Invalid");
    }
    if !query.contains_key("watch") {
        let items: Vec<_> = stored.objects.values().collect();
        let metadata = json!({"resourceVersion": stored.rv.to_string()});
        return Json(json!({"metadata": metadata, "items": items})).into_response();
    }
    let first = first_events(&stored, is_streaming, &query["resourceVersion"]);
    let later = BroadcastStream::new(events).filter_map(|line| async { line.ok() });
    let all = futures::stream::once(async { first }).chain(later);
    Body::from_stream(all.map(Ok::<_, Infallible>)).into_response()
}

/// What a watch begins with: all objects and a bookmark, or what was written after `since`.
fn first_events(stored: &Stored, is_streaming: bool, since: &str) -> String {
    let since: u64 = since.parse().unwrap();
    let version = |object: &Value| {
        let version = object["metadata"]["resourceVersion"].as_str();
        version.unwrap().parse::<u64>().unwrap()
    };
    let mut first = String::new();
    for object in stored.objects.values() {
        if is_streaming || version(object) > since {
            first += &format!("{}\n", json!({"type": "ADDED", "object": object}));
        }
    }
    if is_streaming {
        let end = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "spec": {"source": {"key": "x"}},
            "metadata": {
                "resourceVersion": stored.rv.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
            },
        });
        first += &format!("{}\n", json!({"type": "BOOKMARK", "object": end}));
    }
    first
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason});
    let code = StatusCode::from_u16(code).unwrap();
    (code, Json(body)).into_response()
}

async fn tell(State(api): State<Api>, Json(event): Json<Value>) -> Response {
    let mut stored = api.stored.lock().unwrap();
    let is_there = |known: &Value| known["metadata"]["name"] == event["metadata"]["name"];
    if stored.told.iter().any(is_there) {
        return status(409, "AlreadyExists");
    }
    stored.told.push(event.clone());
    (StatusCode::CREATED, Json(event)).into_response()
}

async fn read(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let is_silent = {
        let mut stored = api.stored.lock().unwrap();
        stored.reads.as_mut().map(|reads| *reads += 1).is_some()
    };
    if is_silent {
        return std::future::pending().await;
    }
    match api.object(&name) {
        Some(object) => Json(object).into_response(),
        None => status(404, "NotFound"),
    }
}

async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    let patch: Value = serde_json::from_slice(&body).unwrap();
    {
        let mut stored = api.stored.lock().unwrap();
        stored.patches.push(patch.clone());
        stored.patched.push(name.clone());
    }
    let reason = patch["status"]["conditions"][0]["reason"].as_str();
    let mut held = api.held.subscribe();
    let _ = held
        .wait_for(|held| held.is_none() || *held != reason)
        .await;
    let mut stored = api.stored.lock().unwrap();
    if stored.refused.as_deref() == Some(&*name) {
        return status(422, "Invalid");
    }
    if stored.reads.is_some() {
        return status(409, "Conflict");
    }
    if stored.no_space {
        return status(500, "etcdserver: mvcc: database space exceeded");
    }
    let writes = stored.patched.iter().filter(|patched| **patched == name);
    let is_odd = writes.count() % 2 == 1;
    let fault = stored.fault.take();
    let fault = fault.or(stored.every_other.filter(|_| is_odd));
    if fault == Some(Fault::Refuse) {
        return status(409, "Conflict");
    }
    stored.rv += 1;
    let rv = stored.rv.to_string();
    let Some(object) = stored.objects.get_mut(&name) else {
        return status(404, "NotFound");
    };
    if fault == Some(Fault::Cancel) {
        object["spec"]["cancelRequested"] = json!(true);
        object["metadata"]["generation"] = json!(2);
    }
    if matches!(fault, Some(Fault::Overtake | Fault::Cancel)) {
        object["metadata"]["resourceVersion"] = json!(rv);
        api.tell("MODIFIED", object);
        return status(409, "Conflict");
    }
    if fault == Some(Fault::GoBack) {
        object["metadata"]["resourceVersion"] = json!("0");
        return status(504, "Timeout");
    }
    if patch["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
        return status(409, "Conflict");
    }
    merge(&mut object["status"], &patch["status"]);
    object["metadata"]["resourceVersion"] = json!(rv);
    api.tell("MODIFIED", object);
    match fault {
        Some(Fault::LoseAnswer) => status(504, "Timeout"),
        _ => Json(object.clone()).into_response(),
    }
}

async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut stored = api.stored.lock().unwrap();
    stored.deletes.push(options.clone());
    let Some(object) = stored.objects.get(&name) else {
        return status(404, "NotFound");
    };
    let same = ["uid", "resourceVersion"]
        .iter()
        .all(|field| options["preconditions"][field] == object["metadata"][field]);
    if !same {
        return status(409, "Conflict");
    }
    let object = stored.objects.remove(&name);
    api.tell("DELETED", &json!(object));
    Json(object).into_response()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(name));
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
