//! Whole uploads, refusals, owners, ends.

use std::sync::atomic::Ordering;

use kinora_crds::names::{ANNOTATION_OUTBOX_TIME, ANNOTATION_UPLOAD_ID};
use kinora_storage::{UploadId, keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{ADMIN, KEY, STRANGER, STREAM, World, id_of, offset_of, video};

#[tokio::test]
async fn a_plain_post_becomes_an_object_a_decision_an_index_entry_and_one_job() {
    let world = World::new("s1").await;
    let replica = world.replica().await;
    let file = video(1_000_000);
    for method in ["POST", "PUT"] {
        let request = world
            .ask(&replica, method, "/v1/uploads")
            .header("Content-Type", "video/mp4");
        let answer = request.body(file.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{method}");
        let text = id_of(&answer);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["state"], "queued");
        let id: UploadId = text.parse().unwrap();
        assert_eq!(world.video(&text).await.unwrap(), file);
        let job = world.jobs.job(&text).unwrap();
        assert!(job.is_upload());
        assert_eq!(job.metadata.namespace.as_deref(), Some("videos"));
        assert_eq!(job.spec.source.key, keys::video(&id));
        assert_eq!(job.spec.source.size_bytes, Some(1_000_000));
        assert_eq!(job.spec.ttl_seconds_after_finished, Some(900));
        assert!(job.spec.source.etag.is_some_and(|etag| !etag.contains('"')));
        assert!(job.spec.source.checksum.unwrap().starts_with("crc64nvme:"));
        let annotations = job.metadata.annotations.unwrap();
        assert_eq!(annotations[ANNOTATION_UPLOAD_ID], text);
        assert!(
            annotations[ANNOTATION_OUTBOX_TIME]
                .parse::<jiff::Timestamp>()
                .is_ok()
        );
        assert!(world.exists(&keys::active(&id)).await);
        assert!(
            world
                .exists(&keys::user_index(&keys::owner_hash("apikey", "phone"), &id))
                .await
        );
        assert!(
            !world.exists(&keys::state(&id)).await,
            "one request needs no state object"
        );
        world.gone(&keys::pending(&id)).await;
        assert_eq!(world.status(&replica, &text).await["state"], "queued");
    }
}

#[tokio::test]
async fn a_chunked_body_of_unknown_length_is_taken_whole_small_or_large() {
    let world = World::new("s2").await;
    let replica = world.replica().await;
    for size in [100_000, 9_000_000] {
        let file = video(size);
        let chunks: Vec<_> = file
            .chunks(300_000)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect();
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let answer = world
            .ask(&replica, "POST", "/v1/uploads")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{size}");
        let id = id_of(&answer);
        assert_eq!(world.video(&id).await.unwrap(), file, "{size}");
        assert!(world.jobs.job(&id).is_some());
    }
}

#[tokio::test]
async fn what_is_no_video_is_refused_before_a_byte_is_stored() {
    let world = World::new("s3").await;
    let replica = world.replica().await;
    let text = "this text calls itself clip.mp4. ".repeat(1000);
    let answer = world
        .ask(&replica, "POST", "/v1/uploads")
        .header("Content-Type", "video/mp4");
    let answer = answer.body(text.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 415);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "https://kinora.dev/problems/not-a-video");

    // Over tus, also when the first bytes come one by one.
    let id = world.create(&replica, text.len()).await;
    assert_eq!(
        world
            .patch(&replica, &id, 0, &text.as_bytes()[..5])
            .await
            .status(),
        204
    );
    assert_eq!(
        world
            .patch(&replica, &id, 5, &text.as_bytes()[5..])
            .await
            .status(),
        415
    );
    assert_eq!(world.head(&replica, &id).await.status(), 410);
    assert!(world.jobs.jobs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_of_nothing_is_recorded_as_empty_and_gets_no_job() {
    let world = World::new("s4").await;
    let replica = world.replica().await;
    let id = world.create(&replica, 0).await;
    let answer = world.head(&replica, &id).await;
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (200, Some(0))
    );
    let status = world.status(&replica, &id).await;
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&"rejected".into(), &"Empty".into())
    );
    assert!(world.jobs.job(&id).is_none());
    assert_eq!(
        world
            .ask(&replica, "POST", "/v1/uploads")
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
}

/// covers: S8, T26
#[tokio::test]
async fn strangers_see_nothing_and_wrong_keys_get_nowhere() {
    let world = World::new("s5").await;
    let replica = world.replica().await;
    let file = video(50_000);
    let open = world.create(&replica, file.len()).await;
    let done = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(file)
            .send()
            .await
            .unwrap(),
    );
    for id in [&open, &done] {
        for (method, path) in [
            ("HEAD", "uploads"),
            ("DELETE", "uploads"),
            ("GET", "videos"),
            ("DELETE", "videos"),
        ] {
            let url = format!("/v1/{path}/{id}");
            for (token, want) in [
                (STRANGER, 404),
                ("phone.wrong", 401),
                ("nobody.secret", 401),
            ] {
                let request = world
                    .http
                    .request(method.parse().unwrap(), format!("{}{url}", replica.base));
                let answer = request
                    .bearer_auth(token)
                    .header("Tus-Resumable", "1.0.0")
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status(), want, "{method} {url} by {token}");
            }
        }
        let patch = world
            .http
            .patch(format!("{}/v1/uploads/{id}", replica.base))
            .bearer_auth(STRANGER);
        let patch = patch
            .header("Tus-Resumable", "1.0.0")
            .header("Upload-Offset", 0)
            .header("Content-Type", STREAM);
        assert_eq!(patch.body("x").send().await.unwrap().status(), 404);
        let request = world
            .http
            .get(format!("{}/v1/videos/{id}", replica.base))
            .bearer_auth(ADMIN);
        assert_eq!(
            request.send().await.unwrap().status(),
            200,
            "the tenant's admin may look"
        );
    }
    for id in [
        "..",
        "%2e%2e%2fetc",
        "a-01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "a%00b",
    ] {
        assert_eq!(world.head(&replica, id).await.status(), 404, "{id}");
    }
}

#[tokio::test]
async fn a_terminated_upload_is_gone_and_a_finished_one_is_cancelled() {
    let world = World::new("s6").await;
    let replica = world.replica().await;
    let file = video(9_000_000);
    let id = world.create(&replica, file.len() + 1).await;
    assert_eq!(world.patch(&replica, &id, 0, &file).await.status(), 204);
    let delete = || {
        world
            .tus(&replica, "DELETE", &format!("/v1/uploads/{id}"))
            .send()
    };
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(world.head(&replica, &id).await.status(), 410);
    assert_eq!(
        world.patch(&replica, &id, file.len(), b"x").await.status(),
        410
    );
    assert_eq!(delete().await.unwrap().status(), 410);
    assert!(world.video(&id).await.is_none());

    let done = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(video(5_000))
            .send()
            .await
            .unwrap(),
    );
    let answer = world
        .tus(&replica, "DELETE", &format!("/v1/uploads/{done}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(
        world.jobs.job(&done).unwrap().spec.cancel_requested,
        Some(true)
    );

    // A cancel is never acknowledged before Kubernetes has it.
    let other = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(video(6_000))
            .send()
            .await
            .unwrap(),
    );
    world.jobs.away.store(true, Ordering::SeqCst);
    let cancel = || {
        world
            .ask(&replica, "DELETE", &format!("/v1/videos/{other}"))
            .send()
    };
    assert_eq!(cancel().await.unwrap().status(), 503);
    world.jobs.away.store(false, Ordering::SeqCst);
    world.jobs.jobs.lock().unwrap().clear();
    assert_eq!(
        cancel().await.unwrap().status(),
        204,
        "a job that is gone is made again, cancelled"
    );
    assert_eq!(
        world.jobs.job(&other).unwrap().spec.cancel_requested,
        Some(true)
    );
}

#[tokio::test]
async fn the_status_follows_the_job_and_links_its_outputs() {
    let world = World::new("s7").await;
    let replica = world.replica().await;
    let id = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(video(5_000))
            .send()
            .await
            .unwrap(),
    );
    for (state, want) in [
        ("Running", "running"),
        ("Backoff", "backoff"),
        ("Cancelled", "cancelled"),
        ("", "queued"),
    ] {
        world.jobs.edit(&id, |job| {
            job.status.get_or_insert_default().state = state.into();
        });
        assert_eq!(world.status(&replica, &id).await["state"], want);
    }
    let key = "outputs/2026-01-01/00/uid/1-0a1b2c3d/video";
    world
        .store
        .put(key, "made".into(), Default::default())
        .await
        .unwrap();
    let full = format!("s3://{}/{key}", world.store.bucket());
    for (uri, presigned) in [
        (key, true),
        (&full, true),
        ("outputs/2026-01-01/00/another/1-0a1b2c3d/video", false),
    ] {
        world.jobs.edit(&id, |job| {
            job.metadata.uid = Some("uid".into());
            let status = job.status.get_or_insert_default();
            status.state = "Succeeded".into();
            status.outputs = vec![kinora_crds::Output {
                name: "video".into(),
                uri: uri.into(),
                ..Default::default()
            }];
        });
        let status = world.status(&replica, &id).await;
        assert_eq!(status["state"], "succeeded");
        let url = status["outputs"][0]["url"].as_str().unwrap();
        assert_eq!(url != uri, presigned, "{uri}: only the job's own keys");
        if presigned {
            let made = world
                .http
                .get(url)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            assert_eq!(made, "made");
        }
    }
}

/// covers: F7
#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_everything_before_it_reads() {
    let world = World::new("s9").await;
    let replica = world.replica().await;
    let upload = world.create(&replica, 100).await;
    let text = vec![b'x'; 12 << 20];
    for (token, path, want) in [
        ("phone.wrong", "/v1/uploads".to_owned(), 401),
        (KEY, "/v1/uploads".to_owned(), 415),
        (KEY, format!("/v1/uploads/{upload}"), 405),
    ] {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            text.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let sent = socket.write_all(&text).await;
        assert!(sent.is_ok(), "{path} by {token}: {sent:?}");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{answer}");
        assert!(answer.contains("\"detail\""), "{answer}");
    }
}
