//! Upload tokens, from a backend to a phone.

use crate::stage::{STREAM, Stage, id_of, problem, secret, video};

/// covers: S8
#[tokio::test]
async fn a_phone_uploads_with_nothing_but_the_token_of_its_upload() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let file = video(20_000);
    let request = stage.ask(&replica, Some(&secret("backend")), "POST", "/v1/uploads");
    let request = request
        .header("Upload-Length", file.len())
        .header("Kinora-Upload-Token", "60");
    let made = request.send().await.unwrap();
    let id = id_of(&made);
    let token = made.headers()["kinora-upload-token"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(token.starts_with("kut_"), "{token}");

    let path = format!("/v1/uploads/{id}");
    let head = stage
        .ask(&replica, Some(&token), "HEAD", &path)
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["upload-offset"], "0");
    let patch = stage
        .ask(&replica, Some(&token), "PATCH", &path)
        .header("Upload-Offset", "0")
        .header("Content-Type", STREAM)
        .body(file.clone());
    assert_eq!(patch.send().await.unwrap().status(), 204);
    let status = stage.ask(&replica, Some(&token), "GET", &format!("/v1/videos/{id}"));
    assert_eq!(status.send().await.unwrap().status(), 200);
    let owner = stage.ask(
        &replica,
        Some(&secret("backend")),
        "GET",
        &format!("/v1/videos/{id}"),
    );
    assert_eq!(
        owner.send().await.unwrap().status(),
        200,
        "it is the backend's video"
    );
}

#[tokio::test]
async fn a_token_is_for_backends_with_the_scope_and_for_a_bounded_time() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let cases = [
        ("without the scope", "phone", "60", 403, "missing-scope"),
        ("not for ever", "backend", "604801", 400, "bad-request"),
        ("not for no time", "backend", "0", 400, "bad-request"),
        ("not for a word", "backend", "long", 400, "bad-request"),
    ];
    for (name, key, seconds, want, kind) in cases {
        let request = stage.ask(&replica, Some(&secret(key)), "POST", "/v1/uploads");
        let request = request
            .header("Upload-Length", "9")
            .header("Kinora-Upload-Token", seconds);
        let (status, got, _) = problem(request.send().await.unwrap()).await;
        assert_eq!((status, got.as_str()), (want, kind), "{name}");
    }
    let plain = stage.create(&replica, "backend", 9).await;
    assert!(
        plain.headers().get("kinora-upload-token").is_none(),
        "nobody asked for one"
    );
}

/// Clients take 401 for the end.
/// covers: F60
#[tokio::test]
async fn by_a_clock_that_is_off_no_token_has_expired_and_none_is_made() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let file = video(20_000);
    let backend = secret("backend");
    let create = |key: &str| {
        let request = stage.ask(&replica, Some(&backend), "POST", "/v1/uploads");
        let request = request.header("Upload-Length", file.len());
        let request = request.header("Kinora-Upload-Token", "3600");
        request.header("Idempotency-Key", key).send()
    };
    let made = create("k").await.unwrap();
    let token = made.headers()["kinora-upload-token"].to_str().unwrap();
    let path = format!("/v1/uploads/{}", id_of(&made));
    let patch = |token: &str| {
        let request = stage.ask(&replica, Some(token), "PATCH", &path);
        let request = request.header("Upload-Offset", "0");
        request.header("Content-Type", STREAM).body(file.clone())
    };
    let skew = async |seconds| {
        stage.s3.clock().skew(seconds);
        replica.app.store.head("control/absent").await.unwrap();
    };
    skew(86_400).await;
    let (cut, another) = (&token[..token.len() - 2], format!("{path}/token"));
    let cases = [
        ("a fresh token", patch(token), 503),
        ("none", patch(cut), 401),
        (
            "its offset",
            stage.ask(&replica, Some(token), "HEAD", &path),
            503,
        ),
        (
            "another",
            stage.ask(&replica, Some(&backend), "POST", &another),
            503,
        ),
    ];
    for (name, request, want) in cases {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), want, "{name}");
        let again = answer.headers().contains_key("retry-after");
        assert_eq!(again, want == 503, "{name}");
    }
    let repeated = create("k").await.unwrap();
    assert_eq!(repeated.status(), 503, "it would have no token");
    skew(0).await;
    assert_eq!(patch(token).send().await.unwrap().status(), 204);
}
