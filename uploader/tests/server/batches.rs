//! `POST /v1/batches`: creates together, each with its own end. And the document that says how.

use serde_json::{Value, json};

use crate::harness::{KEY, Replica, World, problem_of, video};

async fn send(world: &World, replica: &Replica, key: &str, body: &Value) -> reqwest::Response {
    let request = world.ask(replica, "POST", "/v1/batches");
    let request = request
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key);
    request.body(body.to_string()).send().await.unwrap()
}

async fn results(answer: reqwest::Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    answer["items"].as_array().unwrap().clone()
}

/// What its headers say of the body is not said of a video.
#[tokio::test]
async fn a_digest_of_a_batch_is_not_one_of_its_uploads() {
    let world = World::new("b9").await;
    let replica = world.replica().await;
    let file = video(3_000);
    let batch = json!({"items": [{"length": file.len()}]});
    let digest = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    let request = world
        .ask(&replica, "POST", "/v1/batches")
        .header("Content-Type", "application/json")
        .header("Content-Digest", digest)
        .header("Repr-Digest", digest);
    let answer = request.body(batch.to_string()).send().await.unwrap();
    let items = results(answer).await;
    assert_eq!(items[0]["status"], 201, "{items:?}");
    let id = items[0]["id"].as_str().unwrap();
    assert_eq!(world.patch(&replica, id, 0, &file).await.status(), 204);
    assert!(world.jobs.job(id).is_some(), "it is not refused");
}

#[tokio::test]
async fn each_item_of_a_batch_ends_by_itself_and_repeats_make_nothing_new() {
    let world = World::new("b1").await;
    let replica = world.replica().await;
    let file = video(3_000);
    let batch = json!({"items": [
        {"length": file.len(), "metadata": {"filename": "clip.mp4"}},
        {"length": 300_000_001},
        {"length": 5, "profile": "none such"},
        {"length": 5, "metadata": {"a b": "c"}},
        {"length": 7_000, "idempotencyKey": "b1-own"},
        {"length": 7_000, "idempotencyKey": ""},
    ]});
    let first = results(send(&world, &replica, "b1", &batch).await).await;
    let facts: Vec<_> = first
        .iter()
        .map(|item| {
            (
                item["status"].as_u64().unwrap(),
                item["problem"]["field"].as_str(),
            )
        })
        .collect();
    let want = [
        (201, None),
        (413, Some("length")),
        (400, Some("profile")),
        (400, Some("metadata")),
        (201, None),
        (400, Some("idempotencyKey")),
    ];
    assert_eq!(facts, want);
    let id = first[0]["id"].as_str().unwrap();
    assert_eq!(first[0]["upload"], format!("/v1/uploads/{id}"));
    assert_eq!(first[0]["video"], format!("/v1/videos/{id}"));
    let head = world.head(&replica, id).await;
    assert_eq!(head.headers()["upload-metadata"], "filename Y2xpcC5tcDQ=");
    assert_eq!(world.patch(&replica, id, 0, &file).await.status(), 204);
    assert!(world.jobs.job(id).is_some());

    let again = results(send(&world, &replica, "b1", &batch).await).await;
    for at in [0, 4] {
        assert_eq!(again[at]["id"], first[at]["id"], "item {at}");
    }
    let own = json!({"items": [{"length": 7_000, "idempotencyKey": "b1-own"}]});
    let alone = results(send(&world, &replica, "b1-other", &own).await).await;
    assert_eq!(alone[0]["id"], first[4]["id"], "named by itself");
    let other = json!({"items": [{"length": 9}]});
    let moved = results(send(&world, &replica, "b1", &other).await).await;
    assert_eq!(moved[0]["status"], 422);
}

/// covers: F7, S7
#[tokio::test]
async fn a_batch_that_is_none_is_refused_whole() {
    let world = World::new("b2").await;
    let replica = world.replica().await;
    let many = vec![json!({"length": 1}); 101];
    let long = json!({"items": [{"length": 1, "metadata": {"k": "x".repeat(2 << 20)}}]});
    for (name, body, want) in [
        ("no items", json!({"items": []}), (400, "bad-request")),
        ("too many", json!({"items": many}), (400, "bad-request")),
        (
            "a typo",
            json!({"items": [{"lenght": 1}]}),
            (400, "bad-request"),
        ),
        (
            "a negative",
            json!({"items": [{"length": -1}]}),
            (400, "bad-request"),
        ),
        ("no batch", json!([]), (400, "bad-request")),
        ("too long", long, (413, "too-large")),
    ] {
        let answer = send(&world, &replica, "b2", &body).await;
        assert_eq!(
            problem_of(answer).await,
            (want.0, want.1.to_owned()),
            "{name}"
        );
    }
    let text = world.ask(&replica, "POST", "/v1/batches").body("{}");
    let refused = problem_of(text.send().await.unwrap()).await;
    assert_eq!(refused, (415, "content-type".into()));
    let nobody = world.http.post(format!("{}/v1/batches", replica.base));
    let refused = problem_of(nobody.send().await.unwrap()).await;
    assert_eq!(refused, (401, "unauthenticated".into()));
}

#[tokio::test]
async fn the_document_of_the_api_is_served() {
    let world = World::new("b3").await;
    let replica = world.replica().await;
    let answer = world.get(&replica, KEY, "/v1/openapi.json").await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let text = answer.text().await.unwrap();
    assert_eq!(text, kinora_uploader::http::openapi::json());
    assert!(text.contains("\"openapi\": \"3.1"), "{}", &text[..80]);
}
