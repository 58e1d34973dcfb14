//! First pieces that are too short to be judged, and files that turn out to be empty.

use reqwest::{Body, RequestBuilder, Response};

use crate::harness::{Replica, STREAM, World, id_of, offset_of, problem_of, video};

fn draft(world: &World, replica: &Replica, method: &str, path: &str, end: bool) -> RequestBuilder {
    world
        .ask(replica, method, path)
        .header("Upload-Draft-Interop-Version", "8")
        .header("Upload-Complete", if end { "?1" } else { "?0" })
}

async fn sent(request: RequestBuilder, offset: usize, kind: &str, body: &[u8]) -> Response {
    let request = request.header("Upload-Offset", offset);
    let request = request.header("Content-Type", kind).body(body.to_vec());
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_first_piece_that_says_nothing_yet_is_taken_when_more_follows() {
    let world = World::new("sh1").await;
    let replica = world.replica().await;
    let file = video(1_000_000);
    let create = world.tus(&replica, "POST", "/v1/uploads");
    let create = create
        .header("Upload-Length", file.len())
        .header("Content-Type", STREAM);
    let create = create.body(file[..5].to_vec()).send().await.unwrap();
    assert_eq!(
        (create.status().as_u16(), offset_of(&create)),
        (201, Some(5))
    );
    let id = id_of(&create);
    let rest = world.patch(&replica, &id, 5, &file[5..]).await;
    assert_eq!(rest.status(), 204);
    assert!(world.video(&id).await.unwrap() == file);

    let create = draft(&world, &replica, "POST", "/v1/uploads", false);
    let create = create.body(file[..5].to_vec()).send().await.unwrap();
    assert_eq!(
        (create.status().as_u16(), offset_of(&create)),
        (201, Some(5))
    );
    let id = id_of(&create);
    let path = format!("/v1/uploads/{id}");
    let rest = draft(&world, &replica, "PATCH", &path, true);
    let rest = sent(rest, 5, "application/partial-upload", &file[5..]).await;
    assert_eq!(rest.status(), 201);
    assert!(world.video(&id).await.unwrap() == file);

    // All there is, and no video.
    let create = world.tus(&replica, "POST", "/v1/uploads");
    let create = create
        .header("Upload-Length", 5)
        .header("Content-Type", STREAM);
    let create = create.body(file[..5].to_vec()).send().await.unwrap();
    assert_eq!(problem_of(create).await, (415, "not-a-video".into()));
}

#[tokio::test]
async fn a_file_that_turns_out_empty_is_rejected_as_one_that_was_created_empty() {
    let world = World::new("sh2").await;
    let replica = world.replica().await;
    let create = world.tus(&replica, "POST", "/v1/uploads");
    let create = create.header("Upload-Defer-Length", "1").send().await;
    let tus = id_of(&create.unwrap());
    let patch = world.tus(&replica, "PATCH", &format!("/v1/uploads/{tus}"));
    let last = sent(patch.header("Upload-Length", 0), 0, STREAM, b"").await;
    assert_eq!((last.status().as_u16(), offset_of(&last)), (204, Some(0)));

    let create = draft(&world, &replica, "POST", "/v1/uploads", false);
    let pieces = id_of(&create.send().await.unwrap());
    let patch = draft(
        &world,
        &replica,
        "PATCH",
        &format!("/v1/uploads/{pieces}"),
        true,
    );
    let last = sent(patch, 0, "application/partial-upload", b"").await;
    assert_eq!(last.status(), 201);
    let body: serde_json::Value = last.json().await.unwrap();
    assert_eq!(body["state"], "rejected");

    let nothing = futures::stream::empty::<Result<Vec<u8>, std::io::Error>>();
    let whole = draft(&world, &replica, "POST", "/v1/uploads", true);
    let whole = whole.body(Body::wrap_stream(nothing)).send().await.unwrap();
    assert_eq!(whole.status(), 201);
    for id in [tus, pieces, id_of(&whole)] {
        let status = world.status(&replica, &id).await;
        assert_eq!(
            (&status["state"], &status["reason"]),
            (&"rejected".into(), &"Empty".into()),
            "{id}"
        );
        assert!(world.jobs.job(&id).is_none());
    }
}
