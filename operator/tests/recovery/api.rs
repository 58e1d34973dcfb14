//! An API server in memory, over HTTP, of whatever kinds are put in: list with selectors, watch, get, create, status patch, delete.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

const PLURALS: [&str; 5] = [
    "pods",
    "videojobs",
    "videojobredrives",
    "namespaces",
    "customresourcedefinitions",
];

#[derive(Default)]
struct Stored {
    rv: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    created: Vec<Value>,
    deletes: Vec<Value>,
    fault: Option<Fault>,
    no_creates: Option<(u16, &'static str)>,
    refused: usize,
    another_makes_them: bool,
    conflicts: usize,
}

/// What becomes of the next request that changes anything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused with this status.
    Refuse(u16),
    /// It is done and answered with 504.
    LoseAnswer,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Api {
    stored: Arc<Mutex<Stored>>,
    events: broadcast::Sender<(String, String)>,
}

impl Api {
    /// Serves on a free port; gives a client for it.
    pub(crate) async fn start() -> (Api, kube::Client) {
        let (events, _) = broadcast::channel(1000);
        let api = Api {
            stored: Arc::default(),
            events,
        };
        let router = Router::new().fallback(serve).with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        api.put(
            "/api/v1/namespaces/kube-system",
            json!({"metadata": {"name": "kube-system", "uid": "cluster-1"}}),
        );
        api.put(
            "/api/v1/namespaces/videos",
            json!({"metadata": {"name": "videos", "uid": "n-1"}}),
        );
        let definition =
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/videojobs.kinora.dev";
        let names = json!({"kind": "VideoJob", "plural": "videojobs"});
        api.put(
            definition,
            json!({"metadata": {"name": "videojobs.kinora.dev"},
                   "spec": {"group": "kinora.dev", "names": names, "scope": "Namespaced", "versions": []}}),
        );
        (api, kube::Client::try_from(config).unwrap())
    }

    /// Creates or replaces an object, as somebody else would.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut stored = self.stored.lock().unwrap();
        stored.rv += 1;
        object["metadata"]["resourceVersion"] = json!(stored.rv.to_string());
        stored.objects.insert(path.to_owned(), object.clone());
        self.tell(path, "MODIFIED", &object);
    }

    /// The same, and no watch has shown it yet.
    pub(crate) fn put_unseen(&self, path: &str, mut object: Value) {
        let mut stored = self.stored.lock().unwrap();
        stored.rv += 1;
        object["metadata"]["resourceVersion"] = json!(stored.rv.to_string());
        stored.objects.insert(path.to_owned(), object);
    }

    /// How many writes were about another version, or another object of that name.
    pub(crate) fn conflicts(&self) -> usize {
        self.stored.lock().unwrap().conflicts
    }

    /// As if an older backup was restored.
    pub(crate) fn go_back_to(&self, rv: u64) {
        self.stored.lock().unwrap().rv = rv;
    }

    pub(crate) fn remove(&self, path: &str) {
        self.stored.lock().unwrap().objects.remove(path);
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.stored.lock().unwrap().objects.get(path).cloned()
    }

    /// What clients created, in order.
    pub(crate) fn created(&self) -> Vec<Value> {
        self.stored.lock().unwrap().created.clone()
    }

    /// How many creates were refused so.
    pub(crate) fn refused_creates(&self) -> usize {
        self.stored.lock().unwrap().refused
    }

    /// Every create is refused with this, until there is none.
    pub(crate) fn no_creates(&self, refusal: Option<(u16, &'static str)>) {
        self.stored.lock().unwrap().no_creates = refusal;
    }

    /// What is refused to a client was made by another just before.
    pub(crate) fn another_makes_them(&self) {
        self.stored.lock().unwrap().another_makes_them = true;
    }

    /// DeleteOptions that arrived.
    pub(crate) fn deletes(&self) -> Vec<Value> {
        self.stored.lock().unwrap().deletes.clone()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.stored.lock().unwrap().fault = Some(fault);
    }

    fn tell(&self, path: &str, type_: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": type_, "object": object}));
        let _ = self.events.send((path.to_owned(), line));
    }
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason});
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

/// Whether an object at `path` is in the collection: `…/videojobs`, or all namespaces' of a kind.
fn is_in(collection: &str, path: &str) -> bool {
    let (Some((root, plural)), Some((parent, _))) =
        (collection.rsplit_once('/'), path.rsplit_once('/'))
    else {
        return false;
    };
    parent == collection
        || (parent.starts_with(&format!("{root}/namespaces/"))
            && parent.ends_with(&format!("/{plural}")))
}

fn is_selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let pairs = |name: &str| -> Vec<(String, String)> {
        let text = query.get(name).map(String::as_str).unwrap_or_default();
        let all = text.split(',').filter_map(|pair| pair.split_once('='));
        all.map(|(k, v)| (k.to_owned(), v.trim_start_matches('=').to_owned()))
            .collect()
    };
    let labels = pairs("labelSelector");
    let fields = pairs("fieldSelector");
    labels
        .iter()
        .all(|(k, v)| object["metadata"]["labels"][k] == json!(v))
        && fields.iter().all(|(k, v)| {
            let pointer = format!("/{}", k.replace('.', "/"));
            object.pointer(&pointer) == Some(&json!(v))
        })
}

async fn serve(
    State(api): State<Api>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let fault = (method != Method::GET)
        .then(|| api.stored.lock().unwrap().fault.take())
        .flatten();
    match fault {
        Some(Fault::Refuse(code)) => return status(code, "Refused"),
        Some(Fault::LoseAnswer) => {
            answer(&api, (method, &path), &query, &body);
            return status(504, "Timeout");
        }
        None => {}
    }
    answer(&api, (method, &path), &query, &body)
}

fn answer(
    api: &Api,
    (method, path): (Method, &str),
    query: &BTreeMap<String, String>,
    body: &[u8],
) -> Response {
    let is_collection = PLURALS.contains(&path.rsplit('/').next().unwrap_or_default());
    match (method, is_collection) {
        (Method::GET, true) if query.contains_key("watch") => watch(api, path.to_owned()),
        (Method::GET, true) => list(api, path, query),
        (Method::POST, true) => create(api, path, body),
        (Method::GET, false) => api.object(path).map_or_else(
            || status(404, "NotFound"),
            |object| Json(object).into_response(),
        ),
        (Method::PATCH, false) => patch(api, path, body),
        (Method::DELETE, false) => delete(api, path, body),
        _ => status(405, "MethodNotAllowed"),
    }
}

fn delete(api: &Api, path: &str, body: &[u8]) -> Response {
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut stored = api.stored.lock().unwrap();
    stored.deletes.push(options.clone());
    let Some(object) = stored.objects.get(path) else {
        return status(404, "NotFound");
    };
    let is_met = |field: &str| {
        let wanted = &options["preconditions"][field];
        wanted.is_null() || *wanted == object["metadata"][field]
    };
    if !["uid", "resourceVersion"].into_iter().all(is_met) {
        return status(409, "Conflict");
    }
    let removed = stored.objects.remove(path);
    Json(removed).into_response()
}

fn watch(api: &Api, collection: String) -> Response {
    let lines = BroadcastStream::new(api.events.subscribe()).filter_map(move |event| {
        let line = event.ok().filter(|(path, _)| is_in(&collection, path));
        async move { line.map(|(_, line)| Ok::<_, Infallible>(line)) }
    });
    Body::from_stream(lines).into_response()
}

fn list(api: &Api, collection: &str, query: &BTreeMap<String, String>) -> Response {
    let stored = api.stored.lock().unwrap();
    let items: Vec<&Value> = stored
        .objects
        .iter()
        .filter(|(path, object)| is_in(collection, path) && is_selected(object, query))
        .map(|(_, object)| object)
        .collect();
    let from: usize = query
        .get("continue")
        .and_then(|t| t.parse().ok())
        .unwrap_or(0);
    let limit: usize = query
        .get("limit")
        .and_then(|t| t.parse().ok())
        .unwrap_or(usize::MAX);
    let page: Vec<_> = items.iter().skip(from).take(limit).collect();
    let next = from + page.len();
    let token = if next < items.len() {
        next.to_string()
    } else {
        String::new()
    };
    Json(json!({
        "apiVersion": "v1", "kind": "List", "items": page,
        "metadata": {"resourceVersion": stored.rv.to_string(), "continue": token},
    }))
    .into_response()
}

fn create(api: &Api, collection: &str, body: &[u8]) -> Response {
    let mut object: Value = serde_json::from_slice(body).unwrap();
    let path = format!(
        "{collection}/{}",
        object["metadata"]["name"].as_str().unwrap()
    );
    let mut stored = api.stored.lock().unwrap();
    if let Some((code, message)) = stored.no_creates {
        stored.refused += 1;
        if stored.another_makes_them {
            object["metadata"]["uid"] = json!("made-by-another");
            stored.objects.insert(path, object);
        }
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message});
        return (StatusCode::from_u16(code).unwrap(), Json(body)).into_response();
    }
    if stored.objects.contains_key(&path) {
        return status(409, "AlreadyExists");
    }
    stored.rv += 1;
    object["metadata"]["resourceVersion"] = json!(stored.rv.to_string());
    object["metadata"]["uid"] = json!(format!("uid-{}", stored.rv));
    stored.created.push(object.clone());
    stored.objects.insert(path.clone(), object.clone());
    api.tell(&path, "ADDED", &object);
    (StatusCode::CREATED, Json(object)).into_response()
}

fn patch(api: &Api, path: &str, body: &[u8]) -> Response {
    let patch: Value = serde_json::from_slice(body).unwrap();
    let path = path.trim_end_matches("/status");
    let mut stored = api.stored.lock().unwrap();
    let Some(object) = stored.objects.get(path) else {
        return status(404, "NotFound");
    };
    let wanted = &patch["metadata"]["resourceVersion"];
    if !wanted.is_null() && *wanted != object["metadata"]["resourceVersion"] {
        stored.conflicts += 1;
        return status(409, "Conflict");
    }
    stored.rv += 1;
    let rv = stored.rv.to_string();
    let Some(object) = stored.objects.get_mut(path) else {
        return status(404, "NotFound");
    };
    merge(&mut object["status"], &patch["status"]);
    object["metadata"]["resourceVersion"] = json!(rv);
    api.tell(path, "MODIFIED", object);
    Json(object.clone()).into_response()
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

#[tokio::test]
async fn the_fake_answers_as_the_api_server_does() {
    let (api, client) = Api::start().await;
    let mut job = crate::job(&crate::mint());
    let name = "vj-a-1";
    job["metadata"]["name"] = json!(name);
    job["metadata"]["uid"] = json!("5b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a22");
    api.put(&format!("{}/{name}", crate::JOBS), job);
    let resource = kube::api::ApiResource::erase::<kinora_crds::VideoJob>(&());
    let jobs = kube::Api::namespaced_with(client, "videos", &resource);
    crate::contract::holds(&jobs, name).await.unwrap();
}
