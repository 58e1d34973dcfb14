//! A server that gives prepared answers in turn, the last one for ever, and counts the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kinora_storage::{Store, StoreArgs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one request gets.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Status and XML body.
    Xml(u16, String),
    /// No answer, and the connection stays open.
    Silence,
    /// The connection is cut.
    Cut,
}

/// An S3 error body.
pub(crate) fn error(status: u16, code: &str) -> Answer {
    Answer::Xml(status, error_body(code))
}

pub(crate) fn error_body(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as told</Message></Error>"
    )
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Xml(200, body.to_owned())
}

pub(crate) struct Canned {
    pub(crate) store: Store,
    requests: Arc<AtomicUsize>,
}

impl Canned {
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(listener, answers, Arc::clone(&requests)));
        let dir = credentials();
        let mut args = StoreArgs::new(endpoint, "b", dir.path());
        args.store_timeout_seconds = 1;
        // Read once here; afterwards the former credentials are kept.
        let store = Store::new(&args).unwrap();
        Self { store, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A directory with credentials of no meaning.
pub(crate) fn credentials() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("access-key-id"), "someone").unwrap();
    std::fs::write(dir.path().join("secret-access-key"), "hush-hush").unwrap();
    dir
}

async fn serve(listener: TcpListener, answers: Vec<Answer>, requests: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(converse(stream, answers.clone(), Arc::clone(&requests)));
    }
}

async fn converse(mut stream: TcpStream, answers: Vec<Answer>, requests: Arc<AtomicUsize>) {
    while read_request(&mut stream).await.is_some() {
        let turn = requests.fetch_add(1, Ordering::SeqCst);
        match &answers[turn.min(answers.len() - 1)] {
            Answer::Xml(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .await
                    .unwrap();
            }
            Answer::Silence => std::future::pending().await,
            Answer::Cut => return,
        }
    }
}

/// Reads head and body of one request; None at the end of the connection.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    let mut seen = Vec::new();
    let head = loop {
        if let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        read_some(stream, &mut seen).await?;
    };
    let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.trim().parse().unwrap());
    while seen.len() < head + length {
        read_some(stream, &mut seen).await?;
    }
    Some(())
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), seen: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
    seen.extend_from_slice(&chunk[..n]);
    Some(())
}
