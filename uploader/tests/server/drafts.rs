//! The IETF draft of resumable uploads, in the words of each interop version, and the informational answer that tells
//! the URL of an upload before its body is read.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, World, id_of, offset_of, video};

const VERSIONS: [&str; 4] = ["3", "5", "6", "8"];
const PARTIAL: &str = "application/partial-upload";

/// A request in the words of a version; `end` is whether nothing follows its body.
fn ask(
    world: &World,
    replica: &Replica,
    version: &str,
    method: &str,
    path: &str,
    end: Option<bool>,
) -> RequestBuilder {
    let request = world
        .ask(replica, method, path)
        .header("Upload-Draft-Interop-Version", version);
    match (version, end) {
        (_, None) => request,
        ("3", Some(end)) => request.header("Upload-Incomplete", if end { "?0" } else { "?1" }),
        (_, Some(end)) => request.header("Upload-Complete", if end { "?1" } else { "?0" }),
    }
}

/// Whether an answer says that nothing follows.
fn ended(answer: &Response) -> bool {
    match answer.headers().get("upload-complete") {
        Some(flag) => flag == "?1",
        None => answer.headers()["upload-incomplete"] == "?0",
    }
}

#[tokio::test]
async fn every_version_uploads_in_pieces_and_ends_when_it_says_so_or_told_its_length() {
    let world = World::new("d1").await;
    let replica = world.replica().await;
    let file = video(250_000);
    for version in VERSIONS {
        for told in [true, false] {
            let name = format!("version {version}, length told: {told}");
            let mut create = ask(
                &world,
                &replica,
                version,
                "POST",
                "/v1/uploads",
                Some(false),
            )
            .header("Content-Type", "video/mp4");
            if told {
                create = create.header("Upload-Length", file.len());
            }
            let answer = create.body(file[..100_000].to_vec()).send().await.unwrap();
            assert_eq!(answer.status(), 201, "{name}");
            assert!(!ended(&answer), "{name}");
            assert_eq!(offset_of(&answer), Some(100_000), "{name}");
            assert!(answer.headers().contains_key("upload-limit"), "{name}");
            let id = id_of(&answer);
            let path = format!("/v1/uploads/{id}");
            let head = ask(&world, &replica, version, "HEAD", &path, None);
            let head = head.send().await.unwrap();
            assert_eq!(
                (head.status().as_u16(), offset_of(&head)),
                (204, Some(100_000))
            );
            assert!(!ended(&head), "{name}");
            let length = head.headers().get("upload-length").is_some();
            assert_eq!(length, told, "{name}");
            let patch = |offset: usize, end: bool, body: &[u8]| {
                ask(&world, &replica, version, "PATCH", &path, Some(end))
                    .header("Upload-Offset", offset)
                    .header("Content-Type", PARTIAL)
                    .body(body.to_vec())
                    .send()
            };
            let wrong = patch(5, false, &file[5..]).await.unwrap();
            assert_eq!(
                (wrong.status().as_u16(), offset_of(&wrong)),
                (409, Some(100_000))
            );
            let problem: serde_json::Value = wrong.json().await.unwrap();
            assert_eq!(
                problem["type"],
                "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
                "{name}"
            );
            assert_eq!(problem["expected-offset"], 100_000, "{name}");
            assert_eq!(problem["provided-offset"], 5, "{name}");
            let all = patch(100_000, false, &file[100_000..]).await.unwrap();
            assert_eq!(offset_of(&all), Some(250_000), "{name}");
            let last = if told {
                // tus-js-client goes on with `?0` after a cut, and takes this offset for the end.
                all
            } else {
                let want = if version == "8" { 204 } else { 201 };
                assert_eq!(all.status(), want, "{name}");
                assert!(!ended(&all), "{name}");
                assert!(world.video(&id).await.is_none(), "{name}: nobody said so");
                let head = ask(&world, &replica, version, "HEAD", &path, None);
                let head = head.send().await.unwrap();
                assert!(!ended(&head), "{name}");
                assert!(!head.headers().contains_key("upload-length"), "{name}");
                patch(250_000, true, &[]).await.unwrap()
            };
            assert_eq!(last.status(), 201, "{name}");
            assert!(ended(&last), "{name}");
            assert_eq!(
                last.headers()["content-location"],
                format!("/v1/videos/{id}")
            );
            assert!(world.video(&id).await.unwrap() == file, "{name}");
            assert!(world.jobs.job(&id).is_some(), "{name}");
            let head = ask(&world, &replica, version, "HEAD", &path, None);
            let head = head.send().await.unwrap();
            assert!(ended(&head), "{name}");
            assert_eq!(head.headers()["upload-length"], "250000", "{name}");
            let again = patch(250_000, true, &[]).await.unwrap();
            assert_eq!(again.status(), 400, "{name}");
            let problem: serde_json::Value = again.json().await.unwrap();
            let kind = problem["type"].as_str().unwrap();
            assert!(kind.ends_with("#completed-upload"), "{name}: {kind}");
        }
    }
}

#[tokio::test]
async fn a_whole_file_in_one_request_is_stored_in_every_version_and_by_put() {
    let world = World::new("d2").await;
    let replica = world.replica().await;
    for version in VERSIONS {
        for (method, size) in [("POST", 20_000), ("PUT", 20_000), ("POST", 9 << 20)] {
            let file = video(size);
            let create = ask(&world, &replica, version, method, "/v1/uploads", Some(true));
            let answer = create.body(file.clone()).send().await.unwrap();
            assert_eq!(answer.status(), 201, "{version} {method} {size}");
            assert!(ended(&answer), "{version} {method} {size}");
            assert_eq!(offset_of(&answer), Some(size), "{version} {method}");
            let id = id_of(&answer);
            assert!(world.video(&id).await.unwrap() == file);
            assert!(world.jobs.job(&id).is_some());
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_the_draft_s_words() {
    let world = World::new("d3").await;
    let replica = world.replica().await;
    let file = video(90_000);
    let create = async |version: &str| {
        let create = ask(
            &world,
            &replica,
            version,
            "POST",
            "/v1/uploads",
            Some(false),
        );
        let answer = create.header("Upload-Length", 90_000).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (201, Some(0))
        );
        format!("/v1/uploads/{}", id_of(&answer))
    };
    let (six, eight) = (create("6").await, create("8").await);
    let inconsistent = "#inconsistent-upload-length";
    type Headers<'a> = &'a [(&'a str, &'a str)];
    /// Name, version, method, path, headers, bytes of the body, status, end of the type.
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a str,
        &'a str,
        Headers<'a>,
        usize,
        u16,
        &'a str,
    );
    let cases: [Case<'_>; 11] = [
        (
            "another type",
            "6",
            "PATCH",
            &six,
            &[("Upload-Complete", "?0"), ("Upload-Offset", "0")],
            5,
            415,
            "content-type",
        ),
        (
            "no offset",
            "6",
            "PATCH",
            &six,
            &[("Upload-Complete", "?0"), ("Content-Type", PARTIAL)],
            5,
            400,
            "bad-request",
        ),
        (
            "no flag in 8",
            "8",
            "PATCH",
            &eight,
            &[("Upload-Offset", "0"), ("Content-Type", PARTIAL)],
            5,
            400,
            "bad-request",
        ),
        (
            "a flag that is none",
            "6",
            "PATCH",
            &six,
            &[
                ("Upload-Complete", "1"),
                ("Upload-Offset", "0"),
                ("Content-Type", PARTIAL),
            ],
            5,
            400,
            "bad-request",
        ),
        (
            "an end too early",
            "6",
            "PATCH",
            &six,
            &[
                ("Upload-Complete", "?1"),
                ("Upload-Offset", "0"),
                ("Content-Type", PARTIAL),
            ],
            5,
            400,
            inconsistent,
        ),
        (
            "more than the length",
            "6",
            "PATCH",
            &six,
            &[
                ("Upload-Complete", "?0"),
                ("Upload-Offset", "0"),
                ("Content-Type", PARTIAL),
            ],
            90_001,
            400,
            inconsistent,
        ),
        (
            "two lengths",
            "6",
            "POST",
            "/v1/uploads",
            &[("Upload-Complete", "?1"), ("Upload-Length", "6")],
            5,
            400,
            inconsistent,
        ),
        (
            "a HEAD with an offset",
            "6",
            "HEAD",
            &six,
            &[("Upload-Offset", "0")],
            0,
            400,
            "",
        ),
        (
            "a DELETE with a flag",
            "6",
            "DELETE",
            &six,
            &[("Upload-Complete", "?0")],
            0,
            400,
            "bad-request",
        ),
        (
            "an unknown version",
            "4",
            "POST",
            "/v1/uploads",
            &[("Upload-Complete", "?0")],
            5,
            400,
            "bad-request",
        ),
        (
            "an unknown upload",
            "6",
            "HEAD",
            "/v1/uploads/d3-01arz3ndektsv4rrffq69g5fav",
            &[],
            0,
            404,
            "",
        ),
    ];
    for (name, version, method, path, headers, size, want, kind) in cases {
        let mut request = ask(&world, &replica, version, method, path, None);
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let body = [&file[..], b"x"].concat()[..size].to_vec();
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), want, "{name}");
        if !kind.is_empty() {
            let problem: serde_json::Value = answer.json().await.unwrap();
            let found = problem["type"].as_str().unwrap();
            assert!(found.ends_with(kind), "{name}: {found}");
        }
    }
    for (version, path) in [("6", &six), ("8", &eight)] {
        let end = ask(&world, &replica, version, "DELETE", path, None);
        assert_eq!(end.send().await.unwrap().status(), 204, "{version}");
        let head = ask(&world, &replica, version, "HEAD", path, None);
        assert_eq!(head.send().await.unwrap().status(), 404, "{version}");
    }
}

/// Reads until `what` was seen.
async fn read_to(socket: &mut TcpStream, what: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&all).contains(what) {
            assert_ne!(
                socket.read_buf(&mut all).await.unwrap(),
                0,
                "it ended early"
            );
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(30), reading).await;
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(within.is_ok(), "{what} does not come: {all}");
    all
}

/// covers: F3
#[tokio::test]
async fn the_url_is_told_before_the_body_comes_and_a_cut_goes_on_elsewhere() {
    let world = World::new("d4").await;
    let replica = world.replica().await;
    let other = world.replica().await;
    let file = video(300_000);
    for version in VERSIONS {
        let flag = match version {
            "3" => "Upload-Incomplete: ?0",
            _ => "Upload-Complete: ?1",
        };
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\
             Upload-Draft-Interop-Version: {version}\r\n{flag}\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\n\r\n",
            file.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let said = read_to(&mut socket, "100 Continue\r\n\r\n").await;
        let (interim, _) = said.split_once("\r\n\r\n").unwrap();
        assert!(
            interim
                .starts_with("HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /v1/uploads/"),
            "{said}"
        );
        let named = format!("\r\nUpload-Draft-Interop-Version: {version}");
        assert!(interim.contains(&named), "{said}");
        assert!(!interim.contains("Upload-Offset"), "no progress: {said}");
        let path = interim.lines().nth(1).unwrap();
        let path = path.strip_prefix("Location: ").unwrap().to_owned();
        socket.write_all(&file[..200_000]).await.unwrap();
        drop(socket);
        let head = ask(&world, &other, version, "HEAD", &path, None);
        let head = head.send().await.unwrap();
        let offset = offset_of(&head).unwrap();
        assert!(offset <= 200_000 && !ended(&head), "{version}: {offset}");
        let last = ask(&world, &other, version, "PATCH", &path, Some(true))
            .header("Upload-Offset", offset)
            .header("Content-Type", PARTIAL);
        let last = last.body(file[offset..].to_vec()).send().await.unwrap();
        assert_eq!(last.status(), 201, "{version}");
        let id = path.rsplit('/').next().unwrap();
        assert!(world.video(id).await.unwrap() == file, "{version}");
    }
}

#[tokio::test]
async fn nobody_who_did_not_ask_gets_an_informational_answer() {
    let world = World::new("d5").await;
    let replica = world.replica().await;
    let file = video(10_000);
    for (name, headers) in [
        ("a plain body", String::new()),
        (
            "an unknown version",
            "Upload-Draft-Interop-Version: 7\r\nUpload-Complete: ?1\r\n".into(),
        ),
        ("no version", "Upload-Complete: ?1\r\n".into()),
        (
            "tus",
            format!(
                "Tus-Resumable: 1.0.0\r\nUpload-Length: {}\r\nContent-Type: application/offset+octet-stream\r\n",
                file.len()
            ),
        ),
    ] {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{headers}\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            file.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&file).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 201 Created\r\n"),
            "{name}: {answer}"
        );
        assert!(!answer.contains(" 104 "), "{name}: {answer}");
    }
}

/// covers: F3
#[tokio::test]
async fn no_informational_answer_goes_to_a_proxy_or_over_http_1_0() {
    let world = World::new("d7").await;
    let replica = world.replica().await;
    let file = video(10_000);
    for (name, version, line, told) in [
        ("straight", "1.1", "", true),
        ("nginx", "1.1", "X-Forwarded-For: 192.0.2.1\r\n", false),
        ("HTTP/1.0", "1.0", "", false),
    ] {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "POST /v1/uploads HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\
             Upload-Draft-Interop-Version: 6\r\nUpload-Complete: ?1\r\n{line}\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            file.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&file).await.unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).await.unwrap();
        assert_eq!(said.starts_with("HTTP/1.1 104 "), told, "{name}: {said}");
        assert!(said.contains(" 201 Created\r\n"), "{name}: {said}");
        assert_eq!(
            said.matches("HTTP/1.").count(),
            1 + usize::from(told),
            "{name}: {said}"
        );
    }
}

/// The answer to a request and the informational one of the next never mix on one connection.
#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let world = World::new("d6").await;
    let replica = world.replica().await;
    let file = video(30_000);
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    for round in 0..4 {
        let head = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\
             Upload-Draft-Interop-Version: 6\r\nUpload-Complete: ?1\r\nContent-Length: {}\r\n\r\n",
            file.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&file).await.unwrap();
        let said = read_to(&mut socket, "\"status\"").await;
        assert!(said.starts_with("HTTP/1.1 104 "), "{round}: {said}");
        let (_, answer) = said.split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{round}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{round}: {said}");
    }
}
