//! Bytes from and to the store by presigned URLs. I/O. URLs are credentials: they appear in no message and no log.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures::StreamExt;
use md5::Md5;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::Failure;
use crate::memory::MadeFile;

const PUT_TRIES: u32 = 3;
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// A client for the store: no redirects, no proxies, a timeout for every wait.
///
/// # Errors
/// A sentence for people, if the CA is no CA.
pub fn client(ca_pem: Option<&[u8]>) -> Result<Client, String> {
    let certificates = match ca_pem {
        None => Vec::new(),
        Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(|e| e.to_string())?,
    };
    Client::builder()
        // The system's roots are not asked for: the image has none, and building the client would fail.
        .tls_certs_only(certificates)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
        .build()
        .map_err(|e| e.to_string())
}

/// Streams the source to a file. Returns its size.
///
/// # Errors
/// See [`Failure`].
pub async fn download(
    client: &Client,
    url: &str,
    target: &Path,
    limit: u64,
) -> Result<u64, Failure> {
    const ACTION: &str = "GET source";
    let response = client
        .get(url)
        .send()
        .await
        .map_err(|error| trouble(ACTION, error))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::SourceGone),
        status => return Err(refused(ACTION, status)),
    }
    if response.content_length().is_some_and(|size| size > limit) {
        return Err(Failure::TooLarge { limit });
    }
    let mut file = tokio::fs::File::create(target)
        .await
        .map_err(|source| disk("create the source file", source))?;
    let mut size = 0;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| trouble(ACTION, error))?;
        size += chunk.len() as u64;
        if size > limit {
            return Err(Failure::TooLarge { limit });
        }
        file.write_all(&chunk)
            .await
            .map_err(|source| disk("write the source file", source))?;
    }
    file.flush()
        .await
        .map_err(|source| disk("write the source file", source))?;
    Ok(size)
}

/// PUTs one output. A retry that meets 412 has met its own success, whose answer was lost.
///
/// # Errors
/// See [`Failure`].
pub async fn upload(
    client: &Client,
    name: &str,
    url: &str,
    signed: &HashMap<String, String>,
    file: &MadeFile,
) -> Result<(), Failure> {
    let action = format!("PUT output {name}");
    let headers = headers(&action, signed, file)?;
    let mut last = None;
    for attempt in 1..=PUT_TRIES {
        match put_once(client, &action, url, headers.clone(), file).await {
            Ok(StatusCode::PRECONDITION_FAILED) if attempt > 1 => return Ok(()),
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) if !status.is_server_error() => return Err(refused(&action, status)),
            Ok(status) => last = Some(refused(&action, status)),
            Err(failure @ Failure::Transfer { .. }) => last = Some(failure),
            Err(failure) => return Err(failure),
        }
        let pause = rand::random_range(100..400) * u64::from(attempt);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Err(last.unwrap_or(Failure::Transfer {
        action,
        problem: "never tried".to_owned(),
    }))
}

async fn put_once(
    client: &Client,
    action: &str,
    url: &str,
    headers: HeaderMap,
    file: &MadeFile,
) -> Result<StatusCode, Failure> {
    let body = tokio::fs::File::open(&file.path)
        .await
        .map_err(|source| disk("open an output", source))?;
    let stream = tokio_util::io::ReaderStream::with_capacity(body, 256 * 1024);
    let response = client
        .put(url)
        .headers(headers)
        .body(reqwest::Body::wrap_stream(stream))
        .send()
        .await
        .map_err(|error| trouble(action, error))?;
    Ok(response.status())
}

/// The signed headers as they were given; a length, because stores refuse chunked bodies; the MD5, because a bucket
/// with a default retention asks for it; a type, if none is signed.
fn headers(
    action: &str,
    signed: &HashMap<String, String>,
    file: &MadeFile,
) -> Result<HeaderMap, Failure> {
    let unusable = |name: &str| Failure::Transfer {
        action: action.to_owned(),
        problem: format!("the given header {name} cannot be sent"),
    };
    let mut headers = HeaderMap::new();
    let md5 = file.md5.parse();
    headers.insert(CONTENT_MD5, md5.map_err(|_| unusable("content-md5"))?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    for (name, value) in signed {
        let name_sent: HeaderName = name.parse().map_err(|_| unusable(name))?;
        headers.insert(name_sent, value.parse().map_err(|_| unusable(name))?);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(file.size));
    Ok(headers)
}

/// What is said of the bytes of a file.
#[derive(Debug)]
pub struct Digests {
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Base64, as a header has it.
    pub md5: String,
}

/// Reads a file once.
///
/// # Errors
/// If it cannot be read.
pub async fn digest(path: &Path) -> Result<Digests, Failure> {
    let wrap = |source| disk("read an output", source);
    let mut file = tokio::fs::File::open(path).await.map_err(wrap)?;
    let (mut sha256, mut md5, mut size) = (Sha256::new(), Md5::default(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await.map_err(wrap)?;
        if read == 0 {
            return Ok(Digests {
                size,
                sha256: hex::encode(sha256.finalize()),
                md5: BASE64_STANDARD.encode(md5::Digest::finalize(md5)),
            });
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        size += read as u64;
        sha256.update(bytes);
        md5::Digest::update(&mut md5, bytes);
    }
}

fn refused(action: &str, status: StatusCode) -> Failure {
    if status.is_server_error() {
        return Failure::Transfer {
            action: action.to_owned(),
            problem: format!("the store answered {}", status.as_u16()),
        };
    }
    Failure::Refused {
        action: action.to_owned(),
        status: status.as_u16(),
    }
}

fn trouble(action: &str, error: reqwest::Error) -> Failure {
    use std::error::Error;
    let error = error.without_url();
    let mut problem = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        problem = format!("{problem}: {next}");
        cause = next.source();
    }
    Failure::Transfer {
        action: action.to_owned(),
        problem,
    }
}

fn disk(action: &'static str, source: std::io::Error) -> Failure {
    Failure::Disk { action, source }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tonic::Code;

    use super::*;

    /// The URL of a source that claims ten bytes and sends these.
    async fn source(body: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/video", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut line, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = line.read(&mut asked).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
            line.write_all(&[head, body].concat()).await.unwrap();
        });
        url
    }

    /// covers: F43
    #[tokio::test]
    async fn a_full_disk_and_a_torn_source_are_failures_and_no_video() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = client(None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let table = [
            (
                "whole",
                b"0123456789".as_slice(),
                dir.path().join("a"),
                None,
            ),
            ("torn", b"01234", dir.path().join("b"), Some(Code::Aborted)),
            (
                "no space",
                b"0123456789",
                "/dev/full".into(),
                Some(Code::Internal),
            ),
        ];
        for (name, body, target, want) in table {
            let got = download(&client, &source(body).await, &target, 1000).await;
            assert_eq!(
                got.as_ref().err().map(Failure::code),
                want,
                "{name}: {got:?}"
            );
        }
    }
}
