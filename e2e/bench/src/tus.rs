//! tus 1.0 as a client speaks it: the same words for Kinora and for tusd.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::content::Video;
use crate::http::{Answer, Conn};

/// Where a tus server is.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Path of its creation URL.
    pub(crate) path: &'static str,
    /// Values of `Authorization`, one for each owner, if it wants any.
    pub(crate) owners: Vec<String>,
}

impl Api {
    /// A new connection of one client.
    pub(crate) async fn connect(&self, client: usize) -> Result<Conn> {
        Conn::open(self.address, client).await
    }

    fn headers(&self, conn: &Conn, more: &[Header]) -> Vec<Header> {
        let mut headers = vec![("Tus-Resumable", "1.0.0".to_owned())];
        let owner = self.owners.get(conn.client % self.owners.len().max(1));
        headers.extend(owner.map(|value| ("Authorization", value.clone())));
        headers.extend_from_slice(more);
        headers
    }

    /// Creates an upload of so many bytes; the path of its URL.
    pub(crate) async fn create(&self, conn: &mut Conn, length: u64) -> Result<String> {
        let headers = self.headers(conn, &[("Upload-Length", length.to_string())]);
        let line = format!("POST {}", self.path);
        conn.head(&line, &headers, Some(0)).await?;
        location(&conn.answer().await?.want("create", &[201])?)
    }

    /// Sends the head of a create that brings `body` bytes of `length`.
    pub(crate) async fn begin_create(&self, conn: &mut Conn, length: u64, body: u64) -> Result<()> {
        let headers = self.headers(
            conn,
            &[
                ("Upload-Length", length.to_string()),
                ("Content-Type", STREAM.to_owned()),
            ],
        );
        let line = format!("POST {}", self.path);
        conn.head(&line, &headers, Some(body)).await
    }

    /// A whole video in one request; the path of its URL.
    pub(crate) async fn create_whole(&self, conn: &mut Conn, video: &Video) -> Result<String> {
        let length = video.length();
        self.begin_create(conn, length, length).await?;
        conn.send(video, 0..length).await?;
        location(&conn.answer().await?.want("create with upload", &[201])?)
    }

    /// Sends the head of a PATCH of `body` bytes at `offset`.
    pub(crate) async fn begin_patch(
        &self,
        conn: &mut Conn,
        path: &str,
        offset: u64,
        body: u64,
    ) -> Result<()> {
        let headers = self.headers(
            conn,
            &[
                ("Upload-Offset", offset.to_string()),
                ("Content-Type", STREAM.to_owned()),
            ],
        );
        conn.head(&format!("PATCH {path}"), &headers, Some(body))
            .await
    }

    /// Appends `[from, to)`; the answer, whatever it is.
    pub(crate) async fn try_patch(
        &self,
        conn: &mut Conn,
        path: &str,
        video: &Video,
        (from, to): (u64, u64),
    ) -> Result<Answer> {
        self.begin_patch(conn, path, from, to - from).await?;
        conn.send(video, from..to).await?;
        conn.answer().await
    }

    /// Appends `[from, to)`, which has to be taken.
    pub(crate) async fn patch(
        &self,
        conn: &mut Conn,
        path: &str,
        video: &Video,
        range: (u64, u64),
    ) -> Result<()> {
        self.try_patch(conn, path, video, range)
            .await?
            .want("PATCH", &[204])
            .map(|_| ())
    }

    /// Asks for the offset; the answer, whatever it is.
    pub(crate) async fn try_head(&self, conn: &mut Conn, path: &str) -> Result<Answer> {
        conn.head(&format!("HEAD {path}"), &self.headers(conn, &[]), None)
            .await?;
        conn.answer_to_head().await
    }

    /// A whole video in pieces of `piece` bytes; the path of its URL.
    pub(crate) async fn upload(&self, client: usize, video: &Video, piece: u64) -> Result<String> {
        let mut conn = self.connect(client).await?;
        let path = self.create(&mut conn, video.length()).await?;
        let mut from = 0;
        while from < video.length() {
            let to = video.length().min(from + piece);
            self.patch(&mut conn, &path, video, (from, to)).await?;
            from = to;
        }
        Ok(path)
    }
}

type Header = (&'static str, String);

const STREAM: &str = "application/offset+octet-stream";

/// The path of an upload's URL, whether or not the server tells the whole URL.
fn location(answer: &Answer) -> Result<String> {
    let url = answer.header("location").context("no Location")?;
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    Ok(path.unwrap_or(url).to_owned())
}

/// The offset that an answer tells.
pub(crate) fn offset(answer: &Answer) -> Result<u64> {
    answer
        .header("upload-offset")
        .and_then(|offset| offset.parse().ok())
        .context("no Upload-Offset")
}
