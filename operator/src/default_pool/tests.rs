use std::sync::{Arc, Mutex};

use super::*;
use crate::stub;

const TEXT: &str = "apiVersion: kinora.dev/v1alpha1\nkind: VideoWorkerPool\nmetadata: {name: default}\nspec: {typo: kept}\n";

fn where_to() -> DefaultPool {
    DefaultPool {
        namespace: "kinora-system".to_owned(),
        configmap: "kinora-default-pool".to_owned(),
        jobs_namespace: "videos".to_owned(),
    }
}

/// An API server with a namespace and a definition, or without; pools go with either.
#[derive(Default)]
struct Server {
    namespace: Option<&'static str>,
    definition: Option<&'static str>,
    refuses: bool,
    pools: Vec<Value>,
    applies: u32,
}

impl Server {
    fn answer(&mut self, path: &str, body: Value) -> Option<Value> {
        let read = |uid: Option<&str>| Some(json!({"metadata": {"uid": uid?}}));
        match path {
            "/api/v1/namespaces/videos" => read(self.namespace),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/videoworkerpools.kinora.dev" => {
                read(self.definition)
            }
            "/apis/kinora.dev/v1alpha1/namespaces/videos/videoworkerpools/default" => {
                read(
                    self.namespace
                        .and(self.definition)
                        .filter(|_| !self.refuses),
                )?;
                self.applies += 1;
                self.pools = vec![body];
                Some(
                    json!({"metadata": {"name": "default"}, "spec": {"service": {"endpoint": "http://svc:1"}}}),
                )
            }
            other => panic!("{other}"),
        }
    }
}

fn client(server: &Arc<Mutex<Server>>) -> Client {
    let server = Arc::clone(server);
    stub::client(move |path, body| {
        let answer = server.lock().unwrap().answer(path, body);
        answer.map_or_else(stub::missing, |found| (200, found))
    })
}

#[tokio::test]
async fn a_pool_that_went_with_its_namespace_or_definition_comes_back_and_a_deleted_one_does_not() {
    let server = Arc::new(Mutex::new(Server::default()));
    let (client, pool) = (client(&server), where_to());
    let mut home = None;
    type Change = fn(&mut Server);
    let story: [(&str, Change, bool, u32); 9] = [
        ("nothing is there yet", |_| {}, false, 0),
        ("no definition yet", |s| s.namespace = Some("n1"), false, 0),
        ("all is there", |s| s.definition = Some("d1"), true, 1),
        ("nothing changed", |_| {}, true, 1),
        ("deleted by hand", |s| s.pools.clear(), true, 1),
        ("the namespace goes", |s| s.namespace = None, false, 1),
        ("it is back", |s| s.namespace = Some("n2"), true, 2),
        (
            "another definition",
            |s| (s.definition, s.refuses) = (Some("d2"), true),
            false,
            2,
        ),
        ("it takes pools", |s| s.refuses = false, true, 3),
    ];
    for (name, change, want, applies) in story {
        change(&mut server.lock().unwrap());
        let done = pool.settle(&client, TEXT, &mut home).await;
        assert_eq!(done.is_ok(), want, "{name}: {done:?}");
        assert_eq!(server.lock().unwrap().applies, applies, "{name}");
    }
    assert_eq!(
        server.lock().unwrap().pools[0]["metadata"]["name"],
        "default"
    );
}

/// A standby that leads days later must not bring back a pool that was switched off.
#[test]
fn without_the_configmap_there_is_no_text() {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    let map = |text: &str| ConfigMap {
        data: Some([(names::DEFAULT_POOL_KEY.to_owned(), text.to_owned())].into()),
        ..ConfigMap::default()
    };
    let some = |text: &str| Some(Some(text.to_owned()));
    let mut listed = None;
    for (event, want) in [
        (Init, None),
        (InitApply(map("a")), None),
        (InitDone, some("a")),
        (Apply(map("b")), some("b")),
        (Delete(map("b")), Some(None)),
        (Apply(map("c")), some("c")),
        // Deleted while the watch was broken.
        (Init, None),
        (InitDone, Some(None)),
    ] {
        assert_eq!(text_after(event, &mut listed), want);
    }
}

#[test]
fn the_text_is_one_pool_and_goes_to_the_jobs_namespace() {
    let where_to = where_to();
    let (name, pool) = where_to.parse(TEXT).unwrap();
    assert_eq!(
        (name.as_str(), &pool["metadata"]["namespace"]),
        ("default", &json!("videos"))
    );
    assert_eq!(
        pool["spec"]["typo"], "kept",
        "the API server judges the fields"
    );
    let table = [
        ("not YAML", "a: b: c"),
        ("nothing", ""),
        (
            "another kind",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
        ),
        (
            "another version",
            "apiVersion: kinora.dev/v9\nkind: VideoWorkerPool\nmetadata: {name: x}\n",
        ),
        (
            "no name",
            "apiVersion: kinora.dev/v1alpha1\nkind: VideoWorkerPool\n",
        ),
    ];
    for (name, text) in table {
        let error = where_to.parse(text).unwrap_err().to_string();
        assert!(error.contains("kinora-default-pool"), "{name}: {error}");
    }
}
