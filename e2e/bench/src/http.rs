//! One HTTP/1.1 connection of a client that costs as little as can be: the machine's cores are the servers'.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::content::Video;

/// Nothing here takes longer, unless it is broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const MAX_HEAD: usize = 64 << 10;
/// A paced client sends pieces of this size.
const PACED_PIECE: u64 = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Which client it is.
    pub(crate) client: usize,
    stream: TcpStream,
    read: BytesMut,
}

/// What a server said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(there, value)| (there == name).then_some(value.as_str()))
    }

    /// An error that says what came instead of what was wanted.
    pub(crate) fn want(self, what: &str, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let said = String::from_utf8_lossy(&self.body).into_owned();
        bail!("{what}: answered {}: {said}", self.status)
    }
}

impl Conn {
    /// Connects as one of many clients, each from an address of its own: all of 127/8 is loopback.
    pub(crate) async fn open(address: SocketAddr, client: usize) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let [low, high] = [client % 250, client / 250 % 250].map(|n| u8::try_from(n).unwrap_or(0));
        let from = Ipv4Addr::new(127, 1, high, low + 1);
        socket
            .bind(SocketAddr::from((from, 0)))
            .with_context(|| format!("send from {from}"))?;
        let stream = socket
            .connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            client,
            stream,
            read: BytesMut::new(),
        })
    }

    /// Sends the head of a request; `length` is that of the body that follows.
    pub(crate) async fn head(
        &mut self,
        line: &str,
        headers: &[(&str, String)],
        length: Option<u64>,
    ) -> Result<()> {
        let mut head = format!("{line} HTTP/1.1\r\nHost: bench\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        self.stream
            .write_all(head.as_bytes())
            .await
            .with_context(|| format!("send {line}"))
    }

    /// Sends a range of a video as fast as it goes.
    pub(crate) async fn send(&mut self, video: &Video, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let piece = video.piece(at, range.end);
            at += piece.len() as u64;
            self.stream.write_all(&piece).await.context("send a body")?;
        }
        Ok(())
    }

    /// Sends a range of a video at so many bytes a second, as a phone on a good network does; the bytes that were sent
    /// when the connection broke.
    pub(crate) async fn send_paced(
        &mut self,
        video: &Video,
        range: Range<u64>,
        per_second: f64,
        stop: impl Fn(u64) -> bool,
    ) -> u64 {
        let begun = Instant::now();
        let mut at = range.start;
        while at < range.end && !stop(at) {
            let piece = video.piece(at, range.end.min(at + PACED_PIECE));
            if self.stream.write_all(&piece).await.is_err() {
                return at;
            }
            at += piece.len() as u64;
            let due = Duration::from_secs_f64((at - range.start) as f64 / per_second);
            tokio::time::sleep_until(begun + due).await;
        }
        at
    }

    /// Reads the final answer to one request.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        tokio::time::timeout(ANSWER_WITHIN, self.read_answer())
            .await
            .context("no answer within 120 s")?
    }

    async fn read_answer(&mut self) -> Result<Answer> {
        loop {
            let (status, headers) = self.read_head().await?;
            if (100..200).contains(&status) {
                continue;
            }
            let mut answer = Answer {
                status,
                headers,
                body: Bytes::new(),
            };
            let length = answer
                .header("content-length")
                .and_then(|length| length.parse::<usize>().ok());
            if let Some(length) = length.filter(|_| status != 204) {
                while self.read.len() < length {
                    self.fill().await?;
                }
                answer.body = self.read.split_to(length).freeze();
            }
            return Ok(answer);
        }
    }

    /// As [`Conn::answer`] to a HEAD, which has no body whatever its headers say.
    pub(crate) async fn answer_to_head(&mut self) -> Result<Answer> {
        let (status, headers) = tokio::time::timeout(ANSWER_WITHIN, self.read_head())
            .await
            .context("no answer within 120 s")??;
        Ok(Answer {
            status,
            headers,
            body: Bytes::new(),
        })
    }

    async fn read_head(&mut self) -> Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            let there = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            match there {
                Some(end) => break end,
                None if self.read.len() > MAX_HEAD => bail!("an answer without an end of its head"),
                None => self.fill().await?,
            }
        };
        let head = self.read.split_to(end);
        self.read.advance(4);
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .with_context(|| format!("no HTTP answer, but {head:?}"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok((status, headers))
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.read).await;
        if read.context("read an answer")? == 0 {
            bail!("the connection ended in place of an answer");
        }
        Ok(())
    }

    /// Ends the connection with a reset, as a dying network does.
    pub(crate) fn reset(self) -> Result<()> {
        self.stream.set_zero_linger()?;
        Ok(())
    }
}
