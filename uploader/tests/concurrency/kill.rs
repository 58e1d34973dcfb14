//! A real uploader process dies in the middle of several uploads, and another goes on with them. covers: F1, F4, T23

use std::time::{Duration, Instant};

use kinora_storage::testing::Weed;
use kinora_storage::{StoreArgs, UploadId, keys};
use reqwest::{Client, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{STREAM, id_of, offset_of, video};
use crate::process::{BEARER, Config, FakeKubernetes, Uploader};

const MIB: usize = 1 << 20;
const SIZE: usize = 34 * MIB;
/// Most that has to be sent again after a process died.
const RESENT: usize = 16 * MIB;
const WITHIN: Duration = Duration::from_secs(60);

struct Phone {
    http: Client,
    file: Vec<u8>,
}

impl Phone {
    fn tus(&self, at: &Uploader, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", at.address);
        let request = self.http.request(method.parse().unwrap(), url);
        request.bearer_auth(BEARER).header("Tus-Resumable", "1.0.0")
    }

    async fn create(&self, at: &Uploader) -> String {
        let request = self.tus(at, "POST", "/v1/uploads");
        let answer = request.header("Upload-Length", SIZE).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id_of(&answer)
    }

    /// A PATCH of the whole file that comes as far as `sent`; the socket stays open.
    async fn half(&self, at: &Uploader, id: &str, sent: usize) -> TcpStream {
        let mut socket = TcpStream::connect(at.address).await.unwrap();
        let head = format!(
            "PATCH /v1/uploads/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {BEARER}\r\n\
             Tus-Resumable: 1.0.0\r\nContent-Type: {STREAM}\r\nUpload-Offset: 0\r\n\
             Content-Length: {SIZE}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&self.file[..sent]).await.unwrap();
        socket
    }

    async fn patch(&self, at: &Uploader, id: &str, offset: usize) -> Response {
        let request = self.tus(at, "PATCH", &format!("/v1/uploads/{id}"));
        let request = request
            .header("Upload-Offset", offset)
            .header("Content-Type", STREAM);
        let body = self.file[offset..].to_vec();
        request.body(body).send().await.unwrap()
    }

    /// Bytes that a process has received.
    async fn received(&self, at: &Uploader) -> usize {
        let url = format!("http://{}/metrics", at.address);
        let text = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let line = lines.find(|line| line.contains("received_bytes_total"));
        let number = line.and_then(|line| line.rsplit(' ').next());
        number.map_or(0, |number| number.parse().unwrap())
    }
}

#[tokio::test]
async fn a_process_killed_in_the_middle_costs_at_most_two_parts() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let weed = Weed::start().await.unwrap();
    let args: StoreArgs = weed.args();
    let kubernetes = FakeKubernetes::start().await;
    let config = Config::new(Some(&kubernetes));
    let mut one = Uploader::start(&config, &args, &["--replicas=2"]).await;
    let two = Uploader::start(&config, &args, &["--replicas=2"]).await;
    let phone = Phone {
        http: Client::new(),
        file: video(SIZE),
    };
    // Before the first part is full, in the middle, and near the end.
    let (mut uploads, mut sockets) = (Vec::new(), Vec::new());
    for sent in [5 * MIB, 20 * MIB, 31 * MIB] {
        let id = phone.create(&one).await;
        sockets.push(phone.half(&one, &id, sent).await);
        uploads.push((id, sent));
    }
    let all = uploads.iter().map(|(_, sent)| sent).sum();
    let deadline = Instant::now() + WITHIN;
    while phone.received(&one).await < all {
        assert!(Instant::now() < deadline, "the bytes do not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // SIGKILL: nothing is said, nothing is stored.
    one.child.kill().await.unwrap();

    let store = weed.store().unwrap();
    for (id, sent) in &uploads {
        let head = phone.tus(&two, "HEAD", &format!("/v1/uploads/{id}"));
        let head = head.send().await.unwrap();
        assert_eq!(head.status(), 200, "another replica takes it over");
        let offset = offset_of(&head).unwrap();
        assert!(
            offset <= *sent && sent - offset <= RESENT,
            "of {sent} bytes sent {} have to be sent again",
            sent - offset
        );
        let answer = phone.patch(&two, id, offset).await;
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (204, Some(SIZE))
        );
        let upload: UploadId = id.parse().unwrap();
        let object = store.get(&keys::video(&upload)).await.unwrap().unwrap();
        assert!(object.bytes == phone.file, "{id}: other bytes");
    }
    let mut want: Vec<_> = uploads.iter().map(|(id, _)| format!("vj-{id}")).collect();
    want.sort();
    assert_eq!(kubernetes.names(), want, "one job each");
}
