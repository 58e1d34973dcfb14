//! What the store itself can do: a plain S3 client, one part after the other, or whole objects.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kinora_storage::{Condition, Metadata, PartRef, PutOptions, Store, checksum};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::content::Video;
use crate::samples::mib;
use crate::servers::PART;

/// The client; parts and checksums are prepared before anything is timed.
#[derive(Clone)]
pub(crate) struct Raw {
    store: Store,
    parts: Arc<Vec<(Bytes, String)>>,
    crc: String,
    length: u64,
}

impl Raw {
    /// Prepares to send `video`.
    pub(crate) fn new(store: Store, video: &Video) -> Self {
        let count = video.length().div_ceil(PART);
        let part = |n: u64| {
            let bytes = video.bytes(n * PART..((n + 1) * PART).min(video.length()));
            let crc = checksum::crc64_base64(&bytes);
            (bytes, crc)
        };
        Self {
            store,
            parts: Arc::new((0..count).map(part).collect()),
            crc: checksum::to_base64(video.crc64()),
            length: video.length(),
        }
    }

    /// MiB a second of `uploads` clients, each of which sends its parts one after the other.
    pub(crate) async fn streams(&self, uploads: usize) -> Result<f64> {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..uploads {
            let raw = self.clone();
            clients.spawn(async move { raw.multipart().await });
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
        Ok(mib(self.length * uploads as u64) / begun.elapsed().as_secs_f64())
    }

    async fn multipart(&self) -> Result<()> {
        let key = key();
        let id = self
            .store
            .create_multipart(&key, &Metadata::new(), None)
            .await?;
        let mut parts = Vec::new();
        for (number, (bytes, crc)) in (1..).zip(self.parts.iter()) {
            let etag = self
                .store
                .upload_part_with_crc(&key, &id, number, bytes.clone(), crc)
                .await?;
            parts.push(PartRef { number, etag });
        }
        self.store
            .complete(&key, &id, &parts, Some(&self.crc))
            .await?;
        Ok(())
    }

    /// Objects a second when `clients` put `count` of them.
    pub(crate) async fn objects(&self, clients: usize, count: usize) -> Result<f64> {
        let (bytes, crc) = self.parts.first().context("no part")?;
        ensure!(
            self.parts.len() == 1,
            "only what fits one part is put whole"
        );
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for client in 0..clients {
            let (store, bytes, crc) = (self.store.clone(), bytes.clone(), crc.clone());
            running.spawn(async move {
                for _ in (client..count).step_by(clients) {
                    let options = PutOptions {
                        condition: Condition::None,
                        checksum: Some(crc.clone()),
                        ..PutOptions::default()
                    };
                    store.put(&key(), bytes.clone(), options).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(count as f64 / begun.elapsed().max(Duration::from_micros(1)).as_secs_f64())
    }
}

fn key() -> String {
    format!("raw/{:016x}", rand::random::<u64>())
}
