//! The protocols over HTTP/2, where a body needs no header that tells its size or its end.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, STREAM, World, video};

type Body = http_body_util::combinators::BoxBody<Bytes, h2::Error>;

async fn connect(replica: &Replica) -> http2::SendRequest<Body> {
    let socket = TcpStream::connect(replica.address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// A body of frames whose size is told by nobody.
fn untold(bytes: &[u8]) -> Body {
    StreamBody::new(futures::stream::iter(frames(bytes))).boxed()
}

fn frames(bytes: &[u8]) -> Vec<Result<Frame<Bytes>, h2::Error>> {
    let chunks = bytes.chunks(30_000);
    chunks
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect()
}

/// A body whose stream is reset behind these bytes, as proxies do it when their client has gone. Most of them were taken by then:
/// the window of a stream is smaller.
fn cut(bytes: &[u8]) -> Body {
    let mut frames = frames(bytes);
    frames.push(Err(h2::Reason::NO_ERROR.into()));
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

fn told(bytes: &[u8]) -> Body {
    Full::new(Bytes::copy_from_slice(bytes))
        .map_err(|never| match never {})
        .boxed()
}

async fn ask(
    client: &mut http2::SendRequest<Body>,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Response<Incoming> {
    let request = request(method, uri, headers, body);
    client.send_request(request).await.unwrap()
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("Authorization", format!("Bearer {KEY}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

#[tokio::test]
async fn every_protocol_works_over_http2_with_and_without_a_told_size() {
    let world = World::new("h21").await;
    let replica = world.replica().await;
    let mut client = connect(&replica).await;
    let file = video(400_000);
    let root = format!("{}/v1/uploads", replica.base);
    let body: fn(&[u8]) -> Body = told;
    for (name, body) in [("told", body), ("untold", untold)] {
        let plain = ask(&mut client, "POST", &root, &[], body(&file)).await;
        assert_eq!(plain.status(), 201, "plain, {name}");
        let tus = ("tus-resumable", "1.0.0");
        let length = file.len().to_string();
        let create = [tus, ("upload-length", &length)];
        let answer = ask(&mut client, "POST", &root, &create, told(&[])).await;
        assert_eq!(answer.status(), 201, "tus, {name}");
        let url = format!(
            "{}{}",
            replica.base,
            answer.headers()["location"].to_str().unwrap()
        );
        for (from, to) in [(0, 150_000), (150_000, file.len())] {
            let at = from.to_string();
            let patch = [tus, ("upload-offset", &at), ("content-type", STREAM)];
            let answer = ask(&mut client, "PATCH", &url, &patch, body(&file[from..to])).await;
            assert_eq!(answer.status(), 204, "tus, {name}, {from}");
            assert_eq!(answer.headers()["upload-offset"], to.to_string(), "{name}");
        }
        let draft = ("upload-draft-interop-version", "6");
        let first = [draft, ("upload-complete", "?0")];
        let answer = ask(&mut client, "POST", &root, &first, body(&file[..100_000])).await;
        assert_eq!(answer.status(), 201, "draft, {name}");
        let url = format!(
            "{}{}",
            replica.base,
            answer.headers()["location"].to_str().unwrap()
        );
        let last = [
            draft,
            ("upload-complete", "?1"),
            ("upload-offset", "100000"),
            ("content-type", "application/partial-upload"),
        ];
        let answer = ask(&mut client, "PATCH", &url, &last, body(&file[100_000..])).await;
        assert_eq!(answer.status(), 201, "draft, {name}");
        let id = url.rsplit('/').next().unwrap();
        assert!(world.video(id).await.unwrap() == file, "{name}");
    }
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn a_body_that_a_reset_without_an_error_cuts_is_not_whole() {
    let world = World::new("h22").await;
    let replica = world.replica().await;
    let mut client = connect(&replica).await;
    let root = format!("{}/v1/uploads", replica.base);
    // Below one part, and above.
    for (size, key) in [(600_000, "small"), (20 << 20, "large")] {
        let file = video(size);
        let half = &file[..size * 3 / 4];
        let headers = [("idempotency-key", key)];
        let broken = request("POST", &root, &headers, cut(half));
        assert!(client.send_request(broken).await.is_err());
        let answer = loop {
            let answer = ask(&mut client, "POST", &root, &headers, untold(&file)).await;
            // The one that was cut may not be through yet.
            if !matches!(answer.status().as_u16(), 409 | 429 | 503) {
                break answer;
            }
        };
        assert_eq!(answer.status(), 201, "{key}");
        let id = answer.headers()["location"].to_str().unwrap();
        let id = id.rsplit('/').next().unwrap();
        assert!(world.video(id).await.unwrap() == file, "{key}");
    }
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_last_patch_that_a_reset_without_an_error_cuts_is_gone_on_with() {
    let world = World::new("h23").await;
    let replica = world.replica().await;
    let mut client = connect(&replica).await;
    let root = format!("{}/v1/uploads", replica.base);
    let file = video(1_000_000);
    let draft = ("upload-draft-interop-version", "6");
    let first = [draft, ("upload-complete", "?0")];
    let answer = ask(&mut client, "POST", &root, &first, told(&file[..100_000])).await;
    assert_eq!(answer.status(), 201);
    let url = answer.headers()["location"].to_str().unwrap();
    let url = format!("{}{url}", replica.base);
    let patch = |at: &str, body| {
        let headers = [
            draft,
            ("upload-complete", "?1"),
            ("upload-offset", at),
            ("content-type", "application/partial-upload"),
        ];
        request("PATCH", &url, &headers, body)
    };
    let broken = patch("100000", cut(&file[100_000..700_000]));
    assert!(client.send_request(broken).await.is_err());
    let head = ask(&mut client, "HEAD", &url, &[draft], told(&[])).await;
    assert_eq!(head.headers()["upload-complete"], "?0");
    let at = head.headers()["upload-offset"].to_str().unwrap().to_owned();
    let offset: usize = at.parse().unwrap();
    assert!((100_000..=700_000).contains(&offset), "{offset}");
    let answer = client
        .send_request(patch(&at, untold(&file[offset..])))
        .await;
    assert_eq!(answer.unwrap().status(), 201);
    let id = url.rsplit('/').next().unwrap();
    assert!(world.video(id).await.unwrap() == file);
}
