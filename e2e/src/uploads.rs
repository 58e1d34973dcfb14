//! A small client of the uploader: what a phone's SDK does, with the cuts that a bad network makes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stack::Stack;

const TUS: (&str, &str) = ("Tus-Resumable", "1.0.0");

/// An upload that was answered with success.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// `<cell>-<ulid>`.
    pub id: String,
}

impl Uploaded {
    /// Name of its VideoJob.
    #[must_use]
    pub fn job(&self) -> String {
        kinora_crds::names::job_name(&self.id)
    }
}

/// Sends a whole file in one plain POST.
///
/// # Errors
/// The uploader did not answer 201.
pub async fn post(stack: &Stack, base: &str, body: Bytes) -> Result<Uploaded> {
    post_with(stack, base, body, "default").await
}

/// The same with a profile.
///
/// # Errors
/// The uploader did not answer 201.
pub async fn post_with(stack: &Stack, base: &str, body: Bytes, profile: &str) -> Result<Uploaded> {
    post_as(stack, &stack.api_key, base, body, profile).await
}

async fn post_as(
    stack: &Stack,
    api_key: &str,
    base: &str,
    body: Bytes,
    profile: &str,
) -> Result<Uploaded> {
    let answer = stack
        .http
        .post(format!("{base}/v1/uploads"))
        .bearer_auth(api_key)
        .header("Content-Type", "video/mp4")
        .header("Kinora-Profile", profile)
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let location = answer
        .headers()
        .get("Location")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let text = answer.text().await?;
    ensure!(status == 201, "POST /v1/uploads answered {status}: {text}");
    Ok(Uploaded {
        id: id_of(&location.context("201 without Location")?)?,
    })
}

/// Sends the same file `count` times, `at_once` at a time; every answer is an acknowledged upload.
///
/// # Errors
/// The uploader did not answer one of them with 201.
pub async fn many(
    stack: &Stack,
    base: &str,
    body: &Bytes,
    profile: &str,
    size: (usize, usize),
) -> Result<Vec<Uploaded>> {
    many_as(stack, &stack.api_key, base, body, profile, size).await
}

/// The same with another caller's key.
///
/// # Errors
/// As [`many`].
pub async fn many_as(
    stack: &Stack,
    api_key: &str,
    base: &str,
    body: &Bytes,
    profile: &str,
    (count, at_once): (usize, usize),
) -> Result<Vec<Uploaded>> {
    stream::iter(0..count)
        .map(|_| post_as(stack, api_key, base, body.clone(), profile))
        .buffer_unordered(at_once)
        .try_collect()
        .await
}

/// Status and problem document of a POST that must be refused.
///
/// # Errors
/// The uploader took it, or did not answer.
pub async fn post_refused(
    stack: &Stack,
    base: &str,
    body: Bytes,
    content_type: &str,
) -> Result<(u16, serde_json::Value)> {
    let answer = stack
        .http
        .post(format!("{base}/v1/uploads"))
        .bearer_auth(&stack.api_key)
        .header("Content-Type", content_type)
        .body(body)
        .send()
        .await?;
    let status = answer.status().as_u16();
    ensure!(status >= 400, "expected a refusal, got {status}");
    Ok((
        status,
        answer
            .json()
            .await
            .context("a refusal without a problem document")?,
    ))
}

/// Creates a tus upload of `length` bytes.
///
/// # Errors
/// The uploader did not answer 201.
pub async fn create(stack: &Stack, base: &str, length: usize) -> Result<String> {
    let name = base64::engine::general_purpose::STANDARD.encode("clip.mp4");
    let answer = stack
        .http
        .post(format!("{base}/v1/uploads"))
        .bearer_auth(&stack.api_key)
        .header(TUS.0, TUS.1)
        .header("Upload-Length", length)
        .header("Upload-Metadata", format!("filename {name}"))
        .send()
        .await?;
    let status = answer.status();
    let location = answer
        .headers()
        .get("Location")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    ensure!(
        status == 201,
        "tus create answered {status}: {}",
        answer.text().await?
    );
    id_of(&location.context("201 without Location")?)
}

/// Sends `body` from `offset`; answers the offset after it.
///
/// # Errors
/// The uploader did not answer 204.
pub async fn patch(stack: &Stack, base: &str, id: &str, offset: u64, body: Bytes) -> Result<u64> {
    let answer = stack
        .http
        .patch(format!("{base}/v1/uploads/{id}"))
        .bearer_auth(&stack.api_key)
        .header(TUS.0, TUS.1)
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let after = offset_of(answer.headers());
    ensure!(
        status == 204,
        "PATCH at {offset} answered {status}: {}",
        answer.text().await?
    );
    after.context("204 without Upload-Offset")
}

/// The offset that the uploader vouches for.
///
/// # Errors
/// The uploader did not answer 200.
pub async fn head(stack: &Stack, base: &str, id: &str) -> Result<u64> {
    let answer = stack
        .http
        .head(format!("{base}/v1/uploads/{id}"))
        .bearer_auth(&stack.api_key)
        .header(TUS.0, TUS.1)
        .send()
        .await?;
    ensure!(answer.status() == 200, "HEAD answered {}", answer.status());
    offset_of(answer.headers()).context("200 without Upload-Offset")
}

/// Announces `body` at `offset`, sends its first `send` bytes and then drops the connection, as a phone in a tunnel does.
///
/// # Errors
/// The connection could not be made or broke before its time.
pub async fn patch_cut(
    stack: &Stack,
    base: &str,
    id: &str,
    offset: u64,
    body: &[u8],
    send: usize,
) -> Result<()> {
    let address = base.strip_prefix("http://").context("plain http only")?;
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    let head = format!(
        "PATCH /v1/uploads/{id} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\n\
         Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {}\r\n\r\n",
        stack.api_key,
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&body[..send]).await?;
    socket.flush().await?;
    socket.shutdown().await?;
    let mut rest = Vec::new();
    // The server closes once it has put away what came; what it says to a client that is gone does not matter.
    let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
    Ok(())
}

/// `GET /v1/videos/<id>`.
///
/// # Errors
/// The uploader did not answer 200.
pub async fn video(stack: &Stack, base: &str, id: &str) -> Result<serde_json::Value> {
    video_as(stack, &stack.api_key, base, id).await
}

/// The same with another caller's key.
///
/// # Errors
/// As [`video`].
pub async fn video_as(
    stack: &Stack,
    api_key: &str,
    base: &str,
    id: &str,
) -> Result<serde_json::Value> {
    let answer = stack
        .http
        .get(format!("{base}/v1/videos/{id}"))
        .bearer_auth(api_key)
        .send()
        .await?;
    let status = answer.status();
    if status != 200 {
        bail!(
            "GET /v1/videos/{id} answered {status}: {}",
            answer.text().await?
        );
    }
    Ok(answer.json().await?)
}

fn offset_of(headers: &reqwest::header::HeaderMap) -> Option<u64> {
    headers.get("Upload-Offset")?.to_str().ok()?.parse().ok()
}

fn id_of(location: &str) -> Result<String> {
    let id = location
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    ensure!(!id.is_empty(), "Location {location:?} names no upload");
    Ok(id.to_owned())
}
