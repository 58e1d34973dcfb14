//! tus details that suites check.

use crate::harness::{STREAM, World, offset_of, video};

#[tokio::test]
async fn every_wrong_request_gets_its_status_and_a_problem() {
    let world = World::new("p1").await;
    let replica = world.replica().await;
    let id = world.create(&replica, 1000).await;
    let one = format!("/v1/uploads/{id}");
    let many = "/v1/uploads";
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let tus = ("Tus-Resumable", "1.0.0");
    let kind = ("Content-Type", STREAM);
    let cases: &[(&str, &str, &str, Headers<'_>, &str, u16)] = &[
        (
            "another version",
            "POST",
            many,
            &[("Tus-Resumable", "0.2.2"), ("Upload-Length", "5")],
            "",
            412,
        ),
        (
            "no version",
            "PATCH",
            &one,
            &[kind, ("Upload-Offset", "0")],
            "x",
            412,
        ),
        (
            "another version, of no upload",
            "HEAD",
            "/v1/uploads/none",
            &[("Tus-Resumable", "0.2.2")],
            "",
            412,
        ),
        (
            "a piece of a file",
            "POST",
            many,
            &[tus, ("Upload-Length", "5"), ("Upload-Concat", "partial")],
            "",
            400,
        ),
        ("no length", "POST", many, &[tus], "", 400),
        (
            "a negative length",
            "POST",
            many,
            &[tus, ("Upload-Length", "-5")],
            "",
            400,
        ),
        (
            "a deferred length that is none",
            "POST",
            many,
            &[tus, ("Upload-Defer-Length", "2")],
            "",
            400,
        ),
        (
            "a length that is deferred and told",
            "POST",
            many,
            &[tus, ("Upload-Defer-Length", "1"), ("Upload-Length", "5")],
            "",
            400,
        ),
        (
            "a length without a version",
            "POST",
            many,
            &[("Upload-Length", "5")],
            "",
            412,
        ),
        (
            "an unknown checksum",
            "PATCH",
            &one,
            &[
                tus,
                kind,
                ("Upload-Offset", "0"),
                ("Upload-Checksum", "md5 eA=="),
            ],
            "x",
            400,
        ),
        (
            "a wrong checksum",
            "PATCH",
            &one,
            &[
                tus,
                kind,
                ("Upload-Offset", "0"),
                ("Upload-Checksum", "crc32c AAAAAA=="),
            ],
            "x",
            460,
        ),
        (
            "a length that is another",
            "PATCH",
            &one,
            &[tus, kind, ("Upload-Offset", "0"), ("Upload-Length", "999")],
            "x",
            400,
        ),
        (
            "another method in the header",
            "GET",
            &one,
            &[tus, ("X-HTTP-Method-Override", "PATCH")],
            "",
            415,
        ),
        (
            "a length above the limit",
            "POST",
            many,
            &[tus, ("Upload-Length", "300000001")],
            "",
            413,
        ),
        (
            "bad metadata",
            "POST",
            many,
            &[tus, ("Upload-Length", "5"), ("Upload-Metadata", "a ???")],
            "",
            400,
        ),
        (
            "an unknown profile",
            "POST",
            many,
            &[tus, ("Upload-Length", "5"), ("Kinora-Profile", "x")],
            "",
            400,
        ),
        (
            "bytes of another type",
            "POST",
            many,
            &[tus, ("Upload-Length", "5"), ("Content-Type", "video/mp4")],
            "x",
            415,
        ),
        (
            "more bytes than the length",
            "POST",
            many,
            &[tus, ("Upload-Length", "1"), kind],
            "xyz",
            413,
        ),
        (
            "a PATCH without type",
            "PATCH",
            &one,
            &[tus, ("Upload-Offset", "0")],
            "x",
            415,
        ),
        (
            "a PATCH without offset",
            "PATCH",
            &one,
            &[tus, kind],
            "x",
            400,
        ),
        (
            "a PATCH at a bad offset",
            "PATCH",
            &one,
            &[tus, kind, ("Upload-Offset", "x")],
            "x",
            400,
        ),
        (
            "a PATCH at a wrong offset",
            "PATCH",
            &one,
            &[tus, kind, ("Upload-Offset", "5")],
            "x",
            409,
        ),
        ("a method nobody knows", "POST", &one, &[tus], "", 405),
        (
            "an unknown upload",
            "HEAD",
            "/v1/uploads/p1-01arz3ndektsv4rrffq69g5fav",
            &[tus],
            "",
            404,
        ),
        (
            "an id that is no text",
            "PATCH",
            "/v1/uploads/%ff%fe",
            &[tus],
            "",
            404,
        ),
        ("a path nobody knows", "GET", "/v2", &[], "", 404),
    ];
    for (name, method, path, headers, body, want) in cases {
        let mut request = world.ask(&replica, method, path).body((*body).to_owned());
        for (key, value) in *headers {
            request = request.header(*key, *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), *want, "{name}");
        assert_eq!(answer.headers()["tus-resumable"], "1.0.0", "{name}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{name}");
        if *want == 412 {
            assert_eq!(answer.headers()["tus-version"], "1.0.0", "{name}");
        }
        if *want == 409 {
            assert_eq!(offset_of(&answer), Some(0), "{name}");
        }
        if *method != "HEAD" {
            assert_eq!(
                answer.headers()["content-type"],
                "application/problem+json",
                "{name}"
            );
            let problem: serde_json::Value = answer.json().await.unwrap();
            assert!(
                problem["type"]
                    .as_str()
                    .unwrap()
                    .starts_with("https://kinora.dev/problems/"),
                "{name}"
            );
            assert!(
                problem["detail"].as_str().unwrap().len() > 20,
                "{name}: {problem}"
            );
            if *name == "a length above the limit" {
                assert_eq!(problem["field"], "Upload-Length", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn options_announce_what_is_done_and_browsers_may_read_it() {
    let world = World::new("p2").await;
    let replica = world.replica().await;
    let answer = world.http.request(
        "OPTIONS".parse().unwrap(),
        format!("{}/v1/uploads", replica.base),
    );
    let answer = answer
        .header("Origin", "https://app.example")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "without a key");
    let headers = answer.headers();
    assert_eq!(headers["tus-version"], "1.0.0");
    assert_eq!(
        headers["tus-extension"],
        "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
    );
    assert_eq!(
        headers["tus-checksum-algorithm"],
        "sha1,sha256,crc32c,crc64nvme"
    );
    let limits = headers["upload-limit"].to_str().unwrap();
    assert!(
        limits.starts_with("max-size=300000000, min-append-size=65536"),
        "{limits}"
    );
    assert_eq!(headers["allow"], "POST, PUT, OPTIONS");
    assert_eq!(
        headers["want-repr-digest"],
        "crc64nvme=10, crc32c=9, sha-256=5"
    );
    let sent = headers["access-control-expose-headers"].to_str().unwrap();
    assert!(sent.contains("Want-Content-Digest"), "{sent}");
    assert!(sent.contains("ETag"), "{sent}");
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("If-None-Match"), "{allowed}");
    let patches = headers["accept-patch"].to_str().unwrap();
    assert!(patches.contains("application/partial-upload"), "{patches}");
    assert_eq!(headers["tus-max-size"], "300000000");
    assert!(
        headers["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("Upload-Offset")
    );
    assert!(
        headers["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("PATCH")
    );
}

#[tokio::test]
async fn metadata_is_echoed_and_a_post_may_mean_another_method() {
    let world = World::new("p3").await;
    let replica = world.replica().await;
    let file = video(5000);
    let create = world
        .tus(&replica, "POST", "/v1/uploads")
        .header("Upload-Length", file.len());
    let create = create
        .header("Upload-Metadata", "filename Y2xpcC5tcDQ=,a")
        .send()
        .await
        .unwrap();
    assert_eq!(create.status(), 201);
    let path = create.headers()["location"].to_str().unwrap().to_owned();
    let head = world.tus(&replica, "HEAD", &path).send().await.unwrap();
    assert_eq!(head.headers()["upload-metadata"], "filename Y2xpcC5tcDQ=,a");
    assert_eq!(head.headers()["upload-length"], "5000");
    let meant = |method: &str| {
        world
            .tus(&replica, "POST", &path)
            .header("X-HTTP-Method-Override", method)
    };
    let patch = meant("PATCH")
        .header("Upload-Offset", 0)
        .header("Content-Type", STREAM);
    let answer = patch.body(file.clone()).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (204, Some(5000))
    );
    let too_long = world.create(&replica, 100).await;
    assert_eq!(
        world.patch(&replica, &too_long, 0, &file).await.status(),
        413
    );
}

#[tokio::test]
async fn small_patches_are_ten_a_minute() {
    let world = World::new("p4").await;
    let replica = world.replica().await;
    let file = video(1000);
    let id = world.create(&replica, file.len()).await;
    let mut refused = None;
    for offset in 0..25 {
        let answer = world
            .patch(&replica, &id, offset, &file[offset..=offset])
            .await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), 204);
    }
    let refused = refused.expect("within two minutes at most 20 are taken");
    assert!(refused.headers().contains_key("retry-after"));
    // The rest of the file is not a small piece, however small it is.
    let offset = offset_of(&world.head(&replica, &id).await).unwrap();
    assert_eq!(
        world
            .patch(&replica, &id, offset, &file[offset..])
            .await
            .status(),
        204
    );
    assert_eq!(world.video(&id).await.unwrap(), file);
}

#[tokio::test]
async fn health_and_metrics_are_served_without_a_key() {
    let world = World::new("p5").await;
    let replica = world.replica().await;
    for (path, want) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200)] {
        let answer = world
            .http
            .get(format!("{}{path}", replica.base))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), want, "{path}");
    }
    replica.app.ready.drain();
    assert_eq!(
        world
            .http
            .get(format!("{}/readyz", replica.base))
            .send()
            .await
            .unwrap()
            .status(),
        503
    );
    let answer = world
        .ask(&replica, "POST", "/v1/uploads")
        .body(video(99))
        .send()
        .await
        .unwrap();
    assert_eq!(
        answer.status(),
        503,
        "a replica that is not ready mints no id"
    );
}
