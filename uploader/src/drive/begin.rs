//! The beginning of a request body, gathered in memory: for a whole file that fits one part it is
//! all there is, and its first bytes are judged before anything is stored.

use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures::StreamExt;
use kinora_upload_engine::sniff::{LOOK, Sniff, sniff};
use tokio::time::Instant;

use super::body::{IDLE, RATE_BYTES, RATE_WINDOW};
use super::{Driver, Pieces};
use crate::budget::Held;

/// The beginning of a body, for those who may not need more than memory for it.
pub struct Gathered {
    /// The bytes.
    pub bytes: Pieces,
    /// The budget's share.
    pub held: Held,
    /// Whether the body ended with them.
    pub ended: bool,
}

/// Why the beginning of a body could not be gathered.
#[derive(Debug)]
pub enum NotGathered {
    /// The client went away or brought too little.
    ClientGone,
    /// The first bytes are no video.
    NotVideo(&'static str),
    /// No memory is free.
    NoMemory,
    /// This process ends.
    Closing,
}

/// Rounds of waiting for memory before a body that has none yet is sent away.
const ROUNDS: usize = 6;

/// Reads up to `limit` bytes and a little more, judging the first on the way. When others need the
/// memory, fewer: then the body goes on as one that is stored in pieces. `is_all`: whether a body of so many bytes is the
/// whole file, so that no more will come to judge it by.
///
/// # Errors
/// When the body is not to be read on.
pub async fn begin(
    driver: &Driver,
    stream: &mut BodyDataStream,
    limit: u64,
    any: bool,
    is_all: impl Fn(u64) -> bool,
) -> Result<Gathered, NotGathered> {
    let mut got = Gathered {
        bytes: Pieces::default(),
        held: Held::default(),
        ended: false,
    };
    let (mut judged, mut waited, mut window) = (any, Duration::ZERO, 0u64);
    while got.bytes.len() as u64 <= limit && !got.ended {
        let begun = Instant::now();
        let item = tokio::select! {
            biased;
            () = driver.app.closing.cancelled() => return Err(NotGathered::Closing),
            item = tokio::time::timeout(IDLE, stream.next()) => item,
        };
        waited += begun.elapsed();
        match item {
            Err(_) if driver.app.budget.is_pressed() && !got.bytes.is_empty() => return Ok(got),
            Err(_) => {}
            Ok(Some(Err(_))) => return Err(NotGathered::ClientGone),
            Ok(None) => got.ended = true,
            Ok(Some(Ok(chunk))) => {
                window += chunk.len() as u64;
                driver.app.metrics.received_bytes.inc_by(chunk.len() as u64);
                if !keep(driver, &mut got, &chunk).await? {
                    return Ok(got);
                }
            }
        }
        if waited >= RATE_WINDOW {
            if window < RATE_BYTES {
                return Err(NotGathered::ClientGone);
            }
            (waited, window) = (Duration::ZERO, 0);
        }
        if !judged && !got.bytes.is_empty() {
            let all = got.ended && is_all(got.bytes.len() as u64);
            match sniff(&got.bytes.head(LOOK), all) {
                Sniff::Video => judged = true,
                Sniff::NotVideo(why) => return Err(NotGathered::NotVideo(why)),
                Sniff::More => {}
            }
        }
    }
    Ok(got)
}

/// Keeps a chunk; false when there is no memory for more, so that what is here has to be stored.
async fn keep(driver: &Driver, got: &mut Gathered, chunk: &Bytes) -> Result<bool, NotGathered> {
    for _ in 0..ROUNDS {
        if driver.app.budget.take(&mut got.held, chunk.len()).await {
            got.bytes.push(chunk.clone());
            return Ok(true);
        }
        if driver.app.closing.is_cancelled() {
            return Err(NotGathered::Closing);
        }
        if !got.bytes.is_empty() {
            got.bytes.push(chunk.clone());
            return Ok(false);
        }
    }
    Err(NotGathered::NoMemory)
}
