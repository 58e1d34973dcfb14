//! A server whose connections stand and say nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// `timeoutSeconds` of each watch that it was asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// The first watch hears nothing after its head, the second not even that, the third of one object.
async fn serve(
    State(asked): State<Asked>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if !query.contains_key("watch") {
        return Json(json!({"metadata": {"resourceVersion": "1"}, "items": []})).into_response();
    }
    let turn = {
        let mut asked = asked.lock().unwrap();
        asked.push(query["timeoutSeconds"].clone());
        asked.len()
    };
    let silence = stream::pending::<Result<String, Infallible>>();
    match turn {
        1 => Body::from_stream(silence).into_response(),
        2 => std::future::pending().await,
        _ => {
            let object = json!({"metadata": {"name": "x", "resourceVersion": "2"}});
            let line = format!("{}\n", json!({"type": "ADDED", "object": object}));
            let line = stream::once(ready(Ok(line)));
            Body::from_stream(line.chain(silence)).into_response()
        }
    }
}

async fn start(silence: Duration) -> (Asked, Api<ConfigMap>) {
    let asked = Asked::default();
    let router = Router::new().fallback(serve).with_state(asked.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(impatient(config, silence)).unwrap();
    (asked, Api::namespaced(client, "videos"))
}

type Watching = BoxStream<'static, Result<Event<ConfigMap>>>;

/// covers: F19
#[tokio::test]
async fn a_watch_on_which_nothing_comes_is_given_up_and_made_anew() {
    let ways: [fn(Api<ConfigMap>) -> Watching; 2] = [
        |api| patient(watch(api, Config::default())).boxed(),
        |api| patient(watch_few(api, Config::default())).boxed(),
    ];
    for way in ways {
        let (asked, api) = start(Duration::from_millis(100)).await;
        let mut events = way(api);
        let shown = async {
            loop {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) =
                    events.next().await.unwrap()
                {
                    return object.metadata.name;
                }
            }
        };
        let name = tokio::time::timeout(PATIENCE, shown).await.unwrap();
        assert_eq!(name.as_deref(), Some("x"));
        let asked = asked.lock().unwrap().clone();
        assert!(asked.len() >= 3, "{asked:?}");
        assert!(asked.iter().all(|s| *s == WATCH_SECONDS.to_string()));
    }
}

/// The watcher itself begins anew 5 s after the server should have ended a watch; the request for the next may meet silence, too.
/// covers: F19
#[test]
fn no_watch_is_blind_for_more_than_five_minutes() {
    let watch = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
    assert!(watch < SILENCE, "else a quiet watch fails");
    assert!(watch + SILENCE <= Duration::from_secs(300));
}
