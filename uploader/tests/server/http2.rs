//! The protocols over HTTP/2, where a body needs no header that tells its size or its end.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, STREAM, World, video};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

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
    let frames: Vec<_> = bytes
        .chunks(30_000)
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

fn told(bytes: &[u8]) -> Body {
    Full::new(Bytes::copy_from_slice(bytes)).boxed()
}

async fn ask(
    client: &mut http2::SendRequest<Body>,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("Authorization", format!("Bearer {KEY}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client
        .send_request(request.body(body).unwrap())
        .await
        .unwrap()
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
